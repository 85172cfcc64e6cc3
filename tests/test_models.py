"""The networks: sizes of their papers, where training starts, and `restore`, which takes any picture in any tiles.

What takes pictures refuses those of another scale or type in one sentence, and gives float32 or uint8.
"""

import math

import numpy as np
import pytest
import torch
from builders import photograph, randomized
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers import baselines, codec, datasets, degradations, images, models, sensing, zoo
from helpers.service import devices

REACH = 2  # pixels beyond `halo` that the bicubic interpolation inside, or beside, a network sees
NETWORKS = {  # one of every kind, scale and colour, all weights random
    name: randomized(model)
    for name, model in {
        "srcnn-915-x3": models.SRCNN(3, (9, 1, 5)),
        "srcnn-955-x2": models.SRCNN(2, (9, 5, 5)),
        "srcnn-rgb": models.SRCNN(3, (9, 1, 5), channels=3),
        "srcnn-relu": models.SRCNN(3, (9, 1, 5), final_relu=True),
        "skyline-original": models.SkylineSRCNN(),
        "skyline-mended": models.SkylineSRCNN((4, 0, 2), residual=True),
        "edsr-x2": models.EDSR(2, 8, 2),
        "edsr-x3": models.EDSR(3, 8, 3),
        "edsr-x4-rgb": models.EDSR(4, 6, 1, channels=3),
        "arcnn": models.ARCNN(),
        "conv-units": models.ConvUnits(),
        "conv-units-residual": models.ConvUnits(middle=1, residual=True, std=None),
        "drunet": models.DRUNet((6, 8), (1, 2, 1)),
        **{f"fsrcnn-x{s}": models.FSRCNN(s, 12, 6, 2) for s in (2, 3, 4)},
    }.items()
}
every_network = pytest.mark.parametrize("name", NETWORKS)


# ------------------------------------------------------------------------------ sizes, multiply-adds


PAPERS = [  # network, parameters, multiply-adds per output pixel
    (models.SRCNN(3, (9, 1, 5)), 8_129, 8_032),  # weights without biases, each used once per output pixel
    (models.SRCNN(4, (9, 5, 5)), 57_281, 57_184),
    (models.SRCNN(2, (9, 5, 5), channels=3), 69_251, 69_152),
    (models.SkylineSRCNN(), 8_129, 8_032),
    (models.FSRCNN(3), 12_637 + 172, 12_464 / 9),  # Dong et al. 2016b, table 1, and the slopes of its PReLUs
    (models.FSRCNN(4, 32, 5, 1), 4_012 + 74, 3_937 / 16),
    (models.EDSR(3, 64, 6), 448_969, 448_128 / 9),
    (models.ConvUnits(middle=3), 485_095, 484_400),  # the code of the original
    (models.ConvUnits(middle=1), 313_063, 312_368),  # its documentation
    (models.ARCNN(), 106_561, 106_448),  # Dong et al. 2015, table 1
]


@pytest.mark.parametrize(("model", "parameters", "multiply_adds"), PAPERS, ids=lambda value: type(value).__name__)
def test_networks_have_the_parameters_of_their_papers(model, parameters, multiply_adds):
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert models.multiply_adds(model) == round(multiply_adds)


def test_paddings_of_the_skyline_agree_inside_and_differ_at_the_edge():
    original, mended, sizes = randomized(models.SkylineSRCNN()), models.SkylineSRCNN((4, 0, 2)), []
    mended.load_state_dict(original.state_dict())
    for layer in (original.conv1, original.conv2, original.conv3):
        layer.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    x = photograph(128, 128, 1)[None]
    difference = (original(x) - mended(x)).abs()
    assert sizes == [124, 128, 128]  # as the original has it
    assert difference[..., 10:-10, 10:-10].max() < 1e-5 and difference.max() > 1e-3


