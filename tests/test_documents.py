"""Documents: links lead somewhere, times are the notebooks' own, the plan adds up, words are spelt right.

The bibliography is in order and complete for all that the course names; CITATION.cff agrees with it. The bundled
pictures are those of data/README.md: one that is exchanged or stored anew would shift every figure of the course.
"""

import hashlib
import re
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
import yaml  # comes with JupyterLab
from PIL import Image

import helpers

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)")
WORDS = {"half an hour": 30, "an hour and a half": 90, "two hours": 120, "90 minutes": 90}
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
BIBLIOGRAPHY = (ROOT / "docs" / "bibliography.md").read_text(encoding="utf-8")
LINES = [line for line in BIBLIOGRAPHY.splitlines() if line.startswith("- ")]
ENTRY = re.compile(r"^- \*\*(?P<key>[a-z]+\d{4}[a-z]?)\*\* · (?P<authors>.+?), \*(?P<title>[^*]+)\*, (?P<rest>.+)$")
ENTRIES = [match.groupdict() for match in map(ENTRY.match, LINES) if match]
DOI = re.compile(r"10\.\d{4,9}/[\w.()/:-]*\w")  # as Crossref recommends, less what no DOI here has
NAMING = [*NOTEBOOKS, ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md"]
NAMING += [*sorted((ROOT / "helpers").rglob("*.py")), *sorted((ROOT / "data" / "catalog").glob("*.json"))]
NAMES = "gool,markey,reconnet,theis,whats,wakin"  # five of the literature, and a variable, that are spelt right
FOLDERS = ("helpers", "docs", "tests", "notebooks", "data/quizzes")
TEXTS = [path for folder in (*FOLDERS, ".", "data") for path in sorted((ROOT / folder).glob("*.md"))]
TEXTS += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def table(text: str, head: str) -> list[list[str]]:
    """The cells of the Markdown table whose first column has this head, a list for each row."""
    below = text[text.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below]


def words(path: Path, kinds: tuple[str, ...] = ("markdown",)) -> str:
    """The words of a file; of a notebook, those of its cells of some kinds."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type in kinds)


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings of a file."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


LESSONS = "\n\n".join(map(words, NOTEBOOKS))
EXERCISES = set(re.findall(r"\*\*Exercise (\d\.\d)\*\*", LESSONS))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_a_link_leads_to_a_file_and_a_heading_and_a_file_that_is_named_is_there(document):
    text = document.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    named = re.findall(r"`((?:helpers|tests|notebooks|docs|data)/[\w./-]+\.(?:py|md|csv|json|ipynb|cfg))`", text)
    assert [name for name in named if not (ROOT / name).exists() and "07_name" not in name] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_guide_has_the_minutes_of_a_notebook_and_of_the_readme(path):
    text = words(path)
    title, cells, whole, exercises, builds = next(row for row in table(GUIDE, "notebook") if row[0][0] == path.stem[1])
    readme = next(row for row in table(README, "notebook") if path.name in row[0])
    assert title in readme[0] and cells == readme[2]
    assert int(whole) == next(minutes for words, minutes in WORDS.items() if f"about {words}" in text)
    assert int(exercises) == sum(map(int, re.findall(r"\*\*Exercise \S+\*\* \((\d+) min\)", text)))
    built = sum(map(int, re.findall(r"\*\*Build \S+\*\* \((\d+) min\)", text)))
    assert builds == (str(built) if built else "–")
    assert f"Building the networks takes another {built} minutes" in text or not built


def test_the_three_hours_add_up():
    rows = table(GUIDE, "at")
    ends = list(accumulate(int(row[1]) for row in rows))
    assert ends[-1] == 180
    assert [row[0] for row in rows] == [f"{start // 60}:{start % 60:02}" for start in [0, *ends[:-1]]]


def test_the_guide_names_every_exercise_once_by_level():
    lists = re.findall(r"^- \*\*Exercises\.\*\* (.+)$", GUIDE, re.MULTILINE)
    told = [re.split(r" In \d|, where |, with ", line)[0] for line in lists]  # what follows names some of them again
    assert sorted(label for part in told for label in re.findall(r"\d\.\d", part)) == sorted(EXERCISES)
    weeks = " ".join(" ".join(row) for row in table(GUIDE, "week"))
    assert set(re.findall(r"\d\.\d", weeks)) >= EXERCISES


def test_the_features_count_the_exercises():
    features = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    assert f"| yes | {len(EXERCISES) - 1} with a folded solution" in features  # one is open
    builds = set(re.findall(r"\*\*Build (\d\.\w)\*\*", LESSONS))
    assert f"| yes | {len(builds)} classes in cells" in features
    assert builds == set(re.findall(r"\b\d\.[A-Z]\b", GUIDE))


def test_the_guide_names_settings_that_there_are():
    for number, settings, *_ in table(GUIDE, "notebook | in the Settings cell"):
        for name in re.findall(r"`(\w+)", settings):
            [path] = [path for path in NOTEBOOKS if path.stem.startswith(f"0{number}")]
            cell = rf"^# Settings.*\n(.+\n)*{name} = "
            assert re.search(cell, words(path, ("code",)), re.MULTILINE), (number, name)


def letters(text: str) -> str:
    """What of a title does not depend on its typography."""
    return re.sub(r"[\W_]+", " ", text).casefold().strip()


WHOLE = [letters(" ".join(entry.values())) for entry in ENTRIES]


def test_every_line_is_an_entry_they_are_sorted_and_no_doi_occurs_twice():
    assert [line for line in LINES if not ENTRY.match(line)] == []
    keys = [entry["key"] for entry in ENTRIES]
    assert keys == sorted(set(keys)) and len(keys) > 50
    found = re.findall(r"https://doi\.org/(\S+?)\)", BIBLIOGRAPHY)
    assert len(found) == len({doi.casefold() for doi in found}) and len(found) > 45


WITHOUT_LINK = {
    "bjontegaard2001",
    "itu2011",
    "krizhevsky2009",
    "mun2009",
    "okabe2008",
    "park1999",
    "sheikh2005",
    "shi2019",
    "sneyers2024",
}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["key"])
def test_an_entry_agrees_with_its_key_and_links_to_a_doi(entry):
    surname, year = re.match(r"([a-z]+)(\d{4})", entry["key"]).groups()
    first = letters(entry["authors"].split(",")[0])
    plain = first.translate(str.maketrans("éèøö", "eeoo"))
    assert surname in plain and year in entry["rest"]
    links = re.findall(r"\[([^]]+)\]\(([^)]+(?:\([^)]*\))?[^)]*)\)", entry["rest"])
    assert links or entry["key"] in WITHOUT_LINK
    for shown, target in links:
        doi = unquote(target) == f"https://doi.org/{shown}" and DOI.fullmatch(shown)
        assert doi or target.startswith("https://openreview.net/")


def works(notebook: Path) -> list[str]:
    """The works of a notebook's reading list: the items of the cells whose names begin with "read"."""
    cells = nbformat.read(notebook, as_version=4).cells
    lists = "\n".join(cell.source for cell in cells if cell.id.startswith("read"))
    return re.findall(r"^- (.+)", lists, re.MULTILINE)


def is_listed(work: str) -> bool:
    """Whether an entry has what the work begins with (an author, "ResCSNet") and its title, if one is given."""
    begin = letters(re.split(r",| et al| and ", work)[0])
    titles = [letters(a or b) for a, b in re.findall(r"\*([^*]+)\*|\"([^\"]+),?\"", work)] or [begin]
    return any(begin.split()[-1] in entry.split() and any(title in entry for title in titles) for entry in WHOLE)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_recommends_is_listed(notebook):
    assert len(works(notebook)) >= 4
    assert [work for work in works(notebook) if not is_listed(work)] == []
    assert not is_listed("Nobody et al., *Image Super-Resolution Using Deep Convolutional Networks*, TPAMI 2016")
    assert not is_listed("Dong et al., *A Paper that Nobody Wrote*, 2016")


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.stem)
def test_an_author_or_doi_that_is_named_is_listed(path):
    text = words(path, ("markdown", "code"))
    named = {*re.findall(r"(\w[\w-]+) et al\.", text), *re.findall(r"\((?:\w+ and )?(\w+),? (?:19|20)\d\d\)", text)}
    listed = " ".join(WHOLE).split()
    assert sorted(name for name in named if not name.islower() and letters(name) not in listed) == []
    assert sorted({doi for doi in DOI.findall(text) if doi.casefold() not in BIBLIOGRAPHY.casefold()}) == []


