"""What takes pictures refuses those of another scale or type in one sentence, and gives float32 or uint8."""

import math

import numpy as np
import pytest
import torch
from builders import photograph

from helpers import baselines, codec, degradations, images, sensing, zoo

RESTORERS = {
    "a network": lambda x: zoo.load("fsrcnn-x2").restore(x),
    "jpeg-blind": lambda x: zoo.load("jpeg-blind").restore(x),
    "a classical method": lambda x: baselines.find("total-variation", "jpeg-q10").restore(x),
}
TAKERS = RESTORERS | {
    "save": lambda x: images.save("x.png", x),
    "compress": lambda x: codec.compress(x),
    "sense": lambda x: sensing.sense(x, 0.1),
    "jpeg": lambda x: degradations.jpeg(x, 20),
}
PICTURE = photograph(32, 40)
OTHERS = {
    "up to 255": PICTURE * 255,
    "from -128": PICTURE * 255 - 128,
    "one NaN": PICTURE.index_fill(2, torch.tensor([3]), math.nan),
    "infinity": PICTURE / 0,
    "bool": PICTURE > 0.5,
    "int64": (PICTURE * 255).long(),
    "an array": np.zeros((32, 40, 3), np.uint8),
    "a list": PICTURE.tolist(),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_another_scale_or_type_is_refused_in_one_sentence_and_noise_is_none(tmp_path, monkeypatch, take):
    monkeypatch.chdir(tmp_path)
    wanted = r"\[0, 1\]|a picture is a tensor, \(C, H, W\), not (ndarray|list);.*from_numpy"
    for picture in OTHERS.values():
        with pytest.raises(ValueError, match=wanted) as caught:
            take(picture)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert not list(tmp_path.iterdir())
    noisy = degradations.gaussian_noise(PICTURE, 0.2)  # which goes beyond the range
    assert noisy.min() < -0.2 and noisy.max() > 1.2
    take(noisy)


@pytest.mark.parametrize("restore", RESTORERS.values(), ids=RESTORERS)
def test_every_float_gives_float32_and_uint8_gives_uint8(restore):
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert restore(PICTURE.to(dtype)).dtype == torch.float32
    assert restore(images.to_uint8(PICTURE)).dtype == torch.uint8


def test_jpeg_blind_gives_float32_also_of_what_it_leaves_alone():
    noise = degradations.gaussian_noise(photograph(128, 128), 0.1).double()
    assert degradations.without_jpeg_grid(noise)
    assert zoo.load("jpeg-blind").restore(noise).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize(("name", "scale"), [("fsrcnn-x2", 2), ("edsr-x3", 3), ("arcnn-q10", 1), ("jpeg-blind", 1)])
def test_a_batch_of_none_gives_none(name, scale, dtype):
    for channels in (1, 3):
        restored = zoo.load(name).restore(torch.zeros(0, channels, 8, 10, dtype=dtype))
        assert (restored.shape, restored.dtype) == ((0, channels, 8 * scale, 10 * scale), dtype)
