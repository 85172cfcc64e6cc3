import math
from unittest import mock

import numpy as np
import pytest
import torch
from builders import photograph
from skimage import metrics as reference
from torchmetrics.functional.image import structural_similarity_index_measure

from helpers import degradations, metrics


def pair(channels: int = 3, side: int = 48, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    clean = photograph(side, side + 7, channels, seed)
    return degradations.gaussian_noise(clean, 0.07, seed), clean


def last(x: torch.Tensor):
    return x.movedim(0, -1).double().numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_psnr_is_scikit_images(channels, peak):
    noisy, clean = (t * peak for t in pair(channels))
    expected = reference.peak_signal_noise_ratio(last(clean), last(noisy), data_range=peak)
    assert metrics.psnr(noisy, clean, peak) == pytest.approx(expected, abs=1e-6)


def test_psnr_by_hand():
    assert metrics.psnr(torch.full((1, 2, 2), 0.1), torch.zeros(1, 2, 2)) == pytest.approx(20)
    assert metrics.psnr(torch.full((1, 2, 2), 1, dtype=torch.uint8), torch.zeros(1, 2, 2, dtype=torch.uint8), 255) == (
        pytest.approx(48.1308, abs=1e-4)
    )


def test_psnr_of_equal_pictures_is_infinite():
    assert metrics.psnr(photograph(), photograph()) == math.inf


@pytest.mark.parametrize("name", ["psnr", "ssim", "psnr_b", "ms_ssim"])
def test_another_scale_of_values_is_refused_by_name(name):
    metric, clean = getattr(metrics, name), photograph(200, 200)
    broken = clean.clone()
    broken[0, 0, 0] = math.nan
    eight = (clean * 255).to(torch.uint8)
    for poor, peak in (
        (broken, 1),
        (clean * 255, 1),
        (eight, 1),
        (clean > 0.5, 1),
        (clean.numpy(), 1),
        (clean * 65535, 255),
    ):
        for given in ((poor, clean), (clean, poor), (poor, poor)):
            with pytest.raises(ValueError, match=rf"\[0, {peak}\]|a tensor") as caught:
                metric(*given, peak=peak)
            assert "\n" not in str(caught.value)
    assert metric(eight, eight, peak=255) == pytest.approx(metric(clean, clean), abs=1e-6)
    assert metric(degradations.gaussian_noise(clean, 0.2), clean) < metric(clean, clean)  # beyond the range, a little


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_gaussian_ssim_is_torchmetrics_without_the_border_that_it_mirrors(channels, peak):
    noisy, clean = (t[None].double() * peak for t in pair(channels))
    _, full = structural_similarity_index_measure(noisy, clean, data_range=peak, sigma=1.5, return_full_image=True)
    assert metrics.ssim(noisy[0], clean[0], peak) == pytest.approx(full[..., 5:-5, 5:-5].mean().item(), abs=1e-9)


def test_ssim_by_its_formula_in_one_window():
    noisy, clean = (t[:, :11, :11].double() for t in pair(1))
    offsets = torch.arange(-5, 6).double()
    weights = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    x, y = ((weights * t).sum() for t in (noisy, clean))
    xx, yy, xy = ((weights * a * b).sum() for a, b in ((noisy, noisy), (clean, clean), (noisy, clean)))
    score = (2 * x * y + 1e-4) * (2 * (xy - x * y) + 9e-4) / ((x**2 + y**2 + 1e-4) * (xx - x**2 + yy - y**2 + 9e-4))
    assert metrics.ssim(noisy, clean) == pytest.approx(score.item(), abs=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_uniform_ssim_is_scikit_images(channels):
    noisy, clean = pair(channels)
    expected = reference.structural_similarity(last(clean), last(noisy), channel_axis=-1, data_range=1.0, win_size=7)
    assert metrics.ssim(noisy, clean, window="uniform") == pytest.approx(expected, abs=1e-6)
    assert metrics.ssim(noisy, clean, window="uniform") != pytest.approx(metrics.ssim(noisy, clean), abs=1e-3)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_a_batch_has_the_mean_of_its_ssims(window):
    pairs = [pair(seed=seed) for seed in range(3)]
    batch = [torch.stack(part) for part in zip(*pairs, strict=True)]
    expected = sum(metrics.ssim(*one, window=window) for one in pairs) / 3
    assert metrics.ssim(*batch, window=window) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_a_batch_is_that_of_the_joint_error():
    pairs = [pair(seed=seed) for seed in range(3)]
    batch = [torch.stack(part) for part in zip(*pairs, strict=True)]
    mse = sum(10 ** (-metrics.psnr(*one) / 10) for one in pairs) / 3
    assert metrics.psnr(*batch) == pytest.approx(-10 * math.log10(mse), abs=1e-9)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_ssim_of_equal_pictures_is_one(window):
    flat = torch.full((1, 20, 20), 0.5)  # where rounding would make 0 / 0
    for x in (photograph(), flat, torch.zeros(1, 20, 20)):
        assert metrics.ssim(x, x, window=window) == pytest.approx(1)


@pytest.mark.parametrize(("window", "side"), [("gaussian", 11), ("uniform", 7)])
def test_ssim_wants_its_window(window, side):
    x = photograph(side, side, 1)
    assert metrics.ssim(x, x, window=window) == pytest.approx(1)
    with pytest.raises(ValueError, match="window"):
        metrics.ssim(x[:, 1:], x[:, 1:], window=window)


def test_ssim_refuses_a_window_that_it_does_not_know():
    with pytest.raises(ValueError, match="gaussian"):
        metrics.ssim(photograph(), photograph(), window="hamming")


def test_ms_ssim_is_one_for_equals_and_falls_with_noise():
    clean = photograph(180, 190)
    noisy = [degradations.gaussian_noise(clean, sigma) for sigma in (0.02, 0.05, 0.1, 0.2)]
    scores = [metrics.ms_ssim(x, clean) for x in (clean, *noisy)]
    assert scores[0] == pytest.approx(1)
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] < 0.9
    assert metrics.ms_ssim(noisy[2] * 255, clean * 255, peak=255) == pytest.approx(scores[3], abs=1e-5)


def test_ms_ssim_forgives_fine_noise_more_than_ssim():
    clean = photograph(180, 190)
    noisy = degradations.gaussian_noise(clean, 0.1)
    assert metrics.ms_ssim(noisy, clean) > metrics.ssim(noisy, clean) + 0.05


def test_ms_ssim_says_what_it_wants():
    x = photograph(177, 177, 1)
    assert metrics.ms_ssim(x, x) == pytest.approx(1)
    with pytest.raises(ValueError, match="177"):
        metrics.ms_ssim(x[:, 1:], x[:, 1:])


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.ms_ssim])
def test_shapes_must_agree(metric):
    with pytest.raises(ValueError, match=r"\(3, 32, 40\) and \(1, 32, 40\)"):
        metric(photograph(), photograph(channels=1))


