"""How a check examines an answer: by what a learner's function returns, with a verdict in one line."""

import copy
import functools
from collections.abc import Callable

import torch

from .. import degradations


class Wrong(Exception):
    """An answer is wrong; the message says what was seen, and a hint."""


class NotAttempted(Exception):
    """The stub is untouched: it returned None or an ellipsis."""


def exercise(label: str, course: Callable | None = None) -> Callable:
    """Make a function that raises Wrong into a check that prints one line, headed "Exercise `label`".

    The check has the `label`, and a `verdict(answer)` that returns the sentence, for whoever grades many answers.
    course: a right answer, where cells below the exercise call it; see `usable`.
    """

    def decorate(examine: Callable) -> Callable:
        @functools.wraps(examine)
        def check(answer) -> None:
            print(f"Exercise {label}: {check.verdict(answer)}")

        check.label, check.course, check.verdict = label, course, functools.partial(verdict, examine)
        return check

    return decorate


def verdict(examine: Callable, answer) -> str:
    """What is said of an answer, in a line."""
    name = getattr(answer, "__name__", "your answer")
    try:
        examine(answer)
    except NotAttempted:
        return f"not attempted yet. Replace the ... in {name}."
    except Wrong as why:
        return f"not yet. {why}"
    except Exception as why:  # whatever a learner's function raises is an answer to explain, not a crash
        return f"not yet. {name} raised {type(why).__name__}: {why}"
    return "passed."


def usable(check: Callable, answer: Callable) -> Callable:
    """The learner's function where it passes, else the course's: what a student's notebook goes on with."""
    return answer if verdict(check.__wrapped__, answer) == "passed." else check.course


def call(function: Callable, *arguments):
    """Call a learner's function with copies of the arguments; None and ... mean that it was left open.

    Raises NotAttempted, and Wrong where it has changed a tensor that it was given.
    """
    given = copy.deepcopy(arguments)
    value = function(*given)
    if value is None or value is ...:
        raise NotAttempted
    for before, after in zip(arguments, given, strict=True):
        if isinstance(before, torch.Tensor) and not torch.equal(before.nan_to_num(), after.nan_to_num()):
            raise Wrong(
                "It changes what it was given, and others need that, too: x * 2 is a new tensor, x *= 2 the old one."
            )
    return value


def number(value) -> float:
    """The number that a learner's function returned; Wrong where it is something else."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"It returned {type(value).__name__}, not a number: take the mean over all pixels.") from None


def picture(value, shape: tuple[int, ...] | None = None, hint: str = "") -> torch.Tensor:
    """The tensor that a learner's function returned; Wrong where it is something else, or of another shape."""
    if not isinstance(value, torch.Tensor):
        raise Wrong(f"It returned {type(value).__name__}, not a tensor.")
    if shape and tuple(value.shape) != shape:
        raise Wrong(f"The shape is {tuple(value.shape)}; {shape} was expected: {hint}.")
    return value


def tensor(value, shape: tuple[int, ...]) -> torch.Tensor:
    """What a learner's function returned as a tensor of that shape: lists and arrays will do, too."""
    try:
        value = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"It returned {type(value).__name__}, not a tensor.") from None
    if tuple(value.shape) != shape:
        raise Wrong(f"The shape is {tuple(value.shape)}; {shape} was expected.")
    return value


def two(value, what: str) -> tuple:
    """The two things that a learner's function returned."""
    if isinstance(value, torch.Tensor) or not isinstance(value, tuple | list) or len(value) != 2:
        many = f" of {len(value)}" if isinstance(value, tuple | list) else ""
        raise Wrong(f"It returned {type(value).__name__}{many}; return two {what}, with a comma between them.")
    return tuple(value)


def close(a: torch.Tensor, b: torch.Tensor, within: float) -> bool:
    """Whether no element differs by more than `within`, or is NaN."""
    return bool(((a - b).abs() <= within).all())


def known(value: float, mistakes: dict[float, str], tolerance: float = 0.01) -> None:
    """Wrong, where a value is that of a usual mistake."""
    for mistaken, said in mistakes.items():
        if abs(value - mistaken) < tolerance:
            raise Wrong(said)


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """A clean picture to ask about and a noisy one, each channel more than the one before, (3, 24, 32) in [0, 1]."""
    clean = torch.linspace(0, 1, 3 * 24 * 32).view(3, 24, 32)
    noise = degradations.gaussian_noise(torch.full_like(clean, 0.5), 0.1, seed=1) - 0.5
    return clean, (clean + torch.tensor([0.4, 1.0, 1.6])[:, None, None] * noise).clamp(0, 1)
