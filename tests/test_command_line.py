import csv
import dataclasses
import errno
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import benchmark_memory
import pandas as pd
import pytest
import torch
from builders import photograph, pictures, png_header, recipe, shipped
from PIL import Image, ImageCms
from safetensors.torch import load_file

from helpers import __main__ as command
from helpers import baselines, codec, datasets, degradations, images, models, recipes, sensing, zoo
from helpers.service import devices, environment
from helpers.service.files import sha256
from helpers.training import Plan

ROOT = Path(command.__file__).resolve().parent.parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a small zoo, tiny recipes, a set of pictures and one picture."""
    monkeypatch.setattr(zoo, "WEIGHTS", shipped(tmp_path / "weights", recipe("good-x2"), recipe("one-x3", 3)))
    pictures(tmp_path / "set", count=24, height=32, width=36)
    images.save(tmp_path / "in.png", photograph(20, 24))
    tiny = recipe(sets=(str(tmp_path / "set"),))
    monkeypatch.setattr(recipes, "RECIPES", {"tiny-x2": tiny, "other-x2": recipe("other-x2", sets=tiny.sets, network={
        "kind": "edsr", "scale": 2, "width": 5, "blocks": 1})})  # fmt: skip
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments) -> int:
    try:
        return command.main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


def tree(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def refused(place: Path, capsys, *arguments) -> str:
    """Run what must be refused: code 2, one line on stderr, and no file made or changed. Returns the line."""
    before = tree(place)
    assert run(*arguments) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert len(lines[0]) > 20
    assert "Traceback" not in said.err
    assert tree(place) == before
    return lines[0]


# ------------------------------------------------------------------------------------ restore: bad input


def half(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(images.to_uint8(photograph(64, 64)).movedim(0, -1).numpy()).save(buffer, kind)
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("none.png", None, "no such file"),
        ("empty.png", b"", "empty"),
        ("text.jpg", b"hello world\n" * 10, "not a picture"),
        ("half.png", half("PNG"), "truncated"),
        ("half.jpg", half("JPEG"), "truncated"),
        ("wide.png", png_header(40_000, 4), "40000x4"),
    ],
)
def test_restore_refuses_bad_pictures(place, capsys, name, content, hint):
    if content is not None:
        (place / name).write_bytes(content)
    line = refused(place, capsys, "restore", name, "out.png", "--task", "sr-x2")
    assert name in line
    assert hint in line


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["set", "out.png", "--task", "sr-x2"], ["set", "folder"]),
        (["in.png", "out.png", "--task", "sr-x7"], ["sr-x7", "sr-x2, sr-x3, sr-x4, deblock-q20"]),
        (["in.png", "out.png", "--task", "sr-x2", "--model", "vgg"], ["vgg", "good-x2"]),
        (["in.png", "out.png", "--task", "sr-x2", "--model", "one-x3"], ["one-x3", "sr-x3", "good-x2"]),
        (["in.png", "out.png", "--task", "sr-x4"], ["sr-x4"]),
        (["in.png", "nowhere/out.png", "--task", "sr-x2"], ["nowhere"]),
        (["in.png", "out.xyz", "--task", "sr-x2"], ["out.xyz", ".png"]),
        (["in.png", "set", "--task", "sr-x2"], ["set"]),
        (["in.png", "out.png", "--task", "sr-x2", "--device", "nonsense"], ["nonsense"]),
        (["in.png", "out.png", "--task", "sr-x2", "--device", "cuda:77"], ["cuda:77"]),
        (["in.png", "out.png", "--task", "sr-x2", "--tile", "0"], ["--tile"]),
        (["in.png", "out.png", "--task", "sr-x2", "--tile", "many"], ["--tile"]),
        (["in.png", "out.png", "--task", "sr-x2", "--quality", "90"], ["out.png", "quality", ".jpg"]),
        (["in.png", "out.jpg", "--task", "sr-x2", "--quality", "0"], ["--quality", "1 to 100"]),
        (["in.png", "out.jpg", "--task", "sr-x2", "--quality", "101"], ["--quality", "1 to 100"]),
        (["in.png", "out.jpg", "--task", "sr-x2", "--quality", "best"], ["--quality", "1 to 100"]),
        (["in.png", "out.png"], ["--task"]),
    ],
)
def test_restore_refuses_bad_arguments(place, capsys, arguments, hints):
    line = refused(place, capsys, "restore", *arguments)
    assert all(hint in line for hint in hints)
    assert not {"_positive", "_quality"} & set(line.split())


def test_restore_to_a_folder_of_that_name(place, capsys):
    (place / "out.png").mkdir()
    assert "out.png" in refused(place, capsys, "restore", "in.png", "out.png", "--task", "sr-x2")


@pytest.mark.parametrize("where", ["save", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_restore_with_a_full_or_closed_disk(place, capsys, monkeypatch, where, code):
    def fail(*arguments, **_):
        if where == "save":
            Path(arguments[1]).write_bytes(b"half a picture")
        raise OSError(code, os.strerror(code))

    targets = {
        "save": (Image.Image, "save"),
        "replace": (images.os, "replace"),
        "open": (images.os, "open"),
    }
    monkeypatch.setattr(*targets[where], fail)
    line = refused(place, capsys, "restore", "in.png", "out.png", "--task", "sr-x2")
    assert ("disk is full" in line) == (code == errno.ENOSPC)
    assert "out.png" in line


@pytest.mark.parametrize(
    ("width", "name", "hints"),
    [
        (8_200, "out.webp", ["16400x2", "16,383", "PNG"]),
        (15_001, "out.png", ["30002x2", "30,000"]),
        (17_000, "out.jpg", ["34000x2", "30,000"]),  # not "save it as PNG", which would be refused as well
    ],
)
def test_restore_refuses_an_output_that_is_too_large_before_any_work(place, capsys, monkeypatch, width, name, hints):
    images.save(place / "long.png", torch.zeros(1, 1, width))
    monkeypatch.setattr(images, "load_uint8", None)
    monkeypatch.setattr(zoo, "load", None)
    line = refused(place, capsys, "restore", "long.png", name, "--task", "sr-x2")
    assert all(hint in line for hint in [name, *hints])


OUT_OF_MEMORY = [
    MemoryError(),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee documentation"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
]


@pytest.mark.parametrize("why", OUT_OF_MEMORY, ids=lambda why: type(why).__name__)
@pytest.mark.parametrize("command_line", ["restore in.png out.png --task sr-x2", "evaluate sr-x2 --images set"])
def test_a_full_memory_is_one_sentence(place, capsys, monkeypatch, command_line, why):
    def full(*_, **__):
        raise why

    monkeypatch.setattr(models.Restorer, "restore", full)
    line = refused(place, capsys, *command_line.split(), "--quiet")
    assert "memory is full" in line
    assert "--tile" in line


CRAMPED = """
import resource, sys
from pathlib import Path
import torch
from helpers import __main__ as command, datasets, evaluation, images, training, zoo

