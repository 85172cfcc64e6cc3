"""CITATION.cff: what the format wants, the package's version, the README's address, works of the bibliography."""

import re
from pathlib import Path

import pytest
import yaml  # comes with JupyterLab

import helpers

ROOT = Path(__file__).resolve().parent.parent
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_has_what_the_format_wants():
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert all(isinstance(CITATION[key], str) for key in ("message", "title", "version", "date-released", "license"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", CITATION["date-released"])
    assert CITATION["authors"] == [{"name": "The authors of the course"}]


def test_it_agrees_with_the_package_and_the_readme():
    assert CITATION["version"] == helpers.__version__
    assert CITATION["title"] == README.splitlines()[0].removeprefix("# ")
    assert f"git clone {CITATION['repository-code']}.git" in README


@pytest.mark.parametrize("work", CITATION["references"], ids=lambda work: work["doi"])
def test_a_reference_is_a_work_of_the_bibliography(work):
    assert work["type"] in {"article", "conference-paper"} and isinstance(work["year"], int)
    listed = (ROOT / "docs" / "bibliography.md").read_text(encoding="utf-8").splitlines()
    line = next(line for line in listed if f"*{work['title']}*" in line)
    assert f"(https://doi.org/{work['doi']})" in line and str(work["year"]) in line
    assert all(author["family-names"] in line for author in work["authors"])
