"""What each shipped weight was trained with: plain data, which `python -m helpers train NAME` runs again."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from . import datasets, degradations, images, models, training, zoo
from .losses import LOSSES
from .service import devices, downloads
from .service.errors import CourseError, require
from .service.files import DATA, sha256
from .training import Plan

PHOTOGRAPHS = ("T91", "BSDS300_train", "BSDS500_test")
# of recipes that also see pictures without traces of JPEG, and validate on others
MORE_PICTURES = {"sets": (*PHOTOGRAPHS, "CID22", "DIV2K_test_LR_x4"), "validation": "DIV2K_valid_256"}
CODED = {"loss": "rate-distortion", "patch": 128, "batch": 8, "rescale": (0.9, 0.8, 0.7, 0.6), "gray": 0.05}
HELD_OUT = 40  # every 40th picture of the training sets is kept for validation
WHOLE = ("codec", "codec-detail", "cs")  # tasks whose networks are given the picture itself, and make it again


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One weight's training: task, network (`kind` and its options), sets, loss, plan, patches.

    A set named several times is drawn from more often. `patch` is the side in input pixels. `start_from` names the
    recipe whose weights it begins with, as far as shapes agree. `enlarge`: whether the clean pictures, made twice as
    large by Lanczos, are trained on as well; `rescale`: and copies reduced by these factors. `quality`: where the
    patches are put through JPEG on the fly, the range of it (or the one), with `rescale` and `gray` as
    `datasets.Patches` has them; with `tiles` the pictures and their reduced copies are cut into tiles once, as the
    original JPEG restorer recommends, instead of a patch anywhere at each step. `validation` names a set to choose
    on; without it, every 40th picture of the training sets is kept for that.
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
    quality: tuple[int, int] | int | None = None
    rescale: tuple[float, ...] = ()
    gray: float = 0.0
    tiles: bool = False
    validation: str | None = None
    origin: str = ""

    @property
    def scale(self) -> int:
        """How many times larger the output is than the input."""
        return degradations.scale_of(self.task)

    def plain(self) -> dict:
        """The recipe as JSON has it, for cards; without `validation` where there is none, as on older cards."""
        found = json.loads(json.dumps(dataclasses.asdict(self)))
        return {key: value for key, value in found.items() if key != "validation" or value}


def prepare(recipe: Recipe, tell: Callable = lambda line: None) -> tuple[datasets.Patches, list[training.Pair]]:
    """The batches and the validation pictures of a recipe.

    `tell` is given a line where pictures are too small to be of use, and where one is used for both. Raises
    CourseError where a set is missing or none of its pictures is large enough.
    """
    model = models.build(**recipe.network)
    side = getattr(model, "SIDE", None)
    only = f"the network of {recipe.name} takes patches of {side} pixels alone, not {recipe.patch}."
    require(side in (None, recipe.patch), only)
    drawn = recipe.quality or recipe.task in WHOLE  # the input is made of each patch, not of each picture
    patchwise = drawn and not recipe.tiles  # and so are reduced and gray ones
    kept, held, small = _split(recipe, patchwise, side or 11 + 2 * recipe.scale, tell)
    clean = _copies(recipe, kept, model.channels, patchwise)
    held = datasets.load_all(held, model.channels)
    held = [images.crop_to_multiple(y, recipe.scale)[:, :side, :side] for y in held]
    how = {"size": recipe.patch, "batch": recipe.batch, "scale": recipe.scale, "seed": recipe.plan.seed}
    if patchwise:
        how |= {"rescale": recipe.rescale, "gray": recipe.gray}
    if recipe.quality:
        how["degrade"] = degradations.RandomJPEG(recipe.quality)
    batches = datasets.Patches(clean, None if drawn else _degraded(recipe, clean), **how)
    batches.dropped += small
    pairs = zip(_degraded(recipe, held), held, strict=True)
    return batches, [(images.to_float(x), images.to_float(y)) for x, y in pairs]


def _split(recipe: Recipe, patchwise: bool, measured: int, tell: Callable) -> tuple[list[Path], list[Path], int]:
    """(trained on, held out, how many are too small), kept apart by content: T91 has one picture under two names.

    `measured` is the least side of a validation picture. Where but one picture is large enough, it is both.
    """
    files = [path for name in recipe.sets for path in datasets.folder(name)]
    trained = datasets.side_wanted(recipe.patch, recipe.scale, recipe.rescale if patchwise else ())
    trained /= 2 if recipe.enlarge else 1
    unique = list(dict.fromkeys(files))  # a set may be named several times, to be drawn from more often
    sides, digests = {path: min(images.stored_size(path)) for path in unique}, {path: sha256(path) for path in unique}
    large = [path for path in files if sides[path] >= trained]
    if recipe.validation:
        held = datasets.folder(recipe.validation)
    else:
        measurable = [path for path in unique if sides[path] >= measured]
        spare = sorted(measurable, key=lambda path: sides[path] >= trained)  # rather one that is too small to train on
        held = [path for path in unique[HELD_OUT // 2 :: HELD_OUT] if path in measurable] or spare[:1]
    wanted = f"{max(trained, measured):g} pixels a side are wanted"
    require(held and large, f"none of the {len(unique)} pictures is large enough; {wanted}.")
    unseen = {sha256(path) for path in held}
    kept = [path for path in large if digests[path] not in unseen]
    small = [path for path in unique if sides[path] < trained and digests[path] not in unseen]
    if small:
        first = f"{small[0].parent.name}/{small[0].name}"
        tell(f"left out, smaller than {trained:g} pixels a side: {len(small)} of {len(unique)}, the first {first}")
    if not kept:
        tell(f"{held[0].name} serves for training and validation: its PSNR says nothing of other pictures")
    return kept or large, held, len(small)


def _copies(recipe: Recipe, files: list[Path], channels: int, patchwise: bool) -> list[torch.Tensor]:
    """What is trained on: pictures, enlarged and reduced copies, or the tiles of all these."""
    clean = datasets.load_all(files, channels)
    copies = [*clean, *map(degradations.enlarge, clean)] if recipe.enlarge else [*clean]
    for factor in () if patchwise else recipe.rescale:
        for y in clean:
            size = (round(y.shape[-2] * factor), round(y.shape[-1] * factor))
            copies.append(images.to_uint8(degradations.resize(images.to_float(y), size)))
    copies = [images.crop_to_multiple(y, recipe.scale) for y in copies]
    if not recipe.tiles:
        return copies
    large = [y for y in copies if min(y.shape[-2:]) >= recipe.patch]
    return [tile for y in large for tile in datasets.sliding_patches(y, recipe.patch, recipe.patch)]


def _degraded(recipe: Recipe, pictures: list[torch.Tensor]) -> list[torch.Tensor]:
    """What the network is given of whole pictures; of a range of JPEG, by turns the qualities that tables report."""
    if recipe.task in WHOLE:
        return pictures
    if not recipe.quality:
        return list(map(degradations.for_task(recipe.task), pictures))
    limits = degradations.RandomJPEG(recipe.quality)
    qualities = [min(max(10 * (1 + index % 4), limits.low), limits.high) for index in range(len(pictures))]
    return [images.to_uint8(degradations.jpeg(images.to_float(y), q)) for y, q in zip(pictures, qualities, strict=True)]


def network(recipe: Recipe) -> models.Restorer:
    """The recipe's network with fresh weights, the same each time."""
    torch.manual_seed(recipe.plan.seed)
    model = models.build(**recipe.network)
    if hasattr(model, "start_from_interpolation"):
        model.start_from_interpolation()
    return model


