"""The discrete wavelet transform of pictures, and DW-SSIM, the index of similarity that ResCSNet trains with.

DW-SSIM is of Electronics 2019, 8(12), 1559. Its absolute values are from CW-SSIM (Sampat et al. 2009), whose
coefficients are complex: there they make the index blind to a common phase, here to a common sign. Filters are
PyWavelets', so is the treatment of edges ("zero" mode).
"""

import functools

import pywt
import torch
import torch.nn.functional as F

from .service.devices import send

LEVELS = 3
WINDOW, STRIDE = 15, 8  # pixels
K = 0.01  # keeps the quotient of two empty bands at 1


def dwt2(image: torch.Tensor, wavelet: str = "haar", levels: int = 1) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The low band of (N, C, H, W), and of each level, the finest first, the details (N, C, 3, h, w).

    Details are horizontal, vertical, diagonal, as `pywt.wavedec2(…, mode="zero")` orders them. Differentiable. Raises
    ValueError for an unknown wavelet.
    """
    filters = pywt.Wavelet(wavelet)
    smooth, rough = (torch.tensor(taps[::-1]) for taps in (filters.dec_lo, filters.dec_hi))
    down, across = torch.stack([smooth, rough, smooth, rough]), torch.stack([smooth, smooth, rough, rough])
    kernels = send(torch.einsum("ki,kj->kij", down, across)[:, None], image.device).to(image.dtype)
    length = kernels.shape[-1]
    low, details = image, []
    for _ in range(levels):
        n, c, height, width = low.shape
        right, bottom = (length - 2 + side % 2 for side in (width, height))
        padded = F.pad(low.reshape(n * c, 1, height, width), (length - 2, right, length - 2, bottom))
        bands = F.conv2d(padded, kernels, stride=2)
        bands = bands.view(n, c, 4, *bands.shape[-2:])
        low = bands[:, :, 0]
        details.append(bands[:, :, 1:])
    return low, details


def dw_ssim(
    image: torch.Tensor, reference: torch.Tensor, wavelet: str = "haar", absolute: bool = True, joint: bool = False
) -> torch.Tensor:
    """DW-SSIM of (N, C, H, W) in [0, 1], a scalar, differentiable; 1 for equal pictures.

    Windows of 15×15 pixels begin at every eighth; those at the right and lower edge are cut short. Each, on the scale
    [−1, 1], is transformed to three levels, and of each band b, an index s = (2·|Σ b₁b₂| + K) / (Σ b₁² + Σ b₂² + K) is
    taken; the window's is 0.2·s(low) + 0.8·(the mean of the levels', each with its three orientations).

    The original takes the absolute value: a negated picture scores 1, too. Without `absolute` it scores about −1.
    The original sums over the pictures of a batch before it divides: `joint`; then one picture's error is hidden by
    another's contrast. Raises ValueError for pictures of different shape.
    """
    if image.shape != reference.shape or image.dim() != 4:
        raise ValueError(f"DW-SSIM wants two (N, C, H, W), not {tuple(image.shape)} and {tuple(reference.shape)}.")
    basis, sizes = _window_basis(wavelet)
    basis = basis.to(image, non_blocking=True)
    bands = [(basis @ _windows(2 * x - 1)).split(sizes, dim=-2) for x in (image, reference)]
    scores = []
    for first, second in zip(*bands, strict=True):  # (N, C, coefficients, windows)
        sums = [(a * b).sum((1, 2)) for a, b in ((first, second), (first, first), (second, second))]
        product, *energies = (t.sum(0) for t in sums) if joint else sums  # (N, windows)
        product = product.abs() if absolute else product
        scores.append((2 * product + K) / (sum(energies) + K))
    return 0.2 * scores[0].mean() + 0.8 * torch.stack(scores[1:]).mean()


def _windows(image: torch.Tensor) -> torch.Tensor:
    """The windows of (N, C, H, W), (N, C, 225, windows). Zeros beyond the edge add nothing to any sum of squares."""
    n, c, height, width = image.shape
    right, bottom = ((-(-side // STRIDE) - 1) * STRIDE + WINDOW - side for side in (width, height))
    padded = F.pad(image.reshape(n * c, 1, height, width), (0, right, 0, bottom))
    return F.unfold(padded, WINDOW, stride=STRIDE).view(n, c, WINDOW**2, -1)


@functools.cache
def _window_basis(wavelet: str) -> tuple[torch.Tensor, list[int]]:
    """A window's wavelet coefficients as inner products.

    A row for each, (coefficients, 225), and how many of them there are of each band, the low one first.
    The transform is linear, so those of the 225 windows that hold a single one are its columns.
    """
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False):  # it is kept, wherever it was first wanted
        low, details = dwt2(torch.eye(WINDOW**2).view(-1, 1, WINDOW, WINDOW), wavelet, LEVELS)
        bands = [band.flatten(1).T for band in (low, *details)]  # (coefficients, 225) each
        return torch.cat(bands), [len(band) for band in bands]
