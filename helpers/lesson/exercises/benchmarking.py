"""Checks of notebook 6: means, leaks, rates and intervals."""

import operator
import os
from collections.abc import Callable, Iterator

import numpy as np
import torch

from ... import degradations, detective, images
from .examine import Wrong, blame, call, examined, exercise, tensor, two

Curve = list[tuple[float, float]]  # (bits per pixel, dB), rising

USUAL = "MATLAB, Pillow", "Y 16-235", "Y in 8 bits", 3
SEVEN = {  # how seven people measured bicubic at ×3; the rest of a protocol is the usual one
    "A": USUAL,
    "B": ("MATLAB, Pillow", "RGB", "RGB in 8 bits, Y not", 0),
    "C": ("OpenCV, torch", "RGB", "RGB in 8 bits, Y not", 3),
    "D": (*USUAL, "all", "of PSNRs", "1 on [-1, 1]"),
    "E": ("MATLAB, Pillow", "Y 0-255", "Y in 8 bits", 3),
    "F": ("MATLAB, Pillow", "RGB", "RGB in 8 bits, Y not", 0, "all", "of PSNRs", "255 on [0, 1]"),
    "G": ("OpenCV, torch", "Y 16-235", "RGB in 8 bits, Y not", 3),
}
OURS = [(0.054, 31.0), (0.071, 32.0), (0.139, 34.0), (0.227, 36.0), (0.284, 37.0), (0.7, 42.0)]
THEIRS = [(0.146, 30.0), (0.227, 31.0), (0.316, 33.0), (0.388, 36.0), (0.467, 38.0)]
RANDOM = torch.Generator().manual_seed(0)
REFERENCES = [torch.randint(40, 200, (1, side, side + 4), generator=RANDOM, dtype=torch.uint8) for side in (8, 16, 40)]
ERRORS = [torch.randint(-e, e + 1, r.shape, generator=RANDOM) for e, r in zip((2, 8, 30), REFERENCES, strict=True)]


def seven_numbers(path: os.PathLike) -> dict[str, float]:
    """What seven people, A to G, print as the PSNR of bicubic at ×3 on one picture."""
    mse = detective.errors([path], "sr-x3")
    protocols = {name: detective.Protocol(*how) for name, how in SEVEN.items()}
    return {name: round(float(detective.decibels(mse, *how[4:])[how[:4]]), 2) for name, how in protocols.items()}


def _decibels(squares: list[torch.Tensor], peak: float = 255) -> torch.Tensor:
    return 10 * torch.log10(peak**2 / torch.stack([s.double().mean() for s in squares]))


@exercise("6.1", ([(r + e).to(torch.uint8) for r, e in zip(REFERENCES, ERRORS, strict=True)], REFERENCES), within=0.01)
def set_psnr(pictures: list[torch.Tensor], references: list[torch.Tensor]):
    """my_set_psnr(pictures, references): the mean of the PSNR of each, uint8 pictures (1, H, W) of different size."""
    pairs = list(zip(pictures, references, strict=True))
    squares = [(p.double() - r.double()).square() for p, r in pairs]
    each = _decibels(squares)
    yield each.mean()
    worst, pooled = [torch.stack([s.mean() for s in squares])], [torch.cat([s.flatten() for s in squares])]
    wrapped = [[(p - r).square(), (p - r).double().square()] for p, r in pairs]
    pixels = torch.tensor([float(p.numel()) for p in pictures])
    yield {
        "That is a number for each picture; the set has one, their mean.": each,
        "That is the sum; the set has the mean.": each.sum(),
        "That is the PSNR of the mean error: the worst picture decides alone.": _decibels(worst)[0],
        "All errors are in one pot: large and bad pictures decide. Each picture counts once.": _decibels(pooled)[0],
        "The peak of 8-bit pictures is 255.": _decibels(squares, peak=1).mean(),
        "uint8 wraps round: 3 − 5 is 254. Make floats of them before you subtract.": lambda value: any(
            abs(value - _decibels(squares).mean()) < 0.01 for squares in zip(*wrapped, strict=True)
        ),
        "Each picture counts once, however large it is.": (each * pixels).sum() / pixels.sum(),
        "For each picture 10·log₁₀(255² / MSE), of floats; then the mean of these numbers.": True,
    }