def run(
    recipe: Recipe, out: str | os.PathLike, *, start: tuple[dict, dict] | None = None, share: bool = False, **options
) -> tuple[models.Restorer, list[dict], dict]:
    """Train a recipe into the folder `out`. Returns the model, its log, and the facts that its card states.

    `start`: weights to begin with, and a note on them, as `zoo.weights` gives both. Of several processes each takes
    batches of the recipe's size, or, with `share`, its share of the one batch. `options`: resume, overwrite, device,
    progress and deadline, as `training.train` has them. Raises CourseError.
    """
    processes, (weights, started_from) = devices.world(), start or (None, None)
    if share and processes > 1 and recipe.task in WHOLE:
        raise CourseError(f"{recipe.name} draws noise or looks at its whole batch; it cannot share one, use --batch.")
    model = network(recipe)
    if start:
        _begin_with(weights, model, recipe)
    batches, validation = prepare(recipe, lambda line: devices.rank() or print(line, file=sys.stderr))
    facts = provenance(recipe, options.get("device")) | ({"started_from": started_from} if started_from else {})
    facts["pictures"] = {"drawn_from": len(batches.pairs), "too_small": batches.dropped, "held_out": len(validation)}
    if processes > 1:
        total = recipe.batch * (1 if share else processes)
        facts["processes"] = {"number": processes, "patches_per_step": total}
    # what a resumed run shares with its beginning, besides the plan
    origin = {key: value for key, value in recipe.plain().items() if key not in ("plan", "origin")}
    origin["recipe"], origin["network options"] = origin.pop("name"), origin.pop("network")
    origin |= {f"SHA-256 of {name}": digest for name, digest in facts["data"].items()}
    origin |= {"validation": recipe.validation, "started from": started_from or None}
    origin["processes"] = 1 if share else processes
    options |= {"validation": validation, "out": out, "origin": origin}
    batches = batches.shared(processes) if share else batches
    log = training.train(model, batches, LOSSES[recipe.loss](), recipe.plan, **options)
    return model, log, facts


