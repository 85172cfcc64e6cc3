"""The protocol detective: numbers made by a protocol lead back to it, and so do those that papers print."""

import functools
import itertools
import math
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from test_command_line import run

from helpers import CourseError, datasets, degradations, detective, evaluation, images, metrics
from helpers.detective import Claim, Protocol

DOCS = Path(__file__).resolve().parent.parent / "docs"
BASELINES = pd.read_csv(DOCS / "baselines.csv", dtype=str)
STATED = ("made", "luma", "depth", "border", "pictures", "window")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three small parts of photographs, one of them gray."""
    folder = tmp_path_factory.mktemp("set")
    for name in ("coffee", "camera", "chelsea"):
        images.save(folder / f"{name}.png", images.load_uint8(datasets.bundled(name))[..., 100:232, 100:220])
    return images.listing(folder)


def psnr_by(small: list[Path], task: str, how: Protocol) -> float:
    """What the detective measures by a protocol."""
    return detective.decibels(detective.errors(small, task), *how[4:])[how[:4]]


@pytest.mark.parametrize("task", ["sr-x2", "sr-x3", "jpeg-q10", "jpeg-color-q20"])
def test_the_courses_protocol_is_what_evaluate_measures(small, task):
    table, _ = evaluation.evaluate(task, small, [evaluation.BASELINES[task.split("-")[0]]], progress=False)
    found = psnr_by(small, task, detective.course_protocol(task))
    assert found == pytest.approx(table["psnr"].mean(), abs=2e-4)


@pytest.mark.parametrize(("task", "count"), [("sr-x2", 7650), ("jpeg-q10", 1440), ("jpeg-color-q10", 1440)])
def test_so_many_protocols_are_measured_as_the_guide_says(small, task, count):
    mse = detective.errors(small, task)
    ways = itertools.product(detective.PICTURES, detective.MEANS, detective.PEAKS)
    assert sum(len(detective.decibels(mse, *way).dropna()) for way in ways) == count
    assert f"{count:,} " in (DOCS / "own.md").read_text(encoding="utf-8")


def by_hand(path: Path, made: str, luma: str, border: int, rounded: bool) -> float:
    """The mean squared error of bicubic x2 on one picture, restored in 8 bits, in torch's and Pillow's own words."""
    clean, large = images.load_uint8(path).double(), images.load_uint8(path).double()
    for scale in (0.5, 2):
        size = [round(scale * side) for side in large.shape[-2:]]
        by_torch = F.interpolate(large[None], scale_factor=scale, mode="bicubic")[0]
        large = by_torch if made == "OpenCV, torch" else degradations.resize(large, size)
        large = large.clamp(0, 255).round()
    pair = []
    for picture in (clean, large):
        y = picture
        if luma != "RGB" and len(picture) == 3:
            weights = torch.tensor([1 / 3] * 3 if luma == "mean of RGB" else [0.299, 0.587, 0.114]).double()
            y = torch.einsum("c,chw->hw", weights, picture)[None]
            y = 16 + y * 219 / 255 if luma == "Y 16-235" else y
        pair.append(y.round() if rounded else y)
    shaved = [images.shave(y, border) for y in pair]
    return (shaved[0] - shaved[1]).square().mean().item() / 255**2


HAND = [(luma, "RGB in 8 bits, Y not", 0) for luma in detective.LUMAS]
HAND += [(luma, "RGB in 8 bits, then Y", 8) for luma in detective.LUMAS if luma != "RGB"]


@pytest.mark.parametrize("made", ["MATLAB, Pillow", "OpenCV, torch"])
@pytest.mark.parametrize(("luma", "depth", "border"), HAND)
def test_a_protocol_measures_what_its_words_say(small, made, luma, depth, border):
    key = made, luma, depth, border
    mse = detective.errors(small, "sr-x2", {key}).loc[key]
    expected = [by_hand(path, made, luma, border, "then" in depth) for path in small]
    assert mse.to_numpy() == pytest.approx(expected, rel=0.01)


def test_means_peaks_and_pictures():
    index = pd.MultiIndex.from_tuples([("m", "Y 16-235", "d", 0), ("m", "RGB", "d", 0)])
    mse = pd.DataFrame([[0.01, 0.001], [0.01, 0.001]], index, pd.MultiIndex.from_tuples([("a", False), ("b", True)]))
    first, second = (lambda *how: detective.decibels(mse, *how).to_numpy()), 10 * math.log10((255 / 219) ** 2)
    assert first() == pytest.approx([25, 25])
    assert first("colour ones") == pytest.approx([20, 20])
    assert first("all, gray ones as RGB") == pytest.approx([25 + second / 2, 25])
    assert first("all", "of errors") == pytest.approx([-10 * math.log10(0.0055)] * 2)
    for peak, expected in (("1 on [-1, 1]", 25 - 6.0206), ("255 on [0, 1]", 25 + 48.1308)):
        assert first("all", "of PSNRs", peak) == pytest.approx([expected] * 2, abs=1e-3)


LED_BACK = [
    ("sr-x2", Protocol("MATLAB, Pillow", "Y 16-235", "RGB in 8 bits, Y not", 2)),
    ("sr-x2", Protocol("area down, OpenCV up", "Y 0-255", "nothing in 8 bits", 8)),
    ("sr-x2", Protocol("MATLAB down, OpenCV up", "mean of RGB", "Y in 8 bits", 2, "colour ones")),
    ("sr-x2", Protocol("MATLAB, Pillow", "Y 16-235", "Y in 8 bits", 2, "all, gray ones as RGB", "of errors")),
    ("sr-x2", Protocol("OpenCV down, MATLAB up", "RGB", "nothing in 8 bits", 0, peak="255 on [0, 1]")),
    ("jpeg-color-q10", Protocol("JPEG 4:2:0", "RGB", "RGB in 8 bits, Y not", 0)),
    ("jpeg-color-q10", Protocol("JPEG 4:4:4", "RGB", "RGB in 8 bits, Y not", 0)),
    ("jpeg-color-q10", Protocol("JPEG 4:2:0, chroma repeated", "RGB", "RGB in 8 bits, Y not", 0)),
]


@pytest.mark.parametrize(("task", "how"), LED_BACK, ids=[how.made for _, how in LED_BACK])
def test_numbers_of_four_digits_lead_back_to_their_protocol(small, task, how):
    found = detective.detect(task, [Claim("small", small, round(psnr_by(small, task, how), 4))])
    nearest = found.loc[found["distance"].idxmin()]
    assert tuple(nearest[list(Protocol._fields)]) == how and nearest["distance"] < 1e-4
    common = found["misfit"] < nearest["misfit"]  # what stands before it is less rare, and nearly as near
    assert (found[common]["distance"] < 5 * detective.SPREAD).all()


def test_an_ssim_tells_its_window(small):
    how = Protocol("MATLAB, Pillow", "Y 16-235", "RGB in 8 bits, Y not", 2)
    psnr = psnr_by(small, "sr-x2", how)
    for window in metrics.WINDOWS:
        pairs = [next(detective.pairs(images.load_uint8(path), "sr-x2", {how[:3]}))[1:] for path in small]
        ssim = np.mean([metrics.ssim(*(images.shave(t, 2) for t in pair), window=window) for pair in pairs])
        first = detective.detect("sr-x2", [Claim("small", small, round(psnr, 2), round(ssim, 4))]).iloc[0]
        assert first["window"] == window and first["SSIM small"] == pytest.approx(ssim, abs=2e-3)
    absurd = detective.detect("sr-x2", [Claim("small", small, round(psnr, 2), 0.2)])
    assert detective.verdict(absurd).startswith("None of these has such an SSIM")


def test_it_says_when_it_cannot_tell_and_when_nothing_fits(small):
    one = detective.detect("sr-x2", [Claim("small", small, 30.0)])
    near = one.assign(misfit=np.arange(len(one)) * 1.5, distance=0.01)
    assert re.match(r"The first 2 cannot be told apart; they differ in: \w", detective.verdict(near))
    assert detective.verdict(near.assign(misfit=np.arange(len(one)) * 3.0)).startswith("The first fits, 0.01 dB away")
    assert detective.verdict(one.assign(distance=0.4)).startswith("None of these is it: the nearest is 0.40 dB away")


def test_a_second_number_is_converted_by_measuring(small):
    """A network of the course comes out as it was measured, and what lies between two of them between them."""
    theirs = Protocol("MATLAB, Pillow", "RGB", "RGB in 8 bits, Y not", 0)
    mse = detective.errors(small, "sr-x2", {theirs[:4]}, detective.zoo.load("edsr-x2").restore)
    there = detective.decibels(mse)[theirs[:4]]
    here = evaluation.evaluate("sr-x2", small, ["edsr-x2"], progress=False)[0]["psnr"].mean()
    found, said = detective.convert("sr-x2", small, there, theirs)
    assert found == pytest.approx(here, abs=1e-3) and "edsr-x2" in said and abs(here - there) > 0.5
    between, said = detective.convert("sr-x2", small, there - 0.1, theirs)
    assert between < found and said.startswith("the baseline has ")
    above, said = detective.convert("sr-x2", small, there + 1, theirs)
    assert above == pytest.approx(found + 1) and said.startswith("beyond all that was measured")
    ours = detective.course_protocol("sr-x2")
    assert detective.convert("sr-x2", small, 31.2, ours) == (31.2, "the same protocol")


@pytest.fixture(scope="module")
def measured():
    """The errors of each task and set, measured once."""
    measure = detective.errors
    known = functools.cache(lambda task, *files: measure(files, task))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            detective, "errors", lambda f, t, *rest, **how: measure(f, t, *rest, **how) if rest else known(t, *f)
        )
        yield


def claims(row: pd.Series) -> list[Claim]:
    sets = row["sets"].split(",")
    scores = [map(float, row[name].split(",")) for name in ("psnr", "ssim") if isinstance(row[name], str)]
    try:
        return [Claim(*each) for each in zip(sets, map(datasets.folder, sets), *scores, strict=True)]
    except CourseError as why:
        pytest.skip(str(why))


DEAR = BASELINES["ssim"].notna() | BASELINES["sets"].str.contains("BSD100")  # half a minute each
ROWS = [
    pytest.param(i, id=row["source"], marks=pytest.mark.dear if DEAR[i] else pytest.mark.slow)
    for i, row in BASELINES.iterrows()
]


@pytest.mark.parametrize("index", ROWS)
def test_published_baselines_lead_to_the_protocol_that_their_source_states(measured, index):
    """`place` is where the first candidate stands that agrees with all that the source states."""
    row = BASELINES.loc[index]
    found = detective.detect(row["task"], claims(row))
    stated = {name: row[name] for name in STATED if isinstance(row[name], str) and name in found}
    agrees = (found[list(stated)].astype(str) == pd.Series(stated)).all(axis=1).to_numpy()
    assert agrees.any() and agrees.argmax() + 1 == int(row["place"])


def test_the_table_of_baselines_holds_what_is_said_of_it():
    assert len(BASELINES) == 15 and (BASELINES["place"] == "1").all()
    assert BASELINES["source"].str.partition(" (")[0].nunique() == 11
    told = (DOCS / "own.md").read_text(encoding="utf-8")
    assert "fifteen published baselines" in told and "from eleven papers and repositories. Each time" in told
    assert BASELINES["source"].is_unique and BASELINES["known from"].notna().all()
    known = [detective.LUMAS, detective.DEPTHS, detective.PICTURES, metrics.WINDOWS]
    for name, words in zip(("luma", "depth", "pictures", "window"), known, strict=True):
        assert set(BASELINES[name].dropna()) <= set(words)


def test_the_command_prints_candidates_a_verdict_and_a_conversion(small, capsys):
    assert run("detect", "sr-x2", "--sets", small[0].parent, "--psnr", "30", "--also", "31") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["made", "luma", "depth", "border"] and len(lines) >= 11
    assert re.match(r"31\.00 dB by candidate [12] is about \d+\.\d\d dB by this course's protocol: ", lines[-1])


def test_a_number_stands_for_all_that_is_rounded_to_it(small):
    psnr = evaluation.evaluate("sr-x2", small, ["bicubic"], progress=False)[0]["psnr"].mean()
    fitting = []
    for digits in (0, 1, 3):
        printed = f"{psnr:.{digits}f}"
        found = detective.detect("sr-x2", [Claim("set", small, Decimal(printed))])
        close = (found["set"] - float(printed)).abs() < 0.5 * 10.0**-digits
        assert ((found["distance"] == 0) == close).all() and found.iloc[0]["made"] == "MATLAB, Pillow"
        fitting.append(close.sum())
    assert fitting[0] > fitting[1] > fitting[2] >= 1


def test_published_figures_say_whether_their_luma_was_rounded():
    """Newer figures have a file of their own, with sources; neither file repeats the other."""
    old, new = (pd.read_csv(DOCS / name) for name in ("published.csv", "published_since_2018.csv"))
    assert set(old["luma"]) == {"rounded", "unrounded", "gray", "not stated"}
    assert set(new["luma"]) <= {*old["luma"], "RGB", "full-range"} and new["source"].notna().all()
    keys = ["task", "method", "dataset"]
    assert not set(old[keys].itertuples(index=False)) & set(new[keys].itertuples(index=False))
    assert not new.duplicated([*keys, "bpp"]).any() and new["psnr"].between(20, 45).all()
    for table in (old, new):
        assert (table["luma"] == "gray").equals(table["dataset"].isin(["Classic5", "Set11"]))
