import io

import numpy as np
import pytest
import torch
from builders import photograph
from PIL import Image
from scipy import ndimage

from helpers import CourseError, datasets, degradations, evaluation, images, metrics


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 33.66, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)])
def test_bicubic_on_set5_is_the_literatures(course_data, scale, psnr, ssim):
    table, failures = evaluation.evaluate(f"sr-x{scale}", datasets.folder("Set5"), ["bicubic"], "Set5", progress=False)
    assert not failures and len(table) == 5
    assert table["psnr"].mean() == pytest.approx(psnr, abs=0.05)
    assert table["ssim"].mean() == pytest.approx(ssim, abs=0.003)


def test_bicubic_weights_are_matlabs():
    """Halving with anti-aliasing stretches Keys' kernel by two: an impulse shows its eight taps."""

    def keys(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    line = torch.zeros(1, 8, 32)
    line[..., 16] = 1
    expected = [keys((16 - (2 * i + 0.5)) / 2) / 2 for i in range(16)]
    assert np.allclose(degradations.downscale(line, 2)[0, 2].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_flat_pictures_stay_themselves_and_planes_inside(scale):
    flat = torch.full((3, 24, 36), 0.25)
    small = degradations.downscale(flat, scale)
    assert small.shape == (3, 24 // scale, 36 // scale) and torch.allclose(small, torch.tensor(0.25), atol=1e-6)
    assert torch.allclose(degradations.upscale(small, scale), flat, atol=1e-6)
    assert torch.allclose(degradations.gaussian_blur(flat, 2.0), flat, atol=1e-6)
    plane = torch.linspace(0, 1, 48).expand(1, 48, 48)
    back = degradations.upscale(degradations.downscale(plane, scale), scale)
    assert torch.allclose(back[..., 16:-16], plane[..., 16:-16], atol=1e-5)  # no shift by half a pixel
    with pytest.raises(ValueError, match="36x25"):
        degradations.downscale(torch.zeros(1, 25, 36), scale)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
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
def test_jpeg_is_pillows(channels, quality=10):
    x = photograph(33, 47, channels)
    array = np.round(x.movedim(0, -1).double().numpy() * 255).astype(np.uint8).squeeze()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, **({"subsampling": 2} if channels == 3 else {}))
    expected, got = np.asarray(Image.open(buffer)) / 255, degradations.jpeg(x, quality)
    assert got.shape == x.shape and np.allclose(got.movedim(0, -1).numpy().squeeze(), expected, atol=1e-6)
    data = degradations.jpeg_bytes(x, quality)
    assert len(data) <= len(buffer.getvalue())  # optimised tables
    assert torch.equal(images.to_float(degradations.decode(data)), got)


FUNCTIONS = {
    "downscale": lambda x: degradations.downscale(x, 2),
    "upscale": lambda x: degradations.upscale(x, 3),
    "blur": lambda x: degradations.gaussian_blur(x, 1.2),
    "jpeg": lambda x: degradations.jpeg(x, 30),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_batch_is_its_pictures(function):
    batch = torch.stack([photograph(seed=seed) for seed in range(3)])
    assert torch.allclose(function(batch), torch.stack([function(x) for x in batch]), atol=1e-6)


@pytest.mark.parametrize("task", ["sr-x2", "sr-x3", "sr-x4", "deblock-q20", "jpeg-q1", "jpeg-q100", "jpeg-color-q37"])
def test_tasks_degrade_8_bits_to_8_bits(task):
    clean, scale = images.to_uint8(photograph(24, 36)), degradations.scale_of(task)
    poor, (kind, number) = degradations.for_task(task)(clean), task.replace("color-", "").split("-")
    if kind == "sr":
        expected = images.to_uint8(degradations.downscale(clean / 255, int(number[1:])))
    else:
        expected = images.to_uint8(degradations.jpeg(clean / 255, int(number[1:])))
    assert poor.dtype == torch.uint8 and poor.shape == (3, 24 // scale, 36 // scale) and torch.equal(poor, expected)


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
        with pytest.raises(CourseError):
            degradations.ratio_of(task)


@pytest.mark.parametrize("channels", [1, 3])
def test_enlarge_is_pillows_lanczos_channel_by_channel(channels):
    x = images.to_uint8(photograph(20, 30, channels))
    expected = [Image.fromarray(c.numpy()).resize((60, 40), Image.Resampling.LANCZOS) for c in x]
    assert np.array_equal(degradations.enlarge(x).numpy(), np.stack(expected))


# -------------------------------------------------------------------------------------- JPEG as it is met with


def batch_of(count: int = 64, side: int = 40) -> torch.Tensor:
    return torch.stack([images.to_uint8(photograph(side, side, seed=i)) for i in range(count)])


def coded(batch: torch.Tensor, seed: int = 0, **options) -> torch.Tensor:
    return degradations.RandomJPEG(**options)(batch, np.random.default_rng(seed))


def test_random_jpeg_without_chance_is_jpeg_twice_is_worse_some_are_left_alone_and_gray_stays_gray():
    batch, sure = batch_of(32), {"shifted": 0, "twice": 0, "untouched": 0}
    made = coded(batch, quality=30, **sure)
    choices = [[images.to_uint8(degradations.jpeg(images.to_float(x), 30, s)) for s in ("4:2:0", "4:2:2", "4:4:4")]
               for x in batch]  # fmt: skip
    assert all(any(torch.equal(y, c) for c in three) for y, three in zip(made, choices, strict=True))
    twice = coded(batch, quality=30, **sure | {"twice": 1})
    assert (twice - batch.float()).square().mean() > (made - batch.float()).square().mean()
    batch = batch_of(200, 16)
    assert 0.2 < (coded(batch, untouched=0.3) == batch).all(dim=(1, 2, 3)).float().mean() < 0.4
    gray = batch[:8, :1].expand(-1, 3, -1, -1)
    made = coded(gray, quality=10)
    assert torch.equal(made, made[:, :1].expand(-1, 3, -1, -1))
    alone = coded(gray, quality=10, **sure)
    assert torch.equal(alone[0, :1], degradations.for_task("jpeg-q10")(gray[0, :1]))


@pytest.mark.parametrize("shifted", [0.0, 1.0])
def test_shifted_grids_lie_anywhere(shifted):
    """At a very low quality each 8×8 block is flat: where the steps are says where the grid is."""
    ramp = (torch.arange(64) * 3).to(torch.uint8).expand(64, 3, 64, 64)
    made = coded(ramp, quality=1, shifted=shifted, twice=0, untouched=0)
    grids = {int(x[0, 32].float().diff().abs().argmax()) % 8 for x in made}
    assert len(grids) >= 6 if shifted else len(grids) == 1


@pytest.mark.parametrize("quality", [0, 101])
def test_qualities_that_jpeg_does_not_have(quality):
    with pytest.raises(CourseError, match="1 to 100"):
        degradations.jpeg(photograph(), quality)


# ------------------------------------------------------------------------------- has it been a JPEG before?


@pytest.mark.parametrize(("quality", "scale"), [(50, 1), (40, 1.25), (25, 2)])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5)])
def test_jpeg_leaves_its_steps(top, left, quality, scale):
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
    for quality in (5, 40, 88, 95, 100):
        poor = degradations.for_task(f"jpeg-color-q{quality}")(clean)
        assert degradations.without_jpeg_grid(poor) == (quality > 92), quality


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 8, 8), (1, 15, 200), (3, 16, 16), (1, 64, 64)])
def test_small_and_flat_pictures_do_not_tell(shape):
    assert degradations.jpeg_steps(torch.full(shape, 0.5)) == {}
    assert not degradations.without_jpeg_grid(torch.full(shape, 0.5))


def test_the_bundled_grass_was_a_jpeg_of_quality_90():
    """As data/README.md says."""
    grass = images.load_uint8(datasets.bundled("grass"))
    back = [degradations.decode(degradations.jpeg_bytes(grass, quality)).float() for quality in (89, 90, 91)]
    below, there, above = (metrics.psnr(picture, grass.float(), 255) for picture in back)
    assert max(below, above) < 46 and there > 51