torch.set_num_threads(1)
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 150_000_000, resource.RLIM_INFINITY))
sys.exit(command.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process as Linux does")
def test_a_process_whose_memory_is_limited_says_so(tmp_path):
    images.save(tmp_path / "in.png", torch.zeros(1, 3_000, 3_000))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    arguments = ["restore", "in.png", "out.png", "--task", "sr-x2", "--tile", "100000", "--device", "cpu", "--quiet"]
    result = subprocess.run(
        [sys.executable, "-c", CRAMPED, *arguments],
        check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 2, result.stderr[-2000:]
    assert result.stderr.startswith("error: the memory is full")
    assert len(result.stderr.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.png"]


def test_damaged_weights_are_refused(place, capsys):
    (place / "weights" / "good-x2.safetensors").write_bytes(b"no weights")
    assert "SHA-256" in refused(place, capsys, "restore", "in.png", "out.png", "--task", "sr-x2")


# -------------------------------------------------------------------------------- evaluate: bad input


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["sr-x9", "--images", "set"], ["sr-x9", "sr-x2"]),
        (["sr-x9", "--images", "set", "--methods", "bicubic"], ["sr-x9", "sr-x2"]),
        (["denoise", "--images", "set", "--methods", "bicubic"], ["denoise", "sr-x2"]),
        (["sr-x2", "--images", "Set99"], ["Set99", "COURSE_DATA"]),
        (["sr-x2", "--images", "weights"], ["weights", "no picture"]),
        (["sr-x2", "--images", "set", "--methods", "vgg"], ["vgg", "good-x2"]),
        (["sr-x2", "--images", "set", "--methods", "one-x3"], ["one-x3", "sr-x3"]),
        (["sr-x2", "--images", "set", "--methods", "bicubic,"], ["--methods", "'bicubic,'", "empty"]),
        (["sr-x2", "--images", "set", "--methods", "bicubic,,good-x2"], ["--methods", "empty"]),
        (["sr-x2", "--images", "set", "--methods", ""], ["--methods", "empty"]),
        (["sr-x2", "--images", "set", "--methods", " , "], ["--methods", "empty"]),
        (["sr-x2", "--images", "set", "--device", "nonsense"], ["nonsense"]),
        (["sr-x2", "--images", "set", "--out", "nowhere/t.csv"], ["nowhere"]),
        (["sr-x2"], ["--images"]),
        ([], ["TASK"]),
    ],
)
def test_evaluate_refuses_bad_arguments(place, capsys, arguments, hints):
    line = refused(place, capsys, "evaluate", *arguments, "--quiet")
    assert all(hint in line for hint in hints)


def test_evaluate_with_a_full_disk_keeps_the_old_table(place, capsys, monkeypatch):
    (place / "table.csv").write_text("old")
    few = pictures(place / "few", count=1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(images.os, "replace", full)
    refused(place, capsys, "evaluate", "sr-x2", "--images", few, "--out", "table.csv", "--quiet")


# ----------------------------------------------------------------------------------- train: bad input


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["vgg"], ["vgg", "tiny-x2"]),
        (["tiny-x2", "--sets", "Set99"], ["Set99", "COURSE_DATA"]),
        (["tiny-x2", "--sets", "weights"], ["weights"]),
        (["tiny-x2", "--sets", "set,"], ["--sets", "'set,'", "empty"]),
        (["tiny-x2", "--sets", ""], ["--sets", "empty"]),
        (["tiny-x2", "--device", "nonsense"], ["nonsense"]),
        (["tiny-x2", "--lr", "-1"], ["learning rate"]),
        (["tiny-x2", "--lr", "nan"], ["learning rate"]),
        (["tiny-x2", "--steps", "0"], ["--steps"]),
        (["tiny-x2", "--steps", "ten"], ["--steps"]),
        (["tiny-x2", "--steps", "9" * 24], ["--steps", "from 1 to"]),
        (["tiny-x2", "--steps", "9" * 5000], ["--steps", "from 1 to"]),
        (["tiny-x2", "--epochs", "9" * 400], ["--epochs"]),
        (["tiny-x2", "--patch", "9" * 400], ["--patch", "from 1 to 30000"]),
        (["tiny-x2", "--batch", "100000000"], ["--batch", "from 1 to 65536"]),
        (["tiny-x2", "--seed", "9" * 24], ["a seed is a whole number below"]),
        (["tiny-x2", "--seed", "9" * 5000], ["--seed"]),
        (["tiny-x2", "--lr", "1e400"], ["learning rate"]),
        (["tiny-x2", "--sets", "~no-such-user/set"], ["~no-such-user/set", "is not there"]),
        (["tiny-x2", "--sets", "in.png"], ["in.png", "looked for a folder"]),
        (["tiny-x2", "--start", "set"], ["no network is called 'set'"]),
        (["tiny-x2", "--start", "set.safetensors"], ["set.safetensors", "no file of weights"]),
        (["tiny-x2", "--steps", "4", "--epochs", "1"], ["--epochs", "not allowed with", "--steps"]),
        (["tiny-x2", "--out", "in.png"], ["in.png"]),
        (["tiny-x2", "--what"], ["--what"]),
        (["tiny-x2", "--ratio", "0.1"], ["tiny-x2 has no ratio"]),
        (["tiny-x2", "--start", "none"], ["no network is called 'none'"]),
    ],
)
def test_train_refuses_bad_arguments(place, capsys, arguments, hints):
    line = refused(place, capsys, "train", *arguments, "--quiet")
    assert all(hint in line for hint in hints)


def train(name: str, *more) -> int:
    return run("train", name, "--out", "run", "--device", "cpu", "--quiet", *more)


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", "half"])
def test_train_refuses_a_corrupt_checkpoint(place, capsys, damage):
    assert train("tiny-x2") == 0
    path = place / "run" / "last.pt"
    path.write_bytes(path.read_bytes()[:3000] if damage == "half" else damage)
    capsys.readouterr()
    assert "last.pt" in refused(place, capsys, "train", "tiny-x2", "--out", "run", "--resume", "--quiet")


def test_train_refuses_a_checkpoint_of_another_model(place, capsys):
    assert train("tiny-x2") == 0
    capsys.readouterr()
    assert "last.pt" in refused(place, capsys, "train", "other-x2", "--out", "run", "--resume", "--quiet")


