"""Quizzes: every choice is explained, one is right, none is given away."""

import json
import re
from pathlib import Path

import pytest

from helpers.lesson import quizzes

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {int(path.stem[:2]): path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_a_quiz_is_whole_names_sections_that_exist_and_is_shown_by_its_notebook(number):
    """As many choices as the file has marks, so that none was lost to a slip of form."""
    quiz, source = quizzes.read(number), (ROOT / f"data/quizzes/{number}.md").read_text(encoding="utf-8")
    replies = [why for choices in quiz.values() for _, _, why in choices]
    assert 3 <= len(quiz) <= 5 and len(replies) == source.count("- [")
    for question, choices in quiz.items():
        assert len(choices) >= 3 and [right for _, right, _ in choices].count(True) == 1, question
        assert len({why for _, _, why in choices}) == len(choices), question
    assert min(map(len, replies)) > 30
    book = NOTEBOOKS[number].read_text(encoding="utf-8")
    named = re.findall(r"\d\.\d+", " ".join(re.findall(r"\(([\d., ]+)\)", " ".join(replies))))
    assert named and set(named) <= set(re.findall(r'"## (\d\.\d+) ', book))
    sources = [
        "".join(cell["source"]) for cell in json.loads(book)["cells"] if "quizzes.show(" in "".join(cell["source"])
    ]
    assert sources == [f"from helpers.lesson import quizzes\n\nquizzes.show({number})"]


def test_neither_place_nor_length_gives_the_answer_away():
    asked = [choices for number in NOTEBOOKS for choices in quizzes.read(number).values()]
    places = [[right for _, right, _ in choices].index(True) for choices in asked]
    longest = [max(choices, key=lambda c: len(c[0]))[1] for choices in asked]
    assert all(places.count(place) >= len(asked) // 6 for place in range(3)) and sum(longest) <= 0.6 * len(asked)


def test_choices_unfold_and_text_is_no_markup(tmp_path, monkeypatch):
    (tmp_path / "quizzes").mkdir()
    text = "# 7\n\n## Is 1 < 2 in `a < b`?\n\n- [x] *Yes* & so on\n  Because.\n- [ ] No\n  But.\n"
    (tmp_path / "quizzes/7.md").write_text(text)
    bundles = []
    monkeypatch.setattr(quizzes, "DATA", tmp_path)
    monkeypatch.setattr(quizzes, "display", lambda bundle, raw: bundles.append(bundle))
    quizzes.show(7)
    assert "Is 1 &lt; 2 in <code>a &lt; b</code>?" in bundles[0]["text/html"]
    assert "<details><summary><em>Yes</em> &amp; so on</summary>Right. Because.</details>" in bundles[0]["text/html"]
    assert "   - No\n     No. But." in bundles[0]["text/plain"]
