import numpy as np
import pytest
import torch
from builders import photograph, pictures

from helpers import CourseError, datasets, degradations, images
from helpers.service.files import DATA, course_data


def coordinates(height: int, width: int) -> torch.Tensor:
    """A picture whose pixels say where they are: uint8 (2, H, W), row and column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).to(torch.uint8)


# ----------------------------------------------------------------------------------------------- sets


def test_folder_finds_a_set_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.chdir(pictures(tmp_path / "elsewhere"))
    for part in ("", "train", "test"):
        where = pictures(tmp_path / part / f"Set{part}", count=2)
        assert datasets.folder(f"Set{part}") == [where / "000.png", where / "001.png"]
        assert datasets.folder(where) == datasets.folder(f"Set{part}")


def test_a_set_that_is_not_there_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match=r"'Set99'.*COURSE_DATA") as caught:
        datasets.folder("Set99")
    assert str(tmp_path) in str(caught.value)


def test_an_empty_name_is_no_set(tmp_path, monkeypatch):
    monkeypatch.chdir(pictures(tmp_path / "here"))
    with pytest.raises(ValueError, match="set"):
        datasets.folder("")


def test_without_course_data_it_is_the_downloads(monkeypatch):
    for value in (None, ""):
        monkeypatch.delenv("COURSE_DATA", raising=False) if value is None else monkeypatch.setenv("COURSE_DATA", value)
        assert course_data() == DATA / "downloads"


def test_bundled_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DATA", tmp_path)
    pictures(tmp_path / "images", count=2)
    assert datasets.bundled("001") == tmp_path / "images" / "001.png"
    assert datasets.bundled() == datasets.folder("bundled") == [tmp_path / "images" / f"00{i}.png" for i in (0, 1)]
    with pytest.raises(CourseError, match=r"'lena'.*000, 001"):
        datasets.bundled("lena")


def test_eight_photographs_are_bundled_and_readable():
    files = datasets.bundled()
    assert len(files) >= 8
    for image in datasets.load_all(files, channels=3):
        assert min(image.shape[-2:]) >= 128


def test_load_all_as_luma_and_as_colour(tmp_path):
    images.save(tmp_path / "a.png", photograph())
    images.save(tmp_path / "b.png", photograph(channels=1))
    files = images.listing(tmp_path)
    luma, colour = datasets.load_all(files), datasets.load_all(files, channels=3)
    assert {t.dtype for t in (*luma, *colour)} == {torch.uint8}
    assert torch.equal(luma[0], images.to_uint8(images.luma(photograph())))
    assert torch.equal(luma[1], images.to_uint8(photograph(channels=1)))
    assert torch.equal(colour[0], images.to_uint8(photograph()))
    assert torch.equal(colour[1], images.to_uint8(photograph(channels=1)).expand(3, -1, -1))


def test_load_all_names_the_bad_file(tmp_path):
    pictures(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(CourseError, match=r"bad\.png"):
        datasets.load_all(images.listing(tmp_path))


# --------------------------------------------------------------------------------------- pair files


def test_side_pairs_are_good_left_poor_right(tmp_path):
    good = photograph(128, 128, 1)
    poor = degradations.jpeg(good, 20)
    datasets.SidePairs.write(tmp_path / "0.png", poor, good)
    assert images.load(tmp_path / "0.png").shape == (1, 128, 256)
    assert torch.equal(images.load(tmp_path / "0.png")[..., :128], good)
    pairs = datasets.SidePairs(tmp_path)
    assert len(pairs) == 1
    assert torch.equal(pairs[0][0], poor)
    assert torch.equal(pairs[0][1], good)


def test_side_pairs_of_colour_become_luma(tmp_path):
    datasets.SidePairs.write(tmp_path / "0.png", photograph(16, 16), photograph(16, 16, seed=1))
    x, y = datasets.SidePairs(tmp_path)[0]
    assert torch.allclose(x, images.luma(photograph(16, 16)), atol=1e-6)
    assert torch.allclose(y, images.luma(photograph(16, 16, seed=1)), atol=1e-6)


def test_a_file_that_is_no_pair_is_named(tmp_path):
    images.save(tmp_path / "odd.png", photograph(20, 30))
    with pytest.raises(CourseError, match=r"odd\.png.*30x20"):
        datasets.SidePairs(tmp_path)[0]


def test_side_pairs_feed_a_data_loader(tmp_path):
    for i in range(4):
        datasets.SidePairs.write(tmp_path / f"{i}.png", photograph(16, 16, 1, i), photograph(16, 16, 1, i + 9))
    x, y = next(iter(torch.utils.data.DataLoader(datasets.SidePairs(tmp_path), batch_size=4)))
    assert x.shape == y.shape == (4, 1, 16, 16)


# -------------------------------------------------------------------------------------------- sliding


@pytest.mark.parametrize(("size", "stride"), [(4, 4), (5, 2), (7, 3), (12, 1)])
def test_sliding_patches_are_all_windows_row_by_row(size, stride):
    x = coordinates(12, 17)
    tops, lefts = range(0, 12 - size + 1, stride), range(0, 17 - size + 1, stride)
    expected = [x[:, t : t + size, q : q + size] for t in tops for q in lefts]
    assert torch.equal(datasets.sliding_patches(x, size, stride), torch.stack(expected))


def test_sliding_patches_want_a_picture_of_their_size():
    with pytest.raises(CourseError, match="17x12"):
        datasets.sliding_patches(coordinates(12, 17), 13, 1)


# -------------------------------------------------------------------------------------------- patches


def test_a_batch_is_a_function_of_seed_step_and_rank():
    def draw(seed=1, step=2, rank=3) -> torch.Tensor:
        return torch.cat(datasets.Patches([coordinates(40, 50)], size=8, batch=4, seed=seed)(step, rank))

    assert torch.equal(draw(), draw())
    for other in (draw(seed=2), draw(step=3), draw(rank=4), draw(step=3, rank=2)):
        assert not torch.equal(draw(), other)


def test_batches_do_not_depend_on_what_was_drawn_before():
    patches = datasets.Patches([coordinates(40, 50)], size=8, batch=4)
    later = patches(7)[0]
    torch.manual_seed(5)
    patches(3)
    assert torch.equal(patches(7)[0], later)


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("augment", [False, True])
def test_input_and_target_show_the_same_place(scale, augment):
    """Each pixel says where it is, so a target that was cut or turned otherwise than its input would tell."""
    small = coordinates(20, 26)
    large = small.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    patches = datasets.Patches([large], [small], size=7, batch=24, scale=scale, augment=augment)
    for step in range(3):
        x, y = patches(step)
        assert x.shape == (24, 2, 7, 7)
        assert y.shape == (24, 2, 7 * scale, 7 * scale)
        assert x.dtype == torch.float32
        assert torch.equal(x.repeat_interleave(scale, -1).repeat_interleave(scale, -2), y)


@pytest.mark.parametrize("augment", [False, True])
def test_augmentation_uses_all_eight_orientations(augment):
    x, _ = datasets.Patches([coordinates(20, 26)], size=2, batch=200, augment=augment)(0)
    x = (x * 255).round()
    seen = {tuple((p - p.amin(dim=(1, 2), keepdim=True)).flatten().tolist()) for p in x}
    assert len(seen) == (8 if augment else 1)


def test_patches_reach_every_pixel_of_every_picture():
    pictured = [coordinates(9, 11), coordinates(9, 11) + 100]
    x, _ = datasets.Patches(pictured, size=8, batch=300)(0)
    values = (x * 255).round().unique().tolist()
    assert values == [*map(float, range(11)), *(100.0 + i for i in range(11))]


def test_patches_may_be_degraded_in_the_batch():
    patches = datasets.Patches([coordinates(20, 26)[:1]], size=8, batch=4, degrade=lambda y, _: 255 - y)
    x, y = patches(0)
    assert torch.equal(x, 1 - y)


def test_degrading_in_the_batch_may_reduce():
    """size counts input pixels: a reduction by 2 wants targets twice as large."""
    patches = datasets.Patches([images.to_uint8(photograph(40, 50))], size=8, batch=4, scale=2,
                               degrade=lambda y, _: degradations.downscale(images.to_float(y), 2))  # fmt: skip
    x, y = patches(0)
    assert (x.shape[-1], y.shape[-1]) == (8, 16)
    assert torch.allclose(x, degradations.downscale(y, 2))


def test_pictures_smaller_than_a_patch_are_dropped():
    x, _ = datasets.Patches([coordinates(5, 50), coordinates(9, 9) + 100], size=8, batch=50)(0)
    assert (x * 255).round().min() >= 100
    with pytest.raises(CourseError, match=r"none of the 2 pictures.*10 pixels"):
        datasets.Patches([coordinates(5, 50), coordinates(9, 9)], size=10)


def test_rescaled_patches_are_larger_ones_reduced():
    ramp = (torch.arange(100) * 2).to(torch.uint8).expand(1, 100, 100)  # a slope of 2 gray levels a pixel
    _, y = datasets.Patches([ramp], size=16, batch=200, rescale=(0.8,), augment=False)(0)
    slopes = (255 * (y[:, 0, 8, 12] - y[:, 0, 8, 4]) / 8).tolist()
    reduced = sum(slope == pytest.approx(2.5, abs=0.3) for slope in slopes)
    assert reduced + sum(slope == pytest.approx(2.0, abs=0.05) for slope in slopes) == 200
    assert 60 < reduced < 140
    with pytest.raises(CourseError):
        datasets.Patches([ramp[:, :18]], size=16, rescale=(0.8,))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_patches_becomes_gray(share):
    picture = images.to_uint8(photograph(60, 60))
    x, y = datasets.Patches([picture], size=8, batch=100, gray=share, degrade=lambda y, _: 255 - y)(0)
    gray = (y == y[:, :1]).all(dim=(1, 2, 3))
    assert abs(gray.float().mean() - share) <= 0.2 * (share == 0.5)
    assert torch.allclose(x, 1 - y)


def test_random_jpeg_is_a_function_of_the_step():
    picture = images.to_uint8(photograph(60, 60))
    made = [
        datasets.Patches([picture], size=24, batch=8, gray=0.5, degrade=degradations.RandomJPEG()) for _ in range(2)
    ]
    for step in (0, 5):
        assert all(torch.equal(a, b) for a, b in zip(made[0](step), made[1](step), strict=True))
    assert not torch.equal(made[0](0)[0], made[0](1)[0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_batch_is_cut_as_by_slicing_turning_and_mirroring_one_by_one(channels, scale):
    """What is cut at once, and on any device, against torch's operations on each patch alone, bit for bit."""
    targets = [images.to_uint8(photograph(60 + 2 * seed, 90 - 2 * seed, channels, seed)) for seed in range(5)]
    inputs = None if scale == 1 else [degradations.for_task("sr-x2")(y) for y in targets]
    gray = 0.5 if channels == 3 else 0.0
    batches = datasets.Patches(targets, inputs, size=16, batch=30, scale=scale, rescale=(0.8, 0.6), gray=gray)

    def alone(picture: torch.Tensor, crop: datasets.Crop, factor: int) -> torch.Tensor:
        top, left, side = factor * crop.top, factor * crop.left, factor * crop.side
        patch = torch.rot90(picture[:, top : top + side, left : left + side], crop.turns, (1, 2))
        patch = patch.flip(2) if crop.mirrored else patch
        if crop.side > 16:
            patch = images.to_uint8(degradations.resize(images.to_float(patch), (16 * factor, 16 * factor)))
        return images.to_float(images.luma_uint8(patch).expand(3, -1, -1) if crop.gray else patch)

    for step in range(4):
        crops = batches._draw(step, 0)[1]
        assert len({(crop.turns, crop.mirrored, crop.side, crop.gray) for crop in crops}) > 10
        x, y = batches(step)
        assert torch.equal(y, torch.stack([alone(targets[crop.picture], crop, scale) for crop in crops]))
        assert torch.equal(x, torch.stack([alone((inputs or targets)[crop.picture], crop, 1) for crop in crops]))


