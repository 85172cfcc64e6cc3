"""How a check examines an answer: by what a learner's function returns, beside what the right one does."""

import copy
import functools
from collections.abc import Callable

import torch

from ...service.files import reason


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
        return f"not yet. {name} raised {type(why).__name__}: {reason(why)}"
    return "passed."


def usable(check: Callable, answer: Callable) -> Callable:
    """The learner's function where it passes, else the course's: what a student's notebook goes on with."""
    return answer if check.verdict(answer) == "passed." else check.course


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


def compare(answer: Callable, case: tuple, right, mistakes: dict, otherwise: str = "", within: float = 1e-4) -> None:
    """Wrong where answer(*case) is further than `within` from what is right, a number or a tensor, or raises.

    mistakes: by its hint, what each usual mistake returns, the exception that it raises, or a test that its value
    passes; other values hear `otherwise`.
    """
    wanted = torch.as_tensor(right, dtype=torch.float64)
    try:
        value = tensor(call(answer, *case), wanted)
    except (Wrong, NotAttempted):
        raise
    except Exception as why:
        value = why
    if not alike(value, wanted, within):
        otherwise = "" if isinstance(value, Exception) else otherwise
        hint = next((hint for hint, wrong in mistakes.items() if alike(value, wrong, within)), otherwise)
        raise Wrong(f"{seen(answer, case, value, wanted)} {hint}".strip())


def tensor(value, wanted: torch.Tensor) -> torch.Tensor:
    """What an answer returned, float64: arrays and lists will do, but for pictures, and one element for a number.

    Raises Wrong for all else.
    """
    try:
        if wanted.dim() < 3 or isinstance(value, torch.Tensor):
            found = torch.as_tensor(value, dtype=torch.float64).detach()
            return found.reshape(()) if found.numel() == 1 and not wanted.dim() else found
    except (TypeError, ValueError, RuntimeError):
        pass
    raise Wrong(f"It returned {type(value).__name__}, not a {'tensor' if wanted.dim() else 'number'}.")


def alike(value: torch.Tensor | Exception, other, within: float) -> bool:
    """Whether a value has the shape and, but for `within`, the numbers of another; or passes it, a test or a type."""
    if isinstance(value, Exception) or isinstance(other, type):
        return isinstance(other, type) and isinstance(value, other)
    if callable(other) and not isinstance(other, torch.Tensor):
        return bool(other(value))
    other = torch.as_tensor(other, dtype=torch.float64)
    return value.shape == other.shape and torch.allclose(value, other, rtol=0, atol=within, equal_nan=True)


def seen(answer: Callable, case: tuple, value: torch.Tensor | Exception, wanted: torch.Tensor) -> str:
    """The call and what came of it, in a sentence: "my_count(10, 4, 2) is 3 where 4 is right."."""
    name = getattr(answer, "__name__", "your answer")
    if isinstance(value, Exception):
        return f"{name} raised {type(value).__name__}: {reason(value).rstrip('.')}."
    told = ", ".join(str(given) if isinstance(given, int | float | tuple) else "…" for given in case)
    if value.shape != wanted.shape:
        right = f"{tuple(wanted.shape)} was expected" if wanted.dim() else "that is not a number"
        return f"{name}({told}) has the shape {tuple(value.shape)}; {right}."
    place = torch.unravel_index((value - wanted).abs().nan_to_num(torch.inf).argmax(), wanted.shape)
    index = f"[{', '.join(str(int(i)) for i in place)}]" if place else ""
    return f"{name}({told}){index} is {value[place].item():,.6g} where {wanted[place].item():,.6g} is right."


def blame(faults: dict[str, bool]) -> None:
    """Wrong, with the first sentence that is true."""
    for sentence, true in faults.items():
        if true:
            raise Wrong(sentence)


def two(value, what: str) -> tuple:
    """The two things that a learner's function returned."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        many = f" of {len(value)}" if isinstance(value, tuple | list) else ""
        raise Wrong(f"It returned {type(value).__name__}{many}; return two {what}, with a comma between them.")
    return tuple(value)
