import contextlib
import math

import pytest
import torch
from builders import photograph, randomized

from helpers import datasets, degradations, images, models, recipes, zoo
from helpers.models import originals
from helpers.service import devices

BICUBIC_REACH = 2  # pixels beyond `halo` that the interpolation inside, or beside, a network sees


def networks() -> dict[str, models.Restorer]:
    """One network of every kind, scale and colour, all weights random."""
    made = {
        "srcnn-915-x3": models.SRCNN(3, (9, 1, 5)),
        "srcnn-955-x2": models.SRCNN(2, (9, 5, 5)),
        "srcnn-955-x4": models.SRCNN(4, (9, 5, 5)),
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
    }
    return {name: randomized(model) for name, model in made.items()}


NETWORKS = networks()
every_network = pytest.mark.parametrize("name", NETWORKS)


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def convolution(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel**2 + outputs


# ----------------------------------------------------------------------------------- sizes and shapes


def test_srcnn_has_the_papers_parameters():
    assert count(models.SRCNN(kernels=(9, 1, 5))) == 8_129
    assert count(models.SRCNN(kernels=(9, 5, 5))) == 57_281
    rgb = convolution(3, 64, 9) + convolution(64, 32, 5) + convolution(32, 3, 5)
    assert count(models.SRCNN(kernels=(9, 5, 5), channels=3)) == rgb


@pytest.mark.parametrize(("d", "s", "m"), [(56, 12, 4), (32, 5, 1)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_fsrcnn_has_the_papers_parameters(d, s, m, scale):
    weights = 25 * d + d * s + 9 * m * s**2 + d * s + 81 * d  # the paper counts these alone
    model = models.FSRCNN(scale, d, s, m)
    assert sum(p.numel() for p in model.parameters() if p.dim() > 1) == weights
    biases, slopes = 2 * d + s + m * s + 1, 2 * d + s + m * s
    assert count(model) == weights + biases + slopes
    if (d, s, m) == (56, 12, 4):
        assert weights == 12_464  # Dong et al. 2016b, table 1
        assert count(model) - slopes == 12_637


def test_edsr_has_the_parameters_of_its_formula():
    expected = convolution(1, 64, 3) + 6 * 2 * convolution(64, 64, 3) + convolution(64, 9, 3)
    assert count(models.EDSR(3, 64, 6)) == expected


def test_skyline_takes_a_checkpoint_of_the_original(tmp_path):
    shapes = {"conv1": (64, 1, 9, 9), "conv2": (32, 64, 1, 1), "conv3": (1, 32, 5, 5)}
    state = {}
    for index, (name, shape) in enumerate(shapes.items()):
        state[f"{name}.weight"] = torch.full(shape, 0.01 * (index + 1))
        state[f"{name}.bias"] = torch.full(shape[:1], 0.1)
    torch.save(state, tmp_path / "checkpoint.pth")
    model = originals.load_checkpoint(models.SkylineSRCNN(), tmp_path / "checkpoint.pth")
    assert count(model) == 8_129
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())


def test_the_jpeg_restorers_have_the_parameters_of_their_sources():
    assert count(models.ConvUnits(middle=3)) == 485_095  # the code of the original
    assert count(models.ConvUnits(middle=1)) == 313_063  # its documentation
    weights = 64 * 81 + 64 * 32 * 49 + 32 * 16 + 16 * 25  # Dong et al. 2015, table 1
    assert count(models.ARCNN()) == weights + 64 + 32 + 16 + 1


@pytest.mark.parametrize("padding", [(2, 2, 2), (4, 0, 2)])
@pytest.mark.parametrize("size", [(128, 128), (17, 33), (9, 9)])
def test_both_paddings_keep_the_size(padding, size):
    assert models.SkylineSRCNN(padding)(torch.zeros(1, 1, *size)).shape == (1, 1, *size)


def test_the_original_padding_passes_through_124_pixels():
    model, sizes = models.SkylineSRCNN(), []
    for layer in (model.conv1, model.conv2, model.conv3):
        layer.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    model(torch.zeros(1, 1, 128, 128))
    assert sizes == [124, 128, 128]


def test_paddings_agree_inside_and_differ_at_the_edge():
    original, mended = models.SkylineSRCNN(), models.SkylineSRCNN((4, 0, 2))
    randomized(original)
    mended.load_state_dict(original.state_dict())
    x = photograph(40, 40, 1)[None]
    difference = (original(x) - mended(x)).abs()
    assert difference[..., 10:-10, 10:-10].max() < 1e-5
    assert difference.max() > 1e-3


def test_build_names_what_there_is():
    assert isinstance(models.build("srcnn", scale=2), models.SRCNN)
    with pytest.raises(ValueError, match=r"vgg.*srcnn, skyline, fsrcnn, edsr"):
        models.build("vgg")


# ------------------------------------------------------------------------------------- multiply-adds


def test_multiply_adds_of_srcnn():
    """Weights without biases, each used once per output pixel."""
    for scale in (2, 3, 4):
        assert models.multiply_adds(models.SRCNN(scale, (9, 5, 5))) == 57_184
    assert models.multiply_adds(models.SRCNN(3, (9, 1, 5))) == 8_032


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_networks_on_the_small_picture_divide_by_scale_squared(scale):
    assert models.multiply_adds(models.FSRCNN(scale)) == round(12_464 / scale**2)
    edsr = models.EDSR(scale, 8, 2)
    weights = sum(p.numel() for p in edsr.parameters() if p.dim() > 1)
    assert models.multiply_adds(edsr) == round(weights / scale**2)


@pytest.mark.parametrize("name", [name for name in recipes.RECIPES if name.startswith("edsr")])
def test_the_best_networks_need_less_than_srcnn_955(name):
    assert models.multiply_adds(models.build(**recipes.RECIPES[name].network)) < 57_184


def test_the_blind_restorer_needs_less_than_a_third_of_dncnn():
    model = models.build(**recipes.RECIPES["jpeg-blind"].network)
    assert models.multiply_adds(model) < 556_000 / 3
    level = {"head": 4, "encoder": 4, "decoder": 4, "tail": 4, "down": 16, "body": 16, "up": 16}  # pixels per position
    weights = {name: sum(p.numel() for p in getattr(model, name).parameters() if p.dim() > 1) for name in level}
    colours = 2 * 9  # RGB to YCbCr and back
    assert models.multiply_adds(model) == colours + round(sum(weights[name] / level[name] for name in level))


# --------------------------------------------------------------------------------- where training starts


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mended_jpeg_restorers_start_close_to_their_input(channels):
    x = photograph(37, 50, channels)
    assert torch.allclose(models.DRUNet().restore(x), x, atol=1e-6)
    model = models.ARCNN()
    model.start_from_interpolation()
    assert torch.allclose(model.restore(x), x, atol=1e-5)


def test_the_original_initialisation_lets_the_signal_fade():
    """Eleven layers of N(0, 0.001): what reaches the output does not depend on the input any more."""
    torch.manual_seed(0)
    x, y = (photograph(40, 40, seed=seed)[None] for seed in (0, 1))
    for std, alive in ((0.001, False), (None, True)):
        model = models.ConvUnits(std=std)
        assert ((model(x) - model(y)).abs().max() > 1e-6) == alive


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_srcnn_and_edsr_start_as_bicubic(scale, channels):
    small = 0.1 + 0.8 * photograph(11, 13, channels)[None]
    bicubic = degradations.upscale(small, scale)
    for model in (models.SRCNN(scale, (9, 5, 5), channels), models.EDSR(scale, 8, 2, channels)):
        model.start_from_interpolation()
        assert torch.allclose(model(small), bicubic.clamp(min=0), atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_fsrcnn_starts_close_to_linear_interpolation(scale):
    torch.manual_seed(0)
    model = models.FSRCNN(scale)
    model.start_from_interpolation()
    small = photograph(20, 24, 1)[None]
    linear = torch.nn.functional.interpolate(small, scale_factor=scale, mode="bilinear", align_corners=False)
    inside = (..., slice(scale, -scale), slice(scale, -scale))  # the deconvolution fades at the very edge
    difference = (model(small) - linear)[inside].abs()
    assert difference.mean() < 0.01
    assert difference.max() < (0.1 if scale == 4 else 0.05)  # at ×4 the 9×9 kernel cuts the tent off


@pytest.mark.parametrize("kind", [lambda: models.SRCNN(2), lambda: models.EDSR(2, 8, 1), lambda: models.FSRCNN(2)])
def test_the_start_is_not_a_dead_end(kind):
    """After two steps every layer has moved: zeros at the end do not keep the gradient from the beginning."""
    torch.manual_seed(0)
    model = kind()
    model.start_from_interpolation()
    before = {name: p.clone() for name, p in model.named_parameters() if p.dim() > 1}
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x = torch.rand(2, 1, 12, 12)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) - torch.rand(2, 1, 24, 24)).square().mean().backward()
        optimizer.step()
    assert [name for name, p in model.named_parameters() if p.dim() > 1 and torch.equal(p, before[name])] == []


def test_the_closing_relu_stops_the_gradient_of_dark_pixels():
    x = photograph(12, 12, 1)[None]
    for closing in (True, False):
        model = models.SRCNN(1, (9, 1, 5), final_relu=closing)
        torch.nn.init.constant_(model.conv3.bias, -10)
        model(x).sum().backward()
        assert (model.conv1.weight.grad.abs().sum() == 0) == closing
        assert (model(x).min() >= 0) == closing


# --------------------------------------------------------------------------------------------- restore


@every_network
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_equal_the_whole(name, channels):
    model = NETWORKS[name]
    x = photograph(45, 61, channels)
    whole = model.restore(x, tile=None)
    assert whole.shape == (channels, 45 * model.scale, 61 * model.scale)
    for tile in (16 * model.scale, 23 * model.scale):
        assert (model.restore(x, tile=tile) - whole).abs().max() <= 1e-4
    assert whole.std() > 0.01  # something is there to compare


@pytest.mark.parametrize("name", ["edsr-x3", "edsr-x4-rgb", "drunet", "fsrcnn-x2", "skyline-mended"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_is_for_networks_that_add_to_their_input(name, dtype, monkeypatch):
    model, x = NETWORKS[name], 0.2 + 0.6 * photograph(40, 44)
    seen = []
    hooks = [
        m.register_forward_hook(lambda *a: seen.append(a[2].dtype))
        for m in model.modules()
        if list(m.parameters(False))
    ]
    monkeypatch.setattr(devices, "precision", lambda _: dtype)
    full, half = model.restore(x), model.restore(x, half=True)
    for hook in hooks:
        hook.remove()
    halved = model.adds_to_input and dtype == torch.bfloat16
    assert (torch.bfloat16 in seen) == halved
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 2e-3
    assert torch.equal(half, full) != halved
    if model.channels == 1:  # colours pass in full precision
        assert (images.rgb_to_ycbcr(half) - images.rgb_to_ycbcr(full))[1:, 8:-8, 8:-8].abs().mean() < 1e-3


@pytest.mark.parametrize(
    ("name", "picture", "top", "left", "levels"),
    [
        ("edsr-x2", "pavilion", 160, 60, 5),
        ("edsr-x3", "pavilion", 252, 24, 7),
        ("edsr-x4", "astronaut", 140, 64, 6),
        ("jpeg-blind", "coffee", 16, 160, 3),
    ],
)
def test_half_precision_is_off_by_what_restore_says(name, picture, top, left, levels, monkeypatch):
    """At some of the places of the bundled pictures where it is off by most."""
    said = " ".join(models.Restorer.restore.__doc__.split())
    assert f"{levels} gray levels ({name})" in said or f"{levels} ({name})" in said
    model = zoo.load(name)
    x = images.load_uint8(datasets.bundled(picture))[:, top : top + 96, left : left + 96]
    x = degradations.jpeg(images.to_float(x), 40) if model.scale == 1 else degradations.downscale(x / 255, model.scale)
    x = images.quantize(x)
    full = model.restore(x)
    for dtype, least, most in ((torch.bfloat16, 1, levels), (torch.float16, 0, 1)):
        monkeypatch.setattr(devices, "precision", lambda _, dtype=dtype: dtype)
        off = 255 * (model.restore(x, half=True) - full).abs()
        assert least < off.max() <= most and off.mean() < 0.3


def test_cuda_restores_in_the_finer_half_precision():
    assert devices.half_precision(torch.device("cuda")) == torch.float16
    assert devices.half_precision(torch.device("cpu")) == devices.precision(torch.device("cpu"))


@every_network
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 2, 3), (3, 5, 1), (3, 7, 13), (2, 3, 9, 11), (2, 1, 4, 4)])
def test_restore_takes_any_size_and_type(name, shape):
    model = NETWORKS[name]
    x = images.quantize(torch.rand(shape, generator=torch.Generator().manual_seed(1)))
    restored = model.restore(x)
    assert restored.dtype == torch.float32
    assert restored.shape == (*shape[:-2], shape[-2] * model.scale, shape[-1] * model.scale)
    assert restored.min() >= 0
    assert restored.max() <= 1
    eight = model.restore(images.to_uint8(x))
    assert eight.dtype == torch.uint8
    assert (eight.float() / 255 - restored).abs().max() <= 0.5 / 255 + 1e-4


