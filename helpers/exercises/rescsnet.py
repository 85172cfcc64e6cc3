"""Checks of notebook 5: peaks, signs, measurements, and agreement with them."""

import math
from collections.abc import Callable

import torch

from .examine import Wrong, call, close, exercise, number, tensor


@exercise("5.1")
def signed_psnr(answer: Callable) -> None:
    """my_psnr(x, y): PSNR in dB of two pictures whose pixels lie in [−1, 1]."""
    y = torch.linspace(-0.6, 0.5, 64).view(8, 8)  # no picture that reaches black and white
    x = y + 0.1 * torch.sin(torch.arange(64.0)).view(8, 8)
    mse = (x - y).square().mean().item()
    value, right = number(call(answer, x, y)), 10 * math.log10(4 / mse)
    if abs(value - 10 * math.log10((y.max() - y.min()).item() ** 2 / mse)) < 1e-2:
        raise Wrong("The peak is the range that pixels may have, not the range of this picture.")
    if abs(value - 20 * math.log10(4 / mse)) < 1e-2:
        raise Wrong("20·log₁₀ is for the ratio of peak and root mean square; of their squares it is 10·log₁₀.")
    if abs(value - 10 * math.log(4 / mse)) < 1e-2:
        raise Wrong("That is the natural logarithm; decibels want the one to base 10.")
    if abs(value - 10 * math.log10(1 / mse)) < 1e-2:
        raise Wrong("That is the original's: 6.02 dB too low. From black to white it is 2, not 1.")
    if abs(value - 10 * math.log10(2 / mse)) < 1e-2:
        raise Wrong("The peak enters squared.")
    if abs(value + right) < 1e-2:
        raise Wrong("The sign is wrong.")
    if not abs(value - right) <= 1e-2:
        raise Wrong(f"It gives {value:.2f} dB where {right:.2f} dB is right.")


@exercise("5.2")
def similarity(answer: Callable) -> None:
    """my_similarity(c1, c2): (2·Σc₁c₂ + K) / (Σc₁² + Σc₂² + K), K = 0.01, of a negated band close to −1."""
    c = torch.tensor([[0.3, -1.2, 0.8], [0.1, 0.4, -0.6]])
    other = torch.tensor([[0.2, -0.7, 0.9], [0.5, 0.1, 0.2]])

    def expected(a: torch.Tensor, b: torch.Tensor) -> float:
        return ((2 * (a * b).sum() + 0.01) / (a.square().sum() + b.square().sum() + 0.01)).item()

    negated = number(call(answer, c, -c))
    if abs(negated - 1) < 1e-2:
        raise Wrong("A negated band scores 1: the absolute value, or a square, has forgotten the sign.")
    for a, b, case in ((c, -c, "a band and its negative"), (c, other, "two bands"), (c, c, "a band with itself")):
        value = number(call(answer, a, b))
        if abs(value - (expected(a, b) / 2)) < 1e-2 and abs(expected(a, b)) > 0.1:
            raise Wrong(f"For {case} it gives half of what is right: mind the 2.")
        plain = (2 * (a * b).sum() / (a.square().sum() + b.square().sum())).item()
        if abs(value - plain) < 1e-5 < abs(value - expected(a, b)):
            raise Wrong("K is missing: it is added above and below, and two empty bands would divide zero by zero.")
        if not abs(value - expected(a, b)) <= 1e-4:
            raise Wrong(f"For {case} it gives {value:.4f} where {expected(a, b):.4f} is right.")
    empty = torch.zeros(2, 3)
    if not abs(number(call(answer, empty, empty)) - 1) < 1e-6:
        raise Wrong("Two empty bands are equal and should score 1: that is what K is for, above and below.")


def _measurements(height: int, width: int, ratio: float, block: int) -> int:
    return math.ceil(height / block) * math.ceil(width / block) * round(ratio * block**2)


