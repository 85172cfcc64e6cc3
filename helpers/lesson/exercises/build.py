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
from .examine import NotAttempted, Wrong, blame, examined, verdict


class Call(NamedTuple):
    """The first call of a layer that has weights: what it was given, and what it made of that."""

    name: str
    layer: nn.Module
    given: torch.Tensor
    made: torch.Tensor
    again: bool = False  # it is called several times

    def __str__(self):
        """Its name, and all that it was made with."""
        return f"{self.name}, {self.layer}"

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the layer's own weights."""
        return [tuple(weight.shape) for weight in own(self.layer)]


def built(label: str, name: str, also: Callable | None = None, **options) -> Callable:
    """A check of a network's class, headed "Build `label`", against the shipped network of that name.

    Where none of that name is shipped, it is a kind of network, and ours is a fresh one with these `options`.
    `also(network, x)` raises Wrong where more is wrong with a network that computes what ours does in evaluation.
    """
    course = functools.partial(fresh, name, **options)

    @examined(label, course, kind="Build")
    def check(answer: type) -> None:
        """what the task above says, layer by layer."""  # noqa: D403  (a half of a sentence)
        ours = zoo.load(name) if zoo.has(name) else course()
        x = sample(name, ours)[0]
        network = examine_class(answer, ours, x)
        if also:
            also(network, x)

    check.network = name
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
            made = images.quantize(first(network.eval()(x))[0].clamp(0, 1))
        whose = "ours stands in" if type(network) is type(ours) else "your network, our weights"
        said = f"{whose}: {metrics.psnr(made, clean):.1f} dB on the cat's eye."
    print(f"{name}: {said}")
    return network if passed else ours


def fresh(name: str, **options) -> nn.Module:
    """Our network: a shipped one without its weights, or a kind of network with these options."""
    return models.build(**zoo.card(name)["network"]) if zoo.has(name) else models.build(name, **options)


