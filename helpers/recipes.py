"""What each shipped weight was trained with: plain data, which `python -m helpers train NAME` runs again."""

import dataclasses
import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from . import datasets, degradations, images, models, training
from .losses import LOSSES
from .training import Plan

PHOTOGRAPHS = ("T91", "BSDS300_train", "BSDS500_test")
HELD_OUT = 40  # every 40th picture of the training sets is kept for validation


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One weight's training: task, network (`kind` and its options), sets, loss, plan, patches.

    A set named several times is drawn from more often. `patch` is the side in input pixels. `start_from` names the
    recipe whose weights it begins with, as far as shapes agree. `enlarge`: whether the clean pictures, made twice as
    large by Lanczos, are trained on as well.
    """

    name: str
    task: str
    network: dict
    plan: Plan
    loss: str = "l1"
    sets: tuple[str, ...] = PHOTOGRAPHS
    patch: int = 32
    batch: int = 16
    start_from: str | None = None
    enlarge: bool = False
    origin: str = ""

    @property
    def scale(self) -> int:
        return degradations.scale_of(self.task)

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


def prepare(recipe: Recipe) -> tuple[datasets.Patches, list[training.Pair]]:
    """The batches and the validation pictures of a recipe. Raises DatasetError where a set is missing."""
    files = [path for name in recipe.sets for path in datasets.folder(name)]
    unique = list(dict.fromkeys(files))
    held = unique[HELD_OUT // 2 :: HELD_OUT] or unique[:1]
    kept = [path for path in files if path not in held]
    channels = recipe.network.get("channels", 1)
    clean = _pictures(kept, channels, recipe.scale, recipe.enlarge)
    degrade = degradations.for_task(recipe.task)
    batches = datasets.Patches(
        clean,
        [degrade(y) for y in clean],
        size=recipe.patch,
        batch=recipe.batch,
        scale=recipe.scale,
        seed=recipe.plan.seed,
    )
    held = _pictures(held, channels, recipe.scale)
    return batches, [(images.to_float(degrade(y)), images.to_float(y)) for y in held]


def _pictures(files: Sequence, channels: int, scale: int, enlarge: bool = False) -> list[torch.Tensor]:
    pictures = [images.crop_to_multiple(y, scale) for y in datasets.load_all(files, channels)]
    if enlarge:
        pictures += [degradations.enlarge(y) for y in pictures]
    return pictures


def network(recipe: Recipe) -> models.Restorer:
    """The recipe's network with fresh weights, the same each time."""
    torch.manual_seed(recipe.plan.seed)
    model = models.build(**recipe.network)
    if hasattr(model, "start_from_interpolation"):
        model.start_from_interpolation()
    return model


def run(recipe: Recipe, out, resume: bool = False, device: str | None = None, progress: bool = True, start=None):
    """Train a recipe into the folder `out`; `start` are weights to begin with. Returns the model and its log."""
    model = network(recipe)
    if start is not None:
        own = model.state_dict()
        model.load_state_dict({k: v for k, v in start.items() if k in own and v.shape == own[k].shape}, strict=False)
    batches, validation = prepare(recipe)
    log = training.train(
        model,
        batches,
        LOSSES[recipe.loss](),
        recipe.plan,
        validation=validation,
        out=out,
        resume=resume,
        device=device,
        progress=progress,
    )
    return model, log


def _srcnn(scale: int, kernels: tuple[int, int, int], **changes) -> dict:
    return {"kind": "srcnn", "scale": scale, "kernels": kernels, **changes}