# --------------------------------------------------------------------------------- where training starts


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mended_jpeg_restorers_start_close_to_their_input(channels):
    x, arcnn = photograph(37, 50, channels), models.ARCNN()
    arcnn.start_from_interpolation()
    assert torch.allclose(models.DRUNet().restore(x), x, atol=1e-6)
    assert torch.allclose(arcnn.restore(x), x, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_srcnn_and_edsr_start_as_bicubic(scale, channels):
    """And FSRCNN close to linear interpolation: its deconvolution fades at the edge, and at ×4 cuts the tent off."""
    small = 0.1 + 0.8 * photograph(11, 13, channels)[None]
    bicubic = degradations.upscale(small, scale).clamp(min=0)
    for model in (models.SRCNN(scale, (9, 5, 5), channels), models.EDSR(scale, 8, 2, channels)):
        model.start_from_interpolation()
        assert torch.allclose(model(small), bicubic, atol=1e-5)
    torch.manual_seed(0)
    model, small = models.FSRCNN(scale), photograph(20, 24, 1)[None]
    model.start_from_interpolation()
    linear = torch.nn.functional.interpolate(small, scale_factor=scale, mode="bilinear", align_corners=False)
    difference = (model(small) - linear).abs()[..., scale:-scale, scale:-scale]
    assert difference.mean() < 0.01 and difference.max() < (0.1 if scale == 4 else 0.05)


@pytest.mark.parametrize("kind", [lambda: models.SRCNN(2), lambda: models.EDSR(2, 8, 1), lambda: models.FSRCNN(2)])
def test_the_start_is_not_a_dead_end(kind):
    """After two steps every layer has moved: zeros at the end do not keep the gradient from the beginning."""
    torch.manual_seed(0)
    model = kind()
    model.start_from_interpolation()
    before = {name: p.clone() for name, p in model.named_parameters() if p.dim() > 1}
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    for _ in range(3):
        (model(torch.rand(2, 1, 12, 12)) - torch.rand(2, 1, 24, 24)).square().mean().backward()
        optimizer.step()
    assert [name for name, p in model.named_parameters() if p.dim() > 1 and torch.equal(p, before[name])] == []


# --------------------------------------------------------------------------------------------- restore


@every_network
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_equal_the_whole(name, channels):
    model, x = NETWORKS[name], photograph(45, 61, channels)
    whole = model.restore(x, tile=None)
    assert whole.shape == (channels, 45 * model.scale, 61 * model.scale)
    for tile in (16 * model.scale, 23 * model.scale):
        assert (model.restore(x, tile=tile) - whole).abs().max() <= 1e-4
    assert whole.std() > 0.01  # something is there to compare


@every_network
def test_no_output_depends_on_more_than_the_halo(name):
    """Moving one pixel changes nothing further away than `restore` cuts its tiles, and something close by."""
    model = NETWORKS[name]
    reach = model.halo + REACH
    middle = reach + 4
    x = photograph(2 * reach + 9, 2 * reach + 9, model.channels)[None]
    moved = x.clone()
    moved[..., middle, middle] += 0.5
    with torch.inference_mode():
        changed = (model(moved) - model(x)).abs().amax(dim=(0, 1)) > 1e-7
    distance = (changed.nonzero().div(model.scale, rounding_mode="floor") - middle).abs().max().item()
    assert 0 < distance <= reach


@settings(max_examples=40)
@example("skyline-original", 1, 3, 2)  # smaller than its first filter
@given(st.sampled_from(list(NETWORKS)), st.sampled_from((1, 3)), st.integers(1, 14), st.integers(1, 14))
def test_restore_takes_any_size_and_type_and_a_batch_is_its_pictures(name, channels, height, width):
    model = NETWORKS[name]
    x = torch.stack([photograph(height, width, channels, seed) for seed in range(2)])
    restored = model.restore(x)
    assert restored.dtype == torch.float32 and 0 <= restored.min() and restored.max() <= 1
    assert restored.shape == (2, channels, height * model.scale, width * model.scale)
    assert torch.allclose(restored, torch.stack([model.restore(one) for one in x]), atol=1e-5)
    eight = model.restore(images.to_uint8(x))
    assert eight.dtype == torch.uint8 and (eight.float() / 255 - restored).abs().max() <= 0.5 / 255 + 1e-4
    for kind in (torch.float64, torch.float16):
        assert torch.equal(model.restore(x.to(kind)), model.restore(x.to(kind).float()))


SHAPES = [(5, 5), (2, 5, 5), (1, 1, 3, 5, 5), (2, 2, 5, 5), (1, 0, 5), (3, 5, 0), (2, 3, 0, 0)]


@pytest.mark.parametrize("shape", SHAPES)
def test_restore_refuses_other_shapes_and_pictures_without_pixels(shape):
    for tile in (0, None):
        with pytest.raises(ValueError, match="x.* no pixels" if 0 in shape else r"\(C, H, W\)"):
            NETWORKS["srcnn-915-x3"].restore(torch.zeros(shape), tile=tile)


def test_a_luma_network_takes_colour_from_bicubic():
    """And a colour network takes gray as three equal channels."""
    model, colour = models.SRCNN(2, (9, 1, 5)).train(), models.SRCNN(2, (9, 1, 5), channels=3)
    model.start_from_interpolation()
    colour.start_from_interpolation()
    x = 0.3 + 0.4 * photograph(20, 24)
    assert torch.allclose(colour.restore(x[:1]), degradations.upscale(x[:1], 2), atol=1e-4)
    copy, expected = x.clone(), images.rgb_to_ycbcr(degradations.upscale(x, 2))
    with torch.no_grad():
        model.conv3.bias += 0.05
    y, *chroma = images.rgb_to_ycbcr(model.restore(x))
    assert torch.allclose(y, expected[0] + 0.05, atol=1e-4)
    assert torch.allclose(torch.stack(chroma), expected[1:], atol=1e-4)
    assert torch.equal(x, copy) and model.training and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["edsr-x3", "edsr-x4-rgb", "drunet", "fsrcnn-x2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_is_for_networks_that_add_to_their_input(name, dtype, monkeypatch):
    model, x = NETWORKS[name], 0.2 + 0.6 * photograph(40, 44)
    monkeypatch.setattr(devices, "precision", lambda _: dtype)
    full, half = model.restore(x), model.restore(x, half=True)
    assert devices.half_precision(torch.device("cuda")) == torch.float16  # the finer one
    assert torch.equal(half, full) != (model.adds_to_input and dtype == torch.bfloat16)
    assert half.dtype == torch.float32 and (half - full).abs().mean() < 2e-3
    if model.channels == 1:  # colours pass in full precision
        assert (images.rgb_to_ycbcr(half) - images.rgb_to_ycbcr(full))[1:, 8:-8, 8:-8].abs().mean() < 1e-3


def test_half_precision_is_off_by_nine_gray_levels_at_most(monkeypatch):
    """Where one of the shipped networks is off by most on the bundled pictures."""
    model, x = zoo.load("edsr-x4"), images.load_uint8(datasets.bundled("pavilion"))[:, 40:136, 264:360]
    x = images.quantize(degradations.downscale(x / 255, 4))
    full = model.restore(x)
    for dtype, least, most in ((torch.bfloat16, 8, 9), (torch.float16, 0, 1)):
        monkeypatch.setattr(devices, "precision", lambda _, dtype=dtype: dtype)
        off = 255 * (model.restore(x, half=True) - full).abs()
        assert least < off.max() <= most and off.mean() < 0.3


# ---------------------------------------------------------------------- eight orientations averaged


@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 8, 8), (2, 3, 7, 5)])
def test_each_orientation_is_seen_once_and_turned_back(shape):
    class Look(models.Restorer):
        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.tensor(0.5)), []

        def forward(self, y):
            self.seen.append(y[0, 0].clone())
            return self.weight * y

    image, network = torch.rand(shape), Look()
    assert torch.allclose(models.Ensemble(network).restore(image), network.restore(image), atol=1e-5)
    assert len({tuple(t.flatten().tolist()) for t in network.seen}) == 8
    assert models.Ensemble(network).restore((255 * image).byte()).dtype == torch.uint8


# ---------------------------------------------------------------------------------------------------- scale and type

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
