"""Whether a network that a learner built is ours: our trained weights fit it, and with them it computes the same.

The learner chooses the names of layers, and their order in the class: layers are paired in the order in which `forward`
first calls them. What departs first is told, with what would explain it.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from ... import datasets, degradations, images, metrics, models, zoo
from ...service.files import reason
from .examine import NotAttempted, Wrong, in_stages, verdict


class Call(NamedTuple):
    """The first call of a layer that has weights: what it was given, and what it made of that."""

    name: str
    layer: nn.Module
    given: torch.Tensor
    made: torch.Tensor

    def __str__(self):
        """Its name, and all that a convolution is given."""
        about = str(self.layer) if isinstance(self.layer, nn.Conv2d | nn.ConvTranspose2d) else type(self.layer).__name__
        return f"{self.name or 'the network itself'}, {about}"

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the layer's own weights."""
        return [tuple(weight.shape) for weight in own(self.layer)]


def built(label: str, name: str, noisy: bool = False, **options) -> Callable:
    """A check of a network's class, headed "Build `label`", against the shipped network of that name.

    Where none of that name is shipped, it is a kind of network, and ours is a fresh one with these `options`.
    `noisy`: in training it draws noise.
    """

    def check(answer) -> None:
        asked = f"a class that makes a network that computes what {name} does."
        print(f"Build {label}: {in_stages(label, check.verdict(answer), asked)}")

    check.label, check.network, check.noisy = label, name, noisy
    check.course = functools.partial(fresh, name, **options)
    check.verdict = functools.partial(verdict, functools.partial(examine_class, check))
    return check


def weights(network: nn.Module, name: str) -> nn.Module:
    """Put the weights of the shipped network `name` into a learner's, and print what came of it, in a line.

    Returns the learner's network where it then computes what ours does, else ours: what a notebook goes on with.
    """
    ours = zoo.load(name)
    x, clean = sample(name, ours)
    said = verdict(functools.partial(examine, ours, x), network)
    passed = said == "passed."
    if passed:
        with torch.inference_mode():
            made = images.quantize(first(network(x))[0].clamp(0, 1))
        said = f"your network, our weights: {metrics.psnr(made, clean):.1f} dB on the cat's eye, as ours."
    print(f"{name}: {said}")
    return network if passed else ours


def fresh(name: str, **options) -> nn.Module:
    """Our network: a shipped one without its weights, or a kind of network."""
    if name in zoo.available().index:
        options = zoo.card(name)["network"]
        return models.build(**options)
    return models.build(name, **options)


