"""The GPU kit without a GPU: what it would report, the card that it pretends, and that documents say what was tried.

What comes out of the pack of docs/tools/gpu_pack.py trains as here, on the same files.
"""

import contextlib
import copy
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gpu
import gpu_pack
import nbformat
import pandas as pd
import pretended
import pytest
import torch
import update_readme
from builders import photograph, pictures
from nbformat import v4
from torch import nn

from helpers import CourseError, datasets, degradations, images, models, training, zoo
from helpers import __main__ as command

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def card():
    with pretended.gpu():
        yield torch.device("cuda", 0)


def test_what_is_made_of_tensors_on_the_card_is_there_too(card):
    x = torch.ones(2, 3, device="cuda")
    made = [x[0], x.view(3, 2), torch.stack([x, x]), x.new_zeros(2), nn.Parameter(x), x.max(1).values]
    made += [x * torch.tensor(2.0), torch.ones(2).to(x), copy.deepcopy(x), x[torch.ones(2) > 0], x[torch.tensor([0])]]
    with ThreadPoolExecutor() as pool:
        made += pool.map(lambda t: t, [x])
    assert {t.device for t in made} == {card} and all(t.is_cuda for t in made)
    y = x.cpu() + 1
    assert {t.device.type for t in (y, x.to("cpu"), torch.ones(2))} == {"cpu"}
    x[:] = y
    y.copy_(x + 1)
    assert x[0].tolist() == [2, 2, 2] and y.sum().item() == 18 and x.device == card and y.device.type == "cpu"
    with pytest.raises(TypeError, match="cpu"):
        x.numpy()


def test_a_restored_picture_lies_where_it_was_whatever_was_found(card):
    model, clean = zoo.load("jpeg-blind").to(card), images.load_uint8(datasets.bundled("chelsea"))[:, :128, :128]
    spoiled = degradations.for_task("jpeg-color-q10")(clean)
    made = model.restore(torch.stack([clean, spoiled]).to(card))
    assert made.device == card and torch.equal(made[0].cpu(), clean) and not torch.equal(made[1].cpu(), spoiled)


REFUSED = [
    lambda x, y: x + y,
    lambda x, y: torch.cat([x, torch.tensor(1.0)[None]]),
    lambda x, y: nn.functional.mse_loss(x, y),
    lambda x, y: nn.Linear(3, 2).to("cuda")(y),
    lambda x, y: nn.Linear(3, 2)(x),
    lambda x, y: y[x > 0],
    lambda x, y: x.__setitem__(torch.tensor([0, 1, 0]), y),
    lambda x, y: torch.equal(x, y),
]


@pytest.mark.parametrize("refused", REFUSED)
def test_two_devices_do_not_meet(card, refused):
    with pytest.raises(RuntimeError, match="same device"):
        refused(torch.ones(3, device="cuda"), torch.ones(3))


@pytest.fixture
def tried(monkeypatch, tmp_path, capsys):
    """Run cells as the kit does; how many faults there were, and what it prints."""
    monkeypatch.chdir(tmp_path)
    for name in ("IPython", "IPython.display", "ipywidgets"):
        monkeypatch.setitem(sys.modules, name, None)  # which a test's end brings back

    def run(*sources: str, **how) -> tuple[int, str]:
        cells = [v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources, start=1)]
        nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("x"), *cells]), tmp_path / "01_x.ipynb")
        report = gpu.Report("notebooks", {}, **how)
        gpu.notebook(report, tmp_path / "01_x.ipynb")
        return report.faults, capsys.readouterr().out

    return run


def test_a_cell_that_raises_is_reported_with_its_number_and_the_next_ones_run(tried):
    cells = ("%run start.py\nif True:\n    !ls\n", "def f():\n    1 / 0\n\nf()", "assert 1 == 2, 'no'", "y = 1")
    faults, said = tried(*cells)
    assert faults == 2 and "cell-4" not in said and "code cell 3 (cell-3): AssertionError: no" in said
    assert re.search(r"code cell 2 \(cell-2\): ZeroDivisionError: division by zero .*> cell 2:4 > cell 2:2\]", said)
    knob = "from ipywidgets import IntSlider, interact\n_ = interact(lambda x: 1 / x, x=IntSlider({}, min=0))"
    assert [tried(knob.format(value))[0] for value in (3, 0)] == [0, 1]  # moved once


def test_a_quick_run_trains_some_steps_and_computes_its_asserts(tried):
    loop = "count = 0\nfor i in range(100):\n    count += 1\n    if False: loss.backward()\nother = list(range(9))"
    cells = ("TRAIN_STEPS = 2_000  # x", loop, "assert False", "assert no_such_name", "1 / (count - TRAIN_STEPS)")
    faults, said = tried(*cells, quick=True)
    assert faults == 2 and "no_such_name" in said and "cell-5): ZeroDivisionError" in said


