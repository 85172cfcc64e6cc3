"""Every check: right answers, each of its mistakes, other wrong answers, and no exception ever.

And what `check.progress` says of the answers in a folder's saved notebooks.
"""

import functools
import math
import re

import nbformat
import numpy as np
import pytest
import torch
from nbformat import v4
from scipy import stats
from scipy.fft import dctn, idctn
from torch import nn

from helpers import images, metrics
from helpers.lesson import exercises as check

CHECKS = {name: function for name, function in vars(check).items() if hasattr(function, "label")}
CHECKS = {name: function for name, function in CHECKS.items() if not hasattr(function, "network")}  # see test_build
NAN, D = math.nan, check.jpeg_restorer.D


def mse(a, b):
    return (a - b).square().mean()


def decibels(a, b, peak):
    return math.inf if torch.equal(a, b) else 10 * math.log10(peak**2 / mse(a, b))


def oriented(t, k):
    t = torch.rot90(t, k % 4, (1, 2))
    return t.flip(2) if k >= 4 else t


def by(sources, tested):
    """Numbers to train on and to test on, by a rule for what is tested."""
    return tuple([i for i, source in enumerate(sources) if tested(source) == side] for side in (False, True))


def inner(t, border):
    return t[..., border : t.shape[-2] - border, border : t.shape[-1] - border]


def cornered(t, border):
    """As large as `inner`, but cut from the top left."""
    return t[..., : t.shape[-2] - 2 * border, : t.shape[-1] - 2 * border]


def steps(image):
    squares = image.diff(dim=-1).square()
    border = torch.arange(squares.shape[-1]) % 8 == 7
    return (squares[..., border].mean() - squares[..., ~border].mean()).item()


def whole(blocks, table):
    """JPEG's round trip with a transform of all axes: right for one block alone."""
    stored = (dctn(blocks.numpy() - 128, norm="ortho") / table.numpy()).round() * table.numpy()
    return torch.from_numpy(idctn(stored, norm="ortho") + 128)


def near(train, test, limit):
    return [i for i, t in enumerate(test) if any((t.float() - p.float()).abs().mean() < limit for p in train)]


def means(pictures):
    return [picture.float().mean() for picture in pictures]


def resampled(numbers, quantiles=(0.025, 0.975), count=None):
    draws = 4000, count or len(numbers)
    drawn = numbers[torch.randint(len(numbers), draws, generator=torch.Generator().manual_seed(1))]
    return drawn.mean(1).quantile(torch.tensor(quantiles, dtype=torch.float32))


def bd_rate(ours, theirs, low=31):
    """From the quality `low` on; below 31, which the anchor alone reaches, np.interp repeats the first rate of ours."""
    logs = [np.interp(np.linspace(low, 38, 1000), [q for _, q in c], np.log([r for r, _ in c])) for c in (ours, theirs)]
    return 100 * (np.exp((logs[0] - logs[1]).mean()) - 1)


