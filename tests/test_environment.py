import sys

import pytest
from builders import pictures

from helpers import environment


def finding(what: str) -> environment.Finding:
    return next(found for found in environment.check() if found.what == what)


def test_everything_is_looked_at():
    whats = [found.what for found in environment.check()]
    assert {"Python", "torch", "numpy", "device", "memory", "disk", "pictures", "image sets"} <= set(whats)
    assert len(whats) == len(set(whats))
    assert all(found.found for found in environment.check())


def test_what_fails_has_a_remedy(monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("torch>=99.0\n# a comment\nnot-a-package-at-all>=1\npillow>=1\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "version_info", (3, 9))
    monkeypatch.setattr(environment.datasets, "DATA", tmp_path)
    found = {one.what: one for one in environment.check()}
    for what in ("torch", "not-a-package-at-all", "image sets", "Python", "pictures"):
        assert not found[what].ok
        assert found[what].remedy
        assert str(found[what]).startswith("FAIL")
    assert "pip install 'torch>=99.0'" in str(found["torch"])
    assert found["not-a-package-at-all"].found == "not installed"
    assert found["pillow"].ok


def test_versions_are_compared_as_numbers(monkeypatch):
    monkeypatch.setattr(environment, "version", lambda _: "2.10.1")
    assert environment._package("x", "2.9").ok
    assert not environment._package("x", "2.11").ok


def test_a_set_that_was_not_asked_for_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setattr(environment.datasets, "DATA", tmp_path)
    assert environment._sets().ok
    monkeypatch.setenv("COURSE_DATA", str(pictures(tmp_path / "sets")))
    assert environment._sets().found == str(tmp_path / "sets")


@pytest.mark.parametrize("gigabytes", [2, 8])
def test_little_memory_is_said(monkeypatch, gigabytes):
    monkeypatch.setattr(environment.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gigabytes * 2**18}.get)
    assert finding("memory").ok == (gigabytes > 4)
