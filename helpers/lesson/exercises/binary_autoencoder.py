"""Checks of notebook 4: bits, what they cost, and in which order they are known."""

import functools
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from ...entropy import laplace_bits
from .build import alike, built, run
from .examine import Wrong, blame, exercise, two

BLOCKS = torch.sin(torch.arange(128.0) ** 1.3).view(2, 8, 8) * torch.tensor([1.0, 9.0]).view(2, 1, 1)
LEVELS = torch.tensor([0.0, 1.0, -3.0, 2.0])
AROUND = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=torch.bool)
CROSS = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
LAPLACE = torch.tensor([0.0, 0.4, 0.0, 2.2]), torch.tensor([1.0, 0.5, 2.0, 0.3])  # means and scales


@exercise("4.1", (torch.tensor([0.5, 0.1, 0.02, 0.9]),), (torch.tensor([0.0, 1.0]),), within=1e-3)
def entropy(p: torch.Tensor):
    """my_entropy(p): bits that a binary symbol costs, for a tensor of shares of ones; 0 where p is 0 or 1."""
    yield (right := 0 - (torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2))
    yield {
        "0 · log 0 is nan. If you clamp: in float32, 1 − 1e-12 is 1 again; 1 − 1e-6 is not.": lambda x: x.isnan().any(),
        "A bit that is always the same tells nothing. Mind 0 · log 0.": not right.any(),
        "Those are nats: bits want the logarithm to base 2.": right * math.log(2),
        "The sign is wrong: logarithms of probabilities are negative, bits are not.": -right,
        "Zeros cost something, too: add the term of 1 − p.": -p * p.log2(),
        "If math.log2 raised it: that takes one number, torch.log2 a tensor.": ValueError,
    }


@exercise("4.2", (BLOCKS, 4), (BLOCKS, 10))
def largest(coefficients: torch.Tensor, count: int):
    """my_largest(coefficients, count): all but the `count` largest in absolute value set to zero, in each block."""

    def kept(count: int, blocks: torch.Tensor = coefficients, order: Callable = torch.abs) -> torch.Tensor:
        smallest = order(blocks).flatten(1).topk(count).values[:, -1, None, None]  # that is kept, of each block
        return torch.where(order(blocks) >= smallest, blocks, 0)

    yield kept(count)
    both = coefficients.view(1, 16, 8)
    yield {
        "Large negative coefficients matter as much: compare absolute values.": kept(count, order=torch.clone),
        "That is a mask; return the coefficients themselves where it is one.": kept(count).ne(0),
        "Take the largest of each block, not of all blocks together.": kept(count, both).view(2, 8, 8),
        f"Take {count} of each block, not {2 * count} of both together.": kept(2 * count, both).view(2, 8, 8),
        f"It keeps one too many of each block: {count + 1}, not {count}.": kept(count + 1),
        f"Of each block, the {count} largest stay as they are.": True,
    }


@exercise("4.3", (LEVELS, *LAPLACE), within=1e-3)
def code_length(level: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor):
    """my_bits(level, mean, scale): −log₂ of what a Laplace distribution gives to level − ½ … level + ½."""
    model = torch.distributions.Laplace(mean, scale)
    share = model.cdf(level + 0.5) - model.cdf(level - 0.5)
    centred = torch.distributions.Laplace(torch.zeros_like(mean), scale)
    above = model.cdf(level + 1) - model.cdf(level)
    yield -share.log2()
    yield {
        "Those are probabilities; bits are −log₂ of them.": share,
        "Those are nats: bits want the logarithm to base 2.": -share.log(),
        "That is the density at a point, not the share of an interval.": -model.log_prob(level) / math.log(2),
        "The sign is wrong: logarithms of probabilities are negative, prices are not.": share.log2(),
        "That is the interval from level to level + 1; a level stands for level ± ½.": -above.log2(),
        "The mean is left out.": -(centred.cdf(level + 0.5) - centred.cdf(level - 0.5)).log2(),
        "Each level has its own price: return a tensor of the shape of `level`.": lambda x: x.shape != level.shape,
        "If math.log2 raised it: that takes one number, torch.log2 a tensor.": ValueError,
        "How much lies between level ± ½?": True,
    }


