"""Checks of notebook 4: bits, what they cost, and a thermometer."""

import math
from collections.abc import Callable

import torch

from .examine import compare, exercise


def _entropy(p: torch.Tensor) -> torch.Tensor:
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)


@exercise("4.1", course=_entropy)
def entropy(answer: Callable) -> None:
    """my_entropy(p): bits that a binary symbol costs, for a tensor of shares of ones; 0 where p is 0 or 1."""
    p, ends = torch.tensor([0.5, 0.1, 0.02, 0.9]), torch.tensor([0.0, 1.0])
    mistakes = {
        "Those are nats: bits want the logarithm to base 2.": _entropy(p) * math.log(2),
        "The sign is wrong: logarithms of probabilities are negative, bits are not.": -_entropy(p),
        "Zeros cost something, too: add the term of 1 − p.": -p * p.log2(),
    }
    compare(answer, (p,), _entropy(p), mistakes, within=1e-3)
    compare(answer, (ends,), ends * 0, {}, "A bit that is always the same tells nothing. Mind 0 · log 0.")


def _largest(coefficients: torch.Tensor, count: int, order: Callable = torch.abs) -> torch.Tensor:
    sizes = order(coefficients)
    smallest = sizes.flatten(1).topk(count).values[:, -1, None, None]  # that is kept, of each block
    return torch.where(sizes >= smallest, coefficients, 0)


@exercise("4.2", course=_largest)
def largest(answer: Callable) -> None:
    """my_largest(coefficients, count): all but the `count` largest in absolute value set to zero, in each block."""
    blocks = torch.sin(torch.arange(128.0) ** 1.3).view(2, 8, 8) * torch.tensor([1.0, 9.0]).view(2, 1, 1)
    both, right = blocks.view(1, 16, 8), _largest(blocks, 4)
    mistakes = {
        "Large negative coefficients matter as much: compare absolute values.": _largest(blocks, 4, order=torch.clone),
        "That is a mask; return the coefficients themselves where it is one.": right.ne(0),
        "Take the largest of each block, not of all blocks together.": _largest(both, 4).view(2, 8, 8),
        "Take 4 of each block, not 8 of both together.": _largest(both, 8).view(2, 8, 8),
        "It keeps one too many of each block: 5, not 4.": _largest(blocks, 5),
    }
    compare(answer, (blocks, 4), right, mistakes, "Of each block, the 4 largest stay as they are.")


def _thermometer(level: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    return (level > thresholds).float()


@exercise("4.3", course=_thermometer)
def thermometer(answer: Callable) -> None:
    """my_thermometer(level, thresholds): a row of bits, one where the level is above the threshold."""
    thresholds = torch.arange(-2.5, 3.0)
    for level in torch.tensor([1.2, -3.0, 9.0]):
        right = _thermometer(level, thresholds)
        mistakes = {
            "It is upside down: bits below the level are one.": 1 - right,
            "Only one bit is set; a thermometer is filled up to the level.": right
            - _thermometer(level, thresholds + 1),
            "Some are neither 0 nor 1: those are shades, and a file holds bits.": lambda v: ((v > 0) & (v < 1)).any(),
            "Those are signs, −1 and 1; bits are 0 and 1.": (level - thresholds).sign(),
        }
        hint = f"For the level {level:g}, {right.int().tolist()} was expected."
        compare(answer, (level, thresholds), right, mistakes, hint)


@exercise("4.4")
def code_length(answer: Callable) -> None:
    """my_bits(level, mean, scale): −log₂ of what a Laplace distribution gives to level − ½ … level + ½."""
    level, mean = torch.tensor([0.0, 1.0, -3.0, 2.0]), torch.tensor([0.0, 0.4, 0.0, 2.2])
    scale = torch.tensor([1.0, 0.5, 2.0, 0.3])
    model = torch.distributions.Laplace(mean, scale)
    share = model.cdf(level + 0.5) - model.cdf(level - 0.5)
    mistakes = {
        "Those are probabilities; bits are −log₂ of them.": share,
        "Those are nats: bits want the logarithm to base 2.": -share.log(),
        "That is the density at a point, not the share of an interval.": -model.log_prob(level) / math.log(2),
    }
    compare(answer, (level, mean, scale), -share.log2(), mistakes, "How much lies between level ± ½?", within=1e-3)
