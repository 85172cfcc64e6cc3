"""Which protocol gave a published baseline? Bicubic, or the JPEG itself, is measured in all usual ways and compared.

A paper's row without a network depends on its protocol alone: how pictures were reduced or coded, what was rounded,
which luma, border, pictures, mean and peak. `detect` measures all of them. `convert` brings a second number of the same
paper to the course's protocol: it measures networks of the course in both ways.
"""

import io
import itertools
from collections.abc import Callable, Container, Iterator
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from . import degradations, images, metrics, zoo
from .service.errors import CourseError, require

# The first number of an option says how rare it is, in nats. It is a guess, and decides only where the figures cannot.
LUMAS = {"Y 16-235": 0, "RGB": 1, "Y 0-255": 1.5, "mean of RGB": 3}
DEPTHS = {  # then: whether Y is taken first; and what is in 8 bits: the small picture, the result, Y of the result
    "Y in 8 bits": (0, True, True, True, False),
    "Y in 8 bits, small picture not": (0.5, True, False, True, False),  # MATLAB code that resizes doubles
    "RGB in 8 bits, Y not": (0.5, False, True, True, False),  # BasicSR and its descendants
    "RGB in 8 bits, then Y": (1, False, True, True, True),
    "nothing in 8 bits": (1.5, False, False, False, False),
}
PICTURES = {"all": 0, "all, gray ones as RGB": 0.5, "colour ones": 1.5}
MEANS = {"of PSNRs": 0, "of errors": 2}
PEAKS = {  # then: the decibels that it adds
    "right": (0, 0),
    "1 on [-1, 1]": (5, -20 * np.log10(2)),
    "2 on [0, 1]": (5, 20 * np.log10(2)),
    "255 on [0, 1]": (5, 20 * np.log10(255)),
    "1 on [0, 255]": (6, -20 * np.log10(255)),
}
SPREAD, SSIM_SPREAD = 0.01, 0.001  # by which another library, or the last printed digit, moves a PSNR or an SSIM
SURE = 2  # nats between the first candidate and the next, from which on the first is told as found


class Protocol(NamedTuple):
    """One way to measure: keys of the tables above, and the pixels that are left out at the border."""

    made: str
    luma: str
    depth: str
    border: int
    pictures: str = "all"
    mean: str = "of PSNRs"
    peak: str = "right"


class Claim(NamedTuple):
    """What somebody prints for the baseline on a set of pictures; a Decimal stands for all that is rounded to it."""

    dataset: str
    files: list[Path]
    psnr: float | Decimal
    ssim: float | Decimal | None = None


def course_protocol(task: str) -> Protocol:
    """How `evaluation` measures a task."""
    rest = ("RGB", "RGB in 8 bits, Y not") if "color" in task else ("Y 16-235", "Y in 8 bits")
    return Protocol(next(iter(_ways(task))), *rest, _borders(task)[0])


# ------------------------------------------------------------------------------------------- measuring


@cache
def _ways(task: str) -> dict[str, tuple[float, Callable, Callable]]:
    """How a baseline is made: rarity, what makes the small or coded picture of (1, C, H, W), what enlarges that."""
    scale = degradations.scale_of(task)
    if "-q" in task:
        quality = int(task.split("-q")[1])
        coders = {name: partial(degradations.jpeg, quality=quality, subsampling=name) for name in ("4:2:0", "4:4:4")}
        coders["4:2:0, chroma repeated"] = partial(_jpeg_of_repeated_chroma, quality=quality)
        return {f"JPEG {name}": (rarity, code, torch.clone) for rarity, (name, code) in enumerate(coders.items())}
    require(scale > 1, f"{task} has no baseline that could tell; ask about sr-x2 to sr-x4, jpeg-q10, … instead.")
    smooth, enlarge = (partial(function, scale=scale) for function in (degradations.downscale, degradations.upscale))
    sharp, enlarge_sharp = (partial(F.interpolate, scale_factor=s, mode="bicubic") for s in (1 / scale, scale))
    return {  # MATLAB and Pillow blend over all pixels that become one, with Keys's a = -0.5; the others have a = -0.75
        "MATLAB, Pillow": (0, smooth, enlarge),
        "OpenCV, torch": (1, sharp, enlarge_sharp),
        "MATLAB down, OpenCV up": (2, smooth, enlarge_sharp),
        "OpenCV down, MATLAB up": (3, sharp, enlarge),
        "area down, OpenCV up": (3, partial(F.avg_pool2d, kernel_size=scale), enlarge_sharp),
    }


