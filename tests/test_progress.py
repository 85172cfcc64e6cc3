"""check.progress: what the saved notebooks of a folder say of the learner's answers, and of no solution."""

import nbformat
import pytest
from nbformat import v4

from helpers.lesson import exercises as check
from helpers.lesson import plots


def book(*cells: tuple[str, str]):
    outputs = [(source, [v4.new_output("stream", text=said)] if said else []) for source, said in cells]
    return v4.new_notebook(cells=[v4.new_code_cell(source, outputs=said) for source, said in outputs])


@pytest.fixture
def told(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "show", lambda figure, alt: figures.append((figure, alt)))
    return figures


def test_passed_answers_are_counted_by_notebook_and_solutions_are_not(tmp_path, told, capsys):
    mine = ("def my_luma(x): ...\n\n\ncheck.luma(my_luma)", "Exercise 1.1: passed.\n")
    network = ("check.edsr(MyEDSR)", "Build 2.B: not yet. What enters tail is …\n")
    solution = ("# @title Solution\ncheck.psnr(solution_psnr)", "Exercise 1.2: passed.\n")
    never_run = ("check.turn(my_turn)", "")
    entropy = ("check.entropy(my_entropy)", "Exercise 4.1: not attempted yet. Replace the ...")
    nbformat.write(book(mine, network, solution, never_run), tmp_path / "01_one.ipynb")
    nbformat.write(book(entropy), tmp_path / "02_two.ipynb")
    nbformat.write(book(("1 + 1", "2")), tmp_path / "notes.ipynb")
    check.progress(tmp_path)
    told_to = "1 of 4 have passed, 1 not yet, 2 are not attempted"
    assert capsys.readouterr().out == f"Exercises and builds in the saved notebooks: {told_to}.\n"
    [(figure, alt)] = told
    [axis] = figure.axes
    assert told_to in alt
    assert [label.get_text() for label in axis.get_yticklabels()] == ["01_one", "02_two"]
    assert [text.get_text() for text in axis.texts] == ["1", "B", "4", "1"]


def test_a_folder_without_notebooks_says_so(tmp_path, told, capsys):
    (tmp_path / "half.ipynb").write_text('{"cells": [', encoding="utf-8")
    check.progress(tmp_path)
    assert capsys.readouterr().out == f"No saved notebook of this course is in {tmp_path.name}.\n" and not told
