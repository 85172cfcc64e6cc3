"""The protocols of the literature step by step, tables of rows, panels, codecs, and what publishing measures."""

import json
import math
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import fresh, photograph, pictures, recipe, shipped

from helpers import CourseError, baselines, codec, comparison, datasets, degradations, evaluation

from helpers import images, metrics, models, recipes, sensing, zoo  # isort: skip
from helpers.evaluation import evaluate
from helpers.publishing import publish


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    colour = {"kind": "edsr", "scale": 2, "width": 4, "blocks": 1, "channels": 3}
    made = recipe("good-x2"), recipe("colour-x2", network=colour), recipe("one-x3", 3)
    monkeypatch.setattr(zoo, "WEIGHTS", shipped(tmp_path / "weights", *made))


@pytest.fixture
def files(tmp_path):
    return images.listing(pictures(tmp_path / "set", count=2))


def agrees(row, restored: torch.Tensor, clean: torch.Tensor, *names: str) -> bool:
    """Whether a row has these scores of a picture in 8 bits."""
    pair = restored.float(), clean.float()
    return all(row[name] == pytest.approx(getattr(metrics, name)(*pair, peak=255), abs=1e-3) for name in names)


def test_a_row_per_picture_and_method_and_the_same_again(shelf, files):
    table, failures = evaluate("sr-x2", files, dataset="mine", progress=False)
    assert failures == [] and list(table.columns) == evaluation.COLUMNS
    methods = ("bicubic", *baselines.for_task("sr-x2"), "good-x2", "colour-x2")
    rows = set(zip(table["image"], table["method"], strict=True))
    assert rows == {(image, method) for image in ("000.png", "001.png") for method in methods}
    assert set(table["task"]) == {"sr-x2"} and set(table["dataset"]) == {"mine"} and table["bpp"].isna().all()
    expected = sum(p.numel() for p in models.EDSR(2, 4, 1).parameters())
    assert set(table.loc[table["method"] == "good-x2", "parameters"]) == {expected}
    assert set(table.loc[table["method"].isin(methods[:-2]), "parameters"]) == {0}
    assert evaluation.methods_for("jpeg-color-q10") == ["jpeg", *baselines.for_task("jpeg-color-q10")]
    again = evaluate("sr-x2", files, dataset="mine", progress=False)[0]
    assert again.drop(columns="seconds").equals(table.drop(columns="seconds"))
    summary = comparison.summary(table).droplevel([0, 1])
    assert list(summary["psnr"]) == sorted(summary["psnr"])  # unweighted means, best last
    assert summary.loc["bicubic", "ssim"] == pytest.approx(table[table["method"] == "bicubic"]["ssim"].mean(), abs=6e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_protocol_of_super_resolution_step_by_step(tmp_path, scale):
    """Y in 8 bits, cropped, reduced, stored in 8 bits, enlarged, stored in 8 bits, `scale` pixels left out."""
    picture = photograph(49, 58)
    path = images.save(tmp_path / "x.png", picture)
    y = (images.luma(picture) * 255).round()[:, : 49 - 49 % scale, : 58 - 58 % scale]
    small = (degradations.downscale(y, scale)).clamp(0, 255).round()
    large = degradations.upscale(small, scale).clamp(0, 255).round()
    inside = (..., slice(scale, -scale), slice(scale, -scale))
    mse = (large - y)[inside].double().square().mean().item()
    table, _ = evaluate(f"sr-x{scale}", [path], ["bicubic"], progress=False)
    assert table["psnr"][0] == pytest.approx(10 * math.log10(255**2 / mse), abs=0.01)
    assert table["ssim"][0] == pytest.approx(metrics.ssim(large[inside], y[inside], 255), abs=1e-3)


def test_a_colour_network_is_given_colour_and_measured_on_luma(shelf, files):
    table, _ = evaluate("sr-x2", files[:1], ["colour-x2"], progress=False)
    clean = images.load_uint8(files[0])
    restored = zoo.load("colour-x2").restore(degradations.for_task("sr-x2")(clean))
    assert agrees(table.iloc[0], *(images.luma_uint8(t)[:, 2:-2, 2:-2] for t in (restored, clean)), "psnr", "ssim")


def test_a_picture_that_fails_is_told_and_skipped_and_gray_and_flat_ones_are_measured(shelf, files, tmp_path):
    (bad := tmp_path / "bad.png").write_bytes(b"nothing")
    tiny = images.save(tmp_path / "tiny.png", photograph(5, 60))
    gray = images.save(tmp_path / "gray.png", photograph(48, 56, 1))
    flat = images.save(tmp_path / "flat.png", torch.full((1, 48, 48), 0.5))
    methods = ["bicubic", "good-x2", "colour-x2"]
    table, failures = evaluate("sr-x2", [files[0], bad, tiny, gray, flat], methods, progress=False)
    assert len(table) == 9 and len(failures) == 2 and "\n" not in "".join(failures)
    assert failures[0].startswith(str(bad)) and failures[1] == f"{tiny}: 60x5 pixels are too few to measure sr-x2."
    sensed, failures = evaluate("cs-01", [tiny, gray], ["dct-zonal"], progress=False)
    assert len(sensed) == 1 and "too few to measure cs-01" in failures[0]
    perfect = table[(table["image"] == "flat.png") & (table["method"] == "bicubic")]
    assert perfect["psnr"].item() == math.inf and perfect["ssim"].item() == pytest.approx(1)


@pytest.mark.parametrize(("task", "colour"), [("deblock-q20", 3), ("jpeg-q20", 1), ("jpeg-color-q20", 3)])
def test_jpeg_is_measured_on_luma_or_on_rgb(tmp_path, task, colour):
    """In panels, the luma of colour pictures is stretched as a viewer shows it, from 16 … 235 to 0 … 255."""
    path = images.save(tmp_path / "one.png", photograph(40, 48, colour))
    clean = images.load_uint8(path)
    clean = clean if "color" in task else images.luma_uint8(clean)
    poor = images.to_uint8(degradations.jpeg(images.to_float(clean), 20))
    table, _ = evaluate(task, [path], ["jpeg"], progress=False, panels=tmp_path)
    assert agrees(table.iloc[0], poor, clean, "psnr", "ssim", *["psnr_b"] * (task != "deblock-q20"))
    seen = torch.cat([poor, poor, clean], dim=-1)
    if colour == 3 and "color" not in task:
        seen = ((seen.float() - 16) * 255 / 219).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(images.load_uint8(tmp_path / "one-jpeg.png"), seen.expand(3, -1, -1))


def test_compressed_sensing_is_measured_on_the_luma_with_the_numbers_that_it_took(tmp_path):
    path = images.save(tmp_path / "one.png", photograph(40, 48))
    table, _ = evaluate("cs-10", [path], ["dct-zonal"], progress=False)
    y = images.luma_uint8(images.load_uint8(path))
    assert degradations.keep_low_frequencies(y[:, :1, :1], 0.1).shape == (1, 1, 1)  # of which nothing is measured
    zonal = degradations.keep_low_frequencies(y, 0.1)
    assert agrees(table.iloc[0], zonal, y, "psnr", "ssim")
    assert table["ssim_uniform"][0] == pytest.approx(metrics.ssim(zonal.float(), y.float(), 255, "uniform"))
    counts = degradations.measurement_counts(40, 48, 0.1, degradations.SENSED_BLOCK)
    assert table["measured"][0] == pytest.approx(counts.sum().item() / (40 * 48))


def test_no_panel_takes_the_name_of_another(tmp_path, shelf):
    """Two pictures of one stem, capitals, cards of one name, a picture that is called as a panel."""
    for name in ("a.png", "a.bmp", "A.tif", "a-bicubic.png"):
        images.save(tmp_path / name, photograph(40, 48, seed=len(name)))
    files = images.listing(tmp_path)
    before = {path: path.read_bytes() for path in files}
    for suffix in ("json", "safetensors"):
        shutil.copy(zoo.WEIGHTS / f"good-x2.{suffix}", tmp_path)
    methods = ["bicubic", "good-x2", str(tmp_path / "good-x2.json")]
    table, failures = evaluate("sr-x2", files, methods, progress=False, panels=tmp_path)
    made = set(images.listing(tmp_path)) - set(files)
    assert not failures and len({path.name.lower() for path in made}) == len(table) == 12
    assert {path: path.read_bytes() for path in files} == before


def test_seconds_are_not_of_what_the_machine_sets_up(files, monkeypatch):
    took, clock = iter([100, 3]), [0]

    def slow(given):
        clock[0] += next(took)
        return degradations.upscale(images.to_float(given), 2).clamp(0, 1)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    table, _ = evaluate("sr-x2", files[:1], {"slow": slow}, progress=False)
    assert table["seconds"][0] == 3


@pytest.fixture
def finished(shelf, tmp_path, monkeypatch):
    """A run that came to its end, and two small sets to measure it on."""
    model, folder = models.EDSR(2, 4, 1), tmp_path / "run"
    folder.mkdir()
    start = {"name": "good-x2", "sha256": zoo.card("good-x2")["sha256"]}
    recipes.write(recipe("new-x2", start_from="good-x2"), model, folder, steps=4, started_from=start)
    sets = {name: images.listing(pictures(tmp_path / name, count=2)) for name in ("bundled", "Set5")}
    monkeypatch.setattr(datasets, "folder", sets.__getitem__)
    monkeypatch.setattr(evaluation, "TEST_SETS", {"sr": ("Set5",)})
    return SimpleNamespace(folder=folder, sets=sets, model=model, start=start)


@pytest.mark.parametrize("half", [False, True])
def test_publish_measures_and_copies(finished, half):
    assert publish.publish(finished.folder, half) == zoo.WEIGHTS / "new-x2.json"
    card, model = zoo.card("new-x2"), finished.model.half().float() if half else finished.model
    assert all(torch.equal(t, model.state_dict()[name]) for name, t in zoo.load("new-x2").state_dict().items())
    whole = (finished.folder / "new-x2.safetensors").stat().st_size
    assert card["bytes"] == card["weights"].stat().st_size and (whole / 3 < card["bytes"] < whole) == half
    table, _ = evaluate("sr-x2", finished.sets["Set5"], ["new-x2"], progress=False)
    assert card["figures"]["sr-x2"]["Set5"]["psnr"] == pytest.approx(table["psnr"].mean(), abs=1e-3)
    layers = [layer.weight.numel() for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert card["multiply_adds"] == pytest.approx(sum(layers) / 4, abs=1)  # per output pixel
    assert card["started_from"] == finished.start and card["recipe"]["name"] == "new-x2"
    with pytest.raises(CourseError, match="is there already; --overwrite replaces it"):
        publish.publish(finished.folder)
    assert zoo.card("new-x2") == card
    publish.publish(finished.folder, overwrite=True)


def test_publish_refuses_what_is_not_finished_or_cannot_be_measured(finished):
    card = finished.folder / "new-x2.json"
    about = json.loads(card.read_text())
    for steps, said in ((3, "stopped at step 3 of 4"), (None, "does not say how"), ("many", "does not say how")):
        card.write_text(json.dumps(about | {"steps": steps}))
        with pytest.raises(CourseError, match=rf"new-x2\.json: {said}"):
            publish.publish(finished.folder)
    card.write_text(json.dumps(about))
    finished.sets["Set5"][0].write_bytes(b"no picture")  # means of the rest would stand beside those of all
    with pytest.raises(CourseError, match=r"000\.png.*; publishing wants all pictures of Set5\.$"):
        publish.publish(finished.folder)
    assert not list(zoo.WEIGHTS.glob("new-x2*"))


@pytest.fixture
def codecs(tmp_path, monkeypatch):
    """A zoo with a fresh codec and a fresh NPEG, few settings, and two pictures that are large enough for MS-SSIM."""
    made = {"tiny": ("codec", {"kind": "transform", "hidden": 4}), "npeg": ("codec", {"kind": "npeg"})}
    monkeypatch.setattr(zoo, "WEIGHTS", fresh(tmp_path / "zoo", made))
    monkeypatch.setattr(codec.Codec, "settings", (10, 40))
    monkeypatch.setitem(baselines.FILE_FORMATS, "jpeg", (*baselines.FILE_FORMATS["jpeg"][:-1], (10, 50, 90)))
    codec._load.cache_clear()
    folder = pictures(tmp_path / "set", count=1, height=176, width=180)
    images.save(folder / "gray.png", photograph(176, 176, 1))
    yield images.listing(folder)
    codec._load.cache_clear()


def test_rows_of_codecs_are_of_files_that_decode_to_what_is_measured(codecs, tmp_path):
    small = images.save(tmp_path / "small.png", photograph(100, 200))
    table, failures = evaluate("codec", [*codecs, small], ["jpeg", "tiny", "npeg"], "mine", progress=False)
    assert len(failures) == 1 and failures[0].startswith(f"{small}: ")
    assert "MS-SSIM wants at least 176 pixels a side" in failures[0]
    assert list(table.columns) == evaluation.COLUMNS + evaluation.MORE_COLUMNS["codec"]
    assert table["psnr"].notna().all() and set(table["image"]) == {"000.png", "gray.png"}
    assert table.groupby("method")["setting"].nunique().to_dict() == {"jpeg": 3, "tiny": 2, "npeg": 1}
    picture, size = images.load_uint8(codecs[0]), 176 * 180
    packed = baselines.PackedBits("npeg")
    tiny = codec.compress(picture, "tiny", quality=40)
    jpeg, npeg = baselines.file_bytes(picture, "jpeg", 10), packed.encode(picture)
    exact = images.to_uint8(packed.model(images.to_float(picture)[None]).picture[0])
    rows = table[table["image"] == "000.png"].set_index(["method", "setting"])
    for key, data, decoded in (
        (("jpeg", 10), jpeg, degradations.decode(jpeg)),
        (("tiny", 40), tiny, codec.decompress_uint8(tiny)),
        (("npeg", 0.5), npeg, exact),
    ):
        assert agrees(rows.loc[key], decoded, picture, "psnr", "ms_ssim")
        assert rows.loc[key, "bpp"] == pytest.approx(8 * len(data) / size)
    part = table[table["method"] == "jpeg"]
    points, less = comparison.curve(part), comparison.curve(part, payload=True)
    means = part.groupby("setting")[["bpp", "psnr"]].mean().sort_values("bpp").to_numpy()
    assert np.allclose(points, means) and (np.array(less) <= points)[:, 0].all() and less[0][0] < points[0][0]
    assert part["header_bpp"].iloc[0] == pytest.approx(8 * baselines.header_bytes(jpeg) / size)
    found = comparison.summary(table).loc[("codec", "mine", "jpeg")]
    assert found["BD-rate %"] == found["without headers"] == 0


def test_measurements_and_a_restorer_behind_a_decoder_are_codecs_too(tmp_path, monkeypatch):
    one = [images.save(tmp_path / "one.png", photograph(180, 190))]
    monkeypatch.setattr(evaluation, "SENSED_RATIOS", (0.1,))
    monkeypatch.setitem(baselines.FILE_FORMATS, "jpeg", (*baselines.FILE_FORMATS["jpeg"][:-1], (10, 50)))
    methods = ["jpeg", evaluation.MENDED, "sensed"]
    table, failures = evaluate("codec-gray", one, methods, "mine", progress=False)
    assert failures == []
    y = images.luma_uint8(images.load_uint8(one[0]))
    plain, mended, sensed = (table[table["method"] == m].set_index("setting") for m in methods)
    jpeg, numbers = baselines.file_bytes(y, "jpeg", 50), sensing.sense(y, 0.1, evaluation.SENSED_BITS)
    assert agrees(plain.loc[50], degradations.decode(jpeg)[:1], y, "psnr", "ms_ssim")
    assert agrees(sensed.loc[0.1], images.to_uint8(sensing.recover(numbers)), y, "psnr")
    assert sensed.loc[0.1, "bpp"] == pytest.approx(metrics.bits_per_pixel(numbers, y))
    assert list(plain["bpp"]) == list(mended["bpp"]) and (plain["psnr"] != mended["psnr"]).all()
    assert set(mended["parameters"]) == {zoo.card("jpeg-blind")["parameters"]}
