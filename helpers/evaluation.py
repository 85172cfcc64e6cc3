"""Tasks × methods × pictures → a table. The protocols of the literature, and the only place that measures to publish.

Super-resolution (`sr-x2`, `sr-x3`, `sr-x4`): Y of BT.601 in 8 bits, cropped to a multiple of the scale, reduced by
bicubic with anti-aliasing as MATLAB's `imresize` and stored in 8 bits; the output is clipped and rounded to 8 bits and
`scale` border pixels are left out. Deblocking (`deblock-q20`): Y in 8 bits through libjpeg at quality 20, nothing left
out. A colour network is given the RGB picture, and Y is taken of its 8-bit output. JPEG (`jpeg-q10`, …): the same at
any quality; `jpeg-color-q10`, … code and measure RGB (4:2:0). Codecs (`codec`): RGB, decoded in 8 bits, against the
real size of the file, at several settings each; `header_bpp` is the part of it that is no coded pixels. Compressed
sensing (`cs-01`, … `cs-25`): Y in 8 bits, the whole picture, nothing left out; `measured` is the numbers measured per
pixel, those of blocks that hang over the edge included, `ssim_uniform` the SSIM of that literature's tables. Peak 255
on 8 bits, SSIM 11×11 Gaussian, means over pictures, unweighted.
"""

import copy
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from . import codec, datasets, degradations, images, metrics, models, zoo

COLUMNS = ["task", "dataset", "image", "method", "psnr", "ssim", "bpp", "seconds", "parameters", "psnr_b"]
MORE_COLUMNS = {"codec": ["ms_ssim", "setting", "header_bpp"], "cs": ["ssim_uniform", "measured"]}
TEST_SETS = {
    "sr": ("Set5", "Set14", "BSD100"),
    "deblock": ("Classic5", "LIVE1"),
    "jpeg": ("Classic5", "LIVE1"),
    "codec": ("LIVE1",),
    "cs": ("Set11", "BSD68_gray", "Set5", "Set14"),
}
SCORES = {"psnr": 2, "ssim": 4, "ssim_uniform": 4, "measured": 4, "psnr_b": 2}  # digits in summaries
SHOWN_RATES = (0.15, 0.25, 0.5)  # bits per pixel
RATES = (0.15, 0.6)  # bits per pixel: the span over which codecs are compared
BASELINES = {"sr": "bicubic", "deblock": "jpeg", "jpeg": "jpeg", "cs": "dct-zonal"}

Method = Callable[[torch.Tensor], torch.Tensor]  # uint8 (C, H, W) degraded → uint8 restored


class EvaluationError(ValueError):
    """Something asked for that cannot be measured; one sentence that says what to do."""


def methods_for(task: str) -> list[str]:
    """The task's baseline, or the usual codecs, and every network that the zoo has for it."""
    if task == "codec":
        return [*codec.FILE_FORMATS, *zoo.for_task(task)]
    _check_measurable(task)
    return [BASELINES[task.split("-")[0]], *zoo.for_task(task)]


