"""Checks of notebook 2: what a network sees and costs, and a loss that leaves the border out."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ... import images
from .build import built
from .examine import blame, call, compare, examined, exercise


def _stack(*layers: tuple[int, int, int, int]) -> Callable:
    """Convolutions by height, width, stride and gap between their taps, (N, 1, H, W) → (N, 1, h, w).

    Their weights are -1 and 1 from column to column: the first and the last gradient of a row may be negative.
    """

    def network(x: torch.Tensor) -> torch.Tensor:
        for height, width, stride, gap in layers:
            edge = gap * (height // 2), gap * (width // 2)
            signs = 2.0 * (torch.arange(width) % 2) - 1
            x = F.conv2d(x, signs.expand(1, 1, height, width), stride=stride, dilation=gap, padding=edge)
        return x

    return network


GIVEN = torch.linspace(0, 1, 40 * 48).view(1, 1, 40, 48)
STACKS = [(9, 9, 1, 1), (1, 1, 1, 1), (5, 5, 1, 1)], [(3, 9, 1, 2)], [(3, 3, 2, 1), (3, 3, 1, 1)]


@exercise("2.1", *((_stack(*layers), GIVEN) for layers in STACKS))
def sight(network: Callable, x: torch.Tensor):
    """my_sight(network, x): columns of `x` that one pixel of network(x) depends on, from the first to the last."""
    x = x.clone().requires_grad_()
    made = network(x)
    middle = made[..., made.shape[-2] // 2, made.shape[-1] // 2].sum()
    gradient = torch.autograd.grad(middle, x)[0][0, 0]
    rows, columns = gradient.nonzero().T
    above = (gradient > 0).nonzero()[:, 1]
    yield (right := columns.max() - columns.min() + 1)
    yield {
        "Those are rows; columns lie along the last axis.": rows.max() - rows.min() + 1,
        "Between the columns with a gradient lie some without: count from first to last.": len(columns.unique()),
        "That is the last column less the first; count both.": right - 1,
        "That is how far it sees to one side.": (right - 1) / 2,
        "A gradient may be negative: ask where it is not zero.": above.max() - above.min() + 1,
        "Those are all pixels that it depends on; in how many columns do they lie?": len(columns),
        "Take the middle of the *output*, which may be smaller than x.": IndexError,
        "Ask one pixel of the output, in the middle; you asked all of them.": x.shape[-1],
        "x must ask for a gradient before the network sees it (x.requires_grad_()); send one pixel back.": RuntimeError,
        "Send a gradient back from one output pixel: in which columns of x does it arrive?": True,
    }


@exercise("2.2", ((9, 1, 5),), ((9, 5, 5),), ((3,),), ((3, 3, 3, 3),), ((4, 6),))
def receptive_field(kernels: tuple[int, ...]):
    """my_receptive_field(kernels): side of the square of input pixels that one output pixel sees."""
    yield (right := 1 + sum(k - 1 for k in kernels))
    halves = 1 + 2 * sum(k // 2 for k in kernels)
    yield {
        "Each layer adds k − 1 pixels, not k: a 1×1 layer widens nothing.": sum(kernels),
        "Before any layer, a pixel sees one already: itself.": right - 1,
        "Each pixel that the second layer looks at has already seen a square of the input.": max(kernels),
        "A kernel reaches out from the middle to both sides.": (right + 1) / 2,
        "That is the area; one side is asked.": right**2,
        "A kernel of even width reaches further to one side: it adds k − 1 as well.": halves,
        "Start at 1 and add k − 1 for each layer.": True,
    }


def _loss(prediction: torch.Tensor, target: torch.Tensor, border: int) -> torch.Tensor:
    return images.shave(prediction - target, border).square().mean()


def _cut_apart(prediction: torch.Tensor, target: torch.Tensor, border: int) -> Callable:
    """A test of a loss: one of the two was cut from its top left corner."""
    pair = [images.shave(t, border) for t in (prediction, target)]
    height, width = pair[0].shape[-2:]
    corners = [t[..., :height, :width] for t in (prediction, target)]
    losses = F.mse_loss(corners[0], pair[1]), F.mse_loss(pair[0], corners[1])
    return lambda x: x.dim() == 0 and min(abs(x - loss) for loss in losses) < 1e-6


@examined("2.3", course=_loss)
def loss_border(answer: Callable) -> None:
    """my_loss(prediction, target, border): MSE that leaves out `border` pixels on each side."""
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 2, 1, 12, 16, generator=generator)  # (2, 1, 12, 16) each
    for border in (3, 1):
        case = prediction, target, border
        inside, wanted = (images.shave(t, border) for t in (prediction, target))
        wrong = {
            "The border still counts: cut it off before you take the mean.": _loss(prediction, target, 0),
            "Nothing is left: cut `border` pixels off each side of the last two axes.": lambda x: x.isnan().any(),
            "It does not depend on the target.": inside.square().mean(),
            "It does not depend on the prediction.": wanted.square().mean(),
            "Target and prediction are cut at different places.": _cut_apart(*case),
            "That is the sum of the squares; take their mean.": (inside - wanted).square().sum(),
            "Height and width differ: each axis has its own end.": _loss(
                prediction[..., :12], target[..., :12], border
            ),
            "Take the mean of the squares over what remains.": True,
        }
        compare(answer, case, _loss(*case), wrong, 1e-6)
    empty = {
        "A border of 0 must leave everything: x[..., 0:-0] is empty.": lambda x: x.isnan().any(),
        "A border of 0 must leave everything.": True,
    }
    compare(answer, (prediction, target, 0), _loss(prediction, target, 0), empty, 1e-6)
    bare = "The number is right, but has no gradient to train by: no .item(), .detach() or .numpy()."
    prediction.requires_grad_()
    right = _loss(prediction, target, 3).detach()
    compare(answer, (prediction, target, 3), right, {bare: RuntimeError}, 1e-6)
    blame({bare: getattr(call(answer, prediction, target, 3), "grad_fn", None) is None})


@exercise("2.4", (57_184, 3, False), (57_184, 2, True), (12_464, 3, True))
def multiply_adds(weights: int, scale: int, small: bool):
    """my_multiply_adds(weights, scale, small): multiply-adds per output pixel of a network with so many weights."""
    yield weights / scale**2 if small else weights
    enlarged = {
        "That counts a multiply-add as two operations; count it once.": 2 * weights,
        "A network on the enlarged picture runs once for each output pixel: nothing is saved.": weights / scale**2,
        "A network on the enlarged picture uses each weight once per output pixel.": weights * scale**2,
    }
    reduced = {
        "`^` is no power in Python; write scale**2.": ZeroDivisionError,
        "The scale is an argument; here it is not 3.": weights / 9,
        "A number of multiply-adds per pixel may be a fraction: divide by `/`.": weights // scale**2,
        "A network on the small picture runs once per small pixel, which makes scale² output pixels.": weights,
        "The picture shrinks on both sides: divide by scale², not by scale.": weights / scale,
        "Working on the small picture should make it cheaper, not dearer.": weights * scale**2,
    }
    yield reduced if small else enlarged


fsrcnn, edsr = built("2.A", "fsrcnn-x3"), built("2.B", "edsr-x3")
skyline = built("2.C", "skyline")
