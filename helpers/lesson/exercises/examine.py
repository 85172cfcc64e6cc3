"""How a check examines an answer: by what a learner's function returns, beside what the right one does."""

import copy
import functools
import inspect
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch

from ...service.files import reason

FURTHER = {  # for whom the same was said three times
    "Exercise": "work one small case by hand, line by line, on paper.",
    "Build": "print the shapes in your forward, and compare it with the task, sentence by sentence.",
}
SEEN = Counter()  # by label and sentence: how often a check has said what in this session


class Wrong(Exception):
    """An answer is wrong; the message says what was seen, and a hint."""


class NotAttempted(Exception):
    """The stub is untouched: it returned None or an ellipsis."""


def exercise(label: str, *cases: tuple, within: float = 1e-4) -> Callable:
    """Make a generator into a check: for the arguments of a case, it yields what is right and then the usual mistakes.

    What is right is a number or a tensor; an answer may be `within` of it. Mistakes are by their hints: what each
    returns, the exception that it raises, a test that its value passes, or True for whatever else comes.
    """

    def decorate(task: Callable) -> Callable:
        @functools.wraps(task)
        def examine(answer: Callable) -> None:
            for case in cases:
                compare(answer, case, *task(*case), within)

        check = examined(label, course=functools.wraps(task)(lambda *case: next(task(*case))))(examine)
        check.task, check.cases = task, cases
        return check

    return decorate


def examined(label: str, course: Callable | None = None, kind: str = "Exercise") -> Callable:
    """Make a function that raises Wrong into a check that prints one line, headed "`kind` `label`".

    Where the same mistake is seen a second time, the line says what is asked, and then a way to go on. The check has
    the `label`, a `verdict(answer)` that returns the sentence, for whoever grades many answers, and in `course` a right
    answer; see `usable`.
    """

    def decorate(examine: Callable) -> Callable:
        @functools.wraps(examine)
        def check(answer) -> None:
            said = check.verdict(answer)
            SEEN[label, said] += said.startswith("not yet.")
            times = SEEN[label, said]
            if times > 1:
                said += f" Asked is {' '.join(inspect.getdoc(examine).split())}"
            if times > 2:
                said += f" Still the same: {FURTHER[kind]}"
            print(f"{kind} {label}: {said}")

        check.label, check.course, check.verdict = label, course, functools.partial(verdict, examine)
        return check

    return decorate


def verdict(examine: Callable, answer) -> str:
    """What is said of an answer, in a line."""
    name = getattr(answer, "__name__", type(answer).__name__)
    try:
        examine(answer)
    except NotAttempted:
        return f"not attempted yet. Replace the ... in {name}."
    except Wrong as why:
        return f"not yet. {why}"
    except Exception as why:  # whatever a learner's function raises is an answer to explain, not a crash
        return f"not yet. {name} raised {type(why).__name__}: {reason(why).rstrip('.')}."
    return "passed."


def usable(check: Callable, answer: Callable) -> Callable:
    """The learner's function where it passes, else the course's: what a student's notebook goes on with.

    It may pass with an array, a list or float64 where the course has a tensor; from here on it returns what ours does.
    """
    if check.verdict(answer) != "passed.":
        return check.course
    right = check.course(*check.cases[0]) if hasattr(check, "cases") else None
    if not isinstance(right, torch.Tensor):
        return answer
    return functools.wraps(answer)(lambda *given: torch.as_tensor(answer(*given), dtype=right.dtype))


def call(function: Callable, *arguments):
    """Call a learner's function with copies of the arguments. Raises NotAttempted, Wrong if it changes a tensor."""

    def stub(): ...

    given = copy.deepcopy(arguments)
    value = function(*given)
    code = getattr(function, "__code__", stub.__code__)
    if value is ... or (value is None and code.co_code == stub.__code__.co_code):
        raise NotAttempted
    blame({"It returned nothing: does it end with return?": value is None})
    for before, after in zip(arguments, given, strict=True):
        if isinstance(before, torch.Tensor) and not torch.equal(before, after):
            said = "others need that, too: x * 2 is a new tensor, x *= 2 the old one."
            raise Wrong(f"It changes what it was given, and {said}")
    return value


def compare(answer: Callable, case: tuple, right, mistakes: dict, within: float) -> None:
    """Wrong where answer(*case) is further than `within` from what is right, with the first hint that fits."""
    wanted = torch.as_tensor(right, dtype=torch.float64)
    try:
        value = tensor(call(answer, *case), wanted)
    except (Wrong, NotAttempted):
        raise
    except Exception as why:
        value = why
    if not alike(value, wanted, within):
        hint = next((hint for hint, wrong in mistakes.items() if alike(value, wrong, within)), "")
        raise Wrong(f"{seen(answer, case, value, wanted)} {hint}".strip())


def tensor(value, wanted: torch.Tensor) -> torch.Tensor:
    """What an answer returned, float64: arrays and lists will do, but for pictures, and one element for a number."""
    try:
        if wanted.dim() < 3 or isinstance(value, torch.Tensor):
            found = torch.as_tensor(value, dtype=torch.float64).detach()
            return found.reshape(()) if found.numel() == 1 and not wanted.dim() else found
    except (TypeError, ValueError, RuntimeError):
        pass
    raise Wrong(f"It returned {type(value).__name__}, not a {'tensor' if wanted.dim() else 'number'}.")


def alike(value: torch.Tensor | Exception, other, within: float) -> bool:
    """Whether a value has the shape and, but for `within`, the numbers of another; or is one of `exercise`'s others."""
    if isinstance(value, Exception) or isinstance(other, type):
        return isinstance(other, type) and isinstance(value, other)
    if callable(other) or isinstance(other, bool):
        return bool(other(value) if callable(other) else other)
    other = torch.as_tensor(other, dtype=torch.float64)
    return value.shape == other.shape and torch.allclose(value, other, rtol=1e-6, atol=within, equal_nan=True)


def seen(answer: Callable, case: tuple, value: torch.Tensor | Exception, wanted: torch.Tensor) -> str:
    """The call and what came of it, in a sentence: "my_count(10, 4, 2) is 3 where 4 is right."."""
    name = getattr(answer, "__name__", "your answer")
    if isinstance(value, Exception):
        return f"{name} raised {type(value).__name__}: {reason(value).rstrip('.')}."
    told = ", ".join(str(given) if isinstance(given, int | float | tuple) else "…" for given in case)
    if value.shape != wanted.shape:
        right = f"{tuple(wanted.shape)} was expected" if wanted.dim() else "that is not a number"
        return f"{name}({told}) has the shape {tuple(value.shape)}; {right}."
    place = np.unravel_index((value - wanted).abs().nan_to_num(torch.inf).argmax().item(), wanted.shape)
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
        raise Wrong(f"It returned {type(value).__name__}; return two {what}, with a comma between them.")
    return tuple(value)
