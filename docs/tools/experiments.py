"""The experiments whose tables notebooks 2 to 6 show, too long to run in them.

    python docs/tools/experiments.py rows          # random, fixed or learned patterns; 10 minutes on a CPU core
    python docs/tools/experiments.py losses        # what DW-SSIM gains and costs, three seeds; 30 minutes
    python docs/tools/experiments.py edges         # DW-SSIM and edges: the shipped networks, and trainings; 3 minutes
    python docs/tools/experiments.py batch-norm    # ResCSNet with and without it, two seeds; 15 minutes
    python docs/tools/experiments.py batch-statistics  # do its running averages explain the difference? 3 minutes
    python docs/tools/experiments.py demos         # beside the original's own demo pictures; seconds
    python docs/tools/experiments.py classical     # strengths of classical methods, tuned for each task; 15 minutes
    python docs/tools/experiments.py no-harm       # which pictures jpeg-blind returns as they are; 1 minute
    python docs/tools/experiments.py conv-units    # notebook 3's original network by two schedules; 7 minutes
    python docs/tools/experiments.py jpeg-loss     # training as in notebook 3, by L1 and by squared error; 3 minutes
    python docs/tools/experiments.py noise         # NPEG by its noise schedule, and three other ways; 8 minutes
    python docs/tools/experiments.py perceptual    # notebook 2's SRCNN, trained for SSIM or MS-SSIM; 3 minutes
    python docs/tools/experiments.py rivals        # options of file formats, tried on validation pictures; 10 minutes
    python docs/tools/experiments.py mozjpeg       # JPEGs whose coefficients are chosen by rate, too; 4 minutes
    python docs/tools/experiments.py plug-and-play # sensed pictures, recovered with a JPEG restorer; 15 minutes
    python docs/tools/experiments.py fitted        # codecs fitted to crops, and others' files of them; 8 minutes

Each writes `data/experiments/NAME.csv`. All but conv-units, jpeg-loss, noise, perceptual and fitted want COURSE_DATA:
the recipes' training sets, Set11, LIVE1, ResCSNet_demo, DIV2K_valid_256, CID22, DIV2K_test_LR_x4; mozjpeg wants
jpeglib 1.0.2 from PyPI, too.
"""

import argparse
import copy
import dataclasses
import io
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from skimage.restoration import denoise_tv_chambolle

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers import (  # noqa: E402
    baselines,
    codec,
    comparison,
    datasets,
    degradations,
    evaluation,
    images,
    losses,
    metrics,
    models,
    recipes,
    training,
    wavelets,
    zoo,
)
from helpers.service.files import atomic, course_data  # noqa: E402

OUT = ROOT / "data" / "experiments"
LOSSES = {
    "squared error": torch.nn.MSELoss,
    "relative error": partial(losses.FrobeniusDWSSIMLoss, 1.0, 0.0),
    "0.8 relative + 0.2 DW-SSIM": partial(losses.FrobeniusDWSSIMLoss, 0.8, 0.2),
    "0.5 relative + 0.5 DW-SSIM": losses.FrobeniusDWSSIMLoss,
    "the same, each picture": partial(losses.FrobeniusDWSSIMLoss, joint=False),
    "the same, each picture, signed": partial(losses.FrobeniusDWSSIMLoss, absolute=False, joint=False),
}
SEEDS = (0, 1, 2)
HELD_OUT = ("chelsea", "coffee", "flower")  # the photographs that no training of notebook 3 sees
SETS = ("bundled", "Set11")
RATIOS = (0.04, 0.1, 0.25)


def small(seed: int, steps: int) -> recipes.Recipe:
    """A recipe like that of rescsnet-any with a network of a twentieth of the arithmetic."""
    plan = training.Plan(steps, 5e-4, warmup=100, clip=1.0, every=steps, seed=seed)
    network = {"kind": "rescsnet-any", "width": 24, "stages": 2, "blocks": 1}
    return recipes.Recipe(
        "small", "cs", network, plan, patch=96, batch=8, rescale=(0.8, 0.6, 0.4), origin="for a table"
    )