def test_every_published_method_is_listed():
    methods = pd.read_csv(ROOT / "docs" / "published.csv")["method"].unique()
    assert [method for method in methods if not re.search(rf"\([^)]*{re.escape(method)}[,;) ]", BIBLIOGRAPHY)] == []


def test_the_citation_has_what_the_format_wants():
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert {"message", "license", "authors"} <= CITATION.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", CITATION["date-released"])
    released = re.search("^## (.+?), ", words(ROOT / "docs" / "news.md"), re.MULTILINE)  # the newest
    assert released[1] == CITATION["version"]
    assert helpers.__version__ == CITATION["version"] or helpers.__version__.endswith(".dev0")
    assert CITATION["title"] == README.splitlines()[0].removeprefix("# ")
    assert f"git clone {CITATION['repository-code']}.git" in README


@pytest.mark.parametrize("work", CITATION["references"], ids=lambda work: work["doi"])
def test_a_reference_of_the_citation_is_a_work_of_the_bibliography(work):
    assert work["type"] in {"article", "conference-paper"} and isinstance(work["year"], int)
    line = next(line for line in LINES if f"*{work['title']}*" in line)
    assert f"(https://doi.org/{work['doi']})" in line and str(work["year"]) in line
    assert all(author["family-names"] in line for author in work["authors"])


def test_nothing_has_a_common_misspelling(tmp_path):
    """In notebooks, only the cells' sources: what codespell would find in a picture's base64 is no word."""
    for book in (*NOTEBOOKS, ROOT / "docs" / "template.ipynb"):
        (tmp_path / f"{book.stem}.txt").write_text(words(book, ("markdown", "code")), encoding="utf-8")
    (tmp_path / "wrong.txt").write_text("One does not receive it.".replace("ei", "ie"))
    assert len(TEXTS) > 60
    command = [sys.executable, "-m", "codespell_lib", "--ignore-words-list", NAMES, *map(str, [*TEXTS, tmp_path])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    [line] = done.stdout.splitlines()  # the one that is there is found
    assert not done.stderr and "wrong.txt" in line and "receive" in line


def test_the_bundled_pictures_are_those_that_are_listed():
    """Same files, checksums, sizes and modes; each has an author and a licence."""
    folder, listed = ROOT / "data" / "images", table(words(ROOT / "data" / "README.md"), "file")
    assert sorted(row[0].strip("`") for row in listed) == sorted(path.name for path in folder.iterdir())
    assert len(listed) >= 8
    for name, size, mode, *about, digest in listed:
        path = folder / name.strip("`")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest.strip("`")
        with Image.open(path) as picture:
            picture.load()
            assert (f"{picture.width}×{picture.height}", picture.mode) == (size, mode)
        assert len(about) == 5 and all(about), name
