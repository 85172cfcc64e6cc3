"""restore of a folder: names and structure stay, bad files cost nothing, and what a file says of itself stays."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from helpers import __main__ as command_line
from helpers import datasets, images, zoo
from helpers.__main__ import main

TAKEN = {271: "a camera", 306: "2026:11:28 10:00:00", 274: 6, 0x8769: {33_434: 0.01, 0xA002: 24}, 0x8825: {1: "N"}}
PROFILE = bytes(16) + b"RGB " + bytes(100)  # as much of one as counts
PIXELS = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)


def restore(*arguments) -> int:
    return main(["restore", *map(str, arguments), "--task", "sr-x2", "--model", "fsrcnn-x2", "--quiet"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder "in" to work beside: an upright photograph, 16 bits, transparency, and what is no picture."""
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif.update(TAKEN)
    (tmp_path / "in/sub").mkdir(parents=True)
    Image.fromarray(PIXELS).save("in/a.jpg", exif=exif.tobytes(), dpi=(300, 300), icc_profile=PROFILE)
    Image.fromarray(PIXELS[..., 0].astype(np.uint16)).save("in/sub/a.png")
    clear = Image.fromarray(PIXELS)
    clear.putalpha(100)
    clear.save("in/sub/b.png")
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    (tmp_path / "in/notes.txt").write_text("no picture either", encoding="utf-8")
    return tmp_path


def test_a_folder_keeps_its_structure_and_goes_on_after_a_bad_file(folder, capsys):
    assert restore("in", "out") == 2
    said = capsys.readouterr()
    lost = "1 without 16 bits, which --bits 16 keeps, such as a.png"
    assert said.out == f"out: 3 restored, 1 failed, {lost}, 1 passed over (.txt)\n"
    assert said.err.count("\n") == 1 and "bad.png: not a picture" in said.err
    made = {path.relative_to("out").as_posix() for path in Path("out").rglob("*.*")}
    assert made == {"a.jpg", "sub/a.png", "sub/b.png"}
    assert Image.open("out/sub/a.png").size == (48, 32)


def test_what_is_there_is_left_by_resume_and_replaced_by_overwrite_alone(folder, capsys):
    (folder / "in/bad.png").unlink()
    (folder / "out").mkdir()
    (folder / "out/a.jpg").write_bytes(b"done before")
    assert restore("in", "out", "--resume") == 0
    assert ": 2 restored, 1 there before" in capsys.readouterr().out
    assert restore("in/a.jpg", "out/a.jpg", "--resume") == 0
    assert capsys.readouterr().out == "out/a.jpg: there before\n"
    assert (folder / "out/a.jpg").read_bytes() == b"done before"
    for line, how in (
        ("in out", "by --resume, or give --overwrite"),
        ("in/a.jpg out/a.jpg", "replace it by --overwrite"),
    ):
        assert restore(*line.split()) == 2
        assert how in capsys.readouterr().err and (folder / "out/a.jpg").read_bytes() == b"done before"
    (folder / "link.jpg").symlink_to("nowhere")
    assert restore("in/a.jpg", "link.jpg") == 2 and (folder / "link.jpg").is_symlink()
    assert restore("in", "out", "--overwrite") == 0
    assert Image.open("out/a.jpg").size == (32, 48)


def test_what_a_second_process_makes_meanwhile_is_there_before(folder, capsys, monkeypatch):
    (folder / "in/bad.png").unlink()

    def slow(*given):
        made = restore_one(*given)
        (folder / "out/sub").mkdir()
        for name in ("a.png", "b.png"):
            (folder / "out/sub" / name).write_bytes(b"by the other")
        return made

    restore_one = command_line._restore_one
    monkeypatch.setattr(command_line, "_restore_one", slow)
    assert restore("in", "out", "--resume") == 0
    assert capsys.readouterr().out == "out: 1 restored, 2 there before, 1 passed over (.txt)\n"


def test_no_picture_of_the_folder_is_replaced_by_that_of_another(folder, capsys):
    """In a folder in a folder of its own name, as archives make them: OUT/in/x would be a picture of IN."""
    (folder / "in/in").mkdir()
    (folder / "in/in/a.jpg").write_bytes((folder / "in/a.jpg").read_bytes())
    before = (folder / "in/a.jpg").read_bytes()
    for how in ([], ["--overwrite"], ["--resume"]):
        assert restore("in", ".", *how) == 2
        assert "in/a.jpg: that is in in; name a folder elsewhere" in capsys.readouterr().err.replace("\\", "/")
    assert (folder / "in/a.jpg").read_bytes() == before and not (folder / "a.jpg").exists()


