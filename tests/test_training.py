import contextlib
import errno
import io
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from builders import photograph, pictures, tree
from safetensors.torch import load_file
from torch import nn

from helpers import CourseError, datasets, degradations, images, metrics, models, training
from helpers.service import devices
from helpers.training import Plan, train

ROOT = Path(training.__file__).resolve().parent.parent
TARGETS = [images.to_uint8(photograph(32, 40, 1, seed)) for seed in range(3)]
INPUTS = [degradations.for_task("sr-x2")(y) for y in TARGETS]
VALIDATION = [(images.to_float(x), images.to_float(y)) for x, y in zip(INPUTS, TARGETS, strict=True)]


class WithNoise(nn.Module):
    """A network that draws random numbers, which a resumed run must draw again."""

    scale = 2

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Dropout(0.5), nn.Conv2d(8, 4, 3, padding=1))

    def forward(self, x):
        return nn.functional.pixel_shuffle(self.body(x), 2)


def network(kind=None, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return kind() if kind else models.EDSR(2, 4, 1)


def patches(**options) -> datasets.Patches:
    return datasets.Patches(TARGETS, INPUTS, **({"size": 8, "batch": 4, "scale": 2} | options))


def until(step: int, act):
    """The batches, and `act()` while batch number `step` is drawn."""
    batches = patches()

    def batch(k: int, rank: int):
        if k == step:
            act()
        return batches(k, rank)

    return batch


def fit(model=None, batch=None, plan=None, loss=None, **options):
    model = network() if model is None else model
    log = train(model, batch or patches(), loss or nn.MSELoss(), plan or Plan(6, every=3), progress=False, **options)
    return model, log


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def without_time(log: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in log]


def last(folder: Path) -> dict:
    return torch.load(folder / "last.pt", weights_only=True)


@pytest.fixture
def scores(monkeypatch):
    """Makes validations score as given, one after the other; the last one for ever."""

    def give(*psnrs: float) -> None:
        left = list(psnrs)
        row = {"ssim": 0.5}
        monkeypatch.setattr(training, "validate", lambda *_: row | {"psnr": left.pop(0) if left[1:] else left[0]})

    return give


# ------------------------------------------------------------------------------------------ it learns


def test_the_loss_falls_and_the_picture_gets_better():
    model = network()
    nn.init.normal_(model.tail.weight, std=0.3)
    start = training.validate(model, VALIDATION)["psnr"]
    model, log = fit(model, plan=Plan(40, 1e-2, every=10, averaging=0.8), validation=VALIDATION)
    assert [row["step"] for row in log] == [10, 20, 30, 40]
    assert log[-1]["loss"] < log[0]["loss"] / 2 and log[-1]["psnr"] > start + 3
    assert training.validate(model, VALIDATION)["psnr"] == pytest.approx(log[-1]["psnr"], abs=1e-3)
    assert not model.training


@pytest.mark.parametrize("wrong", [{"schedule": "cosinus"}, {"steps": 0}, {"every": 0}])
def test_a_plan_that_is_none_is_an_error(wrong):
    with pytest.raises(CourseError, match="a plan has a schedule, cosine, plateau or constant"):
        Plan(**{"steps": 1} | wrong)


def test_cosine_warms_up_and_ends_at_one_percent():
    rates = [row["learning_rate"] for row in fit(plan=Plan(20, 0.1, warmup=4, every=1))[1]]
    expected = [0.1 * (k + 1) / 4 for k in range(1, 4)]
    expected += [0.1 * (0.01 + 0.99 * (1 + math.cos(math.pi * k / 16)) / 2) for k in range(17)]
    assert rates == pytest.approx(expected) and rates[-1] == pytest.approx(0.001)


def test_plateau_lowers_the_rate_after_patience(scores):
    scores(30, 31, 31, 31, 31, 32, 32)
    _, log = fit(plan=Plan(7, 0.01, "plateau", every=1, patience=1), validation=VALIDATION)
    assert [row["learning_rate"] for row in log] == pytest.approx([0.01] * 4 + [0.005] * 3)


def test_the_average_is_exponential_and_zero_keeps_the_last(tmp_path):
    model, batches, seen = network(), patches(), []

    def batch(step, rank):
        seen.append(model.state_dict()["tail.weight"].clone())
        return batches(step, rank)

    fit(model, batch, Plan(8, 1e-2, averaging=0.5, every=8), out=tmp_path)
    average, *others = [*seen[1:], last(tmp_path)["model"]["tail.weight"]]
    for count, weight in enumerate(others, 1):
        average = average.lerp(weight, 1 - min(0.5, (1 + count) / (10 + count)))
    assert torch.allclose(model.tail.weight, average, atol=1e-6)
    assert not torch.allclose(model.tail.weight, others[-1], atol=1e-6)
    model, _ = fit(plan=Plan(8, 1e-2, averaging=0, every=8), out=tmp_path / "zero")
    assert same(model.state_dict(), last(tmp_path / "zero")["model"])


def test_network_and_loss_are_given_float32_channels_last_and_the_loss_no_border():
    targets = [torch.cat([y] * 3) for y in TARGETS]
    inputs = [torch.cat([x] * 3) for x in INPUTS]
    model, seen = models.EDSR(2, 4, 1, channels=3), []
    model.head.register_forward_hook(lambda layer, given, _: seen.extend([*given, layer.weight]))

    def loss(prediction, y):
        seen.append(y)
        assert prediction.shape == y.shape == (4, 3, 10, 10) and prediction.dtype == torch.float32
        return (prediction - y).square().mean()

    fit(model, datasets.Patches(targets, inputs, size=8, batch=4, scale=2), Plan(1, shave=3), loss)
    assert [t.stride(1) for t in seen] == [1, 1, 1]  # input, weight, target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("clip", [0.5, None])
def test_clipping_bounds_the_gradient(monkeypatch, dtype, clip):
    """With float16 the loss is scaled: gradients must be scaled back before they are clipped."""
    monkeypatch.setattr(training, "precision", lambda _: dtype)
    model, _ = fit(plan=Plan(1, clip=clip), loss=lambda prediction, y: 1e3 * nn.functional.mse_loss(prediction, y))
    norm = torch.cat([weight.grad.flatten() for weight in model.parameters()]).norm().item()
    assert norm == pytest.approx(0.5, rel=0.01) if clip else norm > 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_networks_compute_in_the_precision_of_the_device_and_at_the_end_in_full(monkeypatch, dtype):
    monkeypatch.setattr(devices, "precision", lambda _: dtype)
    model, seen = network(), []
    model.head.register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    fit(model, plan=Plan(3, float32_steps=1))
    assert seen == [dtype, dtype, torch.float32]


def test_validation_rounds_crops_and_keeps_the_mode():
    model = models.SRCNN(2, (9, 1, 5)).train()
    model.start_from_interpolation()
    expected = []
    for x, y in VALIDATION:
        up = images.quantize(degradations.upscale(x, 2))[..., 2:-2, 2:-2]
        expected.append(metrics.psnr(up, y[..., 2:-2, 2:-2]))
    assert training.validate(model, VALIDATION)["psnr"] == pytest.approx(sum(expected) / 3, abs=0.01)
    assert model.training


# --------------------------------------------------------------------------------------------- resume

PLANS = [
    (WithNoise, Plan(12, 1e-2, warmup=3, averaging=0.9, every=3), 6),  # stopped at a validation, or between two
    (None, Plan(12, 1e-2, "plateau", patience=0, averaging=0.9, every=3), 6),
    (WithNoise, Plan(12, 1e-2, "constant", averaging=0, every=3, clip=0.1), 7),
]


@pytest.mark.parametrize(("kind", "plan", "stop"), PLANS, ids=["cosine", "plateau", "constant"])
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, scores, kind, plan, stop):
    """Bit for bit: weights, average, optimizer, schedule."""
    scores(30.0)  # a validation that never gets better, so that a plateau's rate falls
    out, how = tmp_path / "broken", {"plan": plan, "validation": VALIDATION}
    whole, log = fit(network(kind), out=tmp_path / "whole", **how)
    assert (log[-1]["learning_rate"] < plan.learning_rate) == (plan.schedule != "constant")
    _, first = fit(network(kind), until(stop - 1, (out / "stop").touch), out=out, **how)
    assert first[-1]["step"] == stop and not (out / "stop").exists()
    torch.rand(7)  # the state of the global generator must not matter
    resumed, second = fit(network(kind, seed=5), until(0, pytest.fail), out=out, resume=True, **how)
    assert same(whole.state_dict(), resumed.state_dict())
    one, two = last(tmp_path / "whole"), last(out)
    assert same(one["model"], two["model"]) and same(one["average"], two["average"])
    assert str(one["optimizer"]) == str(two["optimizer"])
    if stop % plan.every == 0:
        assert without_time(log) == without_time(second) and one["schedule"] == two["schedule"]
    again, third = fit(network(kind, 3), pytest.fail, out=out, resume=True, **how)
    assert same(again.state_dict(), resumed.state_dict()) and third == second  # it is finished


