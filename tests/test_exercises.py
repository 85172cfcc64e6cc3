"""Every check: an untouched stub, a right answer, each planned wrong answer with its hint, and no exception ever."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from helpers import images, metrics
from helpers.lesson import exercises as check

CHECKS = {name: function for name, function in vars(check).items() if hasattr(function, "label")}


def by(names, tested):
    """Numbers to train on and to test on, by a rule for what is tested."""
    sides = [[i for i, name in enumerate(names) if tested(name) == side] for side in (False, True)]
    return tuple(sides)


def mse(a, b):
    return (a - b).square().mean()


def decibels(a, b, peak):
    return math.inf if torch.equal(a, b) else 10 * math.log10(peak**2 / mse(a, b))


def oriented(t, k):
    t = torch.rot90(t, k % 4, (1, 2))
    return t.flip(2) if k >= 4 else t


def cut(image, tile):
    rows, columns = image.shape[1] // tile, image.shape[2] // tile
    return torch.stack([
        image[:, r * tile : (r + 1) * tile, c * tile : (c + 1) * tile] for r in range(rows) for c in range(columns)
    ])  # fmt: skip


def by_photograph(sources, held_out):
    test = [i for i, s in enumerate(sources) if s in held_out]
    return [i for i in range(len(sources)) if i not in test], test


def weights(kernels):
    sizes = (1, 64, 32, 1)
    return sum(a * b * k**2 + b for a, b, k in zip(sizes, sizes[1:], kernels, strict=False))


def inner(t, border):
    return t[..., border : t.shape[-2] - border, border : t.shape[-1] - border]


D = check.jpeg_restorer.D


def through_file(block, table, rounding=torch.round, centre=128):
    return D.T @ (rounding(D @ (block - centre) @ D.T / table) * table) @ D + centre


def steps(image, phase=7, amount=torch.square, mean=torch.mean):
    amounts = amount(image.diff(dim=-1))
    border = torch.arange(amounts.shape[-1]) % 8 == phase
    return (mean(amounts[..., border]) - mean(amounts[..., ~border])).item()


def as_the_original(epoch, epochs, start):
    return start / 2 ** sum((done + 1) % (epochs // 5) != 0 for done in range(epoch))


def kept(blocks, order, count):
    return torch.where(order >= order.flatten(1).topk(count).values[:, -1, None, None], blocks, 0)


def laplace_share(level, mean, scale):
    model = torch.distributions.Laplace(mean, scale)
    return model.cdf(level + 0.5) - model.cdf(level - 0.5)


RIGHT = {
    "luma": images.luma,
    "psnr": decibels,
    "patch_count": lambda side, size, stride: len(range(0, side - size + 1, stride)),
    "turn": lambda x, y, k: (oriented(x, k), oriented(y, k)),
    "tiles": cut,
    "split": by_photograph,
    "parameters": weights,
    "receptive_field": lambda kernels: 1 + sum(k - 1 for k in kernels),
    "loss_border": lambda x, y, border: mse(inner(x, border), inner(y, border)),
    "multiply_adds": lambda weights, scale, small: weights / scale**2 if small else weights,
    "dct": lambda block: D @ block @ D.T,
    "round_trip": through_file,
    "blocking": lambda image: max(0.0, steps(image)),
    "learning_rate": lambda epoch, epochs, start: start / 2 ** (5 * epoch // epochs),
    "bounded": lambda restored, decoded, tau: decoded + (restored - decoded).clamp(-tau, tau),
    "interval": lambda c, stored, table: (c / table).clamp(stored - 0.5, stored + 0.5) * table,
}

RIGHT |= {
    "entropy": lambda p: -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2),
    "largest": lambda c, n: kept(c, c.abs(), n),
    "thermometer": lambda level, thresholds: (level > thresholds).float(),
    "code_length": lambda level, mean, scale: -laplace_share(level, mean, scale).log2(),
}
RIGHT |= {
    "measurements": lambda h, w, ratio, block: math.ceil(h / block) * math.ceil(w / block) * round(ratio * block**2),
    "consistent": lambda x, y, rows: x + rows.T @ (y - rows @ x),
    "similarity": lambda a, b: (2 * (a * b).sum() + 0.01) / ((a**2).sum() + (b**2).sum() + 0.01),
    "signed_psnr": lambda x, y: 10 * math.log10(4 / mse(x, y)),
    "quantizer": lambda y, largest, bits: levels_of(y, largest, 2 ** (bits - 1) - 1),
}
ALSO_RIGHT = {
    "consistent": lambda x, y, rows: x - torch.linalg.pinv(rows) @ (rows @ x - y),
    "signed_psnr": lambda x, y: metrics.psnr(x, y, peak=2),
    "dct": lambda block: dctn(block.numpy(), norm="ortho"),  # an array, from another library
    "round_trip": lambda block, table: through_file(block, table).round().clamp(0, 255),
    "blocking": lambda image: torch.tensor(steps(image)).clamp(min=0),
    "bounded": lambda restored, decoded, tau: torch.minimum(torch.maximum(restored, decoded - tau), decoded + tau),
    "psnr": lambda a, b, peak: 10 * torch.log10(peak**2 / mse(a, b)),  # a tensor, and infinite by itself
    "tiles": images.split_tiles,
    "turn": lambda x, y, k: tuple(torch.rot90(t.flip(2) if k % 2 else t, k // 2, (1, 2)) for t in (x, y)),
}

NAN = math.nan


def levels_of(y, largest, top):
    return (y / largest * top).round() * largest / top


FULL = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
BT709 = torch.tensor([0.2126, 0.7152, 0.0722])[:, None, None]

WRONG = [
    ("luma", lambda x: images.luma(x)[0], "keep the channel axis"),
    ("luma", lambda x: x.mean(0, keepdim=True), "plain mean"),
    ("luma", lambda x: images.luma(x) - 16 / 255, "add the offset"),
    ("luma", lambda x: (x * FULL).sum(0, keepdim=True), "full-range"),
    ("luma", lambda x: images.luma(x) * 255, "divide by 255"),
    ("luma", lambda x: (images.luma(x) + 0.1).clamp(max=1), "65.481"),
    ("luma", lambda x: images.luma(x).tolist(), "returned list, not a tensor"),
    ("luma", lambda x: images.luma(x) * NAN, "65.481"),
    ("luma", lambda x: images.luma(x.flip(0)), "Red and blue are swapped"),
    ("luma", lambda x: (x * BT709).sum(0, keepdim=True) * 219 / 255 + 16 / 255, "BT.709"),
    ("psnr", lambda a, b, peak: -decibels(a, b, peak), "sign"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak) / 2, "half"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak) * math.log(10), "45.0192 where 19.5516 is right. It is 10·log₁₀"),
    ("psnr", lambda a, b, peak: decibels(a, b, 1.0), "use the argument"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak**0.5), "square the peak"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak**1.5), "(…, …, 255.0) is 91.7478 where 67.6824 is right"),
    ("psnr", lambda a, b, peak: 10 * math.log10(peak**2 / mse(a, b).item()), "make it fail"),
    ("psnr", lambda a, b, peak: min(decibels(a, b, peak), 100.0), "infinite|math.inf"),
    ("psnr", lambda a, b, peak: (a - b).square(), "not a number"),
    ("psnr", lambda a, b, peak: NAN, "not yet"),
    ("psnr", lambda a, b, peak: "40 dB", "not a number"),
    ("patch_count", lambda side, size, stride: (side - size) // stride, "one too few"),
    ("patch_count", lambda side, size, stride: side // stride, "one too many"),
    ("patch_count", lambda side, size, stride: math.ceil((side - size) / stride) + 1, "hangs over the end"),
    ("patch_count", lambda side, size, stride: side // size, "these overlap"),
    ("patch_count", lambda side, size, stride: (side - size) / stride + 1, "A part of a window"),
    ("patch_count", lambda side, size, stride: side, "(10, 4, 2) is 10 where 4 is right"),
    ("turn", lambda x, y, k: (oriented(x, k), y), "differently"),
    ("turn", lambda x, y, k: (oriented(x, k % 4), oriented(y, k % 4)), "4 orientations"),
    ("turn", lambda x, y, k: (oriented(x, (k + 1) % 8), oriented(y, (k + 1) % 8)), "k = 0"),
    ("turn", lambda x, y, k: (x + 1, y + 1), "not a turned"),
    ("turn", lambda x, y, k: oriented(x, k), "two pictures"),
    ("turn", lambda x, y, k: (oriented(x, k), None), "NoneType, not a tensor"),
    ("tiles", lambda x, tile: cut(x, tile).reshape(2, 3, 2, 4, 4).transpose(0, 1).reshape(6, 2, 4, 4), "row by row"),
    ("tiles", lambda x, tile: x.reshape(6, 2, 4, 4), "mixed up"),
    ("tiles", lambda x, tile: x.unfold(1, 4, 4).unfold(2, 4, 4).reshape(6, 2, 4, 4), "Channels and tiles"),
    ("tiles", lambda x, tile: cut(x, tile).mT, "lies on its side"),
    ("tiles", lambda x, tile: cut(x, tile).flip(1), "equal to a slice"),
    ("tiles", lambda x, tile: cut(x, tile)[:5], "2 rows of 3"),
    ("tiles", lambda x, tile: list(cut(x, tile)), "returned list, not a tensor"),
    ("split", lambda sources, held: by_photograph(sources, held)[::-1], "swapped"),
    ("split", lambda sources, held: (range(5), range(5, 9)), "both sides"),
    ("split", lambda sources, held: ([0, 2], [1, 4, 5, 8]), "9 patches"),
    ("split", lambda sources, held: ([0, 2, 3, 6, 6], [1, 4, 5, 8]), "training side"),
    ("split", lambda sources, held: ([0, 2, 3, 6, 7], [1, 4, 5, 9]), "0 to 8"),
    ("split", lambda sources, held: (["cat"], ["cup"]), "not their photographs"),
    ("split", lambda sources, held: by_photograph(sources, held)[0], "two lists"),
    ("split", lambda sources, held: 9, "returned int; return two lists"),
    ("parameters", lambda kernels: weights(kernels) - 97, "((9, 1, 5)) is 8,032 where 8,129 is right. The biases"),
    ("parameters", lambda kernels: 8_129, "8,129 where 57,281 is right"),
    ("parameters", lambda kernels: np.dot(kernels, (64, 64 * 32, 32)) + 97, "has 81 weights"),
    ("parameters", lambda kernels: np.dot(np.square(kernels), (64, 32, 1)) + 97, "every channel"),
    ("parameters", lambda kernels: NAN, "not yet"),
    ("receptive_field", sum, "15 where 13 is right. Each layer adds k − 1"),
    ("receptive_field", max, "each of which has seen"),
    ("receptive_field", lambda kernels: sum(k - 1 for k in kernels), "itself"),
    ("receptive_field", lambda kernels: 1 + sum(k // 2 for k in kernels), "both sides"),
    ("receptive_field", math.prod, "Start at 1"),
    ("loss_border", lambda x, y, border: mse(x, y), "border still counts"),
    ("loss_border", lambda x, y, b: mse(x[..., b:-b, b:-b], y[..., b:-b, b:-b]), "border of 0"),
    ("loss_border", lambda x, y, border: (inner(x, border) - inner(y, border)).abs().mean(), "0.5 where 0.25 is right"),
    ("loss_border", lambda x, y, border: mse(inner(x, border), inner(y, border)).item(), "no gradient"),
    ("multiply_adds", lambda weights, scale, small: weights, "once per small pixel"),
    ("multiply_adds", lambda weights, scale, small: weights / scale if small else weights, "not by scale"),
    ("multiply_adds", lambda weights, scale, small: weights / scale**2, "nothing is saved"),
    ("multiply_adds", lambda weights, scale, small: weights * scale**2 if small else weights, "not dearer"),
    ("multiply_adds", lambda weights, scale, small: 1, "1 where 57,184 is right"),
    ("multiply_adds", lambda weights, scale, small: NAN, "not yet"),
    ("dct", lambda block: D @ block, "one direction"),
    ("dct", lambda block: block @ D.T, "one direction"),
    ("dct", lambda block: D.T @ block @ D, "way back"),
    ("dct", lambda block: (D @ block @ D.T).T, "swapped"),
    ("dct", lambda block: D @ (block - 128) @ D.T, "-311.25 is right. D @ block does"),
    ("dct", lambda block: (D @ block @ D.T)[0], "(8, 8) was expected"),
    ("dct", lambda block: block * NAN, "-311.25 is right. D @ block does"),
    ("round_trip", lambda block, table: (D @ (block - 128) @ D.T / table).round(), "stored integers"),
    ("round_trip", lambda block, table: through_file(block, table) - 128, "too dark"),
    ("round_trip", lambda b, table: D.T @ (D @ (b - 128) @ D.T / table).round() @ D + 128, "multiplied by the table"),
    ("round_trip", lambda block, table: block, "Nothing is lost"),
    ("round_trip", lambda block, table: through_file(block, table, centre=0), "Subtract 128"),
    ("round_trip", lambda block, table: through_file(block, table, centre=127.5), "Centre by 128"),
    ("round_trip", lambda block, table: through_file(block, table, torch.floor), "cut off"),
    ("round_trip", lambda block, table: through_file(block, table, torch.trunc), "cut off"),
    ("round_trip", lambda block, table: through_file(block, 2 * table), "one is amiss"),
    ("blocking", lambda image: max(0.0, steps(image, amount=torch.abs)), "squares"),
    ("blocking", lambda image: steps(image, phase=0), "off by one"),
    ("blocking", lambda image: steps(image, phase=6), "off by one"),
    ("blocking", lambda image: image.diff(dim=-1)[..., 7::8].square().mean(), "elsewhere"),
    ("blocking", lambda image: steps(image, mean=torch.sum), "means, not sums"),
    ("blocking", lambda image: 2 * steps(image), "after columns 7, 15"),
    ("blocking", steps, "stop at 0"),
    ("blocking", lambda image: abs(steps(image)), "stop at 0"),
    ("blocking", lambda image: NAN, "not yet"),
    ("learning_rate", as_the_original, "nearly every epoch"),
    ("learning_rate", lambda epoch, epochs, start: start / 2**epoch, "nearly every epoch"),
    ("learning_rate", lambda epoch, epochs, start: start / 2 ** ((epoch + 1) // (epochs // 5)), "too early"),
    ("learning_rate", lambda epoch, epochs, start: start, "1 halvings"),
    ("learning_rate", lambda epoch, epochs, start: start / 2 ** (epoch // 20), "argument `epochs`"),
    ("learning_rate", lambda epoch, epochs, start: start / 2 ** (epoch // (epochs // 5)), "divides by zero"),
    ("learning_rate", lambda epoch, epochs, start: 5e-4 / 2 ** (5 * epoch // epochs), "argument `start`"),
    ("learning_rate", lambda epoch, epochs, start: start * 0.5 ** (epoch // max(1, epochs // 5)), "the remainder"),
    ("learning_rate", lambda epoch, epochs, start: NAN, "not yet"),
    ("psnr", lambda a, b, peak: sum(metrics.psnr(x, y, peak) for x, y in zip(a, b, strict=True)) / 3, "under the log"),
    ("psnr", lambda a, b, peak: decibels(a, b.mul_(0.5).mul_(2.5), peak), "changes what it was"),
    ("split", lambda names, held: by(names, lambda name: any(part in name for part in held)), "cupboard is not a cup"),
    ("bd_rate", lambda c, a: -RIGHT["bd_rate"](c, a), "sign is wrong"),
    ("bd_rate", lambda c, a: RIGHT["bd_rate"](c, a) / 100, "asked are percent"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.1, 0.9))), "thousands of samples"),
    ("bounded", lambda restored, decoded, tau: (restored - decoded).clamp(-tau, tau), "on top of"),
    ("bounded", lambda restored, decoded, tau: restored.clamp(-tau, tau), "to both sides"),
    ("bounded", lambda restored, decoded, tau: restored, "away from"),
    ("bounded", lambda restored, decoded, tau: decoded, "leaves them alone"),
    ("bounded", lambda restored, decoded, tau: decoded + (restored - decoded) * tau / 0.1, "leaves them alone"),
    ("bounded", lambda x, decoded, tau: torch.where((x - decoded).abs() > tau, decoded, x), "lie on it"),
    ("bounded", lambda restored, decoded, tau: restored * NAN, "not yet"),
    ("interval", lambda c, stored, table: stored * table, "decoded file; what the network"),
    ("interval", lambda c, stored, table: c.clamp(stored - 0.5, stored + 0.5), "multiply the limits"),
    ("interval", lambda c, stored, table: c.clamp((stored - 1) * table, (stored + 1) * table), "twice too wide"),
    ("interval", lambda c, stored, table: c.clamp(stored * table - 0.5, stored * table + 0.5), "table entry"),
    ("interval", lambda c, stored, table: c, "Clamp each"),
    ("interval", lambda c, stored, table: c[0], "was expected"),
]  # fmt: skip

WRONG += [
    ("entropy", lambda p: -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)), "base 2"),
    ("entropy", lambda p: (torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2), "sign"),
    ("entropy", lambda p: -torch.xlogy(p, p) / math.log(2), "Zeros cost"),
    ("entropy", lambda p: p, "is 0.5 where 1 is right"),
    ("entropy", lambda p: -(p * p.log2() + (1 - p) * (1 - p).log2()), "0 · log 0"),
    ("largest", lambda c, n: kept(c, c, n), "absolute values"),
    ("largest", lambda c, n: kept(c, c.abs(), n).ne(0).float(), "mask"),
    ("largest", lambda c, n: torch.where(c.abs() >= c.abs().flatten().topk(2 * n).values[-1], c, 0), "of each block"),
    ("largest", lambda c, n: kept(c, c.abs(), n + 1), "too many of each block: 5, not 4"),
    ("thermometer", lambda level, t: (level <= t).float(), "upside down"),
    ("thermometer", lambda level, t: ((level > t) & (level <= t + 1)).float(), "Only one bit"),
    ("thermometer", lambda level, t: torch.sigmoid(level - t), "neither 0 nor 1"),
    ("thermometer", lambda level, t: (level - t).sign(), "signs"),
    ("thermometer", lambda level, t: (level > t + 1).float(), "[1, 1, 1, 1, 0, 0] was expected"),
    ("code_length", laplace_share, "Those are probabilities"),
    ("code_length", lambda *a: -laplace_share(*a).log(), "nats"),
    ("code_length", lambda x, m, s: -torch.distributions.Laplace(m, s).log_prob(x) / math.log(2), "density"),
    ("code_length", lambda x, m, s: (x - m).abs(), "is right"),
    ("measurements", lambda h, w, r, b: (h // b) * (w // b) * round(r * b**2), "hang over the edge"),
    ("measurements", lambda h, w, r, b: round(r * h * w), "counts pixels"),
    ("measurements", lambda h, w, r, b: math.ceil(h / b) * math.ceil(w / b) * r * b**2, "whole number"),
    ("measurements", lambda h, w, r, b: round(math.ceil(h / b) * math.ceil(w / b) * r * b**2), "*each* block"),
    ("measurements", lambda h, w, r, b: 7, "16 blocks of 102"),
    ("consistent", lambda x, y, rows: rows.T @ y, "linear estimate"),
    ("consistent", lambda x, y, rows: x - rows.T @ (y - rows @ x), "moves away"),
    ("consistent", lambda x, y, rows: rows.T @ (y - rows @ x), "return the sum"),
    ("consistent", lambda x, y, rows: x + rows.T @ y, "taken away first"),
    ("consistent", lambda x, y, rows: x, "Measured again"),
    ("consistent", lambda x, y, rows: 2 * x + rows.T @ (y - 2 * rows @ x), "more of x than it must"),
    ("similarity", lambda a, b: (2 * (a * b).sum().abs() + 0.01) / ((a**2 + b**2).sum() + 0.01), "absolute value"),
    ("similarity", lambda a, b: (a * b).sum() / ((a**2 + b**2).sum() + 0.01), "mind the 2"),
    ("similarity", lambda a, b: (a * b).sum() / (a.norm() * b.norm()), "K"),
    ("similarity", lambda a, b: 2 * (a * b).sum() / (a**2 + b**2).sum().clamp(min=1e-9), "K is missing"),
    ("signed_psnr", lambda x, y: 10 * math.log10(1 / mse(x, y)), "6.02 dB too low"),
    ("signed_psnr", lambda x, y: 10 * math.log10(2 / mse(x, y)), "squared"),
    ("signed_psnr", lambda x, y: 20 * math.log10(4 / mse(x, y)), "root mean square"),
    ("signed_psnr", lambda x, y: 10 * math.log10((y.max() - y.min()) ** 2 / mse(x, y)), "not that of this picture"),
    ("signed_psnr", lambda x, y: 3.0, "3 where 29.1047 is right"),
    ("signed_psnr", lambda x, y: -10 * math.log10(4 / mse(x, y)), "sign"),
    ("signed_psnr", lambda x, y: 10 * math.log(4 / mse(x, y)), "natural logarithm"),
    ("quantizer", lambda y, largest, bits: (y / largest * (2 ** (bits - 1) - 1)).round(), "whole numbers k"),
    (
        "quantizer",
        lambda y, m, bits: (y / m * (2 ** (bits - 1) - 1)).floor() * m / (2 ** (bits - 1) - 1),
        "cuts off",
    ),
    ("quantizer", lambda y, largest, bits: levels_of(y, largest, 2 ** (bits - 1)), "top = 2"),
    ("quantizer", lambda y, largest, bits: y, "[4] is 0.49 where 0 is right"),
    ("quantizer", lambda y, largest, bits: levels_of(y, largest, 2**bits), "tell 8 apart"),
]


def decibels_of(pictures, references, peak=255.0):
    return [metrics.psnr(p.float(), r.float(), peak) for p, r in zip(pictures, references, strict=True)]


def mse_of(pictures, references):
    return [(p.float() - r.float()).square().mean() for p, r in zip(pictures, references, strict=True)]


def near(train, test, limit):
    return [i for i, t in enumerate(test) if any((t.float() - p.float()).abs().mean() < limit for p in train)]


def log_rates(curve, anchor):
    shared = (max(curve[0][1], anchor[0][1]), min(curve[-1][1], anchor[-1][1]))
    qualities = np.linspace(*shared, 1000)
    ours, theirs = (np.interp(qualities, [q for _, q in c], np.log([r for r, _ in c])) for c in (curve, anchor))
    return ours, theirs


def delta(curve, anchor):
    ours, theirs = log_rates(curve, anchor)
    return np.mean(ours - theirs)


def beyond(curve, anchor):
    """The same over all qualities that either has."""
    qualities = np.linspace(min(curve[0][1], anchor[0][1]), max(curve[-1][1], anchor[-1][1]), 5000)
    ours, theirs = (np.interp(qualities, [q for _, q in c], np.log([r for r, _ in c])) for c in (curve, anchor))
    return np.mean(ours - theirs)


def by_rate(curve, anchor):
    """The same with lines that are straight in the rate."""
    qualities = np.linspace(max(curve[0][1], anchor[0][1]), min(curve[-1][1], anchor[-1][1]), 5000)
    ours, theirs = (np.interp(qualities, [q for _, q in c], [r for r, _ in c]) for c in (curve, anchor))
    return np.mean(np.log(ours / theirs))


def resampled(numbers, quantiles=(0.025, 0.975), draws=4000):
    drawn = numbers[torch.randint(len(numbers), (draws, len(numbers)), generator=torch.Generator().manual_seed(1))]
    return drawn.mean(1).quantile(torch.tensor(quantiles, dtype=torch.float64))


RIGHT |= {
    "set_psnr": lambda p, r: sum(decibels_of(p, r)) / len(p),
    "copies": lambda train, test: near(train, test, 8),
    "bd_rate": lambda curve, anchor: 100 * (np.exp(delta(curve, anchor)) - 1),
    "bootstrap": resampled,
}
WRONG += [
    ("set_psnr", lambda p, r: sum(decibels_of(p, r)), "the sum"),
    ("set_psnr", lambda p, r: 10 * math.log10(255**2 / (sum(mse_of(p, r)) / 3)), "worst picture"),
    (
        "set_psnr",
        lambda p, r: decibels_of(
            [torch.cat([t.flatten() for t in p])[None]], [torch.cat([t.flatten() for t in r])[None]]
        )[0],
        "one pot",
    ),
    ("set_psnr", lambda p, r: sum(-10 * math.log10(e) for e in mse_of(p, r)) / 3, "peak"),
    (
        "set_psnr",
        lambda p, r: (
            sum(10 * math.log10(255**2 / ((a - b) ** 2).double().mean()) for a, b in zip(p, r, strict=True)) / 3
        ),
        "wraps round",
    ),
    ("set_psnr", lambda p, r: 12.0, "is right"),
    ("copies", lambda train, test: [i for i, t in enumerate(test) if any(torch.equal(t, p) for p in train)], "JPEG"),
    ("copies", lambda train, test: near(train, test, 300), "no copy"),
    ("copies", lambda train, test: near(test, train, 8), "where in `test`"),
    ("copies", lambda train, test: [], "not found"),
    ("copies", lambda train, test: [i in near(train, test, 8) for i in range(len(test))], "truths"),
    ("copies", lambda train, test: 3, "whole numbers"),
    (
        "copies",
        lambda train, test: [
            i for i, t in enumerate(test) if min(abs(t.float().mean() - p.float().mean()) for p in train) < 2
        ],
        "no copy",
    ),
    ("set_psnr", decibels_of, "for each picture"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.05, 0.95))), "on either side"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.01, 0.99))), "on either side"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.005, 0.93))), "lopsided"),
    ("bd_rate", lambda c, a: 100 * (np.exp(-delta(c, a)) - 1), "the anchor takes"),
    ("bd_rate", lambda c, a: delta(c, a), "make percent"),
    ("bd_rate", lambda c, a: 100 * delta(c, a), "Percent of a logarithm"),
    (
        "bd_rate",
        lambda c, a: 100 * (np.divide(*(np.exp(t).sum() for t in log_rates(c, a))) - 1),
        "large files",
    ),
    ("bd_rate", lambda c, a: 100 * (np.exp(beyond(c, a)) - 1), "both curves reach"),
    ("bd_rate", lambda c, a: 100 * (np.exp(by_rate(c, a)) - 1), "not in the rate"),
    ("bd_rate", lambda c, a: 100 * (np.exp(np.subtract(*log_rates(c, a))).mean() - 1), "mean of ratios"),
    ("bd_rate", lambda c, a: 100 * (np.exp(np.subtract(*log_rates(c, a))[499:501].mean()) - 1), "middle alone"),
    ("bd_rate", lambda c, a: 100 * (np.exp(np.median(np.subtract(*log_rates(c, a)))) - 1), "middle alone|is right"),
    ("bd_rate", lambda c, a: 7.0, "is right"),
    ("bootstrap", lambda n: tuple(n.quantile(torch.tensor([0.025, 0.975], dtype=n.dtype))), "their *mean*"),
    ("bootstrap", lambda n: (n.mean() - 1e-9, n.mean() + 1e-9), "with* replacement"),
    ("bootstrap", lambda n: tuple(resampled(n, (0.16, 0.84))), "times as wide"),
    ("bootstrap", lambda n: tuple(resampled(n).flip(0)), "above the upper"),
    ("bootstrap", lambda n: tuple(resampled(n) + 1), "does not hold"),
    ("bootstrap", lambda n: n.mean(), "return two limits|not a number"),
]


every_check = pytest.mark.parametrize("name", CHECKS)


def verdict(capsys, name: str, answer) -> str:
    assert CHECKS[name](answer) is None
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Exercise ")
    return lines[0]


def test_every_check_is_tested_here():
    assert set(CHECKS) == set(RIGHT) == {name for name, _, _ in WRONG}


@every_check
def test_an_untouched_stub_is_not_attempted(capsys, name):
    def my_stub(*arguments): ...

    def my_other_stub(*arguments):
        return ...

    assert "not attempted yet" in verdict(capsys, name, my_stub)
    assert "my_other_stub" in verdict(capsys, name, my_other_stub)


@pytest.mark.parametrize(("name", "answer"), [*RIGHT.items(), *ALSO_RIGHT.items()])
def test_a_right_answer_passes(capsys, name, answer):
    assert verdict(capsys, name, answer).endswith("passed.")


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG, ids=[f"{n}-{h[:16]}" for n, _, h in WRONG])
def test_a_wrong_answer_gets_its_hint(capsys, name, answer, hint):
    said = verdict(capsys, name, answer)
    assert "not yet" in said
    assert any(part in said for part in hint.split("|"))


def explode(*_):
    raise RuntimeError("it broke")


ODD = [explode, lambda: 1, 5, None, "text"]
ODD += [lambda *_, v=v: v for v in ("text", [], {}, torch.zeros(0), torch.zeros(2, 2), object())]


def without_numbers(said: str) -> str:
    """The sentences alone: no numbers, and no name of a function, in which two wrong answers differ as well."""
    said = re.sub(r"not yet\. \S+?\(.*?\) ", "not yet. It ", re.sub(r"\[[\d, ]+\] is", " is", said))
    return re.sub(r"[−-]?\d+([,.]\d+)*(e[+-]\d+)?|nan", "#", said)


def shifted(value, by):
    """All numbers of an answer plus the same number, which is no mistake that a check could know."""
    return type(value)(shifted(v, by) for v in value) if isinstance(value, tuple | list) else value + by


@every_check
def test_a_number_that_is_none_never_passes(capsys, name):
    assert "not yet" in verdict(capsys, name, lambda *a: shifted(RIGHT[name](*a), NAN))
    assert "not yet" in verdict(capsys, name, lambda *_: torch.tensor(NAN))


@every_check
def test_three_typical_mistakes_are_told_apart(capsys, name):
    """Each has a hint of its own, and none of them is what a check says of an answer that it knows nothing about."""
    shrugs = [lambda *a: shifted(RIGHT[name](*a), 1000.7), lambda *a: shifted(RIGHT[name](*a), NAN), *ODD]
    unknown = {without_numbers(verdict(capsys, name, answer)) for answer in shrugs}
    hints = {without_numbers(verdict(capsys, name, answer)) for check, answer, _ in WRONG if check == name}
    assert len(hints - unknown) >= 3, hints & unknown


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.course])
def test_cells_below_go_on_with_the_learners_function_or_the_courses(capsys, name):
    examined = CHECKS[name]

    def untouched(*arguments): ...

    assert check.usable(examined, RIGHT[name]) is RIGHT[name]
    assert check.usable(examined, untouched) is examined.course is check.usable(examined, None)
    assert verdict(capsys, name, examined.course).endswith("passed.")


@every_check
@pytest.mark.parametrize("answer", ODD)
def test_nothing_escapes_and_nothing_odd_passes(capsys, name, answer):
    assert "not yet" in verdict(capsys, name, answer)


@every_check
def test_an_exception_is_named(capsys, name):
    assert "explode raised RuntimeError: it broke" in verdict(capsys, name, explode)


def test_what_an_exception_says_is_told_and_nothing_else(capsys):
    def two_lines(x):
        raise ValueError("Expected 3 dims.\n(C, H, W).")

    assert verdict(capsys, "luma", two_lines).endswith("two_lines raised ValueError: Expected 3 dims. (C, H, W).")


def test_an_answer_may_be_of_another_kind_but_a_picture_is_a_tensor(capsys):
    assert "passed" in verdict(capsys, "signed_psnr", lambda x, y: torch.tensor([RIGHT["signed_psnr"](x, y)]))
    assert "passed" in verdict(capsys, "copies", lambda *sets: (place for place in RIGHT["copies"](*sets)))
    assert "ndarray, not a tensor" in verdict(capsys, "luma", lambda x: RIGHT["luma"](x).numpy())
    assert "not a number" in verdict(capsys, "bootstrap", lambda numbers: ("a", "b"))


@pytest.mark.parametrize("slope", [1, 10])
def test_shades_are_no_bits(capsys, slope):
    shades = verdict(capsys, "thermometer", lambda level, thresholds: torch.sigmoid(slope * (level - thresholds)))
    assert "a file holds bits" in shades


def test_metrics_used_by_a_check_agree_with_the_answers_here():
    a, b = check.data_preparation._pictures()
    assert decibels(a, b, 1.0) == pytest.approx(metrics.psnr(a, b), abs=1e-4)
