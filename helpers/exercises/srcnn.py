"""Checks of notebook 2: what a network costs and sees, and a loss that leaves the border out."""

from collections.abc import Callable

import torch

from .examine import Wrong, call, exercise, number


@exercise("2.1")
def parameters(answer: Callable) -> None:
    """my_parameters(kernels): weights and biases of SRCNN 1→64→32→1 with these kernel sizes."""
    for kernels, expected in (((9, 1, 5), 8_129), ((9, 5, 5), 57_281)):
        value = number(call(answer, kernels))
        seen = f"{kernels}: {value:,.0f}, but there are {expected:,}."
        if value == expected - 97:
            raise Wrong(f"{seen} The biases are missing: each layer has one per output channel, 64 + 32 + 1.")
        layers = list(zip((1, 64, 32), (64, 32, 1), kernels, strict=True))  # inputs, outputs, k
        if value == sum(i * o * k + o for i, o, k in layers):
            raise Wrong(f"{seen} A kernel is a square: one of size 9 has 81 weights, not 9.")
        if value == sum(o * k * k + o for _, o, k in layers):
            raise Wrong(f"{seen} A kernel looks at every channel of the layer below, with weights for each.")
        if value != expected:
            raise Wrong(f"{seen} Each layer has inputs × outputs × k² weights and a bias per output.")


@exercise("2.2")
def receptive_field(answer: Callable) -> None:
    """my_receptive_field(kernels): side of the square of input pixels that one output pixel sees."""
    for kernels, expected in (((9, 1, 5), 13), ((9, 5, 5), 17), ((3,), 3), ((3, 3, 3, 3), 9)):
        value = number(call(answer, kernels))
        seen = f"{kernels}: {value:g}, but it is {expected}."
        if value == sum(kernels) != expected:
            raise Wrong(f"{seen} Each layer adds k − 1 pixels, not k: a 1×1 layer widens nothing.")
        if value == expected - 1:
            raise Wrong(f"{seen} Before any layer, a pixel sees one already: itself.")
        if value == max(kernels) != expected:
            raise Wrong(f"{seen} The second layer looks at pixels each of which has seen a square of the first.")
        if value == (expected + 1) / 2:
            raise Wrong(f"{seen} A kernel reaches out from the middle to both sides.")
        if value != expected:
            raise Wrong(f"{seen} Start at 1 and add k − 1 for each layer.")


@exercise("2.3")
def loss_border(answer: Callable) -> None:
    """my_loss(prediction, target, border): MSE that leaves out `border` pixels on each side."""
    target = torch.zeros(1, 1, 12, 12)
    prediction = torch.ones(1, 1, 12, 12)
    prediction[..., 3:-3, 3:-3] = 0.5
    loss = call(answer, prediction.clone().requires_grad_(), target, 3)
    value = number(loss.detach() if isinstance(loss, torch.Tensor) else loss)
    if abs(value - (prediction - target).square().mean().item()) < 1e-6:
        raise Wrong("The border still counts: cut it off before you take the mean.")
    if not abs(value - 0.25) <= 1e-6:
        raise Wrong(f"It gives {value:.3f} where 0.250 was expected: the mean over what remains.")
    if not getattr(loss, "requires_grad", False):
        raise Wrong("The number is right, but it carries no gradient, so nothing can be trained by it: no .item().")
    whole = (prediction - target).square().mean().item()
    if not abs(number(call(answer, prediction, target, 0)) - whole) <= 1e-6:  # so that NaN is wrong, too
        raise Wrong("A border of 0 must leave everything: x[..., 0:-0] is empty.")


@exercise("2.4")
def multiply_adds(answer: Callable) -> None:
    """my_multiply_adds(weights, scale, small): multiply-adds per output pixel of a network with so many weights."""
    for weights, scale, small, expected in (
        (57_184, 3, False, 57_184),
        (57_184, 2, True, 14_296),
        (9_000, 3, True, 1_000),
    ):
        value = number(call(answer, weights, scale, small))
        if small and value == weights:
            raise Wrong("A network on the small picture runs once per small pixel, which makes scale² output pixels.")
        if small and abs(value - weights / scale) < 1e-6:
            raise Wrong("The picture shrinks on both sides: divide by scale², not by scale.")
        if small and value == weights * scale**2:
            raise Wrong("Working on the small picture should make it cheaper, not dearer.")
        if not small and abs(value - weights / scale**2) < 1e-6:
            raise Wrong("A network on the enlarged picture runs once for each output pixel: nothing is saved.")
        if not abs(value - expected) <= 1e-6:
            raise Wrong(f"{weights:,} weights, ×{scale}, small={small}: {value:g}, but it is {expected:,}.")