def _jpeg_of_repeated_chroma(x: torch.Tensor, quality: int) -> torch.Tensor:
    """JPEG 4:2:0 by a decoder that repeats each number of chroma, where libjpeg blends them."""
    if x.shape[1] == 1:
        return degradations.jpeg(x, quality)
    tables = Image.open(io.BytesIO(degradations.jpeg_bytes(torch.zeros(3, 8, 8), quality))).quantization
    height, width = x.shape[-2:]
    y, *chroma = images.rgb_to_ycbcr(x[0], studio=False).split(1)

    def code(plane: torch.Tensor, table: list[int]) -> torch.Tensor:
        images.to_pillow(plane.clamp(0, 1)).save(buffer := io.BytesIO(), "JPEG", qtables=[table])
        return images.to_float(degradations.decode(buffer.getvalue()))

    half = [F.avg_pool2d(F.pad(c, (0, width % 2, 0, height % 2), mode="replicate"), 2) for c in chroma]
    again = [code(c, tables[1]).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width] for c in half]
    return images.quantize(images.ycbcr_to_rgb(torch.cat([code(y, tables[0]), *again]), studio=False))[None]


def _borders(task: str) -> tuple[int, ...]:
    """The usual border first."""
    scale = degradations.scale_of(task)
    return (scale, 0, scale + 6) if scale > 1 else (0, 8)


def _luma(x: torch.Tensor, name: str) -> torch.Tensor:
    if name == "RGB" or x.shape[1] == 1:
        return x
    return x.mean(1, keepdim=True) if name == "mean of RGB" else images.rgb_to_ycbcr(x, name == "Y 16-235")[:, :1]


def pairs(picture: torch.Tensor, task: str, wanted: Container | None, restore: Callable | None = None) -> Iterator:
    """Yields (made, luma, depth), result, original, float in [0, 1], for each way to measure one uint8 picture.

    `wanted`: such keys, to have these alone. `restore`: a network instead of bicubic, or after the JPEG.
    """
    scale, usual = degradations.scale_of(task), next(iter(_ways(task)))
    whole = images.to_float(images.crop_to_multiple(picture, scale))[None]

    @cache
    def original(source: str) -> torch.Tensor:
        return whole if source == "RGB" else images.quantize(_luma(whole, source))

    @cache
    def result(made: str, source: str, small_8: bool) -> torch.Tensor:
        _, spoil, enlarge = _ways(task)[made]
        small = spoil(original(source))
        return (restore or enlarge)(images.quantize(small) if small_8 else small).clamp(0, 1)

    for made, luma, depth in itertools.product(_ways(task), LUMAS, DEPTHS):
        _, first, small_8, result_8, last_8 = DEPTHS[depth]
        twice = (luma == "RGB" and (first or last_8)) or (scale == 1 and (not small_8 or (first and made != usual)))
        if twice or (wanted is not None and (made, luma, depth) not in wanted):
            continue  # RGB is no Y; the JPEG of a Y has no chroma and is in 8 bits
        source = luma if first else "RGB"
        x, y = result(made, source, small_8), original(source)
        x = images.quantize(x) if result_8 else x
        x, y = (x, y) if first else (_luma(x, luma), _luma(y, luma))
        yield (made, luma, depth), *((images.quantize(x)[0], images.quantize(y)[0]) if last_8 else (x[0], y[0]))


