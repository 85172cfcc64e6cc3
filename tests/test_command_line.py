"""The command line as its users meet it: what it does, and each refusal as (command line, sentence)."""

import csv
import dataclasses
import errno
import io
import itertools
import json
import os
import re
import shutil
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest import mock

import pytest
import torch
from builders import fresh, photograph, pictures, recipe, shipped, tree
from PIL import Image
from test_environment import python

from helpers import __main__ as command
from helpers import codec, images, models, recipes, sensing, zoo
from helpers.service.files import sha256
from helpers.training import Plan

ROOT = Path(command.__file__).resolve().parent.parent
FRESH = {  # networks without training, by the names of the course's: a codec, a sensor, a restorer that adds nothing
    codec.DEFAULT: ("codec", {"kind": "transform", "hidden": 4}),
    sensing.DEFAULT: ("cs", {"kind": "rescsnet-any", "width": 4, "stages": 1, "blocks": 1}),
    "blind": ("jpeg", {"kind": "drunet", "widths": (4, 4), "blocks": (1, 1, 1)}),
}
CHANGES = {  # of a tiny recipe, by the names of others
    "tiny-x2": {},
    "other-x2": {"network": recipe().network | {"width": 5}},
    "wide-x2": {"patch": 30},
    "later-x2": {"start_from": "good-x2", "plan": Plan(1, 1e-30, averaging=0)},
    "lost-x2": {"sets": ("Nowhere",)},
    "chosen-x2": {"validation": "Elsewhere"},
    "orphan-x2": {"start_from": "absent-x3"},
    "second-x2": {"start_from": "tiny-x2"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a small zoo, a set of pictures, and files whole, broken and foreign."""
    place = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    shipped(place / "weights", recipe("good-x2"), recipe("one-x3", 3))
    fresh(place / "weights", FRESH)
    pictures(place / "set", count=24, height=32, width=36)
    pictures(place / "few", count=1)
    pictures(place / "tiny", count=1, height=16, width=16)
    images.save(place / "in.png", photograph(20, 24))
    images.save(place / "long.png", torch.zeros(1, 1, 17_000))
    images.save(place / "line.png", torch.zeros(1, 1, 8_200))
    (place / "a-dir").mkdir()
    (place / "loop").symlink_to("loop")
    (place / "link.png").symlink_to("in.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "WEIGHTS", place / "weights")
        codec._load.cache_clear()
        files = {"bic": codec.compress(photograph(20, 24)), "npz": sensing.sense(photograph(20, 24), 0.1)}
        (place / "long.npz").write_bytes(sensing.sense(torch.zeros(3, 8, 17_000), 0.1))
    files["png"] = (place / "few" / "000.png").read_bytes()
    for kind, data in files.items():
        (place / f"good.{kind}").write_bytes(data)
        (place / f"half.{kind}").write_bytes(data[: len(data) // 2 + 20])
    (place / "text.jpg").write_bytes(b"hello world\n" * 10)
    for name in ("text.csv", "one.zip"):
        (place / name).write_text("hello,world\n1,2\n")
    (place / "empty.csv").write_text("task,dataset,image,method,psnr\n")
    (place / "bytes.csv").write_bytes(bytes(range(128, 256)))
    for name, more, score in (("one", "", "30"), ("words", "", "high"), ("codec", ",setting", "30,1")):
        row = f"task,dataset,image,method,psnr{more}\nsr-x3,set,0.png,a,{score}\n"
        (place / f"{name}.csv").write_text(row)
    return place


@pytest.fixture
def place(home, tmp_path, monkeypatch):
    """A copy of it to work in: its zoo, and tiny recipes beside those of the course."""
    place = Path(shutil.copytree(home, tmp_path / "place", symlinks=True))
    tiny = {name: dataclasses.replace(recipe(sets=("set",)), name=name, **more) for name, more in CHANGES.items()}
    monkeypatch.setattr(recipes, "RECIPES", tiny | recipes.RECIPES)
    monkeypatch.setattr(zoo, "WEIGHTS", place / "weights")
    monkeypatch.setenv("COURSE_DATA", str(place / "sets"))
    monkeypatch.chdir(place)
    codec._load.cache_clear()
    yield place
    codec._load.cache_clear()


def run(*arguments) -> int:
    try:
        return command.main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def refused(place: Path, capsys, *arguments) -> str:
    """Run what must be refused: code 2, one line on stderr, and no file made or changed. Returns the line."""
    before = tree(place)
    capsys.readouterr()
    assert run(*arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and len(line) > 20
    assert "[Errno" not in line and ".part" not in line
    assert tree(place) == before
    return line


# -------------------------------------------------------------------------------------------- refusals

REFUSED = """
paint | invalid choice: 'paint'
restore none.png out.png --task sr-x2 | none.png: no such file
restore text.jpg out.png --task sr-x2 | text.jpg | not a picture
restore half.png out.png --task sr-x2 | half.png | truncated
restore in.png out.png --task sr-x7 | sr-x7 | sr-x2, sr-x3, sr-x4, deblock-q20
restore in.png out.png --task sr-x2 --model vgg | vgg | good-x2
restore in.png out.png --task sr-x2 --model one-x3 | one-x3 | sr-x3 | good-x2
restore in.png out.png --task sr-x4 | there is no network for sr-x4 yet
restore in.png out.png --task sr-x2 --device nonsense | device 'nonsense' is not there
restore in.png out.png --task sr-x2 --tile 8 | --tile | 16 or more
restore in.png out.png --task sr-x2 --quality 90 | out.png | quality | .jpg
restore in.png out.jpg --task sr-x2 --quality 101 | --quality | from 1 to 100
restore in.png out.png | --task
restore long.png out.webp --task sr-x2 | 34000x2 | 30,000
restore line.png out.webp --task sr-x2 | out.webp | 16400x2 | 16,383 | PNG
restore in.png out.png --task codec | `compress`
restore in.png out.png --task codec-detail | it is part of a codec
restore in.png out.png --task cs-10 | `sense` and `recover`
restore in.png link.png --task sr-x2 | is the input itself
restore in.png link.png --task sr-x2 --overwrite | is the input itself
restore in.png few/000.png --task sr-x2 | few/000.png: that is there already; name another output, or replace it
restore in.png out.png --task sr-x2 --resume --overwrite | not allowed with
evaluate sr-x9 --images set | 'sr-x9' | sr-x2
evaluate sr-x2 --images few --methods vgg --panels new | 'vgg' is no method for sr-x2; there are bicubic | good-x2
evaluate sr-x2 --images few --methods one-x3 --panels new | 'one-x3' solves sr-x3, not sr-x2 | good-x2
evaluate codec --images few --methods sensed | 'sensed' is no method for codec; there are jpeg
evaluate codec --images few --methods good-x2 | is no codec
evaluate cs --images set | measures no ratio | cs-01 to cs-25
evaluate sr-x2 --images Set99 | the set 'Set99' is not there | COURSE_DATA
evaluate sr-x2 --images weights | weights: no folder with pictures in it
evaluate sr-x2 --images few --methods bicubic, | has an empty name
evaluate sr-x2 --images few --results few, | has an empty name
evaluate sr-x2 --images few --methods few --results few | two methods would have one name
evaluate sr-x2 --images few --out a-dir | a-dir: that is a folder
evaluate sr-x2 --images few --panels in.png | in.png: file exists
evaluate sr-x2 | --images
benchmark sr-x9 | 'sr-x9' | sr-x2 | costs
download DIV9K | 'DIV9K'; there are standard, training
publish set | set: not the folder of a finished training
train vgg | vgg | tiny-x2
train tiny-x2 absent-x2 | 'absent-x2'
train tiny-x2 lost-x2 | 'Nowhere' is not there
train tiny-x2 chosen-x2 | 'Elsewhere' is not there
train orphan-x2 | absent-x3 | good-x2
train tiny-x2 --sets weights | weights: no folder with pictures in it
train tiny-x2 --sets set, | has an empty name
train tiny-x2 --steps -4 | --steps | 1 or more
train tiny-x2 --steps 4 --epochs 1 | --epochs | not allowed with | --steps
train tiny-x2 --batch 100000000 | --batch | from 1 to 65536
train tiny-x2 --batch 2 --global-batch 4 | not allowed with
train tiny-x2 --start set | no network is called 'set'
train tiny-x2 --resume --overwrite | not allowed with
train tiny-x2 --what | unrecognized arguments: --what (python -m helpers train --help says more)
train tiny-x2 --seed -1 | '-1' where a whole number of 0 or more is wanted
train rescsnet-any --ratio 0.1 --sets set | rescsnet-any has no ratio
train second-x2 | second-x2 begins with tiny-x2, which is not shipped: train tiny-x2 second-x2, or give
compress in.png out.png | end the name in .bic
compress in.png out.bic --rate 0.001 | 0.001 bits per pixel are too few
compress in.png out.bic --quality 5 --rate 1 | not allowed with
compress in.png out.bic --model fitted --rate 0.3 | a fitted codec is asked for a quality
compress in.png out.bic --rate nan | 'nan' where a number above 0
compress in.png out.bic --psnr=-3 | '-3' where a number above 0
compress in.png out.bic --rate much | 'much' where a number above 0
decompress in.png out.png | in.png: not a .bic file
decompress half.bic out.png | half.bic: the file is damaged or truncated
sense in.png out.png | end the name in .npz
sense in.png out.npz --ratio 0.5 | up to 0.25
sense in.png out.npz --bits 2.5 | '2.5' where a whole number
compress in.png good.bic | good.bic: that is there already
sense in.png good.npz | good.npz: that is there already
restore missing.png in.png --task sr-x2 | missing.png: no such file
restore missing.png in.png --task sr-x2 --resume | missing.png: no such file
recover missing.npz in.png | missing.npz: no such file
evaluate sr-x2 --images few --out out.png | out.png: end the name in .csv
evaluate sr-x2 --images few --out text.csv | text.csv: that is there already; name another output, or
evaluate codec --images few --results few | of a codec the files are measured
recover in.png out.png | in.png: not a whole file of measurements
decompress good.bic in.png | in.png: that is there already; name another output, or replace it by --overwrite
recover good.npz in.png | in.png: that is there already
recover long.npz out.webp | error: out.webp: WEBP holds at most 16,383 pixels a side, not 17000x8
recover half.npz out.png | half.npz: not a whole file of measurements
rank text.csv | text.csv: not a table of psnr
rank bytes.csv | bytes.csv: not a table of psnr
rank words.csv | words.csv: not a table of psnr
rank codec.csv | codec.csv: codecs are compared by BD-rate
rank one.csv | sr-x3, set: the methods share 1 pictures with a psnr that is a number; at least two
rank one.csv --score beauty | --score beauty: rank by one of psnr,
rank one.csv --score ssim | one.csv: not a table of ssim
rank one.csv --figure out.xyz | out.xyz: end the name in .png
rank one.csv --figure none/out.png | none does not exist
detect sr-x9 --sets set --psnr 30 | unknown task 'sr-x9'
detect cs-10 --sets set --psnr 30 | cs-10 has no baseline that could tell; ask about sr-x2
detect sr-x2 --sets set --psnr 30,31 | --sets, --psnr and --ssim go together
detect sr-x2 --sets set,set --psnr 30,31 --ssim 0.9 | --sets, --psnr and --ssim go together
detect sr-x2 --sets set,./set --psnr 30,31 | two sets would have one name
detect sr-x2 --sets set --psnr 30 --ssim 81.03 | an SSIM is at most 1
evaluate jpeg-q10 --images few --unrounded | for super-resolution alone
restore in.png out.png --task jpeg-foo | unknown task 'jpeg-foo'
restore in.png out.png --task sr-x2 --model no/such.json | no/such.json: no such file
decompress good.bic out.png --model blind | 'blind' is no codec
detect sr-x2 --sets set --psnr many | 'many' where numbers with commas
rank empty.csv | empty.csv: not a table of psnr
restore in.png out.png --task deblock-q30 | name one of sr-x2, sr-x3, sr-x4, deblock-q20, jpeg.
rank one.zip | one.zip: not a table of psnr
detect sr-x2 --sets set --psnr nan | 'nan' where numbers
detect sr-x2 --sets tiny --psnr 30 | 16x16 pixels are too few
"""
ROWS = [[part.strip() for part in row.split(" | ")] for row in REFUSED.strip("\n").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_a_command_that_cannot_be_done_is_refused_in_a_sentence(place, capsys, row):
    arguments, *hints = row
    line = refused(place, capsys, *arguments.split())
    assert all(hint in line for hint in hints), line


READING = """
restore X out.png --task sr-x2
restore in.png out.png --task sr-x2 --model X
compress X out.bic
decompress X out.png
sense X out.npz
recover X out.png
evaluate sr-x2 --images X
evaluate sr-x2 --images few --quiet --results X
rank X
detect sr-x2 --psnr 30 --sets X
publish X
train tiny-x2 --quiet --sets X
train tiny-x2 --quiet --start X
"""
WRITING = """
restore in.png X.png --task sr-x2 --overwrite
compress in.png X.bic
sense in.png X.npz
decompress good.bic X.png
recover good.npz X.png
evaluate sr-x2 --images few --methods bicubic --quiet --overwrite --out X.csv
"""


@pytest.mark.parametrize("line", READING.strip().splitlines())
@pytest.mark.parametrize("given", ["a-dir", "missing", "in.png/x", "loop", "x" * 300, "~no-such-user/x"])
def test_what_is_no_file_to_read_is_named(place, capsys, line, given):
    said = refused(place, capsys, *line.replace("X", given).split())
    assert given in said and "damaged" not in said


@pytest.mark.parametrize("line", WRITING.strip().splitlines())
@pytest.mark.parametrize("given", ["none/x", "in.png/x", "loop/x", "x" * 300])
def test_what_is_no_place_to_write_is_named(place, capsys, line, given):
    assert given in refused(place, capsys, *line.replace("X", given).split())


@pytest.mark.parametrize("where", ["open", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("line", WRITING.strip().splitlines()[::5])  # pictures, and tables
def test_a_full_or_closed_disk_leaves_nothing_behind(place, capsys, monkeypatch, where, code, line):
    for name in ("old.csv", "old.png"):
        (place / name).write_text("old")

    def refuse(path, *_, **__):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, where, refuse)
    said = refused(place, capsys, *line.replace("X", "old").split())
    assert ("disk is full" in said) == (code == errno.ENOSPC) and "old" in said


FULL = {
    "Python": MemoryError(),
    "a CPU": lambda *_, **__: torch.empty(1 << 55),
    "CUDA": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "the system": OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
}


@pytest.mark.parametrize("full", FULL.values(), ids=FULL)
def test_a_full_memory_is_a_sentence(place, capsys, monkeypatch, full):
    monkeypatch.setattr(models.Restorer, "restore", mock.Mock(side_effect=full))
    for line in ("restore in.png out.png --task sr-x2 --quiet", "evaluate sr-x2 --images few --quiet"):
        assert "memory is full" in refused(place, capsys, *line.split())


def test_a_bug_keeps_its_traceback(place, monkeypatch):
    monkeypatch.setattr(models.Restorer, "restore", lambda *_, **__: torch.zeros(2, 3) @ torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="mat1"):
        run(*"restore in.png out.png --task sr-x2 --quiet".split())


def test_restoration_is_the_same_command_by_a_name_of_its_own(place, monkeypatch, capsys):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [(name, function)] = re.findall(r'^\[project\.scripts\]\n(\w+) = "(.+)"$', text, re.MULTILINE)
    main = EntryPoint(name, function, "console_scripts").load()
    monkeypatch.setattr("sys.argv", [f"bin/{name}", "train"])
    assert name == "restoration" and main() == 0
    assert "tiny-x2" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["restore"])
    assert "(restoration restore --help says more)" in capsys.readouterr().err


def test_a_process_ends_with_one_line(tmp_path):
    done = python(*"-m helpers evaluate sr-x2 --images Set99".split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the set 'Set99' is not there") and done.stderr.count("\n") == 1


def test_a_python_without_a_package_is_told(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    said = refused(place, capsys, "networks")
    assert said == "error: this Python has no pandas; run make setup, then source .venv/bin/activate."


# --------------------------------------------------------------------------------------------- restore


RESTORED = [("--tile 16", "out.png", "good-x2"), ("--tile 16 --quality 30", "out.jpg", "good-x2")]
RESTORED += [("--model good-x2 --ensemble", "out.png", "good-x2+")]


@pytest.mark.parametrize(("more", "out", "by"), RESTORED)
def test_restore_writes_the_networks_picture(place, capsys, more, out, by):
    before = set(tree(place))
    assert run("restore", "in.png", out, "--task", "sr-x2", "--quiet", *more.split()) == 0
    assert capsys.readouterr() == (f"{out}: 48x40 pixels, by {by}\n", "")
    assert set(tree(place)) - before == {out}
    picture = zoo.load_for(by, "sr-x2").restore(images.load_uint8("in.png"), 16 if "tile" in more else 0)
    expected = images.save(f"expected-{out}", picture, 30 if "quality" in more else None)
    assert Path(out).read_bytes() == expected.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_a_table_holds_names_that_are_no_text(place, capsys):
    Path("bytes").mkdir()
    for name in (b"\xe9.png", b"b.png"):
        shutil.copy(next(Path("set").iterdir()), os.path.join(b"bytes", name))
    assert run(*"evaluate sr-x2 --images bytes --methods bicubic,good-x2 --out named.csv --quiet".split()) == 0
    assert b"\xe9.png" in Path("named.csv").read_bytes()
    assert run("rank", "named.csv") == 0


def test_a_name_that_the_output_cannot_write_costs_no_command(place, monkeypatch):
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    assert run(*"restore in.png ü\u65e5.png --task sr-x2 --quiet".split()) == 0
    plain.flush()
    assert plain.buffer.getvalue().startswith(rb"\xfc\u65e5.png: 48x40 pixels")


def test_restore_for_jpeg_says_when_nothing_was_to_mend(place, capsys):
    assert run(*"restore in.png out.png --task jpeg --quiet".split()) == 0
    assert "24x20 pixels, nothing changed" in capsys.readouterr().out
    images.to_pillow(photograph(80, 96)).save("fine.jpg", quality=98, subsampling="4:4:4", comment=b"mine")
    assert run(*"restore fine.jpg copy.jpg --task jpeg --quiet".split()) == 0  # the same bytes, not coded again
    assert open("copy.jpg", "rb").read() == open("fine.jpg", "rb").read()
    said = capsys.readouterr().out
    assert "nothing changed" in said and "left out" not in said
    assert run(*"restore fine.jpg other.jpg --task jpeg --quality 90 --quiet".split()) == 0
    assert "coded again: no trace of JPEG was found" in capsys.readouterr().out


# ---------------------------------------------------------------------------------- evaluate, check, list


def test_a_folder_called_by_a_dot_has_its_own_name_in_a_table(place, monkeypatch):
    monkeypatch.chdir("few")
    assert run(*"evaluate sr-x2 --images . --methods bicubic --results . --out ../t.csv --quiet".split()) == 0
    with open("../t.csv", newline="") as file:
        assert [(row["dataset"], row["method"]) for row in csv.DictReader(file)] == [("few", "bicubic"), ("few", "few")]


# ----------------------------------------------------------------------------------------------- train


def train(name: str, *more, out: str = "run") -> int:
    return run("train", name, "--out", out, "--device", "cpu", "--quiet", *more)


def weights(name: str, out: str) -> bytes:
    return Path(out, f"{name}.safetensors").read_bytes()


def card(name: str, out: str = "run") -> dict:
    return json.loads(Path(out, f"{name}.json").read_text())


def test_train_stop_resume_restore(place, capsys):
    """Stopped after a step and resumed, the weights are those of an unbroken training; then they restore."""
    assert train("tiny-x2", out="whole") == 0
    Path("run").mkdir()
    Path("run", "stop").touch()
    assert train("tiny-x2") == 0
    assert "stopped at step 1 of 4; the same command with --resume goes on" in capsys.readouterr().out
    for line, hints in (
        ("publish run", ["stopped at step 1 of 4"]),
        ("train tiny-x2 --out run", ["run/last.pt: a run is there already", "--resume", "--overwrite", "--out"]),
        ("train tiny-x2 --out run --quiet --resume --batch 3", ["last.pt: this run began with batch 2"]),
    ):
        said = refused(place, capsys, *line.split())
        assert all(hint in said for hint in hints)
    assert train("tiny-x2", "--resume") == 0
    assert weights("tiny-x2", "run") == weights("tiny-x2", "whole")
    about = card("tiny-x2")
    assert about["steps"] == about["recipe"]["plan"]["steps"] == 4
    assert set(about["data"]) == {"set"} and about["device"].startswith("cpu")
    assert about["pictures"] == {"drawn_from": 23, "too_small": 0, "held_out": 1}
    for name in ("tiny-x2.json", "tiny-x2.safetensors"):  # copied into the zoo by hand, it has no figures
        shutil.copy(Path("run", name), "weights")
    for model in ("run/tiny-x2.json", "tiny-x2"):
        assert run(*f"restore in.png out.png --task sr-x2 --model {model} --overwrite --quiet".split()) == 0
    assert images.load("out.png").shape == (3, 40, 48)


def test_train_begins_with_the_weights_that_it_is_told(place, capsys):
    """Those that its recipe names, or a file that a run kept; its card pins them."""
    assert train("later-x2") == 0  # a step that moves nothing
    given, made = zoo.load("good-x2").state_dict(), zoo.load("run/later-x2.json").state_dict()
    assert all(torch.equal(given[key], made[key]) for key in given)
    assert card("later-x2")["started_from"]["sha256"] == sha256(place / "weights" / "good-x2.safetensors")
    kept = Path("run", "step-0000001.safetensors")
    assert train("tiny-x2", "--start", kept, out="second") == 0
    assert card("tiny-x2", "second")["started_from"] == {"name": kept.name, "sha256": sha256(kept)}
    kept.write_bytes(b"half")
    assert f"{kept}: no file of weights" in refused(place, capsys, *f"train tiny-x2 --start {kept} --quiet".split())


def test_a_recipe_begins_with_the_stretch_before_it_of_the_same_queue_or_of_an_earlier_one(place, capsys):
    queue = "train tiny-x2 second-x2 --device cpu --quiet".split()
    assert run(*queue, "--out", "both") == 0
    first = place / "both" / "tiny-x2" / "tiny-x2.safetensors"
    begun = {"name": "tiny-x2", "sha256": sha256(first)}
    assert card("second-x2", "both/second-x2")["started_from"] == begun
    shutil.copytree("both/tiny-x2", "runs/tiny-x2")
    whole = Path("runs/tiny-x2/tiny-x2.json").read_text()
    Path("runs/tiny-x2/tiny-x2.json").write_text(whole.replace('"steps": 4', '"steps": 3', 1))
    assert "not trained to its end" in refused(place, capsys, *"train second-x2 --quiet".split())
    Path("runs/tiny-x2/tiny-x2.json").write_text(whole)
    assert train("second-x2") == 0 and card("second-x2")["started_from"] == begun


def test_train_shares_a_global_batch_among_processes(place, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    said = refused(place, capsys, *"train tiny-x2 --global-batch 4 --out third --quiet".split())
    assert "4 patches per step cannot be shared equally by 3 processes" in said


def test_train_leaves_out_what_is_too_small(place, capsys):
    images.save("set/000-first.png", torch.zeros(1, 1, 1))
    assert train("tiny-x2") == 0
    assert capsys.readouterr().err == "left out, smaller than 16 pixels a side: 1 of 25, the first set/000-first.png\n"
    assert card("tiny-x2")["pictures"] == {"drawn_from": 23, "too_small": 1, "held_out": 1}


def test_several_recipes_train_as_each_alone_however_often_they_are_stopped(place, capsys, monkeypatch):
    names = ("tiny-x2", "other-x2")
    queue = f"train {' '.join(names)} --device cpu --quiet".split()
    assert run(*queue, "--out", "whole") == 0
    for name in names:
        assert train(name, out=f"alone-{name}") == 0
        assert weights(name, f"whole/{name}") == weights(name, f"alone-{name}")
    clock = itertools.count(step=20)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    assert run(*queue, "--minutes", 1) == 0
    said = capsys.readouterr().out
    assert "of 4; the same command with --resume goes on" in said and "not begun: other-x2; go on with --resume" in said
    assert not Path("runs/other-x2").exists()
    for _ in range(8):
        assert run(*queue, "--minutes", 1, "--resume") == 0
    assert "tiny-x2: finished before, in runs/tiny-x2" in capsys.readouterr().out
    for name in names:
        assert weights(name, f"runs/{name}") == weights(name, f"whole/{name}")


def test_a_stop_ends_the_queue_and_a_recipe_that_fails_does_not(place, capsys):
    Path("runs/tiny-x2").mkdir(parents=True)
    Path("runs/tiny-x2/stop").touch()
    assert run(*"train tiny-x2 other-x2 --device cpu --quiet".split()) == 0
    assert "not begun: other-x2; go on with --resume" in capsys.readouterr().out
    assert "runs/tiny-x2/last.pt: a run is there" in refused(place, capsys, *"train other-x2 tiny-x2 --quiet".split())
    assert run(*"train wide-x2 other-x2 --device cpu --quiet".split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: wide-x2: none of the ") and Path("runs/other-x2/other-x2.json").exists()


# ------------------------------------------------------------------- compress, decompress, sense, recover


CODED = ["compress in.png out.bic --rate 6", "sense in.png out.npz --ratio 0.25 --bits 12"]
CODED += ["compress in.png out.bic --model fitted --minutes 0.01 --quality 30"]


@pytest.mark.parametrize("line", CODED)
def test_what_is_compressed_or_sensed_comes_back(place, capsys, line):
    assert run(*line.split()) == 0
    path = Path(line.split()[2])
    said, data = capsys.readouterr().out, path.read_bytes()
    assert f"{len(data):,} bytes, {8 * len(data) / 480:.3f} bits per pixel" in said
    assert ("its luma alone" in said) == (path.suffix == ".npz")
    assert run("decompress" if path.suffix == ".bic" else "recover", path, "back.png") == 0
    told = capsys.readouterr().out
    assert "24x20 pixels" in told and ("by fitted" in told) == ("fitted" in line)
    expected = codec.decompress_uint8(data) if path.suffix == ".bic" else images.to_uint8(sensing.recover(data))
    assert torch.equal(images.load_uint8("back.png"), expected)


def test_what_a_file_leaves_out_is_told(place, capsys):
    images.save("clear.png", torch.rand(3, 16, 16), alpha=torch.rand(1, 16, 16))
    images.save("deep.png", torch.rand(1, 16, 16), bits=16)
    for name, lost in (("clear", "transparency, laid on white"), ("deep", "16 bits"), ("in", "")):
        assert run("compress", f"{name}.png", f"{name}.bic") == 0
        assert capsys.readouterr().out.rstrip().partition("; left out: ")[2] == lost


def test_a_rate_that_the_network_cannot_use_is_told(place, capsys):
    assert run("compress", "in.png", "out.bic", "--rate", 1000) == 0
    assert "the most that it can use" in capsys.readouterr().out
    rate = 8 * Path("out.bic").stat().st_size / 480
    for how in (["--rate", 0.95 * rate], ["--quality", 100]):
        assert run("compress", "in.png", "out.bic", "--overwrite", *how) == 0
        assert "the most" not in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------- memory

CHEAP = """
import torch
from helpers import __main__ as command, models, zoo

network = models.Restorer()
network.weight, network.forward = torch.nn.Parameter(torch.zeros(1)), lambda y: 1 - y
zoo.load_for = lambda *_: network
for side in (500, 4000):
    line = f"restore {side}.bmp out.bmp --task deblock-q20 --overwrite --device cpu --quiet"
    assert command.main(line.split()) == 0
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at memory as Linux tells of it")
@pytest.mark.slow
def test_16_megapixels_want_little_more_memory_than_a_quarter(tmp_path):
    for side in (500, 4000):
        Image.effect_noise((side, side), 50).convert("RGB").save(tmp_path / f"{side}.bmp")
    done = python("-c", CHEAP, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    small, large = (1024 * int(line) for line in done.stdout.splitlines() if line.isdigit())
    assert 2.4 < (large - small) / (4000**2 - 500**2) < 24  # bytes for each pixel