def _begin_with(start: dict[str, torch.Tensor], model: models.Restorer, recipe: Recipe) -> None:
    """Load the weights whose names and shapes fit; a codec takes a restorer's for the restorer that is part of it."""
    if hasattr(model, "begin_with"):
        try:
            return model.begin_with(start)
        except RuntimeError:
            raise CourseError(f"{recipe.name} begins with the weights of a transform codec; name others.") from None
    own = model.state_dict()
    start = {key if key in own else f"restorer.{key}": value for key, value in start.items()}
    fit = {key: value for key, value in start.items() if key in own and value.shape == own[key].shape}
    require(fit, f"of the weights to begin with, none fits the network of {recipe.name}; name others.")
    model.load_state_dict(fit, strict=False)


def _srcnn(scale: int, kernels: tuple[int, int, int], **changes) -> dict:
    return {"kind": "srcnn", "scale": scale, "kernels": kernels, **changes}


# fmt: off
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in [
    Recipe("srcnn-915-x3", "sr-x3", _srcnn(3, (9, 1, 5)), Plan(8_000, 2e-3, warmup=500, shave=6, every=2000),
           loss="mse", patch=16, origin="SRCNN 9-1-5, Dong et al. 2014"),
    Recipe("srcnn-955-x3", "sr-x3", _srcnn(3, (9, 5, 5)), Plan(28_000, 1e-3, warmup=500, shave=6, every=2000),
           loss="mse", patch=16, origin="SRCNN 9-5-5, Dong et al. 2016"),
    Recipe("srcnn-955-x2", "sr-x2", _srcnn(2, (9, 5, 5)), Plan(4_000, 5e-4, warmup=500, shave=6, every=2000),
           loss="mse", patch=24, start_from="srcnn-955-x3", origin="SRCNN 9-5-5, Dong et al. 2016"),
    Recipe("srcnn-955-x4", "sr-x4", _srcnn(4, (9, 5, 5)), Plan(4_000, 5e-4, warmup=500, shave=6, every=2000),
           loss="mse", patch=12, start_from="srcnn-955-x3", origin="SRCNN 9-5-5, Dong et al. 2016"),
    Recipe("srcnn-955-rgb-x3", "sr-x3", _srcnn(3, (9, 5, 5), channels=3),
           Plan(5_000, 1e-3, warmup=500, shave=6, every=2000), loss="mse", patch=16,
           origin="SRCNN 9-5-5 on all three channels, Dong et al. 2016 §4.5"),
    Recipe("fsrcnn-x3", "sr-x3", {"kind": "fsrcnn", "scale": 3},
           Plan(72_000, 1e-3, warmup=500, float32_steps=12_000, every=3000),
           loss="mse", sets=("T91",) * 4 + PHOTOGRAPHS[1:], patch=24, origin="FSRCNN(56,12,4), Dong et al. 2016b"),
    Recipe("fsrcnn-x2", "sr-x2", {"kind": "fsrcnn", "scale": 2},
           Plan(10_000, 1e-3, warmup=200, float32_steps=3000, every=2000),
           loss="mse", patch=32, start_from="fsrcnn-x3", origin="FSRCNN(56,12,4), Dong et al. 2016b"),
    Recipe("fsrcnn-x4", "sr-x4", {"kind": "fsrcnn", "scale": 4},
           Plan(10_000, 1e-3, warmup=200, float32_steps=3000, every=2000),
           loss="mse", patch=24, start_from="fsrcnn-x3", origin="FSRCNN(56,12,4), Dong et al. 2016b"),
    Recipe("skyline", "deblock-q20", {"kind": "skyline", "padding": (4, 0, 2), "residual": True},
           Plan(8_000, 2e-3, warmup=500, shave=6, every=2000), loss="mse", patch=56, enlarge=True,
           origin="the skyline SRCNN (nikitaoltyan), padding mended, residual"),
    Recipe("edsr-x3-first", "sr-x3", {"kind": "edsr", "scale": 3, "width": 64, "blocks": 6},
           Plan(20_000, 5e-4, warmup=500, clip=0.2, every=1500),
           origin="a small EDSR on luma, Lim et al. 2017, its first stretch; not shipped"),
    Recipe("edsr-x3", "sr-x3", {"kind": "edsr", "scale": 3, "width": 64, "blocks": 6},
           Plan(24_000, 4e-4, warmup=500, clip=0.2, every=2000), **MORE_PICTURES,
           start_from="edsr-x3-first", origin="a small EDSR on luma, Lim et al. 2017"),
    Recipe("edsr-x2", "sr-x2", {"kind": "edsr", "scale": 2, "width": 48, "blocks": 5},
           Plan(50_000, 5e-4, warmup=500, clip=0.2, every=2000), **MORE_PICTURES,
           origin="a small EDSR on luma, Lim et al. 2017"),
    Recipe("edsr-x4-first", "sr-x4", {"kind": "edsr", "scale": 4, "width": 64, "blocks": 6},
           Plan(8_000, 4e-4, warmup=500, clip=0.2, every=1500), start_from="edsr-x3-first",
           origin="a small EDSR on luma, Lim et al. 2017, its first stretch; not shipped"),
    Recipe("edsr-x4", "sr-x4", {"kind": "edsr", "scale": 4, "width": 64, "blocks": 6},
           Plan(20_000, 4e-4, warmup=500, clip=0.2, every=1000), **MORE_PICTURES,
           start_from="edsr-x4-first", origin="a small EDSR on luma, Lim et al. 2017"),
    Recipe("arcnn-q10", "jpeg-q10", {"kind": "arcnn"}, Plan(8_000, 1e-3, warmup=500, shave=6, every=2000),
           loss="mse", patch=40, origin="AR-CNN, a network for one quality, Dong et al. 2015"),
    Recipe("conv-units-q10", "jpeg-color-q10", {"kind": "conv-units", "residual": True, "std": None},
           Plan(4_000, 5e-4, warmup=200, clip=0.2, shave=6, every=1000), loss="mse", patch=48, batch=8,
           origin="the Conv-Unit restorer (TsengMJ), with a skip and an initialisation that learns"),
    Recipe("jpeg-blind-first", "jpeg", {"kind": "drunet"}, Plan(20_000, 5e-4, warmup=500, clip=0.2, every=1000),
           patch=96, quality=(5, 95), rescale=(0.9, 0.8, 0.7, 0.6), gray=0.5,
           origin="a small DRUNet on YCbCr, blind to the quality, Zhang et al. 2022, its first stretch; not shipped"),
    Recipe("jpeg-blind", "jpeg", {"kind": "drunet"}, Plan(12_000, 4e-4, warmup=500, clip=0.2, every=1000),
           **MORE_PICTURES, patch=96, quality=(5, 95), rescale=(0.9, 0.8, 0.7, 0.6), gray=0.5,
           start_from="jpeg-blind-first", origin="a small DRUNet on YCbCr, blind to the quality, Zhang et al. 2022"),
    Recipe("npeg", "codec", {"kind": "npeg"}, Plan(10_000, 1e-3, warmup=200, every=1000), loss="sparse-code",
           batch=20, origin="NPEG, ctmakro 2017"),
    Recipe("npeg-hard", "codec", {"kind": "npeg", "hard": True}, Plan(3_000, 5e-4, warmup=100, every=500),
           loss="sparser-code", batch=20, start_from="npeg", origin="NPEG, trained on with hard bits"),
    Recipe("binary-ae-first", "codec", {"kind": "transform", "binary": True},
           Plan(3_000, 4e-4, warmup=200, clip=1.0, every=500), **CODED,
           start_from="jpeg-blind-first", origin="binary-ae, its first stretch; not shipped"),
    Recipe("binary-ae", "codec", {"kind": "transform", "binary": True},
           Plan(5_000, 4e-4, warmup=200, clip=1.0, every=500), **CODED,
           start_from="binary-ae-first", origin="a noisy binary code, that began as a block DCT"),
    Recipe("integer-ae", "codec", {"kind": "transform"}, Plan(16_000, 3e-4, warmup=300, clip=1.0, every=1000),
           **CODED, start_from="jpeg-blind-first",
           origin="a transform codec, Ballé et al. 2017, that begins as a block DCT"),
    Recipe("integer-ae-detail", "codec-detail", {"kind": "detail"}, Plan(3_000, 2e-3, warmup=100, clip=1.0, every=500),
           loss="rate-distortion", sets=("CID22", "DIV2K_test_LR_x4"), patch=128, batch=8, rescale=(0.8, 0.6),
           start_from="integer-ae", validation="DIV2K_valid_256",
           origin="the context of what integer-ae leaves of a picture, a second layer of its files"),
    Recipe("rescsnet", "cs", {"kind": "rescsnet"},
           Plan(20_000, 5e-4, "plateau", patience=10, factor=0.2, threshold=5e-3, averaging=0, every=500),
           loss="mse", patch=100, batch=64, origin="ResCSNet (y0umu) at one ratio, its first stage; not shipped"),
    Recipe("rescsnet-dw-ssim", "cs", {"kind": "rescsnet"},
           Plan(10_000, 5e-4, "plateau", patience=10, factor=0.2, threshold=5e-3, averaging=0, every=500),
           loss="frobenius-dw-ssim", patch=100, batch=64, start_from="rescsnet",
           origin="ResCSNet (y0umu), its second stage, begun from the first; not shipped"),
    Recipe("rescsnet-any", "cs", {"kind": "rescsnet-any"}, Plan(18_000, 5e-4, warmup=500, clip=1.0, every=1000),
           loss="psnr-to-45", patch=96, batch=14, rescale=(0.6, 0.45, 0.35, 0.3),
           origin="block sensing with learned rows, recovery in stages; one network for all ratios"),
    Recipe("rescsnet-any-dw", "cs", {"kind": "rescsnet-any"}, Plan(1_500, 1e-4, warmup=100, clip=1.0, every=500),
           loss="frobenius-dw-ssim-signed", patch=96, batch=14, rescale=(0.6, 0.45, 0.35, 0.3),
           start_from="rescsnet-any", origin="rescsnet-any, trained on with DW-SSIM in its loss"),
]}
# fmt: on


