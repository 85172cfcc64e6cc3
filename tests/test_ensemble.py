"""Eight orientations averaged: better on the whole, and the same picture for a network that knows no orientation."""

import pytest
import torch
from builders import photograph

from helpers import datasets, degradations, images, metrics, models, zoo
from helpers.__main__ import main


class Half(models.Restorer):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, y):
        return self.weight * y


@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 8, 8), (2, 3, 7, 5)])
def test_what_knows_no_orientation_is_as_without(shape):
    image = torch.rand(shape)
    assert torch.allclose(models.Ensemble(Half()).restore(image), Half().restore(image), atol=1e-5)
    whole = (255 * image).byte()
    assert models.Ensemble(Half()).restore(whole).dtype == torch.uint8


def test_each_orientation_is_seen_once_and_turned_back():
    seen = []

    class Look(Half):
        def forward(self, y):
            seen.append(y[0, 0].clone())
            return y

    image = torch.rand(1, 6, 6)
    assert torch.allclose(models.Ensemble(Look()).restore(image), image, atol=1e-6)
    assert len({tuple(t.flatten().tolist()) for t in seen}) == 8


def test_it_is_better_than_one_pass():
    clean = images.luma(images.load(datasets.bundled("chelsea")))[:, 60:180, 150:270]
    small = degradations.downscale(clean, 3)
    one, eight = (zoo.load_for(name, "sr-x3").restore(small) for name in ("srcnn-955-x3", "srcnn-955-x3+"))
    assert metrics.psnr(eight, clean) > metrics.psnr(one, clean)


def test_restore_ensemble_is_the_mean(tmp_path, capsys):
    images.save(tmp_path / "in.png", photograph(20, 30))
    arguments = [
        "restore",
        str(tmp_path / "in.png"),
        str(tmp_path / "x.png"),
        "--task",
        "sr-x2",
        "--model",
        "fsrcnn-x2",
    ]
    assert main([*arguments, "--ensemble", "--quiet"]) == 0
    assert "by fsrcnn-x2+" in capsys.readouterr().out
    wanted = zoo.load_for("fsrcnn-x2+", "sr-x2").restore(images.load_uint8(tmp_path / "in.png"))
    assert torch.equal(images.load_uint8(tmp_path / "x.png"), wanted)
