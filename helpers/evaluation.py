"""Tasks × methods × pictures → a table. The protocols of the literature, and the only place that measures to publish.

Super-resolution (`sr-x2`, `sr-x3`, `sr-x4`): Y of BT.601 in 8 bits, cropped to a multiple of the scale, reduced by
bicubic with anti-aliasing as MATLAB's `imresize` and stored in 8 bits; the output is clipped and rounded to 8 bits and
`scale` border pixels are left out. Deblocking (`deblock-q20`): Y in 8 bits through libjpeg at quality 20, nothing left
out. A colour network is given the RGB picture, and Y is taken of its 8-bit output. JPEG (`jpeg-q10`, …): the same at
any quality; `jpeg-color-q10`, … code and measure RGB (4:2:0). Codecs (`codec`): RGB, decoded in 8 bits, against the
real size of the file, at several settings each; `header_bpp` is the part of it that is no coded pixels; `codec-gray`
does the same with Y in 8 bits. Compressed sensing (`cs-01`, … `cs-25`): Y in 8 bits, the whole picture, nothing left
out; `measured` is the numbers measured per pixel, those of blocks that hang over the edge included, `ssim_uniform` the
SSIM of that literature's tables. Peak 255 on 8 bits, SSIM 11×11 Gaussian, means over pictures, unweighted.
`psnr_unrounded`, which super-resolution has on demand, is that of BasicSR and its descendants: the RGB picture is
reduced and restored in 8 bits, and its Y is not rounded. Methods of your own: see `own`.
"""

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from tqdm.auto import tqdm

from . import baselines, codec, degradations, images, metrics, models, own, sensing, zoo
from .service.errors import CourseError

COLUMNS = ["task", "dataset", "image", "method", "psnr", "ssim", "bpp", "seconds", "parameters", "psnr_b"]
MORE_COLUMNS = {"codec": ["ms_ssim", "setting", "header_bpp"], "cs": ["ssim_uniform", "measured"]}
TEST_SETS = {  # of the first entry that a task begins with
    "sr": ("Set5", "Set14", "BSD100"),
    "deblock": ("Classic5", "LIVE1"),
    "jpeg-color": ("LIVE1",),  # Classic5 is gray
    "jpeg": ("Classic5", "LIVE1"),
    "codec-gray": ("Set11",),
    "codec": ("LIVE1",),
    "cs": ("Set11", "BSD68_gray", "Set5", "Set14"),
}
TASKS = ("sr-x2", "sr-x3", "sr-x4", "deblock-q20", *degradations.JPEG_TASKS, *degradations.JPEG_COLOR_TASKS)
TASKS += (*degradations.CS_TASKS, "codec", "codec-gray")
SENSED, SENSED_BITS = "sensed", 6  # measurements as a file: bits of each, the best of those in notebook 5
SENSED_RATIOS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.25)
OWN_SETTINGS = (10, 30, 50, 70, 90)  # of a codec that is a mere pair
MENDED = "jpeg+jpeg-blind"  # JPEG, and the blind restorer after its decoder
BASELINES = {"sr": "bicubic", "deblock": "jpeg", "jpeg": "jpeg", "cs": "dct-zonal"}

Method = models.Restorer | models.ResCSNetAny | baselines.Classical | own.Function | own.Sensor | None
# None is the task's baseline


class Coder(NamedTuple):
    """A codec as it is measured: a picture and a setting in, a file out, and the picture of the file."""

    settings: tuple[float, ...]  # the points of its curve
    encode: Callable[[torch.Tensor, float], bytes]
    decode: Callable[[bytes], torch.Tensor]
    parameters: int = 0


def methods_for(task: str) -> list[str]:
    """The task's baseline, classical methods and all networks of the zoo; or the usual codecs and the zoo's.

    Raises CourseError for a task that does not exist or leaves its quality or ratio open.
    """
    if task in ("codec", "codec-gray"):
        learned = zoo.for_task(task) if task == "codec" else [*codec.names(), SENSED]
        return [*baselines.FILE_FORMATS, MENDED, *learned]
    (degradations.ratio_of if task.startswith("cs") else degradations.for_task)(task)
    return [BASELINES[task.split("-")[0]], *baselines.for_task(task), *zoo.for_task(task)]