def test_train_does_not_overwrite_a_run_unasked(place, capsys):
    assert train("tiny-x2") == 0
    capsys.readouterr()
    line = refused(place, capsys, "train", "tiny-x2", "--out", "run", "--quiet")
    assert all(hint in line for hint in ("run/last.pt: a run is there already", "--resume", "--overwrite", "--out"))
    assert "--overwrite" in refused(place, capsys, "train", "tiny-x2", "--out", "run", "--resume", "--overwrite")
    assert train("tiny-x2", "--overwrite", "--steps", "3") == 0
    steps = {path.name for path in (place / "run").glob("step-*")}
    assert steps == {f"step-000000{step}.safetensors" for step in (1, 2, 3)}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--batch", "3"], "batch 2"),
        (["--patch", "9"], "patch 8"),
        (["--sets", "bundled"], "sets ["),
        (["--seed", "7"], "seed 0"),
        (["--lr", "0.1"], "learning_rate 0.001"),
    ],
)
def test_train_resumes_the_same_experiment_alone(place, capsys, arguments, hint):
    assert train("tiny-x2") == 0
    capsys.readouterr()
    line = refused(place, capsys, "train", "tiny-x2", "--out", "run", "--resume", "--quiet", *arguments)
    assert f"last.pt: this run began with {hint}" in line


def test_train_resumes_with_the_same_data_alone(place, capsys):
    assert train("tiny-x2") == 0
    assert train("tiny-x2", "--resume", "--steps", "6") == 0  # its length may change
    images.save(place / "set" / "003.png", photograph(32, 36, seed=77))
    capsys.readouterr()
    assert "SHA-256 of set" in refused(place, capsys, "train", "tiny-x2", "--out", "run", "--resume", "--quiet")