def test_a_run_that_is_overwritten_leaves_nothing_behind_and_takes_nothing_else_away(tmp_path):
    """That it is overwritten only when that is asked for, test_command_line shows. What a killed run left goes, too."""
    fit(plan=Plan(6, every=1), validation=VALIDATION, out=tmp_path, origin={"recipe": "first"})
    (tmp_path / "first.json").write_text("the card of the run")
    mine = {"notes.txt", "package.json", "other.safetensors", "first.log", ".mine.zip.00.part"}
    left = {f".{name}.00.part" for name in ("last.pt", "step-0000002.safetensors", "best.safetensors")}
    for name in mine | left:
        (tmp_path / name).write_text("mine")
    model, log = fit(network(seed=5), plan=Plan(2, every=2), out=tmp_path, overwrite=True)
    assert [row["step"] for row in log] == [2]
    assert {p.name for p in tmp_path.iterdir()} == {"last.pt", "step-0000002.safetensors", "tensorboard"} | mine
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1  # that of the new run
    assert same(load_file(tmp_path / "step-0000002.safetensors"), model.state_dict())


ORIGIN = {"loss": "mse", "sets": ["T91"]}
OTHERS = [  # what is another when the run is resumed, and what the sentence says of it
    ({"origin": ORIGIN | {"loss": "l1"}}, "this run began with loss mse; go on"),
    ({"plan": Plan(4, 1e-5)}, "began with learning_rate 0.001; go on"),
    ({"model": models.FSRCNN(2)}, "began with network EDSR; go on"),
    ({"model": models.EDSR(2, 8, 1)}, "not a checkpoint of this model"),
]


