"""NPEG as it was, and the codecs that came of it: where they begin, and what each part promises."""

import math

import pytest
import torch
from builders import photograph
from safetensors.torch import load_file

from helpers import losses, models, recipes, training
from helpers.entropy import checkerboard, laplace_bits
from helpers.models.binary_autoencoder import (
    BLOCK,
    Coded,
    NoisyCode,
    dct_basis,
    nominal_step,
)
from helpers.training import Plan


@pytest.fixture(params=[False, True], ids=["integers", "bits"])
def codec(request):
    torch.manual_seed(0)
    return models.build("transform", hidden=8, binary=request.param)


# ---------------------------------------------------------------------------------------------- NPEG


def test_npeg_has_the_parameters_of_the_original():
    model = models.build("npeg")
    assert sum(p.numel() for p in model.encoder.parameters()) == 97_440
    assert sum(p.numel() for p in model.decoder.parameters()) == 97_315


def test_npeg_s_weights_begin_with_a_variance_of_two_over_the_inputs():
    layers = [m for m in models.build("npeg").modules() if isinstance(m, torch.nn.Conv2d)]
    for layer in layers[1:-1]:
        assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.in_channels)) ** 0.5, rel=0.05)
        assert not layer.bias.any()


def test_npeg_s_code_is_bits_in_evaluation_and_noisy_in_training():
    torch.manual_seed(0)
    model, x = models.build("npeg", noise=1.0), photograph(24, 24)[None]
    quiet = model.eval()(x)
    assert isinstance(quiet, NoisyCode)
    assert quiet.code.shape == (1, 128, 24, 24) and quiet.picture.shape == x.shape
    assert set(quiet.code.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(model(x).code, quiet.code)
    loud = model.train()(x)
    assert ((loud.code > 0.01) & (loud.code < 0.99)).float().mean() > 0.5
    assert not torch.equal(model(x).code, loud.code)


def test_npeg_s_threshold_decides_what_is_a_one():
    torch.manual_seed(0)
    x = photograph(16, 16)[None]
    shares = []
    for threshold in (0.1, 0.5, 0.9):
        torch.manual_seed(0)
        shares.append(models.build("npeg", threshold=threshold).eval()(x).code.mean().item())
    assert shares[0] > shares[1] > shares[2]


def test_npeg_trained_hard_sees_bits_and_still_learns():
    torch.manual_seed(0)
    model = models.build("npeg", noise=1.0, hard=True).train()
    coded = model(photograph(16, 16)[None])
    assert set(coded.code.unique().tolist()) <= {0.0, 1.0}
    losses.SparseCodeLoss()(coded, torch.zeros(1, 3, 16, 16)).backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.dim() > 1)


# ----------------------------------------------------------------------------------- the codecs' parts


def test_the_basis_and_back_are_inverse_and_errors_count_alike_in_rgb():
    there, back, groups = dct_basis()
    assert there.shape == back.shape == (384, 3, BLOCK, BLOCK) and sum(groups) == 384
    assert torch.allclose(there.flatten(1) @ back.flatten(1).T, torch.eye(384), atol=1e-5)
    energy = back.flatten(1).square().sum(1)  # of an error of one in a code
    assert energy[0].item() == pytest.approx(3, rel=1e-4)  # of Y, one gray level² each in R, G and B
    assert energy.min() > 2.4 and energy.max() < 3.3