def test_a_network_that_differs_is_reported(capsys):
    picture = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0))
    with pretended.gpu():
        model = zoo.load("srcnn-915-x3")
        there = copy.deepcopy(model).to("cuda")
        report = gpu.Report("restoring", {})
        with report.check("right"):
            gpu.agree(report, "x", model, there, "sr-x3", picture)
        assert report.faults == 0
        there.conv3.bias.data += 0.002
        with report.check("wrong"):
            gpu.agree(report, "x", model, there, "sr-x3", picture)
    assert report.faults == 1
    said = capsys.readouterr().out
    assert "FAULT  restoring, wrong: Fault: largest difference, float32 0.0023 > 0.00039" in said


def part(name: str) -> None:
    """Parts of a run, each in a process: one that is killed, one that hangs, one that fails, one that is well."""
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60 * (name == "slow"))
    sys.exit(name == "wrong")


def test_a_part_that_dies_fails_or_hangs_leaves_the_others_alone(capfd):
    start = time.monotonic()
    assert gpu.run(["killed", "well", "wrong"], part, start + 60) == ["killed", "wrong"]
    assert gpu.run(["well", "slow"], part, time.monotonic() + 3) == ["slow"]
    assert time.monotonic() - start < 60
    said = capfd.readouterr().out
    assert "killed: exit code -9" in said and "slow: out of time" in said and "well" not in said


def test_the_table_keeps_other_devices_and_grows_as_it_is_measured(tmp_path):
    table = tmp_path / "gpu.csv"
    for device in ("A", "B", "A"):
        gpu.begin(table, device)
        about = {"device": device, "driver": "1", "torch": "2", "date": "3", "commit": "4"}
        gpu.Report("timing", about, table).measured("edsr-x3", "patches per second", 1234.5)
    device, value = (pd.read_csv(table)[column].tolist() for column in ("device", "value"))
    assert device == ["B", "A"] and value[0] == 1234.5


def test_a_run_goes_on_where_the_precision_is_another(tmp_path):
    """From bfloat16 to float16, whose scaler is then new, and on the CPU, which has none."""
    x, y = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 24, 24)
    for steps, capability in enumerate(((8, 0), (7, 5), (7, 5), None), start=1):
        model, plan = models.build("fsrcnn", scale=3), training.Plan(steps, every=1)
        how = {"out": tmp_path, "resume": True, "progress": False, "device": None if capability else "cpu"}
        with pretended.gpu(capability) if capability else contextlib.nullcontext():
            log = training.train(model, lambda *_: (x, y), nn.MSELoss(), plan, **how)
    assert [row["step"] for row in log] == [1, 2, 3, 4]


def test_documents_say_what_was_tried_on_a_gpu_and_no_more():
    """`test_the_tables_are_generated_from_the_measured_results` compares the two generated places with this."""
    found = update_readme.gpu_rows()
    for path, minutes in update_readme.gpu_minutes(found).items():
        first = json.loads((ROOT / "notebooks" / f"{path}.ipynb").read_text(encoding="utf-8"))["cells"][0]
        said = re.search(r"\(on a GPU: ([^)]+)\)", "".join(first["source"]))
        assert not said or said[1] == minutes
    on_t4 = found["device"].str.contains("T4").any()
    assert ("Minutes on a T4: not measured." in (ROOT / "docs" / "colab.md").read_text(encoding="utf-8")) != on_t4


def test_without_a_measured_row_the_sentence_stays_and_with_one_it_goes():
    about = {"device": "H100", "driver": "570", "torch": "2.11", "date": "2026-12-01", "commit": "abc"}
    numbers = [("timing", "edsr-x3", name, 12.0) for name in update_readme.TIMED]
    numbers += [("restoring", "edsr-x3", "largest difference, float32", 1e-4)]
    numbers += [("notebooks", path.stem, "seconds", 90) for path in gpu.BOOKS.values()]
    numbers += [(part, part, "faults", 2 * (part == "training")) for part in ("restoring", "training", "timing")]
    rows = pd.DataFrame([about | dict(zip(gpu.COLUMNS[5:], row, strict=True)) for row in numbers])
    assert "**Not verified on a GPU.**" in update_readme.gpu_section(rows[:0])
    assert update_readme.gpu_sentence(rows[:0]) == "On a GPU: not measured."
    text = update_readme.gpu_section(rows)
    assert "Not verified on a GPU" not in text and "Not verified on a T4" in text
    assert "| edsr-x3 | 12 | 12 | 12 | 12 | 12 |" in text and "| edsr-x3 | 0.026 |" in text
    assert "checks failed: training 2; not finished: files, notebooks" in text
    assert "On a GPU (H100): 1.5 minutes, 1.5 minutes" in update_readme.gpu_sentence(rows)
    assert "Not verified" not in update_readme.gpu_section(rows.assign(device="Tesla T4"))


@pytest.mark.long
@pytest.mark.parametrize(
    "parts", [("restoring", "training", "files", "timing"), ("02", "03")], ids=["helpers", "notebooks"]
)
def test_the_course_runs_on_a_pretended_gpu(parts):
    """Two notebooks for all: the others take minutes, `python tests/gpu.py --device cpu --quick` runs them."""
    command = [sys.executable, "tests/gpu.py", "--device", "cpu", "--quick", "--minutes", "15", *parts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all parts passed" in done.stdout


# ------------------------------------------------------------------------------------- a pack for training elsewhere


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
