"""Networks that learners build: the notebooks' own solutions pass, and each usual mistake is told by its own hint."""

import functools
import math

import pytest
import torch
from torch import nn

from helpers import degradations, images, models, zoo
from helpers.entropy import laplace_bits
from helpers.lesson import exercises as check
from notebooks import run

BUILDS = {name: function for name, function in vars(check).items() if hasattr(function, "network")}
BOOKS = [run.read(path) for path in run.lessons()]
GIVEN = {"block-parts", "unet-parts", "unit-class", "chain-function", "own-parts", "stage-class", "given-function"}


@functools.cache
def solution(name: str) -> tuple[str, list[str]]:
    """The source of a notebook's solution, without its check, and of the classes and functions that it calls."""
    book = next(b for b in BOOKS if any(f"\ncheck.{name}(" in cell.source for cell in run.code(b)))
    cells = {cell.id: cell.source for cell in run.code(book)}
    (own,) = (s for s in cells.values() if s.startswith("# @title Solution") and f"\ncheck.{name}(" in s)
    parts = [part for id, source in cells.items() if id in GIVEN for part in source.split("\n\n\n")]
    return own.rpartition("\n")[0], [part for part in parts if part.startswith(("class", "def"))]


def built(name: str, *changes: tuple[str, str]) -> type:
    """The class of a notebook's solution; its text changed."""
    known = {"torch": torch, "nn": nn, "degradations": degradations, "images": images, "models": models, "SCALE": 3}
    known |= {"math": math, "laplace_bits": laplace_bits, "unsafe_bits": unsafe_bits, "through": through}
    source, given = solution(name)
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    exec("\n".join([*given, source]), known)
    return next(value for key, value in known.items() if key.startswith("Solution"))


def unsafe_bits(level, mean, scale):
    model = torch.distributions.Laplace(mean, scale / 30)
    return -(model.cdf(level + 0.5) - model.cdf(level - 0.5)).log2()


def through(levels):
    """Rounded, with a straight gradient."""
    return levels + (levels.round() - levels).detach()


