import pytest
import torch
from torch import nn

from helpers import CourseError
from helpers.service import devices


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "cpu:x", "meta"])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(CourseError, match=name):
        devices.check_device(name)


def test_the_cpu_is_there():
    assert devices.check_device("cpu") == torch.device("cpu")
    assert devices.precision(torch.device("cpu")) in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize(("name", "expected"), [(None, "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0")])
def test_each_process_has_a_gpu_of_its_own(monkeypatch, name, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert devices.pick_device(name) == torch.device(expected)


@pytest.mark.parametrize("able", [True, False])
def test_apples_gpu_is_taken_where_it_can_reduce_pictures(monkeypatch, able):
    """Bicubic interpolation with anti-aliasing came to it with torch 2.7."""

    def interpolate(picture, _, mode, antialias):
        if mode == "bicubic" and antialias and not able:
            raise NotImplementedError("aten::_upsample_bicubic2d_aa.out is not implemented for the MPS device")
        return picture

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda *size, **_: torch.ones(size))
    monkeypatch.setattr(nn.functional, "interpolate", interpolate)
    assert devices.pick_device() == torch.device("mps" if able else "cpu")
    if not able:
        with pytest.raises(CourseError, match="'mps'.*lacks an operation; use cpu"):
            devices.check_device("mps")


@pytest.mark.parametrize("value", ["", "1"])
def test_without_torchrun_this_is_the_only_process(monkeypatch, value):
    monkeypatch.setenv("WORLD_SIZE", value)
    assert (devices.world(), devices.rank()) == (1, 0)
