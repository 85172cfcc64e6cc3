"""The class leaderboard: paired differences, shared ranks, one table and one figure."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import CourseError, comparison
from helpers import __main__ as command

RANDOM = np.random.default_rng(0)
HARD = RANDOM.normal(30, 4, 30)  # pictures differ by decibels


def rows(method: str, scores, dataset: str = "set") -> pd.DataFrame:
    names = [f"{index}.png" for index in range(len(scores))]
    return pd.DataFrame({"task": "sr-x3", "dataset": dataset, "image": names, "method": method, "psnr": scores})


def noisy(gain: float) -> np.ndarray:
    return HARD + gain + RANDOM.normal(0, 0.1, 30)


TABLE = pd.concat([rows("low", HARD), rows("twin", noisy(1)), rows("other twin", noisy(1.001)), rows("best", noisy(2))])


def test_methods_that_do_not_differ_for_sure_share_a_rank():
    found = comparison.ranks(TABLE).reset_index()
    assert list(found["rank"]) == [1, 2, 2, 4] and found["method"][0] == "best" and found["method"][3] == "low"
    assert list(found["psnr"]) == sorted(found["psnr"], reverse=True)
    last, expected = found.iloc[3], comparison.paired(TABLE, "low", "best")
    assert list(last[["to the first", "low", "high"]]) == pytest.approx(expected[:3], abs=1e-3)
    assert last["wins"] == expected.wins and last["pictures"] == 30
    assert list(found.iloc[0][["to the first", "low", "high"]]) == [0, 0, 0]


def test_only_pictures_that_all_have_count():
    """The one that left out the hardest picture gains nothing by it, nor by a perfect one."""
    hardest = HARD.argmin()
    short = rows("short", HARD + 0.1).drop(index=hardest)
    perfect = rows("perfect", np.where(np.arange(30) == 5, np.inf, HARD + 0.2))
    found = comparison.ranks(pd.concat([rows("low", HARD), short, perfect])).reset_index().set_index("method")
    assert set(found["pictures"]) == {28}
    kept = np.delete(HARD, [hardest, 5])
    assert found["psnr"].to_dict() == pytest.approx({f: kept.mean() + g for f, g in
        (("low", 0), ("short", 0.1), ("perfect", 0.2))}, abs=1e-3)  # fmt: skip
    with pytest.raises(CourseError, match="sr-x3, set: the methods share 1 pictures; at least two"):
        comparison.ranks(pd.concat([rows("low", HARD), rows("short", HARD[:1])]))


def test_two_methods_of_one_name_are_told_apart_by_their_tables():
    baseline = rows("bicubic", HARD)
    tables = {name: pd.concat([baseline, rows("mine", noisy(gain))]) for name, gain in (("anna", 1), ("bob", 2))}
    joined = comparison.joined(tables)
    assert set(joined["method"]) == {"bicubic", "anna:mine", "bob:mine"} and len(joined) == 90
    assert list(comparison.ranks(joined)["method"]) == ["bob:mine", "anna:mine", "bicubic"]


def test_a_task_and_a_set_are_ranked_by_themselves():
    found = comparison.ranks(pd.concat([TABLE, rows("low", HARD, "more"), rows("best", HARD - 1, "more")]))
    assert list(found.xs("more", level="dataset")["method"]) == ["low", "best"]


def test_the_command_prints_a_table_and_draws_one_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv("one.csv", index=False)
    rows("new", noisy(3)).to_csv("two.csv", index=False)
    assert command.main("rank one.csv two.csv --figure out.png".split()) == 0
    printed = capsys.readouterr().out
    assert printed.index("new") < printed.index("best") < printed.index("twin") < printed.rindex("low")
    with Image.open("out.png") as figure:
        assert len(np.unique(np.asarray(figure.convert("L")))) > 20 and min(figure.size) > 200


@pytest.mark.parametrize(
    ("line", "hints"),
    [
        ("rank none.csv", ["none.csv: no such file"]),
        ("rank text.csv", ["text.csv: no table that `evaluate` wrote", "lacks"]),
        ("rank bytes.csv", ["bytes.csv: not a table"]),
        ("rank empty.csv", ["empty.csv: not a table"]),
        ("rank codec.csv", ["codec.csv: codecs are compared by BD-rate"]),
        ("rank one.csv --score beauty", ["--score beauty", "psnr, "]),
        ("rank one.csv --score ssim", ["one.csv: no table", "lacks ssim"]),
        ("rank single.csv", ["share 1 pictures"]),
        ("rank one.csv --figure out.xyz", ["out.xyz: end the name in .png"]),
        ("rank one.csv --figure none/out.png", ["none/out.png", "does not exist"]),
        ("rank", ["FILE.csv"]),
    ],
)
def test_what_cannot_be_ranked_is_a_sentence(tmp_path, capsys, monkeypatch, line, hints):
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv("one.csv", index=False)
    TABLE.assign(setting=1).to_csv("codec.csv", index=False)
    TABLE[TABLE["image"] == "3.png"].to_csv("single.csv", index=False)
    (tmp_path / "text.csv").write_text("hello,world\n1,2\n")
    (tmp_path / "bytes.csv").write_bytes(bytes(range(128, 256)))
    (tmp_path / "empty.csv").write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    try:
        code = command.main(line.split())
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1 and all(hint in said for hint in hints)
    assert sorted(tmp_path.iterdir()) == before


def test_a_table_of_text_where_numbers_belong_is_refused():
    with pytest.raises(CourseError, match="one: psnr holds what is no number"):
        comparison.joined({"one": rows("low", ["a", "b", "c"])})