def test_batches_of_a_device_are_made_on_it_alone():
    """The device "meta" knows shapes alone, and refuses to compute with a tensor that was left on the CPU."""
    targets = [images.to_uint8(photograph(40, 50, 3, seed)) for seed in range(3)]
    inputs = [degradations.for_task("sr-x2")(y) for y in targets]
    alone = datasets.Patches(targets, size=16, batch=12, rescale=(0.8,), gray=0.5)
    for batches in (alone, datasets.Patches(targets, inputs, size=8, batch=12, scale=2), datasets.Share(alone, 3)):
        here = batches(0)
        there = batches.to(torch.device("meta"))(0)
        assert [t.device.type for t in there] == ["meta", "meta"]
        assert [t.shape for t in there] == [t.shape for t in here]
        assert all(torch.equal(a, b) for a, b in zip(batches(0), here, strict=True))  # the others stay where they were


# ------------------------------------------------------------------------------------------- CIFAR-10


def test_cifar10_is_read_from_an_array_file(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match=r"CIFAR-10 is not in .*cifar10\(download=True\)"):
        datasets.cifar10()
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    for part in ("train", "test"):
        (tmp_path / part / "CIFAR10_subset").mkdir(parents=True)
        np.savez(tmp_path / part / "CIFAR10_subset" / "some.npz", images=pictures[: 5 if part == "train" else 2])
    found = datasets.cifar10()
    assert found.shape == (5, 3, 32, 32) and found.dtype == torch.uint8
    assert torch.equal(found[1, :, 3, 4], torch.from_numpy(pictures[1, 3, 4]))
    assert len(datasets.cifar10(train=False)) == 2


