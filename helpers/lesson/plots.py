"""The figures of the notebooks. All panels of a figure share one scale, [0, 1]; every figure has alt text.

Each function draws, shows and returns None. `show` is how a notebook ends a figure that it drew itself.
"""

import io
import itertools
import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from IPython.display import Image, display
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image as Pillow
from torch import nn

from .. import images, metrics

# Okabe & Ito (2008): told apart by colour-blind readers, too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# a codec has the same colour in all figures; so has what else appears in several
CODECS = dict(zip(("integer-ae", "avif-slow", "jpeg2000", "webp", "avif", "binary-ae", "jpeg"), COLOURS, strict=True))
CODECS |= {
    "avif-psnr": "#A50F15", "jpeg-psnr": "0.35", "jpegxl": "#8C564B", "fitted": "#6A3D9A", "your codec": "#808000",
    "jpeg+jpeg-blind": "#332288", "jpeg-psnr, network": "#332288", "sensed, 4 bits": "#A1D99B",
    "sensed, 6 bits": "#41AB5D", "sensed, 8 bits": "#006D2C", "sensed, one step, coded": "#003C1A",
    "JPEG": "black", "the JPEG itself": "black", "one gray for all pixels": "0.5",
}  # fmt: skip
plt.rc("axes", prop_cycle=plt.cycler(color=COLOURS), grid=True, titlesize=10, axisbelow=True)
plt.rc("axes.spines", top=False, right=False)
plt.rc("grid", alpha=0.3)
plt.rc("figure", dpi=100)
plt.rc("font", size=10)
SMALL = 160  # pixels a side: a panel of three in a row has about twice as many


def show(figure: Figure, alt: str, dpi: int = 100) -> None:
    """Display a figure as a PNG with alt text (which screen readers and the published pages use), and close it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    plt.close(figure)
    display_picture(smallest(Pillow.open(buffer).convert("RGB")), alt)


def smallest(picture: Pillow.Image) -> Pillow.Image:
    """An RGB picture in fewer bytes: one channel if all is gray, a palette of 256 colours if that costs little."""
    red, green, blue = picture.split()
    if red == green == blue:
        return red
    palette = picture.quantize(256, Pillow.Quantize.MEDIANCUT, dither=Pillow.Dither.NONE)
    pair = (images.to_float(images.from_pillow(image)) for image in (palette.convert("RGB"), picture))
    return palette if metrics.psnr(*pair) > 45 else picture  # charts, not photographs: one gray level and a half


def display_picture(picture: Pillow.Image, alt: str, width: int | None = None) -> None:
    """Display a picture as a PNG with alt text, at its own size or `width` pixels wide."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    display(Image(data=buffer.getvalue(), width=width, metadata={"alt": alt}))  # `alt=` needs IPython 8; Colab has 7.34


def compare(
    panels: Mapping[str, torch.Tensor],
    alt: str,
    reference: torch.Tensor | None = None,
    zoom: tuple[int, int, int] | None = None,
    columns: int = 4,
    border: int = 0,
    whole: bool = True,
) -> None:
    """Pictures side by side under their names; with `reference`, PSNR in each title (`border` pixels left out).

    With `zoom` (top, left, side), a marked square of each is shown large below, or alone if not `whole`; PSNR is that
    of the whole picture. Pictures are (C, H, W) in [0, 1], drawn as `draw` does.
    """
    columns, whole = min(columns, len(panels)), whole or not zoom
    height, width = next(iter(panels.values())).shape[-2:]
    shapes = [min(1.3, height / width)] * whole + [1.0] * bool(zoom)  # heights of what one panel has, one below another
    rows, panel = math.ceil(len(panels) / columns), min(3.2, 11 / columns)
    size = (panel * columns, rows * (panel * sum(shapes) + 0.3))
    grid = {"figsize": size, "squeeze": False, "layout": "constrained", "height_ratios": shapes * rows}
    figure, axes = plt.subplots(rows * len(shapes), columns, **grid)
    figure.get_layout_engine().set(h_pad=0.08)
    for axis in axes.flat:
        axis.axis("off")
    stacks = axes.reshape(rows, len(shapes), columns).swapaxes(1, 2).reshape(-1, len(shapes))  # one for each panel
    for axis, (name, image) in zip(stacks, panels.items(), strict=False):
        if whole:
            draw(axis[0], image)
        if zoom:
            top, left, side = zoom
            draw(axis[-1], image[:, top : top + side, left : left + side])
        if zoom and whole:
            for colour, thick in (("white", 3), (COLOURS[1], 1.5)):  # the second alone is lost on an orange flower
                frame = {"fill": False, "ec": colour, "lw": thick}
                axis[0].add_patch(Rectangle((left - 0.5, top - 0.5), side, side, **frame))
        if reference is not None and image.shape == reference.shape:
            pair = [images.shave(images.quantize(images.to_float(t)), border) for t in (image, reference)]
            if not math.isinf(psnr := metrics.psnr(*pair)):
                name = f"{name}\n{psnr:.2f} dB" + " in RGB" * (len(image) == 3) + " of the whole" * (not whole)
        axis[0].set_title(name)
    show(figure, alt)


