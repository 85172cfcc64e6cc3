"""A GPU for those who have none: tensors say that they are on "cuda", and refuse tensors that are not.

Within `gpu()` the CPU computes what a program puts on "cuda", so that numbers are right. But as on a real card, a
tensor there does not meet one of the CPU in an operation, and has no NumPy array. It shows what code a GPU would
refuse; it shows no speed, no rounding, no memory. Where a tensor is, is noted on its storage, which its views share.
"""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)
ANSWERS = {"device": GPU, "is_cuda": True, "is_cpu": False}
SILENT = ("set_device", "synchronize", "reset_peak_memory_stats", "empty_cache", "manual_seed_all", "_lazy_init")
FREE = ("copy_", "_foreach_copy_", "__set__", "_has_compatible_shallow_copy_type")  # what two places may meet in
JOINING = ("cat", "stack", "concat", "conv1d", "conv2d", "conv_transpose2d", "linear", "matmul", "mm", "bmm", "einsum")


@contextmanager
def gpu(capability: tuple[int, int] = (8, 0)) -> Iterator[None]:
    """Within it `torch.cuda` has one card; of capability 7.5, as a T4, it trains in float16 instead of bfloat16."""
    answers = {"is_available": True, "device_count": 1, "current_device": 0, "max_memory_allocated": 0}
    answers |= {"get_device_capability": capability, "get_device_name": "pretended GPU"}
    answers |= {"is_bf16_supported": capability >= (8, 0)} | dict.fromkeys(SILENT)
    here = {name: lambda *_, answer=answer, **__: answer for name, answer in answers.items()}
    checks = dict.fromkeys((f"{kind}_graph_capture_health_check" for kind in ("_cuda", "_accelerator")), lambda _: None)
    autocast, load, submit = torch.autocast, torch.load, ThreadPoolExecutor.submit

    def cast(device_type: str, *args, **options):  # a CPU's half precision is slow where it is emulated: none of it
        return autocast("cpu", enabled=False) if device_type == "cuda" else autocast(device_type, *args, **options)

    def loaded(file, map_location=None, **options):
        there = _asks(map_location)
        found = load(file, "cpu" if there else map_location, **options)
        return tree_map_only(torch.Tensor, _put, found) if there else found

    def submitted(pool, function, *args, **options):
        def work():
            with _Places():  # a mode is a thread's own
                return function(*args, **options)

        return submit(pool, work)

    with (
        mock.patch.multiple(torch.cuda, **here),
        mock.patch.multiple(torch.optim.Optimizer, create=True, **checks),
        mock.patch.multiple(torch, autocast=cast, load=loaded),
        mock.patch.object(ThreadPoolExecutor, "submit", submitted),
        _Places(),
    ):
        gc.disable()  # torch 2.6 lets it take what is noted on a storage that only C++ holds
        try:
            yield
        finally:
            gc.enable()


class _Places(TorchFunctionMode):
    """Notes where tensors are, and answers as a GPU would where an operation asks for two places at once."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", str(function))
        if name == "__get__" and function.__self__.__name__ != "grad":  # a property; views share their storage's place
            answer = ANSWERS.get(function.__self__.__name__)
            return function(*args) if answer is None or not _there(args[0]) else answer
        if name in ("to", "cuda", "cpu") and isinstance(args[0], torch.Tensor):
            return self._move(function, name, args, kwargs)
        if name in ("numpy", "__array__") and _there(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")
        if name in ("pin_memory", "record_stream"):
            return args[0]
        there = _asks(kwargs.get("device"))
        if there:
            kwargs["device"] = "cpu"
        given = _tensors(args[:1] if name == "__deepcopy__" else (args, kwargs))
        if not there and "device" not in kwargs:
            there = self._place(name, given, args)
        result = function(*args, **kwargs)
        if there:
            known = {_key(t) for t in given}
            for t in _tensors(result):
                if _key(t) not in known:
                    _put(t)
        return result

    def _place(self, name: str, given: list[torch.Tensor], args: tuple) -> bool:
        """Whether the result is on the GPU. Raises RuntimeError where the tensors given are in two places."""
        there = [_there(t) for t in given]
        if not any(there):
            return False
        if name == "__getitem__":  # indices of the CPU are taken along
            if _there(args[0]):
                return True
        elif name == "__setitem__":  # a slice is copied into; what has indices is computed
            value = args[2]
            mixed = isinstance(value, torch.Tensor) and value.dim() and _there(value) != _there(args[0])
            if not (_tensors(args[1]) and mixed) and (_there(args[0]) or not any(map(_there, given[1:-1]))):
                return False
        elif name in FREE:
            return False
        elif all(on or (t.dim() == 0 and name not in JOINING) for t, on in zip(given, there, strict=True)):
            return True
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu! (in {name})")

    def _move(self, function, name: str, args: tuple, kwargs: dict) -> torch.Tensor:
        """`to`, `cuda` and `cpu`: the tensor of the CPU that they would make, copied where its place is another."""
        tensor, rest = args[0], list(args[1:])
        target = {"cuda": GPU, "cpu": "cpu"}.get(name, kwargs.get("device"))
        if name == "to" and rest and isinstance(rest[0], torch.Tensor):
            target = GPU if _there(rest[0]) else rest[0].device
        elif name == "to" and rest and isinstance(rest[0], (str, torch.device, int)):
            target, rest[0] = rest[0], ("cpu" if _asks(rest[0]) else rest[0])
        if _asks(kwargs.get("device")):
            kwargs["device"] = "cpu"
        there = _there(tensor) if target is None else _asks(target)
        result = function(tensor, *rest, **kwargs) if name == "to" else tensor
        if there != _there(tensor) and _key(result) == _key(tensor):
            result = result.clone()
        return _put(result) if there else result


def _tensors(given) -> list[torch.Tensor]:
    return [part for part in tree_leaves(given) if isinstance(part, torch.Tensor)]


def _asks(device) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _there(tensor) -> bool:
    return getattr(tensor.untyped_storage(), "on_gpu", False)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _put(tensor: torch.Tensor) -> torch.Tensor:
    tensor.untyped_storage().on_gpu = True
    return tensor