def test_cifar10_of_torchvision_comes_first(tmp_path, monkeypatch):
    import pickle

    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        batch = {"data": rng.integers(0, 256, (2, 3072), dtype=np.uint8), "labels": [0, 1]}
        (folder / name).write_bytes(pickle.dumps(batch))
    monkeypatch.setattr("torchvision.datasets.CIFAR10._check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.CIFAR10._load_meta", lambda self: None)
    assert datasets.cifar10().shape == (10, 3, 32, 32)
    assert datasets.cifar10(train=False).shape == (2, 3, 32, 32)


def test_cifar10_that_torchvision_cannot_read_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(CourseError, match="not to be had"):
        datasets.cifar10()


def test_cifar10_of_the_standard_sets(course_data, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(course_data))
    assert datasets.cifar10().shape == (8000, 3, 32, 32)
    assert datasets.cifar10(train=False).shape == (1000, 3, 32, 32)


def test_a_set_of_nearly_that_name_is_suggested(tmp_path, monkeypatch):
    pictures(tmp_path / "test" / "Set5", count=1)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    for name in ("set5", "Set_5"):
        with pytest.raises(CourseError, match=rf"'{name}' is not there.*did you mean Set5\?"):
            datasets.folder(name)


def test_course_data_that_is_a_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "file"))
    with pytest.raises(CourseError, match="COURSE_DATA names .*file, which is a file"):
        datasets.folder("Set5")


