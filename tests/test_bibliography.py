"""The bibliography: in order, with links of the right form, and complete for all that the course names."""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "bibliography.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- \*\*(?P<key>[a-z]+\d{4}[a-z]?)\*\* · (?P<authors>.+?), \*(?P<title>[^*]+)\*, (?P<rest>.+)$")
DOI = re.compile(r"10\.\d{4,9}/[\w.()/:-]*\w")  # as Crossref recommends, less what no DOI here has
LINES = [line for line in TEXT.splitlines() if line.startswith("- ")]
ENTRIES = [match.groupdict() for match in map(ENTRY.match, LINES) if match]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
NAMING = [*NOTEBOOKS, ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md"]
NAMING += [*sorted((ROOT / "helpers").rglob("*.py")), *sorted((ROOT / "data" / "catalog").glob("*.json"))]


def letters(text: str) -> str:
    """What of a title does not depend on its typography."""
    return re.sub(r"[\W_]+", " ", text).casefold().strip()


WHOLE = [letters(" ".join(entry.values())) for entry in ENTRIES]


def test_every_line_is_an_entry_and_they_are_sorted():
    assert [line for line in LINES if not ENTRY.match(line)] == []
    keys = [entry["key"] for entry in ENTRIES]
    assert keys == sorted(set(keys)) and len(keys) > 50


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["key"])
def test_an_entry_agrees_with_its_key_and_links_to_a_doi(entry):
    surname, year = re.match(r"([a-z]+)(\d{4})", entry["key"]).groups()
    first = letters(entry["authors"].split(",")[0])
    plain = first.translate(str.maketrans("éèøö", "eeoo"))
    assert surname in plain and year in entry["rest"]
    for shown, target in re.findall(r"\[([^]]+)\]\(([^)]+(?:\([^)]*\))?[^)]*)\)", entry["rest"]):
        assert (
            target == f"https://doi.org/{shown}"
            and DOI.fullmatch(shown)
            or target.startswith("https://openreview.net/")
        )


def test_no_doi_occurs_twice():
    found = re.findall(r"https://doi\.org/(\S+?)\)", TEXT)
    assert len(found) == len({doi.casefold() for doi in found}) and len(found) > 45


def works(notebook: Path) -> list[str]:
    """The works of a notebook's last paragraph, "What to read" or "Read": one for each dash or dot."""
    source = nbformat.read(notebook, as_version=4).cells[-1].source
    listed = re.search(r"(?:\*\*Read\*\*|## What to read)(.*?)(?=\n\n\*\*Next|\Z)", source, re.DOTALL)[1]
    return [" ".join(work.split()) for work in re.split(r"·|\n- ", listed) if work.strip()]


def is_listed(work: str) -> bool:
    """Whether an entry has what the work begins with (an author, "ResCSNet") and its title, if one is given."""
    begin = letters(re.split(r",| et al| and ", work)[0])
    titles = [letters(a or b) for a, b in re.findall(r"\*([^*]+)\*|\"([^\"]+),?\"", work)] or [begin]
    return any(begin.split()[-1] in entry.split() and any(title in entry for title in titles) for entry in WHOLE)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_recommends_is_listed(notebook):
    assert len(works(notebook)) >= 4
    assert [work for work in works(notebook) if not is_listed(work)] == []


def test_a_work_that_is_not_listed_is_noticed():
    assert not is_listed("Nobody et al., *Image Super-Resolution Using Deep Convolutional Networks*, TPAMI 2016")
    assert not is_listed("Dong et al., *A Paper that Nobody Wrote*, 2016")


def sources(path: Path) -> str:
    """The words of a file; of a notebook, those of its cells."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.stem)
def test_an_author_or_doi_that_is_named_is_listed(path):
    text = sources(path)
    named = set(re.findall(r"(\w[\w-]+) et al\.", text)) | set(
        re.findall(r"\((?:\w+ and )?(\w+),? (?:19|20)\d\d\)", text)
    )
    listed = " ".join(WHOLE).split()
    assert sorted(name for name in named if not name.islower() and letters(name) not in listed) == []
    assert sorted({doi for doi in DOI.findall(text) if doi.casefold() not in TEXT.casefold()}) == []


def test_every_published_method_is_listed():
    methods = pd.read_csv(ROOT / "docs" / "published.csv")["method"].unique()
    assert [method for method in methods if not re.search(rf"\([^)]*{re.escape(method)}[,;) ]", TEXT)] == []