@pytest.mark.parametrize(("options", "hint"), OTHERS)
def test_a_checkpoint_of_another_run_is_an_error(tmp_path, options, hint):
    fit(plan=Plan(2), out=tmp_path, origin=ORIGIN)
    before = tree(tmp_path)
    with pytest.raises(CourseError, match=rf"last\.pt: .*{hint}"):
        fit(**{"batch": pytest.fail, "plan": Plan(4), "origin": ORIGIN} | options, out=tmp_path, resume=True)
    assert tree(tmp_path) == before


def test_a_resumed_run_may_be_longer_validate_more_often_and_say_more_of_its_origin(tmp_path):
    assert fit(plan=Plan(2), out=tmp_path, resume=True)[1][-1]["step"] == 2  # without a checkpoint it begins
    plan = Plan(np.int64(4), np.float64(1e-3), every=1, warmup=1)  # NumPy's numbers, which a checkpoint cannot hold
    _, log = fit(plan=plan, out=tmp_path, origin=ORIGIN, resume=True)
    assert fit(plan=plan, out=tmp_path, origin=ORIGIN, resume=True)[1] == log
    assert [row["step"] for row in log] == [2, 3, 4]
    assert fit(plan=Plan(5, 1e-3, float32_steps=2), out=tmp_path, origin=ORIGIN, resume=True)[1][-1]["step"] == 5
    assert ORIGIN.items() <= last(tmp_path)["origin"].items()


