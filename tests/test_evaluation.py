import json
import math
from types import SimpleNamespace

import pytest
import torch
from builders import photograph, pictures, recipe, shipped

from helpers import (
    CourseError,
    baselines,
    codec,
    comparison,
    datasets,
    degradations,
    evaluation,
    images,
    metrics,
    models,
    recipes,
    sensing,
    training,
    zoo,
)
from helpers.evaluation import evaluate
from helpers.publishing import publish


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    colour = {"kind": "edsr", "scale": 2, "width": 4, "blocks": 1, "channels": 3}
    made = (recipe("good-x2"), recipe("colour-x2", network=colour), recipe("one-x3", 3), recipe("clean", 1))
    monkeypatch.setattr(zoo, "WEIGHTS", shipped(tmp_path / "weights", *made))


@pytest.fixture
def files(tmp_path):
    return images.listing(pictures(tmp_path / "set", count=2))


def test_a_row_per_picture_and_method(shelf, files):
    table, failures = evaluate("sr-x2", files, dataset="mine", progress=False)
    assert failures == []
    names = ["task", "dataset", "image", "method", "psnr", "ssim", "bpp", "seconds", "parameters", "psnr_b"]
    assert list(table.columns) == names
    assert set(zip(table["image"], table["method"], strict=True)) == {
        (image, method)
        for image in ("000.png", "001.png")
        for method in ("bicubic", *baselines.METHODS, "good-x2", "colour-x2")
    }
    assert set(table["task"]) == {"sr-x2"}
    assert set(table["dataset"]) == {"mine"}
    assert table["bpp"].isna().all()  # does not apply
    assert (table["seconds"] >= 0).all()
    expected = sum(p.numel() for p in models.EDSR(2, 4, 1).parameters())
    assert set(table.loc[table["method"] == "good-x2", "parameters"]) == {expected}


def test_default_methods_are_the_baseline_and_the_zoos(shelf):
    assert evaluation.methods_for("sr-x2") == ["bicubic", *baselines.METHODS, "good-x2", "colour-x2"]
    assert evaluation.methods_for("deblock-q20") == ["jpeg", *baselines.METHODS, "clean"]
    assert evaluation.methods_for("sr-x4") == ["bicubic", *baselines.METHODS]
    assert evaluation.methods_for("jpeg-color-q10") == ["jpeg"]  # strengths were tuned for the luma


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


def test_the_protocol_of_deblocking(tmp_path):
    picture = photograph(49, 58)
    path = images.save(tmp_path / "x.png", picture)
    y = images.quantize(images.luma(picture))
    table, _ = evaluate("deblock-q20", [path], ["jpeg"], progress=False)
    assert table["psnr"][0] == pytest.approx(metrics.psnr(degradations.jpeg(y, 20), y), abs=1e-6)


def test_a_colour_network_is_given_colour_and_measured_on_luma(shelf, files):
    table, _ = evaluate("sr-x2", files[:1], ["colour-x2"], progress=False)
    clean = images.load_uint8(files[0])
    restored = zoo.load("colour-x2").restore(degradations.for_task("sr-x2")(clean))
    assert restored.shape[0] == 3
    pair = [images.quantize(images.luma(t / 255))[:, 2:-2, 2:-2] for t in (restored, clean)]
    assert table["psnr"][0] == pytest.approx(metrics.psnr(*pair), abs=1e-3)


def test_a_gray_picture_is_measured_as_it_is(shelf, tmp_path):
    path = images.save(tmp_path / "gray.png", photograph(48, 56, 1))
    table, failures = evaluate("sr-x2", [path], progress=False)
    assert not failures
    assert len(table) == len(evaluation.methods_for("sr-x2"))