HEAD, LAST = "        self.head = nn.Conv2d(1, 64, 3, padding=1)\n", "SCALE**2, 3, padding=1)\n"
RIGHT = [
    ("npeg", ("self.decoder(code)", "self.decoder(code.float())")),
    ("npeg", ("15 * torch.randn_like(logits)", "torch.normal(0.0, 15.0, logits.shape)")),
    ("factorized", ("torch.rand_like(levels) - 0.5", "torch.empty_like(levels).uniform_(-0.5, 0.5)")),
    ("factorized", ("torch.rand_like(levels) - 0.5", "torch.rand(levels.shape) - 0.5")),
    ("edsr", (HEAD, ""), (LAST, LAST + HEAD)),  # two layers in another order
]
BICUBIC = 'nn.functional.interpolate(y, scale_factor=SCALE, mode="bicubic")'
PADDED = "nn.Sequential(nn.ReplicationPad2d(4), nn.Conv2d(1, 64, 9))"
TWO_SLOPES = "nn.Conv2d(64, 64, 3, padding=1), nn.PReLU()"
TWO_SLOPES = f"nn.Sequential(nn.Conv2d(128, 64, 3, padding=1), {TWO_SLOPES}, {TWO_SLOPES})"
LEVELS = "through(self.analysis(255 * x - 128) / self.log_step.exp())"
STILL = "priced = self.analysis(255 * x - 128) / self.log_step.exp().detach()"
NINTH = "(levels - levels.detach()) / 9 + (levels.round())"
WRONG = {
    "fsrcnn": [
        ("(12, 56, 1)", "(12, 56, 3)", "your next layer is body.12, Conv2d(12, 56, kernel_size=(3, 3)"),
        (" for _ in range(4)", " for _ in range(3)", "ours is body.10, Conv2d(12, 12"),
        ("(convolution.out_channels)]", "()]", "next layer is body.1, PReLU(num_parameters=1); ours is body.1, PReLU("),
        ("layers += [convolution, nn.PReLU(convolution.out_channels)]", "layers += [convolution]", "ours is body.1"),
        ('_mode": "replicate"', '_mode": "reflect"', "Yours has padding_mode='reflect', ours 'replicate'"),
        ("return x[..., 6:-6, 6:-6]", "return x", "It has the shape (1, 1, 108, 108), and ours (1, 1, 96, 96)"),
        ('(2, 2, 2, 2), mode="replicate"', "(2, 2, 2, 2)", "What enters enlarge is not what enters our deconv"),
        ("x = self.enlarge(x)", "x = x", "calls no new layers; ours goes on with deconv"),
        ("self.body =", "self.mine = nn.Parameter(torch.ones(1))\n        self.body =", "put all weights into layers"),
    ],
    "edsr": [
        ("range(6)", "range(7)", "ours is tail"),
        ("(ResidualBlock(64) for _ in range(6))", "[ResidualBlock(64)] * 6", "One layer stands in several places"),
        ("def forward", "@torch.no_grad()\n    def forward", "a gradient reaches 0 of its weights, and 28 of ours"),
        ("first + self.blocks(first)", "self.blocks(first)", "A skip is missing: add what leaves head"),
        ("first + self.blocks(first)", "(first + self.blocks(first)).relu()", "a ReLU, or a clamp, is too many"),
        ("first + self.blocks(first)", "first.add_(self.blocks(first) - first) + first", "changed what leaves head"),
        ("degradations.upscale(y, SCALE)", BICUBIC, "add degradations.upscale's picture, not nn.functional.interp"),
        (" + degradations.upscale(y, SCALE)", "", "A skip is missing: add the enlarged input"),
        ("x + degradations.upscale(y, SCALE)", "(x + degradations.upscale(y, SCALE)).clamp(0, 1)", "It is clipped"),
        ("return x +", "x +", "returns nothing: return the last result"),
        ("return x +", "return first, x +", "does not"),
        ("return x + degradations.upscale(y, SCALE)", "return x + degradations.upscale(y, SCALE), x", "more than one"),
        ("return x +", "return (x.shape[-1] != 96) + x +", "does what ours does for 32 columns, but not for 21."),
        ("x = nn.functional.pixel_shuffle(x, SCALE)", "x = x.view(1, 1, 96, 96)", "their order is not"),
        ("x = nn.functional.pixel_shuffle(x, SCALE)", "x = x", "forward raised, after tail, Conv2d(64, 9"),
    ],
    "skyline": [
        (', "padding_mode": "replicate"', "", "=replicate). Yours has padding_mode='zeros', ours 'replicate'"),
        ("nn.Conv2d(1, 64, 9, **edge)", "nn.Conv2d(1, 64, 9, padding=2)", "forward raised, after third"),
        ("return y + self.third(x)", "return self.third(x)", "A skip is missing: add what the network is given"),
        ("return y +", "return 1.5 * y +", "what your network returns does not. It differs by up to"),
        ("torch.relu(self.second(x))", "self.second(x)", "A ReLU is missing before it"),
        ("self.third(x)", "self.third(x).relu()", "A ReLU is applied to what leaves third; ours has none there"),
        ("self.first(y)", "nn.functional.conv2d(y, self.first.weight, padding=4)", "It does not call first. Call"),
        ("nn.Conv2d(1, 64, 9, **edge)", PADDED, "ours (1, 1, 96, 96). Let the layer itself pad."),
    ],
    "arcnn": [
        (', "padding_mode": "replicate"', "", "makes something else; ours is layers.0"),
        ("*layers[:-1]", "*layers", "a ReLU, or a clamp, is too many"),
        ("return self", "return y + self", "A skip is too many: what the network is given is added"),
    ],
    "conv_units": [
        ("nn.Conv2d(32, 16, 1), nn.PReLU()", "nn.Conv2d(32, 16, 1)", "ours is reduce.1, PReLU"),
        ("ConvUnit(128, 64)", TWO_SLOPES, "ours is units.2.first, Conv2d(64, 32"),
        ("ConvUnit(128, 64)", TWO_SLOPES, "Ours calls one PReLU several times."),
        ("ConvUnit(128, 64)", "ConvUnit(128, 128), ConvUnit(128, 64)", "ours is units.1.first, Conv2d(128, 64"),
        ("5, padding=2", "5, padding=0", "Conv2d(16, 3, kernel_size=(5, 5), stride=(1, 1)) is given what ours is"),
        ("self.last(self.reduce(self.units(y)))", "self.reduce(self.units(y))", "ours goes on with last"),
    ],
    "unet": [
        ("x = x + self.up", "x = self.up", "What enters decoder.0.first is not what enters our decoder.0.first. A"),
        ("x = images.rgb_to_ycbcr(y, studio=False)", "x = y", "What enters head"),
        ("self.decoder(x)", "x", "ours is decoder.0.first"),
        (", offset=False", "", "what your network returns does not"),
    ],
    "npeg": [
        ("x - 0.5", "x", "What enters encoder.0 is not what enters our encoder.0"),
        ("logits = logits + 15 * torch.randn_like(logits)", "pass", "In training no noise is added"),
        ("code = (code > 0.5).float()", "pass", "What enters decoder.0 is not what enters our decoder.0"),
        ("return torch.sigmoid(self.decoder(code))", "return self.decoder(code)", "what your network returns does not"),
        ("if self.training:", "if True:", "it makes something else each time: noise is for training alone"),
        ("code > 0.5", "logits > 0.5", "It is 1 where what leaves encoder.6 is above 0.5: the sigmoid comes first"),
        ("(self.decoder(code))", "(self.decoder(code)), code", "more than one thing: return the picture alone"),
        ("decoder(code)", "decoder(code + self.training * torch.randn_like(code))", "comes after the noise"),
        ("decoder(code)", "decoder(code + ((code > 0.5).float() - code).detach())", "the code is not cut to bits"),
        ("if not self.training:", "if True:", "a gradient reaches 8 of its weights, and 16 of ours"),
        ("15 * torch.randn_like", "15 * torch.rand_like", "has the mean 7"),
        ("15 * torch.randn_like(logits)", "4 * torch.randn_like(logits)", "deviation 4.0, where 0 and 15 are asked"),
        ("15 * torch.randn_like(logits)", "14 * torch.randn_like(logits)", "where 0 and 15 are asked"),
        ("torch.randn_like(logits)", "torch.randn_like(logits[:1])", "the same noise"),
        ("torch.randn_like(logits)", "torch.randn_like(logits[..., :1, :1])", "all places of a channel"),
        ("self.encoder(x - 0.5)", "nn.functional.elu(self.encoder(x - 0.5))", "something else than noise stands"),
    ],
    "factorized": [
        ("255 * x - 128", "255 * x", "What enters analysis is not what enters our analysis"),
        (" / self.log_step.exp()", "", "What enters synthesis is not what enters our synthesis"),
        (" / self.log_step.exp()", " / self.log_step", "it is about 16 times as large as ours, so a factor is amiss"),
        ("self.log_step.exp()", "self.log_step", "Its own parameters are logarithms: .exp() them"),
        ("self.analysis(255 * x - 128) / self.log_step.exp()", LEVELS, "levels that are not rounded yet"),
        ("return x + self.mend(x)", "return self.mend(x)", "A skip is missing: add what enters mend.1"),
        ("return x + self.mend(x)", "return x", "calls no new layers; ours goes on with mend.1"),
        ("self.decode(rounded)", "self.decode(levels)", "What enters synthesis"),
        ("levels + (levels.round() - levels).detach()", "levels.round()", "a gradient reaches 4 of its weights, and 5"),
        ("bits.sum() / (x.numel() / 3)", "bits.sum() / x.numel()", "a pixel has three of them"),
        ("bits.sum() / (x.numel() / 3)", "bits.sum()", "divide it by their number"),
        ("(x.numel() / 3)", "x[0, 0].numel()", "A batch has more pixels than one picture"),
        ("self.decode(rounded)", "self.decode(priced)", "the picture must be that of rounded levels, too"),
        ("laplace_bits(", "unsafe_bits(", "A tiny probability became 0"),
        ("bits.sum() / (x.numel() / 3)", "bits", "The bits per pixel are one number"),
        (", bits.sum() / (x.numel() / 3)", "", "return two things"),
        ("if self.training:", "if False:", "price unrounded levels with noise"),
        ("if self.training:", "if True:", "In evaluation no noise is added"),
        ("bits.sum() / (x.numel() / 3)", "bits.mean()", "the mean price of a level"),
        ("priced = levels + torch", "priced = rounded + torch", "the noise is added to *unrounded* levels"),
        ("levels = self.encode(x)", "levels = through(self.encode(x))", "the noise is added to *unrounded* levels"),
        ("torch.rand_like(levels) - 0.5", "torch.rand_like(levels[:1]) - 0.5", "from place to place"),
        ("torch.rand_like(levels) - 0.5", "torch.rand_like(levels)", "as wide as rounding"),
        ("torch.rand_like(levels) - 0.5", "torch.randn_like(levels)", "as wide as rounding"),
        ("torch.rand_like(levels) - 0.5", "torch.rand_like(levels[..., :1, :1]) - 0.5", "from place to place"),
        ("torch.rand_like(levels) - 0.5", "torch.randn_like(levels) / 12**0.5", "uniform from −½ to ½"),
        ("priced = rounded", "priced = levels", "In evaluation, price the rounded levels"),
        ("self.log_scale.exp())", "self.log_scale.exp().detach())", "has no gradient"),
        ("priced = levels", STILL, "no gradient for the kernels, the steps"),
        ("levels + (levels.round() - levels)", NINTH, "passes the rounding unchanged"),
        ("self.log_scale.exp()", "self.log_scale", "is a logarithm"),
    ],
    "recovery": [
        ("x - 0.5", "x", "What enters stages.0.head is not what enters our stages.0.head"),
        ("z + missed_in(z) + 0.5", "z + 0.5", "what your network returns does not"),
        ("range(6)", "range(5)", "ours goes on with stages.5.head"),
        ("change, features = stage", "change, _ = stage", "What enters stages.1.body.0.first"),
        ("z = z + change", "z = change", "What enters stages.1.head"),
        ("            z = z + missed\n", "", "What enters stages.0.head"),
        ("zonal_rows(32, 256)", "zonal_rows(32, 102)", "of its own, outside of layers, of the shapes [(256, 32, 32)]"),
    ],
}


