"""Networks that learners build: the notebooks' own solutions pass, and each usual mistake is told by its own hint."""

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


def built(name: str, *changes: tuple[str, str]) -> type:
    """The class of a notebook's solution, with what it needs of the cells above; its text changed."""
    known = {"torch": torch, "nn": nn, "degradations": degradations, "images": images, "models": models, "SCALE": 3}
    known |= {"math": math, "laplace_bits": laplace_bits}
    book = next(b for b in BOOKS if any(f"\ncheck.{name}(" in c.source for c in run.code(b)))
    for cell in run.code(book):
        solution = cell.source.startswith("# @title Solution") and f"\ncheck.{name}(" in cell.source
        if solution:
            source = cell.source.rpartition("\n")[0]  # without its check
            for old, new in changes:
                assert old in source
                source = source.replace(old, new)
            exec(source, known)
            return next(value for key, value in known.items() if key.startswith("Solution"))
        if cell.id in (
            "block-parts",
            "unet-parts",
            "unit-class",
            "chain-function",
            "own-parts",
            "stage-class",
            "given-function",
        ):
            exec("\n".join(part for part in cell.source.split("\n\n\n") if part.startswith(("class", "def"))), known)


WRONG = {
    "fsrcnn": [
        ("(12, 56, 1)", "(12, 56, 3)", "your next layer is body.12, Conv2d(12, 56, kernel_size=(3, 3)"),
        (" for _ in range(4)", " for _ in range(3)", "ours is body.10, Conv2d(12, 12"),
        (
            "nn.PReLU(convolution.out_channels)",
            "nn.PReLU()",
            "your next layer is body.1, PReLU(num_parameters=1); ours is body.1, PReLU(num_parameters=56)",
        ),
        ("layers += [convolution, nn.PReLU(convolution.out_channels)]", "layers += [convolution]", "ours is body.1"),
        (
            '"padding_mode": "replicate"',
            '"padding_mode": "reflect"',
            "Yours has padding_mode='reflect', ours 'replicate'",
        ),
        ("return x[..., 6:-6, 6:-6]", "return x", "It has the shape (1, 1, 108, 108), and ours (1, 1, 96, 96)"),
        ('(2, 2, 2, 2), mode="replicate"', "(2, 2, 2, 2)", "What enters enlarge is not what enters our deconv"),
        ("x = self.enlarge(x)", "x = x", "calls no new layers; ours goes on with deconv"),
    ],
    "edsr": [
        ("range(6)", "range(5)", "your next layer is tail, Conv2d(64, 9"),
        ("range(6)", "range(7)", "ours is tail"),
        ("(ResidualBlock(64) for _ in range(6))", "[ResidualBlock(64)] * 6", "One layer stands in several places"),
        (
            "def forward(self, y):",
            "@torch.no_grad()\n    def forward(self, y):",
            "a gradient reaches 0 of its weights, and 28 of ours",
        ),
        ("first + self.blocks(first)", "self.blocks(first)", "A skip is missing: add what leaves head"),
        ("first + self.blocks(first)", "(first + self.blocks(first)).relu()", "A ReLU is too many before it"),
        (" + degradations.upscale(y, SCALE)", "", "A skip is missing: add the enlarged input"),
        (
            "return x + degradations.upscale(y, SCALE)",
            "return (x + degradations.upscale(y, SCALE)).clamp(0, 1)",
            "clip",
        ),
        ("return x +", "x +", "returns nothing: return the last result"),
        ("x = nn.functional.pixel_shuffle(x, SCALE)", "x = x.view(1, 1, 96, 96)", "does not. It differs by up to "),
        ("x = nn.functional.pixel_shuffle(x, SCALE)", "x = x", "forward raised, after tail, Conv2d(64, 9"),
    ],
    "skyline": [
        (
            '{"padding": "same", "padding_mode": "replicate"}',
            '{"padding": "same"}',
            "makes something else; ours is conv1, Conv2d(1, 64, kernel_size=(9, 9), stride=(1, 1), padding=(4, 4), "
            "padding_mode=replicate). Yours has padding_mode='zeros', ours 'replicate'",
        ),
        ("nn.Conv2d(1, 64, 9, **edge)", "nn.Conv2d(1, 64, 9, padding=2)", "forward raised, after third"),
        ("return y + self.third(x)", "return self.third(x)", "A skip is missing: add what the network is given"),
        ("return y + self.third(x)", "return (y + self.third(x)).clamp(0, 1)", "clipped"),
        ("torch.relu(self.second(x))", "self.second(x)", "A ReLU is missing before it"),
        (
            "nn.Conv2d(64, 32, 1, **edge)",
            "nn.Conv2d(64, 32, 5, **edge)",
            "ours is conv2, Conv2d(64, 32, kernel_size=(1, 1)",
        ),
    ],
    "arcnn": [
        (
            '{"padding": "same", "padding_mode": "replicate"}',
            '{"padding": "same"}',
            "makes something else; ours is layers.0",
        ),
        ("*layers[:-1]", "*layers", "A ReLU is too many before it"),
        (
            "return self.layers(y)",
            "return y + self.layers(y)",
            "A skip is too many: what the network is given is added",
        ),
        ("(64, 32, 7), (32, 16, 1)", "(64, 32, 1), (32, 16, 7)", "ours is layers.2, Conv2d(64, 32, kernel_size=(7, 7)"),
        ("(32, 16, 1), (16, 1, 5)", "(32, 1, 5)", "ours is layers.4, Conv2d(32, 16"),
    ],
    "conv_units": [
        ("nn.Conv2d(32, 16, 1), nn.PReLU()", "nn.Conv2d(32, 16, 1)", "ours is reduce.1, PReLU"),
        ("ConvUnit(128, 64)", "ConvUnit(128, 128), ConvUnit(128, 64)", "ours is units.1.first, Conv2d(128, 64"),
        (
            "5, padding=2",
            "5, padding=0",
            "last, Conv2d(16, 3, kernel_size=(5, 5), stride=(1, 1)) is given what ours is",
        ),
        ("return self", "return y + self", "A skip is too many: what the network is given is added"),
        ("return self.last(self.reduce(self.units(y)))", "return self.reduce(self.units(y))", "ours goes on with last"),
    ],
    "unet": [
        (
            "x = x + self.up",
            "x = self.up",
            "What enters decoder.0.first is not what enters our decoder.0.first. A skip",
        ),
        ("return y + ", "return ", "A skip is missing: add what the network is given"),
        ("x = images.rgb_to_ycbcr(y, studio=False)", "x = y", "What enters head"),
        ("range(5)", "range(4)", "your next layer is up"),
        ("self.decoder(x)", "x", "ours is decoder.0.first"),
        (", offset=False", "", "what your network returns does not"),
        ("half, quarter, 2, stride=2", "half, quarter, 3, stride=2, padding=1", "ours is down, Conv2d(48, 96"),
    ],
    "npeg": [
        ("x - 0.5", "x", "What enters encoder.0 is not what enters our encoder.0"),
        ("logits = logits + 15 * torch.randn_like(logits)", "pass", "In training no noise is added"),
        ("code = (code > 0.5).float()", "pass", "What enters decoder.0 is not what enters our decoder.0"),
        ("return torch.sigmoid(self.decoder(code))", "return self.decoder(code)", "what your network returns does not"),
        ("16, 32, 64, 128)", "16, 32, 128)", "ours is encoder.4, Conv2d(32, 64"),
        ("if self.training:", "if True:", "What enters decoder.0"),
        ("if not self.training:", "if True:", "a gradient reaches 8 of its weights, and 16 of ours"),
        ("15 * torch.randn_like", "15 * torch.rand_like", "has the mean 7"),
        ("15 * torch.randn_like(logits)", "4 * torch.randn_like(logits)", "deviation 4.0, where 0 and 15 are asked"),
        ("torch.randn_like(logits)", "torch.randn_like(logits[:1])", "the same noise"),
        (
            "self.encoder(x - 0.5)",
            "nn.functional.elu(self.encoder(x - 0.5))",
            "something else than noise stands between",
        ),
    ],
    "factorized": [
        ("255 * x - 128", "255 * x", "What enters analysis is not what enters our analysis"),
        (" / self.log_step.exp()", "", "What enters synthesis is not what enters our synthesis"),
        ("return x + self.mend(x)", "return self.mend(x)", "what your network returns does not"),
        ("return x + self.mend(x)", "return x", "calls no new layers; ours goes on with mend.1"),
        ("self.decode(rounded)", "self.decode(levels)", "What enters synthesis"),
        ("levels + (levels.round() - levels).detach()", "levels.round()", "a gradient reaches 4 of its weights, and 5"),
        ("bits.sum() / (x.numel() / 3)", "bits.sum() / x.numel()", "a pixel has three of them"),
        ("bits.sum() / (x.numel() / 3)", "bits.sum()", "divide it by their number"),
        ("(x.numel() / 3)", "x[0, 0].numel()", "A batch has more pixels than one picture"),
        ("self.decode(rounded)", "self.decode(priced)", "the picture must be that of rounded levels, too"),
        (
            "bits = laplace_bits(priced, torch.zeros(()), self.log_scale.exp())",
            "p = torch.distributions.Laplace(0.0, self.log_scale.exp() / 30)\n"
            "        bits = -(p.cdf(priced + 0.5) - p.cdf(priced - 0.5)).log2()",
            "A tiny probability became 0",
        ),
        ("bits.sum() / (x.numel() / 3)", "bits", "The bits per pixel are one number"),
        (", bits.sum() / (x.numel() / 3)", "", "return two things"),
        ("if self.training:", "if False:", "rounded ones have no gradient"),
        ("if self.training:", "if True:", "In evaluation"),
        ("torch.rand_like(levels) - 0.5", "torch.rand_like(levels)", "as wide as rounding"),
        ("torch.rand_like(levels) - 0.5", "torch.randn_like(levels)", "as wide as rounding"),
        ("priced = rounded", "priced = levels", "In evaluation, price the rounded levels"),
        ("self.log_scale.exp())", "self.log_scale.exp().detach())", "has no gradient"),
        ("self.log_scale.exp()", "self.log_scale", "is a logarithm"),
    ],
    "recovery": [
        ("x - 0.5", "x", "What enters stages.0.head is not what enters our stages.0.head"),
        ("z + missed + 0.5", "z + 0.5", "what your network returns does not"),
        ("range(6)", "range(5)", "ours goes on with stages.5.head"),
        ("change, features = stage", "change, _ = stage", "What enters stages.1.body.0.first"),
        ("z = z + change", "z = change", "What enters stages.1.head"),
        ("            z = z + missed\n", "", "What enters stages.0.head"),
        (
            "zonal_rows(32, 256)",
            "zonal_rows(32, 102)",
            "Ours has parameters of its own, outside of layers, of the shapes [(256, 32, 32)]",
        ),
    ],
}


