"""docs/tools/gpu_pack.py: what comes out of the pack trains as here, on the same files."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import gpu_pack
import pytest
import torch
from builders import photograph, pictures

from helpers import CourseError, datasets, images
from helpers import __main__ as command


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Three sets, in three formats; the second is the largest."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    pictures(tmp_path / "sets" / "train" / "Small", count=3, height=60, width=80)
    pictures(tmp_path / "sets" / "Large", count=30, height=60, width=80)
    (tmp_path / "sets" / "train" / "Lossless").mkdir()
    images.save(tmp_path / "sets" / "train" / "Lossless" / "a.webp", photograph(60, 80), lossless=True)
    return tmp_path / "sets"


def test_sets_are_packed_in_their_order_as_far_as_they_fit(sets):
    megabytes = gpu_pack.size(datasets.folder("Small")) + gpu_pack.size(datasets.folder("Lossless"))
    packed, left_out = gpu_pack.choose(["Small", "Large", "Lossless"], megabytes)
    assert packed == {name: datasets.folder(name) for name in ("Small", "Lossless")}
    assert left_out == ["Large"]
    with pytest.raises(CourseError, match=r"none of Large fits into 0\.001 MB"):
        gpu_pack.choose(["Large"], 0.001)


def pack(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_pack.py", *map(str, arguments)])
    gpu_pack.main()


@pytest.mark.slow
def test_a_training_from_the_pack_has_the_card_and_the_weights_of_one_here(sets, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_pack.recipes, "commit", lambda: "abc1234+")
    pack(monkeypatch, "srcnn-955-x2", "--sets", "Small,Lossless", "--out", tmp_path / "pack.tar.gz")
    said = capsys.readouterr().out
    assert "Small: 3 pictures, 0.0 MB" in said and "--sets Small,Lossless --minutes 12" in said
    with tarfile.open(tmp_path / "pack.tar.gz") as archive:
        names = archive.getnames()
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    weights = {Path(name).name for name in names if "/weights/" in name and name.endswith(".json")}
    assert weights == {"srcnn-955-x2.json", "srcnn-955-x3.json"}  # its own, and those that it begins with

    how = "train srcnn-955-x2 --sets Small,Lossless --steps 1 --device cpu --quiet --out".split()
    assert command.main([*how, str(tmp_path / "here")]) == 0
    bare = {key: value for key, value in os.environ.items() if key not in ("COURSE_DATA", "PYTHONPATH")}
    bare["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    there = [sys.executable, "-m", "helpers", *how, str(tmp_path / "there")]
    subprocess.run(there, cwd=tmp_path / "gpu-pack", env=bare, check=True)
    here, there = (json.loads((tmp_path / place / "srcnn-955-x2.json").read_text()) for place in ("here", "there"))
    for about in (here, there):
        del about["seconds"], about["validation"][0]["seconds"]
    assert set(there["data"]) == {"Small", "Lossless"} and there["commit"] == "abc1234+"
    assert here == there  # the SHA-256 of the weights, too


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["nonsense"], "nonsense"),
        (["edsr-x2"], "T91"),
        (["edsr-x2", "--sets", "Large", "--megabytes", "0.001"], "none of Large fits into 0.001 MB"),
        (["edsr-x3"], "edsr-x3 begins with edsr-x3-first, which is not shipped; name that before it"),
        (["edsr-x3", "edsr-x3-first"], "edsr-x3 begins with edsr-x3-first, which is not shipped; name that before it"),
    ],
)
def test_what_cannot_be_packed_is_one_sentence_and_no_file(sets, tmp_path, monkeypatch, capsys, wrong, said):
    with pytest.raises(SystemExit, match="2"):
        pack(monkeypatch, *wrong, "--out", tmp_path / "pack.tar.gz")
    line = capsys.readouterr().err
    assert line.startswith("error: ") and said in line and len(line.splitlines()) == 1
    assert not (tmp_path / "pack.tar.gz").exists()