@pytest.mark.parametrize("damage", ["text", "half", "parts"])
def test_a_damaged_checkpoint_is_an_error(tmp_path, damage):
    fit(plan=Plan(1), out=tmp_path)
    path, state = tmp_path / "last.pt", last(tmp_path)
    path.write_bytes(b"hello" if damage == "text" else path.read_bytes()[:2000])
    if damage == "parts":
        torch.save({key: state[key] for key in state if key != "log"}, path)
    with pytest.raises(CourseError, match=r"last\.pt: not a checkpoint of this model, or damaged; .*\.$"):
        fit(out=tmp_path, resume=True)


# -------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("how", ["file", "ctrl-c", "deadline"])
def test_a_run_that_is_stopped_is_saved(tmp_path, monkeypatch, how):
    before, now = signal.getsignal(signal.SIGINT), [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    acts = {
        "file": (tmp_path / "stop").touch,
        "ctrl-c": lambda: signal.raise_signal(signal.SIGINT),
        "deadline": lambda: now.insert(0, 9.0),
    }
    model, log = fit(batch=until(4, acts[how]), plan=Plan(50, every=20), out=tmp_path, deadline=9.0)
    assert [row["step"] for row in log] == [5] and last(tmp_path)["step"] == 5
    assert same(model.state_dict(), load_file(tmp_path / "step-0000005.safetensors"))
    assert not (tmp_path / "stop").exists() and signal.getsignal(signal.SIGINT) == before


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(batch=until(4, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)]), out=tmp_path)
    assert signal.getsignal(signal.SIGINT) == before


# ------------------------------------------------------------------------------------ what is written


def test_checkpoints_at_intervals_and_the_best_also_after_resuming(tmp_path, scores):
    plan = Plan(8, 1e-2, every=2)
    scores(30.0, 33.0, 31.0)
    fit(batch=until(3, (tmp_path / "stop").touch), plan=plan, validation=VALIDATION, out=tmp_path)
    scores(32.0, 31.0)
    fit(plan=plan, validation=VALIDATION, out=tmp_path, resume=True)
    names = [f"step-000000{step}.safetensors" for step in (2, 4, 6, 8)]
    assert sorted(p.name for p in tmp_path.glob("step-*")) == names
    first, second, *_ = (load_file(tmp_path / name) for name in names)
    assert same(load_file(tmp_path / "best.safetensors"), second) and not same(first, second)
    assert not list(tmp_path.glob(".*"))  # no temporary file


