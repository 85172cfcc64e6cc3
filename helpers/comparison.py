"""What a table of measured rows says: means, rate–distortion curves and BD-rates, paired differences with an interval.

A table has a row per task, dataset, picture and method, as `evaluation.evaluate` returns and `data/results` keeps it.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from . import metrics
from .service.errors import require
from .service.files import atomic

KEYS = ["task", "dataset", "image", "method"]  # of a row, in the columns of a table
# digits in summaries
SCORES = {"psnr": 2, "psnr_unrounded": 2, "ssim": 4, "ssim_uniform": 4, "measured": 4, "psnr_b": 2}
SHOWN_RATES = (0.15, 0.25, 0.5)  # bits per pixel
RATES = (0.15, 0.6)  # bits per pixel: the span over which codecs are compared


class Paired(NamedTuple):
    """How much one method is above another, picture by picture."""

    mean: float
    low: float  # the interval that holds the mean with a confidence of 95 %
    high: float
    wins: int  # pictures on which the first method scores higher
    pictures: int


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over pictures, a row per method, the best last; of codecs, `curves`."""
    if "setting" in table:
        return curves(table)
    columns = [*SCORES, "seconds", "parameters"]
    table = table.reindex(columns=[*KEYS, *columns])
    means = table.groupby(["task", "dataset", "method"], sort=False)[columns].mean()
    means = means.sort_values(["task", "dataset", "psnr"]).dropna(axis="columns", how="all")
    return means.astype({"parameters": int}).round(SCORES | {"seconds": 3})


def paired(table: pd.DataFrame, method: str, other: str, score: str = "psnr") -> Paired:
    """The mean difference of a score over the same pictures, and its interval by a bootstrap of 10,000 draws.

    BCa, Efron 1987. Raises ValueError where the methods share fewer than two pictures.
    """
    from scipy.stats import bootstrap

    scores = table.pivot_table(index=["dataset", "image"], columns="method", values=score)
    shared = scores.reindex(columns=[method, other])
    shared = shared[np.isfinite(shared).all(axis=1)]
    if len(shared) < 2:
        raise ValueError(f"{method!r} and {other!r} were not measured on two pictures or more that both share.")
    differences = (shared[method] - shared[other]).to_numpy()
    if np.ptp(differences) < 1e-12:  # nothing to draw from
        low = high = differences[0]
    else:
        found = bootstrap((differences,), np.mean, n_resamples=10_000, random_state=0)
        low, high = found.confidence_interval
    return Paired(differences.mean(), low, high, int((differences > 0).sum()), len(differences))


def joined(paths: Sequence[str | os.PathLike], score: str = "psnr") -> pd.DataFrame:
    """Tables of files as one. Raises CourseError.

    Methods of one name that are not the same are called "file:method": those with several scores of a picture, and a
    function of one's own (`mine.py:restore`) in several files. What is the same in several files counts once.
    """
    tables = []
    for path in paths:
        kinds = dict.fromkeys(KEYS, str) | {score: float}
        try:
            # the names may be any bytes, and t.zip a table
            table = pd.read_csv(path, dtype=kinds, encoding_errors="surrogateescape", compression=None)
        except ValueError:
            table = pd.DataFrame()
        sound = len(table) and kinds.keys() <= set(table)
        require(sound, f"{path}: not a table of {score} that `evaluate --out` wrote; give such files.")
        require("setting" not in table, f"{path}: codecs are compared by BD-rate, as `evaluate` prints it, not ranked.")
        tables.append(table.fillna(dict.fromkeys(KEYS, "")).assign(table=str(path)))
    every = pd.concat(tables)
    scores = every.drop_duplicates([*KEYS, score])
    several = every["method"].isin(scores[scores.duplicated(KEYS)]["method"])
    files = every.groupby(["task", "dataset", "method"])["table"].transform("nunique")
    several |= every["method"].str.contains(".py:", regex=False) & (files > 1)
    every["method"] = every["method"].mask(several, every["table"] + ":" + every["method"])
    return every.drop_duplicates([*KEYS, score])


def ranks(table: pd.DataFrame, score: str = "psnr") -> pd.DataFrame:
    """A row per method of each task and set, the best first: rank, mean, and how far it is from the first.

    Only pictures count that all methods have. A method has a rank of its own if it is behind the one that leads it by a
    two-sided permutation test of their paired differences, at 5 % for all pairs together (Bonferroni: the means choose
    which pairs are compared). With fewer than `least_pictures` all share a rank. Raises CourseError for fewer than two.
    """
    rows = []
    for (task, dataset), part in table.groupby(KEYS[:2], sort=False):
        scores = part.pivot_table(index="image", columns="method", values=score, dropna=False)
        shared = scores[np.isfinite(scores).all(axis=1)]
        part = part[part["image"].isin(shared.index)]
        means = shared.mean().sort_values(ascending=False)
        said = f"the methods share {len(shared)} pictures with a {score} that is a number; at least two are needed"
        require(len(shared) > 1, f"{task}, {dataset}: {said}.")
        first = lead = means.index[0]
        pairs, rank = math.comb(len(means), 2), 1
        for place, (method, mean) in enumerate(means.items(), start=1):
            if _chance(shared[lead] - shared[method], pairs) * pairs < 0.05:
                lead, rank = method, place
            gap = paired(part, method, first, score) if method != first else Paired(0.0, 0.0, 0.0, 0, len(shared))
            rows.append((task, dataset, rank, method, mean, *gap))
    columns = ["task", "dataset", "rank", "method", score, "to the first", *Paired._fields[1:]]
    return pd.DataFrame(rows, columns=columns).set_index(["task", "dataset", "rank"]).round(SCORES[score] + 1)


