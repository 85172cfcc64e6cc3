"""restore of a folder: names and structure stay, bad files cost nothing, and what a file says of itself stays."""

import numpy as np
import pytest
from PIL import Image

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
    Image.fromarray(pixels[..., 0]).save(tmp_path / "in/sub/a.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "in/sub/b.png")
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    (tmp_path / "in/notes.txt").write_text("no picture either", encoding="utf-8")
    return tmp_path / "in"


def test_a_folder_keeps_its_structure_and_goes_on_after_a_bad_file(folder, tmp_path, capsys):
    assert restore(folder, tmp_path / "out") == 2
    said = capsys.readouterr()
    lost = "1 with something left out (transparency, 16 bits, more pictures)"
    assert said.out == f"{tmp_path / 'out'}: 3 restored, 1 failed, {lost}\n"
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
    assert restore(folder / "sub/b.png", tmp_path / "b.png") == 0
    assert capsys.readouterr().out.endswith("by fsrcnn-x2; left out: transparency, laid on white\n")
    frames = [Image.new("L", (9, 9), shade) for shade in (0, 99, 200)]
    frames[0].save(tmp_path / "three.tif", save_all=True, append_images=frames[1:])
    assert restore(tmp_path / "three.tif", tmp_path / "one.png") == 0
    assert capsys.readouterr().out.endswith("; left out: 2 more pictures\n")
    Image.fromarray(np.full((9, 9), 30_000, np.uint16)).save(tmp_path / "deep.png")
    assert restore(tmp_path / "deep.png", tmp_path / "deep2.png") == 0
    assert capsys.readouterr().out.endswith("; left out: 16 bits\n")


def test_a_resolution_that_is_none_is_left_out(folder, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "x.tif", dpi=(1e9, 1e9))
    assert restore(tmp_path / "x.tif", tmp_path / "y.jpg") == 0
