from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import photograph, pictures
from hypothesis import given
from hypothesis import strategies as st

from helpers import CourseError, datasets, degradations, images
from helpers.service.files import DATA, course_data


def coordinates(height: int, width: int) -> torch.Tensor:
    """A picture whose pixels say where they are: uint8 (2, H, W), row and column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).to(torch.uint8)


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """An empty folder of image sets."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return tmp_path


# ----------------------------------------------------------------------------------------------- sets


def test_folder_finds_a_set_by_name_or_says_what_to_do(sets, monkeypatch):
    monkeypatch.chdir(pictures(sets / "elsewhere"))
    for part in ("", "train", "test"):
        where = pictures(sets / part / f"Set5{part}", count=2)
        assert datasets.folder(f"Set5{part}") == [where / "000.png", where / "001.png"] == datasets.folder(where)
    hints = {"T91": "python -m helpers download T91 gets it", "set5": "did you mean Set5", "mine": "put it there, or"}
    for name, hint in (hints | {"": "put it"}).items():
        with pytest.raises(CourseError, match=f"the set '{name}' is not there: .*COURSE_DATA, which is {sets}; {hint}"):
            datasets.folder(name)
    pictures(sets / "LIVE2")  # near by its name, and another set
    with pytest.raises(CourseError, match="; python -m helpers download LIVE1 gets it"):
        datasets.folder("LIVE1")
    for value in ("", None):
        monkeypatch.delenv("COURSE_DATA") if value is None else monkeypatch.setenv("COURSE_DATA", value)
        assert course_data() == DATA / "downloads"


def test_the_bundled_photographs_are_found_by_name_and_readable():
    files = datasets.bundled()
    assert len(files) >= 8 and files == datasets.folder("bundled")
    assert datasets.bundled("chelsea") == DATA / "images" / "chelsea.png"
    assert all(min(image.shape[-2:]) >= 128 for image in datasets.load_all(files, channels=3))
    with pytest.raises(CourseError, match=r"'lena'.*chelsea"):
        datasets.bundled("lena")


def test_load_all_as_luma_and_as_colour_names_the_bad_file(tmp_path):
    made = photograph(), photograph(channels=1)
    files = [images.save(tmp_path / f"{index}.png", picture) for index, picture in enumerate(made)]
    luma, colour = datasets.load_all(files), datasets.load_all(files, channels=3)
    assert torch.equal(luma[0], images.to_uint8(images.luma(made[0])))
    assert torch.equal(luma[1], images.to_uint8(made[1]))
    assert torch.equal(colour[0], images.to_uint8(made[0]))
    assert torch.equal(colour[1], luma[1].expand(3, -1, -1))
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(CourseError, match=r"bad\.png"):
        datasets.load_all(images.listing(tmp_path))


def test_side_pairs_are_good_left_poor_right(tmp_path):
    good = photograph(16, 16, 3)
    poor = degradations.jpeg(good, 20)
    path = datasets.SidePairs.write(tmp_path / "0.png", poor, good)
    assert torch.equal(images.load(path)[..., :16], good)
    [(x, y)] = torch.utils.data.DataLoader(datasets.SidePairs(tmp_path))
    assert torch.allclose(y[0], images.luma(good), atol=1e-6) and torch.allclose(x[0], images.luma(poor), atol=1e-6)
    images.save(path, photograph(20, 30))
    with pytest.raises(CourseError, match=r"0\.png: a pair file .*30x20"):
        datasets.SidePairs(tmp_path)[0]


def test_cifar10_is_torchvisions(sets, monkeypatch):
    with pytest.raises(RuntimeError, match="not found or corrupted. You can use download=True"):
        datasets.cifar10()
    theirs = SimpleNamespace(data=np.arange(2 * 3072).reshape(2, 32, 32, 3).astype(np.uint8))
    monkeypatch.setattr("torchvision.datasets.CIFAR10", lambda folder, download: theirs)
    assert datasets.cifar10().shape == (2, 3, 32, 32) and datasets.cifar10()[0, :, 0, 1].tolist() == [3, 4, 5]


# -------------------------------------------------------------------------------------------- patches


