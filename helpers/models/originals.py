"""The original systems' own files of weights, from strangers' hands: tensors and arrays are read, code never runs."""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..service.errors import CourseError
from ..service.files import reason
from .binary_autoencoder import NPEG

MAX_CHECKPOINT = 256 << 20  # bytes that a checkpoint may unpack to; the largest original takes 6 MB
MAX_NPEG = 4 << 20  # bytes of each of NPEG's two files, unpacked; the originals have 400 kB
HASHING = {"DICT", "SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET"}  # operations of pickles that make sets and dicts


def load_checkpoint(model: torch.nn.Module, path: str | Path) -> torch.nn.Module:
    """Load an original system's own checkpoint (a .pth state_dict, plain or under "state_dict"/"model") strictly.

    Tensors only are read: code inside a pickle does not run. Raises CourseError.
    """
    path = Path(path)
    if not path.is_file():
        raise CourseError(f"{path}: no such checkpoint; check the name.")
    try:
        _check_unpacked(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CourseError:
        raise
    except Exception:
        raise CourseError(f"{path}: not a PyTorch checkpoint of tensors alone; nothing of it was run.") from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        model.load_state_dict(state)
    except Exception as why:
        raise CourseError(f"{path}: a checkpoint of another model ({reason(why)}).") from None
    return model.eval()


def _check_unpacked(path: Path) -> None:
    """Raises CourseError where the parts of a zip file would take too much memory, however small they are packed."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > MAX_CHECKPOINT:
            raise CourseError(f"{path}: unpacked it takes {size >> 20:,} MB, which is no checkpoint of these systems.")


def load_npeg(encoder: str | Path, decoder: str | Path) -> NPEG:
    """NPEG with the original's own weights: its two files, .npz archives (named .npy) of pickled lists of arrays.

    They are read by an unpickler that admits NumPy arrays and nothing else. Raises CourseError.
    """
    model = NPEG()
    for chain, path in ((model.encoder, Path(encoder)), (model.decoder, Path(decoder))):
        layers = [layer for layer in chain if isinstance(layer, torch.nn.Conv2d)]
        given = _arrays_of(path)
        wanted = [t for layer in layers for t in (layer.weight.permute(2, 3, 1, 0), layer.bias)]  # TensorFlow's HWIO
        if [a.shape for a in given] != [tuple(t.shape) for t in wanted]:
            raise CourseError(f"{path}: weights of another network; NPEG's have the shapes of four 3×3 convolutions.")
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
    if HASHING & {operation.name for operation, _, _ in pickletools.genops(data)}:
        raise pickle.UnpicklingError("sets and dicts are no arrays")
    return _ArraysOnly(io.BytesIO(data), encoding="latin1").load()


def _arrays_of(path: Path) -> list[np.ndarray]:
    """The arrays of the list "w" in an .npz archive, one after the other. Raises CourseError."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = archive.getinfo("w.npy")
            if about.file_size > MAX_NPEG:
                raise CourseError(f"{path}: unpacked it takes {about.file_size >> 20} MB, which is not NPEG's.")
            file = io.BytesIO(archive.read(about))
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        header(file)
        return list(_flat(_unpickled(file.read())))
    except FileNotFoundError:
        raise CourseError(f"{path}: no such file; check the name.") from None
    except CourseError:
        raise
    except Exception as why:  # whatever a damaged or hostile file makes these parsers raise
        raise CourseError(f"{path}: no archive of arrays ({reason(why)}); nothing of it was run.") from None


def _flat(found: list, most: int = 100) -> Iterator[np.ndarray]:
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
