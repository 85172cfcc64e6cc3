import math

import pytest
import torch
from builders import photograph
from skimage import metrics as reference
from torchmetrics.functional.image import structural_similarity_index_measure

from helpers import degradations, metrics


def pair(channels: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    clean = photograph(48, 55, channels, seed)
    return degradations.gaussian_noise(clean, 0.07, seed), clean


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_psnr_and_ssim_are_those_of_the_libraries(channels, peak):
    noisy, clean = (t * peak for t in pair(channels))
    arrays = [t.double().numpy() for t in (clean, noisy)]
    expected = reference.peak_signal_noise_ratio(*arrays, data_range=peak)
    assert metrics.psnr(noisy, clean, peak) == pytest.approx(expected, abs=1e-6)
    expected = reference.structural_similarity(*arrays, channel_axis=0, data_range=peak, win_size=7)
    assert metrics.ssim(noisy, clean, peak, window="uniform") == pytest.approx(expected, abs=1e-6)
    batch = (t[None].double() for t in (noisy, clean))
    _, full = structural_similarity_index_measure(*batch, data_range=peak, sigma=1.5, return_full_image=True)
    inside = full[..., 5:-5, 5:-5].mean().item()  # without the border, which torchmetrics mirrors
    assert metrics.ssim(noisy, clean, peak) == pytest.approx(inside, abs=1e-9)


def test_a_batch_has_the_mean_of_its_ssims_and_the_psnr_of_the_joint_error():
    pairs = [pair(seed=seed) for seed in range(3)]
    batch = [torch.stack(part) for part in zip(*pairs, strict=True)]
    expected = sum(metrics.ssim(*one) for one in pairs) / 3
    assert metrics.ssim(*batch) == pytest.approx(expected, abs=1e-9)
    mse = sum(10 ** (-metrics.psnr(*one) / 10) for one in pairs) / 3
    assert metrics.psnr(*batch) == pytest.approx(-10 * math.log10(mse), abs=1e-9)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.psnr_b, metrics.ms_ssim])
def test_another_scale_type_or_shape_is_refused_by_name(metric):
    clean = photograph(180, 180, 1)
    eight = (clean * 255).to(torch.uint8)
    for other, peak in ((clean * 255, 1), (eight, 1), (clean.numpy(), 1), (clean * 65535, 255)):
        for given in ((other, clean), (clean, other)):
            with pytest.raises(ValueError, match=rf"\[0, {peak}\]|a tensor"):
                metric(*given, peak=peak)
    with pytest.raises(ValueError, match=r"\(1, 180, 180\) and \(1, 179, 180\)"):
        metric(clean, clean[:, 1:])
    assert metric(eight, eight, peak=255) == pytest.approx(metric(clean, clean), abs=1e-6)
    assert metric(degradations.gaussian_noise(clean, 0.2), clean) < metric(clean, clean)  # beyond the range, a little


@pytest.mark.parametrize(("window", "side"), [("gaussian", 11), ("uniform", 7)])
def test_ssim_wants_its_window_and_is_one_for_equals(window, side):
    flat = torch.full((1, 20, 20), 0.5)  # where rounding would make 0 / 0
    for x in (flat, torch.zeros(1, 20, 20), photograph(side, side, 1)):
        assert metrics.ssim(x, x, window=window) == pytest.approx(1)
    small = photograph(side, side - 1, 1)
    with pytest.raises(ValueError, match="SSIM wants pictures of at least its window"):
        metrics.ssim(small, small, window=window)


def test_ms_ssim_falls_with_noise_and_forgives_it_when_fine():
    clean = photograph(176, 190, 1)
    noisy = [degradations.gaussian_noise(clean, sigma) for sigma in (0.02, 0.1)]
    scores = [metrics.ms_ssim(x, clean) for x in (clean, *noisy)]
    assert scores[0] == pytest.approx(1) and scores == sorted(scores, reverse=True)
    assert metrics.ms_ssim(noisy[1] * 255, clean * 255, peak=255) == pytest.approx(scores[2], abs=1e-5)
    assert scores[2] > metrics.ssim(noisy[1], clean) + 0.05
    with pytest.raises(ValueError, match="176"):
        metrics.ms_ssim(clean[:, 1:], clean[:, 1:])


