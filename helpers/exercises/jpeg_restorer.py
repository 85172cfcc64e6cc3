"""Checks of notebook 3: JPEG by hand, a schedule, and what is known of the original."""

import math
from collections.abc import Callable

import torch

from .examine import Wrong, call, close, exercise, number, tensor


def _dct_matrix() -> torch.Tensor:
    """The orthonormal DCT of 8 numbers, (8, 8); row k is the k-th pattern."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    matrix = torch.cos((2 * n + 1) * k * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def _block() -> torch.Tensor:
    """An 8×8 block of pixels, 0 to 255: a ramp, steeper downwards than across, with a bright corner."""
    rows, columns = torch.arange(8.0)[:, None], torch.arange(8.0)
    return 20 + 11 * rows + 3 * columns + 90.0 * (rows + columns < 5)


def _dct(block: torch.Tensor) -> torch.Tensor:
    return _dct_matrix() @ block @ _dct_matrix().T


@exercise("3.1", course=_dct)
def dct(answer: Callable) -> None:
    """my_dct(block): the DCT coefficients of an 8×8 block, columns and rows."""
    matrix, block = _dct_matrix(), _block() - 128
    value = tensor(call(answer, block), (8, 8))
    expected = _dct(block)
    if close(value, matrix @ block, 0.1) or close(value, block @ matrix.T, 0.1):
        raise Wrong("That transforms in one direction only: D on the left does the columns, D.T on the right the rows.")
    if close(value, matrix.T @ block @ matrix, 0.1):
        raise Wrong("That is the way back, from coefficients to pixels: D belongs on the left, D.T on the right.")
    if close(value, expected.T, 0.1):
        raise Wrong("Rows and columns are swapped: that is the transpose of what was expected.")
    if not close(value, expected, 0.1):
        raise Wrong(
            f"The first coefficient is {value[0, 0]:.1f} where {expected[0, 0]:.1f} was expected, and it is not the "
            "only one that may differ: D @ block does the columns; what does the rows?"
        )


def _back(coefficients: torch.Tensor) -> torch.Tensor:
    return _dct_matrix().T @ coefficients @ _dct_matrix()


def _round_trip(block: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return _back((_dct(block - 128) / table).round() * table) + 128


@exercise("3.2", course=_round_trip)
def round_trip(answer: Callable) -> None:
    """my_round_trip(block, table): an 8×8 block, 0 to 255, as it comes back from a JPEG file with this table."""
    block = _block()
    table = 23 + 9 * torch.arange(8.0)[:, None] + 7 * torch.arange(8.0)
    value = tensor(call(answer, block, table), (8, 8))
    expected, coefficients = _round_trip(block, table), _dct(block - 128)
    stored = (coefficients / table).round()
    if close(value, stored, 0.01):
        raise Wrong("Those are the stored integers. Multiply by the table again and transform back.")
    if close(value, expected - 128, 0.6):
        raise Wrong("It is too dark by 128: undo the centring at the end.")
    if close(value, _back(stored) + 128, 0.6):
        raise Wrong("The integers must be multiplied by the table before they are transformed back.")
    if close(value, block, 0.6):
        raise Wrong("Nothing is lost: divide by the table and round before you multiply again.")
    if close(value, _back((_dct(block) / table).round() * table), 0.6):
        raise Wrong("Subtract 128 from the pixels first, and add it at the end: JPEG rounds centred numbers.")
    cut = [_back(f(coefficients / table) * table) + 128 for f in (torch.floor, torch.trunc)]
    if any(close(value, wrong, 0.6) for wrong in cut):
        raise Wrong("The quotients were cut off; round them to the nearest integer.")
    if not close(value, expected, 0.6):  # 0.6: rounded to whole gray levels is right, too
        raise Wrong("Centre, transform, divide, round, multiply, transform back, undo the centring: one is amiss.")


@exercise("3.3")
def blocking(answer: Callable) -> None:
    """my_blocking(image): mean square horizontal step across block borders minus that elsewhere, at least 0."""
    image = 0.1 * torch.tensor([3.0, 5.0, 2.0]).repeat_interleave(8).repeat(1, 5, 1)  # (1, 5, 24): three flat blocks
    image = image + 0.02 * (torch.arange(24.0) % 8)
    steps = image.diff(dim=-1)
    border = torch.arange(23) % 8 == 7

    def excess(amount: torch.Tensor, where: torch.Tensor) -> float:
        return (amount[..., where].mean() - amount[..., ~where].mean()).item()

    value = number(call(answer, image))
    expected = excess(steps.square(), border)
    if abs(value - excess(steps.abs(), border)) < 1e-5:
        raise Wrong("Those are absolute steps; the formula has squares, as the mean squared error.")
    if any(abs(value - excess(steps.square(), torch.arange(23) % 8 == k)) < 1e-5 for k in (0, 6)):
        raise Wrong("The columns are off by one: the step from column 7 to column 8 is number 7 of the differences.")
    if abs(value - steps[..., border].square().mean().item()) < 1e-5:
        raise Wrong("Subtract the mean square step elsewhere: a picture full of detail has steps everywhere.")
    if abs(value - (steps[..., border].square().sum() - steps[..., ~border].square().sum()).item()) < 1e-5:
        raise Wrong("Take means, not sums: there are seven times as many steps inside blocks as across borders.")
    if not abs(value - expected) <= 1e-5:
        raise Wrong(f"It gives {value:.4f} where {expected:.4f} was expected: borders lie after columns 7, 15, 23, …")
    lines = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 0]).repeat(1, 5, 3)  # steps everywhere but across borders
    value = number(call(answer, lines))
    if not abs(value) <= 1e-6:
        raise Wrong(f"A picture with larger steps inside blocks gives {value:.2f}; it shows no blocks: stop at 0.")


@exercise("3.4")
def learning_rate(answer: Callable) -> None:
    """my_learning_rate(epoch, epochs, start): halved after each completed fifth of the epochs; epoch counts from 0."""
    for epoch, halvings in ((0, 0), (10, 0), (19, 0), (20, 1), (39, 1), (99, 4)):
        expected = 5e-4 * 0.5**halvings
        value = number(call(answer, epoch, 100, 5e-4))
        if epoch and value == 5e-4 * 0.5**epoch:
            raise Wrong(f"Epoch {epoch} of 100 has {value:.1e}: it halves nearly every epoch, as the original does.")
        if epoch in (19, 39) and value == expected / 2:
            raise Wrong(f"Epoch {epoch} of 100 is halved too early: counted from 0, the fifth ends after it.")
        if not abs(value - expected) <= 1e-9:
            raise Wrong(f"Epoch {epoch} of 100 has {value:.2e}, but {expected:.2e} was expected: {halvings} halvings.")
    if not abs(number(call(answer, 8, 10, 1.0)) - 1 / 16) <= 1e-9:
        raise Wrong("Of 10 epochs, a fifth are 2: epoch 8 has seen 4 halvings. Use the argument `epochs`.")
    try:
        first = number(call(answer, 0, 3, 1.0))
    except ZeroDivisionError:
        raise Wrong(
            "For 3 epochs it divides by zero: 3 // 5 is 0. Count completed fifths, 5 * epoch // epochs."
        ) from None
    if first != 1.0:
        raise Wrong(f"For 3 epochs it begins at {first:g} times the start; the first epoch has the full rate.")
    if not abs(number(call(answer, 8, 9, 1.0)) - 1 / 16) <= 1e-9:
        raise Wrong("Of 9 epochs, a fifth are 1.8, and epoch 8 has seen 4 of them: `epochs // 5` loses the remainder.")


def _bounded(restored: torch.Tensor, decoded: torch.Tensor, tau: float) -> torch.Tensor:
    return restored.clamp(decoded - tau, decoded + tau)


@exercise("3.5", course=_bounded)
def bounded(answer: Callable) -> None:
    """my_bounded(restored, decoded, tau): the picture nearest to `restored` within `tau` of `decoded` everywhere."""
    decoded = torch.linspace(0.3, 0.7, 40).view(1, 5, 8)
    change = 0.1 * torch.sin(torch.arange(40.0)).view(1, 5, 8)
    tau = 0.05
    value = tensor(call(answer, decoded + change, decoded, tau), (1, 5, 8))
    expected = _bounded(decoded + change, decoded, tau)
    if close(value, change.clamp(-tau, tau), 1e-5):
        raise Wrong("That is the allowed change alone; it belongs on top of `decoded`.")
    if close(value, (decoded + change).clamp(-tau, tau), 1e-5):
        raise Wrong("The limits are not −tau and tau, but that far to both sides of `decoded`.")
    if (value - decoded).abs().max() > tau + 1e-5:
        raise Wrong(f"Somewhere it is {(value - decoded).abs().max():.3f} away from `decoded`; tau is {tau}.")
    free = change.abs() < tau
    if not close(value[free], (decoded + change)[free], 1e-5):
        raise Wrong("Pixels that were within tau already have changed; the nearest picture leaves them alone.")
    if not close(value, expected, 1e-5):
        raise Wrong("Pixels beyond the limit should come to lie on it: clamp between decoded − tau and decoded + tau.")


def _interval(coefficients: torch.Tensor, stored: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return coefficients.clamp((stored - 0.5) * table, (stored + 0.5) * table)


@exercise("3.6", course=_interval)
def interval(answer: Callable) -> None:
    """my_interval(coefficients, stored, table): (N, 8, 8) moved to where JPEG rounds to the stored integers."""
    table = 10.0 + 3 * torch.arange(64.0).view(8, 8)
    stored = (4 * torch.sin(torch.arange(128.0))).round().view(2, 8, 8)
    coefficients = (stored + 1.6 * torch.cos(7 * torch.arange(128.0)).view(2, 8, 8)) * table
    value = tensor(call(answer, coefficients, stored, table), (2, 8, 8))
    if close(value, stored * table, 0.01):
        raise Wrong("That is the decoded file again; what the network found inside the intervals should stay.")
    if close(value, coefficients.clamp(stored - 0.5, stored + 0.5), 0.01):
        raise Wrong("The integers count steps of the table: multiply the limits by it.")
    if close(value, coefficients.clamp((stored - 1) * table, (stored + 1) * table), 0.01):
        raise Wrong("The interval is twice too wide: rounding moves a quotient by at most one half.")
    if close(value, coefficients.clamp(stored * table - 0.5, stored * table + 0.5), 0.01):
        raise Wrong("Half a step is half of the *table entry*, not 0.5.")
    if not close(value, _interval(coefficients, stored, table), 0.01):
        raise Wrong("Clamp each coefficient between (stored − ½)·table and (stored + ½)·table.")
