import dataclasses
import json
import math
import shutil

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


class Waiting(TorchDispatchMode):
    """Refuses the copies to a device for which a program would wait. Of values, "meta" has none that could be read."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        moves = function is torch.ops.aten._to_copy.default and str(options.get("device")) == "meta"
        assert not moves or arguments[0].is_meta or options.get("non_blocking"), "a copy that is waited for"
        return function(*arguments, **options)


@every_recipe
def test_a_recipe_fits_together_and_its_steps_never_wait_for_the_device(name):
    one = recipes.find(name)
    model = recipes.network(one)
    assert one.name == name and one.origin
    assert isinstance(model, Restorer) or one.task in recipes.WHOLE
    assert getattr(model, "scale", 1) == one.scale
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), recipes.network(one).parameters(), strict=True))
    if one.start_from:
        own = model.state_dict()
        own |= {key.removeprefix("restorer."): value for key, value in own.items()}  # a codec begins with a restorer
        given = recipes.network(recipes.find(one.start_from)).state_dict()
        if hasattr(model, "begin_with"):  # a second layer, which is trained on what the first one leaves
            model.begin_with(given)
            own = model.codec[0].state_dict()
        shared = sum(v.numel() for k, v in given.items() if k in own and own[k].shape == v.shape)
        assert shared > 0.9 * sum(v.numel() for v in given.values())
    run = training.Run(model, one.plan, None, "meta")
    x = torch.empty(one.batch, model.channels, one.patch, one.patch, device="meta")
    y = x.new_empty(one.batch, model.channels, one.patch * one.scale, one.patch * one.scale)
    loss = LOSSES[one.loss]()
    with Waiting():
        for _ in range(2):  # the average begins with the second
            run.update(training._loss(loss, run.network(x), y, one.plan.shave))


@pytest.mark.parametrize("path", sorted(zoo.WEIGHTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_card_tells_the_recipe_that_the_course_has(path):
    """So that `train NAME` runs what the card says, to its end."""
    about = json.loads(path.read_text(encoding="utf-8"))
    found = recipes.find(about["name"])
    assert about["recipe"] == found.plain()
    assert about["steps"] == found.plan.steps


def test_the_notebooks_tell_the_trainings_of_their_networks_right():
    place = zoo.WEIGHTS.parent.parent / "notebooks"
    second, fourth = ((place / name).read_text(encoding="utf-8")
                      for name in ("02_srcnn.ipynb", "04_noisy_binary_autoencoder.ipynb"))  # fmt: skip
    steps = {name: f"{one.plan.steps:,}" for name, one in recipes.RECIPES.items()}
    colour, luma = steps["srcnn-955-rgb-x3"], steps["srcnn-955-x3"]
    assert f"the colour network was trained for {colour} steps, the luma network for {luma}" in second
    assert f"after {luma} steps" in second
    some = [recipes.find(name).plan.steps for name in ("srcnn-915-x3", "srcnn-955-x3", "fsrcnn-x3", "edsr-x3")]
    assert f"by different recipes, for {min(some):,} to {max(some):,} steps" in second
    edsr = json.loads((zoo.WEIGHTS / "edsr-x3.json").read_text(encoding="utf-8"))
    more = edsr["pictures"]["drawn_from"] + edsr["pictures"]["too_small"] - (91 + 198 + 200)  # T91, BSDS300, BSDS500
    assert {recipes.find(name).loss for name in ("srcnn-915-x3", "srcnn-955-x3", "fsrcnn-x3")} == {"mse"}
    assert edsr["recipe"]["loss"] == "l1" and f"another loss (L1) and with {more} more pictures" in second
    assert f"trained for {steps['npeg']} steps with noise 15" in fourth
    assert f"`npeg-hard` went on for {steps['npeg-hard']} more" in fourth
    assert f"(λ = {LOSSES[recipes.find('npeg-hard').loss]().penalty:g})" in fourth


# --------------------------------------------------------------------------------------------- changed


REFUSED = [("edsr-x3", {"learning_rate": rate}, "learning rate") for rate in (0.0, -1e-3, 1.0, math.nan, math.inf)]
REFUSED += [("jpeg-blind", {"quality": text}, "a JPEG quality is") for text in ("0", "101", "9-5", "high")]
REFUSED += [("edsr-x3", {"tiles": True}, "codes no JPEG"), ("rescsnet", {"ratio": 7.0}, "7.0 is not between")]
REFUSED += [("srcnn-955-x3", {"patch": 4}, "patches of 4 pixels are all border")]


def test_changed():
    one = dataclasses.replace(recipe(), plan=Plan(20_000, 1e-3, warmup=500, every=2000, clip=0.2, seed=4))
    assert recipes.changed(one) == one
    short = recipes.changed(one, steps=40, batch=3, seed=9, learning_rate=0.01, sets=("a", "b"))
    assert (short.plan.steps, short.plan.warmup, short.plan.every) == (40, 4, 10)
    assert (short.plan.seed, short.plan.learning_rate, short.plan.clip) == (9, 0.01, 0.2)
    assert (short.batch, short.sets) == (3, ("a", "b"))
    assert recipes.changed(one, seed=0).plan.seed == 0
    assert recipes.changed(one, steps=3).plan.every == 1
    count = len(datasets.bundled())
    assert recipes.changed(one, epochs=3, batch=4, sets=("bundled",)).plan.steps == 3 * math.ceil(count / 4)
    assert recipes.changed(recipes.find("jpeg-blind"), quality="10").quality == (10, 10)
    assert recipes.changed(recipes.find("rescsnet"), ratio=0.25).network == {"kind": "rescsnet", "ratio": 0.25}
    assert recipes.network(recipes.changed(recipe(), seed=2**63 - 1))
    for name, changes, why in REFUSED:
        with pytest.raises(CourseError, match=why):
            recipes.changed(recipes.find(name), **changes)


# --------------------------------------------------------------------------------------------- prepare


def told(one: recipes.Recipe, **changes) -> tuple[datasets.Patches, list, list[str]]:
    """What a recipe prepares, and the lines that it tells."""
    lines = []
    return *recipes.prepare(dataclasses.replace(one, **changes), lines.append), lines


@pytest.mark.parametrize(("channels", "scale"), [(1, 2), (3, 1), (3, 3)])
def test_prepare_keeps_held_out_pictures_apart(tmp_path, channels, scale):
    """A copy of one, too: T91 has one picture under two names."""
    folder = pictures(tmp_path / "set", count=45)
    (folder / "044.png").write_bytes((folder / "020.png").read_bytes())
    network = {"kind": "edsr", "scale": scale, "width": 4, "blocks": 1, "channels": channels}
    batches, [(x, y)], lines = told(recipe("r", scale, network=network, sets=(str(folder),)))
    assert len(batches.pairs) == 43 and not lines
    assert not any(torch.equal(images.to_uint8(y), target) for _, target in batches.pairs)
    for (given, wanted), sides in (((x, y), (48 // scale, 56 // scale)), (batches(0), (8, 8))):
        assert given.shape[-3:] == (channels, *sides)
        assert wanted.shape[-3:] == (channels, scale * sides[0], scale * sides[1])


def test_a_set_of_its_own_may_be_chosen_on(tmp_path):
    """Then every picture of the training sets is trained on, but for one that is in both."""
    folder, other = pictures(tmp_path / "set", count=45), pictures(tmp_path / "other", count=2, height=60)
    (other / "copy.png").write_bytes((folder / "003.png").read_bytes())
    one = recipe(sets=(str(folder),), validation=str(other))
    batches, validation, _ = told(one)
    assert len(batches.pairs) == 44
    assert not any(torch.equal(y, images.load_uint8(other / "copy.png")) for _, y in batches.pairs)
    assert sorted(y.shape[-2] for _, y in validation) == [48, 60, 60]
    assert one.plain()["validation"] == str(other) and "validation" not in recipe().plain()
    assert recipes.changed(one, sets=("bundled",)).validation is None  # which need not be there


CHANGES = [{}, {"enlarge": True}, {"rescale": (0.8, 0.6)}, {"quality": (10, 40)}]
CHANGES += [{"quality": 10, "tiles": True, "rescale": (0.6,)}]


@pytest.mark.parametrize("changes", CHANGES)
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
    batches, [(_, y)], [line] = told(one, patch=18)
    batches(0)
    assert min(y.shape[-2:]) >= 40
    assert line.startswith("left out") and f"{2 * len(small)} of {4 + 2 * len(small)}, the first set/0.png" in line
    assert batches.dropped >= 2 * len(small)


def test_few_pictures_and_small_ones_serve_as_they_can(tmp_path):
    folder = pictures(tmp_path / "set", count=8)
    batches, validation, _ = told(recipe(sets=(str(folder),)))
    assert (len(batches.pairs), len(validation)) == (7, 1)  # fewer than HELD_OUT, and one is held out
    one = recipe(sets=(str(pictures(tmp_path / "one", count=1)),))
    batches, validation, [line] = told(one)
    assert len(batches.pairs) == len(validation) == 1 and "000.png serves for training and validation" in line
    images.save(tmp_path / "one" / "001.png", photograph(20, 20))  # too small for a patch, large enough to measure
    batches, [(_, y)], lines = told(one, patch=16)
    assert len(batches.pairs) == 1 and y.shape[-1] == 20 and not lines
    narrow = str(pictures(tmp_path / "narrow", count=3, height=20, width=90))
    with pytest.raises(CourseError, match="none of the 3 pictures is large enough; 32 pixels a side are wanted"):
        told(one, patch=16, sets=(narrow,))
    tiny = str(pictures(tmp_path / "tiny", count=1, height=12, width=12))
    with pytest.raises(CourseError, match="none of the 1 pictures is large enough; 16 pixels"):
        told(one, sets=(tiny,))
    with pytest.raises(CourseError, match="rescsnet takes patches of 100 pixels alone, not 64"):
        told(recipes.find("rescsnet"), patch=64, sets=("bundled",))


def test_tiles_are_as_large_as_patches_whatever_is_reduced(tmp_path):
    """At its default: the recipe that codes patches, on bundled pictures, of which the first is held out."""
    for name in ("camera", "chelsea"):
        shutil.copy(datasets.bundled(name), tmp_path)
    batches, _, _ = told(recipes.find("jpeg-blind-first"), tiles=True, sets=(str(tmp_path),), batch=2)
    assert batches.dropped == 0 and {tuple(y.shape[1:]) for _, y in batches.pairs} == {(96, 96)}
    # (side × factor) // 96 tiles along a side, for the picture and its copies at 0.9, 0.8, 0.7, 0.6
    assert len(batches.pairs) == 12 + 8 + 6 + 6 + 2
    assert batches(0)[0].shape == (2, 3, 96, 96)


# ------------------------------------------------------------------------------------------------- run


def test_run_begins_with_the_weights_that_fit(tmp_path):
    one = recipe(sets=(str(pictures(tmp_path / "set", count=3)),), plan=Plan(1, 1e-30, every=1, averaging=0))
    start = {k: torch.randn_like(v) for k, v in recipes.network(recipe("s", 3)).state_dict().items()}
    how = {"progress": False, "device": "cpu", "start": (start, {})}
    first = recipes.run(one, tmp_path / "out", **how)[0]
    assert torch.allclose(first.state_dict()["blocks.0.2.weight"], start["blocks.0.2.weight"])
    assert first.tail.weight.shape != start["tail.weight"].shape
    with pytest.raises(CourseError, match="none fits the network of tiny-x2"):
        recipes.run(one, tmp_path / "out", start=({"head.weight": torch.zeros(1)}, {}))


def test_a_run_resumes_with_its_recipe_and_its_data_alone(tmp_path, monkeypatch):
    class Spy(torch.nn.MSELoss):
        def forward(self, prediction, target):
            calls.append(prediction.shape)
            return super().forward(prediction, target)

    calls = []
    monkeypatch.setitem(LOSSES, "spy", Spy)
    one = recipe(sets=(str(pictures(tmp_path / "set", count=3)),), loss="spy")
    options = {"out": tmp_path / "out", "progress": False, "device": "cpu"}
    weights = recipes.network(one).state_dict()
    options["start"] = weights, {"name": "a", "sha256": "0"}
    recipes.run(one, **options)
    assert calls == [(2, 1, 16, 16)] * 4
    changes = {"loss": "mse", "batch": 3, "patch": 9, "start_from": "other", "sets": (*one.sets, *one.sets)}
    changes |= {"network": one.network | {"scale": 2, "channels": 1}, "name": "other", "validation": one.sets[0]}
    for key, value in changes.items():
        with pytest.raises(CourseError, match=r"last\.pt: this run began with"):
            recipes.run(dataclasses.replace(one, **{key: value}), resume=True, **options)
    with pytest.raises(CourseError, match=r"began with started from \{'name': 'a', 'sha256': '0'\};"):
        recipes.run(one, resume=True, **options | {"start": (weights, {"name": "a", "sha256": "1"})})
    longer = recipes.changed(one, steps=6)
    assert recipes.run(longer, resume=True, **options)[1][-1]["step"] == 6
    images.save(tmp_path / "set" / "001.png", photograph(48, 56, seed=9))
    with pytest.raises(CourseError, match="began with SHA-256 of set [0-9a-f]{64};"):
        recipes.run(longer, resume=True, **options)


def test_the_data_are_named_by_their_digest(tmp_path):
    """Two folders of one name are both on the card."""
    sets = [str(pictures(tmp_path / name / "set", count=count)) for name, count in (("a", 1), ("b", 2))]
    facts = recipes.provenance(recipe(sets=tuple(sets)), "cpu")
    assert facts["data"] == {"set": sha256(*(path for name in sets for path in datasets.folder(name)))}
    assert facts["device"].startswith("cpu")


def test_a_shared_run_may_go_on_with_another_number_of_processes(tmp_path, monkeypatch):
    one = recipe(sets=(str(pictures(tmp_path / "set", count=3)),))
    given = []
    monkeypatch.setattr(training, "train", lambda *_, origin, **__: given.append(origin["processes"]))
    for processes in ("1", "2"):
        monkeypatch.setenv("WORLD_SIZE", processes)
        for share in (False, True):
            facts = recipes.run(one, tmp_path / "out", share=share, device="cpu")[-1]
    assert given == [1, 1, 2, 1]
    assert facts["processes"] == {"number": 2, "patches_per_step": 2}
    for name in ("npeg", "integer-ae", "rescsnet", "rescsnet-any"):
        with pytest.raises(CourseError, match=f"{name} draws noise.*use --batch"):
            recipes.run(recipes.find(name), tmp_path, share=True)


def test_a_licence_names_what_is_not_ours_to_give():
    ours = "MIT as far as its authors have rights in it"
    assert recipes.licence(["bundled"], {"name": "mine"}) == f"{ours}; begun from mine"
    terms = "CID22 (CC BY-SA 4.0), mine (see its own terms)"
    assert recipes.licence(["data/downloads/train/CID22", "mine"]) == f"{ours}; trained on {terms}"
    detail = recipes.licence(["CID22"], {"name": "integer-ae"})  # which saw other pictures, as did what it began with
    assert "BSDS300_train (non-commercial" in detail and detail.endswith("; begun from integer-ae")