def methods_here(task: str) -> list[str]:
    """Those of `methods_for` that this machine has all for: not each Pillow writes AVIF and JPEG XL."""
    formats = baselines.FILE_FORMATS
    return [name for name in methods_for(task) if name not in formats or baselines.can_write(name)]


def evaluate(
    task: str,
    files: Iterable[os.PathLike],
    methods: Iterable[str] | Mapping[str, Any] | None = None,
    dataset: str = "",
    progress: bool = True,
    panels: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    unrounded: bool = False,
) -> tuple[pd.DataFrame, list[str]]:
    """Measure methods on pictures. Returns the table, one row per picture and method, and one line for each failure.

    `methods` are "bicubic", "jpeg", classical ones, names of the zoo, paths of cards, or your own as "module:function"
    or "file.py:function"; by default all of the task. A mapping gives names to functions, pairs, networks, or
    folders of restored pictures; None stands for the method of that name. Into the folder `panels` goes a picture
    for each row: input, restored, original, side by side. Networks run on `device`, by default the CPU. `seconds` come
    after a warm-up. `unrounded` adds `psnr_unrounded` for super-resolution: each picture is restored once more. Raises
    CourseError.
    """
    methods = methods_here(task) if methods is None else methods
    methods = methods if isinstance(methods, Mapping) else dict.fromkeys(methods)
    # what cannot be measured is said before any picture
    loaded = {name: load_method(name, task, what) for name, what in methods.items()}
    for model in loaded.values():
        if isinstance(model, torch.nn.Module):  # codecs are measured on the CPU, where their files are the same
            model.to(device or "cpu")
    if panels:
        Path(panels).mkdir(parents=True, exist_ok=True)
    files = [Path(path) for path in files]
    rows, failures, warm = [], [], set()
    taken = {path.name.lower() for path in files}  # no picture is written over, nor a panel
    side = 192 if task.startswith("codec") else 64  # of a first crop: MS-SSIM wants a large one
    load = lru_cache(1)(images.load_uint8)  # the methods of a picture come one after the other
    for path in tqdm(files, unit="picture", disable=None if progress else True):
        for name, model in loaded.items():
            try:
                picture = load(path)
                made = isinstance(model, own.Folder)
                method = model.of(path, picture) if made else model
                if name not in warm and not made:  # a first picture also waits for what the machine sets up
                    warm.add(name)
                    with suppress(ValueError):
                        list(_scored(task, picture[..., :side, :side], model))
                for scores, shown, label in [*_scored(task, picture, method)]:  # all of a codec's, or none
                    scores |= dict.fromkeys(("seconds", "measured"), math.nan) if made else {}
                    if unrounded and task.startswith("sr"):
                        scores["psnr_unrounded"] = unrounded_psnr(task, picture, method)
                    if panels:
                        stem = Path(name).name.removesuffix(".json").removesuffix(".safetensors").replace(":", "-")
                        place = Path(panels) / _free(f"{path.stem}-{stem}{label}", taken)
                        images.save(place, _strip(shown, luma_of_colour=len(picture) == 3))
                    rows.append({"task": task, "dataset": dataset, "image": path.name, "method": name, **scores})
            except ValueError as why:
                said = f"{name}: {why}" if isinstance(why, own.Fault) else str(why)
                failures.append(said if str(path) in said else f"{path}: {said}")
    columns = COLUMNS + MORE_COLUMNS.get(task.split("-")[0], []) + ["psnr_unrounded"] * unrounded
    return pd.DataFrame(rows, columns=columns), list(dict.fromkeys(failures))


def _free(stem: str, taken: set[str]) -> str:
    """The name of a panel, numbered where its stem is taken; capitals make no difference, as on many disks."""
    names = (f"{stem}{number}.png" for number in ("", *(f"-{n}" for n in range(2, len(taken) + 3))))
    name = next(name for name in names if name.lower() not in taken)
    taken.add(name.lower())
    return name


