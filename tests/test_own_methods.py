"""Methods of a learner's own in `evaluate`: the same rows as built-in ones, and one sentence for each thing amiss."""

import math
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import photograph, pictures, recipe, shipped

from helpers import CourseError, baselines, datasets, degradations, images, own, zoo
from helpers.__main__ import main
from helpers.evaluation import evaluate

DOCS = Path(__file__).resolve().parent.parent / "docs"
FILE = """
from helpers import images, zoo

def restore(given):
    return zoo.load("good-x2").restore(given)

def fussy(given):
    if given.shape[-1] == 30:
        raise KeyError("no such picture\\nat all")
    return restore(given)
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Nine pictures, of which the seventh has another size; a small zoo; a file of functions."""
    monkeypatch.setattr(zoo, "WEIGHTS", shipped(tmp_path / "weights", recipe("good-x2")))
    monkeypatch.chdir(tmp_path)
    folder = pictures(tmp_path / "set", count=9)
    images.save(folder / "006.png", photograph(48, 60, seed=6))
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "script.py").write_text("import sys; sys.exit('usage: script.py')")
    return images.listing(folder)


def same(table, one: str, other: str) -> bool:
    """Whether two methods have the same scores, to the last digit."""
    rows = [table[table["method"] == name].drop(columns=["method", "seconds", "parameters"]) for name in (one, other)]
    return len(rows[0]) > 0 and rows[0].reset_index(drop=True).equals(rows[1].reset_index(drop=True))


@pytest.mark.parametrize("unrounded", [False, True])
def test_a_function_gives_the_row_of_the_network_that_does_the_same(files, unrounded):
    network = zoo.load("good-x2")
    float_one = lambda given: network.restore(images.to_float(given))  # noqa: E731
    methods = {"good-x2": None, "mine": network.restore, "float": float_one, "network": network}
    table, failures = evaluate("sr-x2", files[:2], methods, progress=False, unrounded=unrounded)
    if unrounded:  # a function's Y is clipped before colours are added, which a network's is not
        column = table.pop("psnr_unrounded").to_numpy().reshape(2, 4)
        assert column == pytest.approx(column[:, :1].repeat(4, 1), abs=0.05)
    assert failures == [] and all(same(table, "good-x2", name) for name in ("mine", "float", "network"))
    table, _ = evaluate("sr-x2", files[:2], ["good-x2", "mine.py:restore"], progress=False)
    assert same(table, "good-x2", "mine.py:restore") and "psnr_unrounded" not in table


def test_the_unrounded_column_is_that_of_an_rgb_picture_whose_luma_is_not_rounded(files):
    table, _ = evaluate("sr-x2", files[:1], ["good-x2", "bicubic"], progress=False, unrounded=True)
    clean = images.load_uint8(files[0]).double()
    small = degradations.downscale(clean, 2).clamp(0, 255).round()
    large = {"bicubic": degradations.upscale(small, 2).clamp(0, 255).round()}
    large["good-x2"] = zoo.load("good-x2").restore(small.to(torch.uint8)).double()
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.double) / 255
    for method, picture in large.items():
        error = torch.einsum("c,chw->hw", weights, picture - clean)[2:-2, 2:-2].square().mean()
        found = table.set_index("method").loc[method, "psnr_unrounded"]
        assert found == pytest.approx(10 * math.log10(255**2 / error), abs=2e-3)
    rounded = table.set_index("method")["psnr"]
    assert (table.set_index("method")["psnr_unrounded"] != rounded).all()
    gray = images.save("gray.png", photograph(48, 56, 1))  # read as RGB there, and so its Y goes from 16 to 235
    row = evaluate("sr-x2", [gray], ["bicubic"], progress=False, unrounded=True)[0].iloc[0]
    assert row["psnr_unrounded"] == pytest.approx(row["psnr"] + 20 * math.log10(255 / 219), abs=1e-3)


def up(given: torch.Tensor) -> torch.Tensor:
    return degradations.upscale(images.to_float(given), 2).clamp(0, 1)


def of_colour(function: Callable) -> Callable:
    function.channels = 3
    return function


