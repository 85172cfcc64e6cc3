"""What tables of rows say: paired differences, the leaderboard of a class, curves of codecs."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_command_line import run

from helpers import comparison

RANDOM = np.random.default_rng(0)
HARD = RANDOM.normal(30, 4, 30)  # pictures differ by decibels


def rows(method: str, scores, dataset: str = "set") -> pd.DataFrame:
    names = [f"{index}.png" for index in range(len(scores))]
    return pd.DataFrame({"task": "sr-x3", "dataset": dataset, "image": names, "method": method, "psnr": scores})


def noisy(gain: float) -> np.ndarray:
    return HARD + gain + RANDOM.normal(0, 0.1, 30)


TABLE = pd.concat([rows("low", HARD), rows("twin", noisy(1)), rows("other twin", noisy(1.001)), rows("best", noisy(2))])


def test_paired_differences_are_far_surer_than_the_pictures_are_alike():
    found, back = comparison.paired(TABLE, "twin", "low"), comparison.paired(TABLE, "low", "twin")
    assert 0.9 < found.low < found.mean < found.high < 1.1
    assert found.wins == found.pictures == 30
    assert back.mean == pytest.approx(-found.mean) and back.wins == 0


@pytest.mark.parametrize(("old", "low", "wins"), [([30, 31, 32, 33, 30, 31], -1, 3), ([31, 30, 33, 32, 31, 30], 0, 0)])
def test_an_interval_holds_zero_where_nothing_is_known_and_is_nothing_of_equal_scores(old, low, wins):
    table = pd.concat([rows("old", old), rows("new", [31, 30, 33, 32, 31, 30])])
    found = comparison.paired(table, "new", "old")
    assert low <= found.low <= found.mean == 0 <= found.high <= -low and found.wins == wins
    assert (found.low < 0 < found.high) == (low < 0)


def test_a_picture_that_a_method_returns_without_error_is_not_compared():
    table = pd.concat([rows("new", [30, np.inf, 32, 33]), rows("old", [29, np.inf, 31, 31])])
    found = comparison.paired(table, "new", "old")
    assert found.pictures == 3 and found.mean == pytest.approx(4 / 3)


@pytest.mark.parametrize("other", ["none", "short"])
def test_methods_without_pictures_in_common_are_not_compared(other):
    table = pd.concat([rows("new", [30, 31, 32]), rows("short", [30])])
    with pytest.raises(ValueError, match=f"'new' and '{other}'"):
        comparison.paired(table, "new", other)


# --------------------------------------------------------------------------------------------- ranks


def test_methods_that_do_not_differ_for_sure_share_a_rank_in_each_task_and_set():
    found = comparison.ranks(pd.concat([TABLE, rows("low", HARD, "more"), rows("best", HARD - 1, "more")]))
    assert list(found.xs("more", level="dataset")["method"]) == ["low", "best"]
    found = found.xs("set", level="dataset").reset_index()
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
    found = comparison.ranks(pd.concat([rows("low", HARD), short, perfect])).set_index("method")
    assert set(found["pictures"]) == {28}
    kept = np.delete(HARD, [hardest, 5]).mean()
    assert found["psnr"].to_dict() == pytest.approx({"low": kept, "short": kept + 0.1, "perfect": kept + 0.2}, abs=1e-3)


def test_a_method_without_any_score_is_not_left_out_in_silence(tmp_path, capsys):
    pd.concat([rows("low", HARD), rows("none", HARD * np.nan)]).to_csv(tmp_path / "two.csv", index=False)
    assert run("rank", str(tmp_path / "two.csv")) == 2
    assert "sr-x3, set: the methods share 0 pictures" in capsys.readouterr().err


def test_rank_tells_two_methods_of_one_name_apart_and_draws_one_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv("one.csv", index=False)
    for name, gain in (("anna", 1), ("bob", 3)):
        (tmp_path / name).mkdir()
        pd.concat([rows("low", HARD), rows("mine", noisy(gain))]).to_csv(f"{name}/own.csv", index=False)
    assert run(*"rank one.csv */own.csv --figure out.png".split()) == 0
    printed = capsys.readouterr().out
    places = [printed.index(name) for name in ("bob/own.csv:mine", "best", "anna/own.csv:mine")]
    assert places == sorted(places) and "low" in printed and ":low" not in printed
    with Image.open("out.png") as figure:
        assert len(np.unique(np.asarray(figure.convert("L")))) > 20 and min(figure.size) > 200


def test_learners_whose_methods_have_one_name_stay_apart_even_where_they_are_equal(tmp_path):
    """Their functions, not the course's methods, of which a score that two tables share counts once."""
    ours, equal, near = rows("low", HARD), rows("mine.py:restore", HARD + 1), rows("mine.py:restore", HARD + 2)
    near.loc[4, "psnr"] = equal.loc[4, "psnr"]
    for name, table in {"ada": equal, "bob": equal, "cem": near}.items():
        pd.concat([ours, table]).to_csv(tmp_path / f"{name}.csv", index=False)
    counts = comparison.joined(sorted(tmp_path.glob("*.csv")))["method"].value_counts().to_dict()
    assert counts == {"low": 30} | {f"{tmp_path / name}.csv:mine.py:restore": 30 for name in ("ada", "bob", "cem")}
    alone = comparison.joined([tmp_path / "ada.csv", tmp_path / "ada.csv"])["method"].value_counts().to_dict()
    assert alone == {"low": 30, "mine.py:restore": 30}


