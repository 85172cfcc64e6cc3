"""NPEG as it was, and the codecs that came of it: where they begin, and what each part promises."""

import math

import pytest
import torch
from builders import photograph, pictures
from hypothesis import given
from hypothesis import strategies as st

from helpers import losses, models, recipes, training
from helpers.entropy import checkerboard, laplace_bits
from helpers.models.binary_autoencoder import BLOCK, Coded, NoisyCode, dct_basis
from helpers.training import Plan


@pytest.fixture(params=[False, True], ids=["integers", "bits"])
def codec(request):
    torch.manual_seed(0)
    return models.build("transform", hidden=8, binary=request.param)


# ---------------------------------------------------------------------------------------------- NPEG


def test_npeg_has_the_parameters_of_the_original_and_begins_with_a_variance_of_two_over_the_inputs():
    model = models.build("npeg")
    parts = (model.encoder, 97_440), (model.decoder, 97_315)
    assert all(sum(p.numel() for p in part.parameters()) == count for part, count in parts)
    for layer in [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)][1:-1]:
        assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.in_channels)) ** 0.5, rel=0.05)
        assert not layer.bias.any()


def test_npeg_s_code_is_bits_in_evaluation_and_noisy_in_training():
    x, model = photograph(24, 24)[None], models.build("npeg", noise=1.0)
    quiet = model.eval()(x)
    assert quiet.code.shape == (1, 128, 24, 24) and quiet.picture.shape == x.shape
    assert set(quiet.code.unique().tolist()) == {0.0, 1.0} and torch.equal(model(x).code, quiet.code)
    loud = model.train()(x)
    assert ((loud.code > 0.01) & (loud.code < 0.99)).float().mean() > 0.5
    assert not torch.equal(model(x).code, loud.code)
    hard = models.build("npeg", hard=True).train()
    coded = hard(x)  # which sees bits, and still learns
    assert torch.equal(coded.code, hard.eval()(x).code)
    losses.SparseCodeLoss()(coded, torch.zeros_like(x)).backward()
    assert all(p.grad.abs().max() > 0 for p in hard.parameters() if p.dim() > 1)


# ----------------------------------------------------------------------------------- the codecs' parts


def test_the_basis_and_back_are_inverse_errors_count_alike_in_rgb_and_groups_go_from_coarse_y_to_fine_colour():
    there, back, groups = dct_basis()
    assert there.shape == back.shape == (384, 3, BLOCK, BLOCK)
    assert torch.allclose(there.flatten(1) @ back.flatten(1).T, torch.eye(384), atol=1e-5)
    energy = back.flatten(1).square().sum(1)  # of an error of one in a code
    assert energy[0].item() == pytest.approx(3, rel=1e-4)  # of Y, one gray level² each in R, G and B
    assert energy.min() > 2.4 and energy.max() < 3.3
    gray = there.sum(1).flatten(1).norm(dim=1) > 0.5  # colour has no gray in it
    assert groups[:4] == [1, 2, 2, 4] and sum(groups) == 384 and gray.sum() == 256
    assert all(kind.all() or not kind.any() for kind in gray.split(groups))
    assert checkerboard(torch.zeros(1, 3, 2, 3)).tolist() == [[True, False, True], [False, True, False]]


def test_steps_fall_by_a_factor_of_two_each_two_rates(codec):
    steps = codec.steps(torch.tensor([0.0, 1.0, 2.0, 2.5, 6.0]))[:, 0, 0, 0].detach()
    assert steps.tolist() == pytest.approx([160, 160 / 2**0.5, 80, 80 / 2**0.25, 20], rel=0.01)
    assert (codec.exact_steps(2.5) * 64).frac().abs().max() == 0
    assert codec.exact_steps(2.5)[0].item() == pytest.approx(steps[3].item(), abs=0.02)


@given(st.floats(-8, 8), st.floats(0.05, 30))
def test_the_probabilities_of_all_levels_add_up_to_one(mean, scale):
    levels = torch.arange(-600.0, 601.0, dtype=torch.float64)
    bits = laplace_bits(levels, torch.tensor(mean), torch.tensor(scale))
    assert (2 ** -bits[bits < 23]).sum().item() == pytest.approx(1, abs=1e-4)
    assert abs(levels[bits.argmin()] - mean) <= 0.501
    given = [torch.tensor([0.2, 3.0, 40.0]) + mean, torch.full((3,), mean), torch.full((3,), scale)]
    laplace_bits(*(t.requires_grad_() for t in given)).sum().backward()
    assert all(t.grad.isfinite().all() and (t.grad != 0).any() for t in given)


# ------------------------------------------------------------------------------------------ as a whole


def test_a_codec_returns_pictures_bits_and_trade_offs_with_noise_in_training_alone(codec):
    x = torch.stack([photograph(40, 56, seed=s) for s in range(2)])
    coded = codec.train()(x)
    assert coded.picture.shape == x.shape and (coded.bits_per_pixel > 0).all()
    assert coded.bits_per_pixel.shape == coded.trade_off.shape == (2,)
    assert coded.trade_off[0] != coded.trade_off[1]  # each at a rate of its own
    first, second = codec.eval()(x), codec(x)
    assert torch.equal(first.picture, second.picture)
    assert torch.equal(first.bits_per_pixel, second.bits_per_pixel)
    assert not torch.equal(codec.train()(x).bits_per_pixel, first.bits_per_pixel)
    flat, rich = torch.full((1, 3, 64, 64), 0.4), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert codec.eval()(rich).bits_per_pixel > 20 * codec(flat).bits_per_pixel


