"""Classical enhancement by scikit-image, to stand beside the networks: no training, but a strength tuned for each task.

Strengths were tuned on training pictures by `python docs/experiments.py classical`; the whole search is kept in
`data/experiments/classical.csv`, and the best setting of a task in it is the one that is used.
"""

import functools
import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from . import datasets, degradations, images

SEARCH = datasets.DATA / "experiments" / "classical.csv"
# Name: the function in scikit-image, options that stay, and the grid that was searched.
METHODS = {
    "total-variation": ("restoration.denoise_tv_chambolle", {}, {"weight": (0.005, 0.01, 0.02, 0.03, 0.05, 0.08)}),
    "non-local-means": (
        "restoration.denoise_nl_means",
        {"patch_size": 5, "patch_distance": 6, "fast_mode": True},
        {"h": (0.005, 0.01, 0.02, 0.03, 0.04, 0.06)},
    ),
    "wavelet": (
        "restoration.denoise_wavelet",
        {"wavelet": "sym4", "rescale_sigma": True},
        {"sigma": (0.0025, 0.005, 0.01, 0.02, 0.03, 0.04)},
    ),
    "bilateral": (
        "restoration.denoise_bilateral",
        {},
        {"sigma_color": (0.01, 0.02, 0.04, 0.06, 0.1), "sigma_spatial": (0.75, 1.5)},
    ),
    "unsharp": ("filters.unsharp_mask", {}, {"radius": (0.5, 1, 1.5, 2, 3), "amount": (0.1, 0.25, 0.5, 1, 1.5, 2, 3)}),
}


class ClassicalError(ValueError):
    """A method or a task without a tuned strength; one sentence that says what there is."""


class Classical(NamedTuple):
    """One method with its settings for one task; `restore`s as a network does."""

    name: str
    settings: dict
    scale: int = 1
    channels: int = 1

    def restore(self, image: torch.Tensor) -> torch.Tensor:
        """(C, H, W), uint8 or float in [0, 1], in the same type; enlarged by bicubic first where the task wants it."""
        images.check_values(image)
        given = images.to_float(image)
        if self.scale > 1:
            given = degradations.upscale(given, self.scale)
        planes = [enhance(plane, self.name, **self.settings) for plane in given]
        result = torch.stack(planes).clamp(0, 1)
        return images.to_uint8(result) if image.dtype == torch.uint8 else result


def enhance(plane: torch.Tensor, name: str, **settings: float) -> torch.Tensor:
    """One plane (H, W) in [0, 1] through a method of METHODS."""
    import skimage

    path, stays, _ = METHODS[name]
    module, function = path.split(".")
    call = getattr(getattr(skimage, module), function)
    enhanced = call(plane.numpy().astype(np.float64), **stays, **settings)
    return torch.from_numpy(np.asarray(enhanced, dtype=np.float32))


def find(name: str, task: str) -> Classical:
    """A method with the settings that were best for `task` on training pictures. Raises ClassicalError."""
    rows = _search()
    fit = rows[(rows["method"] == name) & (rows["task"] == task)]
    if fit.empty:
        known = ", ".join(sorted(set(rows["task"])))
        raise ClassicalError(f"{name!r} has no strength for {task}; it was tuned for {known}.")
    best = fit.loc[fit["psnr"].idxmax()]
    return Classical(name, json.loads(best["settings"]), degradations.scale_of(task))


def for_task(task: str) -> list[str]:
    """The methods that were tuned for a task."""
    rows = _search()
    return [name for name in METHODS if name in set(rows.loc[rows["task"] == task, "method"])]


@functools.cache
def _search() -> pd.DataFrame:
    columns = ["task", "method", "settings", "psnr"]
    return pd.read_csv(SEARCH) if SEARCH.is_file() else pd.DataFrame(columns=columns)
