import contextlib
import dataclasses
import errno
import io
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import photograph, pictures
from PIL import Image
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


# ------------------------------------------------------------------------------------------ it learns


def test_the_loss_falls_and_the_picture_gets_better():
    model = network()
    nn.init.normal_(model.tail.weight, std=0.3)
    start = training.validate(model, VALIDATION)["psnr"]
    model, log = fit(model, plan=Plan(60, 1e-2, every=20, averaging=0.8), validation=VALIDATION)
    assert [row["step"] for row in log] == [20, 40, 60]
    assert log[-1]["loss"] < log[0]["loss"] / 2
    assert log[-1]["psnr"] > start + 3
    assert training.validate(model, VALIDATION)["psnr"] == pytest.approx(log[-1]["psnr"], abs=1e-3)
    assert not model.training


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_every_optimizer_and_schedule_moves_the_weights(optimizer, schedule):
    before = {k: v.clone() for k, v in network().state_dict().items()}
    model, _ = fit(plan=Plan(4, 1e-2, schedule, optimizer=optimizer, every=2), validation=VALIDATION)
    assert all(v.isfinite().all() for v in model.state_dict().values())
    assert not same(before, model.state_dict())


@pytest.mark.parametrize("wrong", [{"schedule": "cosinus"}, {"optimizer": "adamm"}])
def test_an_unknown_optimizer_or_schedule_is_an_error(wrong):
    with pytest.raises(CourseError, match=next(iter(wrong.values()))):
        fit(plan=Plan(1, **wrong))


def test_cosine_warms_up_and_ends_at_one_percent():
    rates = [row["learning_rate"] for row in fit(plan=Plan(20, 0.1, warmup=4, every=1))[1]]
    expected = [0.1 * (k + 1) / 4 for k in range(1, 4)]
    expected += [0.1 * (0.01 + 0.99 * (1 + math.cos(math.pi * k / 16)) / 2) for k in range(17)]
    assert rates == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0.001)


def test_plateau_halves_after_patience(monkeypatch):
    scores = iter([30, 31, 31, 31, 31, 32, 32])
    monkeypatch.setattr(training, "validate", lambda *_: {"psnr": next(scores), "ssim": 0.5})
    _, log = fit(plan=Plan(7, 0.01, "plateau", patience=1, every=1), validation=VALIDATION)
    assert [row["learning_rate"] for row in log] == pytest.approx([0.01] * 4 + [0.005] * 3)


def test_plateau_has_its_factor_and_threshold(monkeypatch):
    scores = iter([30.0, 30.1, 30.2, 31.0])  # 0.5 % of 30 is 0.15
    monkeypatch.setattr(training, "validate", lambda *_: {"psnr": next(scores), "ssim": 0.5})
    plan = Plan(4, 0.01, "plateau", patience=0, factor=0.2, threshold=5e-3, every=1)
    _, log = fit(plan=plan, validation=VALIDATION)
    assert [row["learning_rate"] for row in log] == pytest.approx([0.01, 0.01, 0.002, 0.002])