def test_tensorboard_has_scalars_and_panels_of_input_output_target(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan, model = Plan(6, 1e-4, averaging=0, every=2), network()
    nn.init.normal_(model.tail.weight, std=0.3)  # an output that is neither input nor target
    fit(model, until(3, (tmp_path / "stop").touch), plan, validation=VALIDATION, out=tmp_path)
    model, log = fit(plan=plan, validation=VALIDATION, out=tmp_path, resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for key in ("loss", "psnr", "ssim", "learning_rate"):
        assert [e.step for e in events.Scalars(key)] == [2, 4, 6]
        assert [e.value for e in events.Scalars(key)] == pytest.approx([row[key] for row in log], rel=1e-5)
    for index, (x, y) in enumerate(VALIDATION):
        coded = events.Images(f"input, output, target/{index}")[-1].encoded_image_string
        strip = images.load(io.BytesIO(coded))[:1]
        with torch.no_grad():
            wanted = [nn.functional.interpolate(x[None], (32, 40))[0], model(x[None])[0].clamp(0, 1), y]
        assert torch.allclose(strip, torch.cat(wanted, dim=-1), atol=1.1 / 255)
        assert min((wanted[1] - other).abs().max() for other in (wanted[0], wanted[2])) > 0.05


def breaks_at(call: int, value: float = math.nan, gradient: bool = False):
    """MSE, but of another value at this call, counted from 1; or with a gradient that is no number."""
    count = []

    def loss(prediction, target):
        count.append(1)
        error = nn.functional.mse_loss(prediction, target)
        if len(count) != call:
            return error
        return error + (prediction - prediction.detach()).square().sum().sqrt() if gradient else error * value

    return loss


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (breaks_at(4), "the loss is nan at step 4"),
        (breaks_at(6, math.inf), "the loss is inf at step 6"),
        (breaks_at(6, gradient=True), "a weight is no number after step 6"),
    ],
)
def test_what_is_no_number_ends_the_run_and_the_last_good_weights_are_named(tmp_path, loss, said):
    good = tmp_path / "step-0000003.safetensors"
    with pytest.raises(CourseError, match=f"{said}; .* of step 3; begin a new run .* --start {good}, a lower"):
        fit(plan=Plan(9, every=3), loss=loss, validation=VALIDATION, out=tmp_path)
    assert last(tmp_path)["step"] == 3
    for path in (good, tmp_path / "best.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())
    with pytest.raises(CourseError, match="nan at step 1; begin again with a lower learning rate"):
        fit(loss=breaks_at(1))


@pytest.mark.parametrize("name", ["last.pt", "best.safetensors", "step-0000004.safetensors"])
def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path, monkeypatch, scores, name):
    scores(30.0, 31.0)
    how = {"validation": VALIDATION, "out": tmp_path, "resume": True}
    fit(plan=Plan(2), **how)
    before, write = tree(tmp_path), Path.write_bytes

    def refuse(path, data):
        if path.name.startswith(f".{name}"):
            write(path, bytes(data)[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(CourseError, match=f"^{tmp_path / name}: the disk is full; free some space, .*--resume"):
            fit(plan=Plan(4), **how)
    after = tree(tmp_path)
    assert before["last.pt"] == after["last.pt"] and after.get(name) == before.get(name)
    assert not list(tmp_path.glob(".*"))
    assert fit(plan=Plan(4), **how)[1][-1]["step"] == 4


def test_a_folder_that_cannot_be_written_is_said_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()
    for out, said in (("file/out", r"cannot be written \(Not a directory\); mend that"), ("file", "that is a file")):
        with pytest.raises(CourseError, match=f"{out}: {said}"):
            fit(batch=pytest.fail, out=tmp_path / out)


def test_a_full_disk_under_tensorboard_is_one_sentence(tmp_path, monkeypatch):
    fit(plan=Plan(2, every=2), out=tmp_path)
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(threading, "excepthook", lambda about: None)  # it writes in a thread
    with monkeypatch.context() as patch:
        patch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
        with pytest.raises(
            CourseError, match="tensorboard: the disk is full; free some space, then go on with --resume"
        ):
            fit(plan=Plan(4, every=2), out=tmp_path, resume=True)
    _, log = fit(plan=Plan(4, every=2), out=tmp_path, resume=True)  # all four steps are there
    assert [row["step"] for row in log] == [2, 4] and (tmp_path / "step-0000004.safetensors").is_file()


def test_weights_are_float32_safetensors_of_an_ordinary_layout_and_permissions(tmp_path):
    model = network().to(memory_format=torch.channels_last)
    path = training.save_weights(model, tmp_path / "w.safetensors")
    (tmp_path / "plain").touch()
    assert same(load_file(path), model.state_dict())
    assert {v.dtype for v in load_file(path).values()} == {torch.float32}
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # safetensors itself makes a private file


# --------------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "cpu:x", "meta"])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(CourseError, match=name):
        devices.check_device(name)


@pytest.mark.parametrize(("name", "expected"), [(None, "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0")])
def test_each_process_has_a_gpu_of_its_own(monkeypatch, name, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert devices.pick_device(name) == torch.device(expected)


@pytest.mark.parametrize("able", [True, False])
def test_apples_gpu_is_taken_where_it_can_reduce_pictures(monkeypatch, able):
    """Bicubic interpolation with anti-aliasing came to it with torch 2.7."""

    def interpolate(picture, _, mode, antialias):
        if mode == "bicubic" and antialias and not able:
            raise NotImplementedError("aten::_upsample_bicubic2d_aa.out is not implemented for the MPS device")
        return picture

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda *size, **_: torch.ones(size))
    monkeypatch.setattr(nn.functional, "interpolate", interpolate)
    assert devices.pick_device() == torch.device("mps" if able else "cpu")
    if not able:
        with pytest.raises(CourseError, match="'mps'.*lacks an operation; use cpu"):
            devices.check_device("mps")


def test_for_a_gpu_the_next_batch_is_made_while_the_present_one_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    begun = [threading.Event() for _ in range(4)]
    with contextlib.closing(training._ahead(lambda step: begun[step].set() or step, range(4), "cuda")) as results:
        assert next(results) == 0 and begun[1].wait(9)  # made while the caller is here
        assert next(results) == 1 and begun[2].wait(9) and not begun[3].is_set()  # and no more than one
        assert list(results) == [2, 3]


# ---------------------------------------------------------------------------------------- many processes


def test_a_world_of_one_wants_no_group_and_one_of_several_torchrun(monkeypatch, tmp_path):
    """Clusters set WORLD_SIZE without the rest of what torchrun sets."""
    monkeypatch.setenv("RANK", "1")
    for value in ("", "1"):
        monkeypatch.setenv("WORLD_SIZE", value)
        assert fit(out=tmp_path / f"of {value}")[1][-1]["step"] == last(tmp_path / f"of {value}")["step"] == 6
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CourseError, match="WORLD_SIZE is 2, without MASTER_ADDR and MASTER_PORT; begin with torch"):
        fit()


SCRIPT = """
import os, sys
from pathlib import Path
import torch
from builders import recipe
from helpers import CourseError, __main__ as command, recipes
from helpers.training import Plan
import test_training as t

torch.set_num_threads(1)
out, rank = Path(sys.argv[1]), int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")
leave, torch.distributed.destroy_process_group = torch.distributed.destroy_process_group, lambda: None  # until the end
inner = t.patches()

def keep(name, **facts):
    torch.save(facts, out / f"{name}-{rank}.pt")

def fit(plan, batch=inner, loss=torch.nn.MSELoss(), seed=0, **options):
    model = t.network(seed=seed)
    return {"log": t.train(model, batch, loss, plan, progress=False, **options), "model": model.state_dict()}

for name, plan in (("cosine", Plan(6, 1e-2, every=2)), ("plateau", Plan(6, 1e-2, "plateau", patience=0, every=1))):
    drawn = []
    batch = lambda step, r: (drawn.append(inner(step, r)[0]), inner(step, r))[1]
    keep(name, **fit(plan, batch, validation=t.VALIDATION, out=out / name), drawn=torch.stack(drawn))
one_stops = t.until(2, lambda: rank and (out / "stopped" / "stop").touch())
keep("stopped", **fit(Plan(40, every=40), one_stops, out=out / "stopped"))
for dtype, last in (("float32", 30), ("bfloat16", 0)):  # the same batches as one process would draw
    keep(f"shared-{dtype}", **fit(Plan(30, 1e-2, every=3, float32_steps=last), inner.shared(2)))
try:
    fit(Plan(8, every=2), loss=t.breaks_at(4 if rank else 0), out=out / "broken")
except CourseError as why:
    keep("broken", said=str(why))
own = out / f"machine-{rank}"  # machines without a common disk: the first alone has the run's files
plan = Plan(6, 1e-2, every=2)
fit(plan, t.until(1, lambda: rank or (own / "stop").touch()), validation=t.VALIDATION, out=own)
keep("apart", **fit(plan, seed=5, validation=t.VALIDATION, out=own, resume=True))

recipes.RECIPES["tiny-x2"] = recipe(sets=(sys.argv[2],))
code = command.main(["train", "tiny-x2", "--out", str(out / f"command-{rank}"), "--quiet", "--device", "cpu"])
leave()
sys.exit(code)
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes kept of a run, by its name."""
    out = tmp_path_factory.mktemp("torchrun")
    photographs = pictures(out / "photographs", count=24, height=32, width=32)
    (out / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *"-m torch.distributed.run --standalone --nproc_per_node 2".split()]
    command += map(str, (out / "script.py", out, photographs))
    result = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    names = ("cosine", "plateau", "stopped", "shared-float32", "shared-bfloat16", "broken", "apart")
    return {name: [torch.load(out / f"{name}-{rank}.pt") for rank in (0, 1)] for name in names} | {"folder": out}


@pytest.mark.slow
def test_two_processes_draw_different_batches_and_minimise_their_joint_loss(two_processes):
    """One process that draws both batches at each step ends with the same weights, but for rounding."""
    for name in ("cosine", "plateau"):
        first, second = two_processes[name]
        assert not torch.equal(first["drawn"], second["drawn"])
        assert same(first["model"], second["model"])
    batches = patches()

    def both(step, _):
        return tuple(torch.cat(parts) for parts in zip(*(batches(step, rank) for rank in (0, 1)), strict=True))

    alone = fit(batch=both, plan=Plan(6, 1e-2, every=2))[0].state_dict()
    together = two_processes["cosine"][0]["model"]
    moved = max((v - network().state_dict()[k]).abs().max() for k, v in alone.items())
    assert max((v - together[k]).abs().max() for k, v in alone.items()) < moved / 5


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.02)])
def test_two_processes_that_share_its_batches_learn_as_one(two_processes, dtype, tolerance):
    """The tolerances of docs/scaling.md: sums in another order, and with bfloat16 gradients that are rounded apart."""
    logs = [fit(plan=Plan(30, 1e-2, every=3, float32_steps=30 if dtype == "float32" else 0))[1]]
    logs += [part["log"] for part in two_processes[f"shared-{dtype}"]]
    losses = [[row["loss"] for row in log] for log in logs]
    assert losses[1] == losses[2]  # the mean over both, not each its own
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    assert losses[0][-1] < losses[0][0] / 2


@pytest.mark.slow
def test_a_loss_that_breaks_or_a_stop_file_in_one_process_ends_both(two_processes):
    first, second = two_processes["broken"]
    assert first["said"] == second["said"] and "the loss is nan at step 4; the last" in first["said"]
    assert last(two_processes["folder"] / "broken")["step"] == 2
    steps = [[row["step"] for row in part["log"]] for part in two_processes["stopped"]]  # the second saw the file
    assert steps[0] == steps[1] and steps[0] in ([3], [4])


@pytest.mark.slow
def test_only_the_first_process_writes(two_processes):
    for name, file in (("machine", "last.pt"), ("command", "tiny-x2.safetensors"), ("command", "tiny-x2.json")):
        assert (two_processes["folder"] / f"{name}-0" / file).is_file()
        assert not (two_processes["folder"] / f"{name}-1").exists()


@pytest.mark.slow
def test_processes_without_a_common_disk_resume_as_one(two_processes):
    """What the first process has counts for all; the end is that of the unbroken run."""
    for part in two_processes["apart"]:
        assert [row["step"] for row in part["log"]] == [2, 4, 6]
        assert same(part["model"], two_processes["cosine"][0]["model"])
