"""What a learner moves: knobs, a before/after slider, "try your own picture". Valid for ipywidgets 7 and 8.

Each widget wraps a plain function that can be called, and is tested, without it.
"""

import io
from collections.abc import Callable

import ipywidgets
import torch
from IPython.display import display

from .. import images
from . import plots

HANDLE = (213, 94, 0)  # the line between before and after, in the vermilion of `plots.COLOURS`
WIDTH = 600  # of a picture under a slider, in pixels


def split_view(before: torch.Tensor, after: torch.Tensor, position: float = 0.5) -> torch.Tensor:
    """`before` left of `position` (0 to 1 of the width), `after` right of it, and a line between: uint8 (3, H, W).

    The pictures, (C, H, W) in [0, 1], must be of one size; gray ones become RGB.
    """
    left, right = (images.to_uint8(images.to_float(t)).expand(3, -1, -1) for t in (before, after))
    column = round(position * left.shape[-1])
    view = torch.cat([left[..., :column], right[..., column:]], dim=-1)
    view[..., max(0, column - 1) : column + 1] = torch.tensor(HANDLE, dtype=torch.uint8)[:, None, None]
    return view


def show(picture: torch.Tensor, alt: str, width: int | None = None) -> None:
    """Display one picture, (C, H, W), at its own size, or at most `width` pixels wide.

    A small one has its pixels repeated as often as they fit: a browser that enlarges would blur what is to be compared.
    """
    times = max(1, (width or 0) // picture.shape[-1])
    picture = picture.repeat_interleave(times, -1).repeat_interleave(times, -2)
    plots.display_picture(images.to_pillow(picture), alt, width if picture.shape[-1] > (width or 0) else None)


def own_picture(restore: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], example: str) -> None:
    """Upload a picture or type its path; `restore(picture)` gives (before, after), with a slider for the border.

    `example` is the path that stands in the field, and is shown first.
    """

    def with_slider(picture: torch.Tensor) -> None:
        pair = restore(picture)
        slider = ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="border", continuous_update=False)
        ipywidgets.interact(lambda border: show(split_view(*pair, border), "Before and after.", WIDTH), border=slider)

    _ask_for_picture(with_slider, example)


def own_codec(
    code: Callable, example: str, setting: str = "quality", values: tuple[int, int, int] = (0, 100, 30)
) -> None:
    """As `own_picture` for a codec, with a slider for its setting, from least to most, beginning at the third value.

    `code(picture, setting)` gives the decoded picture, which is shown at the right of the original, and a line of text.
    """
    least, most, first = values
    scale = {"min": least, "max": most, "step": 5 if most > 50 else 1, "description": setting}

    def with_slider(picture: torch.Tensor) -> None:
        def coded(value: int) -> None:
            decoded, line = code(picture, value)
            print(line)
            show(split_view(picture, decoded), f"Left the original, right the picture of the file: {line}", WIDTH)

        ipywidgets.interact(coded, value=ipywidgets.IntSlider(first, **scale, continuous_update=False))

    _ask_for_picture(with_slider, example)


def _ask_for_picture(use: Callable[[torch.Tensor], None], example: str) -> None:
    """A field for a path and a button to upload; `use` shows something of each picture that comes in."""
    path = ipywidgets.Text(str(example), description="path", layout={"width": "70%"}, continuous_update=False)
    upload = ipywidgets.FileUpload(accept="image/*", multiple=False)
    output = ipywidgets.Output()

    def refresh(source: str | io.BytesIO) -> None:
        output.clear_output(wait=True)
        with output:
            try:
                use(images.load(source))
            except ValueError as why:
                print(why)

    path.observe(lambda change: refresh(change["new"]), names="value")
    upload.observe(lambda change: change["new"] and refresh(io.BytesIO(uploaded(change["new"]))), names="value")
    display(ipywidgets.HBox([path, upload]), output)
    refresh(example)


def uploaded(value) -> bytes:
    """The bytes of a FileUpload's value: a dictionary in ipywidgets 7, a tuple of dictionaries in 8."""
    first = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return bytes(first["content"])