@exercise("4.4", (torch.arange(12).view(3, 4),), (1000 + torch.eye(2).repeat(2, 3),))
def known(order: torch.Tensor):
    """my_known(order): of the eight places around each, how many are decoded in an earlier pass, (H, W)."""

    def counted(earlier: Callable = torch.lt, window: torch.Tensor = AROUND, **beyond) -> torch.Tensor:
        padded = functional.pad(order[None, None].double(), (1, 1, 1, 1), **(beyond or {"value": math.inf}))
        around = functional.unfold(padded, 3)[0]
        return (earlier(around, around[4]) & window.view(9, 1)).sum(0).view(order.shape)

    yield counted()
    yield {
        "No place knows itself before it is decoded.": counted(torch.le, window=AROUND | ~AROUND),
        "Places of one pass are decoded at the same moment: they do not know each other.": counted(torch.le),
        "Nothing is known beyond the edge.": counted(value=-1),
        "Nothing is known beyond the edge: it is not a copy of the edge.": counted(mode="replicate"),
        "Nothing is known beyond the edge: the other side is no neighbour.": counted(mode="circular"),
        "The padding counts as if it were decoded in pass 0.": counted(value=0),
        "Those that come later are not known yet.": lambda v: any(
            torch.equal(v, counted(torch.gt, value=edge).double()) for edge in (-math.inf, math.inf)
        ),
        "The four at the corners are neighbours, too.": counted(window=CROSS),
        "Count the places around each whose pass is lower than its own.": True,
    }


