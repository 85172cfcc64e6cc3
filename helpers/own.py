"""Methods of one's own for `evaluation`: a function, a pair of functions, or a folder of pictures made elsewhere.

A restorer is a function of the given uint8 picture (C, H, W): Y, or RGB if it has an attribute `channels = 3` or the
task is one of colour. It returns a uint8 picture, or a float one in [0, 1]. (For `psnr_unrounded` Y comes as float.) A
codec is a pair, encode(picture, setting) → bytes and decode(bytes) → picture. Sensing is a pair, too:
sense(picture, ratio) → tensor, and recover(tensor, (H, W)) → picture.
"""

import importlib
import re
import runpy
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import degradations, images
from .service.errors import CourseError, require
from .service.files import reason

NEIGHBOURS: dict[str, Path] = {}  # the modules that the last file imported from its folder


class Fault(CourseError):
    """What a method of one's own did wrong, as the end of a sentence that begins with its name."""


def find(place: str, name: str) -> Any:
    """What `name` is in a module, or in a file.py. Raises CourseError, whatever goes wrong on the way."""
    beside = Path(place).resolve().parent if place.endswith(".py") else Path.cwd()
    if sys.path[0] != str(beside):
        sys.path.insert(0, str(beside))  # so that it may import its neighbours, as in `python file.py`
    for key in [key for key, folder in NEIGHBOURS.items() if folder != beside]:
        del NEIGHBOURS[key]
        sys.modules.pop(key, None)  # those of this file may have their names
    known = set(sys.modules)
    try:
        if place.endswith(".py"):
            found = runpy.run_path(place)
            for key in sys.modules.keys() - known:
                module = sys.modules[key]  # a folder without __init__.py has no file, but a path
                file = Path(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), ""))
                if beside in file.parents and "site-packages" not in file.parts and not key.startswith("helpers."):
                    NEIGHBOURS[key] = beside
        else:
            module = importlib.import_module(place)
            found = vars(module) | ({name: getattr(module, name)} if hasattr(module, name) else {})  # some load late
    except (Exception, SystemExit) as why:
        said = getattr(why, "strerror", None) or reason(why)
        raise CourseError(f"{place}:{name}: it cannot be loaded ({type(why).__name__}: {said}).") from why
    there = [key for key, value in found.items() if key[0] != "_" and (callable(value) or isinstance(value, tuple))]
    require(name in found, f"{place} has no {name}; it has {', '.join(there) or 'no function'}.")
    return found[name]


def watched(function: Callable, *given, size: tuple[int, ...] | None = None) -> Any:
    """What a function makes of copies of what it is given; with `size`, (C, H, W), a float picture. Raises Fault."""
    copies = [value.clone() if isinstance(value, torch.Tensor) else value for value in given]
    try:
        made = function(*copies)
    except (Exception, SystemExit) as why:
        frames = traceback.extract_tb(why.__traceback__)[1:]  # the first one is this function
        others = tuple(str(Path(module.__file__).parent) for module in (traceback, images)) + ("<",)
        own = [f for f in frames if not f.filename.startswith(others) and "site-packages" not in f.filename][-1:]
        where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in own)
        raise Fault(f"it raised {type(why).__name__}{where}: {reason(why)}") from why
    if size is None:
        return made
    try:
        images.check_values(made)
    except CourseError as why:
        raise Fault(f"it returned no picture: {why}") from None
    if tuple(made.shape) != tuple(size):
        raise Fault(f"it returned a picture of {tuple(made.shape)} where {tuple(size)} is wanted.")
    return images.to_float(made.detach().cpu()).clamp(0, 1)


