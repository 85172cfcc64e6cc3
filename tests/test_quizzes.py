"""Quizzes: every choice is explained, one is right, none is given away; they show with widgets and without."""

import json
import re
from pathlib import Path

import ipywidgets
import notebook_lint as lint
import pytest

from helpers.lesson import quizzes

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {int(path.stem[:2]): path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
BUNDLED = [pytest.param(number, id=path.stem) for number, path in NOTEBOOKS.items()]


@pytest.fixture
def shown(monkeypatch):
    """What `show` displays."""
    bundles = []
    monkeypatch.setattr(quizzes, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


@pytest.mark.parametrize("number", BUNDLED)
def test_a_quiz_is_whole(number):
    """As many choices as the file has marks, so that none was lost to a slip of form."""
    questions, source = quizzes.read(number), (quizzes.FOLDER / f"{number}.md").read_text(encoding="utf-8")
    assert 3 <= len(questions) <= 5
    assert sum(len(question.choices) for question in questions) == source.count("- [")
    for question in questions:
        assert [choice.right for choice in question.choices].count(True) == 1, question.text
        assert len(question.choices) >= 3, question.text
        assert len({choice.why for choice in question.choices}) == len(question.choices), question.text
        assert all(len(choice.why) > 30 for choice in question.choices), question.text


@pytest.mark.parametrize("number", BUNDLED)
def test_an_explanation_names_sections_that_exist(number):
    titles = re.findall(r'"## (\d\.\d+) ', NOTEBOOKS[number].read_text(encoding="utf-8"))
    replies = " ".join(c.why for q in quizzes.read(number) for c in q.choices)
    named = [name for bracket in re.findall(r"\(([\d., ]+)\)", replies) for name in bracket.split(", ")]
    assert named
    assert set(named) <= set(titles)


def test_neither_place_nor_length_gives_the_answer_away():
    questions = [question for number in NOTEBOOKS for question in quizzes.read(number)]
    places = [[choice.right for choice in question.choices].index(True) for question in questions]
    longest = [max(question.choices, key=lambda c: len(c.text)).right for question in questions]
    assert all(places.count(place) >= len(questions) // 6 for place in range(3))
    assert sum(longest) <= 0.6 * len(questions)


@pytest.mark.parametrize("number", BUNDLED)
def test_a_notebook_shows_its_own_quiz(number):
    sources = [cell.source for cell in lint.code(lint.load(NOTEBOOKS[number]))]
    assert [source for source in sources if "quizzes.show(" in source] == [
        f"from helpers.lesson import quizzes\n\nquizzes.show({number})"
    ]


def test_a_notebook_without_a_quiz():
    with pytest.raises(ValueError, match="notebook 9 has no quiz; there are 1, 2, 3"):
        quizzes.read(9)


def test_without_widgets_all_can_be_read(shown):
    quizzes.show(1)
    questions = quizzes.read(1)
    page, plain = shown[0]["text/html"], shown[0]["text/plain"]
    assert page.count("<details>") == sum(len(question.choices) for question in questions)
    assert all(question.text in plain for question in questions)
    assert all(choice.reply in plain for question in questions for choice in question.choices)


def test_text_is_no_markup(tmp_path, monkeypatch, shown):
    (tmp_path / "7.md").write_text(
        "# 7\n\n## Is 1 < 2 in `a < b`?\n\n- [x] *Yes* & so on\n  Because.\n- [ ] No\n  But.\n"
    )
    monkeypatch.setattr(quizzes, "FOLDER", tmp_path)
    quizzes.show(7)
    assert "Is 1 &lt; 2 in <code>a &lt; b</code>?" in shown[0]["text/html"]
    assert "<summary><em>Yes</em> &amp; so on</summary>Right. Because." in shown[0]["text/html"]


def test_the_widget_is_named_as_every_front_end_wants_it(shown):
    quizzes.show(1)
    reference = shown[0]["application/vnd.jupyter.widget-view+json"]
    assert json.loads(json.dumps(reference))["version_major"] == 2
    assert reference["model_id"]


def test_a_click_is_answered_and_the_first_one_counts():
    questions = quizzes.read(1)
    *boxes, score = quizzes._widget(questions).children
    for box, question in zip(boxes, questions, strict=True):
        _, *rows, reply = box.children
        assert [row.children[0].description for row in rows] == ["A", "B", "C"]
        for row, choice in zip(rows, question.choices, strict=True):
            button = row.children[0]
            assert isinstance(button, ipywidgets.Button)
            button.click()
            assert button.button_style == ("success" if choice.right else "warning")
            assert ("Right." in reply.value) == choice.right
    right = sum(question.choices[0].right for question in questions)
    assert score.value == f"{right} of {len(questions)} right at the first click."
