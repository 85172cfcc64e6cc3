"""The documents beside the README: links lead somewhere, times are the notebooks' own, the plan adds up."""

import re
from itertools import accumulate
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
GUIDE = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)")
WORDS = {"half an hour": 30, "an hour and a half": 90, "two hours": 120, "90 minutes": 90}


def table(text: str, head: str) -> list[list[str]]:
    """The cells of the Markdown table whose first column has this head, a list for each row."""
    below = text[text.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below]


def words(path: Path) -> str:
    """All Markdown of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings of a file."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_a_link_leads_to_a_file_and_a_heading(document):
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_a_file_that_is_named_is_there(document):
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:helpers|tests|notebooks|docs|data)/[\w./-]+\.(?:py|md|csv|json|ipynb|cfg))`", text)
    assert [name for name in named if not (ROOT / name).exists() and "07_name" not in name] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_guide_has_the_minutes_of_a_notebook_and_of_the_readme(path):
    text = words(path)
    number = str(int(path.stem[:2]))
    title, cells, whole, exercises = next(row for row in table(GUIDE, "notebook") if row[0].startswith(number))
    readme = next(
        row for row in table((ROOT / "README.md").read_text(encoding="utf-8"), "notebook") if path.name in row[0]
    )
    assert title in readme[0] and cells == readme[2]
    stated = next(text.index(words) and minutes for words, minutes in WORDS.items() if f"about {words}" in text)
    assert int(whole) == stated
    checked = [
        int(minutes) for minutes, rest in re.findall(r"\*\*Exercise \S+\*\* \((\d+) min(.*?)\)", text) if not rest
    ]
    assert int(exercises) == sum(checked)


def test_the_three_hours_add_up():
    rows = table(GUIDE, "at")
    minutes = [int(row[1]) for row in rows]
    assert sum(minutes) == 180
    starts = [0, *accumulate(minutes)][:-1]
    assert [row[0] for row in rows] == [f"{start // 60}:{start % 60:02}" for start in starts]


def test_the_guide_names_every_exercise_once_by_level():
    levels = "\n".join(re.findall(r"^- \*\*Exercises\.\*\* .+$", GUIDE, re.MULTILINE))
    told = re.split(r" In \d| where ", levels)
    labels = {label for path in NOTEBOOKS for label in re.findall(r"\*\*Exercise (\d\.\d)\*\*", words(path))}
    assert {label for part in told for label in re.findall(r"\d\.\d", part)} == labels
    weeks = " ".join(" ".join(row) for row in table(GUIDE, "week"))
    assert labels <= set(re.findall(r"\d\.\d", weeks))


def test_the_features_count_the_exercises():
    labels = {label for path in NOTEBOOKS for label in re.findall(r"\*\*Exercise (\d\.\d)\*\*", words(path))}
    features = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    assert f"| yes | {len(labels) - 1} with a folded solution" in features  # one is open


def test_the_guide_names_settings_that_there_are():
    for number, settings, *_ in (row for row in table(GUIDE, "notebook | in the Settings cell")):
        for name in re.findall(r"`(\w+)", settings):
            path = next(path for path in NOTEBOOKS if path.stem.startswith(f"0{number}"))
            cells = nbformat.read(path, as_version=4).cells
            source = next(cell.source for cell in cells if cell.source.startswith("# Settings"))
            assert re.search(rf"^{name} = ", source, re.MULTILINE), (number, name)
