import numpy as np
import pandas as pd
import pytest

from helpers import comparison


def rows(method: str, scores: list[float], dataset: str = "mine") -> pd.DataFrame:
    names = [f"{index}.png" for index in range(len(scores))]
    return pd.DataFrame({"task": "sr-x3", "dataset": dataset, "image": names, "method": method, "psnr": scores})


def curve_rows(method: str, shift: float, images: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    """A codec whose quality is 30 dB + 6·log₂ of its rate, at `shift` times the bits."""
    settings = np.array([1, 2, 3, 4, 5])
    rates = 0.1 * 1.7**settings
    same = {"task": "codec", "dataset": "mine", "method": method, "setting": settings, "bpp": shift * rates}
    same |= {"psnr": 30 + 6 * np.log2(rates), "ms_ssim": 0.9, "header_bpp": 0.0, "seconds": 0.1, "parameters": 0}
    return pd.concat([pd.DataFrame(same | {"image": image}) for image in images])


def test_paired_differences_are_far_surer_than_the_pictures_are_alike():
    generator = np.random.default_rng(0)
    hard = generator.normal(30, 4, 40)  # pictures differ by decibels
    table = pd.concat([rows("old", list(hard)), rows("new", list(hard + generator.normal(0.2, 0.1, 40)))])
    found = comparison.paired(table, "new", "old")
    assert 0.1 < found.low < found.mean < found.high < 0.3
    assert found.wins >= 35 and found.pictures == 40
    back = comparison.paired(table, "old", "new")
    assert back.mean == pytest.approx(-found.mean) and back.wins == 40 - found.wins


def test_an_interval_holds_zero_where_nothing_is_known_and_is_nothing_of_equal_scores():
    table = pd.concat([rows("old", [30, 31, 32, 33, 30, 31]), rows("new", [31, 30, 33, 32, 31, 30])])
    found = comparison.paired(table, "new", "old")
    assert found.low < 0 < found.high and found.wins == 3
    assert comparison.paired(pd.concat([rows("old", [30, 31]), rows("new", [30, 31])]), "new", "old") == (0, 0, 0, 0, 2)


@pytest.mark.parametrize("other", ["none", "short"])
def test_methods_without_pictures_in_common_are_not_compared(other):
    table = pd.concat([rows("new", [30, 31, 32]), rows("short", [30])])
    with pytest.raises(ValueError, match=f"'new' and '{other}'"):
        comparison.paired(table, "new", other)


def test_bd_rates_of_curves_that_are_known():
    table = pd.concat([curve_rows("jpeg", 1), curve_rows("half", 0.5), curve_rows("more", 1.25)])
    found = comparison.curves(table).loc[("codec", "mine")]
    assert found.loc["half", "BD-rate %"] == pytest.approx(-50, abs=0.5)
    assert found.loc["more", "BD-rate %"] == pytest.approx(25, abs=0.5)
    assert found.loc["half", "BD-PSNR"] == pytest.approx(6, abs=0.1)  # half the bits: 6 · log₂ 2 dB
    each = comparison.bd_rates(table, "half")
    assert list(each.index) == ["a", "b"] and each.tolist() == pytest.approx([-50, -50], abs=0.5)


def test_more_bits_for_no_more_quality_are_no_point_of_a_curve():
    """AVIF's lowest qualities do that on some pictures, and a curve that does not rise has no rate for a quality."""
    table = curve_rows("jpeg", 1, images=("a",))
    worse = table.iloc[[0]].assign(setting=0, bpp=lambda row: 1.01 * row["bpp"], psnr=lambda row: row["psnr"] - 0.01)
    assert comparison.curve(pd.concat([worse, table])) == comparison.curve(table)
    both = pd.concat([table, pd.concat([worse, table]).assign(method="avif")])
    assert comparison.curves(both).loc[("codec", "mine", "avif"), "BD-rate %"] == 0