def test_a_failing_picture_is_reported_and_skipped(shelf, files, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    tiny = images.save(tmp_path / "tiny.png", photograph(5, 60))
    table, failures = evaluate("sr-x2", [files[0], bad, tiny, files[1]], ["bicubic", "good-x2"], progress=False)
    assert len(table) == 4
    assert len(failures) == 2
    for path, line in zip((bad, tiny), failures, strict=True):
        assert line.startswith(str(path))
        assert "\n" not in line


@pytest.mark.parametrize("side", range(9, 30))
@pytest.mark.parametrize("task", ["sr-x2", "sr-x3", "sr-x4", "deblock-q20"])
def test_small_pictures_are_measured_or_refused_clearly(task, side):
    picture = images.to_uint8(photograph(side, side, 1))
    try:
        assert math.isfinite(evaluation.score(task, picture, None)[0]["ssim"])
    except CourseError as why:
        assert f"{side}x{side}" in str(why)


@pytest.mark.parametrize(("task", "channels"), [("jpeg-q20", 1), ("jpeg-color-q20", 3)])
def test_jpeg_is_measured_on_luma_or_on_rgb(tmp_path, task, channels):
    path = images.save(tmp_path / "one.png", photograph(40, 48))
    clean = images.load_uint8(path) if channels == 3 else images.luma_uint8(images.load_uint8(path))
    poor = images.to_uint8(degradations.jpeg(images.to_float(clean), 20))
    table, _ = evaluate(task, [path], ["jpeg"], progress=False, panels=tmp_path)
    pair = poor.float(), clean.float()
    assert table["psnr"][0] == pytest.approx(metrics.psnr(*pair, peak=255))
    assert table["ssim"][0] == pytest.approx(metrics.ssim(*pair, peak=255))
    assert table["psnr_b"][0] == pytest.approx(metrics.psnr_b(*pair, peak=255))
    panels = images.load_uint8(tmp_path / "one-jpeg.png")
    seen = (poor, poor, clean) if channels == 3 else [shown(t) for t in (poor, poor, clean)]
    assert torch.equal(panels, torch.cat([t.expand(3, -1, -1) for t in seen], dim=-1))


def shown(luma: torch.Tensor) -> torch.Tensor:
    """Y from 16 to 235 as a viewer shows it, from 0 to 255."""
    return ((luma.float() - 16) * 255 / 219).round().clamp(0, 255).to(torch.uint8)


def test_the_luma_of_panels_is_stretched_for_colour_pictures_alone(tmp_path):
    """And what is measured is Y from 16 to 235, as before."""
    bars = torch.zeros(1, 48, 48)
    bars[..., 24:] = 1
    files = [images.save(tmp_path / f"{c}.png", bars.expand(c, -1, -1)) for c in (1, 3)]
    for task, method in (("deblock-q20", "jpeg"), ("cs-25", "dct-zonal")):
        evaluate(task, files, [method], progress=False, panels=tmp_path / "panels")
        for c in (1, 3):
            original = images.load_uint8(tmp_path / "panels" / f"{c}-{method}.png")[..., 96:]
            assert set(original.unique().tolist()) == {0, 255}, (task, c)


def test_no_panel_takes_the_name_of_another(tmp_path, shelf):
    """Two pictures of one stem, two folders, capitals, cards of one name, a picture that is called as a panel."""
    for name in ("a.png", "a.bmp", "A.tif", "b/a.png", "a.png-bicubic.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        images.save(tmp_path / name, photograph(40, 48, seed=len(name)))
    files = sorted([*images.listing(tmp_path), tmp_path / "b" / "a.png"])
    before = {path: path.read_bytes() for path in files}
    for suffix in ("json", "safetensors"):
        (tmp_path / "b" / f"good-x2.{suffix}").write_bytes((zoo.WEIGHTS / f"good-x2.{suffix}").read_bytes())
    methods = ["bicubic", "good-x2", str(tmp_path / "b" / "good-x2.json")]
    table, failures = evaluate("sr-x2", files, methods, progress=False, panels=tmp_path)
    made = {path for path in tmp_path.glob("*") if path.is_file() and path not in before}
    assert not failures and len({path.name.lower() for path in made}) == len(table) == 15
    assert {path: path.read_bytes() for path in files} == before
    assert {"a.bmp-bicubic.png", "A.tif-bicubic.png"} <= {path.name for path in made}


def test_measuring_again_gives_the_same(shelf, files):
    one, two = (evaluate("sr-x2", files, progress=False)[0].drop(columns="seconds") for _ in range(2))
    assert one.equals(two)


@pytest.mark.parametrize(
    ("task", "method", "message"),
    [
        ("sr-x9", "bicubic", r"'sr-x9'.*sr-x2"),
        ("sr-x2", "vgg", r"'vgg' is no method for sr-x2; there are bicubic, .*good-x2"),
        ("codec", "vgg", r"'vgg' is no method for codec; there are jpeg, "),
        ("sr-x2", "one-x3", r"'one-x3' solves sr-x3, not sr-x2.*good-x2"),
        ("sr-x2", "jpeg", r"'jpeg' is no method for sr-x2.*bicubic"),
        ("deblock-q20", "bicubic", r"'bicubic' is no method for deblock-q20.*jpeg"),
    ],
)
def test_unknown_tasks_and_methods_are_errors(shelf, files, tmp_path, task, method, message):
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(task, files, [method], progress=False, panels=tmp_path / "panels")
    assert type(caught.value).__module__.startswith("helpers.")
    assert not (tmp_path / "panels").exists()


def test_a_first_picture_is_not_timed_with_what_the_machine_sets_up(shelf, files, monkeypatch):
    class Slow(models.EDSR):
        """Its first picture takes a hundred seconds, each other one second."""

        def forward(self, y):
            clock[0] += 100 if clock[0] == 0 else 1
            return super().forward(y)

    clock = [0]
    monkeypatch.setattr(evaluation, "load_method", lambda *_: Slow(2, 4, 1).eval())
    monkeypatch.setattr(evaluation, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    table, _ = evaluate("sr-x2", files, ["good-x2"], progress=False)
    assert list(table["seconds"]) == [1, 1]


def test_load_for_picks_the_best_or_says_that_there_is_none(shelf):
    assert isinstance(zoo.load_for(None, "sr-x2"), models.EDSR)
    with pytest.raises(CourseError, match="no network is called ''; there are: clean, colour-x2"):
        zoo.load_for("", "sr-x2")
    with pytest.raises(CourseError, match="no network for sr-x4"):
        zoo.load_for(None, "sr-x4")


def test_summary_is_the_unweighted_mean_best_last(shelf, files):
    table, _ = evaluate("sr-x2", files, dataset="mine", progress=False)
    summary = comparison.summary(table)
    for (_, _, method), row in summary.iterrows():
        rows = table[table["method"] == method]
        assert row["psnr"] == pytest.approx(rows["psnr"].mean(), abs=0.006)
        assert row["ssim"] == pytest.approx(rows["ssim"].mean(), abs=6e-5)
    assert list(summary["psnr"]) == sorted(summary["psnr"])


def test_perfect_pictures_have_infinite_psnr(tmp_path):
    path = images.save(tmp_path / "flat.png", torch.full((1, 48, 48), 0.5))
    table, _ = evaluate("sr-x2", [path], ["bicubic"], progress=False)
    assert table["psnr"][0] == math.inf
    assert table["ssim"][0] == pytest.approx(1)


@pytest.fixture
def finished(shelf, tmp_path, monkeypatch):
    """A run that came to its end, and two small sets to measure it on."""
    model = models.EDSR(2, 4, 1)
    folder = tmp_path / "run"
    folder.mkdir()
    start = {"name": "good-x2", "sha256": zoo.card("good-x2")["sha256"]}
    recipes.write(recipe("new-x2", start_from="good-x2"), model, folder, steps=4, started_from=start)
    sets = {name: images.listing(pictures(tmp_path / name, count=2)) for name in ("bundled", "Set5")}
    monkeypatch.setattr(datasets, "folder", sets.__getitem__)
    monkeypatch.setattr(evaluation, "TEST_SETS", {"sr": ("Set5",)})
    return SimpleNamespace(folder=folder, sets=sets, model=model, start=start)


def test_publish_measures_and_copies(finished):
    card, sets = publish.publish(finished.folder), finished.sets
    assert card == zoo.WEIGHTS / "new-x2.json"
    figures = zoo.card("new-x2")["figures"]["sr-x2"]
    table, _ = evaluate("sr-x2", sets["Set5"], ["new-x2"], progress=False)
    assert figures["Set5"]["psnr"] == pytest.approx(table["psnr"].mean(), abs=1e-3)
    assert zoo.load("new-x2").scale == 2
    layers = [layer.weight.numel() for layer in finished.model.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert zoo.card("new-x2")["multiply_adds"] == pytest.approx(sum(layers) / 4, abs=1)  # per output pixel
    assert zoo.card("new-x2")["started_from"] == finished.start


@pytest.mark.parametrize("steps", [3, None, "many"])
def test_publish_refuses_a_run_that_was_stopped(finished, steps):
    card = finished.folder / "new-x2.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"steps": steps}))
    with pytest.raises(CourseError, match=r"new-x2\.json: (stopped at step 3 of 4|does not say how)"):
        publish.publish(finished.folder)
    assert not (zoo.WEIGHTS / "new-x2.json").exists()


def test_publish_refuses_a_set_with_a_picture_that_cannot_be_measured(finished):
    """Means of the rest would stand beside those of all."""
    finished.sets["Set5"][0].write_bytes(b"no picture")
    with pytest.raises(CourseError, match=r"000\.png.*; publishing wants all pictures of Set5\.$"):
        publish.publish(finished.folder)
    assert not list(zoo.WEIGHTS.glob("new-x2*"))


def test_publish_wants_a_finished_run(tmp_path):
    with pytest.raises(CourseError, match="not the folder of a finished training"):
        publish.publish(tmp_path / "none")


# --------------------------------------------------------------------------------------------- codecs


@pytest.fixture
def codecs(tmp_path, monkeypatch):
    """A zoo with a fresh codec and a fresh NPEG, and two pictures that are large enough for MS-SSIM."""
    plan = training.Plan(4, 1e-3)
    made = [
        recipes.Recipe("tiny", "codec", {"kind": "transform", "hidden": 4}, plan, "rate-distortion", origin="test"),
        recipes.Recipe("npeg", "codec", {"kind": "npeg"}, plan, "sparse-code", origin="test"),
    ]
    folder = tmp_path / "zoo"
    folder.mkdir()
    for one in made:
        torch.manual_seed(0)
        recipes.write(one, models.build(**one.network), folder)
    monkeypatch.setattr(zoo, "WEIGHTS", folder)
    codec.load.cache_clear()
    yield images.listing(pictures(tmp_path / "set", count=2, height=180, width=190))
    codec.load.cache_clear()


def test_codecs_have_a_row_for_each_setting(codecs):
    table, failures = evaluate("codec", codecs, ["jpeg", "tiny", "npeg"], "mine", progress=False)
    assert failures == []
    assert list(table.columns) == evaluation.COLUMNS + evaluation.MORE_COLUMNS["codec"]
    counts = table.groupby("method")["setting"].nunique().to_dict()
    assert counts == {"jpeg": len(baselines.FILE_FORMATS["jpeg"][-1]), "tiny": len(codec.Codec.settings), "npeg": 1}
    row = table[(table["method"] == "jpeg") & (table["setting"] == 10)].iloc[0]
    picture = images.load_uint8(codecs[0])
    data = baselines.file_bytes(picture, "jpeg", 10)
    assert row["bpp"] == pytest.approx(8 * len(data) / (180 * 190))
    assert row["header_bpp"] == pytest.approx(8 * data.index(b"\xff\xda") / (180 * 190))
    decoded = degradations.decode(data).float()
    assert row["psnr"] == pytest.approx(metrics.psnr(decoded, picture.float(), 255))
    assert row["ms_ssim"] == pytest.approx(metrics.ms_ssim(decoded, picture.float(), 255))


def test_rows_of_codecs_are_of_files_that_decode_to_what_is_measured(codecs):
    picture = images.load_uint8(codecs[1])
    row, (decoded, original) = evaluation.score_codec(picture, 40, evaluation.load_method("tiny", "codec"))
    data = codec.compress(picture, "tiny", quality=40)
    assert torch.equal(decoded, codec.decompress_uint8(data)) and torch.equal(original, picture)
    assert row["bpp"] == pytest.approx(8 * len(data) / (180 * 190))
    model = baselines.PackedBits("npeg")
    row, (decoded, _) = evaluation.score_codec(picture, 0.5, evaluation.load_method("npeg", "codec"))
    exact = images.to_uint8(model.model(images.to_float(picture)[None]).picture[0])
    assert torch.equal(decoded, exact)
    assert row["bpp"] == pytest.approx(8 * len(model.encode(picture)) / (180 * 190))


def test_gray_pictures_are_coded_as_gray_by_all(codecs, tmp_path):
    gray = images.save(tmp_path / "gray.png", photograph(180, 180, 1))
    table, failures = evaluate("codec", [gray], ["jpeg", "jpeg2000", "webp", "tiny", "npeg"], progress=False)
    assert failures == [] and table["psnr"].notna().all()


def test_the_summary_of_codecs_is_of_their_mean_curves(codecs):
    table, _ = evaluate("codec", codecs, ["jpeg", "webp"], "mine", progress=False)
    found = comparison.summary(table).loc[("codec", "mine")]
    assert found.loc["jpeg", "BD-rate %"] == found.loc["jpeg", "without headers"] == 0
    part = table[table["method"] == "jpeg"]
    means = part.groupby("setting")[["bpp", "psnr"]].mean().sort_values("bpp")
    points = comparison.curve(part)
    assert [value for point in points for value in point] == pytest.approx(means.to_numpy().flatten().tolist())
    expected = metrics.bd_rate(comparison.curve(table[table["method"] == "webp"]), points, *comparison.RATES)
    assert found.loc["webp", "BD-rate %"] == pytest.approx(expected, abs=0.01, nan_ok=True)
    less = comparison.curve(part, payload=True)
    assert all(a < b for (a, _), (b, _) in zip(less, points, strict=True))


@pytest.fixture
def one(tmp_path):
    return [images.save(tmp_path / "one.png", photograph(180, 190))]


def test_gray_codecs_and_measurements_are_measured_on_the_luma(one):
    names = ["jpeg", evaluation.SENSED]
    table, failures = evaluate("codec-gray", one, names, "mine", progress=False)
    assert failures == []
    assert list(table.loc[table["method"] == "sensed", "setting"]) == list(evaluation.SENSED_RATIOS)
    y = images.luma_uint8(images.load_uint8(one[0]))
    row = table[(table["method"] == "jpeg") & (table["setting"] == 50)].iloc[0]
    assert row["psnr"] == pytest.approx(
        metrics.psnr(degradations.decode(baselines.file_bytes(y, "jpeg", 50)).float()[:1], y.float(), 255)
    )
    data = sensing.sense(y, 0.1, evaluation.SENSED_BITS)
    row = table[(table["method"] == "sensed") & (table["setting"] == 0.1)].iloc[0]
    assert row["bpp"] == pytest.approx(metrics.bits_per_pixel(data, y))
    assert row["psnr"] == pytest.approx(
        metrics.psnr(images.to_uint8(sensing.recover(data)).float(), y.float(), 255), abs=1e-3
    )
    with pytest.raises(CourseError, match="'sensed' is no method for codec; there are jpeg"):
        evaluate("codec", one, ["sensed"], progress=False)


def test_a_restorer_behind_a_decoder_changes_the_picture_and_not_the_file(one):
    table, failures = evaluate("codec", one, ["jpeg", evaluation.MENDED], "mine", progress=False)
    assert failures == []
    plain, mended = (table[table["method"] == name].set_index("setting") for name in ("jpeg", evaluation.MENDED))
    assert list(plain["bpp"]) == list(mended["bpp"])
    assert (plain["psnr"] != mended["psnr"]).all()
    assert set(mended["parameters"]) == {zoo.card("jpeg-blind")["parameters"]}


def test_seconds_are_the_median_of_the_repeats(shelf, files, monkeypatch):
    clock, steps = [0], iter([0, 1, 0, 1, 0, 9, 0, 2, 0, 3] * 2)

    def tick():
        clock[0] += next(steps)
        return clock[0]

    monkeypatch.setattr(evaluation, "time", SimpleNamespace(perf_counter=tick))
    table, _ = evaluate("sr-x2", files[:1], ["bicubic"], progress=False, repeats=4)
    assert table["seconds"][0] == 2.5  # of 1, 9, 2, 3, after a warm-up of 1


def test_small_pictures_and_other_networks_are_refused_as_codecs(codecs, shelf, tmp_path):
    small = images.save(tmp_path / "small.png", photograph(100, 200))
    _, failures = evaluate("codec", [small], ["jpeg"], progress=False)
    assert len(failures) == 1 and "200x100 pixels are too few" in failures[0]
    with pytest.raises(CourseError, match="is no codec"):
        evaluate("codec", [small], ["good-x2"], progress=False)
    with pytest.raises(CourseError, match="undoes nothing"):
        degradations.for_task("codec")
