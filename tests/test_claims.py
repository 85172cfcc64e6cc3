"""The lists of claims in docs/claims: what each says stands where it says, and what carries it is there.

`0N.csv` lists the claims of notebook N, `readme.csv` those of the documents. The columns are `place` (the id of a
cell, or `README.md#Heading` for a section of a document), `claim` (an excerpt, word for word) and `carried by`, one or
more of `cell ID`, `test tests/test_x.py::test_name`, `table data/results/x.csv`, `source https://…`, with "; " between
them. A cell of another notebook is `cell 05:ID`.
"""

import csv
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "claims"
COLUMNS = ["place", "claim", "carried by"]
TABLES = ("data/results/", "data/experiments/", "docs/published.csv", "docs/published_since_2018.csv")
PAPERS = re.compile(r"https://(?:doi\.org|arxiv\.org|openreview\.net)/")
BIBLIOGRAPHY = (ROOT / "docs" / "bibliography.md").read_text(encoding="utf-8").casefold()
NOTEBOOKS = {
    path.stem[:2]: {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
}


def section(path: str, heading: str) -> str:
    """The text of a document below a heading, up to the next one; empty where there is none."""
    found, inside, fenced = [], False, False
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines() if (ROOT / path).is_file() else []
    for line in lines:
        fenced ^= line.startswith("```")
        if not fenced and (title := re.match(r"#+ (.*)", line)):
            inside = title[1].strip() == heading
        elif inside:
            found.append(line)
    return "\n".join(found)


def text_at(place: str, notebook: str) -> str:
    """What stands at a place; empty where there is no such place."""
    if "#" in place:
        return section(*place.split("#", 1))
    cell = NOTEBOOKS.get(notebook, {}).get(place)
    return cell.source if cell else ""


def missing(anchor: str, notebook: str) -> str | None:
    """What is wrong with one anchor of `carried by`, as the end of a sentence; None where it holds."""
    kind, _, name = anchor.partition(" ")
    if kind == "cell":
        number, _, name = name.rpartition(":")
        cell = NOTEBOOKS.get(number or notebook, {}).get(name)
        shows = cell and cell.cell_type == "code" and (cell.outputs or "assert " in cell.source)
        return None if shows else "no code cell of that id has an output or an assert"
    if kind == "test":
        path, _, name = name.partition("::")
        there = path.startswith("tests/") and (ROOT / path).is_file()
        defined = there and re.search(rf"^def {re.escape(name)}\(", (ROOT / path).read_text(encoding="utf-8"), re.M)
        return None if defined and name.startswith("test_") else "there is no such test"
    if kind == "table":
        return None if name.startswith(TABLES) and (ROOT / name).is_file() else "there is no such table"
    if kind == "source" and re.fullmatch(r"https://\S+", name):
        listed = name.casefold() in BIBLIOGRAPHY or not PAPERS.match(name)
        return None if listed else "docs/bibliography.md does not list that paper"
    return "an anchor is a cell, a test, a table, or a source with https://"


def fault(row: list[str], notebook: str) -> str | None:
    """What is wrong with a row, in a sentence; None for a sound one."""
    if len(row) != len(COLUMNS) or not all(field.strip() for field in row):
        return f"a row has three fields, none of them empty, and quotes around commas: {row}"
    place, claim, carriers = row
    if not (text := text_at(place, notebook)):
        return f"there is no place {place!r}"
    if " ".join(claim.split()) not in " ".join(text.split()):
        return f"{place} does not say {claim!r}"
    for anchor in carriers.split("; "):
        if wrong := missing(anchor, notebook):
            return f"{place}, {claim!r}: {anchor!r}: {wrong}"
    return None


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_what_a_list_says_is_there(path):
    with path.open(encoding="utf-8", newline="") as file:
        heads, *rows = csv.reader(file)
    assert heads == COLUMNS and rows
    assert [found for row in rows if (found := fault(row, path.stem))] == []
    assert len({tuple(row[:2]) for row in rows}) == len(rows), "a claim is listed twice"


SOUND = ["linear", "estimates[name]", "cell 05:linear"]
WRONG = [
    (["linear", "", "cell linear"], "a row has three fields"),
    (["nowhere", *SOUND[1:]], "there is no place"),
    (["README.md#No such heading", *SOUND[1:]], "there is no place"),
    (["no.md#A", *SOUND[1:]], "there is no place"),
    (["README.md#Licences", "Ours.", "cell 05:linear"], "does not say"),
    ([*SOUND[:2], "cell nowhere"], "no code cell"),
    ([*SOUND[:2], "cell title"], "no code cell"),
    ([*SOUND[:2], "test tests/test_x.py::test_y"], "no such test"),
    ([*SOUND[:2], "test tests/test_claims.py::fault"], "no such test"),
    ([*SOUND[:2], "table docs/results.md"], "no such table"),
    ([*SOUND[:2], "source https://doi.org/10.1000/none"], "does not list"),
    ([*SOUND[:2], "cell linear; see above"], "an anchor is"),
]


@pytest.mark.parametrize(("row", "message"), WRONG)
def test_a_faulty_row_is_told_in_a_sentence(row, message):
    assert message in fault(row, "05")
