"""The shipped networks: `load(name)`, `available()`. Weights are safetensors, checked by SHA-256, never unpickled.

Beside each NAME.safetensors in `data/weights` lies its card, NAME.json: task, network, recipe, data, time, figures.
"""

import io
import json
import os
import pickle
import pickletools
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from . import datasets, degradations, models, training
from .files import atomic
from .recipes import Recipe

WEIGHTS = datasets.DATA / "weights"
REQUIRED = {"name": str, "task": str, "origin": str, "network": dict, "parameters": int, "bytes": int, "sha256": str}
MAX_CHECKPOINT = 256 << 20  # bytes that a checkpoint of an original system may unpack to; the largest takes 6 MB
MAX_SCALE = 16  # times that a network enlarges; those of the course do 4
MAX_NPEG = 4 << 20  # bytes of each of NPEG's two files, unpacked; the originals have 400 kB


class ZooError(ValueError):
    """A network that is not there, or a file that is not its weights; one sentence that says what to do."""


def available() -> pd.DataFrame:
    """What is shipped: a row per name with task, parameters, bytes and one line of origin."""
    rows = [card(path.stem) for path in sorted(WEIGHTS.glob("*.json"))]
    columns = ["task", "parameters", "bytes", "origin"]
    return pd.DataFrame(rows, columns=["name", *columns]).set_index("name")


