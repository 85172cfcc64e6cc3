import json

import pandas as pd
import pytest
import torch
from builders import photograph

from helpers import CourseError, baselines, degradations, images, metrics

SETTINGS = {
    "unsharp": {"radius": 1, "amount": 0.5}, "total-variation": {"weight": 0.05}, "wavelet": {"sigma": 0.05},
    "non-local-means": {"h": 0.05}, "bilateral": {"sigma_color": 0.1, "sigma_spatial": 1.5},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_denoisers_remove_noise_and_the_mask_sharpens(name):
    clean = images.luma(photograph(64, 80))
    poor = degradations.gaussian_blur(clean, 0.7) if name == "unsharp" else degradations.gaussian_noise(clean, 0.05)
    better = baselines.Classical(name, SETTINGS[name]).restore(poor)
    assert better.shape == clean.shape and better.dtype == torch.float32
    assert metrics.psnr(better, clean) > metrics.psnr(poor, clean)


def test_total_variation_gives_back_more_of_sensed_edges_than_their_low_frequencies_and_agrees_with_these():
    picture = images.to_uint8(photograph(70, 75, 1))
    method, low = baselines.find("sensed-tv", "cs-10"), degradations.keep_low_frequencies(picture, 0.1)
    back = method.reconstruct(picture, 0.1)
    assert back.shape == picture.shape and back.dtype == torch.uint8
    assert metrics.psnr(back.float(), picture.float(), 255) > metrics.psnr(low.float(), picture.float(), 255) + 0.1
    agrees = degradations.keep_low_frequencies(back, 0.1)
    assert metrics.psnr(agrees.float(), low.float(), 255) > 50


def test_each_tuned_setting_is_the_best_of_its_search():
    table = pd.read_csv(baselines.SEARCH)
    for (task, name), rows in table.groupby(["task", "method"]):
        found = baselines.find(name, task)
        chosen = rows[rows["settings"] == json.dumps(found.settings)]["psnr"].item()
        assert chosen == rows["psnr"].max() and len(rows) > 5
    assert {"sr-x3", "deblock-q20", "jpeg-q10"} <= set(table["task"])


def test_a_task_without_a_strength_is_an_error():
    with pytest.raises(CourseError, match="'wavelet' has no strength for jpeg-color-q10.*jpeg-q10"):
        baselines.find("wavelet", "jpeg-color-q10")
    assert baselines.for_task("jpeg-color-q10") == ["total-variation", "non-local-means", "shifted-jpegs"]
    assert baselines.for_task("codec") == []