@examined("6.2")
def copies(answer: Callable) -> None:
    """my_copies(train, test): the places in `test`, uint8 (1, 32, 32) each, of pictures that are in `train`, too."""
    whole = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = [images.to_uint8(p) for p in torch.nn.functional.interpolate(whole, size=32, mode="bicubic")]
    dim, dimmer = (100 + pictures[place] // 6 for place in (1, 6))  # in both a few gray levels, and not the same ones
    coded = images.to_uint8(degradations.jpeg(images.to_float(pictures[4]), 60))
    other = torch.empty_like(pictures[0])  # another picture that has just the gray levels of one
    other.view(-1)[pictures[8].flatten().argsort()] = pictures[0].flatten().sort().values
    half = torch.cat([pictures[0][:, :8], pictures[8][:, 8:]], dim=1)  # a copy at its top alone
    tests = [pictures[5], pictures[2], pictures[6], coded, pictures[7], other, half, dim]
    value = call(answer, [*pictures[:5], dimmer], tests)
    try:
        value = value.tolist() if hasattr(value, "tolist") else list(value)
        found = {operator.index(place) for place in value}
    except TypeError:
        raise Wrong("Return the places as whole numbers, such as [0, 2].") from None
    truths = len(value) == len(tests) and all(isinstance(v, bool) for v in value)
    missed, others = min({1, 3} - found, default=None), min(found - {1, 3}, default=None)
    blame({
        "Those are truths, one for each picture; return the places of the true ones.": truths,
        "One copy went through JPEG, and no longer has the same bytes. Ask for a small difference, "
        "of floats (in uint8, 3 − 5 is 254). Here JPEG moves gray levels by about 3.": found == {1},
        "Those are places in `train`; where in `test` are they?": found == {2, 4},
        f"Picture {missed} of the test set is in the training set, too, and was not found.": missed is not None,
        f"Picture {others} is no copy: it differs by far more than a file format would.": others is not None,
        "A place is named twice.": len(value) > len(found),
    })  # fmt: skip


@exercise("6.3", (OURS, THEIRS), within=0.1)
def bd_rate(curve: Curve, anchor: Curve):
    """my_bd_rate(curve, anchor): Bjøntegaard's delta rate in percent, of (bits per pixel, dB) points that rise."""

    def logs(low: float = 31, high: float = 38, line: Callable = np.log) -> np.ndarray:
        """Logarithms of both curves' rates, (2, N), where `line` of the rate is straight between the points."""
        qualities = np.linspace(low, high, 7001)
        rates = np.array([np.interp(qualities, [q for _, q in c], line([r for r, _ in c])) for c in (curve, anchor)])
        return rates if line is np.log else np.log(rates)

    def percent(first: np.ndarray, second: np.ndarray) -> float:
        return 100 * (np.exp(np.mean(first - second)) - 1)

    first, second = logs()
    yield (right := percent(first, second))
    linear = logs(line=np.array)
    measured = sorted({round(1000 * (quality - 31)) for _, quality in curve + anchor if 31 <= quality <= 38})
    yield {
        "That is how many more bits the anchor takes; which of the two is asked?": percent(second, first),
        "The sign is wrong: fewer bits than the anchor's are less than 0 %.": -right,
        "That is a share; asked are percent.": right / 100,
        "Those are means of rates; average their *logarithms*.": percent(*np.log(np.exp(linear).mean(1))),
        "That is the mean difference of the logarithms; make percent of it.": np.mean(first - second),
        "Less 1: a quotient of 1 is a difference of 0 %.": 100 * np.exp(np.mean(first - second)),
        "Of log₁₀ the inverse is 10**x, not exp.": 100 * (np.exp(np.mean(first - second) / np.log(10)) - 1),
        "A hundred times a logarithm is not a percentage: 100·(exp(…) − 1).": 100 * np.mean(first - second),
        "Average the *logarithms*; else large files decide.": percent(*np.log(np.exp(logs()).sum(1))),
        "That is the mean of ratios; average their logarithms, then exp.": 100 * (np.exp(first - second).mean() - 1),
        "Average over all qualities evenly, not over the measured ones.": percent(first[measured], second[measured]),
        "The lines are straight in log(rate), not in the rate.": percent(*linear),
        "Only qualities that both curves reach may count, 31 to 38 dB.": percent(*logs(30, 42)),
        "The anchor reaches 30 dB, but `curve` begins at 31, and np.interp goes on flat.": percent(*logs(30, 38)),
        "That is the middle alone; it is to be a mean over all qualities.": percent(first[3500], second[3500]),
        "log(rate) of both at qualities from 31 to 38 dB; their mean difference; its exp, less 1, in percent.": True,
    }


@examined("6.4")
def bootstrap(answer: Callable) -> None:
    """my_bootstrap(differences): limits of the middle 95 % of means of n numbers, drawn with replacement from (n,)."""
    numbers = 0.2 + torch.randn(60, generator=torch.Generator().manual_seed(0))
    mean, error = numbers.mean().item(), (numbers.std() / len(numbers) ** 0.5).item()

    def limits(sample: torch.Tensor) -> Iterator[float]:
        value = call(answer, sample)
        pair = two(value.tolist() if hasattr(value, "tolist") else value, "limits")
        return (tensor(limit, torch.tensor(0.0)).item() for limit in pair)

    low, high = limits(numbers)
    least, most = limits(torch.eye(10)[0])  # of 1,000 means of ten of these, 13 are above 0.3
    share = (high - low) / (2 * 1.96 * error)
    lopsided = max(abs(low - mean + 1.96 * error), abs(high - mean - 1.96 * error)) > 0.2 * error
    outside = not low - 1e-6 < mean < high + 1e-6  # float32
    width = f"It is {share:.2f} times as wide as it should be"
    blame({
        "The lower limit is above the upper one.": low > high,
        f"Both are below {mean:.3f}, the mean: np.percentile takes percent, np.quantile shares.": high < mean - 1e-6,
        f"From {low:.3f} to {high:.3f} it does not hold the mean of the sample, {mean:.3f}.": outside,
        "It is as wide as the numbers are spread; asked is how surely their *mean* is known.": share > 4,
        "It has no width: draw *with* replacement, or each sample holds the same numbers.": share < 0.05,
        f"{width}: that is 90 %; how much lies on either side of 95?": 0.8 < share < 0.88,
        f"{width}: that is 98 %; how much lies on either side of 95?": 1.15 < share < 1.25,
        f"{width}: samples of all n numbers; of their means, cut off 2.5 % on either side.": 1.25 <= share < 2.2,
        f"{width}: thousands of samples of all n, and their means.": not 0.9 < share < 1.1,
        "It is as wide as it should be, but lopsided: draw thousands, and cut off as many below as above.": lopsided,
        f"Of a one and nine zeros your lower limit is {least:.2f}. No mean of drawn numbers is below 0.": least < 0,
        f"Of a one and nine zeros your upper limit is {most:.2f}, not 0.3: draw as many as are given.": most < 0.24,
    })  # fmt: skip