def least_pictures(methods: int) -> int:
    """How many pictures `ranks` needs to tell methods apart: its test of n pictures gives at least 2 / 2ⁿ."""
    return 1 + int(np.log2(2 * max(1, math.comb(methods, 2)) / 0.05))


def _chance(differences: pd.Series, pairs: int = 1) -> float:
    """The chance of a mean at least as far from 0 if each difference had a random sign: exact for up to 13 pictures.

    Of more pictures signs are drawn, so often that the smallest chance is far below 5 % of one of so many `pairs`.
    """
    from scipy.stats import permutation_test

    if not differences.abs().max():
        return 1.0
    how = {"permutation_type": "samples", "n_resamples": max(9999, 200 * pairs), "random_state": 0}
    return permutation_test((differences.to_numpy(),), np.mean, **how).pvalue


def draw_ranks(ranked: pd.DataFrame, path: str | os.PathLike) -> None:
    """One figure of `ranks`: for each task and set, how far each method is from the first, with its interval."""
    from matplotlib.figure import Figure

    parts = [*ranked.groupby(level=["task", "dataset"], sort=False)]
    figure = Figure(figsize=(7, 1 + 0.35 * len(ranked) + 0.6 * len(parts)), layout="constrained")
    sizes = [len(part) + 1 for _, part in parts]
    places = figure.subplots(len(parts), squeeze=False, gridspec_kw={"height_ratios": sizes})[:, 0]
    for place, ((task, dataset), part) in zip(places, parts, strict=True):
        part = part.reset_index()
        gaps, names = part["to the first"], part["rank"].astype(str) + ". " + part["method"]
        reach = gaps - part["low"], part["high"] - gaps
        place.errorbar(gaps, range(len(part)), xerr=reach, fmt="o", color="#0072b2", capsize=3)
        place.axvline(0, color="0.7", zorder=0)
        place.set_yticks(range(len(part)), names)
        place.set_title(f"{task}, {dataset}, {part['pictures'][0]} pictures")
        place.invert_yaxis()
    places[-1].set_xlabel(f"{ranked.columns[1]} minus that of the first, mean and 95 % interval")
    with atomic(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:], dpi=100)


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """A row per codec: dB at some rates, and BD-rates in percent against JPEG, with file headers and without.

    A point of a curve is the mean of bits and decibels over all pictures at one setting.
    """
    keys, rows = ["task", "dataset", "method"], []
    for names, part in table.groupby(keys, sort=False):
        row = dict(zip(keys, names, strict=True))
        row |= {f"psnr at {rate}": metrics.at_rate(curve(part), rate) for rate in SHOWN_RATES}
        jpeg = table[(table[keys] == [*names[:2], "jpeg"]).all(axis=1)]
        if len(jpeg):
            pair = part, jpeg
            row["BD-rate %"] = metrics.bd_rate(*map(curve, pair), *RATES)
            if part["header_bpp"].any():
                row["without headers"] = metrics.bd_rate(*(curve(t, payload=True) for t in pair), *RATES)
            row["BD-rate % of MS-SSIM"] = metrics.bd_rate(*(curve(t, "ms_ssim") for t in pair), *RATES)
            row["BD-PSNR"] = metrics.bd_psnr(*map(curve, pair), *RATES)
        rows.append(row | {"seconds": part["seconds"].mean(), "parameters": part["parameters"].iloc[0]})
    return pd.DataFrame(rows).set_index(keys).round(2)


def curve(table: pd.DataFrame, score: str = "psnr", payload: bool = False) -> list[tuple[float, float]]:
    """The (bits per pixel, dB) points of one codec's rows, means over pictures; MS-SSIM in dB, −10·log₁₀(1 − MS-SSIM).

    `payload`: without the headers of the files. Points that take more bits for no more dB are left out.
    """
    rates = table["bpp"] - table["header_bpp"] * payload
    with np.errstate(divide="ignore"):
        scores = table[score] if score == "psnr" else -10 * np.log10(1 - table[score])
    points = pd.DataFrame({"rate": rates, "score": scores}).groupby(table["setting"]).mean()
    points = points.sort_values(["rate", "score"], ascending=[True, False])  # of equal rates the best alone rises
    rises = points["score"] > points["score"].cummax().shift(fill_value=-np.inf)
    rises &= np.isfinite(points["score"])  # a lossless file has no place on a curve
    return list(points[rises].itertuples(index=False, name=None))


def bd_rates(table: pd.DataFrame, method: str, anchor: str = "jpeg") -> pd.Series:
    """The BD-rate in percent against `anchor` of each picture by itself; NaN where their qualities do not meet."""
    found = {}
    for image, part in table.groupby("image", sort=False):
        pair = (curve(part[part["method"] == name]) for name in (method, anchor))
        found[image] = metrics.bd_rate(*pair, *RATES)
    return pd.Series(found, name=method)
