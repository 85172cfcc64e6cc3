import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from builders import photograph
from PIL import Image
from scipy import ndimage

from helpers import CourseError, baselines, datasets, degradations, evaluation, images, metrics


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 33.66, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)])
def test_bicubic_on_set5_is_the_literatures(course_data, scale, psnr, ssim):
    table, failures = evaluation.evaluate(f"sr-x{scale}", datasets.folder("Set5"), ["bicubic"], "Set5", progress=False)
    assert not failures and len(table) == 5
    assert table["psnr"].mean() == pytest.approx(psnr, abs=0.05)
    assert table["ssim"].mean() == pytest.approx(ssim, abs=0.003)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_flat_pictures_stay_themselves_and_planes_inside(scale):
    flat, plane = torch.full((3, 24, 36), 0.25), torch.linspace(0, 1, 48).expand(1, 48, 48)
    back = [degradations.upscale(degradations.downscale(x, scale), scale) for x in (flat, plane)]
    assert torch.allclose(back[0], flat, atol=1e-6)
    assert torch.allclose(back[1][..., 16:-16], plane[..., 16:-16], atol=1e-5)  # no shift by half a pixel
    with pytest.raises(ValueError, match="36x25"):
        degradations.downscale(torch.zeros(1, 25, 36), scale)


@pytest.mark.parametrize("sigma", [0.5, 2.3])
def test_blur_is_scipys(sigma):
    x = photograph(40, 50).double()
    radius = int(np.ceil(3 * sigma))
    expected = [ndimage.gaussian_filter(c.numpy(), sigma, mode="nearest", radius=radius) for c in x]
    assert np.allclose(degradations.gaussian_blur(x, sigma).numpy(), expected, atol=1e-9)
    assert degradations.gaussian_blur(x, 0) is x


def test_noise_has_its_strength_and_its_seed():
    clean = torch.full((3, 100, 100), 0.5)
    noise = degradations.gaussian_noise(clean, 0.1, seed=3) - clean
    assert noise.std().item() == pytest.approx(0.1, rel=0.02) and abs(noise.mean().item()) < 0.002
    assert abs(torch.corrcoef(noise.flatten(1))[0, 1]) < 0.05  # channels differ
    assert torch.equal(degradations.gaussian_noise(clean, 0.1, seed=3) - clean, noise)
    assert not torch.equal(degradations.gaussian_noise(clean, 0.1, seed=4) - clean, noise)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels):
    x = images.to_uint8(photograph(33, 47, channels))
    buffer = io.BytesIO()
    subsampling = {"subsampling": 2} if channels == 3 else {}
    images.to_pillow(x).save(buffer, "JPEG", quality=10, **subsampling)
    expected, data = np.atleast_3d(np.asarray(Image.open(buffer))), degradations.jpeg_bytes(x, 10)
    assert np.array_equal(degradations.decode(data).movedim(0, -1), expected)
    assert len(data) < len(buffer.getvalue())  # optimised tables
    assert torch.equal(degradations.jpeg(images.to_float(x), 10), images.to_float(degradations.decode(data)))


@pytest.mark.parametrize("name", ["downscale", "upscale", "gaussian_blur", "jpeg"])
def test_a_batch_is_its_pictures(name):
    function, batch = getattr(degradations, name), torch.stack([photograph(seed=seed) for seed in range(3)])
    assert torch.allclose(function(batch, 2), torch.stack([function(x, 2) for x in batch]), atol=1e-6)


@pytest.mark.parametrize(
    ("task", "hint"),
    [("jpeg", "name its quality, such as jpeg-q10"), ("codec", "`compress`"), ("cs", "`sense`"), ("cs-10", "`sense`")]
    + [(f"jpeg-{end}", "unknown task") for end in ("q0", "q101", "color-q0", "qx", "q-5", "")]
    + [("sr-x5", r"sr-x5.*sr-x2, sr-x3, sr-x4, deblock-q20")],
)
def test_a_task_that_is_no_damage_is_refused(task, hint):
    with pytest.raises(CourseError, match=hint):
        degradations.for_task(task)


def test_a_network_for_any_quality_or_ratio_covers_each():
    covered = [("jpeg", "jpeg-q10"), ("jpeg", "jpeg-color-q35"), ("jpeg-q10", "jpeg-q10"), ("cs", "cs-04")]
    others = [("jpeg-q10", "jpeg-q20"), ("jpeg", "deblock-q20"), ("jpeg-q10", "jpeg"), ("cs", "codec")]
    assert all(degradations.covers(*two) for two in covered) and not any(degradations.covers(*two) for two in others)
    assert degradations.ratio_of("cs-04") == 0.04
    for task in ("cs", "cs-00", "cs-26", "cs-4", "sr-x2"):
        with pytest.raises(CourseError, match="measures no ratio"):
            degradations.ratio_of(task)


