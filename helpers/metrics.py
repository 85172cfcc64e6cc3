"""How good is a picture? PSNR, PSNR-B, SSIM, MS-SSIM, bits per pixel; and the curves of codecs, quality over rate.

Pictures come as two (C, H, W) or (N, C, H, W) tensors of one shape with values in [0, peak]; another scale raises a
ValueError. None is converted, cropped or rounded here: that is the protocol's business (see `evaluation`).
"""

import itertools
import math
from collections.abc import Sequence

import torch

from . import images

Points = Sequence[tuple[float, float]]  # (bits per pixel, dB)
WINDOWS = {  # as scikit-image has them
    "gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
    "uniform": {"win_size": 7},
}
MS_SSIM_SIDE = 176  # pixels: at the fifth scale the window must fit in
BLOCK = 8  # side of JPEG's blocks in pixels


def psnr(image: torch.Tensor, reference: torch.Tensor, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, 10·log₁₀(peak² / MSE); infinite for equal pictures. Higher is better.

    Of a batch it is that of the joint error, not the mean of its pictures' PSNRs.
    """
    _check(image, reference, peak)
    mse = (image.cpu().double() - reference.cpu().double()).square().mean().item()
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def ssim(image: torch.Tensor, reference: torch.Tensor, peak: float = 1.0, window: str = "gaussian") -> float:
    """Structural similarity (Wang et al. 2004), mean over the picture and its channels, at most 1.

    `window` "gaussian" is the paper's 11×11 with σ = 1.5; "uniform" is the 7×7 box of the compressed-sensing tables.
    Only positions where the whole window lies inside the picture count. Raises ValueError where none does.
    """
    from skimage.metrics import structural_similarity

    _check(image, reference, peak)
    (height, width), side = image.shape[-2:], 11 if window == "gaussian" else 7
    if min(height, width) < side:
        raise ValueError(f"SSIM wants pictures of at least its window, {side}x{side}, not {width}x{height}.")
    # double precision: constant regions divide tiny numbers by tiny numbers
    x, y = (t.reshape(-1, *t.shape[-2:]).detach().cpu().double().numpy() for t in (image, reference))
    return float(structural_similarity(x, y, channel_axis=0, data_range=peak, **WINDOWS[window]))


def psnr_b(image: torch.Tensor, reference: torch.Tensor, peak: float = 1.0) -> float:
    """PSNR-B in dB (Yim and Bovik 2011): PSNR whose error grows where blocks show. Blocks begin in the corner.

    The blocking effect factor is the mean square step across block borders minus that elsewhere, where positive,
    times log₂(8) / log₂(shorter side). It is taken of `image` alone; of colour pictures, channel by channel.
    """
    _check(image, reference, peak)
    x = _batch(image).double()
    height, width = x.shape[-2:]
    if min(height, width) <= BLOCK:
        raise ValueError(f"PSNR-B wants pictures of more than one block of {BLOCK}, not {width}x{height}.")
    across, down = (x.diff(dim=-1) ** 2, x.diff(dim=-2) ** 2)  # (N, C, H, W - 1), (N, C, H - 1, W)
    at_border = [torch.arange(side - 1) % BLOCK == BLOCK - 1 for side in (width, height)]

    def mean_step(columns: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        total = across[..., columns].sum((-2, -1)) + down[..., rows, :].sum((-2, -1))  # (N, C)
        return total / (height * columns.sum() + width * rows.sum())

    excess = mean_step(*at_border) - mean_step(*(~t for t in at_border))
    factor = math.log2(BLOCK) / math.log2(min(height, width)) * excess.clamp(min=0)
    mse = (x - _batch(reference).double()).square().mean((-2, -1)) + factor  # (N, C)
    return math.inf if not mse.any() else 10 * math.log10(peak**2 / mse.mean().item())


def ms_ssim(image: torch.Tensor, reference: torch.Tensor, peak: float = 1.0) -> float:
    """Multi-scale SSIM (Wang et al. 2003), five scales, 11×11 Gaussian window; wants at least 176 pixels a side.

    By torchmetrics, which counts a mirrored border at the coarsest scale.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    _check(image, reference, peak)
    height, width = image.shape[-2:]
    if min(height, width) < MS_SSIM_SIDE:
        raise ValueError(f"MS-SSIM wants at least {MS_SSIM_SIDE} pixels a side, not {width}x{height}.")
    x, y = (_batch(t).float() for t in (image, reference))  # double precision changes a millionth, and is far slower
    return multiscale_structural_similarity_index_measure(x, y, data_range=peak).item()


def bits_per_pixel(size: int | bytes, image: torch.Tensor) -> float:
    """Bits of a file (its content, or its size in bytes) for each pixel of `image`, header included."""
    count = size if isinstance(size, int) else len(size)
    return 8 * count / (image.shape[-2] * image.shape[-1])


def at_rate(curve: Points, rate: float) -> float:
    """The quality of a (bits per pixel, dB) curve at a rate, monotone cubics of the logarithm between; NaN outside."""
    inside = len(curve) > 1 and min(curve)[0] <= rate <= max(curve)[0]
    return float(_cubics(curve)(math.log(rate))) if inside else math.nan


def bd_rate(curve: Points, anchor: Points, low: float, high: float) -> float:
    """Bjøntegaard's delta rate in percent: how many more bits than `anchor` a codec takes for the same quality.

    Curves are (bits per pixel, dB) points. Between them the logarithm of the rate is interpolated by monotone cubics;
    its difference is averaged over the qualities that `anchor` has between the rates `low` and `high` and that `curve`
    reaches; NaN where there are none. (After Bjøntegaard, VCEG-M33, 2001, who laid one cubic through four points.)
    """
    if min(len(curve), len(anchor)) < 2:
        return math.nan
    least, most = (at_rate(anchor, min(max(rate, min(anchor)[0]), max(anchor)[0])) for rate in (low, high))
    reached = [quality for _, quality in curve]
    cubics = (_cubics(points, of_quality=True) for points in (curve, anchor))
    return 100 * (math.exp(_mean_difference(*cubics, max(least, min(reached)), min(most, max(reached)))) - 1)


def bd_psnr(curve: Points, anchor: Points, low: float, high: float) -> float:
    """Bjøntegaard's delta PSNR: by how many dB a codec is better than `anchor` at the same rate.

    The mean over the logarithm of the rate, between `low` and `high` bits per pixel as far as both curves reach; NaN
    where they share no rate.
    """
    if min(len(curve), len(anchor)) < 2:
        return math.nan
    start, end = max(low, min(curve)[0], min(anchor)[0]), min(high, max(curve)[0], max(anchor)[0])
    return _mean_difference(_cubics(curve), _cubics(anchor), math.log(start), math.log(end))


def _cubics(curve: Points, of_quality: bool = False):
    """Monotone cubics through a curve: its quality over the logarithm of the rate or, `of_quality`, the reverse."""
    from scipy.interpolate import PchipInterpolator

    curve = sorted(curve)
    if not all(a < b and low < high for (a, low), (b, high) in itertools.pairwise(curve)):
        raise ValueError("a curve's quality must rise with its rate; leave out points that take more bits for no more.")
    rates, qualities = zip(*curve, strict=True)
    logs = [math.log(rate) for rate in rates]  # by NumPy's logarithm the end of a curve might lie outside of it
    return PchipInterpolator(qualities, logs) if of_quality else PchipInterpolator(logs, qualities)


def _mean_difference(ours, theirs, start: float, end: float) -> float:
    """The mean of `ours` - `theirs`, two cubics, from `start` to `end`; NaN where that span is empty."""
    if start >= end:
        return math.nan
    return float((ours.integrate(start, end) - theirs.integrate(start, end)) / (end - start))


def _batch(image: torch.Tensor) -> torch.Tensor:
    return (image if image.dim() == 4 else image[None]).cpu()  # Apple's GPU has no double precision


def _check(image: torch.Tensor, reference: torch.Tensor, peak: float) -> None:
    for picture in (image, reference):
        images.check_values(picture, peak)
        if peak == 1 and not picture.is_floating_point():
            raise ValueError(f"{picture.dtype} pictures do not lie in [0, 1]; give peak=255, or to_float() of both.")
    if image.shape != reference.shape:
        raise ValueError(f"the pictures differ in shape: {tuple(image.shape)} and {tuple(reference.shape)}.")
