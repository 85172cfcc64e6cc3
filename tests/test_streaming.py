"""docs/tools/streaming.py: shards hold the pictures, batches depend on the step alone, and resuming is exact."""

import sys
from pathlib import Path

import pytest
import torch
from builders import pictures, recipe
from test_training import same

from helpers import CourseError, datasets, recipes
from helpers.training import Plan

pytest.importorskip("webdataset")
import streaming  # noqa: E402


@pytest.fixture
def shards(tmp_path):
    """Four shards of two pictures each, and the folder that they were packed from."""
    folder = pictures(tmp_path / "set", count=8)
    streaming.pack(str(folder), tmp_path / "shards", 2)
    return sorted(map(str, (tmp_path / "shards").glob("*.tar")))


def test_shards_hold_each_picture_once_and_unchanged(shards, tmp_path):
    found = [pair for shard in shards for pair in streaming.read(shard, recipe()).pairs]
    wanted = datasets.load_all(datasets.folder(tmp_path / "set"))
    assert len(shards) == 4
    assert sorted(y.flatten().tolist() for _, y in found) == sorted(y.flatten().tolist() for y in wanted)
    with pytest.raises(CourseError, match="is there already"):
        streaming.pack(str(tmp_path / "set"), tmp_path / "shards", 2)


def test_a_batch_is_a_function_of_step_and_rank_however_one_gets_there(shards):
    straight, back = (streaming.Shards(shards, recipe(), stay=3) for _ in range(2))
    batches = [straight(step) for step in range(14)]
    for step in (13, 5, 0):
        assert all(torch.equal(a, b) for a, b in zip(batches[step], back(step), strict=True))
    epochs = [tuple(straight.shard(at + k) for k in range(4)) for at in range(0, 40, 4)]
    assert all(sorted(epoch) == shards for epoch in epochs) and len(set(epochs)) > 1


def test_two_processes_draw_from_different_shards(shards, monkeypatch):
    monkeypatch.setattr(streaming.devices, "world", lambda: 2)
    batches = streaming.Shards(shards, recipe(), stay=3)
    drawn = [[y for step in range(6) for _, y in batches.patches(step, rank).pairs] for rank in (0, 1)]
    seen = [{y.numpy().tobytes() for y in pictures} for pictures in drawn]
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == 8


def test_a_streamed_training_resumes_exactly(shards, tmp_path):
    one = recipe(plan=Plan(8, 1e-2, every=4))
    streaming.train(shards, one, 2, tmp_path / "whole", resume=False)
    short = recipes.dataclasses.replace(one, plan=Plan(8, 1e-2, every=3))
    stop = tmp_path / "broken" / "stop"
    stop.parent.mkdir()
    stop.touch()  # after the first step
    assert streaming.train(shards, short, 2, stop.parent, resume=False)[-1]["step"] == 1
    assert streaming.train(shards, one, 2, stop.parent, resume=True)[-1]["step"] == 8
    whole, broken = (torch.load(tmp_path / k / "last.pt", weights_only=True)["model"] for k in ("whole", "broken"))
    assert same(whole, broken)


def test_what_cannot_be_used_is_one_sentence(shards, monkeypatch, capsys):
    cut, text, other, good = map(Path, shards)
    cut.write_bytes(cut.read_bytes()[:700])
    text.write_bytes(b"hello")
    with streaming.webdataset.TarWriter(str(other)) as writer:
        writer.write({"__key__": "a", "png": b"no picture"})
    bad = {path: [f"error: {path}: "] for path in (cut, text)} | {other: [f"error: {other}: ", "a.png"]}
    calls = [("measure", path, hints) for path, hints in bad.items()]
    calls += [("pack", good, ["a folder of pictures"]), ("train", good, ["two shards or more"])]
    for what, path, hints in calls:
        monkeypatch.setattr(sys, "argv", ["streaming.py", what, str(path)])
        with pytest.raises(SystemExit, match="2"):
            streaming.main()
        [line] = capsys.readouterr().err.splitlines()
        assert all(hint in line for hint in hints)