def _strip(shown: list[torch.Tensor], luma_of_colour: bool) -> torch.Tensor:
    """Pictures side by side as float RGB, a small first one enlarged; a colour picture's luma as a viewer shows it."""
    enlarged = baseline(shown[0], shown[-1].shape[-1] // shown[0].shape[-1])
    shown = [images.to_float(t) for t in (enlarged, *shown[1:])]
    shown = [images.full_range(t) if len(t) == 1 and luma_of_colour else t for t in shown]
    return torch.cat([images.as_rgb(t) for t in shown], dim=-1)


def _scored(task: str, picture: torch.Tensor, model) -> Iterator[tuple[dict, list, str]]:
    """One method on one picture: a row, its panels and a label for them; of a codec, one for each of its settings."""
    if not task.startswith("codec"):
        yield *score(task, picture, model), ""
    else:
        picture = images.luma_uint8(picture) if task == "codec-gray" else picture
        for setting in model.settings:
            yield *score_codec(picture, setting, model), f"-{setting:g}"


def score(task: str, picture: torch.Tensor, model: Method) -> tuple[dict, list[torch.Tensor]]:
    """A row of the table for one method on one clean uint8 picture, and the panels input, restored, original.

    Raises ValueError for a picture that is smaller than what SSIM looks at.
    """
    scale = degradations.scale_of(task)
    border = scale if scale > 1 else 0
    if min(picture.shape[-2:]) < 11 + 3 * border:  # what SSIM's window wants of a cropped picture without its border
        raise CourseError(f"{picture.shape[-1]}x{picture.shape[-2]} pixels are too few to measure {task}.")
    work, given, clean = trial(task, picture, model)
    restored, seconds = timed(work)
    measured = (restored, clean) if task.startswith("jpeg-color") else map(images.luma_uint8, (restored, clean))
    pair = [images.shave(t, border).float() for t in measured]
    row = {"psnr": metrics.psnr(*pair, peak=255), "ssim": metrics.ssim(*pair, peak=255)}
    row |= {"seconds": seconds, "parameters": parameters(model)}
    if task.startswith("jpeg"):
        row["psnr_b"] = metrics.psnr_b(*pair, peak=255)
    if task.startswith("cs-"):
        row["ssim_uniform"] = metrics.ssim(*pair, peak=255, window="uniform")
        about = *clean.shape[-2:], degradations.ratio_of(task)
        counts = model.geometry(*about)[1] if model else degradations.measurement_counts(*about)
        row["measured"] = counts.sum().item() / clean.numel()
    return row, [given, restored, clean]


def trial(task: str, picture: torch.Tensor, model: Method) -> tuple[Callable, torch.Tensor, torch.Tensor]:
    """A method about to be tried on a clean uint8 picture: what makes the restored one, the input, and the clean one.

    The clean picture is cropped and reduced to luma as the task wants.
    """
    if task.startswith("cs-"):
        clean, ratio = images.luma_uint8(picture), degradations.ratio_of(task)
        recover = model.reconstruct if model else degradations.keep_low_frequencies
        return partial(recover, clean, ratio), degradations.keep_low_frequencies(clean, ratio), clean
    scale = degradations.scale_of(task)
    clean = images.crop_to_multiple(picture, scale)
    if not task.startswith("jpeg-color") and (scale == 1 or model is None or model.channels == 1):
        clean = images.luma_uint8(clean)
    given = degradations.for_task(task)(clean)
    work = partial(model.restore, given) if model else partial(baseline, given, scale)
    return work, given, clean


def unrounded_psnr(task: str, picture: torch.Tensor, model: Method) -> float:
    """The PSNR of super-resolution on one clean uint8 picture by BasicSR's protocol, which reads a gray one as RGB."""
    scale = degradations.scale_of(task)
    clean = images.crop_to_multiple(picture, scale)
    given = degradations.for_task(task)(clean)
    restored = model.restore(given) if model else baseline(given, scale)
    pair = (images.shave(images.luma(images.as_rgb(images.to_float(t))), scale) for t in (restored, clean))
    return metrics.psnr(*pair)


def baseline(given: torch.Tensor, scale: int) -> torch.Tensor:
    """What costs nothing: bicubic interpolation, or the degraded picture itself."""
    return images.to_uint8(degradations.upscale(images.to_float(given), scale)) if scale > 1 else given


def score_codec(picture: torch.Tensor, setting: float, coder: Coder) -> tuple[dict, list]:
    """A row of the table for one codec and setting on one clean uint8 picture, and the panels decoded, original.

    Raises ValueError for a picture that is too small for MS-SSIM.
    """

    def there_and_back() -> tuple[bytes, torch.Tensor]:
        data = coder.encode(picture, setting)
        return data, coder.decode(data)[: len(picture)]  # a gray picture comes back from some with R = G = B

    (data, decoded), seconds = timed(there_and_back)
    pair = decoded.float(), picture.float()
    row = {"psnr": metrics.psnr(*pair, peak=255), "ms_ssim": metrics.ms_ssim(*pair, peak=255)}
    row |= {"seconds": seconds, "parameters": coder.parameters, "setting": setting}
    header = baselines.header_bytes(data)
    row |= {"bpp": metrics.bits_per_pixel(data, picture), "header_bpp": metrics.bits_per_pixel(header, picture)}
    return row, [decoded, picture]


def timed(function: Callable) -> tuple:
    """What a function returns, and the seconds that it takes."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def parameters(model) -> int:
    """The number of a network's parameters; what is no network has none."""
    model = getattr(model, "function", model)
    return sum(p.numel() for p in model.parameters()) if isinstance(model, torch.nn.Module) else 0


def load_method(name: str, task: str, what: Any = None) -> Method | Coder:
    """What is measured under a name: what the name stands for, or a method of one's own. Raises CourseError."""
    known, parts = methods_for(task), re.fullmatch(r"(.+):(\w+)", str(name))
    if what is not None or parts:
        what = own.method(own.find(*parts.groups()) if what is None else what, task)
        return _own_coder(*what) if type(what) is tuple else what
    network = str(name).removesuffix("+")  # which stands for its ensemble
    if name not in known and not network.endswith(zoo.FILES) and not zoo.has(network):
        raise CourseError(f"{name!r} is no method for {task}; there are {', '.join(known)}, and file.py:function.")
    if task.startswith("codec"):
        return _coder(name)
    if name == known[0]:
        return None
    return baselines.find(name, task) if name in baselines.METHODS else zoo.load_for(name, task)


def _own_coder(encode: Callable, decode: Callable) -> Coder:
    """A pair of functions as a codec, watched."""
    size = []

    def file_of(picture: torch.Tensor, setting: float) -> bytes:
        size[:] = picture.shape
        data = own.watched(encode, picture, setting)
        if not isinstance(data, bytes):
            raise own.Fault(f"its encode() returned {type(data).__name__} where bytes are wanted.")
        return data

    return Coder(OWN_SETTINGS, file_of, lambda data: images.to_uint8(own.watched(decode, data, size=size)))


def _coder(name: str) -> Coder:
    """A codec by its name: a file format, measurements, a network. Raises CourseError."""
    if name in baselines.FILE_FORMATS:
        settings = baselines.FILE_FORMATS[name][-1]
        return Coder(settings, lambda x, setting: baselines.file_bytes(x, name, setting), degradations.decode)
    if name == MENDED:  # the same files, better pictures
        jpeg, restorer = _coder("jpeg"), zoo.load(MENDED.partition("+")[2])
        return jpeg._replace(decode=lambda data: restorer.restore(jpeg.decode(data)), parameters=parameters(restorer))
    if name == SENSED:
        sense, size = partial(sensing.sense, bits=SENSED_BITS), parameters(sensing.load(sensing.DEFAULT))
        return Coder(SENSED_RATIOS, sense, lambda data: images.to_uint8(sensing.recover(data)), size)
    if zoo.card(name)["network"].get("kind") == "npeg":
        return baselines.PackedBits(name)
    compress, decode = partial(codec.compress, model=name), partial(codec.decompress_uint8, model=name)
    learned = codec.load(name)
    return Coder(learned.settings, lambda x, quality: compress(x, quality=quality), decode, learned.parameters)


def test_sets(task: str) -> tuple[str, ...]:
    """The standard test sets of a task."""
    return next(sets for family, sets in TEST_SETS.items() if task.startswith(family))
