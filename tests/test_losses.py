import math

import pytest
import torch
from builders import photograph
from torch import nn

from helpers import degradations, losses, metrics

OF_PICTURES = [name for name in losses.LOSSES if "code" not in name and "rate" not in name]  # those are of codecs


def batch(side: int = 32, count: int = 3, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.stack([photograph(side, side, 1, seed) for seed in range(count)]).to(dtype)
    return degradations.gaussian_noise(target, 0.1), target


def gradient(loss, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    prediction = prediction.clone().requires_grad_()
    loss(prediction, target).backward()
    return prediction.grad


def test_values_are_the_metrics():
    prediction, target = batch()
    prediction[0] += 0.2  # the mean of their PSNRs is not that of their joint error
    pairs = list(zip(prediction, target, strict=True))
    psnr = sum(metrics.psnr(*pair) for pair in pairs) / 3
    ssim = sum(metrics.ssim(*pair) for pair in pairs) / 3
    mse = (prediction - target).square().mean().item()
    assert losses.PSNRLoss()(prediction, target).item() == pytest.approx(-psnr, abs=1e-3)
    assert losses.SSIMLoss()(prediction, target).item() == pytest.approx(1 - ssim, abs=1e-4)
    expected = 0.4 * mse + 0.5 * (100 + 10 * math.log10(mse)) / 100 + 0.1 * (1 - ssim)
    assert losses.WeightedLoss()(prediction, target).item() == pytest.approx(expected, abs=1e-4)
    prediction, target = batch(180, 1)  # where five scales fit
    expected = 1 - metrics.ms_ssim(prediction, target)
    assert losses.MSSSIMLoss()(prediction, target).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("loss", [losses.PSNRLoss(joint=True), losses.WeightedLoss(0, 100, 0)], ids=["psnr", "mixed"])
def test_the_psnr_of_system_5_is_that_of_the_joint_error(loss):
    """So its gradient is that of the MSE, and no picture has more say than its error gives it."""
    prediction, target = torch.zeros(2, 1, 12, 12), torch.zeros(2, 1, 12, 12)
    prediction[0], prediction[1] = 0.1, 0.01
    grad, of_mse = gradient(loss, prediction, target), gradient(nn.MSELoss(), prediction, target)
    assert torch.allclose(grad, 10 / math.log(10) / 0.00505 * of_mse, rtol=1e-3)


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)], ids=["mse", "psnr", "ssim"])
def test_each_term_of_the_weighted_loss_moves_the_prediction(weights):
    """The original takes log10 of a Python number: its PSNR term had no gradient."""
    prediction, target = batch(12, 2, torch.float64)
    assert gradient(losses.WeightedLoss(*weights), prediction, target).abs().max() > 1e-6
    one = losses.WeightedLoss(*weights)
    assert torch.autograd.gradcheck(lambda x: one(x, target), prediction.requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("name", OF_PICTURES)
def test_perfect_and_hopeless_predictions_have_finite_gradients_and_less_noise_is_less_loss(name):
    _, target = batch(24, 2)
    loss = losses.LOSSES[name]()
    for prediction in (target, 1 - target, torch.zeros_like(target)):
        assert loss(prediction, target).isfinite() and gradient(loss, prediction, target).isfinite().all()
    values = [loss(degradations.gaussian_noise(target, s), target).item() for s in (0.01, 0.05, 0.2)]
    assert values == sorted(values) and values[0] < values[2]


@pytest.mark.parametrize("side", [*range(11, 24), 43, 44, 45, 88, 89, 90, 159, 160, 161, 175, 176, 177])
def test_ms_ssim_loss_takes_every_patch_of_a_window(side):
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    assert losses.MSSSIMLoss()(x, x).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ["ssim", "ms-ssim"])
@pytest.mark.parametrize("shape", [(10, 40), (40, 10)])
def test_losses_with_a_window_say_what_they_want(name, shape):
    """Of nothing that lies inside, a mean is no number."""
    with pytest.raises(ValueError, match="11 pixels at least, not 10"):
        losses.LOSSES[name]()(torch.zeros(1, 1, *shape), torch.zeros(1, 1, *shape))
