"""Where a computation runs: on which device, in which precision, and in which of torchrun's processes."""

import atexit
import os
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import nn

from .errors import CourseError


def pick_device(name: str | None = None) -> torch.device:
    """The named device, or the best there is: this process's GPU (also what "cuda" means), Apple's, or the CPU."""
    if name == "cuda" or (not name and torch.cuda.is_available()):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK") or 0))
    if name:
        return torch.device(name)
    return torch.device("mps" if torch.backends.mps.is_available() and _reduces_pictures("mps") else "cpu")


def check_device(name: str | None) -> torch.device:
    """As `pick_device`, for a name that a user typed. Raises CourseError where that device is not there or no use."""
    if not _reduces_pictures(name):
        raise CourseError(f"device {name!r} is not there or lacks an operation; use cpu, or leave the option out.")
    return pick_device(name)


def _reduces_pictures(name: str | None) -> bool:
    """Whether the device is there and has the bicubic reduction of pictures, which Apple's got with torch 2.7."""
    try:
        picture = torch.zeros(1, 1, 4, 4, device=pick_device(name))
        nn.functional.interpolate(picture, (2, 2), mode="bicubic", antialias=True).cpu()
        return True
    except (RuntimeError, AssertionError):  # NotImplementedError is a RuntimeError
        return False


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device. A GPU fetches it from pinned memory by itself, and the program does not wait for it."""
    waits = device.type != "cuda" or tensor.is_cuda
    return tensor.to(device) if waits else tensor.pin_memory().to(device, non_blocking=True)


def world() -> int:
    """How many processes torchrun began; alone it is 1. Clusters set WORLD_SIZE for a single one as well."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Which of torchrun's processes this is; the first, 0, writes. Alone it is 0."""
    return int(os.environ.get("RANK") or 0) if world() > 1 else 0


def join_processes(device: torch.device) -> None:
    """Make a GPU this process's own; under torchrun, let the processes find each other, once. Raises CourseError."""
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where the processes' messages go, too
    if world() == 1 or dist.is_initialized():
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        said = f"WORLD_SIZE is {world()}, without {' and '.join(missing)}"
        raise CourseError(f"{said}; begin with torchrun, or unset WORLD_SIZE.")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(dist.destroy_process_group)


def from_first(value):
    """What the first process has, on all of them: data that can be pickled."""
    found = [value]
    if world() > 1:
        dist.broadcast_object_list(found)
    return found[0]


def precision(device: torch.device) -> torch.dtype:
    """The type in which this device multiplies fastest without harm: bfloat16, float16 (before Ampere), or float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if device.type == "cpu":
        has_bfloat16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
        return torch.bfloat16 if has_bfloat16() else torch.float32
    return torch.float32


def half_precision(device: torch.device) -> torch.dtype:
    """The type for restoring: on CUDA float16, as fast as bfloat16 and eight times as fine; elsewhere `precision`."""
    return torch.float16 if device.type == "cuda" else precision(device)


def autocast(device: torch.device, dtype: torch.dtype | None = None) -> AbstractContextManager:
    """Within it, networks compute in this device's `precision`, or in another type."""
    dtype = dtype or precision(device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def full_precision(device: torch.device) -> AbstractContextManager:
    """Within it, networks compute in float32 even inside of `autocast`."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