@every_network
def test_a_batch_is_its_pictures(name):
    model = NETWORKS[name]
    x = torch.stack([photograph(12, 15, 3, seed) for seed in range(2)])
    assert torch.allclose(model.restore(x), torch.stack([model.restore(one) for one in x]), atol=1e-5)


@every_network
def test_no_output_depends_on_more_than_the_halo(name):
    """Moving one pixel changes nothing further away than `restore` cuts its tiles, and something close by."""
    model = NETWORKS[name]
    reach = model.halo + BICUBIC_REACH
    side, scale = 2 * reach + 9, model.scale
    middle = side // 2
    x = photograph(side, side, model.channels)[None]
    moved = x.clone()
    moved[..., middle, middle] += 0.5
    with torch.inference_mode():
        changed = (model(moved) - model(x)).abs().amax(dim=(0, 1)) > 1e-7
    rows, columns = changed.nonzero().div(scale, rounding_mode="floor").unbind(1)
    distance = torch.maximum((rows - middle).abs(), (columns - middle).abs()).max().item()
    assert 0 < distance <= reach


@pytest.mark.parametrize("name", ["srcnn-955-x2", "edsr-x3", "fsrcnn-x3", "skyline-mended", "arcnn"])
def test_the_halo_is_not_without_need(name, monkeypatch):
    options = {
        "srcnn-955-x2": {"kind": "srcnn", "scale": 2},
        "edsr-x3": {"kind": "edsr", "width": 8},
        "fsrcnn-x3": {"kind": "fsrcnn"},
        "skyline-mended": {"kind": "skyline", "padding": (4, 0, 2)},
        "arcnn": {"kind": "arcnn"},
    }
    model = models.build(**options[name])
    randomized(model)
    x = photograph(45, 61, 1)
    monkeypatch.setattr(model, "halo", -BICUBIC_REACH)
    assert (model.restore(x, tile=16 * model.scale) - model.restore(x, tile=None)).abs().max() > 1e-3


