"""Checks of notebook 4: bits, what they cost, and a thermometer."""

import math
from collections.abc import Callable

import torch

from .examine import Wrong, call, close, exercise, tensor


def _entropy(p: torch.Tensor) -> torch.Tensor:
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)


@exercise("4.1", course=_entropy)
def entropy(answer: Callable) -> None:
    """my_entropy(p): bits that a binary symbol costs, for a tensor of shares of ones; 0 where p is 0 or 1."""
    p = torch.tensor([0.5, 0.1, 0.02, 0.9])
    expected = _entropy(p)
    value = tensor(call(answer, p), (4,))
    if close(value, expected * math.log(2), 1e-3):
        raise Wrong("Those are nats: bits want the logarithm to base 2.")
    if close(value, -expected, 1e-3):
        raise Wrong("The sign is wrong: logarithms of probabilities are negative, bits are not.")
    if close(value, -p * p.log2(), 1e-3):
        raise Wrong("Zeros cost something, too: add the term of 1 − p.")
    if not close(value, expected, 1e-3):
        raise Wrong(f"For p = 0.1 it gives {value[1]:.3f} where {expected[1]:.3f} was expected.")
    ends = tensor(call(answer, torch.tensor([0.0, 1.0])), (2,))
    if not close(ends, torch.zeros(2), 1e-3):
        raise Wrong("For p = 0 and 1 it should give 0: a bit that is always the same tells nothing. Mind 0 · log 0.")


def _largest(coefficients: torch.Tensor, count: int, order: Callable = torch.abs) -> torch.Tensor:
    sizes = order(coefficients)
    smallest = sizes.flatten(1).topk(count).values[:, -1, None, None]  # that is kept, of each block
    return torch.where(sizes >= smallest, coefficients, 0)


@exercise("4.2", course=_largest)
def largest(answer: Callable) -> None:
    """my_largest(coefficients, count): all but the `count` largest in absolute value set to zero, in each block."""
    blocks = torch.sin(torch.arange(128.0) ** 1.3).view(2, 8, 8) * torch.tensor([1.0, 9.0]).view(2, 1, 1)
    value = tensor(call(answer, blocks, 4), (2, 8, 8))
    expected = _largest(blocks, 4)
    if close(value, _largest(blocks, 4, order=torch.clone), 1e-6):
        raise Wrong("Large negative coefficients matter as much as positive ones: compare absolute values.")
    if close(value, expected.ne(0).float(), 1e-6):
        raise Wrong("That is a mask; return the coefficients themselves where it is one.")
    if value.ne(0).sum(dim=(1, 2)).tolist() == [0, 8] or value[0].abs().max() == 0:
        raise Wrong("Take the largest of each block, not of all blocks together.")
    if not close(value, expected, 1e-6):
        kept = value.ne(0).sum(dim=(1, 2)).tolist()
        raise Wrong(f"Of blocks with 64 coefficients it keeps {kept}; the 4 largest of each were asked for.")


def _thermometer(level: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    return (level > thresholds).float()


@exercise("4.3", course=_thermometer)
def thermometer(answer: Callable) -> None:
    """my_thermometer(level, thresholds): a row of bits, one where the level is above the threshold."""
    thresholds = torch.arange(-2.5, 3.0)
    for level in torch.tensor([1.2, -3.0, 9.0]):
        value = tensor(call(answer, level, thresholds), (6,))
        wanted = _thermometer(level, thresholds)
        if close(value, 1 - wanted, 1e-6):
            raise Wrong("It is upside down: bits below the level are one.")
        if value.sum() == 1 and wanted.sum() > 1:
            raise Wrong("Only one bit is set; a thermometer is filled from below up to the level.")
        if ((value > 0) & (value < 1)).any():
            raise Wrong("Some are neither 0 nor 1: those are shades, and a file holds bits.")
        if value.min() == -1:
            raise Wrong("Those are signs, −1 and 1; bits are 0 and 1.")
        if not close(value, wanted, 1e-6):
            raise Wrong(f"The level {level:g} gives {value.int().tolist()}; {wanted.int().tolist()} was expected.")


@exercise("4.4")
def code_length(answer: Callable) -> None:
    """my_bits(level, mean, scale): −log₂ of what a Laplace distribution gives to level − ½ … level + ½."""
    level = torch.tensor([0.0, 1.0, -3.0, 2.0])
    mean, scale = torch.tensor([0.0, 0.4, 0.0, 2.2]), torch.tensor([1.0, 0.5, 2.0, 0.3])

    def below(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x < mean, ((x - mean) / scale).exp() / 2, 1 - ((mean - x) / scale).exp() / 2)

    probability = below(level + 0.5) - below(level - 0.5)
    value = tensor(call(answer, level, mean, scale), (4,))
    if close(value, probability, 1e-3):
        raise Wrong("Those are probabilities; bits are −log₂ of them.")
    if close(value, -probability.log(), 1e-3):
        raise Wrong("Those are nats: bits want the logarithm to base 2.")
    density = (-(level - mean).abs() / scale).exp() / (2 * scale)
    if close(value, -density.log2(), 1e-3):
        raise Wrong(
            "That is the density at a point; a level stands for all numbers that round to it: take an interval."
        )
    if not close(value, -probability.log2(), 1e-3):
        raise Wrong(
            f"For level 0, mean 0, scale 1 it gives {value[0]:.3f} where {-probability[0].log2():.3f} is right."
        )
