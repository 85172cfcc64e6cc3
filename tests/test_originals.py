import os
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import randomized

from helpers import CourseError, models
from helpers.models import originals

# ------------------------------------------------------------------------------ checkpoints, .pth


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1), "trap": Trap(tmp_path / "sprung")}, tmp_path / "evil.pth")
    with pytest.raises(CourseError, match=r"evil\.pth"):
        originals.load_checkpoint(models.SkylineSRCNN(), tmp_path / "evil.pth")
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)  # the trap is real
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("under", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_may_be_wrapped(tmp_path, under, legacy):
    state = randomized(models.SkylineSRCNN(), seed=7).state_dict()
    torch.save({under: state, "epoch": 3} if under else state, tmp_path / "c.pth",
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    model = originals.load_checkpoint(models.SkylineSRCNN(), tmp_path / "c.pth")
    assert torch.equal(model.conv2.weight, state["conv2.weight"])
    assert not model.training


@pytest.mark.parametrize("content", ["other", "tensor", "text", "empty", "half"])
def test_what_is_no_checkpoint_of_this_model_is_one_sentence(tmp_path, content):
    path = tmp_path / "c.pth"
    torch.save({"other": models.SRCNN(3).state_dict(), "tensor": torch.zeros(3)}.get(content, {}), path)
    if content in ("text", "empty", "half"):
        torch.save(models.SkylineSRCNN().state_dict(), path)
        path.write_bytes({"text": b"hello\n" * 9, "empty": b"", "half": path.read_bytes()[:5000]}[content])
    with pytest.raises(CourseError, match=r"c\.pth") as caught:
        originals.load_checkpoint(models.SkylineSRCNN(), path)
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CourseError, match=r"none\.pth: no such"):
        originals.load_checkpoint(models.SkylineSRCNN(), tmp_path / "none.pth")


# ------------------------------------------------------------------------------ NPEG's own weights


def npeg_files(folder: Path, model: models.NPEG) -> list[Path]:
    """The two files as the original writes them: np.savez of a list of [kernel, bias] pairs."""
    paths = []
    for name in ("encoder", "decoder"):
        layers = [m for m in getattr(model, name) if isinstance(m, torch.nn.Conv2d)]
        parts = [t.detach() for layer in layers for t in (layer.weight.permute(2, 3, 1, 0), layer.bias)]
        array = np.empty(len(parts), dtype=object)
        array[:] = [part.numpy() for part in parts]
        with open(folder / f"{name}.npy", "wb") as file:
            np.savez(file, w=array)
        paths.append(folder / f"{name}.npy")
    return paths


def test_npeg_takes_the_weights_of_the_original(tmp_path):
    torch.manual_seed(0)
    model = models.NPEG()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.bias)
    found = originals.load_npeg(*npeg_files(tmp_path, model))
    assert not found.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), found.parameters(), strict=True))


class Evil:
    def __reduce__(self):
        return (os.system, ("touch " + os.environ.get("EVIL", "evil"),))


@pytest.mark.parametrize("content", ["code", "noise", "empty", "text", "swapped", "no w"])
def test_files_that_are_not_npeg_s_are_refused_and_nothing_in_them_runs(tmp_path, monkeypatch, content):
    encoder, decoder = npeg_files(tmp_path, models.NPEG())
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    if content == "code":
        array = np.empty(1, dtype=object)
        array[0] = Evil()
        with open(encoder, "wb") as file:
            np.savez(file, w=array)
    elif content == "no w":
        with open(encoder, "wb") as file:
            np.savez(file, v=np.zeros(3))
    elif content == "swapped":
        encoder, decoder = decoder, encoder
    else:
        encoder.write_bytes({"noise": b"\x93NUMPY\1\0junk", "empty": b"", "text": b"hello"}[content])
    with pytest.raises(CourseError, match="another network" if content == "swapped" else "no archive of arrays"):
        originals.load_npeg(encoder, decoder)
    assert not (tmp_path / "evil").exists()
    with pytest.raises(CourseError, match="no such file"):
        originals.load_npeg(tmp_path / "none.npy", decoder)