@pytest.mark.parametrize("name", BUILDS)
def test_the_notebooks_own_class_is_ours_and_ours_stands_in_for_one_that_is_not_there(name, capsys):
    BUILDS[name](built(name))
    assert capsys.readouterr().out == f"Build {BUILDS[name].label}: passed.\n"
    assert check.usable(BUILDS[name], built(name)) is not BUILDS[name].course

    class MyStub(nn.Module):
        def forward(self, x): ...

    assert BUILDS[name].verdict(MyStub) == "not attempted yet. Replace the ... in MyStub."
    assert check.usable(BUILDS[name], MyStub) is BUILDS[name].course
    assert BUILDS[name].verdict(BUILDS[name].course) == "passed."


@pytest.mark.parametrize(("name", "old", "new", "hint"), [(name, *row) for name in WRONG for row in WRONG[name]])
def test_a_wrong_build_gets_its_hint(name, old, new, hint):
    said = BUILDS[name].verdict(built(name, (old, new)))
    assert said.startswith("not yet. ") and hint in said


def test_every_build_is_tested_here():
    assert set(WRONG) == set(BUILDS)


def test_layers_in_a_list_are_told():
    class MyEDSR(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.tail = nn.Conv2d(1, 64, 3, padding=1), nn.Conv2d(64, 9, 3, padding=1)
            self.blocks = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(6)]

        def forward(self, y):
            x = self.head(y)
            for block in self.blocks:
                x = block(x)
            return self.tail(x)

    assert "A Python list, blocks, hides its layers from PyTorch" in check.edsr.verdict(MyEDSR)
    assert "give the class itself" in check.edsr.verdict(MyEDSR())


