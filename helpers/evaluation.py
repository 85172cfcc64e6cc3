"""Tasks × methods × pictures → a table. The protocols of the literature, and the only place that measures to publish.

Super-resolution (`sr-x2`, `sr-x3`, `sr-x4`): Y of BT.601 in 8 bits, cropped to a multiple of the scale, reduced by
bicubic with anti-aliasing as MATLAB's `imresize` and stored in 8 bits; the output is clipped and rounded to 8 bits and
`scale` border pixels are left out. Deblocking (`deblock-q20`): Y in 8 bits through libjpeg at quality 20, nothing left
out. A colour network is given the RGB picture, and Y is taken of its 8-bit output. Peak 255 on 8 bits, SSIM 11×11
Gaussian, means over pictures, unweighted.
"""

import copy
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from . import datasets, degradations, images, metrics, models, zoo

COLUMNS = ["task", "dataset", "image", "method", "psnr", "ssim", "bpp", "seconds", "parameters"]
TEST_SETS = {"sr": ("Set5", "Set14", "BSD100"), "deblock": ("Classic5", "LIVE1")}
BASELINES = {"sr": "bicubic", "deblock": "jpeg"}

Method = Callable[[torch.Tensor], torch.Tensor]  # uint8 (C, H, W) degraded → uint8 restored


class EvaluationError(ValueError):
    """Something asked for that cannot be measured; one sentence that says what to do."""


def methods_for(task: str) -> list[str]:
    """The task's baseline and every network that the zoo has for it."""
    degradations.for_task(task)  # an unknown task raises here
    return [BASELINES[task.split("-")[0]], *zoo.for_task(task)]


def evaluate(
    task: str,
    files: Iterable[os.PathLike],
    methods: Iterable[str] | None = None,
    dataset: str = "",
    progress: bool = True,
) -> tuple[pd.DataFrame, list[str]]:
    """Measure methods on pictures. Returns the table, one row per picture and method, and one line per failed picture.

    `methods` are "bicubic", "jpeg", names of the zoo, or paths of cards; by default all that the task has.
    Raises EvaluationError, ZooError.
    """
    degradations.scale_of(task)  # an unknown task is said once, before any picture
    names = list(methods or methods_for(task))
    loaded = {name: _load(name, task) for name in names}
    rows, failures = [], []
    for path in tqdm(list(files), unit="picture", disable=None if progress else True):
        try:
            picture = images.load_uint8(path)
            for name, model in loaded.items():
                scores = score(task, picture, model)
                rows.append({"task": task, "dataset": dataset, "image": Path(path).name, "method": name, **scores})
        except ValueError as why:
            failures.append(str(why) if str(path) in str(why) else f"{path}: {why}")
    return pd.DataFrame(rows, columns=COLUMNS), failures


def score(task: str, picture: torch.Tensor, model: models.Restorer | None) -> dict:
    """PSNR, SSIM, seconds and parameters of one method on one clean uint8 picture; None is the task's baseline."""
    scale = degradations.scale_of(task)
    if min(picture.shape[-2:]) < 11 + 3 * scale:  # what SSIM's window wants after cropping and the border
        raise EvaluationError(f"{picture.shape[-1]}x{picture.shape[-2]} pixels are too few to measure {task}.")
    picture = images.crop_to_multiple(picture, scale)
    if model is None or model.channels == 1:
        picture = images.to_uint8(images.luma(images.to_float(picture)))
    given = degradations.for_task(task)(picture)
    start = time.perf_counter()
    restored = model.restore(given) if model else baseline(given, scale)
    seconds = time.perf_counter() - start
    border = scale if scale > 1 else 0
    pair = [images.shave(_measured_luma(t), border).float() for t in (restored, picture)]
    parameters = sum(p.numel() for p in model.parameters()) if model else 0
    return {
        "psnr": metrics.psnr(*pair, peak=255),
        "ssim": metrics.ssim(*pair, peak=255),
        "seconds": seconds,
        "parameters": parameters,
    }


def baseline(given: torch.Tensor, scale: int) -> torch.Tensor:
    """What costs nothing: bicubic interpolation, or the degraded picture itself."""
    return images.to_uint8(degradations.upscale(images.to_float(given), scale)) if scale > 1 else given


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over pictures, a row per method, the best last."""
    keys = ["task", "dataset", "method"]
    means = table.groupby(keys, sort=False)[["psnr", "ssim", "seconds", "parameters"]].mean()
    means = means.sort_values(["task", "dataset", "psnr"])
    return means.astype({"parameters": int}).round({"psnr": 2, "ssim": 4, "seconds": 3})


def multiply_adds(model: models.Restorer) -> int:
    """Multiplications, each with its addition, per output pixel: counted while a picture goes through."""
    side = 2**20  # so large that borders do not count; "meta" tensors have a shape and no memory
    ghost = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        ghost(torch.empty(1, model.channels, side, side, device="meta"))
    return round(counter.get_total_flops() / 2 / (side * model.scale) ** 2)


def load_for(name: str | None, task: str) -> models.Restorer:
    """The named network, if it solves the task; without a name, the task's best. Raises EvaluationError, ZooError."""
    known = zoo.for_task(task)
    name = name or (known[0] if known else None)
    if name is None:
        raise EvaluationError(f"the zoo has no network for {task} yet.")
    about = zoo.card(name)
    if about["task"] != task:
        raise EvaluationError(f"{name!r} solves {about['task']}, not {task}; there are {', '.join(known)}.")
    return zoo.load(name)


def publish(run: str | os.PathLike) -> Path:
    """Measure a finished run on the bundled pictures and the standard test sets; put weights and card into the zoo."""
    cards = [path for path in Path(run).glob("*.json") if path.with_suffix(".safetensors").is_file()]
    if len(cards) != 1:
        raise EvaluationError(f"{run}: not the folder of a finished training; name the OUT of `train`.")
    about = zoo.card(cards[0])
    about["figures"] = {}
    for name in ("bundled", *TEST_SETS[about["task"].split("-")[0]]):
        table, _ = evaluate(about["task"], datasets.folder(name), [str(cards[0])], name)
        means = table[["psnr", "ssim"]].mean()
        about["figures"][name] = {"psnr": round(means["psnr"], 3), "ssim": round(means["ssim"], 4)}
    about["multiply_adds"] = multiply_adds(zoo.load(cards[0]))
    target = zoo.WEIGHTS / cards[0].name
    with images.atomic(target.with_suffix(".safetensors")) as temporary:
        shutil.copyfile(about.pop("weights"), temporary)
    with images.atomic(target) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return target


def _load(name: str, task: str) -> models.Restorer | None:
    if name == BASELINES[task.split("-")[0]]:
        return None
    if name in BASELINES.values():
        raise EvaluationError(f"{name!r} is no method for {task}; there are {', '.join(methods_for(task))}.")
    return load_for(name, task)


def _measured_luma(picture: torch.Tensor) -> torch.Tensor:
    return images.to_uint8(images.luma(images.to_float(picture))) if picture.shape[0] == 3 else picture