def test_the_average_is_exponential_and_zero_keeps_the_last(tmp_path):
    model, seen = network(), []
    batches = patches()

    def batch(step, rank):
        seen.append(model.state_dict()["tail.weight"].clone())
        return batches(step, rank)

    fit(model, batch, Plan(8, 1e-2, averaging=0.5, every=8), out=tmp_path)
    seen.append(torch.load(tmp_path / "last.pt", weights_only=True)["model"]["tail.weight"])
    average = seen[1]
    for count, weight in enumerate(seen[2:], 1):
        decay = min(0.5, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(model.tail.weight, average, atol=1e-6)
    assert not torch.allclose(model.tail.weight, seen[-1], atol=1e-6)

    model, _ = fit(plan=Plan(8, 1e-2, averaging=0, every=8), out=tmp_path / "zero")
    last = torch.load(tmp_path / "zero" / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(value, last[key]) for key, value in model.state_dict().items())


def test_the_loss_sees_float32_without_the_border():
    shapes = []

    def loss(prediction, target):
        shapes.append((prediction.shape, target.shape, prediction.dtype))
        return (prediction - target).square().mean()

    fit(plan=Plan(1, shave=3), loss=loss)
    assert shapes == [((4, 1, 10, 10), (4, 1, 10, 10), torch.float32)]


def moved(plan: Plan) -> float:
    """How far the weights go, as a norm, on a loss that is much too large."""
    before = {key: value.clone() for key, value in network().state_dict().items()}
    model, _ = fit(plan=plan, loss=lambda prediction, y: 1e4 * nn.functional.mse_loss(prediction, y))
    return torch.cat([(value - before[key]).flatten() for key, value in model.state_dict().items()]).norm().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_clipping_bounds_a_step(monkeypatch, dtype):
    """With float16 the loss is scaled: gradients must be scaled back before they are clipped."""
    monkeypatch.setattr(training, "precision", lambda _: dtype)
    plan = Plan(1, 0.01, "constant", optimizer="sgd", averaging=0, clip=0.5)
    assert moved(plan) == pytest.approx(0.01 * 0.5, rel=0.01)
    assert moved(dataclasses.replace(plan, clip=None)) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_networks_compute_in_the_precision_of_the_device(monkeypatch, dtype):
    monkeypatch.setattr(devices, "precision", lambda _: dtype)
    model, seen = network(), []
    model.head.register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    fit(model, plan=Plan(2))
    assert seen == [dtype] * 2


def test_batches_and_weights_are_channels_last():
    targets = [images.to_uint8(photograph(32, 40, 3, seed)) for seed in range(3)]
    inputs = [degradations.for_task("sr-x2")(y) for y in targets]
    model, seen = models.EDSR(2, 4, 1, channels=3), []
    model.head.register_forward_hook(lambda layer, given, _: seen.extend([*given, layer.weight]))

    def loss(prediction, y):
        seen.append(y)
        return (prediction - y).square().mean()

    fit(model, datasets.Patches(targets, inputs, size=8, batch=4, scale=2), Plan(1), loss)
    assert len(seen) == 3
    for tensor in seen:  # input, weight, target
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()


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

PLANS = {
    "cosine": Plan(20, 1e-2, warmup=3, averaging=0.9, every=5),
    "plateau": Plan(20, 1e-2, "plateau", patience=0, averaging=0.9, every=5),
    "constant-sgd": Plan(20, 1e-2, "constant", optimizer="sgd", averaging=0, every=5, clip=0.1),
    "adamw": Plan(20, 1e-2, optimizer="adamw", averaging=0.99, every=5),
}


@pytest.mark.parametrize("kind", [None, WithNoise], ids=["edsr", "dropout"])
@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("stop", [10, 8], ids=["at-a-validation", "between-validations"])
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, monkeypatch, kind, name, stop):
    """Bit for bit: weights, average, optimizer, schedule."""
    if name == "plateau":  # a validation that never gets better, so that the rate falls
        monkeypatch.setattr(training, "validate", lambda *_: {"psnr": 30.0, "ssim": 0.5})
    plan, out = PLANS[name], tmp_path / "broken"
    whole, log = fit(network(kind), plan=plan, validation=VALIDATION, out=tmp_path / "whole")
    if name == "plateau":
        assert log[-1]["learning_rate"] < plan.learning_rate  # else there is nothing to get wrong

    _, first = fit(network(kind), until(stop - 1, (out / "stop").touch), plan, validation=VALIDATION, out=out)
    assert first[-1]["step"] == stop
    torch.rand(7)  # the state of the global generator must not matter
    resumed, second = fit(network(kind, seed=5), plan=plan, validation=VALIDATION, out=out, resume=True)
    assert second[-1]["step"] == 20
    assert same(whole.state_dict(), resumed.state_dict())
    one, two = (torch.load(tmp_path / part / "last.pt", weights_only=True) for part in ("whole", "broken"))
    assert same(one["model"], two["model"])
    assert same(one["average"], two["average"])
    assert str(one["optimizer"]) == str(two["optimizer"])
    if stop % plan.every == 0:
        assert without_time(log) == without_time(second)
        assert one["schedule"] == two["schedule"]


def test_resuming_draws_only_the_batches_that_are_left(tmp_path):
    drawn, batches = [], patches()

    def batch(step, rank):
        drawn.append(step)
        if step == 3 and len(drawn) == 4:
            (tmp_path / "stop").touch()
        return batches(step, rank)

    fit(batch=batch, plan=Plan(8), out=tmp_path)
    fit(batch=batch, plan=Plan(8), out=tmp_path, resume=True)
    assert drawn == list(range(8))


