"""The quiz at the end of each notebook: questions from `data/quizzes`, answered by a click, each choice explained.

Where widgets live (JupyterLab, Colab), choices are buttons. Everywhere else (GitHub, the website, a printed page)
the same questions are plain HTML whose choices unfold. Valid for ipywidgets 7 and 8.
"""

import dataclasses
import html
import re
import string
from collections.abc import Callable

from IPython.display import display

from . import datasets

FOLDER = datasets.DATA / "quizzes"
_CHOICE = re.compile(r"^- \[([ x])\] (.+)\n  (.+)$", re.MULTILINE)
_VERDICTS = {True: "Right.", False: "No."}


@dataclasses.dataclass(frozen=True)
class Choice:
    """One answer, whether it is right, and why."""

    text: str
    right: bool
    why: str

    @property
    def reply(self) -> str:
        """What a click on it says."""
        return f"{_VERDICTS[self.right]} {self.why}"


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked, and the choices, of which one is right."""

    text: str
    choices: tuple[Choice, ...]


def read(notebook: int) -> list[Question]:
    """The questions of a notebook, by its number. Raises ValueError where it has none."""
    path = FOLDER / f"{notebook}.md"
    if not path.is_file():
        there = ", ".join(sorted(path.stem for path in FOLDER.glob("*.md")))
        raise ValueError(f"notebook {notebook!r} has no quiz; there are {there}.")
    _, *parts = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [_question(part) for part in parts]


def _question(part: str) -> Question:
    text, rest = part.split("\n", 1)
    return Question(text, tuple(Choice(text, mark == "x", why) for mark, text, why in _CHOICE.findall(rest)))


def show(notebook: int) -> None:
    """Display a notebook's quiz: buttons where there are widgets, else choices that unfold."""
    questions = read(notebook)
    bundle = {"text/plain": _plain(questions), "text/html": _page(questions)}
    bundle["application/vnd.jupyter.widget-view+json"] = _reference(_widget(questions))
    display(bundle, raw=True)


def _reference(widget) -> dict:
    """What a front end needs to show the widget."""
    return {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}


def _plain(questions: list[Question]) -> str:
    lines = []
    for number, question in enumerate(questions, start=1):
        lines += [f"{number}. {question.text}", *(f"   - {c.text}\n     {c.reply}" for c in question.choices)]
    return "\n".join(lines)


def _page(questions: list[Question]) -> str:
    parts = []
    for number, question in enumerate(questions, start=1):
        choices = (
            f"<details><summary>{_marked(c.text)}</summary>{_marked(c.reply)}</details>" for c in question.choices
        )
        parts.append(f"<p><b>{number}.</b> {_marked(question.text)}</p>\n" + "\n".join(choices))
    return "\n".join(parts)


def _marked(text: str) -> str:
    """HTML of a line of Markdown that knows `code` and *emphasis*."""
    code = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", code)


def _widget(questions: list[Question]):
    """Each question with a button for each choice; below, how many were right at the first click."""
    import ipywidgets

    score, first = ipywidgets.HTML(), {}

    def answered(number: int, right: bool) -> None:
        first.setdefault(number, right)
        score.value = f"{sum(first.values())} of {len(questions)} right at the first click."

    boxes = [_asked(number, question, answered) for number, question in enumerate(questions, start=1)]
    return ipywidgets.VBox([*boxes, score])


def _asked(number: int, question: Question, answered: Callable[[int, bool], None]):
    """One question: a click on a choice's letter colours it, and tells why the choice is right or not."""
    import ipywidgets

    reply = ipywidgets.HTML()
    letters = string.ascii_uppercase[: len(question.choices)]
    buttons = [ipywidgets.Button(description=letter, layout={"width": "3em"}) for letter in letters]

    def clicked(button) -> None:
        choice = question.choices[buttons.index(button)]
        button.button_style = "success" if choice.right else "warning"
        reply.value = _line(f"<b>{button.description}.</b> {_marked(choice.reply)}")
        answered(number, choice.right)

    for button in buttons:
        button.on_click(clicked)
    texts = [ipywidgets.HTML(_line(_marked(choice.text))) for choice in question.choices]
    rows = [ipywidgets.HBox([button, text]) for button, text in zip(buttons, texts, strict=True)]
    asked = ipywidgets.HTML(_line(f"<b>{number}.</b> {_marked(question.text)}"))
    return ipywidgets.VBox([asked, *rows, reply], layout={"margin": "0 0 1em 0", "max_width": "52em"})


def _line(text: str) -> str:
    """Text of a widget, which would stand on lines of fixed height otherwise."""
    return f'<div style="line-height: 1.4; white-space: normal">{text}</div>'