def card(name: str | os.PathLike) -> dict:
    """The card of a shipped network, or of a trained one by the path of its NAME.json. Raises ZooError."""
    path = Path(name) if str(name).endswith(".json") else WEIGHTS / f"{name}.json"
    if not os.path.isfile(path):  # which is False, and no error, also for a name that is too long for any file
        names = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.json"))) or "none yet"
        raise ZooError(f"no network is called {str(name)!r}; there are: {names}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        lacks = [key for key, kind in REQUIRED.items() if not isinstance(found.get(key), kind)]
    except (ValueError, AttributeError, RecursionError):
        lacks = list(REQUIRED)
    if lacks:
        raise ZooError(f"{path}: not the card of a network ({lacks[0]} is not on it); get it again, or remove it.")
    return found | {"weights": path.with_suffix(".safetensors")}


def load(name: str | os.PathLike) -> models.Restorer:
    """A shipped network by name ("srcnn-955-x3"), or a trained one by the path of its card; eval mode, on the CPU.

    Raises ZooError: unknown name (the message lists the names), weights that are missing or not the card's.
    """
    about = card(name)
    if not about["weights"].is_file():
        raise ZooError(f"{about['weights']}: the weights are missing; get the file again.")
    if datasets.sha256(about["weights"]) != about["sha256"]:
        raise ZooError(f"{about['weights']}: its SHA-256 is not the card's; the file is damaged, get it again.")
    try:
        with _no_more_weights_than(about["weights"].stat().st_size):
            model = models.build(**about["network"])
        scale = getattr(model, "scale", 1)
        if type(scale) is not int or not 1 <= scale <= MAX_SCALE:  # of which the weights may know nothing
            raise ValueError("no network enlarges so")
        model.load_state_dict(safetensors.torch.load_file(about["weights"]))
    except Exception:  # whatever the numbers of a network that cannot be make Python and torch raise
        raise ZooError(f"{about['weights']}: not the weights of the network on its card; get both again.") from None
    return model.eval()


@contextmanager
def _no_more_weights_than(count: int) -> Iterator[None]:
    """Within it, a network that registers more than `count` weights is stopped: the file has fewer bytes than that.

    So a card that asks for a billion layers, or for gigabytes, takes no time and no memory. Raises ValueError.
    """
    left, builder = [count], threading.get_ident()

    def register(module: torch.nn.Module, name: str, weights: torch.nn.Parameter | None) -> None:
        if threading.get_ident() != builder:  # the hook hears of every thread's networks
            return
        left[0] -= 0 if weights is None else max(1, weights.numel())
        if left[0] < 0:
            raise ValueError("the network has more weights than the file")

    hook = torch.nn.modules.module.register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        hook.remove()


def weights(name: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict]:
    """The weights of a network that `load` knows, or of a .safetensors file such as a run keeps; and a note on them.

    The note is what a card says of a beginning from them: name and SHA-256. Raises ZooError.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        about = card(name)
        return load(name).state_dict(), {"name": about["name"], "sha256": about["sha256"]}
    try:
        return safetensors.torch.load_file(path), {"name": path.name, "sha256": datasets.sha256(path)}
    except (OSError, safetensors.SafetensorError):
        raise ZooError(f"{path}: no file of weights can be read there; check the name, or get it again.") from None


def for_task(task: str) -> list[str]:
    """The names of the networks that solve a task, the best on the bundled pictures first. Raises ZooError."""
    cards = [card(path.stem) for path in WEIGHTS.glob("*.json")]
    fit = [about for about in cards if degradations.covers(about["task"], task)]
    return [about["weights"].stem for about in sorted(fit, key=lambda about: _psnr(about, task), reverse=True)]


def _psnr(about: dict, task: str) -> float:
    """What a card says of the bundled pictures; 0 where it says nothing. Raises ZooError."""
    try:
        return float(about.get("figures", {}).get(task, {}).get("bundled", {}).get("psnr", 0))
    except (AttributeError, TypeError, ValueError):
        path = about["weights"].with_suffix(".json")
        raise ZooError(f"{path}: its figures are no PSNR by task and set; get it again, or remove it.") from None


def load_checkpoint(model: torch.nn.Module, path: str | os.PathLike) -> torch.nn.Module:
    """Load an original system's own checkpoint (a .pth state_dict, plain or under "state_dict"/"model") strictly.

    Tensors only are read: code inside a pickle does not run. Raises ZooError.
    """
    path = Path(path)
    if not path.is_file():
        raise ZooError(f"{path}: no such checkpoint; check the name.")
    try:
        _check_unpacked(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ZooError:
        raise
    except Exception:
        raise ZooError(f"{path}: not a PyTorch checkpoint of tensors alone; nothing of it was run.") from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        model.load_state_dict(state)
    except Exception as why:
        reason = "".join(filter(str.isprintable, " ".join(str(why).split())))[:200]
        raise ZooError(f"{path}: a checkpoint of another model ({reason}).") from None
    return model.eval()


def _check_unpacked(path: Path) -> None:
    """Raises ZooError where the parts of a zip file would take too much memory, however small they are packed."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > MAX_CHECKPOINT:
            raise ZooError(f"{path}: unpacked it takes {size >> 20:,} MB, which is no checkpoint of these systems.")


def load_npeg(encoder: str | os.PathLike, decoder: str | os.PathLike) -> models.NPEG:
    """NPEG with the original's own weights: its two files, .npz archives (named .npy) of pickled lists of arrays.

    They are read by an unpickler that admits NumPy arrays and nothing else. Raises ZooError.
    """
    model = models.NPEG()
    for chain, path in ((model.encoder, Path(encoder)), (model.decoder, Path(decoder))):
        layers = [layer for layer in chain if isinstance(layer, torch.nn.Conv2d)]
        given = _arrays_of(path)
        wanted = [t for layer in layers for t in (layer.weight.permute(2, 3, 1, 0), layer.bias)]  # TensorFlow's HWIO
        if [a.shape for a in given] != [tuple(t.shape) for t in wanted]:
            raise ZooError(f"{path}: weights of another network; NPEG's have the shapes of four 3×3 convolutions.")
        for t, array in zip(wanted, given, strict=True):
            t.data.copy_(torch.from_numpy(array.astype(np.float32)))
    return model.eval()


class _Dtype:
    """What stands for numpy.dtype in a pickle: NumPy's own reads a state that lies into memory which is not there."""

    def __init__(self, name: str = "", *_):
        self.name, self.order = name, "|"

    def __setstate__(self, state: tuple):
        self.order = state[1]


class _Array:
    """What stands for numpy.ndarray in a pickle; `found` is the array, or the list of an array of objects."""

    found = ()

    def __setstate__(self, state: tuple):
        _, shape, kind, fortran, data = state
        if kind.name[:1] == "O":
            self.found = data
        else:
            numbers = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, kind.order + kind.name)
            self.found = numbers.reshape(shape, order="F" if fortran else "C")