def sample(name: str, ours: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network is given, (1, C, h, w), and the clean picture, (C, 96, 96), by the task of its card."""
    task = zoo.card(name)["task"] if name in zoo.available().index else "jpeg"
    clean = images.load_uint8(datasets.bundled("chelsea"))[:, 60:156, 150:246]
    clean = clean if getattr(ours, "channels", 1) == 3 else images.luma_uint8(clean)
    spoil = {"jpeg": "jpeg-q20"}.get(task, task)
    x = clean if task in ("codec", "cs") else degradations.for_task(spoil)(clean)
    return images.to_float(x)[None], images.to_float(clean)


def examine_class(check: Callable, answer: type) -> None:
    """Raise what `examine` raises of the network that a learner's class makes."""
    ours = zoo.load(check.network) if check.network in zoo.available().index else check.course()
    network = answer()
    if network is None or network is ...:
        raise NotAttempted
    if not isinstance(network, nn.Module):
        raise Wrong(f"It makes {type(network).__name__}, not an nn.Module.")
    x = sample(check.network, ours)[0]
    examine(ours, x, network)
    with torch.inference_mode():
        twice = [first(network.train()(x)) for _ in range(2)]
    if check.noisy and alike(*twice):
        raise Wrong("In evaluation it is right. In training it should draw noise, so that no two calls agree.")


def examine(ours: nn.Module, x: torch.Tensor, network: nn.Module) -> None:
    """Give a network our weights. Raises Wrong with what departs first, NotAttempted where `forward` does nothing."""
    x = 4 * x - 1  # its values leave [0, 1], so that a network that clips differs
    right, wanted, _ = run(ours, x)
    theirs, made, stopped = run(network, x)
    if made is None and not stopped and not theirs:
        raise NotAttempted
    for mine, other in zip(theirs, right, strict=False):
        alike_in_kind = type(mine.layer) is type(other.layer) or next(mine.layer.children(), None) is not None
        if not alike_in_kind or mine.shapes() != other.shapes():
            raise Wrong(f"In the order of the calls, your next layer is {mine}; ours is {other}.")
    if stopped:
        raise Wrong(f"forward raised, {f'after {theirs[-1]}' if theirs else 'before any layer'}: {stopped}")
    if len(theirs) < len(right):
        count = sum(next(own(layer), None) is not None for layer in network.modules())
        made_too = f" Your class makes {count} layers with weights; does forward call them all?" * (count > len(theirs))
        raise Wrong(f"Here your forward calls no more layers; ours goes on with {right[len(theirs)]}.{made_too}")
    if len(theirs) > len(right):
        raise Wrong(f"Your forward calls a layer more than ours: {theirs[len(right)]}.")
    with torch.no_grad():
        for mine, other in zip(theirs, right, strict=True):
            for new, old in zip(own(mine.layer), own(other.layer), strict=True):
                new.copy_(old)
    theirs, made, stopped = run(network, x)
    known = {"what the network is given": x, "the enlarged input": enlarged(x, wanted)}
    for mine, other in zip(theirs, right, strict=True):
        if hint := departs(mine.given, other.given, known):
            raise Wrong(f"What enters {mine.name} is not what enters our {other.name}. {hint}")
        if mine.name and (hint := departs(mine.made, other.made, {})):
            raise Wrong(f"{mine} is given what ours is, and makes something else; ours is {other}. {hint}")
        known |= {f"what enters {mine.name}": other.given, f"what leaves {mine.name}": other.made}
    if made is None:
        raise Wrong("Your forward computes all that ours does, and returns nothing: return the last result.")
    if hint := departs(made, wanted, known):
        raise Wrong(f"All layers agree with ours; what your network returns does not. {hint}")


def run(network: nn.Module, x: torch.Tensor) -> tuple[list[Call], torch.Tensor | None, str]:
    """The calls of a network's layers with weights, what it returns, and what it raised, in a line."""
    calls, names = {}, {layer: name for name, layer in network.named_modules()}

    def note(layer: nn.Module, given: tuple, made) -> None:
        if layer not in calls and given and made is not None:
            calls[layer] = Call(names[layer], layer, *(first(value).clone() for value in (given, made)))

    hooks = [layer.register_forward_hook(note) for layer in names if next(own(layer), None) is not None]
    made, stopped = None, ""
    try:
        with torch.inference_mode():
            made = first(network.eval()(x))
    except Exception as why:  # whatever a learner's forward raises is an answer to explain
        stopped = f"{type(why).__name__}: {reason(why)}"
    for hook in hooks:
        hook.remove()
    return sorted(calls.values(), key=lambda call: call.name != ""), made, stopped  # first the network itself


def own(layer: nn.Module) -> Iterator[torch.Tensor]:
    """The weights that a layer holds itself."""
    return layer.parameters(recurse=False)


def first(value) -> torch.Tensor | None:
    """A tensor, or the first of those that a network or a layer returns or is given."""
    return value[0] if isinstance(value, tuple | list) else value


def enlarged(x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The input at the size of the output."""
    scale = wanted.shape[-1] // x.shape[-1]
    return degradations.upscale(x, scale) if scale > 1 else x


def departs(mine, right: torch.Tensor, known: dict[str, torch.Tensor]) -> str:
    """Empty where two tensors agree; else what would make them agree, by what was computed before them."""
    if not isinstance(mine, torch.Tensor):
        return f"It is {type(mine).__name__}, not a tensor."
    if mine.shape != right.shape:
        return f"It has the shape {tuple(mine.shape)}, and ours {tuple(right.shape)}."
    if alike(mine, right):
        return ""
    hints = {
        "It is clipped to [0, 1]: leave that to restore(), or no loss can pull it back.": (mine, right.clamp(0, 1)),
        "A ReLU is missing before it.": (mine.relu(), right),
        "A ReLU is too many before it.": (mine, right.relu()),
    }
    for what, value in known.items():
        if value.shape == right.shape:
            hints[f"A skip is missing: add {what}."] = (mine + value, right)
            hints[f"A skip is too many: {what} is added."] = (mine, right + value)
            hints[f"It is {what}, and nothing else."] = (mine, value)
    for hint, (one, other) in hints.items():
        if alike(one, other):
            return hint
    if alike(mine.flatten().sort().values, right.flatten().sort().values):
        return "The numbers are right, their order is not: look at how they are laid out as a picture."
    at = torch.unravel_index((mine - right).abs().argmax(), right.shape)
    return f"The largest difference is {(mine - right)[at].item():+.3g}, at {tuple(int(i) for i in at)}."


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal, but for the order in which sums are added up."""
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