def test_groups_go_from_coarse_to_fine_and_from_y_to_colour():
    there, _, groups = dct_basis()
    gray = there.sum(1).flatten(1).norm(dim=1) > 0.5  # colour has no gray in it
    ends = torch.tensor(groups).cumsum(0).tolist()
    assert groups[:4] == [1, 2, 2, 4]
    kinds = [gray[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert all(kind.all() or not kind.any() for kind in kinds)
    assert gray.sum() == 256


def test_a_flat_picture_is_one_code(codec):
    x = torch.full((1, 3, BLOCK, BLOCK), 0.75)
    levels = codec.encode(x, torch.ones(384, 1, 1))
    assert levels[0, 0].item() == pytest.approx(255 * 0.25 * BLOCK - 0.1, rel=1e-4)
    assert levels[0, 1:].abs().max() < 0.05


def test_codes_and_back_are_the_picture_but_for_fine_colour(codec):
    x = photograph(3 * BLOCK, 4 * BLOCK, 1).expand(1, 3, -1, -1).contiguous()
    steps = torch.ones(384, 1, 1)
    codec.dead_zone.data.zero_()
    assert torch.allclose(codec.decode(codec.encode(x, steps), steps), x, atol=1e-4)


def test_steps_fall_by_a_factor_of_two_each_two_rates(codec):
    steps = codec.steps(torch.tensor([0.0, 1.0, 2.0, 2.5, 6.0]))[:, 0, 0, 0].detach()
    assert torch.allclose(steps, nominal_step(torch.tensor([0.0, 1.0, 2.0, 2.5, 6.0])), rtol=0.01)
    assert steps[0].item() == pytest.approx(160) and steps[-1].item() == pytest.approx(20)
    assert (codec.exact_steps(2.5) * 64).frac().abs().max() == 0
    assert codec.exact_steps(2.5)[0].item() == pytest.approx(steps[3].item(), abs=0.02)


def test_a_checkerboard_is_one():
    board = checkerboard(torch.zeros(1, 3, 4, 5))
    assert board[0, 0] and not board[0, 1] and not board[1, 0] and board[1, 1]
    assert board.sum() == 10


@pytest.mark.parametrize("mean", [0.0, 0.3, -7.2])
@pytest.mark.parametrize("scale", [0.05, 0.7, 30.0])
def test_the_probabilities_of_all_levels_add_up_to_one(mean, scale):
    levels = torch.arange(-600.0, 601.0, dtype=torch.float64)
    bits = laplace_bits(levels, torch.tensor(mean), torch.tensor(scale))
    assert (2 ** -bits[bits < 23]).sum().item() == pytest.approx(1, abs=1e-4)
    nearest = levels[bits.argmin()]
    assert abs(nearest - mean) <= 0.5


def test_bits_have_gradients_far_away_and_close_by():
    level = torch.tensor([0.2, 3.0, 40.0], requires_grad=True)
    mean, scale = torch.zeros(3, requires_grad=True), torch.full((3,), 4.0, requires_grad=True)
    laplace_bits(level, mean, scale).sum().backward()
    for tensor in (level, mean, scale):
        assert tensor.grad.isfinite().all() and (tensor.grad != 0).all()


# ------------------------------------------------------------------------------------------ as a whole


def test_a_codec_returns_pictures_bits_and_trade_offs(codec):
    x = torch.stack([photograph(40, 56, seed=s) for s in range(2)])
    coded = codec.train()(x)
    assert isinstance(coded, Coded)
    assert coded.picture.shape == x.shape
    assert coded.bits_per_pixel.shape == coded.trade_off.shape == (2,)
    assert (coded.bits_per_pixel > 0).all()
    assert coded.trade_off[0] != coded.trade_off[1]  # each at a rate of its own


def test_evaluation_is_without_noise(codec):
    x = photograph(40, 56)[None]
    first, second = codec.eval()(x), codec(x)
    assert torch.equal(first.picture, second.picture)
    assert torch.equal(first.bits_per_pixel, second.bits_per_pixel)
    codec.train()
    torch.manual_seed(1)
    assert not torch.equal(codec(x).bits_per_pixel, first.bits_per_pixel)


def test_every_part_of_a_codec_learns(codec):
    with torch.no_grad():
        torch.nn.init.normal_(codec.restorer.tail.weight, std=0.01)
        for network in codec.context.networks:
            torch.nn.init.normal_(network[-1].weight, std=0.01)
    x = torch.stack([photograph(48, 48, seed=s) for s in range(2)])
    losses.RateDistortionLoss()(codec.train()(x), x).backward()
    still = [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def test_more_bits_for_a_richer_picture(codec):
    flat, rich = torch.full((1, 3, 64, 64), 0.4), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert codec.eval()(rich).bits_per_pixel > 20 * codec(flat).bits_per_pixel


def test_a_thermometer_s_bits_are_the_rounded_level_without_noise():
    torch.manual_seed(0)
    model = models.build("transform", hidden=4, binary=True).eval()
    levels = 3 * torch.randn(1, 384, 4, 4)
    rounded, bits = model.through_bits(levels)
    assert torch.equal(rounded, (levels - 0.5).ceil())
    zeros, ones = torch.zeros_like(levels), torch.ones_like(levels)
    assert torch.allclose(bits(zeros, ones), laplace_bits(rounded, zeros, ones))


def test_noise_flips_the_bits_that_are_next_to_their_threshold_alone():
    torch.manual_seed(0)
    model = models.build("transform", hidden=4, binary=True).train()
    near, far = torch.full((1, 384, 8, 8), 0.5), torch.full((1, 384, 8, 8), 2.0)
    flipped = [(model.through_bits(level + 1e-3)[0] != (level + 1e-3).round()).float().mean() for level in (near, far)]
    assert 0.4 < flipped[0] < 0.6
    assert flipped[1] < 0.06


def test_large_pictures_are_decoded_in_tiles_to_the_same_pixels(codec, monkeypatch):
    torch.nn.init.normal_(codec.restorer.tail.weight, std=0.01)
    levels = torch.zeros(384, 10, 14, dtype=torch.int16)
    levels[:12] = torch.randint(-2, 3, (12, 10, 14))
    whole = codec.eval().picture(levels, 3.0)
    monkeypatch.setattr("helpers.models.binary_autoencoder.TILE", 4)
    tiled = codec.picture(levels, 3.0)
    assert (whole.int() - tiled.int()).abs().max() <= 1  # sums in another order round another way
    assert (whole != tiled).float().mean() < 1e-3


def test_multiply_adds_of_the_codecs_are_counted():
    npeg = models.multiply_adds(models.build("npeg"))
    widths = [3, 16, 32, 64, 128, 64, 32, 16, 3]
    assert npeg == sum(9 * a * b for a, b in zip(widths, widths[1:], strict=False))
    assert models.multiply_adds(models.build("transform")) > models.multiply_adds(models.build("drunet"))


# ------------------------------------------------------------------------------------------- training


def test_the_rate_distortion_loss_is_the_mean_logarithm_of_both():
    target = torch.zeros(2, 3, 4, 4)
    coded = Coded(torch.full((2, 3, 4, 4), 1 / 255), torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0]))
    expected = (math.log(1 + 0.5) + math.log(2 + 3)) / 2
    assert losses.RateDistortionLoss()(coded, target).item() == pytest.approx(expected, rel=1e-4)


def test_the_sparse_loss_counts_ones():
    target, code = torch.zeros(1, 3, 2, 2), torch.zeros(1, 128, 2, 2)
    code[:, :64] = 1
    assert losses.SparseCodeLoss()(NoisyCode(target + 0.1, code), target).item() == pytest.approx(0.01 + 0.005)


@pytest.mark.parametrize("name", ["npeg", "integer-ae"])
def test_a_few_steps_of_training_help_and_are_logged(name, tmp_path):
    recipe = recipes.find(name)
    network = recipe.network | ({"hidden": 4} if name != "npeg" else {"noise": 0.5})
    torch.manual_seed(0)
    model = models.build(**network)
    pairs = [(photograph(48, 48, seed=s),) * 2 for s in range(2)]

    def batch(step, rank):
        x = torch.stack([photograph(48, 48, seed=10 * step + s) for s in range(4)])
        return x, x

    plan = Plan(30, 2e-3, every=15, averaging=0)
    log = training.train(
        model, batch, losses.LOSSES[recipe.loss](), plan, validation=pairs, out=tmp_path, device="cpu", progress=False
    )
    assert log[1]["loss"] < log[0]["loss"]
    assert {"psnr", "ssim"} <= set(log[0])
    assert ("bpp" in log[0]) == ("cost" in log[0]) == (name != "npeg")
    best = min(log, key=lambda row: row.get("cost", -row["psnr"]))
    kept = load_file(tmp_path / "best.safetensors")
    same = load_file(tmp_path / f"step-{best['step']:07d}.safetensors")
    assert all(torch.equal(kept[key], same[key]) for key in kept)


def test_the_codec_begins_with_the_restorer_s_weights(tmp_path):
    given = {f"head.{key}": torch.full_like(value, 0.25) for key, value in models.DRUNet().head.state_dict().items()}
    from builders import pictures

    made = recipes.Recipe(
        "tiny", "codec", {"kind": "transform", "hidden": 4}, Plan(1, 1e-9, every=1), "rate-distortion",
        sets=(str(pictures(tmp_path / "set", height=64, width=64)),), patch=32, batch=2,
    )  # fmt: skip
    model, _, _ = recipes.run(made, tmp_path / "run", progress=False, device="cpu", start=given)
    assert torch.allclose(model.restorer.head.weight, torch.full_like(model.restorer.head.weight, 0.25), atol=1e-6)