def find(name: str) -> Recipe:
    """A recipe by name. Raises CourseError, which lists the names."""
    require(name in RECIPES, f"no recipe is called {name!r}; there are {', '.join(RECIPES)}.")
    return RECIPES[name]


def changed(
    recipe: Recipe, *, epochs: int | None = None, quality: str | None = None, ratio: float | None = None, **numbers
) -> Recipe:
    """A recipe with some numbers changed; a shorter one warms up and validates sooner. None changes nothing.

    `numbers`: steps, learning_rate, seed, batch, patch, tiles and sets. An epoch, instead of `steps`, is one patch of
    each picture. `quality` is "10" or "5-95"; `ratio`, of a `rescsnet`, measurements per pixel. Raises CourseError.
    """
    given = {name: value for name, value in numbers.items() if value is not None}
    plan = {name: given.pop(name) for name in ("steps", "learning_rate", "seed") if name in given}
    given |= {"network": recipe.network | ({} if ratio is None else {"ratio": float(ratio)})}
    given |= {"quality": _quality(quality)} if quality else {}
    given |= {"validation": None} if "sets" in given else {}  # some of these pictures are kept for that
    new = dataclasses.replace(recipe, **given)
    if epochs:
        pictures = sum(len(datasets.folder(name)) for name in new.sets)
        plan["steps"] = epochs * -(-pictures // new.batch)
    if steps := plan.get("steps"):
        shorter = {"warmup": steps // 10, "float32_steps": steps // 5, "every": max(1, steps // 4)}
        plan |= {name: min(getattr(recipe.plan, name), most) for name, most in shorter.items()}
    plan = dataclasses.replace(recipe.plan, **plan)
    border = f"the loss of {recipe.name} leaves out {plan.shave} output pixels on each side"
    coded = recipe.quality is not None
    require(coded or not (quality or new.tiles), f"{recipe.name} codes no JPEG, so it has no quality or tiles.")
    require(ratio is None or new.network["kind"] == "rescsnet", f"{recipe.name} has no ratio; rescsnet has one.")
    require(ratio is None or 0.0002 <= ratio <= 1, f"a ratio of {ratio} is not between 0.0002 and 1.")
    require(0 < plan.learning_rate < 1, f"a learning rate of {plan.learning_rate} is not between 0 and 1.")
    require(new.patch * new.scale > 2 * plan.shave, f"patches of {new.patch} pixels are all border: {border}.")
    return dataclasses.replace(new, plan=plan)


def _quality(text: str) -> tuple[int, int]:
    """(low, high) of "10" or "5-95"."""
    low, _, high = text.partition("-")
    high = high or low
    if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high) <= 100):
        raise CourseError(f"a JPEG quality is a number from 1 to 100, or a range such as 5-95, not {text!r}.")
    return int(low), int(high)