@pytest.mark.parametrize("name", BUILDS)
def test_cells_below_go_on_with_the_learners_class_or_ours(name):
    """Of the notebooks' own classes and stubs, nbval compares what is said."""
    examined, mine = BUILDS[name], built(name)

    class MyStub(nn.Module):
        def forward(self, x): ...

    assert check.usable(examined, mine) is mine
    assert check.usable(examined, MyStub) is examined.course
    assert examined.verdict(examined.course) == "passed."


@pytest.mark.parametrize(("name", "old", "new", "hint"), [(name, *row) for name in WRONG for row in WRONG[name]])
def test_a_wrong_build_gets_its_hint(name, old, new, hint):
    said = BUILDS[name].verdict(built(name, (old, new)))
    assert said.startswith("not yet. ") and hint in said


@pytest.mark.parametrize(("name", "changes"), [(name, changes) for name, *changes in RIGHT])
def test_another_right_build_passes(name, changes):
    assert BUILDS[name].verdict(built(name, *changes)) == "passed."


def test_one_prelu_for_all_is_told_only_where_ours_has_one():
    assert "several times" not in check.fsrcnn.verdict(built("fsrcnn", ("(convolution.out_channels)]", "()]")))


def test_every_build_is_tested_here():
    assert set(WRONG) == set(BUILDS)