@given(st.integers(1, 12), st.integers(1, 5))
def test_sliding_patches_are_all_windows_row_by_row(size, stride):
    x = coordinates(12, 17)
    corners = [(t, q) for t in range(0, 12 - size + 1, stride) for q in range(0, 17 - size + 1, stride)]
    expected = torch.stack([x[:, t : t + size, q : q + size] for t, q in corners])
    assert torch.equal(datasets.sliding_patches(x, size, stride), expected)


def test_a_batch_is_a_function_of_seed_step_and_rank():
    def draw(seed=1, step=2, rank=3) -> torch.Tensor:
        return torch.cat(datasets.Patches([coordinates(40, 50)], size=8, batch=4, seed=seed)(step, rank))

    assert torch.equal(draw(), draw())
    for other in (draw(seed=2), draw(step=3), draw(rank=4), draw(step=3, rank=2)):
        assert not torch.equal(draw(), other)


def test_patches_have_all_eight_orientations_and_reach_every_pixel_of_every_picture_that_is_large_enough():
    pictured = [coordinates(9, 11), coordinates(5, 50), coordinates(9, 11) + 100]
    batches = datasets.Patches(pictured, size=8, batch=300)
    x = (batches(0)[0] * 255).round()
    assert len({tuple((p - p.amin(dim=(1, 2), keepdim=True)).flatten().tolist()) for p in x}) == 8
    assert x.unique().tolist() == [*range(11), *range(100, 111)]
    assert batches.dropped == 1
    with pytest.raises(CourseError, match=r"none of the 3 pictures.*10 pixels"):
        datasets.Patches(pictured, size=10)


def test_patches_may_be_degraded_in_the_batch():
    """size counts input pixels: a reduction by 2 wants targets twice as large."""
    picture = images.to_uint8(photograph(40, 50))
    how = {"size": 8, "batch": 4, "scale": 2}
    x, y = datasets.Patches([picture], **how, degrade=lambda y, _: degradations.downscale(images.to_float(y), 2))(0)
    assert (x.shape[-1], y.shape[-1]) == (8, 16) and torch.allclose(x, degradations.downscale(y, 2))
    one, other = (datasets.Patches([picture], size=24, degrade=degradations.RandomJPEG()) for _ in range(2))
    assert torch.equal(one(5)[0], other(5)[0]) and not torch.equal(one(0)[0], one(5)[0])


def test_half_of_the_patches_are_reduced_and_some_are_gray():
    targets = [images.to_uint8(photograph(60 + 2 * seed, 90 - 2 * seed, 3, seed)) for seed in range(5)]
    batches = datasets.Patches(targets, size=16, batch=120, rescale=(0.8, 0.6), gray=0.5)
    crops, y = batches._draw(0, 0)[1], batches(0)[1]
    assert {crop.side for crop in crops} == {16, 20, 27}
    assert 0.3 < sum(crop.side > 16 for crop in crops) / len(crops) < 0.7
    gray = (y == y[:, :1]).all(dim=(1, 2, 3))
    assert gray.tolist() == [crop.gray for crop in crops] and 0.3 < gray.float().mean() < 0.7


def test_batches_of_a_device_are_made_on_it_alone():
    """The device "meta" knows shapes alone, and refuses to compute with a tensor that was left on the CPU."""
    targets = [images.to_uint8(photograph(40, 50, 3, seed)) for seed in range(3)]
    inputs = [degradations.for_task("sr-x2")(y) for y in targets]
    alone = datasets.Patches(targets, size=16, batch=12, rescale=(0.8,), gray=0.5)
    for batches in (alone, datasets.Patches(targets, inputs, size=8, batch=12, scale=2), alone.shared(3)):
        here = batches(0)
        there = batches.to(torch.device("meta"))(0)
        assert [(t.device.type, t.shape) for t in there] == [("meta", t.shape) for t in here]
        assert all(torch.equal(a, b) for a, b in zip(batches(0), here, strict=True))  # the others stay where they were
    coded = datasets.Patches(targets, size=16, batch=12, degrade=degradations.RandomJPEG((10, 90)))
    assert coded.to(torch.device("meta")) is coded  # JPEG is made on the CPU, and so are the patches


def test_shares_make_up_the_batch_of_one_process():
    batches = datasets.Patches([torch.full((1, 12, 12), k, dtype=torch.uint8) for k in range(4)], size=8, batch=6)
    parts = [batches.shared(3)(5, rank)[1] for rank in range(3)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), batches(5)[1])