def test_who_has_few_pictures_is_named(tmp_path, capsys):
    pd.concat([rows("low", HARD), rows("short", HARD + 1)[:3]]).to_csv(tmp_path / "two.csv", index=False)
    assert run("rank", str(tmp_path / "two.csv")) == 0
    said = "warning: short has 3 of 30 pictures of set, sr-x3; only those that all methods have count.\n"
    assert capsys.readouterr().err == said


def apart(methods: int, count: int) -> pd.DataFrame:
    """So many methods, a decibel apart on each of so many pictures."""
    return pd.concat([rows(str(k), [30.0 + k] * count) for k in range(methods)])


@pytest.mark.parametrize(("methods", "least"), [(2, 6), (3, 7), (5, 9), (21, 14)])
def test_so_many_pictures_are_needed_to_tell_methods_apart(methods, least):
    assert comparison.least_pictures(methods) == least
    for count in (least - 1, least):
        found = comparison.ranks(apart(methods, count)).reset_index()["rank"]
        assert found.nunique() == (1 if count < least else methods)


@pytest.mark.parametrize("count", [6, 7])
def test_too_few_pictures_are_told(count, tmp_path, capsys):
    apart(3, count).to_csv(tmp_path / "few.csv", index=False)
    assert run("rank", str(tmp_path / "few.csv")) == 0
    said = f"{count} pictures cannot tell 3 methods apart, so all share a rank; it takes 7."
    assert (said in capsys.readouterr().out) == (count < 7)


# -------------------------------------------------------------------------------------------- curves


def curve_rows(method: str, shift: float, images: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    """A codec whose quality is 30 dB + 6·log₂ of its rate, at `shift` times the bits."""
    settings = np.array([1, 2, 3, 4, 5])
    rates = 0.1 * 1.7**settings
    same = {"task": "codec", "dataset": "mine", "method": method, "setting": settings, "bpp": shift * rates}
    same |= {"psnr": 30 + 6 * np.log2(rates), "ms_ssim": 0.9, "header_bpp": 0.0, "seconds": 0.1, "parameters": 0}
    return pd.concat([pd.DataFrame(same | {"image": image}) for image in images])


def test_bd_rates_of_curves_that_are_known():
    table = pd.concat([curve_rows("jpeg", 1), curve_rows("half", 0.5), curve_rows("more", 1.25)])
    found = comparison.curves(table).loc[("codec", "mine")]
    assert found.loc["half", "BD-rate %"] == pytest.approx(-50, abs=0.5)
    assert found.loc["more", "BD-rate %"] == pytest.approx(25, abs=0.5)
    assert found.loc["half", "BD-PSNR"] == pytest.approx(6, abs=0.1)  # half the bits: 6 · log₂ 2 dB
    assert dict(comparison.bd_rates(table, "half")) == pytest.approx({"a": -50, "b": -50}, abs=0.5)


def test_more_bits_for_no_more_quality_are_no_point_of_a_curve():
    """AVIF's lowest qualities do that on some pictures, and a curve that does not rise has no rate for a quality."""
    table = curve_rows("jpeg", 1, images=("a",))
    worse = table.iloc[[0]].assign(setting=0, bpp=lambda row: 1.01 * row["bpp"], psnr=lambda row: row["psnr"] - 0.01)
    assert comparison.curve(pd.concat([worse, table])) == comparison.curve(table)


def test_of_equal_rates_the_best_is_a_point_and_a_perfect_picture_warns_of_nothing(recwarn):
    """As of a learner's codec whose files have one size."""
    table = curve_rows("jpeg", 1, images=("a",))
    equal = table.assign(bpp=0.5)
    assert comparison.curve(equal) == [(0.5, table["psnr"].max())]
    assert comparison.curve(table.assign(ms_ssim=1.0), "ms_ssim") == [] and not recwarn