def test_a_thermometer_s_bits_are_the_rounded_level_and_noise_flips_those_next_to_their_threshold_alone():
    torch.manual_seed(0)
    model = models.build("transform", hidden=4, binary=True).eval()
    levels = 3 * torch.randn(1, 384, 4, 4)
    rounded, bits = model.through_bits(levels)
    assert torch.equal(rounded, (levels - 0.5).ceil())
    zeros, ones = torch.zeros_like(levels), torch.ones_like(levels)
    assert torch.allclose(bits(zeros, ones), laplace_bits(rounded, zeros, ones))
    near, far = (torch.full((1, 384, 8, 8), level + 1e-3) for level in (0.5, 2.0))
    flipped = [(model.train().through_bits(level)[0] != level.round()).float().mean() for level in (near, far)]
    assert 0.4 < flipped[0] < 0.6 and flipped[1] < 0.06


def test_large_pictures_are_decoded_in_tiles_to_the_same_pixels(codec, monkeypatch):
    torch.nn.init.normal_(codec.restorer.tail.weight, std=0.01)
    levels = torch.zeros(384, 10, 14, dtype=torch.int16)
    levels[:12] = torch.randint(-2, 3, (12, 10, 14))
    whole = codec.eval().picture(levels, 3.0)
    monkeypatch.setattr("helpers.models.binary_autoencoder.TILE", 4)
    tiled = codec.picture(levels, 3.0)
    assert (whole.int() - tiled.int()).abs().max() <= 1  # sums in another order round another way
    assert (whole != tiled).float().mean() < 1e-3


# ------------------------------------------------------------------------------------------- training


def test_losses_of_codecs_by_hand():
    target = torch.zeros(2, 3, 4, 4)
    coded = Coded(torch.full((2, 3, 4, 4), 1 / 255), torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0]))
    expected = (math.log(1 + 0.5) + math.log(2 + 3)) / 2
    assert losses.RateDistortionLoss()(coded, target).item() == pytest.approx(expected, rel=1e-4)
    target, code = torch.zeros(1, 3, 2, 2), torch.zeros(1, 128, 2, 2)
    code[:, :64] = 1
    assert losses.SparseCodeLoss()(NoisyCode(target + 0.1, code), target).item() == pytest.approx(0.01 + 0.005)


@pytest.mark.parametrize("name", ["npeg", "integer-ae"])
def test_a_few_steps_of_training_help_and_are_logged(name, tmp_path):
    recipe = recipes.find(name)
    torch.manual_seed(0)
    model = models.build(**recipe.network | ({"hidden": 4} if name != "npeg" else {"noise": 0.5}))

    def batch(step, rank):
        return (torch.stack([photograph(32, 32, seed=4 * step + s) for s in range(4)]),) * 2

    how = {"validation": [(photograph(48, 48),) * 2], "out": tmp_path, "device": "cpu", "progress": False}
    log = training.train(model, batch, losses.LOSSES[recipe.loss](), Plan(10, 2e-3, every=5, averaging=0), **how)
    assert log[1]["loss"] < log[0]["loss"] and {"psnr", "ssim"} <= set(log[0])
    assert ("bpp" in log[0]) == ("cost" in log[0]) == (name != "npeg")
    best = min(log, key=lambda row: row.get("cost", -row["psnr"]))
    kept, same = ((tmp_path / f"{part}.safetensors").read_bytes() for part in ("best", f"step-{best['step']:07d}"))
    assert kept == same


def test_the_codec_begins_with_the_restorer_s_weights(tmp_path):
    given = {f"head.{key}": torch.full_like(value, 0.25) for key, value in models.DRUNet().head.state_dict().items()}
    sets = (str(pictures(tmp_path / "set", height=64, width=64)),)
    network, plan = {"kind": "transform", "hidden": 4}, Plan(1, 1e-9, every=1)
    made = recipes.Recipe("tiny", "codec", network, plan, "rate-distortion", sets=sets, patch=32, batch=2)
    model = recipes.run(made, tmp_path / "run", progress=False, device="cpu", start=(given, {}))[0]
    assert torch.allclose(model.restorer.head.weight, torch.tensor(0.25), atol=1e-6)


def test_uniform_noise_costs_more_near_whole_numbers_and_less_between_them():
    """Notebook 4, 4.7: the price in training beside that of the file, of numbers with a scale of a tenth of a step."""
    torch.manual_seed(0)
    ratios = []
    for mean in (0.0, 0.5):
        numbers = mean + torch.distributions.Laplace(0.0, 0.1).sample((20_000,))
        noisy = numbers + torch.rand_like(numbers) - 0.5
        price = [laplace_bits(x, torch.tensor(mean), torch.tensor(0.1)).sum() for x in (noisy, numbers.round())]
        ratios.append(price[0] / price[1])
    assert ratios[0] > 4 and ratios[1] < 0.5