def by_change(network, x):
    """The columns of `x` whose change changes the middle of network(x)."""
    before = network(x)
    at = (..., before.shape[-2] // 2, before.shape[-1] // 2)
    moved = [network(x + (torch.arange(x.shape[-1]) == column))[at] != before[at] for column in range(x.shape[-1])]
    moved = [column for column, seen in enumerate(moved) if seen.any()]
    return moved[-1] - moved[0] + 1


def seen(network, x, middle_of=None, dim=1, counts=torch.abs):
    """From the first to the last place of `x`, along an axis, where a gradient of a middle pixel of network(x) counts.

    By default all but 0 do.
    """
    made = network(x.requires_grad_())
    height, width = (made if middle_of is None else middle_of).shape[-2:]
    gradient = torch.autograd.grad(made[0, 0, height // 2, width // 2], x)[0][0, 0]
    places = counts(gradient).nonzero()[:, dim]
    return places.max() - places.min() + 1


def price(level, mean, scale, log2=torch.log2):
    model = torch.distributions.Laplace(mean, scale)
    return -log2(model.cdf(level + 0.5) - model.cdf(level - 0.5))


def bands_index(a, b):
    """Of N pictures' bands, one picture after the other."""
    found = []
    for picture in zip(*a, *b, strict=True):
        pairs = list(zip(picture[:4], picture[4:], strict=True))
        low, *levels = [(2 * (c * d).sum() + 0.01) / ((c**2).sum() + (d**2).sum() + 0.01) for c, d in pairs]
        found.append(0.2 * low + 0.8 * sum(levels) / 3)
    return found


def around(t, edge=math.inf):
    """The eight places around each of a map, and itself, (1, 9, H·W); beyond the edge nothing is smaller."""
    return nn.functional.unfold(nn.functional.pad(t[None, None], (1, 1, 1, 1), value=edge), 3)


RIGHT = {  # written by another hand than the checks, as learners do
    "luma": lambda x: (
        (x * torch.tensor([65.481, 128.553, 24.966])[:, None, None]).sum(0, keepdim=True) / 255 + 16 / 255
    ),
    "psnr": decibels,
    "patch_count": lambda side, size, stride: len(range(0, side - size + 1, stride)),
    "turn": lambda x, y, k: (oriented(x, k), oriented(y, k)),
    "tiles": lambda x, n: torch.stack(
        [x[:, r : r + n, c : c + n] for r in range(0, x.shape[1], n) for c in range(0, x.shape[2], n)]
    ),
    "split": lambda sources, held: by(sources, lambda source: source in held),
    "sight": by_change,
    "receptive_field": lambda kernels: sum(kernels) - len(kernels) + 1,
    "loss_border": lambda x, y, border: mse(inner(x, border), inner(y, border)),
    "multiply_adds": lambda weights, scale, small: weights / scale**2 if small else weights,
    "halo": lambda before, middle, after: 2 * (1 + 2 * before + 2 * (2 * middle + after + 1)),
    "round_trip": lambda b, table: D.T @ ((D @ (b - 128) @ D.T / table).round() * table) @ D + 128,
    "blocking": lambda image: max(0.0, steps(image)),
    "learning_rate": lambda epoch, epochs, start: start * 0.5 ** int(epoch / (epochs / 5)),
    "bounded": lambda restored, decoded, tau: torch.minimum(torch.maximum(restored, decoded - tau), decoded + tau),
    "interval": lambda c, stored, table: (c / table).clamp(stored - 0.5, stored + 0.5) * table,
    "entropy": lambda p: sum(torch.where(q > 0, -q * q.clamp(min=1e-9).log2(), 0) for q in (p, 1 - p)),
    "largest": lambda c, n: c * (c.abs() >= c.abs().flatten(1).sort(descending=True).values[:, n - 1, None, None]),
    "code_length": lambda level, mean, scale: (
        -np.log2(stats.laplace.cdf(level + 0.5, mean, scale) - stats.laplace.cdf(level - 0.5, mean, scale))
    ),
    "known": lambda order: (around(order.float()) < order.flatten()).sum(1).view(order.shape),
    "measurements": lambda h, w, ratio, b: -(-h // b) * -(-w // b) * round(ratio * b * b),
    "consistent": lambda x, y, rows: x - torch.linalg.pinv(rows) @ (rows @ x - y),
    "block_sensing": lambda x, rows: (rows.flatten(1) @ nn.functional.unfold(x, 4, stride=4)).view(1, 3, 2, 3),
    "wavelet_index": bands_index,
    "quantizer": lambda y, m, bits: (y / m * (2 ** (bits - 1) - 1)).round() * m / (2 ** (bits - 1) - 1),
    "set_psnr": lambda p, r: sum(map(metrics.psnr, map(images.to_float, p), map(images.to_float, r))) / len(p),
    "copies": lambda train, test: (place for place in near(train, test, 8)),
    "bd_rate": bd_rate,
    "bootstrap": resampled,
}
ALSO_RIGHT = [
    ("sight", seen),
    ("psnr", lambda a, b, peak: 10 * torch.log10(peak**2 / mse(a, b))),  # a tensor, and infinite by itself
    ("turn", lambda x, y, k: tuple(torch.rot90(t.flip(2) if k % 2 else t, k // 2, (1, 2)) for t in (x, y))),
    ("blocking", lambda image: torch.tensor(steps(image)).clamp(min=0)),
    ("copies", lambda train, test: near([oriented(t, k) for t in train for k in range(8)], test, 8)),
]
WRONG = [  # beside the mistakes that a check knows by itself
    ("luma", lambda x: (images.luma(x) + 0.1).clamp(max=1), "65.481"),
    ("luma", lambda x: images.luma(x).numpy(), "returned ndarray, not a tensor"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak) + 1, "22.4898 where 21.4898 is right. It is 10·log₁₀"),
    ("psnr", lambda a, b, peak: [decibels(a, b, peak)].clear(), "returned nothing: does it end with return"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak**1.5), "(…, …, 255.0) is 45.5552 where 21.4898 is right"),
    ("psnr", lambda a, b, peak: 10 * math.log10(peak**2 / mse(a, b).item()), "make it fail"),
    ("psnr", lambda a, b, peak: min(decibels(a, b, peak), 100.0), "return math.inf"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak) if (a - b).mean() else math.inf, "cancel in the mean"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak) if mse(a, b) > 1e-8 else math.inf, "nearly equal"),
    ("psnr", lambda a, b, peak: decibels(255 * a, 255 * b, peak), "off by 48.13 dB"),
    ("psnr", lambda a, b, peak: decibels(a.clamp(0, 1), b.clamp(0, 1), peak), "255.0) is 65.93 where 21.4898"),
    ("psnr", lambda a, b, peak: "40 dB", "returned str, not a number"),
    ("psnr", lambda a, b, peak: (a - b).square(), "has the shape (3, 24, 32); that is not a number"),
    ("psnr", lambda a, b, peak: decibels(a, b.mul_(0.5).mul_(2.5), peak), "changes what it was given"),
    ("patch_count", lambda side, size, stride: side, "(10, 4, 2) is 10 where 4 is right"),
    ("patch_count", lambda side, size, stride: side // stride - size // stride + 1, "(512, 120, 72) is 7 where 6 is"),
    ("turn", lambda x, y, k: (oriented(x, k), y), "differently"),
    ("turn", lambda x, y, k: (oriented(x, k % 4), oriented(y, k % 4)), "4 orientations"),
    ("turn", lambda x, y, k: (oriented(x, (k + 1) % 8), oriented(y, (k + 1) % 8)), "k = 0 should"),
    ("turn", lambda x, y, k: (x + 1, y + 1), "not a turned"),
    ("turn", lambda x, y, k: (oriented(y, k), oriented(x, k)), "input first"),
    ("turn", lambda x, y, k: tuple(oriented(t[:1], k) for t in (x, y)), "not a turned"),
    ("turn", lambda x, y, k: tuple(torch.rot90(t, k, (1, 2)).reshape(t.shape) for t in (x, y)), "not a turned"),
    ("turn", lambda x, y, k: oriented(x, k), "return two pictures"),
    ("tiles", lambda x, tile: RIGHT["tiles"](x, tile)[:5], "shape (5, 2, 4, 4); (6, 2, 4, 4) was expected. In 2 rows"),
    ("split", lambda sources, held: RIGHT["split"](sources, held)[::-1], "swapped"),
    ("split", lambda sources, held: (range(5), range(5, 9)), "both sides"),
    ("split", lambda sources, held: ([0, 2], [1, 4, 5, 8]), "you returned 6 numbers"),
    ("split", lambda sources, held: ([0, 2, 3, 6, 6], [1, 4, 5, 8]), "The training side"),
    ("split", lambda sources, held: ([0, 1, 2, 4, 5, 8], [3, 6, 7]), "The test side"),
    ("split", lambda sources, held: ([0, 2, 3, 6, 7], [1, 4, 5, 9]), "0 to 8"),
    ("split", lambda sources, held: (["cat"], ["cup"]), "not their photographs"),
    ("split", lambda sources, held: 9, "returned int; return two lists"),
    ("split", lambda sources, held: by(sources, lambda s: any(part in s for part in held)), "cupboard is not a cup"),
    ("sight", lambda network, x: 13, "is 13 where 17 is right"),
    ("sight", lambda network, x: torch.autograd.grad(network(x).sum(), x), "must ask for a gradient"),
    ("sight", lambda network, x: seen(network, x, dim=0), "is 5 where 17 is right. Those are rows"),
    ("sight", lambda network, x: seen(network, x, counts=torch.relu), "A gradient may be negative"),
    ("sight", lambda network, x: seen(network, x, middle_of=x), "Take the middle of the *output*"),
    ("code_length", lambda *given: price(*given).sum(), "Each level has its own price"),
    ("code_length", lambda *given: price(*given).mean(), "Each level has its own price"),
    ("code_length", lambda *given: price(*given, log2=math.log2), "torch.log2 a tensor"),
    ("entropy", lambda p: -p * math.log2(p) - (1 - p) * math.log2(1 - p), "torch.log2 a tensor"),
    ("halo", lambda b, m, a: 6 + 2 * (b + 2 * m + a), "two 3×3 layers"),
    ("halo", lambda *blocks: RIGHT["halo"](*blocks) - 4, "round up"),
    ("halo", lambda *blocks: 62, "(1, 2, 1) is 62 where 30 is right"),
    ("loss_border", lambda x, y, border: mse(x, y), "border still counts"),
    ("loss_border", lambda x, y, b: mse(x[..., b:-b, b:-b], y[..., b:-b, b:-b]), "border of 0"),
    ("loss_border", lambda x, y, border: inner(x - y, border).abs().mean(), "mean of the squares over"),
    ("loss_border", lambda x, y, border: mse(inner(x, border), 0), "does not depend on the target"),
    ("loss_border", lambda x, y, border: mse(inner(y, border), 0), "does not depend on the prediction"),
    ("loss_border", lambda x, y, border: mse(inner(x, border), cornered(y, border)), "cut at different places"),
    ("loss_border", lambda x, y, border: mse(cornered(x, border), inner(y, border)), "cut at different places"),
    ("loss_border", lambda x, y, border: mse(inner(x, 3), inner(y, 3)), "is 0.1"),
    (
        "loss_border",
        lambda x, y, border: mse(inner(x[..., :12], border), inner(y[..., :12], border)),
        "has its own end",
    ),
    ("loss_border", lambda x, y, border: (inner(x, border) - inner(y, border)) ** 2, "that is not a number. Take the"),
    ("loss_border", lambda x, y, border: RIGHT["loss_border"](x, y, border).item(), "no gradient"),
    ("loss_border", lambda x, y, border: RIGHT["loss_border"](x, y, border).detach(), "no .item(), .detach() or"),
    ("loss_border", lambda x, y, border: np.square(inner(x - y, border).numpy()).mean(), "no .item(), .detach() or"),
    ("learning_rate", lambda epoch, epochs, start: start / 2 ** (epoch // 20), "argument `epochs`"),
    ("learning_rate", lambda epoch, epochs, start: start / 2 ** (epoch // (epochs // 5)), "divides by zero"),
    ("learning_rate", lambda epoch, epochs, start: start * 0.5 ** (epoch // max(1, epochs // 5)), "not a whole number"),
    ("learning_rate", lambda epoch, epochs, start: start * 0.5 ** (epoch // -(-epochs // 5)), "not a whole number"),
    ("learning_rate", lambda epoch, n, start: start * 0.5 ** (epoch // max(1, round(n / 5))), "not a whole number"),
    ("blocking", lambda image: max(0.0, steps(image.mean(-2, keepdim=True))), "over all rows"),
    ("blocking", lambda image: max(0.0, steps(image[..., :64])), "here 77"),
    ("blocking", lambda image: max(0.0, steps(image[:, :1])), "Compare each part"),
    ("blocking", lambda image: sum(max(0.0, steps(row[None])) for row in image[0]) / len(image[0]), "Stop at 0 last"),
    ("blocking", lambda image: max(0.0, steps(image.mT)), "along the last axis"),
    ("round_trip", lambda b, table: whole(b, table), "last two axes"),
    ("round_trip", lambda b, table: RIGHT["round_trip"](b, table) - 0.5, "as much as you subtracted"),
    ("round_trip", lambda b, table: RIGHT["round_trip"](b, table).round(), "Leave the pixels unrounded"),
    ("block_sensing", lambda x, rows: RIGHT["block_sensing"](x, rows).square(), "pixel by pixel"),
    ("block_sensing", lambda x, rows: RIGHT["block_sensing"](x - 0.5, rows), "off by a constant"),
    ("measurements", lambda h, w, r, b: math.ceil(h / b) ** 2 * round(r * b * b), "21 blocks of 3"),
    ("measurements", lambda h, w, r, b: math.ceil(h / 32) * math.ceil(w / 32) * round(r * 1024), "21 blocks of 3"),
    ("entropy", lambda p: -(p * p.log2() + (1 - p) * (1 - p).log2()), "0 · log 0"),
    ("bounded", lambda restored, decoded, tau: restored, "further than tau away"),
    ("known", lambda order: order.ndim * torch.ones_like(order), "whose pass is lower"),
    ("known", lambda order: RIGHT["known"](-order), "come later are not known"),
    ("known", lambda order: (around(order.float(), 100) < order.flatten()).sum(1).view(order.shape), "beyond the edge"),
    ("consistent", lambda x, y, rows: x, "Measured again"),
    ("consistent", lambda x, y, rows: RIGHT["consistent"](x, y, rows)[:, None], "a block of n numbers"),
    ("quantizer", lambda y, largest, bits: y, "[4] is 0.49 where 0 is right"),
    ("copies", lambda train, test: [i for i, t in enumerate(test) if any(torch.equal(t, p) for p in train)], "JPEG"),
    ("copies", lambda train, test: near(train, test, 300), "no copy"),
    ("copies", lambda train, test: near(train, test, 16), "Picture 7 is no"),
    ("copies", lambda train, test: near(train, test, 2), "moves gray levels by about 3"),
    ("copies", lambda train, test: near(means(train), means(test), 1), "no copy"),
    ("copies", lambda train, test: near(test, train, 8), "where in `test`"),
    ("copies", lambda train, test: [], "not found"),
    ("copies", lambda train, test: [i in near(train, test, 8) for i in range(len(test))], "truths"),
    ("copies", lambda train, test: 3, "whole numbers"),
    ("copies", lambda train, test: [1, *near(train, test, 8)], "named twice"),
    ("copies", lambda train, test: near([t[:, 0] for t in train], [t[:, 0] for t in test], 8), "no copy"),
    ("bd_rate", lambda ours, theirs: bd_rate(ours, theirs) + 100, "Less 1"),
    ("bd_rate", lambda ours, theirs: 0.0, "log(rate) of both at"),
    ("bd_rate", lambda ours, theirs: bd_rate(ours, theirs, low=30), "np.interp goes on flat"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.05, 0.95))), "that is 90 %"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.1, 0.9))), "thousands of samples"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.005, 0.93))), "lopsided"),
    ("bootstrap", lambda n: tuple(resampled(n, (0, 1))), "2.5 % on either side"),
    ("bootstrap", lambda n: tuple(resampled(n, (0, 0.95))), "2.5 % on either side"),
    ("bootstrap", lambda n: tuple(n.quantile(torch.tensor([0.025, 0.975], dtype=n.dtype))), "their *mean*"),
    ("bootstrap", lambda n: (n.mean() - 1e-9, n.mean() + 1e-9), "with* replacement"),
    ("bootstrap", lambda n: tuple(resampled(n, count=60)), "draw as many as are given"),
    ("bootstrap", lambda n: tuple(resampled(n).flip(0)), "above the upper"),
    ("bootstrap", lambda n: tuple(resampled(n) + 1), "does not hold"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.00025, 0.00975))), "np.percentile takes percent"),
    ("bootstrap", lambda n: n.mean(), "return two limits"),
    ("bootstrap", lambda n: n.mean() + torch.tensor([-2, 2]) * n.std() / len(n) ** 0.5, "No mean of drawn"),
    ("bootstrap", lambda n: ("a", "b"), "not a number"),
]
every_check = pytest.mark.parametrize("name", CHECKS)
TOLD = [name for name, function in CHECKS.items() if hasattr(function, "task")]


@pytest.mark.parametrize(("name", "answer"), [*RIGHT.items(), *ALSO_RIGHT])
def test_a_right_answer_passes(name, answer):
    assert CHECKS[name].verdict(answer) == "passed."


@pytest.mark.parametrize("name", TOLD)
def test_each_mistake_gets_its_own_hint_and_three_at_least_are_known(name):
    task, cases = CHECKS[name].task, CHECKS[name].cases
    known = {hint: value for case in cases for hint, value in list(task(*case))[1].items()}
    assert len({re.sub(r"\d+", "#", hint) for hint in known}) >= 3
    # what an answer returns or raises; the others are tests of that, and stand in WRONG
    told = [h for h, v in known.items() if isinstance(v, type) or not (callable(v) or isinstance(v, bool))]
    assert told
    for hint in told:

        def mistaken(*case, hint=hint):
            right, mistakes = task(*case)
            value = mistakes.get(hint, right)
            if isinstance(value, type):
                raise value
            return value

        assert hint in CHECKS[name].verdict(mistaken)


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG, ids=[f"{n}-{h[:16]}" for n, _, h in WRONG])
def test_a_wrong_answer_gets_its_hint(name, answer, hint):
    said = CHECKS[name].verdict(answer)
    assert said.startswith("not yet. ") and hint in said


def test_a_wrong_answer_is_told_at_once(monkeypatch):
    monkeypatch.delattr(torch, "unravel_index")  # it imports sympy: four seconds
    assert "is 5 where 57,184 is right" in check.multiply_adds.verdict(lambda *_: 5)


def shifted(value, by):
    """All numbers of an answer plus the same number, which is no mistake that a check could know."""
    if not isinstance(value, torch.Tensor | np.ndarray | int | float):
        return [shifted(v, by) for v in value]
    return value + by


def explode(*_):
    raise RuntimeError("it broke.\nReally")


STRANGE = ("text", [], {}, torch.zeros(0), torch.zeros(2, 2), torch.tensor(NAN), object())
ODD = [lambda: 1, 5, None, "text", *(lambda *_, v=v: v for v in STRANGE)]


@every_check
def test_nothing_escapes_and_nothing_odd_passes(name):
    said = CHECKS[name].verdict
    assert "explode raised RuntimeError: it broke. Really" in said(explode)
    assert said(lambda *_: ...).startswith("not attempted yet")  # as of the notebooks' stubs, which nbval compares
    strange = [lambda *a: shifted(RIGHT[name](*a), 1000.7), lambda *a: shifted(RIGHT[name](*a), NAN)]
    for answer in (*ODD, *strange):
        assert said(answer).startswith("not yet. ")


@pytest.mark.parametrize("name", [name for name, function in CHECKS.items() if function.course])
def test_cells_below_go_on_with_the_learners_function_or_the_courses(name):
    """As tensors of the kind that ours returns, where ours returns one."""
    examined = CHECKS[name]
    go_on = check.usable(examined, RIGHT[name])
    if hasattr(examined, "cases") and isinstance(right := examined.course(*examined.cases[0]), torch.Tensor):
        array = functools.wraps(RIGHT[name])(lambda *given: RIGHT[name](*given).double().numpy())
        go_on = check.usable(examined, array if right.dim() < 3 else lambda *given: RIGHT[name](*given).double())
        made = go_on(*examined.cases[0])
        assert made.dtype == right.dtype and torch.allclose(made, right, atol=1e-3)
    else:
        assert go_on is RIGHT[name]
    assert check.usable(examined, lambda *_: None) is examined.course is check.usable(examined, None)
    assert examined.verdict(examined.course) == "passed."


def test_every_check_is_tested_here():
    assert set(CHECKS) == set(RIGHT) == {*TOLD, *(name for name, _, _ in WRONG)}


# ------------------------------------------------------------------------------------------- progress


def book(*cells: tuple[str, str]):
    outputs = [(source, [v4.new_output("stream", text=said)] if said else []) for source, said in cells]
    return v4.new_notebook(cells=[v4.new_code_cell(source, outputs=said) for source, said in outputs])


def test_passed_answers_are_counted_by_notebook_and_solutions_are_not(tmp_path, figures, capsys):
    mine = ("def my_luma(x): ...\n\n\ncheck.luma(my_luma)", "Exercise 1.1: passed.\n")
    network = ("check.edsr(MyEDSR)", "Build 2.B: not yet. What enters tail is …\n")
    solution = ("# @title Solution\ncheck.psnr(solution_psnr)", "Exercise 1.2: passed.\n")
    never_run = ("check.turn(my_turn)", "")
    entropy = ("check.entropy(my_entropy)", "Exercise 4.1: not attempted yet. Replace the ...")
    nbformat.write(book(mine, network, solution, never_run), tmp_path / "01_one.ipynb")
    nbformat.write(book(entropy), tmp_path / "02_two.ipynb")
    nbformat.write(book(("1 + 1", "2")), tmp_path / "notes.ipynb")
    check.progress(tmp_path)
    told_to = "1 of 4 have passed, 1 not yet, 2 are not attempted"
    assert capsys.readouterr().out == f"Exercises and builds in the saved notebooks: {told_to}.\n"
    [(figure, alt)] = figures
    [axis] = figure.axes
    assert told_to in alt
    assert [label.get_text() for label in axis.get_yticklabels()] == ["01_one", "02_two"]
    assert [text.get_text() for text in axis.texts] == ["1", "B", "4", "1"]


def test_a_folder_without_notebooks_says_so(tmp_path, figures, capsys):
    (tmp_path / "half.ipynb").write_text('{"cells": [', encoding="utf-8")
    check.progress(tmp_path)
    assert capsys.readouterr().out == f"No saved notebook of this course is in {tmp_path.name}.\n" and not figures