WRONG = [
    (lambda given: images.to_float(given), r"a picture of \(1, 24, 28\) where \(1, 48, 56\) is wanted"),
    (lambda given: 255 * up(given), r"has values in \[0, 1\], and this one has"),
    (lambda given: up(given) * math.nan, "nan to nan"),
    (lambda given: up(given).numpy(), "a picture is a tensor"),
    (lambda given: (255 * up(given)).int(), r"float in \[0, 1\] or uint8, not torch.int32"),
    (lambda: None, r"it raised TypeError: .* takes 0 positional arguments"),
    (torch.no_grad()(lambda given: up(given)[9]), r"it raised IndexError \(test_own_methods.py, line \d+\): index 9"),
    (lambda given: up(given)[9], r"it raised IndexError \(test_own_methods.py, line \d+\): index 9 is out of bounds"),
]


@pytest.mark.parametrize(("function", "message"), WRONG)
def test_what_a_function_does_wrong_is_a_sentence_and_the_rest_is_measured(files, function, message):
    table, failures = evaluate("sr-x2", files[:2], {"wrong": function, "bicubic": None}, progress=False)
    assert list(table["method"]) == ["bicubic"] * 2
    for path, line in zip(files[:2], failures, strict=True):
        assert line.startswith(f"{path}: wrong: it ") and "\n" not in line
        assert re.search(message, line)


def test_one_picture_that_a_function_fails_on_is_told_with_exit_code_2(files, capsys):
    line = "evaluate sr-x2 --images set --methods bicubic,mine.py:fussy --out out.csv --quiet"
    assert main(line.split()) == 2
    said = capsys.readouterr()
    skipped, warning = said.err.splitlines()
    why = "it raised KeyError (mine.py, line 9): 'no such picture\\nat all'"
    assert skipped == f"skipped: set/006.png: mine.py:fussy: {why}"
    assert warning.startswith("warning: mine.py:fussy has 8 of 9 pictures of set, sr-x2;")
    rows = pd.read_csv("out.csv")
    assert dict(rows["method"].value_counts()) == {"bicubic": 9, "mine.py:fussy": 8}
    assert all(f"{mean:.2f}" in said.out for mean in rows.groupby("method")["psnr"].mean())


def test_a_file_of_results_belongs_to_the_longest_name_that_it_begins_with(files):
    folder = files[0].parent
    cat, other = folder / "cat.png", folder / "cat-2.png"
    for seed, path in enumerate((cat, other)):
        images.save(path, photograph(48, 56, 1, seed))
    (folder.parent / "made").mkdir()
    for name, picture in (("cat_x2.png", cat), ("cat-2_x2.png", other)):
        images.save(folder.parent / "made" / name, images.load_uint8(picture))
    table, failures = evaluate("sr-x2", [cat, other], {"made": folder.parent / "made"}, progress=False)
    assert not failures and list(table["psnr"]) == [math.inf] * 2
    (folder.parent / "made/cat_x2.png").unlink()
    table, failures = evaluate("sr-x2", [cat, other], {"made": folder.parent / "made"}, progress=False)
    assert list(table["image"]) == ["cat-2.png"] and "no pictures in" in failures[0]


@pytest.mark.parametrize("neighbour", ["net.py", "net/__init__.py", "parts/net/__init__.py"])
def test_two_files_may_have_neighbours_of_one_name(files, neighbour):
    for name, factor in (("one", 1.0), ("two", 0.5)):
        Path(name, neighbour).parent.mkdir(parents=True)
        Path(name, neighbour).write_text(f"FACTOR = {factor}\nclass Thing: pass\n")
        module = ".".join(Path(neighbour).with_suffix("").parts).removesuffix(".__init__")
        Path(name, "mine.py").write_text(f"from {module} import FACTOR, Thing\nMADE = Thing()\n")
    assert own.find("one/mine.py", "FACTOR") == 1 and own.find("two/mine.py", "FACTOR") == 0.5
    assert own.find("one/mine.py", "FACTOR") == 1
    assert isinstance(pickle.loads(pickle.dumps(made := own.find("one/mine.py", "MADE"))), type(made))


REFUSED = """
sr-x2 | mine.py:absent | mine.py has no absent; it has restore, fussy.
sr-x2 | none.py:restore | none.py:restore: it cannot be loaded \\(FileNotFoundError: No such file
sr-x2 | script.py:restore | script.py:restore: it cannot be loaded
sr-x2 | no.such.module:restore | no.such.module:restore: it cannot be loaded
sr-x2 | mine.py:zoo | sr-x2 wants a function, not module
codec | mine.py:restore | codec wants a pair \\(encode, decode\\), not function
cs-10 | mine.py:restore | cs-10 wants a pair \\(sense, recover\\), not function
"""