def test_a_linked_folder_is_passed_over_and_said(folder, capsys):
    (folder / "in/bad.png").unlink()
    (folder / "in/linked").symlink_to(folder / "in/sub")
    assert restore("in", "out") == 0
    assert capsys.readouterr().out.endswith("2 passed over (.txt, linked)\n")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("in in", "name a folder elsewhere"),
        ("in/a.jpg in/a.jpg --resume", "that is the input itself"),
        ("in in/sub/out", "name a folder elsewhere"),
        ("in/sub in/a.jpg", "name a folder elsewhere"),
        ("in/a.jpg out.png --bits 16", "out.png: 16 bits go into a .tif, or a gray .png; name such a file"),
        ("in/sub/a.png out.webp --bits 16", "out.webp: 16 bits go into a .tif, or a gray .png; name such a file"),
    ],
)
def test_what_has_no_place_is_refused(folder, capsys, line, hint):
    before = sorted(folder.rglob("*"))
    assert restore(*line.split()) == 2
    assert hint in capsys.readouterr().err and sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_who_took_it_when_and_where_stays_and_what_is_of_the_old_pixels_goes(folder, suffix):
    assert restore("in/a.jpg", f"out{suffix}") == 0
    made = Image.open(f"out{suffix}")
    found = made.getexif()
    assert made.size == (32, 48) and made.info["icc_profile"] == PROFILE  # it was upright once restored
    assert {tag: found.get(tag) for tag in (271, 306, 274)} == {271: "a camera", 306: TAKEN[306], 274: None}
    assert dict(found.get_ifd(0x8769)) == {33_434: 0.01} and dict(found.get_ifd(0x8825)) == {1: "N"}
    if suffix != ".webp":  # which knows no resolution
        assert np.allclose(np.array(made.info["dpi"], float), 300, atol=0.1)
    assert restore("in/a.jpg", f"bare{suffix}", "--strip") == 0
    assert not {271, 306, 274, 0x8769, 0x8825} & set(Image.open(f"bare{suffix}").getexif())


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("in/sub/b.png b.jpg", "transparency, laid on white"),
        ("in/sub/b.png b.tif --bits 16", "transparency, laid on white"),
        ("in/a.jpg a.tif --bits 16", "EXIF data"),
        ("three.tif one.png", "2 more pictures"),
        ("deep.png deep2.png", "16 bits, which --bits 16 keeps"),
        ("colours.tif c.png", "colours beyond 8 bits"),
        ("text.png c.png", "text or comments"),
        ("comment.jpg c.jpg", "text or comments, XMP data"),
        ("cmyk.jpg c.jpg", "CMYK colours, now RGB"),
        ("in/a.jpg c.bmp", "EXIF data, colour profile"),
        ("in/a.jpg c.webp", "resolution"),
    ],
)
def test_what_is_left_out_is_said(folder, capsys, line, lost):
    frames = [Image.new("L", (9, 9), shade) for shade in (0, 99, 200)]
    frames[0].save("three.tif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((9, 9), 30_000, np.uint16)).save("deep.png")
    tifffile.imwrite("colours.tif", np.zeros((9, 9, 3), np.uint16), photometric="rgb")
    title = PngInfo()
    title.add_text("Title", "a title")
    frames[0].save("text.png", pnginfo=title)
    frames[0].save("comment.jpg", comment=b"a comment", xmp=b"<x/>")
    frames[0].convert("CMYK").save("cmyk.jpg")
    assert restore(*line.split()) == 0
    assert capsys.readouterr().out.endswith(f"by fsrcnn-x2; left out: {lost}\n")


def test_of_a_folder_each_kind_of_file_has_the_options_that_it_knows(folder, capsys):
    (folder / "in/bad.png").unlink()
    assert restore("in", "out", "--quality", 30) == 0
    assert restore("in/a.jpg", "best.jpg") == 0
    assert Path("out/a.jpg").stat().st_size < Path("best.jpg").stat().st_size
    assert Image.open("out/sub/b.png").size == (48, 32)


# ------------------------------------------------------------------------------ 16 bits, transparency


@pytest.mark.parametrize(("given", "out"), [("ramp.png", "out.png"), ("ramp.png", "out.tif"), ("in/a.jpg", "out.tif")])
def test_16_bits_are_those_of_the_network(folder, given, out):
    """A ramp of less than a gray level of 8 bits stays a ramp; 8 bits in give 16 bits out, too."""
    ramp = 30_000 + np.arange(100, dtype=np.uint16).repeat(2).reshape(10, 20)
    Image.fromarray(ramp).save("ramp.png", dpi=(300, 300))
    assert restore(given, out, "--bits", 16) == 0
    made = tifffile.imread(out) if out == "out.tif" else np.array(Image.open(out))
    wanted = zoo.load("fsrcnn-x2").restore(images.load(given)).movedim(0, -1).squeeze().numpy() * 65_535
    assert np.abs(made - wanted).max() < 0.51 and len(np.unique(made)) > 50
    assert np.allclose(Image.open(out).info["dpi"], 300, atol=0.1)
    assert images.load_uint8(out).shape[1:] == made.shape[:2]


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", ".png"), ("LA", ".tif"), ("RGBA", ".webp")])
def test_transparency_is_enlarged_by_the_network(folder, capsys, mode, suffix):
    """On white it is the picture on white restored; an edge takes no colour from what was never seen."""
    disc = np.hypot(*np.mgrid[-12:12, -16:16]) < 9  # gray, on a green that is clear
    pixels = np.where(disc[..., None], np.uint8([90, 90, 90, 255]), np.uint8([0, 255, 0, 0]))
    Image.fromarray(pixels).convert(mode).save("in.png")
    assert restore("in.png", f"out{suffix}") == 0
    assert "left out" not in capsys.readouterr().out
    network, made = zoo.load("fsrcnn-x2"), Image.open(f"out{suffix}").convert("RGBA")
    alpha = network.restore(torch.tensor(disc, dtype=torch.float32)[None])[0].numpy() * 255
    assert np.abs(np.array(made)[..., 3] - alpha).max() < 0.51
    white = network.restore(images.load("in.png")).movedim(0, -1).numpy() * 255
    on_white = np.array(Image.alpha_composite(Image.new("RGBA", made.size, "white"), made).convert("RGB"))
    assert np.abs(on_white - white).mean() < 1  # some edges find no colour that comes near
    seen = np.array(made)[np.array(made)[..., 3] > 9]
    assert np.ptp(seen[:, :3].astype(int), axis=-1).max() < 9  # gray: nothing of the hidden green


def test_a_network_for_jpeg_leaves_transparency_as_it_is(folder):
    alpha, picture = PIXELS[..., 0], Image.open(datasets.bundled("chelsea")).crop((100, 100, 124, 116))
    picture.putalpha(Image.fromarray(alpha))
    picture.save("in.png")
    assert main("restore in.png out.png --task deblock-q20 --quiet".split()) == 0
    assert (np.array(Image.open("out.png"))[..., 3] == alpha).all()


def test_a_clean_picture_is_copied_with_what_is_hidden_in_it(folder, capsys):
    """Transparency, and 16 bits: nothing is laid on white, nor rounded, where nothing is to be mended."""
    clean = np.array(Image.open(datasets.bundled("astronaut")).crop((100, 100, 220, 200)))
    faded = np.clip(400 - 300 * np.hypot(*np.mgrid[-1:1:100j, -1:1:120j]), 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack([clean, faded])).save("clear.png")
    Image.fromarray(clean[..., 1].astype(np.uint16) * 256 + 7).save("deep.png")
    for name in ("clear.png", "deep.png"):
        assert main(["restore", name, f"2{name}", "--task", "jpeg", "--quiet"]) == 0
        assert "nothing changed: no trace of JPEG was found to mend" in capsys.readouterr().out
        assert Path(f"2{name}").read_bytes() == Path(name).read_bytes()


@pytest.mark.parametrize(
    ("dpi", "line"), [({}, "x.png y.tif --bits 16"), ({}, "x.tif y.jpg"), ({"dpi": (1e9, 1e9)}, "x.tif y.jpg")]
)
def test_a_resolution_that_is_none_is_left_out(folder, dpi, line):
    given, made, *_ = line.split()
    Image.fromarray(PIXELS).save(given, **dpi)
    assert restore(*line.split()) == 0 and "dpi" not in images.attributes(made)