def evaluate(
    task: str,
    files: Iterable[os.PathLike],
    methods: Iterable[str] | None = None,
    dataset: str = "",
    progress: bool = True,
    panels: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Measure methods on pictures. Returns the table, one row per picture and method, and one line per failed picture.

    `methods` are "bicubic", "jpeg", names of the zoo, or paths of cards; by default all that the task has. Into the
    folder `panels` goes a picture for each row: input, restored, original, side by side. Networks run on `device`,
    by default the CPU.
    Raises EvaluationError, ZooError.
    """
    _check_measurable(task)  # said once, before any picture
    names = list(methods_for(task) if methods is None else methods)
    loaded = {name: _load(name, task) for name in names}
    for model in loaded.values():
        if isinstance(
            model, models.Restorer | models.ResCSNetAny
        ):  # codecs are measured on the CPU, where their files are the same
            model.to(device or "cpu")
    rows, failures, cold = [], [], set(loaded)
    for path in tqdm(list(files), unit="picture", disable=None if progress else True):
        try:
            picture = images.load_uint8(path)
            for name, model in loaded.items():
                if name in cold:  # a first picture also waits for what the machine sets up
                    side = 192 if task == "codec" else 64
                    small = picture[..., :side, :side] if min(picture.shape[-2:]) > side else picture
                    list(_scored(task, small, name, model))
                    cold.remove(name)
                for scores, shown, label in _scored(task, picture, name, model):
                    if panels:
                        strip = torch.cat([images.as_rgb(t) for t in shown], dim=-1)
                        images.save(Path(panels) / f"{Path(path).stem}-{Path(name).stem}{label}.png", strip)
                    rows.append({"task": task, "dataset": dataset, "image": Path(path).name, "method": name, **scores})
        except ValueError as why:
            failures.append(str(why) if str(path) in str(why) else f"{path}: {why}")
    return pd.DataFrame(rows, columns=COLUMNS + MORE_COLUMNS.get(task.split("-")[0], [])), failures


def _scored(task: str, picture: torch.Tensor, name: str, model) -> Iterator[tuple[dict, list[torch.Tensor], str]]:
    """One method on one picture: a row, its panels and a label for them; of a codec, one for each of its settings."""
    if task != "codec":
        measure = score_sensing if task.startswith("cs-") else score
        yield *measure(task, picture, model), ""
        return
    for setting in codec.FILE_FORMATS[name][-1] if name in codec.FILE_FORMATS else model.settings:
        yield *score_codec(picture, name, setting, model), f"-{setting:g}"


def score_codec(picture: torch.Tensor, name: str, setting: float, model=None) -> tuple[dict, list[torch.Tensor]]:
    """A row of the table for one codec and setting on one clean uint8 picture, and the panels decoded, original."""
    if min(picture.shape[-2:]) < 177:  # what MS-SSIM wants
        raise EvaluationError(f"{picture.shape[-1]}x{picture.shape[-2]} pixels are too few to measure a codec.")
    start = time.perf_counter()
    if name in codec.FILE_FORMATS:
        data, parameters = codec.file_bytes(picture, name, setting), 0
        decoded = degradations.decode(data)[: len(picture)]  # a gray picture comes back from some with R = G = B
    elif isinstance(model, codec.PackedBits):
        data = model.encode(picture)
        decoded, parameters = model.decode(data), model.parameters
    else:
        data, parameters = codec.compress(picture, name, quality=setting), codec.load(name).parameters
        decoded = codec.decompress_uint8(data, name)
    row = {"seconds": time.perf_counter() - start, "setting": setting, "parameters": parameters}
    row |= {"bpp": metrics.bits_per_pixel(data, picture)}
    row |= {"header_bpp": metrics.bits_per_pixel(codec.header_bytes(data), picture)}
    pair = [t.float() for t in (decoded, picture)]
    for key in ("psnr", "ms_ssim"):
        row[key] = getattr(metrics, key)(*pair, peak=255)
    return row, [decoded, picture]


def score(task: str, picture: torch.Tensor, model: models.Restorer | None) -> tuple[dict, list[torch.Tensor]]:
    """A row of the table for one method on one clean uint8 picture, and the panels input, restored, original.

    `model` None is the task's baseline.
    """
    scale = degradations.scale_of(task)
    if min(picture.shape[-2:]) < 11 + 3 * scale:  # what SSIM's window wants after cropping and the border
        raise EvaluationError(f"{picture.shape[-1]}x{picture.shape[-2]} pixels are too few to measure {task}.")
    picture = images.crop_to_multiple(picture, scale)
    color = task.startswith("jpeg-color")
    if not color and (scale == 1 or model is None or model.channels == 1):
        picture = images.luma_uint8(picture)
    given = degradations.for_task(task)(picture)
    start = time.perf_counter()
    restored = model.restore(given) if model else baseline(given, scale)
    seconds = time.perf_counter() - start
    border = scale if scale > 1 else 0
    pair = [images.shave(t if color else images.luma_uint8(t), border).float() for t in (restored, picture)]
    row = {"psnr": metrics.psnr(*pair, peak=255), "ssim": metrics.ssim(*pair, peak=255)}
    if task.startswith("jpeg"):
        row["psnr_b"] = metrics.psnr_b(*pair, peak=255)
    row |= {"seconds": seconds, "parameters": sum(p.numel() for p in model.parameters()) if model else 0}
    return row, [baseline(given, scale), restored, picture]


def score_sensing(
    task: str, picture: torch.Tensor, model: models.ResCSNetAny | None
) -> tuple[dict, list[torch.Tensor]]:
    """The same for compressed sensing of a clean uint8 picture; the baseline keeps the DCT's low frequencies."""
    if min(picture.shape[-2:]) < 11:
        raise EvaluationError(f"{picture.shape[-1]}x{picture.shape[-2]} pixels are too few to measure {task}.")
    picture, ratio = images.luma_uint8(picture), degradations.ratio_of(task)
    zonal = degradations.keep_low_frequencies(picture, ratio)
    start = time.perf_counter()
    restored = model.reconstruct(picture, ratio) if model else degradations.keep_low_frequencies(picture, ratio)
    row = {"seconds": time.perf_counter() - start}
    pair = [t.float() for t in (restored, picture)]
    row |= {"psnr": metrics.psnr(*pair, peak=255), "ssim": metrics.ssim(*pair, peak=255)}
    row |= {"ssim_uniform": metrics.ssim(*pair, peak=255, window="uniform")}
    row |= {"parameters": sum(p.numel() for p in model.parameters()) if model else 0}
    size = picture.shape[-2:]
    block = degradations.SENSED_BLOCK
    counts = model.geometry(*size, ratio)[1] if model else degradations.measurement_counts(*size, ratio, block)
    return row | {"measured": counts.sum().item() / picture.numel()}, [zonal, restored, picture]


def baseline(given: torch.Tensor, scale: int) -> torch.Tensor:
    """What costs nothing: bicubic interpolation, or the degraded picture itself."""
    return images.to_uint8(degradations.upscale(images.to_float(given), scale)) if scale > 1 else given


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over pictures, a row per method, the best last."""
    if "setting" in table:
        return curves(table)
    keys = ["task", "dataset", "method"]
    table = table.reindex(columns=[*keys, *SCORES, "seconds", "parameters"])
    means = table.groupby(keys, sort=False)[[*SCORES, "seconds", "parameters"]].mean()
    means = means.sort_values(["task", "dataset", "psnr"]).dropna(axis="columns", how="all")
    return means.astype({"parameters": int}).round(SCORES | {"seconds": 3})


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """A row per codec: dB at some rates, and BD-rates in percent against JPEG, with file headers and without.

    A point of a curve is the mean of bits and decibels over all pictures at one setting.
    """
    rows = []
    for (dataset, method), part in table.groupby(["dataset", "method"], sort=False):
        row = {"task": "codec", "dataset": dataset, "method": method}
        row |= {f"psnr at {rate}": metrics.at_rate(curve(part), rate) for rate in SHOWN_RATES}
        jpeg = table[(table["dataset"] == dataset) & (table["method"] == "jpeg")]
        if len(jpeg):
            row["BD-rate %"] = metrics.bd_rate(curve(part), curve(jpeg), *RATES)
            if part["header_bpp"].any():
                row["without headers"] = metrics.bd_rate(*(curve(t, payload=True) for t in (part, jpeg)), *RATES)
            row["BD-rate % of MS-SSIM"] = metrics.bd_rate(*(curve(t, "ms_ssim") for t in (part, jpeg)), *RATES)
        rows.append(row | {"seconds": part["seconds"].mean(), "parameters": part["parameters"].iloc[0]})
    return pd.DataFrame(rows).set_index(["task", "dataset", "method"]).round(2)


def curve(table: pd.DataFrame, score: str = "psnr", payload: bool = False) -> list[tuple[float, float]]:
    """The (bits per pixel, dB) points of one codec's rows, means over pictures; MS-SSIM in dB, −10·log₁₀(1 − MS-SSIM).

    `payload`: without the headers of the files.
    """
    rates = table["bpp"] - table["header_bpp"] * payload
    scores = table[score] if score == "psnr" else -10 * np.log10(1 - table[score])
    points = pd.DataFrame({"rate": rates, "score": scores}).groupby(table["setting"]).mean()
    return list(points.sort_values("rate").itertuples(index=False, name=None))


def multiply_adds(model: models.Restorer) -> int:
    """Multiplications, each with its addition, per output pixel: counted while a picture goes through."""
    side = 2**20  # so large that borders do not count; "meta" tensors have a shape and no memory
    ghost, scale = copy.deepcopy(model).to("meta"), getattr(model, "scale", 1)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        ghost(torch.empty(1, model.channels, side, side, device="meta"))
    return round(counter.get_total_flops() / 2 / (side * scale) ** 2)


def load_for(name: str | None, task: str) -> models.Restorer:
    """The named network, if it solves the task; without a name, the task's best. Raises EvaluationError, ZooError."""
    if name is None:
        name = next(iter(zoo.for_task(task)), None)
    if name is None:
        raise EvaluationError(f"the zoo has no network for {task} yet.")
    about = zoo.card(name)
    if not degradations.covers(about["task"], task):
        known = ", ".join(zoo.for_task(task)) or "none yet"
        raise EvaluationError(f"{name!r} solves {about['task']}, not {task}; there are {known}.")
    return zoo.load(name)


def publish(run: str | os.PathLike) -> Path:
    """Measure a finished run on the bundled pictures and the standard test sets; put weights and card into the zoo.

    Raises DatasetError, EvaluationError, ZooError, and nothing is put there: for a run that was stopped, a set that is
    not there, a picture that cannot be measured.
    """
    cards = [path for path in Path(run).glob("*.json") if path.with_suffix(".safetensors").is_file()]
    if len(cards) != 1:
        raise EvaluationError(f"{run}: not the folder of a finished training; name the OUT of `train`.")
    about = zoo.card(cards[0])
    _check_finished(cards[0], about)
    about["figures"] = {task: {} for task in measured_tasks(about["task"])}
    for task, figures in about["figures"].items():
        for name in ("bundled", *test_sets(task)):
            table, failures = evaluate(task, datasets.folder(name), [str(cards[0])], name)
            if failures:
                raise EvaluationError(f"{failures[0].rstrip('.')}; publishing wants all pictures of {name}.")
            figures[name] = figures_of(table)
    about["multiply_adds"] = multiply_adds(zoo.load(cards[0]))
    target = zoo.WEIGHTS / cards[0].name
    with images.atomic(target.with_suffix(".safetensors")) as temporary:
        shutil.copyfile(about.pop("weights"), temporary)
    with images.atomic(target) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return target


def figures_of(table: pd.DataFrame) -> dict[str, float]:
    """What a card says of one method's rows: mean PSNR and SSIM; of a codec, dB at some rates, or its one point."""
    if "setting" not in table:
        means = table[["psnr", "ssim"]].mean()
        return {"psnr": round(means["psnr"], 3), "ssim": round(means["ssim"], 4)}
    points = curve(table)
    if len(points) == 1:
        return {"bpp": round(points[0][0], 3), "psnr": round(points[0][1], 3)}
    return {f"psnr at {rate}": round(metrics.at_rate(points, rate), 3) for rate in SHOWN_RATES}


def _check_finished(card: Path, about: dict) -> None:
    """Raises EvaluationError where a card does not say that its training came to the end of its plan."""
    try:
        done, wanted = about["steps"], about["recipe"]["plan"]["steps"]
        finished = done >= wanted
    except (KeyError, TypeError):
        raise EvaluationError(f"{card}: does not say how it was trained; name the OUT of `train`.") from None
    if not finished:
        raise EvaluationError(f"{card}: stopped at step {done} of {wanted}; end the training with --resume first.")


def _check_measurable(task: str) -> None:
    """Raises TaskError for a task that does not exist or leaves its quality or ratio open."""
    if task.startswith("cs"):
        degradations.ratio_of(task)
    elif task != "codec":
        degradations.for_task(task)


def _load(name: str, task: str) -> models.Restorer | None:
    if task == "codec":
        if name in codec.FILE_FORMATS:
            return None
        kind = zoo.card(name)["network"].get("kind")
        return codec.PackedBits(name) if kind == "npeg" else codec.load(name)
    if name == BASELINES[task.split("-")[0]]:
        return None
    if name in BASELINES.values():
        raise EvaluationError(f"{name!r} is no method for {task}; there are {', '.join(methods_for(task))}.")
    return load_for(name, task)


def measured_tasks(task: str) -> tuple[str, ...]:
    """The tasks that a network for `task` is measured on: itself, or the qualities or ratios of the literature."""
    if task == "cs":
        return degradations.CS_TASKS
    return degradations.JPEG_TASKS + degradations.JPEG_COLOR_TASKS if task == "jpeg" else (task,)


def test_sets(task: str) -> tuple[str, ...]:
    """The standard test sets of a task; Classic5 is gray and no test of colour."""
    return tuple(
        name for name in TEST_SETS[task.split("-")[0]] if not (name == "Classic5" and task.startswith("jpeg-color"))
    )