# fmt: off
_RECIPES = [
    Recipe("srcnn-915-x3", "sr-x3", _srcnn(3, (9, 1, 5)), Plan(8_000, 2e-3, warmup=500, shave=6, every=2000),
           loss="mse", patch=16, origin="SRCNN 9-1-5, Dong et al. 2014"),
    Recipe("srcnn-955-x3", "sr-x3", _srcnn(3, (9, 5, 5)), Plan(25_000, 1e-3, warmup=500, shave=6, every=2000),
           loss="mse", patch=16, origin="SRCNN 9-5-5, Dong et al. 2016"),
    Recipe("srcnn-955-x2", "sr-x2", _srcnn(2, (9, 5, 5)), Plan(4_000, 5e-4, warmup=500, shave=6, every=2000),
           loss="mse", patch=24, start_from="srcnn-955-x3", origin="SRCNN 9-5-5, Dong et al. 2016"),
    Recipe("srcnn-955-x4", "sr-x4", _srcnn(4, (9, 5, 5)), Plan(4_000, 5e-4, warmup=500, shave=6, every=2000),
           loss="mse", patch=12, start_from="srcnn-955-x3", origin="SRCNN 9-5-5, Dong et al. 2016"),
    Recipe("srcnn-955-rgb-x3", "sr-x3", _srcnn(3, (9, 5, 5), channels=3),
           Plan(5_000, 1e-3, warmup=500, shave=6, every=2000), loss="mse", patch=16,
           origin="SRCNN 9-5-5 on all three channels, Dong et al. 2016 §4.5"),
    Recipe("fsrcnn-x3", "sr-x3", {"kind": "fsrcnn", "scale": 3}, Plan(30_000, 2e-3, warmup=500, every=2000),
           loss="mse", patch=24, origin="FSRCNN(56,12,4), Dong et al. 2016b"),
    Recipe("fsrcnn-x2", "sr-x2", {"kind": "fsrcnn", "scale": 2}, Plan(5_000, 1e-3, warmup=200, every=1000),
           loss="mse", patch=32, start_from="fsrcnn-x3", origin="FSRCNN(56,12,4), Dong et al. 2016b"),
    Recipe("fsrcnn-x4", "sr-x4", {"kind": "fsrcnn", "scale": 4}, Plan(5_000, 1e-3, warmup=200, every=1000),
           loss="mse", patch=24, start_from="fsrcnn-x3", origin="FSRCNN(56,12,4), Dong et al. 2016b"),
    Recipe("skyline", "deblock-q20", {"kind": "skyline", "padding": (4, 0, 2), "residual": True},
           Plan(8_000, 2e-3, warmup=500, shave=6, every=2000), loss="mse", patch=56, enlarge=True,
           origin="the skyline SRCNN (nikitaoltyan), padding mended, residual"),
    Recipe("edsr-x3", "sr-x3", {"kind": "edsr", "scale": 3, "width": 64, "blocks": 6},
           Plan(20_000, 5e-4, warmup=500, clip=0.2, every=1500), origin="a small EDSR on luma, Lim et al. 2017"),
    Recipe("edsr-x2", "sr-x2", {"kind": "edsr", "scale": 2, "width": 48, "blocks": 5},
           Plan(18_000, 5e-4, warmup=500, clip=0.2, every=1500), origin="a small EDSR on luma, Lim et al. 2017"),
    Recipe("edsr-x4", "sr-x4", {"kind": "edsr", "scale": 4, "width": 64, "blocks": 6},
           Plan(8_000, 4e-4, warmup=500, clip=0.2, every=1500), start_from="edsr-x3",
           origin="a small EDSR on luma, Lim et al. 2017"),
]
# fmt: on

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _RECIPES}


class RecipeError(ValueError):
    """A recipe that does not exist or cannot be changed so; the message says which do."""


def find(name: str) -> Recipe:
    """A recipe by name. Raises RecipeError, which lists the names."""
    if name not in RECIPES:
        raise RecipeError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}.")
    return RECIPES[name]


def changed(
    recipe: Recipe,
    *,
    steps: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    batch: int | None = None,
    sets: tuple[str, ...] | None = None,
) -> Recipe:
    """A recipe with some numbers changed; a shorter one warms up and validates sooner. Raises RecipeError."""
    plan = recipe.plan
    if steps:
        plan = dataclasses.replace(
            plan, steps=steps, warmup=min(plan.warmup, steps // 10), every=min(plan.every, max(1, steps // 4))
        )
    if learning_rate is not None:
        if not 0 < learning_rate < 1:
            raise RecipeError(f"a learning rate of {learning_rate} is not between 0 and 1.")
        plan = dataclasses.replace(plan, learning_rate=learning_rate)
    if seed is not None:
        plan = dataclasses.replace(plan, seed=abs(seed))
    return dataclasses.replace(recipe, plan=plan, batch=batch or recipe.batch, sets=sets or recipe.sets)


def provenance(recipe: Recipe, device: str | None = None) -> dict:
    """What a card says of where its weights come from: data with SHA-256, device, versions."""
    digests = {}
    for name in recipe.sets:
        digest = hashlib.sha256()
        for path in datasets.folder(name):
            digest.update(path.read_bytes())
        digests[Path(name).name] = digest.hexdigest()
    chosen = training.pick_device(device)
    kind = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{chosen.type}, {platform.machine()}"
    precision = str(training.precision(chosen)).removeprefix("torch.")
    return {"data": digests, "device": kind, "precision": precision, "torch": torch.__version__.split("+")[0]}
