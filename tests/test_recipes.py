import dataclasses
import json
import math

import pytest
import torch
from builders import photograph, pictures, recipe
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import CourseError, datasets, images, recipes, training, zoo
from helpers.losses import LOSSES
from helpers.models import Restorer
from helpers.service.files import sha256
from helpers.training import Plan

every_recipe = pytest.mark.parametrize("name", recipes.RECIPES)


@every_recipe
def test_a_recipe_fits_together(name):
    one = recipes.RECIPES[name]
    assert one.name == name
    assert one.loss in LOSSES
    assert one.start_from is None or one.start_from in recipes.RECIPES
    assert one.origin
    model = recipes.network(one)
    assert isinstance(model, Restorer) or one.task in ("codec", "cs")
    assert getattr(model, "scale", 1) == one.scale
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), recipes.network(one).parameters(), strict=True))


@every_recipe
def test_start_from_shares_most_weights(name):
    one = recipes.RECIPES[name]
    if one.start_from:
        own = recipes.network(one).state_dict()
        own |= {key.removeprefix("restorer."): value for key, value in own.items()}  # a codec begins with a restorer
        given = recipes.network(recipes.RECIPES[one.start_from]).state_dict()
        shared = sum(v.numel() for k, v in given.items() if k in own and own[k].shape == v.shape)
        assert shared > 0.9 * sum(v.numel() for v in given.values())


