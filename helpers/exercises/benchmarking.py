"""Checks of notebook 6: means, leaks, rates and intervals."""

import math
import operator
from collections.abc import Callable

import numpy as np
import torch

from .. import degradations, images
from .examine import Wrong, call, exercise, known, number, two


@exercise("6.1")
def set_psnr(answer: Callable) -> None:
    """my_set_psnr(pictures, references): the mean of the PSNR of each, uint8 pictures (1, H, W) of different size."""
    generator = torch.Generator().manual_seed(0)
    references = [torch.randint(40, 200, (1, side, side + 4), generator=generator) for side in (8, 16, 40)]
    errors = [
        torch.randint(-e, e + 1, r.shape, generator=generator) for e, r in zip((2, 8, 30), references, strict=True)
    ]
    pictures = [(r + e).to(torch.uint8) for r, e in zip(references, errors, strict=True)]
    mses = [e.double().square().mean().item() for e in errors]
    each = [10 * math.log10(255**2 / mse) for mse in mses]
    value = call(answer, pictures, [r.to(torch.uint8) for r in references])
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        raise Wrong("It returned a number for each picture; the set has one, their mean.")
    value = number(value)
    pooled = sum(e.double().square().sum().item() for e in errors) / sum(e.numel() for e in errors)
    wrapped = [e.to(torch.uint8).to(torch.uint8).pow(2).double().mean().item() for e in errors]
    mistakes = {
        sum(each): "That is the sum; the set has the mean.",
        10 * math.log10(255**2 * 3 / sum(mses)): "That is the PSNR of the mean error: the worst picture decides alone.",
        10
        * math.log10(
            255**2 / pooled
        ): "All errors are in one pot: large and bad pictures decide. Each picture counts once.",
        sum(each) / 3 - 20 * math.log10(255): "The peak of 8-bit pictures is 255.",
        sum(10 * math.log10(255**2 / w) for w in wrapped)
        / 3: "uint8 wraps round: 3 − 5 is 254. Make floats of them first.",
    }
    known(value, mistakes)
    if not abs(value - sum(each) / 3) <= 0.01:
        raise Wrong(f"It gives {value:.2f} dB where {sum(each) / 3:.2f} dB is right.")