@pytest.mark.parametrize("odd", [lambda: 5, lambda: None, lambda: 1 / 0, 7, None])
def test_what_is_no_network_is_said(odd):
    assert check.edsr.verdict(odd).startswith(("not yet. ", "not attempted yet. "))


def test_a_network_goes_on_with_our_weights(capsys):
    mine, ours = built("edsr")(), zoo.load("edsr-x3")
    assert check.weights(mine, "edsr-x3") is mine
    assert capsys.readouterr().out == "edsr-x3: your network, our weights: 31.7 dB on the cat's eye.\n"
    y = torch.rand(1, 1, 20, 24)
    with torch.inference_mode():
        assert torch.allclose(mine(y), ours(y), atol=1e-5)
    assert check.weights(models.build("edsr"), "edsr-x3") is not ours
    assert capsys.readouterr().out == "edsr-x3: ours stands in: 31.7 dB on the cat's eye.\n"
    other = check.weights(models.build("fsrcnn", scale=3), "edsr-x3")
    assert isinstance(other, models.EDSR)
    assert capsys.readouterr().out.startswith("edsr-x3: not yet. In the order of the calls, your next layer is body.0")


def test_two_layers_in_another_order_are_the_same_network():
    swapped = ("        self.head = nn.Conv2d(1, 64, 3, padding=1)\n", "")
    last = (
        "SCALE**2, 3, padding=1)\n",
        "SCALE**2, 3, padding=1)\n        self.head = nn.Conv2d(1, 64, 3, padding=1)\n",
    )
    assert check.edsr.verdict(built("edsr", swapped, last)) == "passed."


def test_the_same_mistake_is_told_in_stages(capsys):
    for _ in range(3):
        check.npeg(lambda: 5)
    first, second, third = capsys.readouterr().out.splitlines()
    assert second.startswith(first) and third.startswith(second) and len(first) < len(second) < len(third)
    assert "Asked is what the task above says, layer by layer." in second
    assert "by hand" in third and "by hand" not in second
    for _ in range(2):
        check.largest(lambda *_: 5)
    assert "Asked is my_largest(coefficients, count): all but" in capsys.readouterr().out
