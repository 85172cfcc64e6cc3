"""The wavelet transform against PyWavelets; DW-SSIM against its authors' way, and what it gave on their demos."""

import pytest
import pywt
import torch
from reference_dw_ssim import haar_by_convolution, window_by_window

from helpers import datasets, degradations, images, wavelets

DEMOS = {  # of the original's own program on its own demo pictures, at .25 .20 .15 .10 .04 .01
    "house": (0.950, 0.942, 0.943, 0.915, 0.834, 0.637),
    "parrot": (0.964, 0.965, 0.959, 0.943, 0.899, 0.763),
    "barbara": (0.955, 0.961, 0.947, 0.913, 0.814, 0.543),
}


def pictures(*shape):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore:Level value")
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
@pytest.mark.parametrize("size", [(16, 16), (15, 13), (12, 5), (1, 1)])
def test_the_transform_is_that_of_pywavelets(wavelet, size):
    x = pictures(2, 3, *size)[0]
    low, details = wavelets.dwt2(x, wavelet, 3)
    expected = pywt.wavedec2(x.double().numpy(), wavelet, mode="zero", level=3)
    assert torch.allclose(low.double(), torch.from_numpy(expected[0]), atol=1e-5)
    for ours, theirs in zip(details, reversed(expected[1:]), strict=True):
        stacked = torch.stack([torch.from_numpy(band) for band in theirs], 2)
        assert ours.shape == stacked.shape and torch.allclose(ours.double(), stacked, atol=1e-5)


@pytest.mark.parametrize(("size", "batch"), [((40, 48), 1), ((37, 23), 3), ((15, 15), 1), ((4, 9), 3)])
def test_values_and_gradients_are_the_original_s(size, batch):
    x, y = pictures(batch, 1, *size)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    index = wavelets.dw_ssim(ours, y, joint=True)
    expected = window_by_window(2 * theirs - 1, 2 * y - 1)
    by_convolution = window_by_window(2 * x - 1, 2 * y - 1, haar_by_convolution)
    assert by_convolution.item() == pytest.approx(expected.item(), abs=1e-6)
    assert index.item() == pytest.approx(expected.item(), abs=1e-5)
    index.backward()
    expected.backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5 * max(1, theirs.grad.abs().max().item()))
    assert ours.grad.abs().max() > 1e-4  # there is something to compare


def test_without_joint_sums_the_batch_is_the_mean_of_its_pictures():
    x, y = pictures(3, 1, 40, 40)
    alone = [wavelets.dw_ssim(a[None], b[None]).item() for a, b in zip(x, y, strict=True)]
    assert wavelets.dw_ssim(x, y).item() == pytest.approx(sum(alone) / 3, abs=1e-6)
    assert abs(wavelets.dw_ssim(x, y, joint=True).item() - sum(alone) / 3) > 1e-3


@pytest.mark.parametrize("name", DEMOS)
def test_it_gives_the_original_s_values_on_its_demos(name, course_data):
    folder = course_data / "test" / "ResCSNet_demo"
    truth = images.load(folder / f"{name}.jpg")[None]
    for ratio, expected in zip(("25", "20", "15", "10", "04", "01"), DEMOS[name], strict=True):
        shown = images.load(folder / f"{name}_rescsnet_r{ratio}.jpg")[None]
        assert wavelets.dw_ssim(shown, truth).item() == pytest.approx(expected, abs=6e-4)


def test_a_negated_picture_scores_one_only_with_the_absolute_value():
    x, _ = pictures(1, 1, 100, 100)
    assert wavelets.dw_ssim(1 - x, x).item() == pytest.approx(1, abs=1e-6)
    assert wavelets.dw_ssim(1 - x, x, absolute=False).item() < -0.9
    assert wavelets.dw_ssim(x, x, absolute=False).item() == pytest.approx(1, abs=1e-6)


def test_other_wavelets_tell_pictures_apart():
    x, y = pictures(1, 1, 50, 50)
    assert wavelets.dw_ssim(x, x, "db2").item() == pytest.approx(1, abs=1e-6)
    assert wavelets.dw_ssim(x, y, "db2").item() < 0.9
    with pytest.raises(ValueError, match="Unknown wavelet name 'hare'"):
        wavelets.dw_ssim(x, y, "hare")
    with pytest.raises(ValueError, match="wants two"):
        wavelets.dw_ssim(x, y[..., 1:])


def test_what_is_kept_from_inference_serves_training():
    wavelets._window_basis.cache_clear()
    with torch.inference_mode(), torch.autocast("cpu"):
        wavelets.dw_ssim(*pictures(1, 1, 20, 20))
    test_values_and_gradients_are_the_original_s((37, 23), 1)


def test_zeros_that_fill_up_a_window_decide_which_change_scores_lowest(monkeypatch):
    flower = images.luma(images.load(datasets.bundled("flower")))
    square, shifted = flower[:, 150:250, 250:350], flower[:, 150:250, 251:351]
    changed = {"shift": shifted, "blur": degradations.gaussian_blur(square, 1.5)}

    def scores():
        wavelets._window_basis.cache_clear()
        return {name: round(wavelets.dw_ssim(x[None], square[None]).item(), 2) for name, x in changed.items()}

    assert scores() == {"shift": 0.76, "blur": 0.77}
    monkeypatch.setattr(wavelets, "WINDOW", 16)
    assert scores() == {"shift": 0.71, "blur": 0.70}
    wavelets._window_basis.cache_clear()