@exercise("6.2")
def copies(answer: Callable) -> None:
    """my_copies(train, test): the places in `test`, uint8 (1, 32, 32) each, of pictures that are in `train`, too."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.rand(9, 1, 8, 8, generator=generator)
    pictures = [images.to_uint8(p) for p in torch.nn.functional.interpolate(whole, size=32, mode="bicubic").clamp(0, 1)]
    coded = images.to_uint8(degradations.jpeg(images.to_float(pictures[4]), 60))
    turned = pictures[0].flip(-1)  # another picture of the same brightness, to the last digit
    train, test = pictures[:5], [pictures[5], pictures[2], pictures[6], coded, pictures[7], turned]
    value = call(answer, train, test)
    try:
        found = {operator.index(place) for place in value}
    except TypeError:
        raise Wrong("Return the places as whole numbers, such as [0, 2].") from None
    if isinstance(value, list | tuple) and len(value) == len(test) and all(isinstance(v, bool) for v in value):
        raise Wrong("Those are truths, one for each picture; return the places of the true ones.")
    if found == {1}:
        raise Wrong("One copy went through JPEG, and no longer has the same bytes. Ask for a small difference.")
    if found == {2, 4}:
        raise Wrong("Those are places in `train`; where in `test` are they?")
    if missed := {1, 3} - found:
        raise Wrong(f"Picture {min(missed)} of the test set is in the training set, too, and was not found.")
    if found != {1, 3}:
        raise Wrong(f"Picture {min(found - {1, 3})} is no copy: it differs by far more than a file format would.")


@exercise("6.3")
def bd_rate(answer: Callable) -> None:
    """my_bd_rate(curve, anchor): Bjøntegaard's delta rate in percent, of (bits per pixel, dB) points that rise."""
    theirs = [(0.1, 30.0), (0.115, 31.0), (0.15, 33.0), (0.24, 36.0), (0.45, 38.0)]
    ours = [(0.06, 31.0), (0.064, 32.0), (0.09, 34.0), (0.15, 36.0), (0.23, 37.0), (0.7, 42.0)]
    shared, union = np.linspace(31, 38, 7001), np.linspace(30, 42, 7001)

    def logs(qualities: np.ndarray) -> list[np.ndarray]:
        return [np.interp(qualities, [q for _, q in c], np.log([r for r, _ in c])) for c in (ours, theirs)]

    first, second = logs(shared)
    difference = np.mean(first - second)
    value, right = number(call(answer, ours, theirs)), 100 * (np.exp(difference) - 1)
    rates = [np.interp(shared, [q for _, q in c], [r for r, _ in c]) for c in (ours, theirs)]
    middle = logs(np.array([34.5]))
    mistakes = {
        100 * (np.exp(-difference) - 1): "That is how many more bits the anchor takes; which of the two is asked?",
        -right: "The sign is wrong: fewer bits than the anchor's are less than 0 %.",
        right / 100: "That is a share; asked are percent.",
        100 * (rates[0].mean() / rates[1].mean() - 1): "Those are means of rates; average their *logarithms*.",
        difference: "That is the mean difference of the logarithms; make percent of it: 100·(exp(…) − 1).",
        100 * difference: "Percent of a logarithm are no percent: 100·(exp(…) − 1).",
        100 * (np.exp(first).sum() / np.exp(second).sum() - 1): "Average the *logarithms*; else large files decide.",
        100
        * (np.exp(first - second).mean() - 1): "That is the mean of ratios; average their logarithms, then take exp.",
        100
        * (np.exp(np.mean(np.log(rates[0] / rates[1]))) - 1): "The lines are straight in log(rate), not in the rate.",
        100
        * (
            np.exp(np.subtract(*logs(union)).mean()) - 1
        ): "Only qualities that both curves reach may count, 31 to 38 dB.",
        100
        * (
            np.exp(middle[0] - middle[1]).item() - 1
        ): "That is the middle alone; it is to be a mean over all qualities.",
    }
    known(value, mistakes, 0.1)
    if not abs(value - right) <= 0.2:
        raise Wrong(f"It gives {value:.1f} % where {right:.1f} % is right.")


@exercise("6.4")
def bootstrap(answer: Callable) -> None:
    """my_bootstrap(differences): the limits between which the mean of (n,) numbers lies with a confidence of 95 %."""
    numbers = 0.2 + torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, error = numbers.mean().item(), (numbers.std() / len(numbers) ** 0.5).item()
    value = call(answer, numbers)
    value = value.tolist() if hasattr(value, "tolist") else value  # a tensor or an array of two will do
    low, high = (number(limit) for limit in two(value, "limits"))
    if low > high:
        raise Wrong("The lower limit is above the upper one.")
    if not low < mean < high:
        raise Wrong(f"From {low:.3f} to {high:.3f} it does not hold the mean of the sample, {mean:.3f}.")
    share = (high - low) / (2 * 1.96 * error)
    if share > 4:
        raise Wrong("It is as wide as the numbers are spread; asked is how surely their *mean* is known.")
    if share < 0.05:
        raise Wrong("It has no width: draw *with* replacement, or each sample is the same numbers in another order.")
    if 0.8 < share < 0.88 or 1.15 < share < 1.25:  # 90 or 98 % instead of 95
        raise Wrong(f"It is {share:.2f} times as wide as it should be: beyond 95 %, how much lies on either side?")
    if not 0.9 < share < 1.1:
        raise Wrong(f"It is {share:.2f} times as wide as it should be: thousands of samples of all n, and their means.")
    if max(abs(low - mean + 1.96 * error), abs(high - mean - 1.96 * error)) > 0.2 * error:
        raise Wrong("It is as wide as it should be, but lopsided: as many means should lie below it as above it.")
