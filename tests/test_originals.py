"""The originals' own weights are read, and nothing in a file of theirs is ever run."""

import os
import re
import zipfile

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
    with pytest.raises(CourseError, match=r"evil\.pth: no checkpoint of tensors alone; nothing of it was run\.$"):
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


@pytest.mark.parametrize("content", ["other", "numbered", "tensor", "text", "empty", "half", "bomb", "none"])
def test_what_is_no_checkpoint_of_this_model_is_one_sentence(tmp_path, content):
    path = tmp_path / "c.pth"
    torch.save(
        {"other": models.SRCNN(3).state_dict(), "numbered": {0: torch.zeros(1)}, "tensor": torch.zeros(3)}.get(
            content, SKYLINE.state_dict()
        ),
        path,
    )
    if content in ("text", "empty", "half"):
        path.write_bytes({"text": b"hello\n" * 9, "empty": b"", "half": path.read_bytes()[:5000]}[content])
    elif content == "bomb":
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data/99", bytes(257 << 20))
    elif content == "none":
        path.unlink()
    said = dict.fromkeys(("other", "numbered"), "its names and shapes are not those of SkylineSRCNN.")
    said |= {"none": "no such file."}
    said = said.get(content, "no checkpoint of tensors alone; nothing of it was run.")
    with pytest.raises(CourseError, match=f"^{re.escape(f'{path}: {said}')}$"):
        originals.load_checkpoint(models.SkylineSRCNN(), path)