def test_layers_in_a_list_and_what_is_no_class_are_told():
    in_list = ("nn.Sequential(*(ResidualBlock(64) for _ in range(6)))", "[ResidualBlock(64)]")
    said = check.edsr.verdict(built("edsr", in_list, ("self.blocks(first)", "self.blocks[0](first)")))
    assert "A Python list, blocks, hides its layers from PyTorch" in said
    assert "give the class itself" in check.edsr.verdict(models.build("edsr"))
    for odd in (lambda: 5, lambda: 1 / 0, 7, None):
        assert check.edsr.verdict(odd).startswith("not yet. ")
    assert check.edsr.verdict(lambda: None).startswith("not attempted yet. ")


def test_a_network_goes_on_with_our_weights(capsys):
    mine, ours = built("edsr")(), zoo.load("edsr-x3")
    assert check.weights(mine, "edsr-x3") is mine
    assert capsys.readouterr().out == "edsr-x3: your network, our weights: 31.8 dB on the cat's eye.\n"
    y = torch.rand(1, 1, 20, 24)
    with torch.inference_mode():
        assert torch.allclose(mine(y), ours(y), atol=1e-5)
    assert check.weights(models.build("edsr"), "edsr-x3") is not ours
    assert capsys.readouterr().out == "edsr-x3: ours stands in: 31.8 dB on the cat's eye.\n"
    other = check.weights(models.build("fsrcnn", scale=3), "edsr-x3")
    assert isinstance(other, models.EDSR)
    assert capsys.readouterr().out.startswith("edsr-x3: not yet. In the order of the calls, your next layer is body.0")


def test_the_same_mistake_is_told_in_stages(capsys):
    for _ in range(3):
        check.npeg(lambda: 5)
    first, second, third = capsys.readouterr().out.splitlines()
    assert second.startswith(first) and third.startswith(second) and len(first) < len(second) < len(third)
    assert "Asked is what the task above says, layer by layer." in second
    assert "print the shapes" in third and "print the shapes" not in second
    for _ in range(2):
        check.largest(lambda *_: 5)
    assert "Asked is my_largest(coefficients, count): all but" in capsys.readouterr().out
