"""The original systems' own files of weights, from strangers' hands: numbers are read, code never runs."""

import pickletools
import zipfile
from pathlib import Path

import numpy as np
import torch

from ..service.errors import CourseError
from .binary_autoencoder import NPEG

MAX_CHECKPOINT = 256 << 20  # bytes that a checkpoint may unpack to; the largest original takes 6 MB
MAX_NPEG = 4 << 20  # bytes of each of NPEG's two files, unpacked; the originals have 400 kB


def load_checkpoint(model: torch.nn.Module, path: str | Path) -> torch.nn.Module:
    """Load an original system's own checkpoint (a .pth state_dict, plain or under "state_dict"/"model") strictly.

    Tensors only are read: code inside a pickle does not run. Raises CourseError.
    """
    try:
        if zipfile.is_zipfile(path):
            _check_unpacked(path, MAX_CHECKPOINT)
        state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model_state_dict", "model"):
            state = state[key] if isinstance(state.get(key), dict) else state
        model.load_state_dict(state)
    except Exception:  # whose words may advise to run the file's code
        what = f"no checkpoint of {type(model).__name__}, of tensors alone, can be read there"
        raise CourseError(f"{path}: {what}; nothing of it was run.") from None
    return model.eval()


def load_npeg(encoder: str | Path, decoder: str | Path) -> NPEG:
    """NPEG with the original's own weights: its two files, .npz archives (named .npy) of pickled lists of arrays.

    Nothing is unpickled. Raises CourseError.
    """
    model = NPEG()
    for chain, path in ((model.encoder, encoder), (model.decoder, decoder)):
        layers = [layer for layer in chain if isinstance(layer, torch.nn.Conv2d)]
        wanted = [t for layer in layers for t in (layer.weight.permute(2, 3, 1, 0), layer.bias)]  # TensorFlow's HWIO
        try:
            for t, numbers in zip(wanted, _pickled_numbers(path, {4 * t.numel() for t in wanted}), strict=True):
                t.data.copy_(torch.from_numpy(np.frombuffer(numbers, "<f4").reshape(t.shape).copy()))
        except Exception:  # whatever a damaged or hostile file makes these parsers raise
            what = "NPEG's archive of four 3×3 convolutions cannot be read there"
            raise CourseError(f"{path}: {what}; nothing of it was run.") from None
    return model.eval()


def _pickled_numbers(path: str | Path, sizes: set[int]) -> list[bytes]:
    """The float32 numbers of all arrays of the list "w" in an .npz archive, as bytes, in their order.

    Of a pickled array its numbers are one string of bytes, or in old pickles of letters; `sizes` of such strings count.
    """
    _check_unpacked(path, MAX_NPEG)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("w.npy").partition(b"\n")[2]  # behind NumPy's header, which is a line
    operations = [(operation.name, argument) for operation, argument, _ in pickletools.genops(pickled)]
    kind = bytes if any(isinstance(argument, bytes) for _, argument in operations) else str
    found, columns_first = [], False
    for name, argument in operations:
        if name in ("NEWTRUE", "NEWFALSE"):  # the last thing before an array's numbers tells their order
            columns_first = name == "NEWTRUE"
        elif isinstance(argument, kind) and len(argument) in sizes:
            if columns_first:
                raise ValueError("an array column by column")
            found.append(argument if kind is bytes else argument.encode("latin1"))
    return found


def _check_unpacked(path: str | Path, most: int) -> None:
    """Raises ValueError where the parts of a zip file would take too much memory, however small they are packed."""
    with zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > most:
            raise ValueError