def noisy_code(network: nn.Module, x: torch.Tensor) -> None:
    """Wrong where a network like NPEG, in training, does not send a sigmoid of noisy logits to its decoder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # an answer is right, or not, each time
        calls, _, stopped = run(network, torch.cat([x, x]), training=True)
        again = run(network, torch.cat([x, x]), training=True)[0]
    if stopped or len(calls) < 8:
        raise Wrong(f"In training, forward does not go through all layers. {stopped}".strip())
    logits, code = calls[3].made, calls[4].given
    undecided = (logits[0].abs() < 4).expand_as(logits)  # where half of the noise leaves a sigmoid that can be undone
    logits = logits[undecided]
    noise = code[undecided].float().clamp(1e-7, 1 - 1e-7).logit() - logits
    low, mean, high = noise.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    spread = (high - low) / 1.349  # as of normal numbers
    slope = noise[logits > 2].median() - noise[logits < -2].median()
    drawn = f"has the mean {mean:.1f} and the standard deviation {spread:.1f}"
    outside, bits = ((code < 0) | (code > 1)).any(), ((code == 0) | (code == 1)).all()
    amiss, bent = abs(mean) > 1.5 or abs(spread - 15) > 0.7, slope.abs() > 1.2
    one, other = noise.chunk(2)
    blame({
        "Right, but it returns more than one thing: return the picture alone.": type(network(x)) in (tuple, list),
        "In training the decoder is given values outside [0, 1]: the sigmoid comes after the noise.": outside,
        "In training the code is not cut to bits.": bits,
        "In training no noise is added.": noise.abs().max() < 0.015,
        "In training the noise is the same each time.": torch.equal(code, again[4].given),
        "In training all pictures of a batch get the same noise.": (one - other).abs().median() < 0.1,
        "In training all places of a channel get the same noise.": noise.diff().abs().median() < 0.1,
        f"In training, what is added before the sigmoid {drawn}, where 0 and 15 are asked.": amiss,
        "In training, something else than noise stands between the encoder's last layer and the sigmoid.": bent,
    })  # fmt: skip


npeg = built("4.A", "npeg", also=noisy_code)


def priced_levels(network: nn.Module, x: torch.Tensor) -> None:
    """Wrong where a codec does not say what its levels cost, by Laplace distributions, in bits per pixel."""
    x = torch.cat([x, x]).requires_grad_()
    pixels = x.numel() / 3

    def cost(levels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return laplace_bits(levels, torch.zeros(()), scale).sum() / pixels

    def noisy(levels: torch.Tensor) -> torch.Tensor:
        """What levels cost in training, in eight draws."""
        return torch.stack([cost(levels + torch.rand_like(levels) - 0.5, log_scale.exp()) for _ in range(8)])

    told, again = (two(network.eval()(x), "things, the picture and the bits per pixel")[1] for _ in range(2))
    if not (isinstance(told, torch.Tensor) and told.numel() == 1):
        raise Wrong("The bits per pixel are one number, a tensor: their sum over all levels, divided by the pixels.")
    levels, log_scale = network.encode(x), network.log_scale
    rounded, scale = levels.round(), log_scale.exp()
    right = cost(rounded, scale)
    network.train()
    trained = torch.stack([network(x)[1] for _ in range(8)])
    wanted = noisy(levels)
    weights = [network.analysis.weight, log_scale, x, network.log_step]
    reached = torch.autograd.grad(trained.sum(), weights, retain_graph=True, allow_unused=True)
    shared = trained.std() > 5 * wanted.std()  # by all channels; by the places of one, its own slope tells

    def spread(prices: torch.Tensor) -> torch.Tensor:
        """How much the slopes of the channels' scales differ from draw to draw."""
        slopes = [torch.autograd.grad(price, log_scale, retain_graph=True)[0] for price in prices]
        return torch.stack(slopes).std(0).mean()

    if None not in reached:
        shared |= spread(trained) > 1.3 * spread(wanted)
        shared |= alike(*reached[2].nan_to_num().chunk(2))  # by the two pictures, which are equal
    same_price = torch.isclose(trained.mean(), wanted.mean(), rtol=0.02)
    picture, straight = network(x)[0], network.decode(levels + (rounded - levels).detach())
    same_picture = torch.allclose(picture, straight, atol=1e-3)
    slopes = [torch.autograd.grad(t.square().sum(), weights[0], retain_graph=True)[0] for t in (picture, straight)]
    near = functools.partial(torch.isclose, told, rtol=1e-3)
    changes = not torch.isclose(told, again, rtol=1e-5)  # two random prices may be as near as 1e-3
    blame({
        "encode must return levels that are not rounded yet: forward rounds them.": torch.equal(levels, rounded),
        "In evaluation no noise is added: the price changes from call to call.": changes,
        "That is the price of a value; a pixel has three of them.": near(right / 3),
        "That is the mean price of a level; asked is that of a pixel.": near(right * pixels / levels.numel()),
        "That is the price of all pixels; divide it by their number.": near(right * pixels),
        "A batch has more pixels than one picture: divide by those of all.": near(right * len(x)),
        "Those are nats; laplace_bits gives bits.": near(right * math.log(2)),
        "A tiny probability became 0, and its logarithm infinite; laplace_bits is safe.": told.isinf(),
        "In evaluation, price the rounded levels: those are what a file holds.": near(cost(levels, scale)),
        "log_scale is a logarithm: the scale is log_scale.exp().": near(cost(rounded, log_scale)),
        f"In evaluation {told.item():.3f} bits per pixel, where {right.item():.3f} are right.": not near(right),
        "In training, price unrounded levels with noise, not rounded ones.": bool((trained == trained[0]).all()),
        "The noise must be as wide as rounding, and its mean zero: torch.rand_like(levels) - 0.5.": not same_price,
        "The noise must be uniform from −½ to ½, and differ from place to place: one for each level.": shared,
        "In training, the picture must be that of rounded levels, too.": not same_picture,
        "In training, the price has no gradient for the kernels, the steps, or log_scale.": None in reached,
        "In training, the gradient passes the rounding unchanged: y + (y.round() - y).detach().": not alike(*slopes),
    })  # fmt: skip
    with torch.no_grad():
        log_scale.fill_(-4)  # so narrow that little noise around 0 costs anything
        trained = torch.stack([network(x)[1] for _ in range(8)])
        price, right, wrong = (t.mean() for t in (trained, noisy(levels), noisy(rounded)))
    blame({"In training, the noise is added to *unrounded* levels.": abs(price - wrong) < abs(price - right)})


factorized = built("4.B", "factorized", also=priced_levels)
