"""A training that is killed again and again, with SIGKILL, ends as one that was left alone.

Each life begins in a process forked from a server that has imported PyTorch, so that a start costs next to nothing (a
fresh interpreter takes seconds for it, and there are twenty); the server has run nothing, as a fresh one has not.
"""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import tree
from test_training import VALIDATION, network, patches, same, without_time
from torch import nn
from tqdm.auto import tqdm

from helpers.training import Plan, train

KILLS = 20
MOMENTS = ("draw a step", "half-write last", "draw a step", "rename step", "draw a step", "write last", "rename last")
PLAN = Plan(160, 1e-3, warmup=5, averaging=0.9, every=2)  # longer than what the lives below can reach
IMPORTED = ["test_training", "torch._dynamo", "torch.utils.tensorboard", "pytest"]


def run(out: Path, batch, resume: bool = False) -> None:
    torch.set_num_threads(1)
    options = {"validation": VALIDATION[:1], "out": out, "progress": False, "resume": resume}
    train(network(), batch, nn.MSELoss(), PLAN, **options)


def kind(path: Path) -> str:
    """ "last", "step" or "best" of the path of a file, or of the temporary one that becomes it."""
    return path.name.lstrip(".")[:4]


def live(out: Path, moment: str, count: int, parent) -> None:
    """Resume the run in `out`, and tell the parent at the `count`-th such moment of this life."""
    write, replace, batches = Path.write_bytes, os.replace, patches()
    left, steps = [count], []
    tqdm.set_lock(threading.RLock())  # its own would leave a semaphore behind each kill

    def note(what: str) -> None:
        left[0] -= what == moment
        if what == moment and left[0] == 0:
            parent.send(what)
            time.sleep(600 * (what != "draw a step"))  # the kill comes while a file is as it is

    def batch(step: int, rank: int):
        steps.append(step)
        if len(steps) == 2 * count + 4:
            time.sleep(600)  # on a busy machine, the kill comes late
        note("draw a step")
        return batches(step, rank)

    def write_slowly(path: Path, data) -> None:
        write(path, bytes(data)[: len(data) // 2])
        note(f"half-write {kind(path)}")
        write(path, data)
        note(f"write {kind(path)}")

    def replace_slowly(old, new) -> None:
        replace(old, new)
        note(f"rename {kind(new)}")

    if moment:
        Path.write_bytes, os.replace = write_slowly, replace_slowly
    run(out, batch if moment else batches, resume=True)


@pytest.mark.slow
@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
def test_twenty_kills_change_nothing(tmp_path, monkeypatch):
    """Between steps and in them, and with a file half-written, or written and not renamed, or renamed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(IMPORTED)
    rng = np.random.default_rng(0)

    def begin(moment: str = "", count: int = 0):
        here, there = server.Pipe()
        process = server.Process(target=live, args=(tmp_path / "killed", moment, count, there))
        process.start()
        there.close()  # so that the end of a life is heard of
        return process, here

    for kill in range(KILLS):
        moment = MOMENTS[kill % len(MOMENTS)]
        count = int(rng.integers(1, 11 if moment == "draw a step" else 6))
        process, life = begin(moment, count)
        assert life.poll(120), f"life {kill} never came to {moment} number {count}"
        assert life.recv() == moment
        time.sleep(rng.uniform(0, 0.02) if moment == "draw a step" else 0)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process, _ = begin()
    process.join()
    assert process.exitcode == 0

    run(tmp_path / "whole", patches())
    whole, killed = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "killed"))
    assert same(whole["model"], killed["model"])
    assert same(whole["average"], killed["average"])
    assert str(whole["optimizer"]) == str(killed["optimizer"])
    assert without_time(whole["log"]) == without_time(killed["log"])
    kept = [{name: data for name, data in tree(tmp_path / run).items() if "/" not in name and name != "last.pt"}
            for run in ("whole", "killed")]  # fmt: skip
    assert kept[0] == kept[1]  # and so nothing is half-written
    assert len(kept[0]) == PLAN.steps // PLAN.every + 1  # and the best