def errors(
    files: list[Path], task: str, wanted: Container | None = None, restore: Callable | None = None, measure=F.mse_loss
) -> pd.DataFrame:
    """Mean squared errors, or another measure: a row per (made, luma, depth, border), a column per (picture, gray).

    `wanted`: of these rows alone. `restore`: of a network instead of bicubic, or after the JPEG. Raises CourseError.
    """
    columns = {}
    for path in tqdm(files, unit="picture", leave=False, disable=None):  # in a terminal alone
        picture = images.load_uint8(path)
        if min(picture.shape[-2:]) < 2 * _borders(task)[-1] + 11:  # the largest border, and a window of SSIM
            raise CourseError(f"{path}: {picture.shape[-1]}x{picture.shape[-2]} pixels are too few to tell protocols.")
        found = columns[path.name, len(picture) == 1] = {}
        for key, *pair in pairs(picture, task, wanted and {key[:3] for key in wanted}, restore):
            for row in ((*key, border) for border in _borders(task)):
                if wanted is None or row in wanted:
                    found[row] = float(measure(*(images.shave(t, row[-1]) for t in pair)))
    return pd.DataFrame(columns)


def decibels(mse: pd.DataFrame, pictures: str = "all", mean: str = "of PSNRs", peak: str = "right") -> pd.Series:
    """The PSNR of a set from its `errors`, a row per (made, luma, depth, border); NaN where no picture is left."""
    gray = mse.columns.get_level_values(1)
    if pictures == "colour ones":
        mse = mse.loc[:, ~gray]
    elif pictures != "all":  # the Y of R = G = B goes from 16 to 235, too
        studio = mse.index.get_level_values(1) == "Y 16-235"
        mse = mse * np.where(np.outer(studio, gray), (219 / 255) ** 2, 1)
    with np.errstate(divide="ignore"):
        psnr = -10 * np.log10(mse).mean(axis=1) if mean == "of PSNRs" else -10 * np.log10(mse.mean(axis=1))
    return psnr + PEAKS[peak][1]


# ------------------------------------------------------------------------------------------- answering


def detect(task: str, claims: list[Claim]) -> pd.DataFrame:
    """The protocols, the likeliest first: a column for each field, the PSNR on each set, `distance` and `misfit`.

    `distance` is the mean difference in dB, beyond what the digits of a claim leave open. `misfit` adds up, in nats,
    half the squared differences in units of SPREAD, and how rare the options are. Of those that give the same numbers
    on these pictures, the least rare remains. Where an SSIM is claimed, that of the best four is measured by both
    windows. Raises CourseError.
    """
    tables = {claim.dataset: errors(claim.files, task) for claim in claims}
    found = []
    for rest in itertools.product(PICTURES, MEANS, PEAKS):
        rows = pd.DataFrame({name: decibels(mse, *rest) for name, mse in tables.items()})
        rows = rows.rename_axis(Protocol._fields[:4]).reset_index()
        found.append(rows.assign(**dict(zip(Protocol._fields[4:], rest, strict=True))))
    found = pd.concat(found, ignore_index=True).dropna()
    gaps = pd.DataFrame({claim.dataset: _gap(found[claim.dataset], claim.psnr) for claim in claims})
    found["distance"] = gaps.mean(axis=1)
    rarity = [_rarity(task, Protocol(*row)) for row in found[list(Protocol._fields)].itertuples(index=False)]
    found["misfit"] = ((gaps / SPREAD) ** 2).sum(axis=1) / 2 + rarity
    found = found.sort_values("misfit", ignore_index=True)
    found = found[~found[list(tables)].round(6).duplicated()]
    return _with_ssim(task, claims, found) if any(claim.ssim for claim in claims) else found


def _gap(measured: pd.Series, claimed: float | Decimal) -> pd.Series:
    """How far measured numbers are from a claimed one, beyond half of its last digit."""
    half = Decimal(5).scaleb(claimed.as_tuple().exponent - 1) if isinstance(claimed, Decimal) else 0
    return ((measured - float(claimed)).abs() - float(half)).clip(lower=0)