# --------------------------------------------------------------------------------------------- PSNR-B


def test_psnr_b_by_hand():
    """Vertical stripes of 8 pixels, 0 and 0.2: every step of 0.2 lies on a block border, 3 in each of 16 rows."""
    x = (torch.arange(32) // 8 % 2 * 0.2).expand(1, 16, 32).clone()
    border = 3 * 16 * 0.04 / (3 * 16 + 1 * 32)  # vertical borders of 16 pixels, one horizontal of 32
    mse = 0.02  # half of the pixels are wrong by 0.2
    expected = pytest.approx(10 * math.log10(1 / (mse + math.log2(8) / math.log2(16) * border)), abs=1e-4)
    for peak in (1, 255):
        for pictured in (peak * x, peak * x.mT):
            assert metrics.psnr_b(pictured, torch.zeros_like(pictured), peak) == expected
    shifted, clean = x.roll(4, dims=-1), torch.zeros_like(x)  # blocks that do not begin in the corner go unseen
    assert metrics.psnr_b(shifted, clean) == pytest.approx(metrics.psnr(shifted, clean), abs=0.01)
    ramp = torch.linspace(0, 1, 64).expand(1, 40, 64)  # every step alike: no excess at the borders of blocks
    assert metrics.psnr_b(ramp, ramp + 0.1) == pytest.approx(metrics.psnr(ramp, ramp + 0.1), abs=0.01)
    with pytest.raises(ValueError, match="8x20"):
        metrics.psnr_b(torch.zeros(1, 20, 8), torch.zeros(1, 20, 8))


# -------------------------------------------------------------------------------------------- curves


def line(slope: float, offset: float, rates=(0.1, 0.2, 0.4, 0.8)) -> list[tuple[float, float]]:
    """A curve that is a straight line over the logarithm of the rate."""
    return [(rate, slope * math.log2(rate) + offset) for rate in rates]


def test_a_curve_is_read_between_its_points_and_not_beyond():
    curve = line(3, 40)
    assert metrics.at_rate(curve, 0.2) == pytest.approx(curve[1][1])
    assert metrics.at_rate(curve, 0.3) == pytest.approx(3 * math.log2(0.3) + 40, abs=0.02)
    assert all(math.isnan(metrics.at_rate(points, rate)) for points, rate in ((curve, 0.05), (curve, 1), ([], 0.1)))


@pytest.mark.parametrize("share", [0.5, 0.75, 1.0, 1.3])
def test_bd_rate_is_the_share_of_bits_that_a_shifted_curve_takes(share):
    anchor = line(3, 40)
    curve = [(share * rate, quality) for rate, quality in anchor]
    for points in (curve, curve[::-1]):
        assert metrics.bd_rate(points, anchor, 0.15, 0.6) == pytest.approx(100 * (share - 1), abs=1e-6)
        assert metrics.bd_psnr(points, anchor, 0.15, 0.35) == pytest.approx(-3 * math.log2(share), abs=0.02)


def test_a_curve_that_falls_is_told_and_a_rate_beyond_it_has_no_quality():
    falls = [(0.1, 30), (0.2, 32), (0.3, 31), (0.5, 35)]
    for curve in (falls, [(0.1, 30), (0.1, 31)]):
        with pytest.raises(ValueError, match="must rise with its rate"):
            metrics.bd_rate(curve, line(3, 40), 0.15, 0.6)
    assert all(math.isnan(metrics.at_rate(line(3, 40), rate)) for rate in (-1, 0, 1e9))


def test_bd_rate_looks_only_where_it_is_told():
    anchor = line(3, 40, (0.1, 0.2, 0.4, 0.8, 1.6))
    curve = [(rate * (0.5 if rate < 0.7 else 2), quality) for rate, quality in anchor]
    assert metrics.bd_rate(curve, anchor, 0.1, 0.3) == pytest.approx(-50, abs=3)
    for curve in (line(3, 80), []):
        assert math.isnan(metrics.bd_rate(curve, anchor, 0.15, 0.6))
    assert math.isnan(metrics.bd_psnr([], anchor, 0.15, 0.6))
