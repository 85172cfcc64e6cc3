"""The originals' own weights are read, and nothing in a file of theirs is ever run."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import randomized

from helpers import CourseError, models
from helpers.models import originals

SKYLINE = randomized(models.SkylineSRCNN(), seed=7)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save(SKYLINE.state_dict() | {"trap": Trap(tmp_path / "sprung")}, tmp_path / "evil.pth")
    with pytest.raises(CourseError, match=r"evil\.pth: no checkpoint of SkylineSRCNN.*nothing of it was run\.$"):
        originals.load_checkpoint(models.SkylineSRCNN(), tmp_path / "evil.pth")
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)  # the trap is real
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("under", [None, "state_dict", "model"])
@pytest.mark.parametrize("new", [False, True])
def test_skyline_takes_a_checkpoint_of_the_original(tmp_path, under, new):
    state = SKYLINE.state_dict()
    assert list(state) == [f"conv{n}.{part}" for n in (1, 2, 3) for part in ("weight", "bias")]  # the original's names
    found = {under: state, "epoch": 3} if under else state
    torch.save(found, tmp_path / "c.pth", _use_new_zipfile_serialization=new)
    model = originals.load_checkpoint(models.SkylineSRCNN(), tmp_path / "c.pth")
    assert torch.equal(model.conv2.weight, state["conv2.weight"]) and not model.training


@pytest.mark.parametrize("content", ["other", "tensor", "text", "empty", "half", "bomb", "none"])
def test_what_is_no_checkpoint_of_this_model_is_one_sentence(tmp_path, content):
    path = tmp_path / "c.pth"
    torch.save(
        {"other": models.SRCNN(3).state_dict(), "tensor": torch.zeros(3)}.get(content, SKYLINE.state_dict()), path
    )
    if content in ("text", "empty", "half"):
        path.write_bytes({"text": b"hello\n" * 9, "empty": b"", "half": path.read_bytes()[:5000]}[content])
    elif content == "bomb":
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data/99", bytes(257 << 20))
    elif content == "none":
        path.unlink()
    with pytest.raises(CourseError, match=rf"^{path}: no checkpoint[^\n]+\.$"):
        originals.load_checkpoint(models.SkylineSRCNN(), path)


def npeg_files(folder: Path, model: models.NPEG, protocol: int = 4, order: str = "C") -> list[Path]:
    """The two files as np.savez writes a list of kernels and biases, by a new NumPy or an old one."""
    paths = [folder / "encoder.npy", folder / "decoder.npy"]
    for chain, path in zip((model.encoder, model.decoder), paths, strict=True):
        layers = [m for m in chain if isinstance(m, torch.nn.Conv2d)]
        parts = [t.detach() for layer in layers for t in (layer.weight.permute(2, 3, 1, 0), layer.bias)]
        array, file = np.empty(len(parts), dtype=object), io.BytesIO()
        array[:] = [np.array(part.numpy(), order=order) for part in parts]
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w.npy", file.getvalue() + pickle.dumps(array, protocol))
        assert np.load(path, allow_pickle=True)["w"][1].shape == parts[1].shape
    return paths


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_npeg_takes_the_weights_of_the_original(tmp_path, protocol):
    """Row by row; column by column they are refused."""
    model = randomized(models.NPEG())
    found = originals.load_npeg(*npeg_files(tmp_path, model, protocol))
    assert not found.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), found.parameters(), strict=True))
    with pytest.raises(CourseError, match="NPEG's archive"):
        originals.load_npeg(*npeg_files(tmp_path, model, protocol, order="F"))


@pytest.mark.parametrize("content", ["code", "noise", "empty", "swapped", "no w", "bomb", "none"])
def test_files_that_are_not_npeg_s_are_refused_and_nothing_in_them_runs(tmp_path, content):
    encoder, decoder = npeg_files(tmp_path, models.NPEG())
    arrays = {"code": {"w": np.array([Trap(tmp_path / "evil")], object)}, "no w": {"v": np.zeros(3)}}
    arrays["bomb"] = {"w": np.zeros(5 << 20, np.uint8)}
    if content in arrays:
        np.savez_compressed(encoder.with_suffix(".npz"), **arrays[content])
        encoder.with_suffix(".npz").rename(encoder)
    elif content == "swapped":
        encoder, decoder = decoder, encoder
    else:
        encoder.write_bytes({"noise": b"\x93NUMPY\1\0junk"}.get(content, b""))
    encoder = tmp_path / "none.npy" if content == "none" else encoder
    with pytest.raises(CourseError, match=rf"^{encoder}: NPEG's archive[^\n]+\.$"):
        originals.load_npeg(encoder, decoder)
    assert not (tmp_path / "evil").exists()