def test_a_batch_knows_the_names_of_its_pictures():
    """Also where a picture is left out because it is too small."""
    pictures = [torch.full((1, 12, 12), k, dtype=torch.uint8) for k in range(4)]
    pictures[1] = pictures[1][:, :5]
    batches = datasets.Patches(pictures, size=8, batch=20, sources=["0", "1", "2", "3"])
    for step, rank in ((0, 0), (3, 1)):
        names = batches.names(step, rank)
        assert [round(y.max().item() * 255) for y in batches(step, rank)[1]] == [int(name) for name in names]
        assert set(names) == {"0", "2", "3"}
    assert datasets.Patches(pictures, size=8).names(0) == []


def test_shares_make_up_the_batch_of_one_process():
    pictures = [torch.full((1, 12, 12), k, dtype=torch.uint8) for k in range(4)]
    batches = datasets.Patches(pictures, size=8, batch=6, sources=list("abcd"))
    share = datasets.Share(batches, 3)
    parts = [share(5, rank)[1] for rank in range(3)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), batches(5)[1])
    assert [share.names(5, rank)[k] for k in range(2) for rank in range(3)] == batches.names(5)
    with pytest.raises(CourseError, match="6 patches per step cannot be shared equally by 4 processes"):
        datasets.Share(batches, 4)
