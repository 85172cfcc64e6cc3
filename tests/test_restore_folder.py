"""restore of a folder: names and structure stay, bad files cost nothing, and what a file says of itself stays."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from helpers import datasets, images, zoo
from helpers.__main__ import main

TAKEN = {271: "a camera", 306: "2026:11:28 10:00:00", 274: 6, 0x8769: {33_434: 0.01, 0xA002: 24}, 0x8825: {1: "N"}}


def restore(*arguments) -> int:
    return main(["restore", *map(str, arguments), "--task", "sr-x2", "--model", "fsrcnn-x2", "--quiet"])


@pytest.fixture
def folder(tmp_path):
    exif = Image.Exif()
    exif.update(TAKEN)
    pixels = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
    (tmp_path / "in/sub").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "in/a.jpg", exif=exif.tobytes(), dpi=(300, 300))
    Image.fromarray(pixels[..., 0].astype(np.uint16)).save(tmp_path / "in/sub/a.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "in/sub/b.png")
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    (tmp_path / "in/notes.txt").write_text("no picture either", encoding="utf-8")
    return tmp_path / "in"


def test_a_folder_keeps_its_structure_and_goes_on_after_a_bad_file(folder, tmp_path, capsys):
    assert restore(folder, tmp_path / "out") == 2
    said = capsys.readouterr()
    lost = "1 with something left out (transparency, 16 bits, more pictures)"
    assert said.out == f"{tmp_path / 'out'}: 3 restored, 1 failed, {lost}, 1 passed over, such as notes.txt\n"
    assert said.err.count("\n") == 1 and "bad.png: not a picture" in said.err
    made = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert made == {"a.jpg", "sub/a.png", "sub/b.png"}
    assert Image.open(tmp_path / "out/sub/a.png").size == (48, 32)


def test_resume_leaves_out_what_is_there(folder, tmp_path, capsys):
    (folder / "bad.png").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.jpg").write_bytes(b"done before")
    assert restore(folder, tmp_path / "out", "--resume") == 0
    assert ": 2 restored, 1 there before" in capsys.readouterr().out
    assert (tmp_path / "out/a.jpg").read_bytes() == b"done before"
    assert restore(folder, tmp_path / "out") == 0
    assert Image.open(tmp_path / "out/a.jpg").size == (32, 48)


@pytest.mark.parametrize("out", ["in", "in/sub/out", "in/a.jpg"])
def test_a_folder_that_would_be_read_again_is_refused(folder, tmp_path, capsys, out):
    before = sorted(tmp_path.rglob("*"))
    assert restore(folder, tmp_path / out) == 2
    assert "name a folder elsewhere" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_who_took_it_when_and_where_stays_and_what_is_of_the_old_pixels_goes(folder, tmp_path, suffix):
    assert restore(folder / "a.jpg", tmp_path / f"out{suffix}") == 0
    made = Image.open(tmp_path / f"out{suffix}")
    found = made.getexif()
    assert made.size == (32, 48)  # it was upright once restored
    assert {tag: found.get(tag) for tag in (271, 306, 274)} == {271: "a camera", 306: TAKEN[306], 274: None}
    assert dict(found.get_ifd(0x8769)) == {33_434: 0.01} and dict(found.get_ifd(0x8825)) == {1: "N"}
    if suffix != ".webp":  # which knows no resolution
        assert np.allclose(np.array(made.info["dpi"], float), 300, atol=0.1)
    assert restore(folder / "a.jpg", tmp_path / f"bare{suffix}", "--strip") == 0
    bare = Image.open(tmp_path / f"bare{suffix}").getexif()
    assert not {271, 306, 274, 0x8769, 0x8825} & set(bare)


def test_what_is_left_out_is_said(folder, tmp_path, capsys):
    clear = Image.open(folder / "sub/b.png")
    clear.putalpha(100)
    clear.save(tmp_path / "clear.png")
    for out, more in (("b.jpg", ()), ("b.tif", ("--bits", "16"))):
        assert restore(tmp_path / "clear.png", tmp_path / out, *more) == 0
        assert capsys.readouterr().out.endswith("by fsrcnn-x2; left out: transparency, laid on white\n")
    frames = [Image.new("L", (9, 9), shade) for shade in (0, 99, 200)]
    frames[0].save(tmp_path / "three.tif", save_all=True, append_images=frames[1:])
    assert restore(tmp_path / "three.tif", tmp_path / "one.png") == 0
    assert capsys.readouterr().out.endswith("; left out: 2 more pictures\n")
    Image.fromarray(np.full((9, 9), 30_000, np.uint16)).save(tmp_path / "deep.png")
    assert restore(tmp_path / "deep.png", tmp_path / "deep2.png") == 0
    assert capsys.readouterr().out.endswith("; left out: 16 bits, which --bits 16 keeps\n")
    tifffile.imwrite(tmp_path / "colours.tif", np.zeros((9, 9, 3), np.uint16), photometric="rgb")
    assert restore(tmp_path / "colours.tif", tmp_path / "c.png") == 0
    assert capsys.readouterr().out.endswith("; left out: colours beyond 8 bits\n")
    assert restore(folder / "a.jpg", tmp_path / "a.tif", "--bits", "16") == 0
    assert capsys.readouterr().out.endswith("; left out: EXIF data\n")


# ------------------------------------------------------------------------------ 16 bits, transparency


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("deep", [True, False])
def test_16_bits_of_gray_are_those_of_the_network(tmp_path, suffix, deep):
    """A ramp of less than a gray level of 8 bits stays a ramp; 8 bits in give 16 bits out, too."""
    ramp = 30_000 + np.arange(100, dtype=np.uint16).repeat(2).reshape(10, 20)
    Image.fromarray(ramp if deep else (ramp // 100).astype(np.uint8)).save(tmp_path / "in.png", dpi=(300, 300))
    assert restore(tmp_path / "in.png", tmp_path / f"out{suffix}", "--bits", 16) == 0
    made = Image.open(tmp_path / f"out{suffix}")
    assert made.mode in images.DEEP and np.allclose(made.info["dpi"], 300, atol=0.1)
    wanted = zoo.load("fsrcnn-x2").restore(images.load(tmp_path / "in.png"))[0].numpy() * 65_535
    assert np.abs(np.array(made) - wanted).max() < 0.51
    if deep:
        assert len(np.unique(made)) > 50


def test_16_bits_of_colour_are_those_of_the_network(folder, tmp_path):
    assert restore(folder / "a.jpg", tmp_path / "out.tif", "--bits", 16) == 0
    wanted = zoo.load("fsrcnn-x2").restore(images.load(folder / "a.jpg")).movedim(0, -1).numpy() * 65_535
    assert np.abs(tifffile.imread(tmp_path / "out.tif") - wanted).max() < 0.51
    assert Image.open(tmp_path / "out.tif").info["dpi"] == (300, 300)
    assert images.load_uint8(tmp_path / "out.tif").shape == (3, 48, 32)


@pytest.mark.parametrize(("given", "out"), [("a.jpg", "out.png"), ("sub/a.png", "out.webp"), ("a.jpg", "out.jpg")])
def test_16_bits_where_there_is_no_place_for_them(folder, tmp_path, capsys, given, out):
    before = sorted(tmp_path.rglob("*"))
    assert restore(folder / given, tmp_path / out, "--bits", 16) == 2
    said = capsys.readouterr()
    assert said.err == f"error: {tmp_path / out}: 16 bits go into a .tif, or a gray .png; name such a file.\n"
    assert sorted(tmp_path.rglob("*")) == before


DISC = np.hypot(*np.mgrid[-12:12, -16:16]) < 9


def on(path, background: int) -> np.ndarray:
    picture = Image.open(path).convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", picture.size, (background,) * 3), picture).convert("RGB"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_enlarged_by_the_network(tmp_path, capsys, suffix, mode):
    """On white it is the picture on white restored; an edge takes no colour from what was never seen."""
    pixels = np.where(DISC[..., None], np.uint8([90, 90, 90, 255]), np.uint8([0, 255, 0, 0]))
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = Image.fromarray(DISC.astype(np.uint8))
        picture.putpalette([0, 255, 0, 90, 90, 90])
        picture.info["transparency"] = 0
    elif mode == "LA":
        picture = picture.convert("LA")
    picture.save(tmp_path / "in.png")
    assert restore(tmp_path / "in.png", tmp_path / f"out{suffix}") == 0
    assert "left out" not in capsys.readouterr().out
    network = zoo.load("fsrcnn-x2")
    alpha = network.restore(images.to_float(torch.tensor(255 * DISC, dtype=torch.uint8)[None]))[0].numpy() * 255
    made = np.array(Image.open(tmp_path / f"out{suffix}").convert("RGBA"))
    assert np.abs(made[..., 3] - alpha).max() < 0.51
    white = network.restore(images.load(tmp_path / "in.png")).movedim(0, -1).numpy() * 255
    assert np.abs(on(tmp_path / f"out{suffix}", 255) - white).mean() < 1  # some edges find no colour that comes near
    assert np.ptp(made[made[..., 3] > 9][:, :3].astype(int), axis=-1).max() < 9  # gray: nothing of the hidden green


def test_a_network_for_jpeg_leaves_transparency_as_it_is(tmp_path):
    alpha = np.random.default_rng(0).integers(0, 256, (16, 24), np.uint8)
    picture = Image.open(datasets.bundled("chelsea")).crop((100, 100, 124, 116))
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "in.png")
    assert main(["restore", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--task", "deblock-q20"]) == 0
    assert (np.array(Image.open(tmp_path / "out.png"))[..., 3] == alpha).all()


def test_a_resolution_that_is_none_is_left_out(folder, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "x.tif", dpi=(1e9, 1e9))
    assert restore(tmp_path / "x.tif", tmp_path / "y.jpg") == 0
