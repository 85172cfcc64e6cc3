"""Losses as modules: loss(prediction, target) → a scalar to minimise.

Pictures are (N, C, H, W) in [0, 1]. SSIM windows are 11×11 Gaussian, σ 1.5.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from . import wavelets


class PSNRLoss(nn.Module):
    """Negative PSNR in dB: the mean over the batch's pictures or, if `joint`, the PSNR of their joint error.

    `floor` is added to each MSE: 1e-10 makes a perfect picture 100 dB, not infinite; with 10^−4.5, 45 dB is the most.
    """

    def __init__(self, floor: float = 1e-10, joint: bool = False):
        super().__init__()
        self.floor, self.joint = floor, joint

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) twice, in [0, 1] → a number."""
        mse = (prediction - target).square().mean(dim=(0, 1, 2, 3) if self.joint else (1, 2, 3))
        return 10 * torch.log10(mse + self.floor).mean()


class SSIMLoss(nn.Module):
    """1 − SSIM. Raises ValueError for patches smaller than the window."""

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) twice, in [0, 1] → a number."""
        from torchmetrics.functional.image import structural_similarity_index_measure

        _side(prediction)
        _, full = structural_similarity_index_measure(prediction, target, data_range=1.0, return_full_image=True)
        return 1 - full[..., 5:-5, 5:-5].mean()  # where the whole window lies inside, as `metrics.ssim`


class MSSSIMLoss(nn.Module):
    """1 − MS-SSIM over as many of its five scales as torchmetrics allows: 5 from 176 pixels on, 4 from 99, 3 from 44.

    A contrast whose mean is negative counts as 0 and has no gradient: a network must not begin with a negative picture.
    """

    WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, β of its five scales

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) twice, in [0, 1] → a number. Raises ValueError for patches smaller than the window."""
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

        side = _side(prediction)
        scales = max(n for n in range(1, 6) if side // 2 ** (n - 1) > 10 and side // max(1, (n - 1) ** 2) > 10)
        total = sum(self.WEIGHTS[:scales])
        how = {"betas": tuple(weight / total for weight in self.WEIGHTS[:scales]), "normalize": "relu"}
        return 1 - multiscale_structural_similarity_index_measure(prediction, target, data_range=1.0, **how)


class WeightedLoss(nn.Module):
    """0.4·MSE + 0.5·(100 − PSNR)/100 + 0.1·(1 − SSIM), the mixed loss of the Holopix50k SRCNN.

    Its PSNR is that of the whole batch's error, as the original's; there `math.log10` cuts the graph, so that the term
    moves no weight. The original's peak of 255 on [0, 1] adds a constant, left out here.
    """

    def __init__(self, mse: float = 0.4, psnr: float = 0.5, ssim: float = 0.1):
        super().__init__()
        self.weights = (mse, psnr, ssim)
        self.terms = nn.ModuleList([nn.MSELoss(), PSNRLoss(joint=True), SSIMLoss()])

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) twice, in [0, 1] → a number."""
        mse, negative_psnr, dissimilarity = (term(prediction, target) for term in self.terms)
        a, b, c = self.weights
        return a * mse + b * (100 + negative_psnr) / 100 + c * dissimilarity


class FrobeniusDWSSIMLoss(nn.Module):
    """`frobenius`·‖x̂ − x‖ / ‖x‖ + `dw_ssim`·(1 − DW-SSIM), the loss of ResCSNet's second stage.

    The norms are Frobenius norms over the whole batch, on the scale [−1, 1], as the original takes them; it trains
    with the weights .5/.5, then .8/.2, then .5/.5.
    """

    def __init__(self, frobenius: float = 0.5, dw_ssim: float = 0.5, absolute: bool = True, joint: bool = True):
        super().__init__()
        self.frobenius, self.dw_ssim = frobenius, dw_ssim
        self.similarity = partial(wavelets.dw_ssim, absolute=absolute, joint=joint)

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) twice, in [0, 1] → a number."""
        relative = 2 * (prediction - target).norm() / ((2 * target - 1).norm() + 1e-8)
        return self.frobenius * relative + self.dw_ssim * (1 - self.similarity(prediction, target))


class SparseCodeLoss(nn.Module):
    """MSE + `penalty`·mean(code²) of what NPEG returns: few bits shall be ones. The original had 0.01, then 0.1."""

    def __init__(self, penalty: float = 0.01):
        super().__init__()
        self.penalty = penalty

    def forward(self, coded, target: torch.Tensor) -> torch.Tensor:
        """A code with its picture, and the target (N, 3, H, W) in [0, 1] → a number."""
        return (coded.picture.float() - target).square().mean() + self.penalty * coded.code.float().square().mean()


class RateDistortionLoss(nn.Module):
    """log(R + λ·D) of what a codec returns, the mean over the batch: R in bits per pixel, D the MSE in gray levels².

    The logarithm makes a percent saved worth the same at low and at high rates.
    """

    def forward(self, coded, target: torch.Tensor) -> torch.Tensor:
        """A code with picture and bits, and the target (N, 3, H, W) in [0, 1] → a number."""
        distortion = (255 * (coded.picture.float() - target)).square().mean((1, 2, 3))
        return (coded.bits_per_pixel + coded.trade_off * distortion).log().mean()


def _side(patches: torch.Tensor) -> int:
    """The shorter side of patches. Raises ValueError where it is below that of the window of SSIM."""
    side = min(patches.shape[-2:])
    if side < 11:
        raise ValueError(f"SSIM wants patches of 11 pixels at least, not {side}.")
    return side


LOSSES: dict[str, Callable[[], nn.Module]] = {
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "psnr": PSNRLoss,  # of each picture
    "psnr-joint": partial(PSNRLoss, joint=True),
    "psnr-to-45": partial(PSNRLoss, 10**-4.5),
    "ssim": SSIMLoss,
    "ms-ssim": MSSSIMLoss,
    "weighted": WeightedLoss,
    "frobenius-dw-ssim": FrobeniusDWSSIMLoss,
    "frobenius-dw-ssim-signed": partial(FrobeniusDWSSIMLoss, absolute=False, joint=False),
    "sparse-code": SparseCodeLoss,
    "sparser-code": partial(SparseCodeLoss, 0.025),
    "rate-distortion": RateDistortionLoss,
}