class Function:
    """A function that restores."""

    def __init__(self, function: Callable, scale: int, channels: int = 1):
        self.function, self.scale, self.channels = function, scale, getattr(function, "channels", channels)

    def restore(self, given: torch.Tensor) -> torch.Tensor:
        """(C, H, W), uint8 or float, to the same `scale` times as large.

        A function of Y takes Cb and Cr from bicubic; one of RGB is given a gray picture as R = G = B.
        """
        if len(given) == 3 and self.channels == 1 and self.scale > 1:
            ycbcr = images.rgb_to_ycbcr(images.to_float(given))
            y, chroma = self.restore(ycbcr[:1]), degradations.upscale(ycbcr[1:], self.scale)
            rgb = images.ycbcr_to_rgb(torch.cat([y, chroma])).clamp(0, 1)
            return images.to_uint8(rgb) if given.dtype == torch.uint8 else rgb
        seen = images.as_rgb(given).contiguous() if self.channels == 3 else given
        restored = watched(self.function, seen, size=(len(seen), *(self.scale * side for side in given.shape[-2:])))
        restored = restored if len(seen) == len(given) else restored.mean(0, keepdim=True)
        return images.to_uint8(restored) if given.dtype == torch.uint8 else restored


class Sensor:
    """A pair that senses and recovers."""

    def __init__(self, sense: Callable, recover: Callable):
        self.sense, self.recover, self.count = sense, recover, 0

    def reconstruct(self, picture: torch.Tensor, ratio: float) -> torch.Tensor:
        """uint8 (1, H, W) to uint8, through what `sense` measures."""
        measured = watched(self.sense, picture, ratio)
        if not isinstance(measured, torch.Tensor):
            raise Fault(f"its sense() returned {type(measured).__name__} where a tensor is wanted.")
        self.count = measured.numel()
        return images.to_uint8(watched(self.recover, measured, tuple(picture.shape[-2:]), size=picture.shape))

    def geometry(self, *_) -> tuple[None, torch.Tensor]:
        """As that of a network, of the picture before: how many numbers were measured."""
        return None, torch.tensor(self.count)


class Folder:
    """Pictures that another program restored, found by the names of the originals: NAME.png or NAME_x3.png."""

    def __init__(self, folder: Path, task: str):
        self.folder, self.files, self.task = folder, images.listing(folder), task

    def of(self, path: Path, original: torch.Tensor) -> Function | Sensor:
        """A method for one original, which gives its picture. Raises Fault where there is not one."""
        longer = [other.stem for other in images.listing(path.parent) if other.stem.startswith(path.stem)]

        def named(file: Path, stem: str) -> bool:
            return bool(re.fullmatch(rf"{re.escape(stem)}([^0-9A-Za-z].*)?", file.stem))

        fits = [file for file in self.files if named(file, path.stem)]  # but cat-2_x3.png belongs to cat-2.png
        fits = [file for file in fits if not any(named(file, stem) for stem in longer if stem != path.stem)]
        found = [file for file in fits if file.stem == path.stem] or fits
        if len(found) != 1:
            raise Fault(f"{len(found) or 'no'} pictures in {self.folder} are called {path.stem}, and one is wanted.")
        picture = images.load_uint8(found[0])
        if len(original) == 1 and (picture == picture[:1]).all():  # gray, stored as RGB
            picture = picture[:1]
        if not self.task.startswith(("sr", "jpeg-color")):
            picture = images.luma_uint8(picture)
        if self.task.startswith("cs"):
            return Sensor(lambda *_: torch.empty(0), lambda *_: picture)
        return Function(lambda _: picture, degradations.scale_of(self.task), len(picture))


def method(what: Any, task: str) -> Any:
    """What `evaluation` measures, of a function, a pair, a folder's path or a network. Raises CourseError."""
    kind = task.split("-")[0]
    if hasattr(what, {"cs": "reconstruct", "codec": "settings"}.get(kind, "restore")):
        return what
    if isinstance(what, (str, Path)) and kind != "codec":
        return Folder(Path(what), task)
    asked = kind != "codec" or not isinstance(what, Path)
    require(asked, "--results are pictures; of a codec the files are measured: name its pair (encode, decode).")
    pair = {"cs": "a pair (sense, recover)", "codec": "a pair (encode, decode)"}.get(kind)
    fits = isinstance(what, tuple) and len(what) == 2 and all(map(callable, what)) if pair else callable(what)
    require(fits, f"{task} wants {pair or 'a function'}, not {type(what).__name__}.")
    if kind == "codec":
        return what
    return Sensor(*what) if kind == "cs" else Function(what, degradations.scale_of(task))