class _ArraysOnly(pickle.Unpickler):
    """Admits what a pickled NumPy array is made of; any other name in a pickle is refused before it is called."""

    ADMITTED = {
        **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # bytes in pickles of protocol 2
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return self.ADMITTED[module, name]


def _unpickled(data: bytes):
    """What `_ArraysOnly` makes of a pickle without sets and dicts: to hash tuples within tuples can take for ever."""
    hashing = {op.name for op, _, _ in pickletools.genops(data)} & {
        "DICT",
        "SETITEM",
        "SETITEMS",
        "ADDITEMS",
        "FROZENSET",
    }
    if hashing:
        raise pickle.UnpicklingError("sets and dicts are no arrays")
    return _ArraysOnly(io.BytesIO(data), encoding="latin1").load()


def _arrays_of(path: Path) -> list[np.ndarray]:
    """The arrays of the list "w" in an .npz archive, one after the other. Raises ZooError."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = archive.getinfo("w.npy")
            if about.file_size > MAX_NPEG:
                raise ZooError(f"{path}: unpacked it takes {about.file_size >> 20} MB, which is not NPEG's.")
            file = io.BytesIO(archive.read(about))
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        header(file)
        return list(_flat(_unpickled(file.read())))
    except FileNotFoundError:
        raise ZooError(f"{path}: no such file; check the name.") from None
    except ZooError:
        raise
    except Exception as why:  # whatever a damaged or hostile file makes these parsers raise
        reason = "".join(filter(str.isprintable, " ".join(str(why).split())))[:120] or type(why).__name__
        raise ZooError(f"{path}: no archive of arrays ({reason}); nothing of it was run.") from None


def _flat(found, most: int = 100) -> Iterator[np.ndarray]:
    """The arrays of numbers in a list of lists of them. Raises ValueError for more than `most` lists and arrays.

    A few bytes can say that a list holds another one twice, and that one another, for ever.
    """
    waiting = [found]
    for _ in range(most):
        if not waiting:
            return
        item = waiting.pop()
        item = item.found if isinstance(item, _Array) else item
        if isinstance(item, np.ndarray):
            yield item
        elif len(item) > most:
            raise ValueError(f"a list of {len(item):,}")
        else:
            waiting += reversed(list(item))
    if waiting:
        raise ValueError(f"more than {most} arrays")


def write(recipe: Recipe, model: models.Restorer, folder: str | os.PathLike, **facts) -> Path:
    """Write NAME.safetensors and its card into `folder`; `facts` (figures, seconds, …) go onto the card."""
    folder = Path(folder)
    weights = training.save_weights(model, folder / f"{recipe.name}.safetensors")
    about = {
        "name": recipe.name,
        "task": recipe.task,
        "origin": recipe.origin,
        "network": recipe.network,
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": weights.stat().st_size,
        "sha256": datasets.sha256(weights),
        "licence": "MIT"
        if {*recipe.sets} <= {"bundled"}
        else "MIT; trained on sets offered for research and education",
        "recipe": recipe.as_dict(),
        "commit": commit(),
        **facts,
    }
    with atomic(folder / f"{recipe.name}.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return folder / f"{recipe.name}.json"


def commit() -> str:
    """The commit that the code is at, "+" if code has changed since; empty outside a checkout."""
    git = ["git", "-C", str(datasets.DATA.parent)]
    code = ["--", "helpers", "requirements.txt", "data/weights"]  # tables change while they are measured
    try:
        head, changes = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", *code])
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{head}+" if changes else head