def test_a_luma_network_takes_colour_from_bicubic():
    model = models.SRCNN(2, (9, 1, 5))
    model.start_from_interpolation()
    x = 0.2 + 0.6 * photograph(20, 24)
    expected = degradations.upscale(images.rgb_to_ycbcr(x), 2)  # Y passes unchanged through this network
    assert torch.allclose(images.rgb_to_ycbcr(model.restore(x)), expected, atol=1e-4)
    randomized(model)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.3)
        model.conv3.bias += 0.5
    got = images.rgb_to_ycbcr(model._restore_float(x[None], contextlib.nullcontext())[0])
    assert torch.allclose(got[1:], expected[1:], atol=1e-4)
    assert not torch.allclose(got[:1], expected[:1], atol=1e-2)


def test_a_luma_network_takes_gray_as_it_is():
    model, x = NETWORKS["srcnn-915-x3"], photograph(10, 12, 1)
    assert torch.allclose(model.restore(x), model(x[None])[0].clamp(0, 1), atol=1e-5)


def test_a_colour_network_takes_gray_as_three_equal_channels():
    model = models.SRCNN(2, (9, 1, 5), channels=3)
    model.start_from_interpolation()
    x = 0.2 + 0.6 * photograph(20, 24, 1)
    assert model.restore(x).shape == (1, 40, 48)
    assert torch.allclose(model.restore(x), degradations.upscale(x, 2), atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 5), (2, 5, 5), (4, 5, 5), (1, 1, 3, 5, 5), (2, 2, 5, 5)])
def test_restore_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        NETWORKS["srcnn-915-x3"].restore(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 0, 5), (3, 5, 0), (2, 3, 0, 0)])
@pytest.mark.parametrize("tile", [0, 16, None])
def test_restore_refuses_pictures_without_pixels(shape, tile):
    with pytest.raises(ValueError, match=f"{shape[-1]}x{shape[-2]}.* no pixels"):
        NETWORKS["srcnn-915-x3"].restore(torch.zeros(shape), tile=tile)


@pytest.mark.parametrize("name", ["srcnn-915-x3", "fsrcnn-x3"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_restore_takes_floats_of_any_precision(name, channels, dtype):
    x = photograph(9, 11, channels).to(dtype)
    restored = NETWORKS[name].restore(x)
    assert restored.dtype == torch.float32
    assert torch.equal(restored, NETWORKS[name].restore(x.float()))


def test_restore_leaves_no_trace():
    model, x = models.SRCNN(2, (9, 1, 5)).train(), photograph(9, 9, 1)
    copy = x.clone()
    model.restore(x)
    assert torch.equal(x, copy)
    assert model.training
    assert all(math.isfinite(p.sum().item()) and p.grad is None for p in model.parameters())