def provenance(recipe: Recipe, device: str | None = None) -> dict:
    """What a card says of where its weights come from: data with SHA-256, device, versions."""
    files: dict[str, list[Path]] = {}  # by the set's name; two folders may have the same one
    for name in dict.fromkeys(recipe.sets):
        files.setdefault(Path(name).name, []).extend(datasets.folder(name))
    digests = {name: sha256(*paths) for name, paths in files.items()}
    chosen = devices.pick_device(device)
    kind = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{chosen.type}, {platform.machine()}"
    precision = str(devices.precision(chosen)).removeprefix("torch.")
    return {"data": digests, "device": kind, "precision": precision, "torch": torch.__version__.split("+")[0]}


def licence(sets: Iterable[str], started_from: dict | None = None) -> str:
    """The terms of weights: ours, then those of each set that they, or the weights they began with, were trained on."""
    parent = RECIPES.get(started_from["name"]) if started_from else None
    while parent:
        sets, parent = [*sets, *parent.sets], RECIPES.get(parent.start_from)
    known = {Path(folder).name: about for about in downloads.catalog().values() for folder in about["folders"]}
    names = dict.fromkeys(Path(each).name for each in sets if each != "bundled")
    terms = [f"{name} ({known[name]['licence'] if name in known else 'see its own terms'})" for name in names]
    said = "MIT as far as its authors have rights in it" + (f"; trained on {', '.join(terms)}" if terms else "")
    return f"{said}; begun from {started_from['name']}" if started_from else said