def sample(name: str, ours: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network is given, (1, C, h, w), and the clean picture, (C, 96, 96), by the task of its card."""
    task = zoo.card(name)["task"] if zoo.has(name) else "jpeg"
    clean = images.load_uint8(datasets.bundled("chelsea"))[:, 60:156, 150:246]
    clean = clean if getattr(ours, "channels", 1) == 3 else images.luma_uint8(clean)
    spoil = {"jpeg": "jpeg-q20"}.get(task, task)
    x = clean if task in ("codec", "cs") else degradations.for_task(spoil)(clean)
    return images.to_float(x)[None], images.to_float(clean)


def examine_class(answer: type, ours: nn.Module, x: torch.Tensor) -> nn.Module:
    """The network that a learner's class makes, with our weights. Raises Wrong, NotAttempted, as `examine` does."""
    blame({"That is a network; give the class itself, without the brackets after it.": isinstance(answer, nn.Module)})
    network = answer()
    if network is None or network is ...:
        raise NotAttempted
    blame({f"It makes {type(network).__name__}, not an nn.Module.": not isinstance(network, nn.Module)})
    examine(ours, x, network)
    narrow = x[..., : 2 * x.shape[-1] // 3]
    _, made, stopped = run(network, narrow)
    if stopped or departs(made, run(ours, narrow)[1], {}):
        but = f"but not for {narrow.shape[-1]}. {stopped}".strip()
        raise Wrong(f"It does what ours does for {x.shape[-1]} columns, {but}")
    several = [isinstance(model.eval()(narrow), tuple | list) for model in (network, ours)]
    blame({"Right, but it returns more than one thing: return the picture alone.": several == [True, False]})
    learns = []
    for model in (network, ours):
        made = first(model.train()(narrow))
        if made.requires_grad:
            made.square().sum().backward()
        learns.append(sum(w.grad is not None and bool(w.grad.any()) for w in model.parameters()))
    if learns[0] < learns[1]:
        reached = f"in training a gradient reaches {learns[0]} of its weights, and {learns[1]} of ours"
        raise Wrong(f"Right, but {reached}. Rounding and thresholds have none, nor has what is computed under no_grad.")
    return network


def examine(ours: nn.Module, x: torch.Tensor, network: nn.Module) -> None:
    """Give a network our weights. Raises Wrong with what departs first, NotAttempted where `forward` does nothing."""
    x = 6 * x - 2  # its values leave [0, 1], so that a network that clips differs
    right, wanted, _ = run(ours, x)
    theirs, made, stopped = run(network, x)
    if made is None and not stopped and not theirs:
        raise NotAttempted
    pair_layers(network, theirs, stopped, ours, right)
    with torch.no_grad():
        for mine, other in [(network, ours), *((a.layer, b.layer) for a, b in zip(theirs, right, strict=True))]:
            for new, old in zip(own(mine), own(other), strict=True):
                new.copy_(old)
    theirs, made, stopped = run(network, x)
    known = {"what the network is given": x}
    if (scale := wanted.shape[-1] // x.shape[-1]) > 1:
        known["the enlarged input"] = enlarged = degradations.upscale(x, scale)
        sharper = nn.functional.interpolate(x, scale_factor=scale, mode="bicubic")
        known["degradations.upscale's picture, not nn.functional.interpolate's"] = enlarged - sharper
    for mine, other in zip(theirs, right, strict=True):
        if hint := departs(mine.given, other.given, known):
            unpadded = [getattr(call.layer, "padding", 0) == (0, 0) for call in (mine, other)]
            hint += " Let the layer itself pad." * (unpadded == [True, False]) + further(network, x, made, wanted)
            raise Wrong(f"What enters {mine.name} is not what enters our {other.name}. {hint}")
        if hint := departs(mine.made, other.made, {}):
            modes = [getattr(call.layer, "padding_mode", "") for call in (mine, other)]
            if modes[0] != modes[1]:
                hint = "Yours has padding_mode={!r}, ours {!r}: look at what lies beyond the edge.".format(*modes)
            raise Wrong(f"{mine} is given what ours is, and makes something else; ours is {other}. {hint}")
        known |= {f"what enters {mine.name}": other.given, f"what leaves {mine.name}": other.made}
    blame({"Your forward computes all that ours does, and returns nothing: return the last result.": made is None})
    if hint := departs(made, wanted, known):
        raise Wrong(f"All layers agree with ours; what your network returns does not. {hint}")


def pair_layers(network: nn.Module, theirs: list[Call], stopped: str, ours: nn.Module, right: list[Call]) -> None:
    """Raise Wrong where a layer that is called next, or a network's own parameters, cannot take our weights."""
    if [w.shape for w in own(network)] != [w.shape for w in own(ours)]:
        if not (shapes := [tuple(w.shape) for w in own(ours)]):
            raise Wrong("Ours has no parameters outside of layers: put all weights into layers, and call those.")
        raise Wrong(f"Ours has parameters of its own, outside of layers, of the shapes {shapes}; yours has others.")
    left_out = sorted({name for name, _ in weighty(network)} - {call.name for call in theirs})
    more = unseen(network)
    if left_out and not stopped:
        more = f" It does not call {', '.join(left_out)}. Call layers: a function that takes their weights is not seen."
    for mine, other in zip(theirs, right, strict=False):
        if type(mine.layer) is not type(other.layer) or mine.shapes() != other.shapes():
            unlike = isinstance(mine.layer, nn.PReLU) and not isinstance(other.layer, nn.PReLU)
            again = unlike and any(call.again for call in right)
            said = f"In the order of the calls, your next layer is {mine}; ours is {other}."
            raise Wrong(said + " Ours calls one PReLU several times." * again + more)
    if stopped:
        raise Wrong(f"forward raised, {f'after {theirs[-1]}' if theirs else 'before any layer'}: {stopped}")
    if len(theirs) < len(right):
        raise Wrong(f"Here your forward calls no new layers; ours goes on with {right[len(theirs)]}.{more}")
    if len(theirs) > len(right):
        raise Wrong(f"Your forward calls a layer more than ours: {theirs[len(right)]}.")


def unseen(network: nn.Module) -> str:
    """Why layers that a class makes may be missing in the calls, in a sentence; empty where nothing tells."""
    for name, value in vars(network).items():
        if isinstance(value, list | tuple) and any(isinstance(part, nn.Module) for part in value):
            return f" A Python list, {name}, hides its layers from PyTorch; make it an nn.ModuleList or nn.Sequential."
    if len(weighty(network, twice=True)) > len(weighty(network)):
        return " One layer stands in several places, with the same weights; ours are layers of their own."
    return ""


def weighty(network: nn.Module, twice: bool = False) -> list[tuple[str, nn.Module]]:
    """The layers that hold weights, by name; one that stands in several places once, or `twice` at each of them."""
    layers = network.named_modules(remove_duplicate=not twice)
    return [(name, layer) for name, layer in layers if name and next(own(layer), None) is not None]


def run(network: nn.Module, x: torch.Tensor, training: bool = False) -> tuple[list[Call], torch.Tensor | None, str]:
    """The first calls of a network's layers with weights, what it returns, and what it raised, in a line."""
    calls, names = {}, {layer: name for name, layer in weighty(network)}

    def note(layer: nn.Module, given: tuple, named: dict, made) -> None:
        if layer in calls:
            calls[layer] = calls[layer]._replace(again=True)
        elif made is not None:
            calls[layer] = Call(names[layer], layer, *(first(v).clone() for v in ((*given, *named.values()), made)))

    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in names]
    made, stopped = None, ""
    try:
        with torch.inference_mode():
            made = first(network.train(training)(x.clone()))
    except Exception as why:  # whatever a learner's forward raises is an answer to explain
        stopped = f"{type(why).__name__}: {reason(why).rstrip('.')}."
    for hook in hooks:
        hook.remove()
    return list(calls.values()), made, stopped


def own(layer: nn.Module) -> Iterator[torch.Tensor]:
    """The weights that a layer holds itself."""
    return layer.parameters(recurse=False)


def first(value) -> torch.Tensor | None:
    """A tensor, or the first of those that a network or a layer returns or is given."""
    return value[0] if isinstance(value, tuple | list) else value


def departs(mine, right: torch.Tensor, known: dict[str, torch.Tensor]) -> str:
    """Empty where two tensors agree; else what would make them agree, by what was computed before them."""
    if not isinstance(mine, torch.Tensor):
        return f"It is {type(mine).__name__}, not a tensor."
    if mine.shape != right.shape:
        return f"It has the shape {tuple(mine.shape)}, and ours {tuple(right.shape)}."
    if alike(mine, right):
        return ""
    hints = {
        "Ours is cut to bits here: 1 above 0.5, else 0.": ((mine > 0.5).to(mine.dtype), right),
        "A ReLU is missing before it.": (mine.relu(), right),
        "It has no negative values: a ReLU, or a clamp, is too many before it.": (mine, right.relu()),
        "It is clipped to [0, 1]: leave that to restore(), or no loss can pull it back.": (mine, right.clamp(0, 1)),
    }
    added = [torch.zeros(())]
    for what, value in known.items():
        if value.numel() == right.numel() and (side := right.shape[-1] // value.shape[-1]) > 1:  # pixels in channels
            value = nn.functional.pixel_shuffle(value, side)
        if value.shape == right.shape:
            added.append(value)
            if alike(nn.functional.elu(value), right) and alike(value.relu(), mine):
                return f"A ReLU is applied to {what}; ours is an ELU."
            hints[f"A skip is missing: add {what}."] = (mine + value, right)
            hints[f"A skip is too many: {what} is added."] = (mine, right + value)
            hints[f"It equals {what}: a step that ours takes in between is missing."] = (mine, value)
            hints[f"A ReLU is applied to {what}; ours has none there."] = (mine, right - value + value.relu())
            hints[f"It is 1 where {what} is above 0.5: the sigmoid comes first."] = (mine, (value > 0.5).to(mine.dtype))
            hints[f"`x += …` has changed {what}, too: write x = x + …, a new tensor."] = (mine, 2 * (right - value))
    for hint, (one, other) in hints.items():
        if alike(one, other):
            return hint
    orders = [[(made - part).flatten().sort().values for made in (mine, right)] for part in added]
    if any(torch.allclose(*both, rtol=0, atol=1e-6 * float(right.abs().max())) for both in orders):
        return "The numbers are right, their order is not: look at how they are laid out as a picture."
    if min(right.shape[-2:]) > 20 and alike(mine[..., 8:-8, 8:-8], right[..., 8:-8, 8:-8]):
        return "Only its edge differs: look at the padding."
    difference = (mine - right).flatten()
    most, channels = f"{difference[difference.abs().argmax()].item():+.3g}", right.shape[1]
    times = (mine.norm() / right.norm()).item()
    most += f": it is about {times:.2g} times as large as ours, so a factor is amiss" * (times > 4 or times < 0.25)
    if channels == 1:
        if len(difference) > 1 and alike(mine - difference.mean(), right):
            return f"It differs by {difference.mean().item():+.3g} everywhere."
        return f"It differs by up to {most}."
    other = [channel for channel in range(channels) if not alike(mine[:, channel], right[:, channel])]
    which = f"{len(other)} of {channels}" if len(other) < channels else f"All {channels}"
    in_a_row = 1 < len(other) < channels and other[-1] - other[0] == len(other) - 1
    return f"{which} channels differ{f', {other[0]} to {other[-1]}' * in_a_row}, by up to {most}."


def further(network: nn.Module, x: torch.Tensor, made, wanted: torch.Tensor) -> str:
    """Why a network that made something else than `wanted` of `x` departs, where another run of it tells."""
    if isinstance(made, torch.Tensor) and departs(run(network, x)[1], made, {}):
        return " In evaluation it makes something else each time: noise is for training alone."
    with torch.no_grad():
        for weight in own(network):
            weight.exp_()
    again = list(own(network)) and not departs(run(network, x)[1], wanted, {})
    return " Its own parameters are logarithms: .exp() them." if again else ""


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal, but for the order in which sums are added up."""
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