@exercise("5.3", course=_measurements)
def measurements(answer: Callable) -> None:
    """my_measurements(height, width, ratio, block): numbers measured where every block is, those of padding too."""
    for height, width, ratio, block in ((100, 100, 0.1, 32), (256, 256, 0.1, 32), (33, 64, 0.04, 32)):
        blocks, each = -(-height // block) * -(-width // block), round(ratio * block**2)
        value, expected = (number(call(f, height, width, ratio, block)) for f in (answer, _measurements))
        case = f"For {height}×{width} pixels at a ratio of {ratio:g}"
        if value == (height // block) * (width // block) * each != expected:
            raise Wrong(f"{case} it leaves out the blocks that hang over the edge: round the number of blocks up.")
        if abs(value - blocks * ratio * block**2) < 1 and value != expected:
            raise Wrong(f"{case} it gives {value:g}: *each* block has a whole number of measurements, round that.")
        if value == round(ratio * height * width) != expected:
            raise Wrong(f"{case} it counts pixels; the camera measures whole blocks, of padding as well.")
        if value != expected:
            raise Wrong(f"{case} it gives {value:g}; {blocks} blocks of {each} were expected.")


@exercise("5.4")
def consistent(answer: Callable) -> None:
    """my_step(x, y, rows): the nearest picture to x that agrees with the measurements y = rows @ picture."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(12, 4, generator=generator))[0].T  # (4, 12), orthonormal
    x, y = torch.randn(12, generator=generator), torch.randn(4, generator=generator)
    value = tensor(call(answer, x, y, rows), (12,))
    if close(value, rows.T @ y, 1e-4):
        raise Wrong("That is the linear estimate: it forgets x wherever nothing was measured.")
    if close(value, x - rows.T @ (y - rows @ x), 1e-4):
        raise Wrong("The sign is wrong: it moves away from the measurements.")
    if close(value, rows.T @ (y - rows @ x), 1e-4):
        raise Wrong("That is what to add to x; return the sum.")
    if close(value, x + rows.T @ y, 1e-4):
        raise Wrong("What x already has of the measurements must be taken away first: y − rows @ x.")
    if not close(rows @ value, y, 1e-4):
        raise Wrong(f"Measured again it gives {[round(v, 2) for v in (rows @ value).tolist()]}, not y.")
    if not close(value, x + rows.T @ (y - rows @ x), 1e-4):
        raise Wrong("It agrees with y, but changes more of x than it must.")


@exercise("5.5")
def quantizer(answer: Callable) -> None:
    """my_quantizer(y, largest, bits): each number rounded to the nearest of the levels k·largest/top, |k| ≤ top."""
    y, largest = torch.tensor([-3.0, -1.26, -0.2, 0.0, 0.49, 1.24, 2.9]), 3.2
    for bits in (3, 5):
        top = 2 ** (bits - 1) - 1
        value = tensor(call(answer, y, largest, bits), (7,))
        right = (y / largest * top).round() * largest / top
        if close(value, (y / largest * top).round(), 1e-5):
            raise Wrong("Those are the whole numbers k; return the measurements that they stand for.")
        for cut in (torch.floor, torch.trunc):
            if close(value, cut(y / largest * top) * largest / top, 1e-5):
                raise Wrong("It cuts off instead of rounding; the nearest level is at most half a step away.")
        for many in (2**bits, 2**bits - 1, 2 ** (bits - 1)):
            if close(value, (y / largest * many).round() * largest / many, 1e-5):
                count = f"{2 * many + 1} levels; {bits} bits tell {2**bits} apart"
                raise Wrong(f"That takes {count}, and k goes from −top to top with top = 2^(bits − 1) − 1.")
        if not close(value, right, 1e-5):
            worst = (value - right).abs().argmax()
            said = f"{y[worst]:.2f} becomes {value[worst]:.3f} where {right[worst]:.3f} was expected"
            raise Wrong(f"With {bits} bits {said}.")
