"""The files of a training run: each whole, or as it was; what a disk refuses is one sentence."""

import errno
import os
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
from torch import nn

from .devices import rank
from .files import atomic


class TrainingError(RuntimeError):
    """A run that cannot start, resume or go on; the message is one sentence that says what to do."""


def check_folder(out: str | os.PathLike) -> None:
    """Raises TrainingError where a run is in `out`, which a new one would overwrite."""
    last = Path(out) / "last.pt"
    if rank() == 0 and last.exists():
        how = "go on with it by --resume, begin anew by --overwrite, or name another --out"
        raise TrainingError(f"{last}: a run is there already; {how}.")


def clear(out: Path) -> None:
    """Remove what a run wrote, and nothing else; `last.pt`, which says that there is a run, goes last."""
    if (out / "tensorboard").is_dir():
        shutil.rmtree(out / "tensorboard")
    for path in (*out.glob("step-*.safetensors"), out / "best.safetensors", out / "last.pt"):
        path.unlink(missing_ok=True)


def make_ready(out: Path) -> None:
    """Remove what a killed run left half-written, and hear now, not hours later, if nothing can be written."""
    with writing(out):
        for name in ("last.pt", "*.safetensors", "*.json"):
            for path in out.glob(f".{name}.*.part"):
                path.unlink()
        tempfile.TemporaryFile(dir=out).close()


def save_weights(model: nn.Module, path: str | os.PathLike) -> Path:
    """The weights alone, as float32 safetensors."""
    state = {name: value.detach().cpu().float().contiguous() for name, value in model.state_dict().items()}
    write(Path(path), safetensors.torch.save(state))  # its own save_file makes a private file
    return Path(path)


def write(path: Path, data: bytes | memoryview) -> None:
    """Put a file in its place, on the disk and whole, or leave the old one. Raises TrainingError."""
    with writing(path), atomic(path) as temporary:
        temporary.write_bytes(data)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing behind it


@contextmanager
def writing(path: Path):
    """Makes what a disk refuses one sentence, that names the file and the remedy, in threads as well."""
    before = threading.excepthook  # TensorBoard writes in a thread, which prints its error and tells us as well
    threading.excepthook = lambda about: isinstance(about.exc_value, OSError) or before(about)
    try:
        yield
    except OSError as why:
        what = f"cannot be written ({why.strerror or why}); mend that"
        if why.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "the disk is full; free some space"
        raise TrainingError(f"{path}: {what}, then go on with --resume.") from None
    finally:
        threading.excepthook = before