def test_resuming_a_finished_run_returns_its_result(tmp_path):
    model, log = fit(out=tmp_path)
    again, same_log = fit(network(seed=3), until(0, pytest.fail), out=tmp_path, resume=True)
    assert same(model.state_dict(), again.state_dict())
    assert log == same_log


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_not_overwritten_unasked(tmp_path):
    fit(validation=VALIDATION, out=tmp_path)
    before = files(tmp_path)
    with pytest.raises(CourseError, match=r"last\.pt: a run is there already; .*--resume.*--overwrite.*--out\.$"):
        fit(batch=until(0, pytest.fail), out=tmp_path)
    assert files(tmp_path) == before


def test_overwriting_clears_the_old_run_and_nothing_else(tmp_path):
    fit(plan=Plan(6, every=1), validation=VALIDATION, out=tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    model, log = fit(network(seed=5), plan=Plan(2, every=2), out=tmp_path, overwrite=True)
    assert [row["step"] for row in log] == [2]
    assert {p.name for p in tmp_path.iterdir()} == {"last.pt", "step-0000002.safetensors", "tensorboard", "notes.txt"}
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert same(load_file(tmp_path / "step-0000002.safetensors"), model.state_dict())


ORIGIN = {"loss": "mse", "batch": 4, "sets": ["T91"], "SHA-256 of T91": "15ee"}


@pytest.mark.parametrize("change", [{"loss": "l1"}, {"batch": 8}, {"sets": ["T91", "mine"]}, {"SHA-256 of T91": "0"}])
def test_a_checkpoint_of_another_recipe_or_of_other_data_is_an_error(tmp_path, change):
    fit(plan=Plan(2), out=tmp_path, origin=ORIGIN)
    before, key = files(tmp_path), next(iter(change))
    with pytest.raises(CourseError) as caught:
        fit(batch=until(2, pytest.fail), plan=Plan(4), out=tmp_path, origin=ORIGIN | change, resume=True)
    assert f"last.pt: this run began with {key} {ORIGIN[key]}; go on" in str(caught.value)
    assert files(tmp_path) == before


def test_a_resumed_run_may_be_longer_and_validate_more_often(tmp_path):
    fit(plan=Plan(2), out=tmp_path, origin=ORIGIN)
    _, log = fit(plan=Plan(4, every=1, warmup=1), out=tmp_path, origin=ORIGIN, resume=True)
    assert [row["step"] for row in log] == [2, 3, 4]


def test_a_checkpoint_from_before_recipes_were_noted_resumes(tmp_path):
    fit(plan=Plan(2), out=tmp_path)
    _, log = fit(plan=Plan(4), out=tmp_path, origin=ORIGIN, resume=True)
    assert log[-1]["step"] == 4
    assert ORIGIN.items() <= torch.load(tmp_path / "last.pt", weights_only=True)["origin"].items()


def test_resume_without_a_checkpoint_begins(tmp_path):
    assert fit(out=tmp_path, resume=True)[1][-1]["step"] == 6


@pytest.mark.parametrize("other", [("edsr", 2, 8, 1), ("edsr", 3, 4, 1), ("fsrcnn", 2)])
def test_a_checkpoint_of_another_model_is_an_error(tmp_path, other):
    fit(out=tmp_path)
    with pytest.raises(CourseError, match=r"last\.pt") as caught:
        fit(models.KINDS[other[0]](*other[1:]), out=tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_the_same_shapes_for_another_scale_is_an_error(tmp_path):
    fit(models.SRCNN(2, (9, 1, 5)), plan=Plan(1), out=tmp_path)
    with pytest.raises(CourseError, match=r"last\.pt"):
        fit(models.SRCNN(4, (9, 1, 5)), plan=Plan(1), out=tmp_path, resume=True)


@pytest.mark.parametrize("change", [{"schedule": "plateau"}, {"schedule": "constant"}, {"optimizer": "sgd"}])
def test_a_checkpoint_of_another_plan_is_an_error(tmp_path, change):
    plan = Plan(8, every=4)
    fit(batch=until(3, (tmp_path / "stop").touch), plan=plan, out=tmp_path)
    with pytest.raises(CourseError, match=r"last\.pt"):
        fit(plan=dataclasses.replace(plan, **change), out=tmp_path, resume=True)


def test_resuming_with_another_learning_rate_uses_it_or_refuses(tmp_path):
    """Lower the learning rate, says the error of a diverging run: then that must have an effect."""
    plan = Plan(8, 1e-3, "constant", every=4)
    fit(batch=until(3, (tmp_path / "stop").touch), plan=plan, out=tmp_path)
    try:
        _, log = fit(plan=dataclasses.replace(plan, learning_rate=1e-5), out=tmp_path, resume=True)
    except CourseError:
        return
    assert log[-1]["learning_rate"] == pytest.approx(1e-5)


def test_too_little_memory_to_resume_says_nothing_against_the_checkpoint(tmp_path, monkeypatch):
    fit(out=tmp_path)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training.Run, "_rehearse", full)
    with pytest.raises(torch.OutOfMemoryError):
        fit(out=tmp_path, resume=True)


@pytest.mark.parametrize("damage", ["empty", "text", "half", "list", "parts"])
def test_a_damaged_checkpoint_is_an_error(tmp_path, damage):
    fit(out=tmp_path)
    path = tmp_path / "last.pt"
    whole = path.read_bytes()
    if damage in ("list", "parts"):
        state = torch.load(path, weights_only=True)
        torch.save([1, 2] if damage == "list" else {k: v for k, v in state.items() if k != "log"}, path)
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "half": whole[: len(whole) // 2]}[damage])
    with pytest.raises(CourseError, match=r"last\.pt") as caught:
        fit(out=tmp_path, resume=True)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------- stopping


def test_a_stop_file_saves_and_ends(tmp_path):
    model, log = fit(batch=until(4, (tmp_path / "stop").touch), plan=Plan(50, every=20), out=tmp_path)
    assert [row["step"] for row in log] == [5]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 5
    assert not (tmp_path / "stop").exists()
    assert same(model.state_dict(), load_file(tmp_path / "step-0000005.safetensors"))


def test_ctrl_c_saves_and_ends(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    _, log = fit(batch=until(4, lambda: signal.raise_signal(signal.SIGINT)), plan=Plan(50, every=20), out=tmp_path)
    assert [row["step"] for row in log] == [5]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 5
    assert signal.getsignal(signal.SIGINT) == before


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(batch=until(4, twice), plan=Plan(50, every=20), out=tmp_path)
    assert signal.getsignal(signal.SIGINT) == before


# ------------------------------------------------------------------------------------ what is written


def test_checkpoints_at_intervals_and_the_best(tmp_path, monkeypatch):
    scores = iter([30.0, 33.0, 31.0])
    monkeypatch.setattr(training, "validate", lambda *_: {"psnr": next(scores), "ssim": 0.5})
    fit(plan=Plan(6, 1e-2, every=2), validation=VALIDATION, out=tmp_path)
    names = [f"step-000000{step}.safetensors" for step in (2, 4, 6)]
    assert sorted(p.name for p in tmp_path.glob("step-*")) == names
    first, second, third = (load_file(tmp_path / name) for name in names)
    assert same(load_file(tmp_path / "best.safetensors"), second)
    assert not same(first, second)
    assert not same(second, third)
    assert not list(tmp_path.glob(".*"))  # no temporary file


def test_the_best_stays_the_best_after_resuming(tmp_path, monkeypatch):
    scores = iter([33.0, 32.0, 31.0])
    monkeypatch.setattr(training, "validate", lambda *_: {"psnr": next(scores), "ssim": 0.5})
    plan = Plan(6, 1e-2, every=2)
    fit(batch=until(1, (tmp_path / "stop").touch), plan=plan, validation=VALIDATION, out=tmp_path)
    fit(plan=plan, validation=VALIDATION, out=tmp_path, resume=True)
    assert same(load_file(tmp_path / "best.safetensors"), load_file(tmp_path / "step-0000002.safetensors"))


def test_tensorboard_has_scalars_and_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan = Plan(6, every=2)
    fit(batch=until(3, (tmp_path / "stop").touch), plan=plan, validation=VALIDATION, out=tmp_path)
    _, log = fit(plan=plan, validation=VALIDATION, out=tmp_path, resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for key in ("loss", "psnr", "ssim", "learning_rate"):
        assert [e.step for e in events.Scalars(key)] == [2, 4, 6]
        assert [e.value for e in events.Scalars(key)] == pytest.approx([row[key] for row in log], rel=1e-5)
    tags = events.Tags()["images"]
    assert len(tags) == len(VALIDATION)
    picture = events.Images(tags[0])[-1]
    assert (picture.height, picture.width) == (32, 3 * 40)  # input, output, target


def test_the_panels_are_input_output_target(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = network()
    nn.init.normal_(model.tail.weight, std=0.3)  # an output that is neither input nor target
    fit(model, plan=Plan(1, 1e-4), validation=VALIDATION, out=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for index, (x, y) in enumerate(VALIDATION):
        coded = events.Images(f"input, output, target/{index}")[-1].encoded_image_string
        strip = torch.from_numpy(np.array(Image.open(io.BytesIO(coded)).convert("L"))) / 255
        with torch.no_grad():
            wanted = [nn.functional.interpolate(x[None], (32, 40))[0, 0], model(x[None])[0, 0].clamp(0, 1), y[0]]
        for panel, picture in zip(strip.split(40, dim=1), wanted, strict=True):
            assert torch.allclose(panel, picture, atol=1.1 / 255)
        assert min((wanted[1] - other).abs().max() for other in (wanted[0], wanted[2])) > 0.05


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    calls = []

    def loss(prediction, target):
        calls.append(1)
        return (prediction - target).square().mean() * (math.nan if len(calls) > 3 else 1)

    with pytest.raises(CourseError, match="loss is nan at step 4"):
        fit(plan=Plan(8, every=2), loss=loss, validation=VALIDATION, out=tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 2
    assert all(v.isfinite().all() for v in load_file(tmp_path / "best.safetensors").values())


def breaks_at(*calls: int, value: float = math.nan):
    """MSE, but of another value at these calls, counted from 1."""
    count = []

    def loss(prediction, target):
        count.append(1)
        return nn.functional.mse_loss(prediction, target) * (value if len(count) in calls else 1)

    return loss


@pytest.mark.parametrize("bad", [4, 5, 6])
def test_a_broken_loss_names_its_step_its_pictures_and_the_last_good_weights(tmp_path, bad):
    batches = patches(sources=["a", "b", "c"], batch=2)
    with pytest.raises(CourseError) as caught:
        fit(batch=batches, plan=Plan(9, every=3), loss=breaks_at(bad, value=math.inf), out=tmp_path)
    of, before = (", ".join(dict.fromkeys(batches.names(step))) for step in (bad - 1, bad - 2))
    good = tmp_path / "step-0000003.safetensors"
    assert f"the loss is inf at step {bad}, on patches of {of} (and of {before} in the update" in str(caught.value)
    assert f"good weights are those of step 3; begin a new run from them: --start {good}, a lower" in str(caught.value)
    assert all(value.isfinite().all() for value in load_file(good).values())


def test_weights_that_break_in_the_last_step_before_a_checkpoint_are_not_saved(tmp_path):
    """Their loss was finite: the gradient was not."""

    def loss(prediction, target):
        steep[0] += 1
        nothing = (prediction - prediction.detach()).square().sum()
        return nn.functional.mse_loss(prediction, target) + (nothing.sqrt() if steep[0] == 4 else nothing)

    steep = [0]
    with pytest.raises(CourseError, match="a weight is no number after step 4; the last good .* of step 2;"):
        fit(plan=Plan(6, every=2), loss=loss, out=tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 2


def test_weights_that_are_no_numbers_are_never_the_best(tmp_path):
    """The loss of the step that breaks them is still finite."""
    with contextlib.suppress(CourseError):
        fit(plan=Plan(1, math.inf, "constant", averaging=0), validation=VALIDATION, out=tmp_path)
    assert not (tmp_path / "best.safetensors").exists()


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    fit(plan=Plan(2, every=2), out=tmp_path)
    before, started = (tmp_path / "last.pt").read_bytes(), []

    def full(path, data):
        with open(path, "wb") as file:
            started.append(file.write(b"half"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises((OSError, CourseError)):
        fit(plan=Plan(4, every=2), out=tmp_path, resume=True)
    assert started
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["last.pt", "best.safetensors", "step-0000004.safetensors"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path, monkeypatch, name, code):
    fit(plan=Plan(2, every=2), validation=VALIDATION, out=tmp_path)
    before, write = files(tmp_path), Path.write_bytes
    monkeypatch.setattr(training, "validate", lambda *_: {"psnr": 99.0, "ssim": 1.0})

    def refuse(path, data):
        write(path, bytes(data)[:100])
        if path.name.startswith(f".{name}"):
            raise OSError(code, os.strerror(code))
        write(path, data)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(CourseError) as caught:
        fit(plan=Plan(4, every=2), validation=VALIDATION, out=tmp_path, resume=True)
    reason = "the disk is full; free some space" if code == errno.ENOSPC else f"({os.strerror(code)})"
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert reason in str(caught.value)
    assert "--resume" in str(caught.value)
    after = files(tmp_path)
    assert before["last.pt"] == after["last.pt"]
    assert after.get(name) == before.get(name)
    assert not list(tmp_path.glob(".*"))
    monkeypatch.setattr(Path, "write_bytes", write)
    assert fit(plan=Plan(4, every=2), validation=VALIDATION, out=tmp_path, resume=True)[1][-1]["step"] == 4


def test_a_disk_that_refuses_to_keep_what_it_took_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    """Some file systems find only then that there is no room."""
    fit(plan=Plan(2, every=2), out=tmp_path)
    before = files(tmp_path)["last.pt"]

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CourseError, match="the disk is full"):
        fit(plan=Plan(4, every=2), out=tmp_path, resume=True)
    assert files(tmp_path)["last.pt"] == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_cannot_be_written_is_said_before_the_first_step(tmp_path, monkeypatch, resume):
    def closed(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(training.tempfile, "TemporaryFile", closed)
    with pytest.raises(CourseError, match=r"out: cannot be written \(Permission denied\); mend that"):
        fit(batch=until(0, pytest.fail), out=tmp_path / "out", resume=resume)


def test_what_a_killed_run_left_half_written_is_cleared_away(tmp_path):
    names = (".last.pt.00.part", ".step-0000002.safetensors.00.part", ".best.safetensors.00.part", ".mine.zip.00.part")
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    fit(plan=Plan(1), out=tmp_path, resume=True)
    assert [path.name for path in tmp_path.glob(".*")] == [names[-1]]


def test_a_full_disk_under_tensorboard_is_one_sentence(tmp_path, monkeypatch):
    """It writes in a thread, which would print a traceback of its own."""
    heard = []
    note = heard.append
    monkeypatch.setattr(threading, "excepthook", note)
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    fit(plan=Plan(2, every=2), out=tmp_path)
    before = files(tmp_path)["last.pt"]
    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(CourseError, match="tensorboard: the disk is full; free some space, then go on with --resume"):
        fit(plan=Plan(4, every=2), out=tmp_path, resume=True)
    assert files(tmp_path)["last.pt"] == before
    assert not heard
    assert threading.excepthook is note


FULL = """
import sys
from pathlib import Path
import test_training as t
from helpers import training
out = Path(sys.argv[1])
model, plan = t.models.EDSR(2, 32, 2), lambda steps: t.Plan(steps, every=1)
t.fit(model, plan=plan(2), out=out)
before = (out / "last.pt").read_bytes()
try:
    t.fit(model, plan=plan(200), out=out, resume=True)
except CourseError as why:
    print(why)
assert not list(out.glob(".*")), list(out.glob(".*"))
step = t.torch.load(out / "last.pt", weights_only=True)["step"]
print("step", step)
assert step > 2 or (out / "last.pt").read_bytes() == before
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["size=4m", "ro"])
def test_a_disk_that_is_really_full_or_closed(tmp_path, what):
    """A disk of 4 MB in memory, in a name space of its own; or one that may not be written."""
    disk, script = tmp_path / "disk", tmp_path / "script.py"
    disk.mkdir()
    script.write_text(FULL if what != "ro" else "import sys, test_training as t\nt.fit(out=sys.argv[1])")
    shell = f"mount -t tmpfs -o {what} tmpfs {disk} && exec {sys.executable} {script} {disk}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    probe = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs -o {what} tmpfs {disk}"]
    with contextlib.suppress(OSError):
        if subprocess.run(probe, check=False, capture_output=True).returncode == 0:
            found = subprocess.run([*probe[:-1], shell], check=False, env=environment, capture_output=True, text=True)
            if what == "ro":
                assert f"{disk}: cannot be written (Read-only file system); mend that" in found.stderr
            else:
                assert found.returncode == 0, found.stderr
                assert "the disk is full; free some space" in found.stdout
                assert "Traceback" not in found.stderr
            return
    pytest.skip("this system lets no one mount a disk of one's own")


def test_weights_are_float32_safetensors_of_an_ordinary_layout(tmp_path):
    model = network().to(memory_format=torch.channels_last)
    training.save_weights(model, tmp_path / "w.safetensors")
    state = load_file(tmp_path / "w.safetensors")
    assert same(state, model.state_dict())
    assert {v.dtype for v in state.values()} == {torch.float32}


def test_weights_have_ordinary_permissions(tmp_path):
    """safetensors renames a private file of its own over the path it is given."""
    (tmp_path / "plain").touch()
    path = training.save_weights(network(), tmp_path / "w.safetensors")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


# --------------------------------------------------------------------------------------------- devices


def test_the_gpu_of_a_run_is_the_current_one(monkeypatch):
    def noted(device):
        raise InterruptedError(str(device))

    monkeypatch.setattr(torch.cuda, "set_device", noted)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(InterruptedError, match="cuda:1"):
        fit(device="cuda")


def test_for_a_gpu_the_next_batch_is_made_while_the_present_one_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    begun, go_on = [threading.Event() for _ in range(4)], threading.Event()

    def make(step: int) -> tuple[int, threading.Thread]:
        begun[step].set()
        assert step < 2 or go_on.wait(9)
        return step, threading.current_thread()

    with contextlib.closing(training._ahead(make, range(4), torch.device("cuda", 1))) as results:
        assert next(results)[0] == 0 and begun[1].wait(9)  # made while the caller is here
        assert next(results)[0] == 1 and begun[2].wait(9) and not begun[3].is_set()  # and no more than one
        go_on.set()
        step, thread = next(results)
        assert step == 2 and thread is not threading.current_thread()
    assert not thread.is_alive()  # one that is stopped leaves no thread behind
    assert list(training._ahead(lambda step: step, range(3), torch.device("cuda"))) == [0, 1, 2]
    assert list(training._ahead(make, range(0), torch.device("cuda"))) == []


def test_what_goes_wrong_in_a_batch_made_ahead_is_heard(monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    results = training._ahead(lambda step: 1 // (1 - step), range(3), torch.device("cuda"))
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


# ---------------------------------------------------------------------------------------- many processes


def test_a_world_of_one_wants_no_group(monkeypatch):
    """Clusters set WORLD_SIZE without the rest of what torchrun sets."""
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "3")  # not ours, then
    assert fit()[1][-1]["step"] == 6
    assert devices.rank() == 0


def test_a_world_of_several_without_torchrun_is_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(CourseError, match="WORLD_SIZE is 2, without MASTER_ADDR and MASTER_PORT; begin with torch"):
        fit()


SCRIPT = """
import os, sys
from pathlib import Path
import torch
from builders import recipe
from helpers import __main__ as command, recipes
from helpers.training import Plan
import test_training as t

torch.set_num_threads(1)
out, rank = Path(sys.argv[1]), int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")
leave, torch.distributed.destroy_process_group = torch.distributed.destroy_process_group, lambda: None  # until the end
replace = os.replace
def noted(source, target):
    with open(out / "written.txt", "a") as file:
        file.write(f"{rank} {Path(target).name}\\n")
    replace(source, target)
os.replace = noted

class Batches:
    inner = t.patches()
    drawn = []
    def __call__(self, step, rank):
        self.drawn.append(self.inner(step, rank)[0])
        return self.inner(step, rank)

for name, plan in (("cosine", Plan(6, 1e-2, every=2)), ("plateau", Plan(6, 1e-2, "plateau", patience=0, every=1))):
    batches, model = Batches(), t.network()
    batches.drawn = []
    log = t.train(model, batches, torch.nn.MSELoss(), plan, validation=t.VALIDATION, out=out / name, progress=False)
    facts = {"log": log, "drawn": torch.stack(batches.drawn), "model": model.state_dict()}
    torch.save(facts, out / f"{name}-{rank}.pt")

if rank == 1:
    stop = lambda step: (out / "stopped" / "stop").touch() if step == 2 else None
else:
    stop = lambda step: None
inner = t.patches()
log = t.train(t.network(), lambda step, rank: (stop(step), inner(step, rank))[1], torch.nn.MSELoss(),
              Plan(40, every=40), out=out / "stopped", progress=False)
torch.save([row["step"] for row in log], out / f"stopped-{rank}.pt")

for dtype, last in (("float32", 30), ("bfloat16", 0)):  # the same batches as one process would draw
    plan = Plan(30, 1e-2, every=3, float32_steps=last)
    log = t.train(t.network(), t.datasets.Share(t.patches(), 2), torch.nn.MSELoss(), plan, progress=False)
    torch.save(log, out / f"shared-{dtype}-{rank}.pt")

def broken(prediction, y):
    count.append(1)
    return torch.nn.functional.mse_loss(prediction, y) * (float("nan") if rank == 1 and len(count) == 4 else 1)
count = []
try:
    batches = t.patches(sources=["a", "b", "c"], batch=2)
    t.train(t.network(), batches, broken, Plan(8, every=2), out=out / "broken", progress=False)
except CourseError as why:
    (out / f"broken-{rank}.txt").write_text(str(why))

own = out / f"machine-{rank}"  # machines without a common disk: the first alone has the run's files
def stopping(step, rank):
    if (step, rank) == (1, 0):
        (own / "stop").touch()
    return inner(step, rank)
plan = Plan(6, 1e-2, every=2)
t.train(t.network(), stopping, torch.nn.MSELoss(), plan, validation=t.VALIDATION, out=own, progress=False)
there = (own / "last.pt").exists()
model = t.network(seed=5)
log = t.train(model, inner, torch.nn.MSELoss(), plan, validation=t.VALIDATION, out=own, progress=False, resume=True)
torch.save({"there": there, "log": log, "model": model.state_dict()}, out / f"apart-{rank}.pt")

recipes.RECIPES["tiny-x2"] = recipe(sets=(sys.argv[2],))
code = command.main(["train", "tiny-x2", "--out", str(out / "command"), "--quiet", "--device", "cpu"])
leave()
sys.exit(code)
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    out = tmp_path_factory.mktemp("torchrun")
    photographs = pictures(out / "photographs", count=24, height=32, width=32)
    (out / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(out / "script.py"), str(out), str(photographs)]  # fmt: skip
    result = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    return out


def facts(out: Path, name: str) -> list[dict]:
    return [torch.load(out / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cosine", "plateau"])
def test_two_processes_draw_different_batches_and_end_with_one_network(two_processes, name):
    first, second = facts(two_processes, name)
    assert not torch.equal(first["drawn"], second["drawn"])
    assert same(first["model"], second["model"])
    assert not same(first["model"], network().state_dict())
    assert first["log"][-1]["step"] == 6


@pytest.mark.slow
def test_two_processes_minimise_their_joint_loss(two_processes):
    """One process that draws both batches at each step ends with the same weights, but for rounding."""
    batches = patches()

    def both(step, _):
        pairs = [batches(step, rank) for rank in (0, 1)]
        return tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))

    alone, _ = fit(batch=both, plan=Plan(6, 1e-2, every=2))
    together = facts(two_processes, "cosine")[0]["model"]
    moved = max((v - network().state_dict()[k]).abs().max() for k, v in alone.state_dict().items())
    apart = max((v - together[k]).abs().max() for k, v in alone.state_dict().items())
    assert apart < moved / 5


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.02)])
def test_two_processes_that_share_its_batches_learn_as_one(two_processes, dtype, tolerance):
    """The tolerances of docs/scaling.md: sums in another order, and with bfloat16 gradients that are rounded apart."""
    logs = [torch.load(two_processes / f"shared-{dtype}-{rank}.pt") for rank in (0, 1)]
    alone = fit(plan=Plan(30, 1e-2, every=3, float32_steps=30 if dtype == "float32" else 0))[1]
    losses = [[row["loss"] for row in log] for log in (alone, *logs)]
    assert losses[1] == losses[2]  # the mean over both, not each its own
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    assert losses[0][-1] < losses[0][0] / 2
    apart = max(abs(a / b - 1) for a, b in zip(*losses[:2], strict=True))
    print(f"loss curves of one and two processes, {dtype}: at most {apart:.1e} apart")


@pytest.mark.slow
def test_a_loss_that_breaks_in_one_process_is_the_same_error_in_all(two_processes):
    said = [(two_processes / f"broken-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1]
    names = ", ".join(dict.fromkeys(patches(sources=["a", "b", "c"], batch=2).names(3, 1)))
    assert f"the loss is nan at step 4, on patches of {names} (and" in said[0]
    assert torch.load(two_processes / "broken" / "last.pt", weights_only=True)["step"] == 2


@pytest.mark.slow
def test_only_the_first_process_writes(two_processes):
    written = [line.split() for line in (two_processes / "written.txt").read_text().splitlines()]
    assert {rank for rank, _ in written} == {"0"}
    assert [name for _, name in written].count("tiny-x2.json") == 1
    assert (two_processes / "command" / "tiny-x2.safetensors").is_file()


@pytest.mark.slow
def test_processes_without_a_common_disk_resume_as_one(two_processes):
    """What the first process has counts for all; the end is that of the unbroken run."""
    parts = facts(two_processes, "apart")
    assert [part["there"] for part in parts] == [True, False]
    for part in parts:
        assert [row["step"] for row in part["log"]] == [2, 4, 6]
        assert same(part["model"], facts(two_processes, "cosine")[0]["model"])


@pytest.mark.slow
def test_a_stop_file_that_any_process_sees_ends_all(two_processes):
    steps = torch.load(two_processes / "stopped-0.pt", weights_only=True)
    assert len(steps) == 1
    assert steps[0] in (3, 4)