class Waiting(TorchDispatchMode):
    """Refuses the copies to a device for which a program would wait. Of values, "meta" has none that could be read."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        moves = function is torch.ops.aten._to_copy.default and str(options.get("device")) == "meta"
        assert not moves or arguments[0].is_meta or options.get("non_blocking"), "a copy that is waited for"
        return function(*arguments, **options)


@every_recipe
def test_a_step_of_training_never_waits_for_the_device(name):
    one = recipes.find(name)
    model = recipes.network(one)
    run = training.Run(model, one.plan, None, "meta")
    x = torch.empty(one.batch, model.channels, one.patch, one.patch, device="meta")
    y = x.new_empty(one.batch, model.channels, one.patch * one.scale, one.patch * one.scale)
    loss = LOSSES[one.loss]()
    with Waiting():
        for _ in range(2):  # the average begins with the second
            run.update(training._loss(loss, run.network(x), y, one.plan.shave))


def test_every_network_of_the_course_has_a_recipe():
    asked = {
        "srcnn-915-x3",
        *(f"{kind}-x{s}" for kind in ("srcnn-955", "fsrcnn", "edsr") for s in (2, 3, 4)),
        "skyline",
    }
    assert asked <= set(recipes.RECIPES)


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(CourseError, match=r"'srcnn'.*srcnn-915-x3, srcnn-955-x3"):
        recipes.find("srcnn")
    assert recipes.find("skyline") is recipes.RECIPES["skyline"]


def test_changed():
    one = dataclasses.replace(recipe(), plan=Plan(20_000, 1e-3, warmup=500, every=2000, clip=0.2, seed=4))
    assert recipes.changed(one) == one
    short = recipes.changed(one, steps=40, batch=3, seed=9, learning_rate=0.01, sets=("a", "b"))
    assert (short.plan.steps, short.plan.warmup, short.plan.every) == (40, 4, 10)
    assert (short.plan.seed, short.plan.learning_rate, short.plan.clip) == (9, 0.01, 0.2)
    assert (short.batch, short.sets) == (3, ("a", "b"))
    assert recipes.changed(one, seed=0).plan.seed == 0
    assert recipes.changed(one, steps=3).plan.every == 1


@pytest.mark.parametrize("rate", [0.0, -1e-3, 1.0, math.nan, math.inf])
def test_a_learning_rate_out_of_range_is_refused(rate):
    with pytest.raises(CourseError, match="learning rate"):
        recipes.changed(recipe(), learning_rate=rate)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_prepare_keeps_held_out_pictures_apart(tmp_path, channels, scale):
    pictures(tmp_path / "set", count=45)
    network = {"kind": "edsr", "scale": scale, "width": 4, "blocks": 1, "channels": channels}
    batches, validation = recipes.prepare(recipe("r", scale, network=network, sets=(str(tmp_path / "set"),)))
    assert len(validation) == 1
    assert len(batches.pairs) == 44
    x, y = validation[0]
    assert y.shape == (channels, 48 - 48 % scale, 56 - 56 % scale)
    assert x.shape == (channels, y.shape[1] // scale, y.shape[2] // scale)
    held = images.to_uint8(y)
    assert not any(torch.equal(held, target) for _, target in batches.pairs)
    x, y = batches(0)
    assert x.shape[1:] == (channels, 8, 8)
    assert y.shape[1:] == (channels, 8 * scale, 8 * scale)


def test_a_small_set_holds_out_a_picture_too(tmp_path):
    """The bundled set is smaller than HELD_OUT; without a held-out picture there is no best and no PSNR."""
    pictures(tmp_path / "set", count=8)
    batches, validation = recipes.prepare(recipe(sets=(str(tmp_path / "set"),)))
    assert len(validation) >= 1
    assert len(batches.pairs) == 8 - len(validation)


def test_a_copy_of_a_held_out_picture_is_not_trained_on(tmp_path):
    """T91 has one picture under two names."""
    folder = pictures(tmp_path / "set", count=44)
    (folder / "044.png").write_bytes((folder / "020.png").read_bytes())
    batches, validation = recipes.prepare(recipe(sets=(str(folder),)))
    assert len(batches.pairs) == 45 - 2
    held = images.to_uint8(validation[0][1])
    assert not any(torch.equal(held, target) for _, target in batches.pairs)


def test_enlarge_adds_each_picture_twice_as_large(tmp_path):
    pictures(tmp_path / "set", count=22)
    batches, validation = recipes.prepare(recipe("r", 1, sets=(str(tmp_path / "set"),), enlarge=True))
    assert sorted({target.shape[-1] for _, target in batches.pairs}) == [56, 112]
    assert len(batches.pairs) == 2 * 21
    assert {y.shape[-1] for _, y in validation} == {56}


def test_run_begins_with_the_weights_that_fit(tmp_path):
    pictures(tmp_path / "set", count=24)
    one = recipe(sets=(str(tmp_path / "set"),), plan=Plan(1, 1e-30, every=1, averaging=0))
    start = {k: torch.randn_like(v) for k, v in recipes.network(recipe("s", 3)).state_dict().items()}
    model, log, _ = recipes.run(one, tmp_path / "out", progress=False, device="cpu", start=start)
    state = model.state_dict()
    assert torch.allclose(state["head.weight"], start["head.weight"])
    assert state["tail.weight"].shape != start["tail.weight"].shape
    assert log[-1]["psnr"] > 0


def test_run_minimises_the_loss_of_its_recipe(tmp_path, monkeypatch):
    calls = []

    class Spy(torch.nn.MSELoss):
        def forward(self, prediction, target):
            calls.append(prediction.shape)
            return super().forward(prediction, target)

    monkeypatch.setitem(LOSSES, "spy", Spy)
    one = recipe(sets=(str(pictures(tmp_path / "set", count=3)),), loss="spy")
    recipes.run(one, tmp_path / "out", progress=False, device="cpu")
    assert calls == [(2, 1, 16, 16)] * 4


def test_run_tells_how_many_pictures_it_drew_from(tmp_path):
    folder = pictures(tmp_path / "set", count=43)
    for index in (3, 5):
        images.save(folder / f"{index:03d}.png", photograph(14, 40, seed=100 + index))
    one = recipe(sets=(str(folder),), plan=Plan(1))
    facts = recipes.run(one, tmp_path / "out", progress=False, device="cpu")[-1]
    assert facts["pictures"] == {"drawn_from": 40, "too_small": 2, "held_out": 1}


def test_a_run_resumes_with_its_recipe_and_its_data_alone(tmp_path):
    one = recipe(sets=(str(pictures(tmp_path / "set", count=3)),))
    options = {"out": tmp_path / "out", "progress": False, "device": "cpu"}
    options["started_from"] = {"name": "a", "sha256": "0"}
    recipes.run(one, **options)
    changes = {"loss": "mse", "batch": 3, "patch": 9, "start_from": "other", "sets": (*one.sets, *one.sets)}
    changes |= {"network": one.network | {"scale": 2, "channels": 1}, "name": "other"}
    for key, value in changes.items():
        with pytest.raises(CourseError, match=r"last\.pt: this run began with"):
            recipes.run(dataclasses.replace(one, **{key: value}), resume=True, **options)
    with pytest.raises(CourseError, match=r"began with started from \{'name': 'a', 'sha256': '0'\};"):
        recipes.run(one, resume=True, **options | {"started_from": {"name": "a", "sha256": "1"}})
    longer = recipes.changed(one, steps=6)
    assert recipes.run(longer, resume=True, **options)[1][-1]["step"] == 6
    images.save(tmp_path / "set" / "001.png", photograph(48, 56, seed=9))
    with pytest.raises(CourseError, match="began with SHA-256 of set [0-9a-f]{64};"):
        recipes.run(longer, resume=True, **options)


def test_the_data_are_named_by_their_digest(tmp_path):
    one = recipe(sets=(str(pictures(tmp_path / "set", count=2)),))
    facts = recipes.provenance(one, "cpu")
    assert set(facts["data"]) == {"set"}
    before = facts["data"]["set"]
    assert len(before) == 64
    (tmp_path / "set" / "000.png").write_bytes(b"other")
    assert recipes.provenance(one, "cpu")["data"]["set"] != before
    assert facts["device"].startswith("cpu")


@pytest.mark.parametrize("path", sorted(zoo.WEIGHTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_card_tells_the_recipe_that_the_course_has(path):
    """So that `train NAME` runs what the card says, to its end."""
    about = json.loads(path.read_text(encoding="utf-8"))
    found = recipes.find(about["name"])
    assert about["recipe"] == json.loads(json.dumps(dataclasses.asdict(found)))
    assert about["steps"] == found.plan.steps


def test_notebook_2_tells_the_training_of_its_networks_right():
    book = (zoo.WEIGHTS.parent.parent / "notebooks" / "02_srcnn.ipynb").read_text(encoding="utf-8")
    colour, luma = (recipes.find(name).plan.steps for name in ("srcnn-955-rgb-x3", "srcnn-955-x3"))
    assert f"the colour network was trained for {colour:,} steps, the luma network for {luma:,}" in book
    assert f"after {luma:,} steps" in book
    steps = [recipes.find(name).plan.steps for name in ("srcnn-915-x3", "srcnn-955-x3", "fsrcnn-x3", "edsr-x3")]
    assert f"by different recipes, for {min(steps):,} to {max(steps):,} steps" in book


def test_notebook_4_tells_the_training_of_its_networks_right():
    book = (zoo.WEIGHTS.parent.parent / "notebooks" / "04_noisy_binary_autoencoder.ipynb").read_text(encoding="utf-8")
    noisy, hard = (recipes.find(name) for name in ("npeg", "npeg-hard"))
    assert f"trained for {noisy.plan.steps:,} steps with noise 15" in book
    assert f"`npeg-hard` went on for {hard.plan.steps:,} more" in book
    assert f"(λ = {LOSSES[hard.loss]().penalty:g})" in book


def test_held_out_pictures_too_small_to_measure_are_passed_over(tmp_path):
    folder = pictures(tmp_path / "set", count=1, height=12, width=12)
    with pytest.raises(CourseError, match="none of the 1 pictures is large enough to measure; 15 pixels"):
        recipes.prepare(recipe(sets=(str(folder),)))


def told(one: recipes.Recipe) -> tuple[datasets.Patches, list, list[str]]:
    """What a recipe prepares, and the lines that it tells."""
    lines = []
    return *recipes.prepare(one, lines.append), lines


@pytest.mark.parametrize("changes", [{}, {"enlarge": True}, {"rescale": (0.8, 0.6)}, {"quality": (10, 40)},
                                     {"quality": 10, "tiles": True, "rescale": (0.6,)}])  # fmt: skip
@pytest.mark.parametrize("small", [[(1, 1)], [(8, 8), (1, 90), (2, 3)]])
def test_what_is_too_small_is_left_out_and_told(tmp_path, changes, small):
    """Also where it comes first, and would be held out."""
    folder = pictures(tmp_path / "set", count=4)
    for index, size in enumerate(small):
        images.save(folder / f"000-{index}.png", photograph(*size, seed=9))
        images.save(folder / f"{index}.png", photograph(*size, seed=9))
    one = recipe("r", 1 if changes.get("quality") or "enlarge" in changes else 2, sets=(str(folder),), **changes)
    if one.quality:  # which is for colour
        one = dataclasses.replace(one, network={"kind": "drunet"})
    batches, validation, lines = told(dataclasses.replace(one, patch=18))
    batches(0)
    assert len(validation) == 1 and min(validation[0][1].shape[-2:]) >= 40
    assert (
        len(lines) == 1
        and "left out" in lines[0]
        and "set/0.png" in lines[0]
        and f"of {4 + 2 * len(small)}" in lines[0]
    )
    assert {name[:7] for name in batches.sources} == {"set/001", "set/002", "set/003"}
    assert batches.dropped >= 2 * len(small)


@pytest.mark.parametrize("more", [[], [(1, 1)]])
def test_one_picture_serves_for_training_and_validation(tmp_path, more):
    folder = pictures(tmp_path / "set", count=1)
    for size in more:
        images.save(folder / "tiny.png", photograph(*size))
    batches, validation, lines = told(recipe(sets=(str(folder),)))
    assert len(batches.pairs) == len(validation) == 1
    assert "000.png serves for training and validation" in lines[-1] and len(lines) == 1 + len(more)


def test_a_large_picture_is_trained_on_and_one_too_small_for_that_is_held_out(tmp_path):
    folder = pictures(tmp_path / "set", count=1, height=64, width=64)
    images.save(folder / "001.png", photograph(20, 20))
    batches, validation, lines = told(dataclasses.replace(recipe(sets=(str(folder),)), patch=16))
    assert batches.sources == ["set/000.png"] and validation[0][1].shape[-1] == 20 and not lines


def test_none_is_large_enough(tmp_path):
    folder = pictures(tmp_path / "set", count=3, height=20, width=90)
    with pytest.raises(CourseError, match="none of the 3 pictures holds a patch; 32 pixels a side are wanted"):
        recipes.prepare(dataclasses.replace(recipe(sets=(str(folder),)), patch=16))


def test_two_folders_of_one_name_are_both_on_the_card(tmp_path):
    sets = [str(pictures(tmp_path / name / "set", count=count)) for name, count in (("a", 1), ("b", 2))]
    assert recipes.provenance(recipe(sets=tuple(sets)), "cpu")["data"] == {
        "set": sha256(*(path for name in sets for path in datasets.folder(name)))
    }


def test_tiles_are_as_large_as_patches_whatever_is_reduced():
    """At its default: the recipe that codes patches, on the bundled pictures."""
    one = recipes.changed(recipes.find("jpeg-blind"), tiles=True, sets=("bundled",), steps=1, batch=2)
    batches, _ = recipes.prepare(one)
    assert batches.dropped == 0 and {tuple(y.shape[1:]) for _, y in batches.pairs} == {(96, 96)}
    whole = {name: batches.sources.count(f"images/{name}.png") for name in ("camera", "chelsea")}
    # (side × factor) // 96 tiles along a side, for the picture and its copies at 0.9, 0.8, 0.7, 0.6
    assert whole == {
        "camera": 5 * 5 + 4 * 4 + 4 * 4 + 3 * 3 + 3 * 3,
        "chelsea": 4 * 3 + 4 * 2 + 3 * 2 + 3 * 2 + 2 * 1,
    }
    assert batches(0)[0].shape == (2, 3, 96, 96)


@pytest.mark.parametrize("patch", [64, 101])
def test_a_network_of_one_size_has_patches_of_that_size(patch):
    with pytest.raises(CourseError, match=f"rescsnet takes patches of 100 pixels alone, not {patch}"):
        recipes.prepare(recipes.changed(recipes.find("rescsnet"), patch=patch, sets=("bundled",)))


@pytest.mark.parametrize("seed", [10**24, -(2**63), 2**63])
def test_a_seed_that_is_too_long_is_refused(seed):
    with pytest.raises(CourseError, match="a seed is a whole number below"):
        recipes.changed(recipe(), seed=seed)
    assert recipes.network(recipes.changed(recipe(), seed=2**63 - 1))


@pytest.mark.parametrize("changes", [{"enlarge": True}, {"quality": (10, 40), "tiles": True, "patch": 24}])
def test_the_batches_of_a_recipe_know_their_pictures(tmp_path, changes):
    """Enlarged copies and tiles among them."""
    folder = pictures(tmp_path / "set", count=3)
    for index in range(3):
        images.save(folder / f"{index:03d}.png", torch.full((1, 48, 56), 0.2 + 0.3 * index))
    batches, _ = recipes.prepare(recipe("r", 1, sets=(str(folder),), **changes))
    assert len(batches.pairs) == len(batches.sources) > 3
    for (_, y), name in zip(batches.pairs, batches.sources, strict=True):
        assert y.float().mean().item() / 255 == pytest.approx(0.2 + 0.3 * int(name.removeprefix("set/")[:3]), abs=0.01)


def test_a_shared_run_may_go_on_with_another_number_of_processes(tmp_path, monkeypatch):
    one = recipe(sets=(str(pictures(tmp_path / "set", count=3)),))
    given = []
    monkeypatch.setattr(recipes.training, "train", lambda *_, origin, **__: given.append(origin["processes"]))
    for processes in (1, 2):
        monkeypatch.setattr(recipes.devices, "world", lambda count=processes: count)
        for share in (False, True):
            facts = recipes.run(one, tmp_path / "out", share=share, device="cpu")[-1]
    assert given == [1, 1, 2, 1]
    assert facts["processes"] == {"number": 2, "patches_per_step": 2}


def test_weights_of_which_none_fits_are_refused(tmp_path):
    one = recipe(sets=(str(pictures(tmp_path / "set", count=3)),))
    with pytest.raises(CourseError, match="none fits the network of tiny-x2"):
        recipes.run(one, tmp_path / "out", start={"head.weight": torch.zeros(1)})


@pytest.mark.parametrize("name", ["npeg", "integer-ae", "rescsnet", "rescsnet-any"])
def test_networks_that_draw_noise_or_have_batch_norm_share_no_batch(name, monkeypatch, tmp_path):
    monkeypatch.setattr(recipes.devices, "world", lambda: 2)
    with pytest.raises(CourseError, match=f"{name} draws noise.*use --batch"):
        recipes.run(recipes.find(name), tmp_path, share=True)
