"""The quiz at the end of each notebook: questions from `data/quizzes`, answered by a click, each choice explained.

Where widgets live (JupyterLab, Colab), choices are buttons. Everywhere else (GitHub, the website, a printed page)
the same questions are plain HTML whose choices unfold. Valid for ipywidgets 7 and 8.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_uppercase

from IPython.display import display

from ..service.files import DATA

FOLDER = DATA / "quizzes"
_CHOICE = re.compile(r"^- \[([ x])\] (.+)\n  (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Choice:
    """One answer, whether it is right, and why."""

    text: str
    right: bool
    why: str

    @property
    def reply(self) -> str:
        """What a click on it says."""
        return f"{'Right.' if self.right else 'No.'} {self.why}"


@dataclass(frozen=True)
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
    _, *parts = re.split(r"^## (.+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    choices = [tuple(Choice(text, mark == "x", why) for mark, text, why in _CHOICE.findall(s)) for s in parts[1::2]]
    return [Question(*question) for question in zip(parts[::2], choices, strict=True)]


def show(notebook: int) -> None:
    """Display a notebook's quiz: buttons where there are widgets, else choices that unfold."""
    plain, page, questions = [], [], read(notebook)
    for number, question in enumerate(questions, start=1):
        plain += [f"{number}. {question.text}", *(f"   - {c.text}\n     {c.reply}" for c in question.choices)]
        page.append(f"<p><b>{number}.</b> {_marked(question.text)}</p>")
        for c in question.choices:
            page.append(f"<details><summary>{_marked(c.text)}</summary>{_marked(c.reply)}</details>")
    widget = {"version_major": 2, "version_minor": 0, "model_id": _widget(questions).model_id}
    bundle = {"text/plain": "\n".join(plain), "text/html": "\n".join(page)}
    display(bundle | {"application/vnd.jupyter.widget-view+json": widget}, raw=True)


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

    return ipywidgets.VBox([*(_asked(n, asked, answered) for n, asked in enumerate(questions, start=1)), score])


def _asked(number: int, question: Question, answered: Callable[[int, bool], None]):
    """One question: a click on a choice's letter colours it, and tells why the choice is right or not."""
    from ipywidgets import HTML, Button, HBox, VBox

    def line(bold: str, text: str) -> str:  # which would have a fixed height otherwise
        return f'<div style="line-height: 1.4; white-space: normal"><b>{bold}</b> {_marked(text)}</div>'

    def row(letter: str, choice: Choice) -> HBox:
        def clicked(button: Button) -> None:
            button.button_style = "success" if choice.right else "warning"
            reply.value = line(f"{letter}.", choice.reply)
            answered(number, choice.right)

        button = Button(description=letter, layout={"width": "3em"})
        button.on_click(clicked)
        return HBox([button, HTML(line("", choice.text))])

    reply, asked = HTML(), HTML(line(f"{number}.", question.text))
    rows = [row(letter, choice) for letter, choice in zip(ascii_uppercase, question.choices, strict=False)]
    return VBox([asked, *rows, reply], layout={"margin": "0 0 1em 0", "max_width": "52em"})