def test_train_says_that_the_disk_is_full(place, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert train("tiny-x2") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert not [p for p in (place / "run").rglob("*") if p.name.endswith(".part")]


def test_train_begins_with_the_weights_that_a_run_kept(place, capsys):
    """As the error of a broken loss says."""
    assert train("tiny-x2") == 0
    kept = place / "run" / "step-0000002.safetensors"
    assert run("train", "tiny-x2", "--start", str(kept), "--lr", "1e-4", "--out", "second", "--quiet") == 0
    about = json.loads((place / "second" / "tiny-x2.json").read_text())
    assert about["started_from"] == {"name": kept.name, "sha256": sha256(kept)}
    kept.write_bytes(b"half")
    capsys.readouterr()
    line = refused(place, capsys, "train", "tiny-x2", "--start", str(kept), "--out", "third", "--quiet")
    assert f"{kept}: no file of weights" in line


def test_train_shares_a_global_batch(place, capsys, monkeypatch):
    """What one process makes of it is what --batch makes; it must divide among the processes."""
    assert train("tiny-x2", "--global-batch", "4") == 0
    assert run("train", "tiny-x2", "--batch", "4", "--out", "second", "--device", "cpu", "--quiet") == 0
    one, two = (load_file(place / name / "tiny-x2.safetensors") for name in ("run", "second"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert "not allowed with" in refused(place, capsys, "train", "tiny-x2", "--global-batch", "4", "--batch", "2")
    monkeypatch.setattr(devices, "world", lambda: 3)
    line = refused(place, capsys, "train", "tiny-x2", "--global-batch", "4", "--out", "third", "--quiet")
    assert "4 patches per step cannot be shared equally by 3 processes" in line


def test_train_wants_the_weights_that_it_starts_from(place, capsys, monkeypatch):
    later = recipe("later-x2", sets=(str(place / "set"),), start_from="absent-x3")
    monkeypatch.setitem(recipes.RECIPES, "later-x2", later)
    assert "absent-x3" in refused(place, capsys, "train", "later-x2", "--quiet")


def test_train_leaves_out_what_is_too_small(place, capsys):
    images.save(place / "set" / "000-first.png", torch.zeros(1, 1, 1))
    images.save(place / "set" / "zz.png", torch.zeros(3, 8, 8))
    assert train("tiny-x2") == 0
    said = capsys.readouterr()
    assert said.err == "left out, smaller than 16 pixels a side: set/000-first.png and 1 more of 26\n"
    about = json.loads((place / "run" / "tiny-x2.json").read_text())
    assert about["pictures"] == {"drawn_from": 23, "too_small": 2, "held_out": 1}


def test_train_and_evaluate_take_a_folder_of_one_picture(place, capsys):
    few = pictures(place / "few", count=1)
    assert train("tiny-x2", "--sets", str(few)) == 0
    assert "000.png serves for training and validation" in capsys.readouterr().err
    assert run("evaluate", "sr-x2", "--images", few, "--methods", "bicubic", "--quiet") == 0


# --------------------------------------------------------------------------- places that are no such thing

READING = {  # where a command reads: what it reads is named X
    "restore": ["restore", "X", "out.png", "--task", "sr-x2"],
    "compress": ["compress", "X", "out.bic"],
    "decompress": ["decompress", "X", "out.png"],
    "sense": ["sense", "X", "out.npz"],
    "recover": ["recover", "X", "out.png"],
    "evaluate": ["evaluate", "sr-x2", "--images", "X"],
    "publish": ["publish", "X"],
    "train": ["train", "tiny-x2", "--sets", "X", "--quiet"],
    "start": ["train", "tiny-x2", "--start", "X", "--quiet"],
    "model": ["restore", "in.png", "out.png", "--task", "sr-x2", "--model", "X"],
}
WRITING = {  # where a command writes
    "restore": ["restore", "in.png", "X.png", "--task", "sr-x2"],
    "compress": ["compress", "in.png", "X.bic"],
    "sense": ["sense", "in.png", "X.npz"],
    "decompress": ["decompress", "in.png", "X.png"],
    "recover": ["recover", "in.png", "X.png"],
    "evaluate": ["evaluate", "sr-x2", "--images", "few", "--methods", "bicubic", "--quiet", "--out", "X.csv"],
    "panels": ["evaluate", "sr-x2", "--images", "few", "--methods", "bicubic", "--quiet", "--panels", "X"],
    "train": ["train", "tiny-x2", "--quiet", "--out", "X"],
}


@pytest.mark.parametrize(
    "what", ["a folder", "missing", "in a file", "a loop", "a long name", "unreadable", "a user's"]
)
@pytest.mark.parametrize("name", READING)
def test_what_is_no_file_to_read_is_named(place, capsys, monkeypatch, name, what):
    places = {"a folder": "folder", "in a file": "in.png/x", "a long name": "x" * 300, "a user's": "~no-such-user/x"}
    given = places.get(what, what.replace(" ", "-"))
    (place / "folder").mkdir()
    (place / "a-loop").symlink_to("a-loop")
    (place / "unreadable").write_bytes(b"secret")
    opened = open

    def guarded(file, *arguments, **options):  # for the tests' user may read all
        if str(file).endswith("unreadable"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return opened(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", guarded)
    line = refused(place, capsys, *(given if word == "X" else word for word in READING[name]))
    assert given in line and "[Errno" not in line and "damaged" not in line


@pytest.mark.parametrize("what", ["a folder", "no folder", "in a file", "a loop", "a long name", "read-only"])
@pytest.mark.parametrize("name", WRITING)
def test_what_is_no_place_to_write_is_named(place, capsys, monkeypatch, name, what):
    pictures(place / "few", count=1)
    places = {"a folder": "folder", "no folder": "none/x", "in a file": "in.png/x", "a loop": "loop/x"}
    given = places.get(what, "x" * 300 if what == "a long name" else "x")
    [target] = [word.replace("X", given) for word in WRITING[name] if "X" in word]
    (place / "loop").symlink_to("loop")
    if name in ("panels", "train"):
        if what in ("a folder", "no folder"):
            pytest.skip("a folder is what is wanted there")
    elif what == "a folder":
        (place / target).mkdir()
    if what == "read-only":

        def refuse(path, *_, **__):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        monkeypatch.setattr(os, "mkdir", refuse)
        monkeypatch.setattr(os, "access", lambda *_: False)
    line = refused(place, capsys, *(target if "X" in word else word for word in WRITING[name]))
    assert target in line and "[Errno" not in line and ".part" not in line


@pytest.mark.parametrize("name", ["restore", "compress", "decompress", "sense", "recover"])
def test_no_command_writes_over_its_input(place, capsys, name):
    """A picture may have any name."""
    suffix = Path(WRITING[name][2]).suffix
    (place / f"twin{suffix}").write_bytes((place / "in.png").read_bytes())
    arguments = [name, f"twin{suffix}", f"./twin{suffix}", *READING[name][3:]]
    assert "is the input itself" in refused(place, capsys, *arguments)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.EISDIR])
def test_what_the_system_refuses_is_a_sentence(place, capsys, monkeypatch, code):
    def refuse(path, *_, **__):
        raise OSError(code, os.strerror(code), str(path))

    few = pictures(place / "few", count=1)
    monkeypatch.setattr("helpers.service.files.os.open", refuse)
    arguments = ["evaluate", "sr-x2", "--images", few, "--methods", "bicubic", "--quiet"]
    line = refused(place, capsys, *arguments, "--out", "table.csv")
    assert line.startswith("error: table.csv: ") and "[Errno" not in line and ".part" not in line


def test_a_world_size_that_is_no_number_is_a_sentence(place, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "x")
    assert "WORLD_SIZE is 'x'" in refused(place, capsys, "train", "tiny-x2", "--quiet")


# ------------------------------------------------------------------------------------- train: a queue


def queue(*more) -> int:
    return run("train", "tiny-x2", "other-x2", "--device", "cpu", "--quiet", *more)


def weights_of(place: Path, folder: str, name: str) -> bytes:
    return (place / folder / f"{name}.safetensors").read_bytes()


def test_several_recipes_train_one_after_another_as_each_alone(place, capsys):
    assert queue() == 0
    for name in ("tiny-x2", "other-x2"):
        assert run("train", name, "--out", f"alone-{name}", "--device", "cpu", "--quiet") == 0
        assert weights_of(place, f"runs/{name}", name) == weights_of(place, f"alone-{name}", name)
    (place / "third" / "other-x2").mkdir(parents=True)
    (place / "third" / "other-x2" / "last.pt").touch()
    capsys.readouterr()
    line = refused(place, capsys, *"train tiny-x2 other-x2 --out third --quiet".split())  # before the first is begun
    assert "third/other-x2/last.pt: a run is there already" in line


def test_a_queue_ends_when_its_time_is_up_and_goes_on_where_it_was(place, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    draw = datasets.Patches.__call__

    def slow(self, step, rank=0):
        clock[0] += 20.0 if self.pass_on else 0.0
        return draw(self, step, rank)

    monkeypatch.setattr(datasets.Patches, "pass_on", True, raising=False)
    monkeypatch.setattr(datasets.Patches, "__call__", slow)
    assert queue("--minutes", "1") == 0  # three of four steps
    said = capsys.readouterr().out
    assert "stopped at step 3 of 4; go on with --resume --out runs/tiny-x2" in said and "not begun: other-x2" in said
    assert not (place / "runs" / "other-x2").exists()
    assert queue("--minutes", "1", "--resume") == 0  # the fourth, and two of the other
    assert "stopped at step 2 of 4" in capsys.readouterr().out
    assert run(*"train tiny-x2 other-x2 good-x2 --minutes 1 --device cpu".split(), "--resume") == 2  # no such recipe
    assert queue("--minutes", "4", "--resume") == 0
    said = capsys.readouterr().out
    assert "tiny-x2: finished before, in runs/tiny-x2" in said and "stopped" not in said
    monkeypatch.setattr(datasets.Patches, "pass_on", False)
    assert queue("--out", "unbroken") == 0
    for name in ("tiny-x2", "other-x2"):
        assert weights_of(place, f"runs/{name}", name) == weights_of(place, f"unbroken/{name}", name)


def test_no_recipe_is_begun_when_the_last_step_of_another_took_the_time(place, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    write = recipes.write
    monkeypatch.setattr(recipes, "write", lambda *a, **k: clock.append(clock.pop() + 61) or write(*a, **k))
    assert queue("--minutes", "1") == 0
    assert "not begun: other-x2" in capsys.readouterr().out
    assert (place / "runs/tiny-x2/tiny-x2.json").exists() and not (place / "runs/other-x2").exists()


def test_a_stop_ends_the_queue(place, capsys, monkeypatch):
    draw = datasets.Patches.__call__

    def stop(self, step, rank=0):
        (place / "runs" / "tiny-x2" / "stop").touch()
        return draw(self, step, rank)

    monkeypatch.setattr(datasets.Patches, "__call__", stop)
    assert queue() == 0
    assert "not begun: other-x2; go on with --resume" in capsys.readouterr().out


def test_a_recipe_that_fails_does_not_keep_the_others_from_training(place, capsys, monkeypatch):
    """What can be known before is said before any work; what breaks later is told, and the next one begins."""
    assert "'absent-x2'" in refused(place, capsys, *"train tiny-x2 absent-x2 --quiet".split())
    lost = recipe("lost-x2", sets=("Nowhere",))
    wild = recipe("wild-x2", sets=(str(place / "set"),), plan=Plan(2, 1e-3), patch=30)
    for one in (lost, wild):
        monkeypatch.setitem(recipes.RECIPES, one.name, one)
    assert "'Nowhere'" in refused(place, capsys, *"train tiny-x2 lost-x2 --quiet".split())
    assert run(*"train wild-x2 tiny-x2 --device cpu --quiet".split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: wild-x2: none of the ") and len(said.err.splitlines()) == 1
    assert (place / "runs" / "tiny-x2" / "tiny-x2.json").exists()


def test_no_command_and_an_unknown_one(place, capsys):
    assert "COMMAND" in refused(place, capsys)
    assert "paint" in refused(place, capsys, "paint")


def test_publish_wants_a_run(place, capsys):
    assert "set" in refused(place, capsys, "publish", "set")
    assert "none" in refused(place, capsys, "publish", "none")


@pytest.mark.parametrize("why", [ZeroDivisionError(), RuntimeError("mat1 and mat2 shapes cannot be multiplied")])
def test_a_bug_keeps_its_traceback(place, monkeypatch, why):
    def fail(*_):
        raise why

    monkeypatch.setattr(images, "load_uint8", fail)
    with pytest.raises(type(why)):
        run("restore", "in.png", "out.png", "--task", "sr-x2")


# ------------------------------------------------------------------------------------------- it works


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_restore_writes_the_models_picture(place, capsys, suffix):
    before = set(tree(place))
    assert run("restore", "in.png", f"out{suffix}", "--task", "sr-x2", "--tile", "16", "--quiet") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "48x40" in said.out
    assert "good-x2" in said.out
    assert set(tree(place)) - before == {f"out{suffix}"}
    expected = zoo.load("good-x2").restore(images.load_uint8(place / "in.png"))
    restored = images.load_uint8(place / f"out{suffix}")
    assert restored.shape == expected.shape
    if suffix in (".png", ".bmp", ".tif"):
        assert (restored.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize(("more", "tile"), [([], 0), (["--tile", "16"], 16)])
def test_restore_tiles_as_the_network_does_or_as_it_is_told(place, monkeypatch, more, tile):
    given, restore = [], models.Restorer.restore

    def spy(self, picture, **options):
        given.append(options["tile"])
        return restore(self, picture, **options)

    monkeypatch.setattr(models.Restorer, "restore", spy)
    assert run("restore", "in.png", "out.png", "--task", "sr-x2", "--quiet", *more) == 0
    assert given == [tile]


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("quality", [None, 30])
def test_restore_keeps_what_it_gained(place, suffix, quality):
    """Lossy formats are written at a high quality, JPEG with its colours in full, or as the caller says."""
    more = ["--quality", quality] if quality else []
    assert run("restore", "in.png", f"out{suffix}", "--task", "sr-x2", "--quiet", *more) == 0
    expected = zoo.load("good-x2").restore(images.load_uint8(place / "in.png"))
    options = {"quality": quality or 95} | ({"subsampling": "4:4:4"} if suffix == ".jpg" else {})
    buffer = io.BytesIO()
    images.to_pillow(expected).save(buffer, "JPEG" if suffix == ".jpg" else "WEBP", **options)
    assert (place / f"out{suffix}").read_bytes() == buffer.getvalue()


def test_restore_turns_a_photograph_as_its_exif_says(place):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    images.save(place / "turned.jpg", photograph(20, 24), exif=exif)
    assert run("restore", "turned.jpg", "out.png", "--task", "sr-x2", "--quiet") == 0
    with Image.open(place / "turned.jpg") as stored:
        upright = stored.transpose(Image.Transpose.ROTATE_270)
    assert upright.size == (20, 24)
    expected = zoo.load("good-x2").restore(images.from_pillow(upright))
    assert torch.equal(images.load_uint8(place / "out.png"), expected)
    with Image.open(place / "out.png") as written:
        assert written.size == (40, 48)
        assert written.getexif().get(0x0112, 1) == 1  # turned once, and no more


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_restore_keeps_the_colour_profile(place, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    images.save(place / "profiled.png", photograph(20, 24), icc_profile=profile)
    assert run("restore", "profiled.png", f"out{suffix}", "--task", "sr-x2", "--quiet") == 0
    with Image.open(place / f"out{suffix}") as written:
        assert written.info["icc_profile"] == profile
    Image.new("CMYK", (20, 24)).save(place / "ink.tif", icc_profile=profile)  # what comes out is RGB: not its profile
    assert run("restore", "ink.tif", f"out{suffix}", "--task", "sr-x2", "--quiet") == 0
    with Image.open(place / f"out{suffix}") as written:
        assert "icc_profile" not in written.info


@pytest.mark.parametrize("output", ["in.png", "./in.png", "link.png"])
def test_restore_does_not_write_over_its_input(place, output, capsys):
    (place / "link.png").symlink_to(place / "in.png")
    before = (place / "in.png").read_bytes()
    assert run("restore", "in.png", output, "--task", "sr-x2", "--quiet") == 2
    assert "input itself" in capsys.readouterr().err
    assert (place / "in.png").read_bytes() == before


def test_tiles_have_a_least_size(place, capsys):
    assert run("restore", "in.png", "out.png", "--task", "sr-x2", "--tile", "8") == 2
    assert "16 is the least" in capsys.readouterr().err


def test_restore_for_jpeg_takes_a_picture_that_is_no_jpeg_file(place):
    shipped(place / "weights", dataclasses.replace(recipe("blind", 1), task="jpeg"))
    assert run("restore", "in.png", "out.png", "--task", "jpeg", "--quiet") == 0
    assert images.load(place / "out.png").shape == (3, 20, 24)


def test_evaluate_takes_names_with_spaces_and_runs_on_the_device_named(place, monkeypatch, capsys):
    few = pictures(place / "few", count=1)
    moved, move = [], torch.nn.Module.to
    monkeypatch.setattr(devices, "check_device", lambda name: torch.device(name, 0))

    def spy(self, *arguments, **options):
        moved.extend(arguments)
        return move(self, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "to", spy)
    methods = ["--methods", "bicubic, good-x2", "--device", "cpu"]
    assert run("evaluate", "sr-x2", "--images", few, "--quiet", *methods) == 0
    assert moved == [torch.device("cpu", 0)]
    assert "good-x2" in capsys.readouterr().out


def test_evaluate_writes_a_table(place, capsys):
    few = pictures(place / "few", count=2)
    assert run("evaluate", "sr-x2", "--images", few, "--out", "table.csv", "--quiet") == 0
    with open(place / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["task", "dataset", "image", "method", "psnr", "ssim", "bpp", "seconds",
                             "parameters", "psnr_b"]  # fmt: skip
    assert [(row["image"], row["method"]) for row in rows] == [
        (image, method) for image in ("000.png", "001.png") for method in ("bicubic", *baselines.METHODS, "good-x2")
    ]
    assert {row["dataset"] for row in rows} == {"few"}
    assert {row["bpp"] for row in rows} == {""}
    printed = capsys.readouterr().out
    mean = sum(float(row["psnr"]) for row in rows if row["method"] == "bicubic") / 2
    assert f"{mean:.2f}" in printed
    assert not list(place.glob(".*"))


def test_evaluate_skips_and_reports_a_bad_picture(place, capsys):
    few = pictures(place / "few", count=1)
    (few / "bad.png").write_bytes(b"")
    assert run("evaluate", "sr-x2", "--images", few, "--methods", "bicubic", "--out", "table.csv", "--quiet") != 0
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert "bad.png" in said.err
    assert len((place / "table.csv").read_text().splitlines()) == 2


def test_train_stop_resume_restore(place, capsys, monkeypatch):
    """Stopped after two steps and resumed, the weights are those of an unbroken training; then they restore."""
    assert run("train", "tiny-x2", "--out", "whole", "--device", "cpu", "--quiet") == 0
    assert "PSNR" in capsys.readouterr().out

    draw = datasets.Patches.__call__

    def stop_at_two(self, step, rank=0):
        if step == 1:
            (place / "run" / "stop").touch()
        return draw(self, step, rank)

    monkeypatch.setattr(datasets.Patches, "__call__", stop_at_two)
    assert train("tiny-x2") == 0
    assert "stopped at step 2 of 4" in capsys.readouterr().out
    monkeypatch.setattr(datasets.Patches, "__call__", draw)
    assert train("tiny-x2", "--resume") == 0
    weights = [(place / folder / "tiny-x2.safetensors").read_bytes() for folder in ("whole", "run")]
    assert weights[0] == weights[1]

    about = json.loads((place / "run" / "tiny-x2.json").read_text())
    assert about["steps"] == 4
    assert about["recipe"]["plan"]["steps"] == 4
    assert set(about["data"]) == {"set"}
    assert about["device"].startswith("cpu")
    assert run("restore", "in.png", "out.png", "--task", "sr-x2", "--model", "run/tiny-x2.json", "--quiet") == 0
    assert images.load(place / "out.png").shape == (3, 40, 48)


def test_train_begins_with_the_weights_that_its_recipe_names_and_its_card_pins_them(place, monkeypatch):
    plan = Plan(1, 1e-30, averaging=0)  # a step that moves nothing
    later = recipe("later-x2", sets=(str(place / "set"),), start_from="good-x2", plan=plan)
    monkeypatch.setitem(recipes.RECIPES, "later-x2", later)
    assert train("later-x2") == 0
    given, made = zoo.load("good-x2").state_dict(), zoo.load(place / "run" / "later-x2.json").state_dict()
    assert all(torch.equal(given[key], made[key]) for key in given)
    about = json.loads((place / "run" / "later-x2.json").read_text())
    digest = sha256(place / "weights" / "good-x2.safetensors")
    assert about["started_from"] == {"name": "good-x2", "sha256": digest}
    assert about["pictures"] == {"drawn_from": 23, "too_small": 0, "held_out": 1}


def test_publish_refuses_a_run_that_was_stopped(place, capsys):
    assert train("tiny-x2") == 0
    card = place / "run" / "tiny-x2.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"steps": 2}))
    capsys.readouterr()
    assert "stopped at step 2 of 4" in refused(place, capsys, "publish", "run")


def test_a_card_without_a_task_is_named_by_every_command(place, capsys):
    (place / "weights" / "bad.json").write_text('{"name": "bad", "network": {}}')
    for arguments in (["restore", "in.png", "out.png", "--task", "sr-x2"], ["evaluate", "sr-x2", "--images", "set"]):
        assert "bad.json: not the card of a network" in refused(place, capsys, *arguments, "--quiet")
    good = ["restore", "in.png", "out.png", "--task", "sr-x2", "--model", "good-x2", "--quiet"]
    assert run(*good) == 0  # another network does not hang on it


def test_a_trained_card_in_the_zoo_breaks_no_command(place):
    """Copied there by hand, it has no figures."""
    assert train("tiny-x2") == 0
    for suffix in ("json", "safetensors"):
        (place / "weights" / f"tiny-x2.{suffix}").write_bytes((place / "run" / f"tiny-x2.{suffix}").read_bytes())
    assert run("restore", "in.png", "out.png", "--task", "sr-x2", "--quiet") == 0


def test_the_recipe_of_srcnn_915_on_the_bundled_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [
        "train",
        "srcnn-915-x3",
        "--batch",
        "2",
        "--sets",
        "bundled",
        "--out",
        "run",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert run(*options, "--steps", "4") == 0
    first = tree(tmp_path)
    assert {"run/last.pt", "run/best.safetensors", "run/srcnn-915-x3.json", "run/srcnn-915-x3.safetensors"} <= set(
        first
    )
    assert run(*options, "--steps", "4", "--resume") == 0  # nothing is left to do
    assert (tmp_path / "run/srcnn-915-x3.safetensors").read_bytes() == first["run/srcnn-915-x3.safetensors"]
    images.save("small.png", degradations.downscale(photograph(30, 36), 3))
    arguments = ["restore", "small.png", "large.png", "--task", "sr-x3", "--model", "run/srcnn-915-x3.json", "--quiet"]
    assert run(*arguments) == 0
    assert images.load("large.png").shape == (3, 30, 36)


def test_train_without_a_name_lists_the_recipes(place, capsys):
    assert run("train") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in recipes.RECIPES)


def test_check_prints_and_tells(capsys, monkeypatch):
    findings = [environment.Finding(True, "Python", "3.13"), environment.Finding(False, "disk", "0 GiB", "free some")]
    monkeypatch.setattr(environment, "check", lambda start: findings[: 1 if start else 2])
    assert run("check") == 1
    assert "free some" in capsys.readouterr().out
    assert run("check", "--start") == 0


def in_a_process(*arguments, cwd) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", "helpers", *map(str, arguments)],
        check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_check_runs_in_a_process(tmp_path):
    result = in_a_process("check", cwd=tmp_path)
    assert result.returncode in (0, 1)
    assert "Python" in result.stdout
    assert result.stderr == ""


def test_an_error_in_a_process_is_one_line(tmp_path):
    result = in_a_process("evaluate", "sr-x2", "--images", "Set99", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: the set 'Set99' is not there")


# --------------------------------------------------------------------------------------------- memory

GIANT = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from helpers import __main__ as command, models, zoo

class Cheap(models.Restorer):
    halo = 1
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 1)
    def forward(self, y):
        return self.layer(y)

torch.set_num_threads(1)
side = int(sys.argv[1])
zoo.load_for = lambda *_: Cheap().eval().requires_grad_(False)
code = command.main(["restore", sys.argv[2], sys.argv[3], "--task", "deblock-q20", "--model", "cheap", "--quiet",
                     "--device", "cpu"])
assert Image.open(sys.argv[3]).size == (side, side)
status = Path("/proc/self/status")  # ru_maxrss also counts the process that began this one
lines = status.read_text().splitlines() if status.exists() else []
peaks = [line.split()[1] for line in lines if line.startswith("VmHWM")]
print(code, peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(tmp_path: Path, side: int) -> int:
    """Bytes at the peak of restoring a square RGB picture."""
    given, out = tmp_path / f"{side}.bmp", tmp_path / f"{side}-out.bmp"
    Image.effect_noise((side, side), 50).convert("RGB").save(given)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", GIANT, str(side), str(given), str(out)]
    environment = os.environ | {"PYTHONPATH": path}
    result = subprocess.run(command, cwd=tmp_path, text=True, env=environment, capture_output=True, timeout=200)
    assert result.returncode == 0, result.stderr[-2000:]
    code, peak = result.stdout.split()[-2:]
    assert code == "0"
    given.unlink()
    out.unlink()
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 2**20)])
def test_the_memory_benchmark_needs_no_proc(tmp_path, platform, unit):
    """As on macOS, where /proc is missing, and the system counts bytes instead of KiB."""
    pytest.importorskip("resource")
    without = f"""
import builtins, io, pathlib, resource, sys
def unless_proc(function):
    def guarded(path, *arguments, **options):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return function(path, *arguments, **options)
    return guarded
builtins.open, io.open = unless_proc(open), unless_proc(io.open)
pathlib.Path.exists = lambda path: not str(path).startswith("/proc")
resource.getrusage = lambda _: resource.struct_rusage([0, 0, {300 * unit}] + [0] * 13)
sys.platform = {platform!r}
"""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", f"import helpers.recipes, helpers.zoo\n{without}\n{benchmark_memory.RUN}", "train"],
        check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines()[-1] == "peak 300"


@pytest.mark.slow
def test_64_megapixels_want_little_more_memory_than_one(tmp_path):
    pytest.importorskip("resource")
    small, large = peak_memory(tmp_path, 1000), peak_memory(tmp_path, 8000)
    assert 150e6 < large - small <= 1.5e9


def test_restore_says_when_nothing_was_to_mend(place, capsys):
    made = recipes.Recipe("blind", "jpeg", {"kind": "drunet"}, Plan(4), origin="a test's")  # fresh, it adds nothing
    recipes.write(made, models.build("drunet"), zoo.WEIGHTS)
    assert run("restore", "in.png", "out.png", "--task", "jpeg", "--quiet") == 0
    assert "24x20 pixels, nothing changed" in capsys.readouterr().out


def test_a_recipe_without_its_sets_can_be_tried_with_the_bundled_ones(place, capsys, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "lost-x2", recipe("lost-x2", sets=("Nowhere",)))
    line = refused(place, capsys, "train", "lost-x2", "--quiet")
    assert "'Nowhere' is not there" in line and "--sets bundled" in line


# ------------------------------------------------------------------------------ compress, decompress


@pytest.fixture
def coder(place):
    """The place, with a fresh codec as the default one."""
    torch.manual_seed(0)
    made = recipes.Recipe(
        codec.DEFAULT, "codec", {"kind": "transform", "hidden": 4}, Plan(4, 1e-3), "rate-distortion", origin="a test's"
    )
    recipes.write(made, models.build(**made.network), zoo.WEIGHTS)
    codec.load.cache_clear()
    yield place
    codec.load.cache_clear()


@pytest.mark.parametrize("how", [[], ["--quality", 80], ["--rate", 6], ["--model", codec.DEFAULT]])
def test_compress_and_decompress(coder, capsys, how):
    assert run("compress", "in.png", "out.bic", *how) == 0
    said = capsys.readouterr().out
    size = (coder / "out.bic").stat().st_size
    assert f"{size:,} bytes" in said and f"{8 * size / 480:.3f} bits per pixel" in said
    assert run("decompress", "out.bic", "back.png") == 0
    assert "24x20 pixels" in capsys.readouterr().out
    assert torch.equal(images.load_uint8(coder / "back.png"), codec.decompress_uint8((coder / "out.bic").read_bytes()))


def test_a_rate_that_the_network_cannot_use_is_told(coder, capsys):
    assert run("compress", "in.png", "out.bic", "--rate", 1000) == 0
    assert "the most that it can use" in capsys.readouterr().out
    rate = 8 * (coder / "out.bic").stat().st_size / 480
    assert run("compress", "in.png", "out.bic", "--rate", 0.95 * rate) == 0
    assert "the most" not in capsys.readouterr().out
    assert run("compress", "in.png", "out.bic", "--quality", 100) == 0  # nobody asked for a rate
    assert "the most" not in capsys.readouterr().out


def test_a_python_without_the_packages_is_told_so_in_a_line():
    program = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from helpers.__main__ import main
sys.exit(main(["restore", "in.png", "out.png", "--task", "sr-x3"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "error: this Python has no torch; run make setup, then source .venv/bin/activate.\n"


def test_decompress_takes_the_card_of_an_own_codec(coder):
    card = coder / "weights" / f"{codec.DEFAULT}.json"
    assert run("compress", "in.png", "out.bic", "--model", card) == 0
    for path in (card, card.with_suffix(".safetensors")):
        path.rename(coder / path.name)
    assert run("decompress", "out.bic", "back.png", "--model", coder / card.name) == 0


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["compress", "none.png", "out.bic"], ["none.png"]),
        (["compress", "in.png", "out.png"], ["end the name in .bic"]),
        (["compress", "in.png", "no/out.bic"], ["folder no does not exist"]),
        (["compress", "in.png", "out.bic", "--rate", "0.001"], ["0.001 bits per pixel are too few"]),
        (["compress", "in.png", "out.bic", "--rate", "-1"], ["more than 0 bits"]),
        (["compress", "in.png", "out.bic", "--rate", "much"], ["invalid float value"]),
        (["compress", "in.png", "out.bic", "--quality", "120"], ["from 0 to 100"]),
        (["compress", "in.png", "out.bic", "--quality", "5", "--rate", "1"], ["not allowed with"]),
        (["compress", "in.png", "out.bic", "--model", "good-x2"], ["good-x2", "is no codec"]),
        (["compress", "in.png", "out.bic", "--model", "none"], ["no network is called 'none'"]),
        (["decompress", "in.png", "out.png"], ["in.png: not a .bic file"]),
        (["decompress", "none.bic", "out.png"], ["none.bic: no such file"]),
        (["decompress", "good.bic", "out.xyz"], ["unknown picture format"]),
        (["decompress", "good.bic", "no/out.png"], ["folder no does not exist"]),
        (["decompress", "half.bic", "out.png"], ["half.bic: the file is damaged or truncated"]),
        (["decompress", "empty.bic", "out.png"], ["empty.bic: not a .bic file"]),
        (["restore", "in.png", "out.png", "--task", "codec"], ["`compress`"]),
    ],
)
def test_compress_and_decompress_refuse_what_they_cannot_do(coder, capsys, arguments, hints):
    good = codec.compress(photograph(20, 24))
    for name, data in (("good.bic", good), ("half.bic", good[: len(good) // 2 + 20]), ("empty.bic", b"")):
        (coder / name).write_bytes(data)
    line = refused(coder, capsys, *arguments)
    assert all(hint in line for hint in hints), line


def test_a_full_disk_leaves_no_half_written_file(coder, capsys, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "read_bytes", Path.read_bytes)
    before = sorted(path.name for path in coder.iterdir())
    assert run("compress", "in.png", "out.bic") == 2
    assert "disk is full" in capsys.readouterr().err
    assert sorted(path.name for path in coder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["evaluate", "sr-x2", "--images", "set", "--out", "set"], ["set: that is a folder"]),
        (["evaluate", "sr-x2", "--images", "set", "--panels", "in.png"], ["in.png: there is a file of that name"]),
        (["train", "tiny-x2", "--out", "in.png"], ["in.png: there is a file of that name"]),
        (["evaluate", "sr-x2", "--images", "sett"], ["the set 'sett' is not there"]),
        (["train", "shaved-x2", "--patch", "3"], ["patches of 3 pixels are all border"]),
    ],
)
def test_places_and_sizes_that_cannot_be_are_named(place, capsys, monkeypatch, arguments, hints):
    shaved = recipe("shaved-x2", sets=(str(place / "set"),), plan=Plan(4, 1e-3, shave=3))
    monkeypatch.setitem(recipes.RECIPES, "shaved-x2", shaved)
    line = refused(place, capsys, *arguments)
    assert all(hint in line for hint in hints), line


# ------------------------------------------------------------------------------------- sense, recover


@pytest.fixture
def originals(place, monkeypatch):
    """The place, with the recipes of the original ResCSNet."""
    for one in recipes._RECIPES:
        if one.name.startswith("rescsnet"):
            monkeypatch.setitem(recipes.RECIPES, one.name, one)
    return place


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["rescsnet", "--ratio", "7"], ["7 is not between"]),
        (["rescsnet-any", "--ratio", "0.1"], ["rescsnet-any has no ratio"]),
        (["rescsnet", "--patch", "64", "--sets", "set"], ["takes patches of 100 pixels alone, not 64"]),
        (["rescsnet", "--ratio", "nan"], ["nan is not between"]),
        (["rescsnet-dw-ssim"], ["rescsnet is not shipped", "--start runs/rescsnet/rescsnet.json"]),
    ],
)
def test_the_original_says_what_it_lacks(originals, capsys, arguments, hints):
    line = refused(originals, capsys, "train", *arguments, "--quiet")
    assert all(hint in line for hint in hints)


def test_the_original_trains_in_two_stages(originals, capsys):
    place = originals
    few = pictures(place / "few", count=3, height=104, width=110)
    small = ["--sets", few, "--ratio", "0.01", "--steps", "1", "--batch", "2", "--quiet"]
    assert run("train", "rescsnet", *small) == 0
    second = ["train", "rescsnet-dw-ssim", *small, "--start", "runs/rescsnet/rescsnet.json"]
    assert run(*second) == 0
    card = json.loads((place / "runs/rescsnet-dw-ssim/rescsnet-dw-ssim.json").read_text())
    assert card["started_from"]["name"] == "rescsnet" and card["network"]["ratio"] == 0.01
    assert card["recipe"]["loss"] == "frobenius-dw-ssim" and math.isfinite(card["validation"][0]["psnr"])


@pytest.fixture
def camera(place):
    """The place, with a fresh network that senses."""
    torch.manual_seed(0)
    network = {"kind": "rescsnet-any", "width": 4, "stages": 1, "blocks": 1}
    made = recipes.Recipe(sensing.DEFAULT, "cs", network, Plan(4, 1e-3), origin="a test's")
    recipes.write(made, models.build(**network), zoo.WEIGHTS)
    return place


@pytest.mark.parametrize("how", [[], ["--ratio", 0.25], ["--bits", 12], ["--model", sensing.DEFAULT]])
def test_sense_and_recover(camera, capsys, how):
    assert run("sense", "in.png", "out.npz", *how) == 0
    said = capsys.readouterr().out
    size = (camera / "out.npz").stat().st_size
    assert f"{size:,} bytes" in said and f"{8 * size / 480:.3f} bits per pixel, its luma alone" in said
    assert run("recover", "out.npz", "back.png") == 0
    assert "24x20 pixels" in capsys.readouterr().out
    expected = images.to_uint8(sensing.recover((camera / "out.npz").read_bytes()))
    assert torch.equal(images.load_uint8(camera / "back.png"), expected)


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        (["sense", "none.png", "out.npz"], ["none.png"]),
        (["sense", "in.png", "out.png"], ["end the name in .npz"]),
        (["sense", "in.png", "no/out.npz"], ["folder no does not exist"]),
        (["sense", "in.png", "out.npz", "--ratio", "0.5"], ["at most 0.25"]),
        (["sense", "in.png", "out.npz", "--ratio", "all"], ["invalid float value"]),
        (["sense", "in.png", "out.npz", "--bits", "1"], ["2 to 16 bits"]),
        (["sense", "in.png", "out.npz", "--bits", "9" * 24], ["2 to 16 bits"]),
        (["sense", "in.png", "out.npz", "--ratio", "nan"], ["not nan"]),
        (["sense", "in.png", "out.npz", "--ratio", "1e-300"], ["take a larger ratio"]),
        (["sense", "in.png", "out.npz", "--model", "good-x2"], ["good-x2", "senses nothing"]),
        (["sense", "in.png", "out.npz", "--model", "none"], ["no network is called 'none'"]),
        (["recover", "in.png", "out.png"], ["in.png: not a whole file of measurements"]),
        (["recover", "none.npz", "out.png"], ["none.npz: no such file"]),
        (["recover", "good.npz", "out.xyz"], ["unknown picture format"]),
        (["recover", "good.npz", "no/out.png"], ["folder no does not exist"]),
        (["recover", "half.npz", "out.png"], ["half.npz: not a whole file of measurements"]),
        (["recover", "empty.npz", "out.png"], ["empty.npz: not a whole file of measurements"]),
        (["restore", "in.png", "out.png", "--task", "cs-10"], ["`sense` and `recover`"]),
        (["evaluate", "cs", "--images", "set"], ["measures no ratio", "cs-04"]),
    ],
)
def test_sense_and_recover_refuse_what_they_cannot_do(camera, capsys, arguments, hints):
    good = sensing.sense(photograph(20, 24), 0.1)
    for name, data in (("good.npz", good), ("half.npz", good[: len(good) // 2]), ("empty.npz", b"")):
        (camera / name).write_bytes(data)
    line = refused(camera, capsys, *arguments)
    assert all(hint in line for hint in hints), line


def test_sensing_is_measured_beside_its_baseline(camera, capsys):
    assert run("evaluate", "cs-10", "--images", "set", "--out", "cs.csv") == 0
    table = pd.read_csv(camera / "cs.csv")
    assert set(table["method"]) == {"dct-zonal", sensing.DEFAULT} and table["measured"].between(0.05, 0.1).all()
    assert table["ssim_uniform"].between(0, 1).all() and (table["psnr"] > 10).all()