def test_bits_per_pixel_of_a_size_bytes_and_a_file(tmp_path):
    image = torch.zeros(3, 10, 20)
    (tmp_path / "x").write_bytes(bytes(50))
    assert metrics.bits_per_pixel(50, image) == metrics.bits_per_pixel(bytes(50), image) == 2.0
    assert metrics.bits_per_pixel(tmp_path / "x", image) == 2.0


# --------------------------------------------------------------------------------------------- PSNR-B


def test_psnr_b_of_a_picture_without_blocks_is_its_psnr():
    _, clean = pair(1, 48)
    smooth = degradations.gaussian_blur(clean, 2.0)
    ramp = torch.linspace(0, 1, 64).expand(1, 40, 64)  # every step alike: no excess at the borders of blocks
    assert metrics.psnr_b(ramp, ramp + 0.1) == pytest.approx(metrics.psnr(ramp, ramp + 0.1), abs=0.01)
    assert metrics.psnr_b(clean, clean.clone()) <= metrics.psnr(clean, clean.clone())
    assert metrics.psnr_b(smooth, clean) <= metrics.psnr(smooth, clean)


def test_psnr_b_by_hand():
    """Vertical stripes of 8 pixels, 0 and 0.2: every step of 0.2 lies on a block border, 3 in each of 16 rows."""
    x = (torch.arange(32) // 8 % 2 * 0.2).expand(1, 16, 32).clone()
    border = 3 * 16 * 0.04 / (3 * 16 + 1 * 32)  # vertical borders of 16 pixels, one horizontal of 32
    factor = math.log2(8) / math.log2(16) * border
    mse = 0.02  # half of the pixels are wrong by 0.2
    assert metrics.psnr_b(x, torch.zeros_like(x)) == pytest.approx(10 * math.log10(1 / (mse + factor)), abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_b_falls_with_the_blocks_and_not_with_their_place(channels):
    clean = photograph(96, 104, channels)
    coded = degradations.jpeg(clean, 8)
    assert metrics.psnr_b(coded, clean) < metrics.psnr(coded, clean) - 0.1
    shifted = [t[..., 4:, 4:] for t in (coded, clean)]  # blocks that do not begin in the corner go unseen
    seen, unseen = (metrics.psnr(*p) - metrics.psnr_b(*p) for p in ([coded, clean], shifted))
    assert unseen < 0.7 * seen
    assert metrics.psnr_b(255 * coded, 255 * clean, peak=255) == pytest.approx(metrics.psnr_b(coded, clean), abs=1e-3)


class OnApple(torch.Tensor):
    """A tensor as on Apple's GPU, which has no double precision, and whose memory NumPy cannot see."""

    def cpu(self):
        return self.as_subclass(torch.Tensor)

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    numpy = double


def test_pictures_on_a_gpu_are_measured_as_on_the_cpu():
    for measure in (metrics.psnr, metrics.ssim, metrics.psnr_b, lambda *pair: metrics.ssim(*pair, window="uniform")):
        images = pair()
        assert measure(*(t.as_subclass(OnApple) for t in images)) == measure(*images)


def test_psnr_b_wants_more_than_one_block():
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
    assert math.isnan(metrics.at_rate(curve, 0.05)) and math.isnan(metrics.at_rate(curve, 1.0))
    assert math.isnan(metrics.at_rate(curve[:1], 0.1))


@pytest.mark.parametrize("share", [0.5, 0.75, 1.0, 1.3])
def test_bd_rate_is_the_share_of_bits_that_a_shifted_curve_takes(share):
    anchor = line(3, 40)
    curve = [(share * rate, quality) for rate, quality in anchor]
    assert metrics.bd_rate(curve, anchor, 0.15, 0.6) == pytest.approx(100 * (share - 1), abs=1e-6)
    assert metrics.bd_rate(curve[::-1], anchor, 0.15, 0.6) == pytest.approx(100 * (share - 1), abs=1e-6)


def test_bd_rate_looks_only_where_it_is_told():
    anchor = line(3, 40, (0.1, 0.2, 0.4, 0.8, 1.6))
    curve = [(rate * (0.5 if rate < 0.7 else 2), quality) for rate, quality in anchor]
    assert metrics.bd_rate(curve, anchor, 0.1, 0.3) == pytest.approx(-50, abs=3)


def test_bd_rate_of_curves_that_never_meet_is_no_number():
    assert math.isnan(metrics.bd_rate(line(3, 80), line(3, 40), 0.15, 0.6))
    assert math.isnan(metrics.bd_rate(line(3, 40)[:1], line(3, 40), 0.15, 0.6))


@pytest.mark.parametrize("rate", [0.18427734375, 0.1, 0.3, 1 / 3, 0.7])
def test_a_curve_reaches_its_own_ends(rate):
    """As on a NumPy whose vector logarithm differs from Python's in the last digit."""
    curve = [(rate, 24.0), (2 * rate, 27.0), (3 * rate, 29.0)]
    with mock.patch("numpy.log", lambda x: np.nextafter(np.vectorize(math.log)(x), math.inf)):
        assert metrics.at_rate(curve, rate) == pytest.approx(24)
