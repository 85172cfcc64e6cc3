"""The quiz at the end of each notebook: questions of `data/quizzes`, each choice of which unfolds to an explanation.

Plain HTML, so that it is the same in Jupyter, on the website, on GitHub and in a printed page.
"""

import html
import re

from IPython.display import display

from ..service.files import DATA

_CHOICE = re.compile(r"^- \[([ x])\] (.+)\n  (.+)$", re.MULTILINE)


def read(notebook: int) -> dict[str, list[tuple[str, bool, str]]]:
    """A notebook's questions, each with its choices: words, whether it is right, why. Raises FileNotFoundError."""
    text = (DATA / "quizzes" / f"{notebook}.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    choices = [[(text, mark == "x", why) for mark, text, why in _CHOICE.findall(part)] for part in parts[1::2]]
    return dict(zip(parts[::2], choices, strict=True))


def show(notebook: int) -> None:
    """Display a notebook's quiz: under each question its choices, which unfold."""
    plain, page = [], []
    for number, (question, choices) in enumerate(read(notebook).items(), start=1):
        plain.append(f"{number}. {question}")
        page.append(f"<p><b>{number}.</b> {_marked(question)}</p>")
        for text, right, why in choices:
            reply = f"{'Right.' if right else 'No.'} {why}"
            plain.append(f"   - {text}\n     {reply}")
            page.append(f"<details><summary>{_marked(text)}</summary>{_marked(reply)}</details>")
    display({"text/plain": "\n".join(plain), "text/html": "\n".join(page)}, raw=True)


def _marked(text: str) -> str:
    """HTML of a line of Markdown that knows `code` and *emphasis*."""
    code = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", code)
