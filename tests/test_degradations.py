import io

import numpy as np
import pytest
import torch
from builders import photograph
from PIL import Image
from scipy import ndimage

from helpers import datasets, degradations, evaluation, images, metrics


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 33.66, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)])
def test_bicubic_on_set5_is_the_literatures(course_data, scale, psnr, ssim):
    table, failures = evaluation.evaluate(f"sr-x{scale}", datasets.folder("Set5"), ["bicubic"], "Set5", progress=False)
    assert not failures
    assert len(table) == 5
    assert table["psnr"].mean() == pytest.approx(psnr, abs=0.05)
    assert table["ssim"].mean() == pytest.approx(ssim, abs=0.003)


def test_bicubic_weights_are_matlabs():
    """Halving with anti-aliasing stretches Keys' kernel by two: an impulse shows its eight taps."""

    def keys(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    line = torch.zeros(1, 8, 32)
    line[..., 16] = 1
    got = degradations.downscale(line, 2)[0, 2]
    expected = [keys((16 - (2 * i + 0.5)) / 2) / 2 for i in range(16)]
    assert np.allclose(got.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_constant_picture_stays_itself(scale, value):
    flat = torch.full((3, 24, 36), value)
    small = degradations.downscale(flat, scale)
    assert small.shape == (3, 24 // scale, 36 // scale)
    assert torch.allclose(small, torch.tensor(value), atol=1e-6)
    assert torch.allclose(degradations.upscale(small, scale), flat, atol=1e-6)
    assert torch.allclose(degradations.gaussian_blur(flat, 2.0), flat, atol=1e-6)


def test_a_plane_survives_downscale_and_upscale_inside():
    plane = torch.linspace(0, 1, 48).expand(1, 48, 48)
    back = degradations.upscale(degradations.downscale(plane, 3), 3)
    assert torch.allclose(back[..., 12:-12], plane[..., 12:-12], atol=1e-5)  # no shift by half a pixel


def test_downscale_wants_a_multiple():
    with pytest.raises(ValueError, match="40x31"):
        degradations.downscale(torch.zeros(1, 31, 40), 2)


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
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)
    assert abs(noise.mean().item()) < 0.002
    assert abs(torch.corrcoef(noise.flatten(1))[0, 1]) < 0.05  # channels differ
    assert torch.equal(degradations.gaussian_noise(clean, 0.1, seed=3) - clean, noise)
    assert not torch.equal(degradations.gaussian_noise(clean, 0.1, seed=4) - clean, noise)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [10, 75])
def test_jpeg_is_pillows(channels, quality):
    x = photograph(33, 47, channels)
    array = np.round(x.movedim(0, -1).double().numpy() * 255).astype(np.uint8).squeeze()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, **({"subsampling": 2} if channels == 3 else {}))
    expected = np.asarray(Image.open(buffer)) / 255
    got = degradations.jpeg(x, quality)
    assert got.shape == x.shape
    assert np.allclose(got.movedim(0, -1).numpy().squeeze(), expected, atol=1e-6)
    assert len(degradations.jpeg_bytes(x, quality)) <= len(buffer.getvalue())  # optimised tables


def test_jpeg_worsens_with_its_quality():
    x = photograph(64, 64) + 0.05 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    scores = [metrics.psnr(degradations.jpeg(x, q), images.quantize(x)) for q in (5, 20, 60, 95)]
    assert scores == sorted(scores)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: degradations.downscale(x, 2),
        lambda x: degradations.upscale(x, 3),
        lambda x: degradations.gaussian_blur(x, 1.2),
        lambda x: degradations.jpeg(x, 30),
    ],
    ids=["downscale", "upscale", "blur", "jpeg"],
)
def test_a_batch_is_its_pictures(function):
    batch = torch.stack([photograph(seed=seed) for seed in range(3)])
    assert torch.allclose(function(batch), torch.stack([function(x) for x in batch]), atol=1e-6)


@pytest.mark.parametrize(("task", "shape"), [("sr-x2", (3, 12, 18)), ("sr-x3", (3, 8, 12)), ("sr-x4", (3, 6, 9)),
                                             ("deblock-q20", (3, 24, 36))])  # fmt: skip
def test_tasks_degrade_8_bits_to_8_bits(task, shape):
    clean = images.to_uint8(photograph(24, 36))
    poor = degradations.for_task(task)(clean)
    assert poor.dtype == torch.uint8
    assert poor.shape == shape
    if task.startswith("sr"):
        expected = images.to_uint8(degradations.downscale(clean / 255, degradations.TASKS[task]))
    else:
        expected = images.to_uint8(degradations.jpeg(clean / 255, 20))
    assert torch.equal(poor, expected)


def test_an_unknown_task_lists_the_known():
    for function in (degradations.for_task, degradations.scale_of):
        with pytest.raises(degradations.TaskError, match=r"sr-x5.*sr-x2, sr-x3, sr-x4, deblock-q20"):
            function("sr-x5")


def test_enlarge_is_pillows_lanczos():
    x = images.to_uint8(photograph(20, 30, 1))
    expected = Image.fromarray(x[0].numpy()).resize((60, 40), Image.Resampling.LANCZOS)
    assert np.array_equal(degradations.enlarge(x)[0].numpy(), np.asarray(expected))


def test_decode_reads_what_jpeg_bytes_wrote():
    x = photograph()
    assert torch.equal(images.to_float(degradations.decode(degradations.jpeg_bytes(x, 40))), degradations.jpeg(x, 40))
