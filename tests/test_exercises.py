"""Every check: an untouched stub, a right answer, each planned wrong answer with its hint, and no exception ever."""

import math

import pytest
import torch

from helpers import exercises as check
from helpers import images, metrics

CHECKS = {
    name: function
    for name, function in vars(check).items()
    if getattr(function, "__wrapped__", None) and getattr(function, "__module__", "") == check.__name__
}


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
}

ALSO_RIGHT = {
    "psnr": lambda a, b, peak: 10 * torch.log10(peak**2 / mse(a, b)),  # a tensor, and infinite by itself
    "tiles": images.split_tiles,
    "turn": lambda x, y, k: tuple(torch.rot90(t.flip(2) if k % 2 else t, k // 2, (1, 2)) for t in (x, y)),
}

NAN = math.nan
FULL = torch.tensor([0.299, 0.587, 0.114])[:, None, None]

WRONG = [
    ("luma", lambda x: images.luma(x)[0], "keep the channel axis"),
    ("luma", lambda x: x.mean(0, keepdim=True), "plain mean"),
    ("luma", lambda x: images.luma(x) - 16 / 255, "add the offset"),
    ("luma", lambda x: (x * FULL).sum(0, keepdim=True), "65.481"),
    ("luma", lambda x: images.luma(x) * 255, "65.481"),
    ("luma", lambda x: images.luma(x) * NAN, "65.481"),
    ("psnr", lambda a, b, peak: -decibels(a, b, peak), "sign"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak) / 2, "half"),
    ("psnr", lambda a, b, peak: decibels(a, b, peak) * math.log(10), "dB was expected"),
    ("psnr", lambda a, b, peak: decibels(a, b, 1.0), "peak 255"),
    ("psnr", lambda a, b, peak: 10 * math.log10(peak**2 / mse(a, b).item()), "make it fail"),
    ("psnr", lambda a, b, peak: min(decibels(a, b, peak), 100.0), "infinite|math.inf"),
    ("psnr", lambda a, b, peak: (a - b).square(), "not a number"),
    ("psnr", lambda a, b, peak: NAN, "not yet"),
    ("psnr", lambda a, b, peak: "40 dB", "not a number"),
    ("patch_count", lambda side, size, stride: (side - size) // stride, "one too few"),
    ("patch_count", lambda side, size, stride: side // stride, "fit"),
    ("patch_count", lambda side, size, stride: (side - size) / stride + 1, "fit"),
    ("turn", lambda x, y, k: (oriented(x, k), y), "differently"),
    ("turn", lambda x, y, k: (oriented(x, k % 4), oriented(y, k % 4)), "4 orientations"),
    ("turn", lambda x, y, k: (oriented(x, (k + 1) % 8), oriented(y, (k + 1) % 8)), "k = 0"),
    ("turn", lambda x, y, k: (x + 1, y + 1), "not a turned"),
    ("tiles", lambda x, tile: cut(x, tile).reshape(2, 3, 2, 4, 4).transpose(0, 1).reshape(6, 2, 4, 4), "row by row"),
    ("tiles", lambda x, tile: x.reshape(6, 2, 4, 4), "mixed up"),
    ("tiles", lambda x, tile: cut(x, tile)[:5], "2 rows of 3"),
    ("split", lambda sources, held: by_photograph(sources, held)[::-1], "swapped"),
    ("split", lambda sources, held: (range(5), range(5, 9)), "both sides"),
    ("split", lambda sources, held: ([0, 2], [1, 4, 5, 8]), "9 patches"),
    ("parameters", lambda kernels: weights(kernels) - 97, "biases"),
    ("parameters", lambda kernels: 8_129, "57,281"),
    ("parameters", lambda kernels: NAN, "not yet"),
    ("receptive_field", sum, "k − 1"),
    ("receptive_field", max, "Start at 1"),
    ("loss_border", lambda x, y, border: mse(x, y), "border still counts"),
    ("loss_border", lambda x, y, b: mse(x[..., b:-b, b:-b], y[..., b:-b, b:-b]), "border of 0"),
    ("loss_border", lambda x, y, border: (inner(x, border) - inner(y, border)).abs().mean(), "0.250"),
    ("multiply_adds", lambda weights, scale, small: weights, "once per small pixel"),
    ("multiply_adds", lambda weights, scale, small: weights / scale if small else weights, "not by scale"),
    ("multiply_adds", lambda weights, scale, small: weights / scale**2, "57,184"),
    ("multiply_adds", lambda weights, scale, small: NAN, "not yet"),
]  # fmt: skip

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


@every_check
@pytest.mark.parametrize("answer", ODD)
def test_nothing_escapes_and_nothing_odd_passes(capsys, name, answer):
    assert "not yet" in verdict(capsys, name, answer)


@every_check
def test_an_exception_is_named(capsys, name):
    assert "explode raised RuntimeError: it broke" in verdict(capsys, name, explode)


def test_metrics_used_by_a_check_agree_with_the_answers_here():
    a, b = check._pictures()
    assert decibels(a, b, 1.0) == pytest.approx(metrics.psnr(a, b), abs=1e-4)