def write(recipe: Recipe, model: models.Restorer, folder: str | os.PathLike, **facts) -> Path:
    """Write NAME.safetensors and its card into `folder`; `facts` (figures, seconds, …) go onto the card."""
    weights = training.save_weights(model, Path(folder) / f"{recipe.name}.safetensors")
    about = {
        "name": recipe.name,
        "task": recipe.task,
        "origin": recipe.origin,
        "network": recipe.network,
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": weights.stat().st_size,
        "sha256": sha256(weights),
        "licence": licence(recipe.sets, facts.get("started_from")),
        "recipe": recipe.plain(),
        "commit": commit(),
    }
    return zoo.write_card(weights.with_suffix(".json"), about | facts)


def finished(recipe: Recipe, folder: str | os.PathLike) -> bool:
    """Whether a folder holds the weights and card of exactly this recipe, trained to its end. Raises CourseError."""
    path = Path(folder) / f"{recipe.name}.json"
    about = zoo.card(path) if path.exists() else {}
    done = (about.get("recipe"), about.get("steps")) == (recipe.plain(), recipe.plan.steps)
    return done and about["weights"].is_file()


def commit() -> str:
    """The commit that the code is at, "+" if code has changed since; a pack for a GPU notes it; else empty."""
    if (noted := DATA / "COMMIT").exists():
        return noted.read_text(encoding="utf-8").strip()

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", DATA.parent, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:  # tables change while they are measured, so they do not count
        touched = git("status", "--porcelain", "--", "helpers", "requirements.txt", "data/weights")
        return git("rev-parse", "--short", "HEAD") + ("+" if touched else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