@pytest.mark.parametrize("row", REFUSED.strip().splitlines())
def test_what_cannot_be_a_method_is_refused_before_any_picture(files, row):
    task, method, message = row.split(" | ")
    with pytest.raises(CourseError, match=message):
        evaluate(task, files, [method], progress=False)


def test_a_colour_function_is_given_colour(files):
    seen = []
    restore = of_colour(lambda given: seen.append(len(given)) or up(given))
    gray = images.save("gray.png", photograph(48, 56, 1))
    table, failures = evaluate("sr-x2", [files[0], gray], {"colour": restore, "bicubic": None}, progress=False)
    assert not failures and set(seen) == {3}
    assert same(table[table["image"] == "gray.png"], "colour", "bicubic")


def test_what_an_rgb_function_makes_of_a_gray_picture_is_rounded_once():
    """As of a network: the mean of its three channels, not of three that were rounded."""
    gray, gains = images.to_uint8(photograph(48, 56, 1)), torch.tensor([0.334, 0.334, 0.337]).view(3, 1, 1)
    restore = of_colour(lambda given: up(given) * gains)
    wanted = images.to_uint8(restore(images.as_rgb(gray)).mean(0, keepdim=True))
    assert torch.equal(own.Function(restore, 2).restore(gray), wanted)


def test_a_module_here_and_the_neighbours_of_a_file_are_found(files, monkeypatch):
    monkeypatch.setattr("sys.path", [place for place in sys.path if place not in ("", str(Path.cwd()))])
    Path("beside.py").write_text("def restore(given): return given")
    Path("far").mkdir()
    Path("far/neighbour.py").write_text("from helpers.baselines import METHODS")
    Path("far/own.py").write_text("import neighbour\ndef restore(given): return neighbour")
    for place in ("beside", "beside.py", "far/own.py"):
        assert callable(own.find(place, "restore"))


def test_panels_of_two_functions_of_a_file_have_names_of_their_own(files):
    evaluate("sr-x2", files[:1], ["mine.py:restore", "mine.py:fussy", "good-x2"], progress=False, panels="p")
    names = {path.name for path in Path("p").iterdir()}
    assert names == {"000-mine.py-restore.png", "000-mine.py-fussy.png", "000-good-x2.png"}


def test_a_float_picture_comes_back_as_one():
    for channels in (1, 3):
        made = own.Function(up, 2).restore(photograph(48, 56, channels))
        assert made.dtype == torch.float32 and made.shape == (channels, 96, 112)


# ------------------------------------------------------------------------------------- pairs, folders


def test_a_pair_is_a_codec(tmp_path):
    path = images.save(tmp_path / "one.png", photograph(180, 190))
    pair = (lambda picture, quality: baselines.file_bytes(picture, "jpeg", quality), degradations.decode)
    table, failures = evaluate("codec", [path], {"mine": pair, "jpeg": None}, progress=False)
    mine, jpeg = (table[table["method"] == name].set_index("setting") for name in ("mine", "jpeg"))
    assert not failures and list(mine.index) == [10, 30, 50, 70, 90]
    assert (mine.loc[[10, 50], ["psnr", "bpp"]] == jpeg.loc[[10, 50], ["psnr", "bpp"]]).all(axis=None)

    def fragile(picture, quality):
        return pair[0](picture, quality) if quality < 90 else 1 / 0

    table, failures = evaluate("codec", [path], {"fragile": (fragile, pair[1])}, progress=False)
    assert len(failures) == 1 and "ZeroDivisionError" in failures[0] and table.empty
    wrong = {"no bytes": (lambda x, _: x, degradations.decode), "small": (pair[0], lambda _: up(photograph()))}
    _, failures = evaluate("codec", [path], wrong, progress=False)
    assert "no bytes: its encode() returned Tensor where bytes are wanted" in failures[0]
    assert "small: it returned a picture of" in failures[1]


