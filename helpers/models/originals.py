"""The original systems' own files of weights, from strangers' hands: numbers are read, code never runs."""

import zipfile
from pathlib import Path

import torch

from ..service.errors import CourseError, require

MAX_CHECKPOINT = 256 << 20  # bytes that a checkpoint may unpack to; the largest that fits a network here takes 6 MB


def load_checkpoint(model: torch.nn.Module, path: str | Path) -> torch.nn.Module:
    """Load an original system's own checkpoint (a .pth state_dict, plain or under "state_dict"/"model") strictly.

    Tensors only are read: code inside a pickle does not run. Raises CourseError.
    """
    require(Path(path).is_file(), f"{path}: no such file.")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(part.file_size for part in archive.infolist()) > MAX_CHECKPOINT:
                    raise ValueError
        state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model_state_dict", "model"):
            state = state[key] if isinstance(state.get(key), dict) else state
    except Exception:  # whose words may advise to run the file's code
        raise CourseError(f"{path}: no checkpoint of tensors alone; nothing of it was run.") from None
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError):
        raise CourseError(f"{path}: its names and shapes are not those of {type(model).__name__}.") from None
    return model.eval()