def _rarity(task: str, how: Protocol) -> float:
    rarity = _ways(task)[how.made][0] + DEPTHS[how.depth][0] + _borders(task).index(how.border)
    rarity += 1.5 * (how.luma != "RGB") - 0.5 if "color" in task else LUMAS[how.luma]
    return rarity + PICTURES[how.pictures] + MEANS[how.mean] + PEAKS[how.peak][0]


def _with_ssim(task: str, claims: list[Claim], found: pd.DataFrame) -> pd.DataFrame:
    """The candidates of the best four ways to measure, once for each window of SSIM, its misfit added."""
    rows = pd.MultiIndex.from_frame(found[list(Protocol._fields[:4])])
    keys, parts = rows.unique()[:4], []
    for window in metrics.WINDOWS:
        part, gap = found[rows.isin(keys)].assign(window=window), 0
        for claim in (c for c in claims if c.ssim):
            measure = partial(metrics.ssim, window=window)
            ssim = errors(claim.files, task, list(keys), measure=measure).mean(axis=1)
            part[f"SSIM {claim.dataset}"] = ssim.loc[rows[rows.isin(keys)]].to_numpy()
            gap += (_gap(part[f"SSIM {claim.dataset}"], claim.ssim) / SSIM_SPREAD) ** 2 / 2
        # at most 8: other code for SSIM is no reason to doubt the PSNR
        misfit = part["misfit"] + np.minimum(gap, 8) + (window != "gaussian")
        parts.append(part.assign(misfit=misfit, **{"SSIM fits": gap < 8}))
    return pd.concat(parts).sort_values("misfit", ignore_index=True)


def likely(found: pd.DataFrame) -> pd.DataFrame:
    """The candidates of `detect` that cannot be told from the first."""
    return found[found["misfit"] < found["misfit"].iloc[0] + SURE]


def verdict(found: pd.DataFrame) -> str:
    """What the candidates of `detect` tell, in a sentence or two."""
    nearest, rivals = found["distance"].iloc[0], likely(found)
    if nearest > 5 * SPREAD:
        return f"None of these is it: the nearest is {nearest:.2f} dB away. Are the pictures the same?"
    if not found.get("SSIM fits", pd.Series([True])).any():
        return "None of these has such an SSIM: leave it out, or look for an error in it."
    if len(rivals) == 1:
        return f"The first fits, {nearest:.2f} dB away; the next fits clearly less well."
    fields = [name for name in (*Protocol._fields, "window") if name in found and rivals[name].nunique() > 1]
    more = "A second set, an SSIM or more digits may help."
    return f"The first {len(rivals)} cannot be told apart; they differ in: {', '.join(fields)}. {more}"


def convert(task: str, files: list[Path], also: float, theirs: Protocol) -> tuple[float, str]:
    """A method's PSNR by another protocol as it would be by the course's, and one line on what was measured for that.

    The baseline and up to three networks of the course are measured in both ways; between them it is interpolated.
    """
    ours = course_protocol(task)
    if theirs == ours:
        return also, "the same protocol"
    names, known = zoo.for_task(task), []
    for name in (None, *{names[0], names[len(names) // 2], names[-1]}):
        mse = errors(files, task, {theirs[:4], ours[:4]}, name and zoo.load_for(name, task).restore)
        there, here = (float(decibels(mse, *how[4:])[how[:4]]) for how in (theirs, ours))
        known.append((there, here, name or "the baseline"))
    known.sort()
    there, here, _ = zip(*known, strict=True)
    found = also + float(np.interp(also, there, np.subtract(here, there)))  # beyond them, as far off as the nearest
    beyond = "" if there[0] <= also <= there[-1] else "beyond all that was measured, so as far off as the nearest; "
    return found, beyond + ", ".join(f"{name} has {t:.2f} there and {h:.2f} here" for t, h, name in known)