def test_a_codec_beyond_all_rates_is_told_which_settings_it_was_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images.save("one.png", photograph(180, 190))
    read = "torch.tensor(list(data), dtype=torch.uint8).view(3, 180, 190)"
    pair = f"(lambda picture, _: picture.numpy().tobytes(), lambda data: {read})"
    Path("raw.py").write_text(f"import torch\nmine = {pair}\n")
    assert main("evaluate codec --images . --methods raw.py:mine --quiet".split()) == 0
    said = capsys.readouterr().out
    assert "NaN: no file is as small" in said and "asked for the settings 10, 30, 50, 70, 90: let" in said


def test_a_pair_senses(tmp_path):
    path = images.save(tmp_path / "one.png", photograph(40, 48, 1))
    pair = lambda x, ratio: x[:, ::4, ::3].clone(), lambda y, size: torch.full((1, *size), 0.5)  # noqa: E731
    table, failures = evaluate("cs-10", [path], {"mine": pair}, progress=False)
    assert not failures and table["measured"][0] == pytest.approx(10 * 16 / (40 * 48))
    _, failures = evaluate("cs-10", [path], {"mine": (lambda x, ratio: b"", pair[1])}, progress=False)
    assert "its sense() returned bytes where a tensor is wanted" in failures[0]


def test_a_folder_of_restored_pictures_is_a_method(files, capsys):
    """By the same name or one that begins with it; one that is missing, doubled or of another size is told."""
    network = zoo.load("good-x2")
    Path("made").mkdir()
    for place, path in enumerate(files[1:6]):
        restored = network.restore(degradations.for_task("sr-x2")(images.load_uint8(path)))
        images.save(f"made/{path.stem}{'_x2' * (place % 2)}.png", restored)
    methods = {"made": Path("made"), "same": of_colour(lambda given: network.restore(given))}
    rows, failures = evaluate("sr-x2", files[1:6], methods, progress=False)
    assert not failures and same(rows, "made", "same") and rows["seconds"].isna().sum() == 5
    images.save("made/006.png", photograph(20, 20))
    images.save("made/007_a.png", photograph(48, 56)), images.save("made/007_b.png", photograph(48, 56))
    assert main("evaluate sr-x2 --images set --results made --quiet".split()) == 2
    lines = capsys.readouterr().err.splitlines()
    sizes = "it returned a picture of (3, 20, 20) where (3, 48, 60)"
    told = ["no pictures in made are called 000", sizes, "2 pictures in made", "no"]
    assert len(lines) == 4 and all(f"made: {words}" in line for words, line in zip(told, lines, strict=True))


def test_a_gray_result_that_was_stored_as_rgb_is_gray(tmp_path):
    path = images.save(tmp_path / "one.png", photograph(40, 48, 1))
    (tmp_path / "made").mkdir()
    images.save(tmp_path / "made" / "one.png", photograph(40, 48, 1, seed=1).expand(3, -1, -1))
    table, _ = evaluate("jpeg-q10", [path], {"made": tmp_path / "made"}, progress=False)
    pair = (images.to_uint8(photograph(40, 48, 1, seed=s)).double() for s in (0, 1))
    error = (next(pair) - next(pair)).square().mean()
    assert table["psnr"][0] == pytest.approx(10 * math.log10(255**2 / error))


@pytest.mark.slow
def test_the_results_tell_the_unrounded_psnr_of_our_networks():
    try:
        files = datasets.folder("Set5")
    except CourseError as why:
        pytest.skip(str(why))
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    told = re.search(r"measured so, ours have ([\d.]+), ([\d.]+) and ([\d.]+) dB", page).groups()
    for scale, number in zip((2, 3, 4), told, strict=True):
        table, _ = evaluate(f"sr-x{scale}", files, [f"edsr-x{scale}"], progress=False, unrounded=True)
        assert f"{table['psnr_unrounded'].mean():.2f}" == number


def test_the_example_of_the_guide_is_bicubic(files):
    """The function of docs/own.md, run as it stands there at x3."""
    guide = (DOCS / "own.md").read_text(encoding="utf-8")
    Path("guide.py").write_text(re.search(r"```python\n(.*?)```", guide, re.DOTALL)[1])
    table, failures = evaluate("sr-x3", files[:2], ["bicubic", "guide.py:restore"], progress=False)
    assert not failures and same(table, "bicubic", "guide.py:restore")