@pytest.mark.parametrize("channels", [1, 3])
def test_enlarge_is_pillows_lanczos_channel_by_channel(channels):
    x = images.to_uint8(photograph(20, 30, channels))
    expected = [Image.fromarray(c.numpy()).resize((60, 40), Image.Resampling.LANCZOS) for c in x]
    assert np.array_equal(degradations.enlarge(x).numpy(), np.stack(expected))


# -------------------------------------------------------------------------------------- JPEG as it is met with


SURE = {"shifted": 0, "twice": 0, "untouched": 0}


def coded(batch: torch.Tensor, quality: int = 30, **options) -> torch.Tensor:
    return degradations.RandomJPEG(quality, **options)(batch, np.random.default_rng(0))


def test_random_jpeg_is_jpeg_twice_is_worse_some_are_left_alone_and_gray_stays_gray():
    batch = torch.stack([images.to_uint8(photograph(24, 24, seed=i)) for i in range(100)])
    made, twice = coded(batch, **SURE), coded(batch, **SURE | {"twice": 1})
    for x, y in zip(batch[:16], made, strict=False):
        ways = (degradations.jpeg(images.to_float(x), 30, way) for way in ("4:2:0", "4:2:2", "4:4:4"))
        assert any(torch.equal(y, images.to_uint8(z)) for z in ways)
    assert (twice - batch.float()).square().mean() > (made - batch.float()).square().mean()
    assert 0.2 < (coded(batch, untouched=0.3) == batch).all(dim=(1, 2, 3)).float().mean() < 0.4
    gray = batch[:8, :1]
    expected = torch.stack([degradations.for_task("jpeg-q30")(x) for x in gray])
    assert torch.equal(coded(gray.expand(-1, 3, -1, -1), **SURE), expected.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("shifted", [0.0, 1.0])
def test_shifted_grids_lie_anywhere(shifted):
    """At a very low quality each 8×8 block is flat: where the steps are says where the grid is."""
    ramp = (torch.arange(64) * 3).to(torch.uint8).expand(64, 3, 64, 64)
    made = coded(ramp, 1, shifted=shifted, twice=0, untouched=0)
    grids = {int(x[0, 32].float().diff().abs().argmax()) % 8 for x in made}
    assert len(grids) >= 6 if shifted else len(grids) == 1


@pytest.mark.parametrize("quality", [0, 101])
def test_qualities_that_jpeg_does_not_have(quality):
    with pytest.raises(CourseError, match="1 to 100"):
        degradations.jpeg(photograph(), quality)


# ------------------------------------------------------------------------------- has it been a JPEG before?


@pytest.mark.parametrize(("quality", "scale", "top", "left"), [(50, 1, 0, 0), (40, 1.25, 3, 5), (25, 2, 3, 5)])
def test_jpeg_leaves_its_steps(quality, scale, top, left):
    """Luma steps of libjpeg at quality 50 are the standard table itself (ITU-T T.81, annex K.1); below it they grow."""
    table = {(0, 1): 11, (1, 0): 12, (1, 1): 12, (0, 2): 10, (2, 0): 14, (2, 2): 16}
    right = []
    for path in datasets.bundled():
        steps = degradations.jpeg_steps(degradations.jpeg(images.load(path)[:, :320, :320], quality)[:, top:, left:])
        right += [steps[at] == int(scale * step + 0.5) for at, step in table.items() if at in steps]
    assert len(right) > 30 and sum(right) > 0.9 * len(right)


@pytest.mark.parametrize("path", datasets.bundled(), ids=lambda path: path.stem)
def test_coarse_jpeg_is_noticed_and_none_or_a_fine_one_is_not(path):
    clean = images.load_uint8(path)
    assert degradations.without_jpeg_grid(clean)
    for quality in (5, 88, 95):
        poor = degradations.for_task(f"jpeg-color-q{quality}")(clean)
        assert degradations.without_jpeg_grid(poor) == (quality > 92), quality


@pytest.mark.parametrize("shape", [(1, 15, 200), (3, 16, 16), (1, 64, 64)])
def test_small_and_flat_pictures_do_not_tell(shape):
    assert degradations.jpeg_steps(torch.full(shape, 0.5)) == {}
    assert not degradations.without_jpeg_grid(torch.full(shape, 0.5))


def test_the_bundled_grass_was_a_jpeg_of_quality_90():
    """As data/README.md says."""
    grass = images.load_uint8(datasets.bundled("grass"))
    back = [degradations.decode(degradations.jpeg_bytes(grass, quality)).float() for quality in (89, 90, 91)]
    below, there, above = (metrics.psnr(picture, grass.float(), 255) for picture in back)
    assert max(below, above) < 46 and there > 51


# ------------------------------------------------------------------------------------------------- classical methods

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
    methods = ["dct-zonal", "sensed-tv"]
    table, failures = evaluation.evaluate("cs-10", [datasets.bundled("camera")], methods, progress=False)
    assert not failures and table["measured"].nunique() == 1 and table["psnr"][1] > table["psnr"][0] + 0.3


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