def draw(axis: plt.Axes, image: torch.Tensor, title: str = "") -> None:
    """One picture on an axis, clipped to [0, 1], gray or RGB, no ticks; a thin frame, so that white ends somewhere.

    Nearest neighbour shows the pixels of a small one as they are. Where a panel has fewer pixels than a picture, or
    hardly more, it would drop or double rows. So a large one is averaged over what each pixel of the panel covers.
    """
    pixels = images.to_float(image).detach().cpu().clamp(0, 1)
    height, width = pixels.shape[-2:]
    times = math.ceil(1280 / width) if width > SMALL else 1  # Matplotlib's filter needs more pixels than the panel has
    pixels = pixels.repeat_interleave(times, -2).repeat_interleave(times, -1)
    shown = pixels[0] if len(pixels) == 1 else pixels.movedim(0, -1)
    look = {"cmap": "gray", "vmin": 0, "vmax": 1, "extent": (-0.5, width - 0.5, height - 0.5, -0.5)}
    axis.imshow(shown.numpy(), **look, interpolation="hanning" if width > SMALL else "nearest")
    axis.axis("on")
    axis.grid(False)
    axis.set(title=title, xticks=[], yticks=[])
    axis.spines[:].set(visible=True, linewidth=0.5, color="0.6")


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    alt: str,
    levels: Mapping[str, float] | None = None,
    logarithmic: str = "",
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Lines y over x by name, and dashed horizontal `levels` to compare with.

    `logarithmic`: "x", "y" or "xy"; `limits`: the ends of the axes, as "xlim" and "ylim".
    """
    levels = levels or {}
    few = len(series) + len(levels) < 4
    figure, axis = plt.subplots(figsize=(7 if few else 8.4, 3.4), layout="constrained")
    for name, (x, y) in series.items():
        look = {"marker": "o" if len(x) < 30 else None, "markersize": 4, "color": CODECS.get(name)}
        axis.plot(x, y, label=name, **look)
    for (name, level), colour in zip(levels.items(), itertools.cycle(reversed(COLOURS)), strict=False):
        axis.axhline(level, linestyle="--", color=CODECS.get(name, colour), label=name)
    scales = {f"{name}scale": "log" if name in logarithmic else "linear" for name in "xy"}
    axis.set(xlabel=xlabel, ylabel=ylabel, **scales, **(limits or {}))
    for ticked in [getattr(axis, f"{name}axis") for name in logarithmic]:
        low, high = ticked.get_view_interval()
        if high < 1000 * low:  # so few powers of ten would leave an axis with hardly a number
            ticked.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ticked.set_major_formatter("{x:g}")
            ticked.set_minor_formatter(NullFormatter())
    beside = {} if few else {"loc": "center left", "bbox_to_anchor": (1, 0.5)}  # many words would cover a line
    axis.legend(edgecolor="none", framealpha=0.9, **beside)
    show(figure, alt)


def filters(weights: Mapping[str, torch.Tensor], alt: str) -> None:
    """First-layer filters (N, 1, k, k) as grids of eight columns; blue is negative, red positive, one scale for all.

    The scale ends where 0.5 % of the weights lie beyond, so that one large weight does not fade all others.
    """
    limit = torch.cat([w.detach().abs().flatten() for w in weights.values()]).quantile(0.995).item()
    figure, axes = plt.subplots(1, len(weights), figsize=(4.6 * len(weights), 4.6), squeeze=False, layout="constrained")
    for axis, (name, kernels) in zip(axes[0], weights.items(), strict=True):
        tiles = torch.nn.functional.pad(kernels.detach(), (1, 1, 1, 1), value=math.nan)  # (N, 1, k + 2, k + 2)
        picture = axis.imshow(images.join_tiles(tiles, 8)[0].numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(name)
        axis.axis("off")
    figure.colorbar(picture, ax=axes[0].tolist(), shrink=0.8, label="weight", extend="both")
    show(figure, alt)


def feature_maps(
    tensors: Mapping[str, torch.Tensor], alt: str, part: Sequence[float] = (0, 1, 0, 1), channels: int = 8
) -> None:
    """The channels that vary most of what layers made, (1, C, H, W) by name, a row each; blue: negative, red: positive.

    All maps of a row have one scale, which its title tells: it ends where 0.5 % of the values lie beyond. `part`: top,
    bottom, left and right of what is shown, as shares of height and width.
    """
    figure = plt.figure(figsize=(11, 1.75 * len(tensors)), layout="constrained")
    rows = figure.subfigures(len(tensors), squeeze=False)[:, 0]
    for row, (name, tensor) in zip(rows, tensors.items(), strict=True):
        height, width = tensor.shape[-2:]
        top, bottom = (round(share * height) for share in part[:2])
        left, right = (round(share * width) for share in part[2:])
        maps = tensor[0, :, top:bottom, left:right].detach().cpu()
        maps = maps[maps.std(dim=(1, 2)).topk(min(channels, len(maps))).indices]
        limit = maps.abs().flatten().quantile(0.995).item()
        scale = f"from {f'−{limit:.2g}' if maps.min() < 0 else 0} to {limit:.2g}"
        row.suptitle(f"{name}: {len(maps)} of {tensor.shape[1]} channels, {scale}", fontsize=10)
        for axis, values in zip(row.subplots(1, channels, squeeze=False)[0], maps, strict=False):
            axis.imshow(values.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            axis.set_axis_off()
    show(figure, alt)


def diagram(steps: Sequence[tuple], alt: str, skips: Sequence[tuple] = ()) -> None:
    """The road of a picture through a network: a bar for each tensor; tall where it is high, wide where it is deep.

    Heights are drawn as square roots, depths as logarithms; the numbers below a bar are channels × height × width.

    `steps`: what is done (a layer, which its weights describe, words, or a tuple of these), and the tensor that it
    makes, (N, C, H, W); the first is what comes in. Sizes are those of the tensors and layers: the network's own.
    `skips`: (step, later step), or (step, later step, words): what the first made is added to what the later one makes,
    or used for it as the words say.
    """
    figure, axis = plt.subplots(figsize=(11, 3.2), layout="constrained")
    largest, at, middles, tops = max(tensor.shape[-2] for _, tensor in steps), 0.0, [], []
    for index, (what, tensor) in enumerate(steps):
        channels, height, width = tensor.shape[-3:]
        tall, thick = (height / largest) ** 0.5, 0.06 * (1 + math.log2(channels))
        if index:
            axis.annotate("", (at + 1.0, 0), (at + 0.05, 0), arrowprops={"arrowstyle": "->", "color": "0.3"})
            axis.text(at + 0.5, 0.06, describe(what), ha="center", va="bottom", fontsize=9)
            at += 1.05
        colour = COLOURS[index and 5]  # what comes in is of the colour of inputs
        axis.add_patch(Rectangle((at, -tall), thick, 2 * tall, facecolor=colour, edgecolor="0.3", alpha=0.6))
        axis.text(at + thick / 2, -tall - 0.08, f"{channels} × {height} × {width}", ha="center", va="top", fontsize=9)
        middles.append(at + thick / 2)
        tops.append(tall)
        at += thick
    colour = COLOURS[1]
    for number, (start, end, *words) in enumerate(skips):
        over = max(tops[start : end + 1]) + 0.2 + 0.15 * (number % 2)
        left, right = middles[start], middles[end]
        axis.plot([left, left, right], [tops[start], over, over], color=colour)
        tip = {"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (right, tops[end]), (right, over), arrowprops=tip)
        axis.text((left + right) / 2, over + 0.06, *(words or ["+"]), color=colour, ha="center", fontsize=11)
    axis.set(xlim=(-0.5, at + 0.5), ylim=(-1.35, max(tops) + (0.55 if skips else 0.1)))
    axis.axis("off")
    show(figure, alt)


def loop(boxes: Sequence[str], arrows: Sequence[str], alt: str, beside: Sequence[tuple[int, int, str]] = ()) -> None:
    """What happens again and again: boxes in a row, words on the arrows between them.

    `beside`: (box, other box, words): arrows above the row to a later box, below it back to an earlier one.
    """
    figure, axis = plt.subplots(figsize=(11, 2.7), layout="constrained")
    frame = {"boxstyle": "round,pad=0.5", "facecolor": COLOURS[5], "edgecolor": "0.3", "alpha": 0.6}
    for at, words in enumerate(boxes):
        axis.text(at, 0, words, ha="center", va="center", fontsize=12, bbox=frame)
    for at, words in enumerate(arrows):
        axis.annotate("", (at + 0.7, 0), (at + 0.3, 0), arrowprops={"arrowstyle": "->", "color": "0.3"})
        axis.text(at + 0.5, 0.07, words, ha="center", va="bottom", fontsize=10)
    for start, end, words in beside:
        side, colour = (1, "0.3") if start < end else (-1, COLOURS[1])
        axis.plot([start, start, end], [0.2 * side, 0.6 * side, 0.6 * side], color=colour)
        tip = {"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (end, 0.2 * side), (end, 0.6 * side), arrowprops=tip)
        axis.text((start + end) / 2, 0.67 * side, words, color=colour, ha="center", va="center", fontsize=10)
    axis.set(xlim=(-0.4, len(boxes) - 0.6), ylim=(-0.85, 0.85))
    axis.axis("off")
    show(figure, alt)


def describe(what: str | nn.Module | tuple) -> str:
    """A convolution by its kernel, stride and channels, in short lines; a tuple part by part; words as they are."""
    if isinstance(what, tuple):
        return "\n".join(map(describe, what))
    if isinstance(what, nn.Conv2d | nn.ConvTranspose2d):
        kind = "transposed\nconv" if isinstance(what, nn.ConvTranspose2d) else "conv"
        side, stride = what.kernel_size[0], f"\nstride {what.stride[0]}" if what.stride[0] > 1 else ""
        return f"{kind} {side}×{side}{stride}\n{what.in_channels} → {what.out_channels}"
    return what if isinstance(what, str) else type(what).__name__