def scores(found: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """PSNR, SSIM and DW-SSIM of two uint8 pictures, (1, H, W)."""
    pair = [images.to_float(t)[None] for t in (found, truth)]
    return {"psnr": metrics.psnr(*pair), "ssim": metrics.ssim(*pair), "dw_ssim": wavelets.dw_ssim(*pair).item()}


@torch.inference_mode()
def measure(model, name: str, ratio: float) -> dict[str, float]:
    """Mean PSNR, SSIM and DW-SSIM over the luma of a set's pictures, in 8 bits."""
    rows = [scores(model.reconstruct(y, ratio), y) for y in datasets.load_all(datasets.folder(name))]
    return pd.DataFrame(rows).mean().to_dict()


def losses_table(steps: int) -> Iterator[dict]:
    """A row per loss, seed, set and ratio: means over the pictures of the set."""
    for seed in SEEDS:
        recipe = small(seed, steps)
        batches, _ = recipes.prepare(recipe)
        for name, loss in LOSSES.items():
            model = recipes.network(recipe)
            training.train(model, batches, loss(), recipe.plan, progress=False)
            for dataset, ratio in itertools.product(SETS, RATIOS):
                about = {"loss": name, "seed": seed, "dataset": dataset, "ratio": ratio}
                yield about | measure(model, dataset, ratio)


def edges_table(steps: int) -> Iterator[dict]:
    """A row per network, seed, set and ratio: how well edges are recovered, means over the pictures of the set.

    The networks are the shipped ones, and rescsnet-any after `steps` more steps on the same batches, with DW-SSIM in
    the loss and without. Of larger pictures than 256×256, the middle is measured.
    """
    recipe = recipes.changed(recipes.find("rescsnet-any-dw"), steps=steps, batch=4)
    batches, plan = recipes.prepare(recipe)[0], dataclasses.replace(recipe.plan, averaging=0)
    networks = [("rescsnet-any", 0, zoo.load("rescsnet-any")), ("rescsnet-any-dw", 0, zoo.load("rescsnet-any-dw"))]
    for seed, name in itertools.product(SEEDS, ("relative error", "the same, each picture, signed")):
        model, there = zoo.load("rescsnet-any"), partial(later, batches, 1000 * seed)
        training.train(model, there, LOSSES[name](), dataclasses.replace(plan, seed=seed), progress=False)
        networks.append((f"trained on, {name}", seed, model.eval()))
    for (name, seed, model), dataset, ratio in itertools.product(networks, SETS, RATIOS[:2]):
        found = []
        for y in datasets.load_all(datasets.folder(dataset)):
            y = TF.center_crop(y, [min(side, 256) for side in y.shape[-2:]])
            pair = [images.to_float(t) for t in (model.reconstruct(y, ratio), y)]
            found.append(edge_scores(*pair) | {"dw_ssim": wavelets.dw_ssim(*(t[None] for t in pair)).item()})
        about = {"network": name, "seed": seed, "dataset": dataset, "ratio": ratio}
        yield about | pd.DataFrame(found).mean().to_dict()


def edge_scores(found: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """PSNR of pictures (1, H, W), on the tenth of the pixels where the true gradient is largest, and on the others.

    "gradient": the root mean square of what the gradient is off by on that tenth, in gray levels per pixel.
    """
    slopes = [torch.stack(torch.gradient(t[0])) for t in (found, truth)]  # (2, H, W) each, central differences
    steep = slopes[1].norm(dim=0)
    edge = steep >= steep.quantile(0.9)
    off = (slopes[0] - slopes[1]).norm(dim=0)[edge].square().mean().sqrt()
    parts = {"psnr": torch.ones_like(edge), "edges": edge, "rest": ~edge}
    scores = {name: metrics.psnr(found[0][part], truth[0][part]) for name, part in parts.items()}
    return scores | {"gradient": 255 * off.item()}


def rows_table(steps: int) -> Iterator[dict]:
    """A row per choice of patterns, seed, set and ratio, all with the same small recovery: means over the pictures."""
    for seed in SEEDS[:2]:
        recipe = small(seed, steps)
        batches, _ = recipes.prepare(recipe)
        for name in ("random", "low frequencies", "learned"):
            model = recipes.network(recipe)
            if name == "random":  # the first is the mean, as in the other two
                noise = torch.randn(len(model.raw_rows), 1024, generator=torch.Generator().manual_seed(seed))
                noise[0] = 1
                model.raw_rows.data = torch.linalg.qr(noise.T)[0].T.reshape(model.raw_rows.shape).contiguous()
            model.raw_rows.requires_grad_(name == "learned")
            training.train(model, batches, losses.PSNRLoss(1e-4), recipe.plan, progress=False)
            for dataset, ratio in itertools.product(SETS, RATIOS):
                about = {"rows": name, "seed": seed, "dataset": dataset, "ratio": ratio}
                yield about | measure(model, dataset, ratio)


def batch_norm_table(steps: int) -> Iterator[dict]:
    """A row per seed and network, the original at a ratio of 0.1: PSNR on held-out squares of 100×100 pixels."""
    for seed in SEEDS[:2]:
        recipe = recipes.changed(recipes.find("rescsnet"), steps=steps, batch=8, seed=seed)
        plan = dataclasses.replace(recipe.plan, schedule="cosine")  # no average: it does not suit running statistics
        for normalise in (True, False):
            recipe = dataclasses.replace(recipe, network={"kind": "rescsnet", "normalise": normalise}, plan=plan)
            batches, validation = recipes.prepare(recipe)
            model = recipes.network(recipe)
            log = training.train(model, batches, torch.nn.MSELoss(), plan, validation=validation, progress=False)
            for row in log:
                yield {"seed": seed, "batch norm": normalise, "step": row["step"], "psnr": row["psnr"]}


def batch_statistics_table(steps: int) -> Iterator[dict]:
    """A row per 20 steps of the original with batch norm, at a ratio of 0.1: PSNR on the same squares, in two ways.

    "running averages": one by one, as `eval()` has it. "own statistics": all squares as one batch, as in training.
    """
    recipe = recipes.changed(recipes.find("rescsnet"), batch=4)
    batches, validation = recipes.prepare(recipe)
    model, squares = recipes.network(recipe), torch.stack([x for x, _ in validation])
    optimizer = torch.optim.Adam(model.parameters(), recipe.plan.learning_rate)
    for step in range(steps):
        x, y = batches(step)
        loss = torch.nn.functional.mse_loss(model.train()(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 20 == 0:
            with torch.no_grad():  # a copy, whose averages this batch may move
                found = images.quantize(copy.deepcopy(model)(squares))
            psnr = [metrics.psnr(x, y) for x, (_, y) in zip(found, validation, strict=True)]
            averages = training.validate(model, validation)["psnr"]
            yield {"step": step + 1, "running averages": averages, "own statistics": sum(psnr) / len(psnr)}


def demos_table(_: int) -> Iterator[dict]:
    """A row per demo picture and ratio: the original's reconstruction, as its JPEG has it, ours, and the zonal one.

    Ours measures no more numbers than the original, int(10,000 · ratio).
    """
    folder = course_data() / "test" / "ResCSNet_demo"
    network = zoo.load("rescsnet-any")
    for name, ratio in itertools.product(("house", "parrot", "barbara"), (0.25, 0.2, 0.15, 0.1, 0.04, 0.01)):
        truth = images.luma_uint8(images.load_uint8(folder / f"{name}.jpg"))
        theirs = images.luma_uint8(images.load_uint8(folder / f"{name}_rescsnet_r{round(100 * ratio):02}.jpg"))
        most, asked = int(truth.numel() * ratio), ratio
        while (count := int(network.geometry(*truth.shape[-2:], asked)[1].sum())) > most:
            asked *= 0.999  # where rounding would measure two or three numbers more
        row = {"image": name, "ratio": ratio, "original measured": most, "ours measured": count}
        ours = network.reconstruct(truth, asked)
        zonal = degradations.keep_low_frequencies(truth, asked)
        for method, picture in (("original", theirs), ("rescsnet-any", ours), ("dct-zonal", zonal)):
            yield row | {"method": method} | scores(picture, truth)


# of each classical method the settings that are tried, and how the names of its tasks begin
CLASSICAL = {
    "total-variation": ({"weight": (0.005, 0.01, 0.02, 0.03, 0.05, 0.08)}, ("sr", "deblock", "jpeg")),
    "non-local-means": ({"h": (0.005, 0.01, 0.02, 0.03, 0.04, 0.06)}, ("sr", "deblock", "jpeg")),
    "wavelet": ({"sigma": (0.0025, 0.005, 0.01, 0.02, 0.03, 0.04)}, ("sr", "deblock", "jpeg-q")),
    "bilateral": (
        {"sigma_color": (0.01, 0.02, 0.04, 0.06, 0.1), "sigma_spatial": (0.75, 1.5, 3, 5)},
        ("sr", "deblock", "jpeg-q"),
    ),
    "unsharp": (
        {"radius": (0.5, 1, 1.5, 2, 3), "amount": (0.1, 0.25, 0.5, 1, 1.5, 2, 3)},
        ("sr", "deblock", "jpeg-q"),
    ),
    "back-projection": ({"steps": (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)}, ("sr",)),
    "sensed-tv": ({"weight": (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)}, ("cs",)),
    "shifted-jpegs": ({"quality": (5, 10, 15, 20, 25, 30, 40, 50, 60, 70)}, ("deblock", "jpeg")),
}


def classical_table(_: int) -> Iterator[dict]:
    """A row per task, method and setting: mean PSNR over squares from the middle of 16 training pictures."""
    files = datasets.folder("BSDS300_train")[::12][:16]
    squares = [TF.center_crop(images.load_uint8(path), 180) for path in files]
    for task in evaluation.TASKS:
        scale = degradations.scale_of(task)
        fitting = {name: grid for name, (grid, kinds) in CLASSICAL.items() if task.startswith(kinds)}
        for name, grid in fitting.items():
            for values in itertools.product(*grid.values()):
                settings = dict(zip(grid, values, strict=True))
                method = baselines.Classical(name, settings, scale)
                psnr = [evaluation.score(task, square, method)[0]["psnr"] for square in squares]
                about = {"task": task, "method": name, "settings": json.dumps(settings)}
                yield about | {"psnr": sum(psnr) / len(psnr)}


def notebook_3():
    """Its training photographs, its degradation, and the three photographs that no training of it sees."""
    clean = datasets.load_all([path for path in datasets.bundled() if path.stem not in HELD_OUT], channels=3)
    degrade = degradations.RandomJPEG(10, shifted=0, twice=0, untouched=0)
    return clean, degrade, [images.load(datasets.bundled(name)) for name in HELD_OUT]


def later(batches: datasets.Patches, first: int, step: int, rank: int) -> training.Pair:
    """The batch of a step of a training that goes on where another one has stopped."""
    return batches(first + step, rank)


def jpeg_loss_table(steps: int) -> Iterator[dict]:
    """A row per loss: mean luma PSNR of the held-out photographs after a training as in notebook 3, section 3.7."""
    clean, degrade, held_out = notebook_3()
    sharp = [images.quantize(images.luma(picture)) for picture in held_out]
    pairs = [(degradations.jpeg(picture, 10), picture) for picture in sharp]
    batches = datasets.Patches(clean, size=64, batch=16, gray=1.0, degrade=degrade)
    for name, loss in (("L1", torch.nn.L1Loss()), ("MSE", torch.nn.MSELoss())):
        torch.manual_seed(0)
        network = models.build("drunet", widths=(24, 48), blocks=(1, 2, 1))
        plan = training.Plan(steps, 2e-3, warmup=steps // 20, averaging=0.99, clip=0.2, every=steps)
        training.train(network, batches, loss, plan, progress=False)
        psnr = [metrics.psnr(images.quantize(network.restore(x)), y) for x, y in pairs]
        yield {"loss": name, "psnr": sum(psnr) / len(psnr)}


def conv_units_table(steps: int) -> Iterator[dict]:
    """A row per schedule and epoch of notebook 3's original network: training loss, PSNR on what it does not see.

    At a constant rate for all steps; as coded, for five epochs: what follows is worth a sixteenth of one.

    An epoch has 162 steps: 1,296 pictures in batches of 8, as the original's own log of an aborted run shows. As coded,
    the rate halves after each of the first 19 epochs, and Adam begins anew.
    """
    clean, degrade, held_out = notebook_3()
    parts = [images.quantize(picture)[:, 100:260, 160:400] for picture in held_out]
    pairs = [(degradations.jpeg(part, 10), part) for part in parts]
    batches, epoch = datasets.Patches(clean, size=32, batch=4, degrade=degrade), 162
    for rate, factor, epochs in (("constant", 1.0, steps // epoch), ("as coded", 0.5, 5)):
        torch.manual_seed(0)
        network = models.build("conv-units")
        for done in range(epochs):
            plan = training.Plan(epoch, 5e-4 * factor**done, schedule="constant", averaging=0, every=epoch, seed=done)
            there = partial(later, batches, done * epoch)
            log = training.train(network, there, torch.nn.MSELoss(), plan, validation=pairs, progress=False)
            yield {"rate": rate, "step": (done + 1) * epoch, "loss": log[-1]["loss"], "psnr": log[-1]["psnr"]}


def noise_table(steps: int) -> Iterator[dict]:
    """A row per seed and way to train NPEG, with equal steps: PSNR from bits, undecided codes (notebook 4, 4.1).

    In float32 on one thread: on two, sums are taken in another order, which changes straight-through by decibels.
    """
    torch.set_num_threads(1)
    pictures, _, held_out = notebook_3()
    test, schedule = held_out[1][:, 60:188, 200:328], (0.1, 0.3, 1.0, 5.0, 15.0)
    ways = {"the schedule": schedule, "weak noise alone": (0.1,) * 5, "strong noise alone": (15.0,) * 5}
    for seed, (name, noises) in itertools.product(range(5), (ways | {"straight-through": (0.0,) * 5}).items()):
        torch.manual_seed(seed)
        network, batches = models.build("npeg"), datasets.Patches(pictures, size=32, batch=8, seed=seed)
        for part, noise in enumerate(noises):  # five trainings of every network, as the schedule has them
            network.noise, network.hard = noise, name == "straight-through"
            there = partial(later, batches, part * steps)
            exact = {"averaging": 0, "every": steps, "float32_steps": steps}
            plan = training.Plan(steps, 1e-3, schedule="constant", seed=5 * seed + part, **exact)
            training.train(network, there, losses.SparseCodeLoss(), plan, progress=False)
        with torch.inference_mode():
            code = torch.sigmoid(network.eval().encoder(test[None] - 0.5))
            made = images.quantize(torch.sigmoid(network.decoder((code > 0.5).float()))[0])
        undecided = ((code > 0.05) & (code < 0.95)).float().mean().item()
        yield {"way": name, "seed": seed, "psnr": metrics.psnr(made, test), "undecided": undecided}


def no_harm_table(_: int) -> Iterator[dict]:
    """A row per picture and kind of damage: whether jpeg-blind returned it as it is, and what the network alone gains.

    Squares of 256 pixels without traces of JPEG. The network was validated on them, not trained; its rule was chosen on
    others.
    """
    network, rng = zoo.load("jpeg-blind"), random.Random(0)
    for path in datasets.folder("DIV2K_valid_256")[2::12]:
        clean = images.to_pillow(TF.center_crop(images.load_uint8(path), 256))
        factor = rng.choice((0.5, 0.6, 0.75, 0.8, 1.25, 1.5, 2.0))
        resample = rng.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS))
        smaller = partial(Image.Image.resize, size=(round(256 * factor),) * 2, resample=resample)
        turned = partial(Image.Image.rotate, angle=1, resample=Image.Resampling.BICUBIC)
        for kind, change, low, high in (
            ("clean", None, 0, 0),
            ("clean, resized", smaller, 0, 0),
            ("quality 10 to 30, resized", smaller, 10, 30),
            ("quality 40 to 60, resized", smaller, 40, 60),
            ("quality 10 to 60, turned", turned, 10, 60),
        ):
            quality = rng.randint(low, high)
            coded = Image.open(io.BytesIO(degradations.jpeg_bytes(images.from_pillow(clean), quality or 100)))
            given, truth = (
                images.from_pillow(change(x) if change else x)[:, 8:-8, 8:-8]
                for x in (coded if quality else clean, clean)
            )
            row = {"image": path.name, "kind": kind, "quality": quality, "factor": factor if change == smaller else 1}
            row["as it is"] = torch.equal(network.restore(given), given)
            alone = models.Restorer.restore(network, given)
            before, after = (metrics.psnr(*map(images.to_float, (x, truth))) for x in (given, alone))
            yield row | ({"gain": after - before} if quality else {"psnr": after})


def perceptual_table(steps: int) -> Iterator[dict]:
    """A row per loss and seed: SRCNN 9-1-5 at ×3 on the held-out photographs, luma; the first row is bicubic.

    `fitted_psnr`: with contrast and brightness of each picture fitted to the original by least squares. `contrast`: the
    factor of that fit. `gray`: by how many levels of 255 a picture was off before it. All are means over the pictures.
    The patches leave 180 pixels a side, which MS-SSIM wants for its five scales. In float32 on any machine.
    """
    files = [path for path in datasets.bundled() if path.stem not in HELD_OUT]
    clean = [images.crop_to_multiple(y, 3) for y in datasets.load_all(files)]
    small = [images.to_uint8(degradations.downscale(images.to_float(y), 3)) for y in clean]
    sharp = [images.quantize(images.luma(images.load(datasets.bundled(name)))) for name in HELD_OUT]
    sharp = [images.crop_to_multiple(y, 3) for y in sharp]
    pairs = [(images.quantize(degradations.downscale(y, 3)), y) for y in sharp]
    exact = {"every": steps, "float32_steps": steps}  # in bfloat16 the order of the losses by PSNR is another
    plan = training.Plan(steps, 5e-4, warmup=steps // 6, shave=6, averaging=0.98, **exact)

    def row(name: str, seed: int, restored: list[torch.Tensor]) -> dict:
        cut = [(images.shave(images.quantize(x), 3), images.shave(y, 3)) for x, y in zip(restored, sharp, strict=True)]
        rulers = (metrics.psnr, metrics.ssim, metrics.ms_ssim)
        scores = {ruler.__name__: sum(ruler(*pair) for pair in cut) / len(cut) for ruler in rulers}
        lines = [np.polyfit(*(z.double().flatten().numpy() for z in (x, y)), 1) for x, y in cut]
        moved = [(x * float(slope) + float(shift), y) for (slope, shift), (x, y) in zip(lines, cut, strict=True)]
        scores["fitted_psnr"] = sum(metrics.psnr(*pair) for pair in moved) / len(cut)
        scores["contrast"] = sum(float(slope) for slope, _ in lines) / len(cut)
        scores["gray"] = sum(255 * float((x - y).mean().abs()) for x, y in cut) / len(cut)
        return {"loss": name, "seed": seed} | scores

    yield row("none: bicubic", 0, [degradations.upscale(x, 3) for x, _ in pairs])
    for seed, name in itertools.product((0, 1), ("mse", "ssim", "ms-ssim")):
        torch.manual_seed(seed)
        network = models.build("srcnn", scale=3, kernels=(9, 1, 5))
        network.start_from_interpolation()
        batches = datasets.Patches(clean, small, size=64, batch=2, scale=3, seed=seed)
        training.train(network, batches, losses.LOSSES[name](), plan, progress=False)
        yield row(name, seed, [network.restore(x) for x, _ in pairs])


def rivals_table(_: int) -> Iterator[dict]:
    """A row per file format and option: BD-rate (RGB, 0.1 to 0.8 bits per pixel) against the options in use."""
    pictures = [images.load_uint8(path) for path in datasets.folder("DIV2K_valid_256")[::6]]  # never a JPEG before
    growths = [{"rise": rise, "colour": share} for rise in (0, 0.1, 0.2, 0.3, 0.4, 0.6) for share in (0.5, 0.7, 1)]
    options = {
        "jpeg": ({}, {"progressive": True}, {"subsampling": "4:4:4"}, *growths),
        "jpeg2000": ({}, {"irreversible": False}, {"mct": 0}, {"num_resolutions": 5}, {"codeblock_size": (32, 32)}),
        "webp": ({}, {"method": 4}),
        "avif": (
            {},
            {"subsampling": "4:2:0"},
            {"advanced": {"tune": "psnr"}},
            {"speed": 4},
            {"speed": 3},
            {"speed": 3, "advanced": {"tune": "psnr"}},
            {"speed": 0},
        ),
        "jpegxl": ({}, {"effort": 7}, {"effort": 5}),
    }
    for name, tried in options.items():
        kind, _, _, settings = baselines.FILE_FORMATS[name]
        curves = {}
        for more in tried:
            curve = curves[json.dumps(more)] = []
            for size in settings[:8:2]:
                used = baselines.file_options(name, size, 3) | more
                if "rise" in more:
                    steps = baselines.psnr_steps(size, **more)
                    used = baselines.file_options("jpeg-psnr", size, 3) | {"qtables": steps}
                curve.append(_point(pictures, partial(_saved, kind=kind, options=used)))
            bits = metrics.bd_rate(curves[json.dumps(more)], curves["{}"], 0.1, 0.8)
            yield {"format": name, "options": json.dumps(more), "BD-rate %": bits}


def mozjpeg_table(_: int) -> Iterator[dict]:
    """A row per set and kind of JPEG: BD-rate against our `jpeg`, and on LIVE1 that of `integer-ae` to it.

    mozjpeg leaves out coefficients that cost more bits than they are worth (trellis quantisation). It runs with its own
    tables of steps, 0 to 8, and with those of `psnr_steps`; the best on validation pictures is measured on LIVE1.
    """
    growths = itertools.product((0, 0.1, 0.2, 0.4), (0.5, 0.7, 1))
    tried = [{"table": table} for table in range(9)] + [{"rise": rise, "colour": share} for rise, share in growths]
    stored = pd.read_csv(ROOT / "data" / "results" / "codec-LIVE1.csv")
    ours = comparison.curve(stored[stored["method"] == "integer-ae"])

    def rows(name: str, files: list[Path], tried: list[dict], span: tuple[float, float]) -> Iterator[dict]:
        pictures = [images.load_uint8(path) for path in files]
        writers = {(kind, "{}"): partial(baselines.file_bytes, name=kind) for kind in ("jpeg", "jpeg-psnr")}
        writers |= {("mozjpeg", json.dumps(more)): partial(_mozjpeg, **more) for more in tried}
        curves = {}
        for (encoder, options), write in writers.items():
            settings = baselines.FILE_FORMATS["jpeg" if encoder == "jpeg" else "jpeg-psnr"][-1]
            points = [(size, *_point(pictures, partial(write, setting=size)), 0) for size in settings]
            points = pd.DataFrame(points, columns=["setting", "bpp", "psnr", "header_bpp"])
            curve = curves[encoder] = comparison.curve(points)
            row = {"set": name, "encoder": encoder, "options": options}
            row["BD-rate %"] = metrics.bd_rate(curve, curves["jpeg"], *span)
            yield row | {"integer-ae to it, %": metrics.bd_rate(ours, curve, *span) if name == "LIVE1" else None}

    squares = list(rows("DIV2K_valid_256", datasets.folder("DIV2K_valid_256")[::6], tried, (0.1, 0.8)))
    yield from squares
    best = min(squares[2:], key=lambda row: row["BD-rate %"])  # of mozjpeg's
    yield from rows("LIVE1", datasets.folder("LIVE1"), [{"table": 0}, json.loads(best["options"])], comparison.RATES)


def plug_and_play_table(steps: int) -> Iterator[dict]:
    """A row per pictures, patterns, ratio, method and setting: mean PSNR of squares of 128 pixels (notebook 5, 5.4).

    A setting is the first and the last strength of a denoiser. Each is tried on four validation pictures, and the best
    of a method is then used on the bundled ones. Total variation, which comes to rest slowly behind random patterns,
    has twelve times the steps; the restorer alone, which soon changes nothing, has half of them.
    """
    network, restorer = zoo.load("rescsnet-any"), zoo.load("jpeg-blind")
    files = datasets.folder("DIV2K_valid_256")[::25][:4]
    sets = {"validation": files, "bundled": datasets.bundled()}
    sets = {n: torch.stack([_middle(path) for path in paths]) for n, paths in sets.items()}
    blocks = [images.luma_uint8(images.load_uint8(path)) for path in datasets.folder("BSDS300_train")[::4]]
    blocks = torch.cat([datasets.sliding_patches(t, 32, 24) for t in blocks]).flatten(1) / 255 - 0.5
    basis = degradations.dct_patterns(32).flatten(1)
    variance = (blocks @ basis.T).square().mean(0)  # of each wave
    random_rows = torch.randn(1024, 256, generator=torch.Generator().manual_seed(0))
    random_rows[:, 0] = 1  # the first pattern is the mean

    def restored(z: torch.Tensor) -> torch.Tensor:
        return restorer(z.expand(-1, 3, -1, -1)).mean(1, keepdim=True)

    def coded(z: torch.Tensor, quality: float) -> torch.Tensor:
        return degradations.jpeg(z.clamp(0, 1), round(quality))

    def smooth(z: torch.Tensor, weight: float) -> torch.Tensor:
        found = [denoise_tv_chambolle(plane.numpy(), weight, max_num_iter=30) for plane in z[:, 0]]
        return torch.from_numpy(np.stack(found))[:, None]

    qualities = list(itertools.product((2, 5, 10, 30), (60, 90, 97)))
    alone = list(itertools.product((2, 5, 10, 30, 60, 90, 97), (10, 30, 60, 90, 97, 100)))
    weights = list(itertools.product((0.03, 0.1, 0.3, 1), (0.0003, 0.001, 0.003, 0.01, 0.03)))
    methods = {
        "total variation": (smooth, weights, 12 * steps),
        "JPEG": (coded, alone, steps),
        "restorer": (lambda z, _: restored(z), [(1, 1)], steps // 2),
        "JPEG, restorer": (lambda z, quality: restored(coded(z, quality)), qualities, steps),
    }
    tried = []
    for kind, ratio in itertools.product(("random", "learned"), RATIOS):
        m = round(1024 * ratio)
        patterns = torch.linalg.qr(random_rows[:, :m])[0].T.reshape(m, 32, 32).contiguous()
        patterns = patterns if kind == "random" else network.rows[:m].detach()
        phi = patterns.flatten(1)
        waves = phi @ basis.T
        measured = (waves * variance) @ waves.T + 1e-5 * torch.eye(m)
        gain = torch.linalg.solve(measured, waves * variance) @ basis
        for name, x in sets.items():
            about = {"pictures": name, "rows": kind, "ratio": ratio}
            y = degradations.block_sense(x - 0.5, patterns)
            once = {"transpose": phi, "covariance": gain}
            found = {n: degradations.block_adjoint(y, t.reshape(-1, 32, 32)) + 0.5 for n, t in once.items()}
            if kind == "learned":
                found["rescsnet-any"] = network(x, ratio).detach()
            for method, z in found.items():
                yield about | {"method": method, "setting": "", "psnr": _mean_psnr(z, x)}
            for method, (denoise, settings, count) in methods.items():
                same = [r for r in tried if (r["rows"], r["ratio"], r["method"]) == (kind, ratio, method)]
                best = max(same, key=lambda row: row["psnr"])["setting"] if name == "bundled" else None
                for setting in [json.loads(best)] if best else settings:
                    z = plug_and_play(y, patterns, denoise, setting, count)
                    tried.append(about | {"method": method, "setting": json.dumps(setting), "psnr": _mean_psnr(z, x)})
                    yield tried[-1]


@torch.inference_mode()
def plug_and_play(y, patterns, denoise, setting: tuple[float, float], steps: int) -> torch.Tensor:
    """Pictures (N, 1, H, W) of measurements: made to agree with them, and denoised, in turns.

    The strength goes from the first of the setting to the last in equal ratios.
    """
    first, last = setting
    z = torch.full_like(degradations.block_adjoint(y, patterns), 0.5)
    for step in range(steps + 1):
        z = z + degradations.block_adjoint(y - degradations.block_sense(z - 0.5, patterns), patterns)
        if step < steps:
            z = denoise(z, first * (last / first) ** (step / max(1, steps - 1)))
    return z


def _middle(path: Path) -> torch.Tensor:
    return images.to_float(TF.center_crop(images.luma_uint8(images.load_uint8(path)), 128))


def _mean_psnr(found: torch.Tensor, truth: torch.Tensor) -> float:
    pairs = zip(images.quantize(found.clamp(0, 1)), truth, strict=True)
    return sum(metrics.psnr(*pair) for pair in pairs) / len(truth)


def _mozjpeg(picture: torch.Tensor, setting: float, table: int | None = None, **steps: float) -> bytes:
    """An RGB picture's file by mozjpeg 4.0.3, progressive, 4:2:0; steps of one of its tables, or of `psnr_steps`."""
    import jpeglib

    quality = np.reshape(baselines.psnr_steps(setting, **steps), (2, 8, 8)) if steps else setting
    with jpeglib.version("mozjpeg403"), tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        jpeg = jpeglib.from_spatial(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))
        jpeg.samp_factor = ((2, 2), (1, 1), (1, 1))
        jpeg.write_spatial(file.name, qt=quality, base_quant_tbl_idx=table)
        return Path(file.name).read_bytes()


def _saved(picture: torch.Tensor, kind: str, options: dict) -> bytes:
    images.to_pillow(picture).save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def _point(pictures: list[torch.Tensor], write: Callable[[torch.Tensor], bytes]) -> tuple[float, float]:
    """Mean bits per pixel and PSNR of pictures as files."""
    found = []
    for picture in pictures:
        decoded = degradations.decode(data := write(picture))
        found.append((metrics.bits_per_pixel(data, picture), metrics.psnr(decoded.float(), picture.float(), 255)))
    return tuple(torch.tensor(found).mean(0).tolist())


CROPS = [("astronaut", 128), ("pavilion", 128), ("flower", 128), ("astronaut", 256)]  # no setting was chosen on them


def fitted_table(steps: int, crops: list = CROPS, qualities: tuple = (20, 40, 60)) -> Iterator[dict]:
    """Codecs fitted to a square of a picture, beside files of the same square by codecs that were there before."""
    for name, side in crops:
        square = images.load_uint8(datasets.bundled(name))[:, 60 : 60 + side, 200 : 200 + side]

        def row(method: str, setting: float, data: bytes, decoded: torch.Tensor, square=square, name=name) -> dict:
            header = baselines.header_bytes(data)
            if method == "avif-psnr":  # all but its box of coded pixels
                start = data.index(b"mdat")
                header = len(data) - int.from_bytes(data[start - 4 : start], "big") + 8
            about = {"picture": name, "side": square.shape[-1], "codec": method, "setting": setting}
            about |= {"bpp": metrics.bits_per_pixel(data, square), "header_bpp": metrics.bits_per_pixel(header, square)}
            return about | {"psnr": metrics.psnr(decoded.float(), square.float(), 255)}

        for quality in qualities:
            data = codec.fitted_bytes(*models.fitted.fit(square, quality, steps=steps), square, quality)
            yield row("fitted", quality, data, codec.decompress_uint8(data))
        for quality in (*range(0, 91, 10), 93, 96):
            data = codec.compress(square, "integer-ae", quality=quality)
            yield row("integer-ae", quality, data, codec.decompress_uint8(data))
        for method in ("jpeg", "jpeg-psnr", "webp", "avif-psnr", "jpegxl"):
            for setting in sorted({*baselines.FILE_FORMATS[method][-1], 70, 80, 90}):
                data = baselines.file_bytes(square, method, setting)
                yield row(method, setting, data, degradations.decode(data))


EXPERIMENTS = {  # what yields the rows, steps of each training, digits
    "rows": (rows_table, 1000, 5),
    "losses": (losses_table, 1000, 5),
    "edges": (edges_table, 20, 5),
    "batch-norm": (batch_norm_table, 200, 3),
    "batch-statistics": (batch_statistics_table, 80, 3),
    "demos": (demos_table, 0, 5),
    "classical": (classical_table, 0, 4),
    "conv-units": (conv_units_table, 11 * 162, 5),
    "no-harm": (no_harm_table, 0, 3),
    "jpeg-loss": (jpeg_loss_table, 700, 3),
    "noise": (noise_table, 40, 3),
    "perceptual": (perceptual_table, 120, 4),
    "rivals": (rivals_table, 0, 1),
    "mozjpeg": (mozjpeg_table, 0, 1),
    "plug-and-play": (plug_and_play_table, 20, 3),
    "fitted": (fitted_table, 1000, {"bpp": 4, "header_bpp": 4, "psnr": 3}),
}


def table(name: str, steps: int | None = None) -> pd.DataFrame:
    """The table of an experiment; each row is printed as soon as it is there."""
    experiment, usual, digits = EXPERIMENTS[name]
    rows = []
    for row in experiment(steps or usual):
        print(row, flush=True)
        rows.append(row)
    return pd.DataFrame(rows).round(digits)


def main() -> None:
    """Run the experiment that is named on the command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("name", choices=EXPERIMENTS)
    options.add_argument("--steps", type=int, help="of each training")
    given = options.parse_args()
    found = table(given.name, given.steps)
    OUT.mkdir(exist_ok=True)
    with atomic(OUT / f"{given.name}.csv") as temporary:
        found.to_csv(temporary, index=False)
    print(found.to_string())


if __name__ == "__main__":
    main()
