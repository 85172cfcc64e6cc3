import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import photograph, randomized, recipe, shipped
from PIL import Image

from helpers import CourseError, codec, datasets, degradations, evaluation, images, metrics, models, zoo
from helpers.publishing import publish
from helpers.service.files import DATA, sha256

SHIPPED = sorted(path.stem for path in zoo.WEIGHTS.glob("*.json"))
RESULTS = DATA / "results"
GOLDEN = "687f4edb18b600bf"  # of the SHA-256 of the codes in golden.bic
every_shipped = pytest.mark.parametrize("name", SHIPPED)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A zoo of three networks; the first for ×2 is the better one."""
    folder = shipped(tmp_path / "weights", recipe("good-x2"), recipe("poor-x2"), recipe("one-x3", 3))
    monkeypatch.setattr(zoo, "WEIGHTS", folder)
    return folder


def edit(card, **changes) -> None:
    about = json.loads(card.read_text())
    card.write_text(json.dumps({k: v for k, v in (about | changes).items() if v is not None}))


# ------------------------------------------------------------------------------- what a zoo does


def test_networks_load_in_many_threads_at_once(shelf):
    """What bounds the weights of a network under construction hears of those of all threads."""
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(zoo.load, ["good-x2", "poor-x2", "one-x3"] * 10))
    assert len(loaded) == 30


def test_available_has_task_parameters_bytes_and_origin(shelf):
    table = zoo.available()
    assert list(table.index) == ["good-x2", "one-x3", "poor-x2"]
    assert list(table.columns) == ["task", "parameters", "bytes", "origin"]
    row = table.loc["one-x3"]
    assert row["task"] == "sr-x3"
    assert row["parameters"] == sum(p.numel() for p in models.EDSR(3, 4, 1).parameters())
    assert row["bytes"] == (shelf / "one-x3.safetensors").stat().st_size


def test_an_empty_zoo_is_an_empty_table(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    assert zoo.available().empty
    assert zoo.for_task("sr-x2") == []
    with pytest.raises(CourseError, match="none yet"):
        zoo.load("srcnn")


@pytest.mark.parametrize("by", ["name", "card", "weights"])
def test_load_gives_the_same_network_ready_to_use(shelf, by):
    model = zoo.load({"name": "good-x2", "card": shelf / "good-x2.json", "weights": shelf / "good-x2.safetensors"}[by])
    expected = randomized(models.EDSR(2, 4, 1), seed=0)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), expected.parameters(), strict=True))
    assert not model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert torch.equal(model.restore(photograph()), expected.restore(photograph()))


def test_a_shipped_network_can_be_trained_on_and_learnt_from(shelf):
    """After it has restored a picture, too; and a restored picture can be another network's input."""
    model, other = zoo.load("good-x2"), zoo.load("poor-x2")
    restored = model.restore(photograph(12, 14, 1)[None])
    assert not restored.requires_grad
    (other(restored).square().mean() + model(restored).square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for net in (model, other) for p in net.parameters())


def test_the_best_comes_first(shelf):
    assert zoo.for_task("sr-x2") == ["good-x2", "poor-x2"]
    edit(shelf / "poor-x2.json", figures={"sr-x2": {"bundled": {"psnr": 40.0, "ssim": 0.9}}})
    assert zoo.for_task("sr-x2") == ["poor-x2", "good-x2"]


def test_an_unknown_name_lists_the_names(shelf):
    with pytest.raises(CourseError, match=r"'vgg'.*good-x2, one-x3, poor-x2"):
        zoo.load("vgg")


# ---------------------------------------------------------------------------------------- bad zoos


def test_damaged_weights_are_refused(shelf):
    path = shelf / "good-x2.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CourseError, match=r"good-x2\.safetensors.*SHA-256"):
        zoo.load("good-x2")


def test_missing_weights_are_refused(shelf):
    (shelf / "good-x2.safetensors").unlink()
    with pytest.raises(CourseError, match=r"good-x2\.safetensors.*missing"):
        zoo.load("good-x2")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"network": 5}', "\udcff"])
def test_a_broken_card_is_refused(shelf, text):
    (shelf / "good-x2.json").write_bytes(text.encode(errors="surrogateescape"))
    for act in (lambda: zoo.load("good-x2"), lambda: zoo.for_task("sr-x3"), zoo.available):
        with pytest.raises(CourseError, match=r"good-x2\.json: not the card of a network .*; get it again"):
            act()


@pytest.mark.parametrize("key", zoo.REQUIRED)
@pytest.mark.parametrize("value", [None, []])
def test_a_card_that_lacks_something_is_named_by_all(shelf, key, value):
    edit(shelf / "good-x2.json", **{key: value})
    for act in (lambda: zoo.load("good-x2"), lambda: zoo.for_task("sr-x3"), zoo.available):
        with pytest.raises(CourseError, match=rf"good-x2\.json: .*{key} is not on it"):
            act()


@pytest.mark.parametrize("figures", [[], {"sr-x2": 3}, {"sr-x2": {"bundled": {"psnr": "high"}}}])
def test_figures_that_are_none_are_named(shelf, figures):
    edit(shelf / "good-x2.json", figures=figures)
    with pytest.raises(CourseError, match=r"good-x2\.json: its figures"):
        zoo.for_task("sr-x2")


def test_weights_that_are_the_cards_and_no_safetensors_are_refused(shelf):
    path = shelf / "good-x2.safetensors"
    path.write_bytes(b"no weights")
    edit(shelf / "good-x2.json", sha256=sha256(path))
    with pytest.raises(CourseError, match=r"good-x2\.safetensors: not the weights"):
        zoo.load("good-x2")


@pytest.mark.parametrize("change", [{"sha256": None}, {"network": {"kind": "vgg"}}, {"network": {"kind": "srcnn"}},
                                    {"network": {"kind": "edsr", "depth": 3}}])  # fmt: skip
def test_a_card_that_does_not_describe_its_weights_is_refused(shelf, change):
    edit(shelf / "good-x2.json", **change)
    with pytest.raises(CourseError, match="good-x2"):
        zoo.load("good-x2")


def test_a_card_without_figures_is_no_stumbling_block(shelf):
    """`train` writes such cards; one that was copied into the zoo by hand comes last."""
    edit(shelf / "good-x2.json", figures=None)
    assert zoo.for_task("sr-x2") == ["poor-x2", "good-x2"]


# --------------------------------------------------------------------------------- what is shipped


@every_shipped
def test_shipped_weights_are_what_their_card_says(name):
    about, path = zoo.card(name), zoo.WEIGHTS / f"{name}.safetensors"
    model = zoo.load(name)  # checks the SHA-256
    assert about["name"] == name
    assert about["parameters"] == sum(p.numel() for p in model.parameters())
    assert about["bytes"] == path.stat().st_size
    assert about["sha256"] == sha256(path)
    assert about["multiply_adds"] == models.multiply_adds(model)
    assert all(p.isfinite().all() for p in model.parameters())
    for key in ("origin", "recipe", "licence", "commit", "device", "seconds", "data", "figures"):
        assert about[key], key


@every_shipped
def test_shipped_weights_started_from_the_shipped_ones(name):
    about = zoo.card(name)
    if "started_from" not in about:
        pytest.skip(f"the card of {name} names nothing that it started from")
    start = about["started_from"]
    assert start["name"] == about["recipe"]["start_from"]
    assert start["sha256"] == sha256(zoo.WEIGHTS / f"{start['name']}.safetensors")


@every_shipped
@pytest.mark.parametrize("channels", [1, 3])
def test_shipped_networks_restore_a_tiny_picture(name, channels):
    model, task = zoo.load(name), zoo.card(name)["task"]
    if task == "codec":
        pytest.skip(f"{name} codes pictures and restores none")
    if task.startswith("cs"):
        if channels == 3:
            pytest.skip(f"{name} senses gray pictures")
        assert model.reconstruct(photograph(7, 9, 1), 0.1).shape == (1, 7, 9)
        return
    assert model.restore(photograph(7, 9, channels)).shape == (channels, 7 * model.scale, 9 * model.scale)


@every_shipped
@pytest.mark.parametrize("dataset", ["bundled", "Set5", "Classic5"])
def test_shipped_figures_are_reached(name, dataset, request):
    """On two pictures, those of the smallest files; that a card has the means of the tables, the next test sees."""
    if dataset != "bundled":
        request.getfixturevalue("course_data")
    tasks = [task for task, figures in zoo.card(name)["figures"].items() if dataset in figures]
    if not tasks:
        pytest.skip(f"{dataset} is not on the card of {name}")
    pictures = sorted(datasets.folder(dataset), key=lambda file: file.stat().st_size)[:2]
    for task in {min(tasks), max(tasks)} - {"codec"}:  # of a network for many tasks, two
        again, failures = evaluation.evaluate(task, pictures, [name], dataset, progress=False)
        assert not failures
        table = pd.read_csv(RESULTS / f"{task}-{dataset}.csv").query("method == @name").set_index("image")
        for key, tolerance in (("psnr", 0.02), ("ssim", 0.001)):
            assert list(again[key]) == pytest.approx(list(table[key][again["image"]]), abs=tolerance)


@every_shipped
def test_shipped_figures_are_the_means_of_the_tables(name):
    """Measured apart, by `publish` and by `evaluate`; the README is made of the tables."""
    for task, figures in zoo.card(name)["figures"].items():
        for dataset, figure in figures.items():
            table = pd.read_csv(RESULTS / f"{task}-{dataset}.csv")
            if task.startswith("codec"):
                found = publish.figures_of(table[table["method"] == name])
                assert found == pytest.approx(figure, abs=2e-3), dataset
                continue
            means = table.loc[table["method"] == name, ["psnr", "ssim"]].mean()
            assert means["psnr"] == pytest.approx(figure["psnr"], abs=1e-3), (task, dataset)
            assert means["ssim"] == pytest.approx(figure["ssim"], abs=1e-4), (task, dataset)


every_table = pytest.mark.parametrize("path", sorted(RESULTS.glob("*-*.csv")), ids=lambda path: path.stem)


@every_table
def test_tables_have_every_picture_of_their_set_for_every_shipped_method(path, request):
    table = pd.read_csv(path)
    task, dataset = table.loc[0, "task"], table.loc[0, "dataset"]
    assert path.stem == f"{task}-{dataset}"
    if dataset != "bundled":
        request.getfixturevalue("course_data")
    wanted = {file.name for file in datasets.folder(dataset)}
    assert set(table["method"]) == set(evaluation.methods_for(task))
    for _, rows in table.groupby("method"):
        settings = rows["setting"].nunique() if "setting" in rows else 1
        assert sorted(rows["image"]) == sorted(list(wanted) * settings)


@every_table
def test_a_row_of_each_table_is_reached_again(path, request, monkeypatch):
    """The smallest picture, by the baseline and by the smallest network; of codecs, by JPEG and by the course's."""
    table = pd.read_csv(path)
    task, dataset = table.loc[0, "task"], table.loc[0, "dataset"]
    if dataset != "bundled":
        request.getfixturevalue("course_data")
    picture = min(datasets.folder(dataset), key=lambda file: file.stat().st_size)
    rows = table[table["image"] == picture.name].sort_values("parameters")
    if task.startswith("codec"):
        check_codecs_again(task, rows, picture, monkeypatch)
        return
    rows = rows.iloc[:2]
    again, failures = evaluation.evaluate(task, [picture], rows["method"], dataset, progress=False)
    assert not failures
    assert list(again["psnr"]) == pytest.approx(list(rows["psnr"]), abs=0.02)
    assert list(again["ssim"]) == pytest.approx(list(rows["ssim"]), abs=0.001)


def check_codecs_again(task: str, rows: pd.DataFrame, picture: Path, monkeypatch) -> None:
    """At one setting each, the fourth: its ten would take as many times as long."""
    load = evaluation.load_method

    def at_one_setting(*which) -> evaluation.Coder:
        coder = load(*which)
        return coder._replace(settings=coder.settings[3:4])

    monkeypatch.setattr(evaluation, "load_method", at_one_setting)
    again, failures = evaluation.evaluate(task, [picture], ["jpeg", codec.DEFAULT], progress=False)
    assert not failures
    assert len(again) == 2
    for _, new in again.iterrows():
        row = rows[(rows["method"] == new["method"]) & (rows["setting"] == new["setting"])].iloc[0]
        for key, tolerance in (("psnr", 0.05), ("ms_ssim", 0.002), ("bpp", 0.01 * row["bpp"])):
            assert new[key] == pytest.approx(row[key], abs=tolerance), (new["method"], key)


def test_the_demos_of_the_original_are_beaten_as_the_table_says(course_data):
    sys.path.insert(0, str(DATA.parent / "docs" / "tools"))
    import experiments

    stored = pd.read_csv(DATA / "experiments" / "demos.csv")
    again = experiments.demos_table(0)
    assert list(again["psnr"]) == pytest.approx(list(stored["psnr"]), abs=0.02)
    assert (again["ours measured"] <= again["original measured"]).all()
    means = again.pivot_table(index="ratio", columns="method", values="psnr")
    assert len(means) == 6 and (means["rescsnet-any"] > means["original"]).all()


@pytest.mark.parametrize("size", [None, (1024, 1024)], ids=["as they are", "1024x1024"])
def test_the_skyline_network_gains_on_the_bundled_photographs_in_tiles(size):
    """The original's task and geometry: gray, JPEG at quality 20, tiles of 128. Its own network loses .5 dB."""
    model, gains = zoo.load("skyline"), []
    for path in datasets.bundled():
        clean = images.to_float(images.luma_uint8(images.load(path)))
        clean = clean if size is None else images.quantize(degradations.resize(clean, size))
        poor = degradations.jpeg(clean, 20)
        restored = model.restore(poor, tile=128)
        gains.append(metrics.psnr(images.quantize(restored), clean) - metrics.psnr(poor, clean))
        assert (restored - model.restore(poor, tile=None)).abs().max() <= 1e-4
    assert sum(gains) / len(gains) >= 0.8
    assert min(gains) > 0


def saved(picture, quality):
    """A Pillow picture through a JPEG file."""
    return images.to_pillow(degradations.decode(degradations.jpeg_bytes(images.from_pillow(picture), quality)))


def on_a_page(picture):
    """A screenshot: the picture, smaller, in a white page with a dark bar."""
    page = Image.new(picture.mode, (420, 400), "white")
    page.paste("navy" if picture.mode == "RGB" else 40, (0, 0, 420, 30))
    page.paste(picture.resize((190, 190), Image.Resampling.BICUBIC), (20, 60))
    return page


def resized(size, resample):
    return lambda picture: picture.resize((size, size), resample)


WITHOUT_A_GRID = {
    "x0.6": resized(144, Image.Resampling.LANCZOS),
    "x0.8": resized(192, Image.Resampling.BILINEAR),
    "x1.5": resized(360, Image.Resampling.BICUBIC),
    "x2, cut": lambda picture: picture.resize((480, 480), Image.Resampling.LANCZOS).crop((13, 6, 333, 326)),
    "turned by a degree": lambda picture: picture.rotate(1, Image.Resampling.BICUBIC).crop((8, 8, 232, 232)),
    "resized, saved again": lambda picture: saved(picture.resize((200, 200), Image.Resampling.BICUBIC), 97),
    "resized, gray": lambda picture: picture.resize((200, 200), Image.Resampling.BICUBIC).convert("L"),
    "on a page": on_a_page,
}


@pytest.mark.parametrize("kind", WITHOUT_A_GRID)
def test_the_blind_restorer_gains_on_jpegs_that_lost_their_grid(kind):
    """Resampling destroys the comb of the coefficients; such pictures came back untouched."""
    network, change, gains = zoo.load("jpeg-blind"), WITHOUT_A_GRID[kind], []
    for name, quality in (("chelsea", 10), ("coffee", 10), ("camera", 30), ("rocket", 30)):
        clean = images.to_pillow(images.load_uint8(datasets.bundled(name))[:, 40:280, 60:300])
        truth, poor = (images.from_pillow(change(picture)) for picture in (clean, saved(clean, quality)))
        restored = network.restore(poor)
        assert not torch.equal(restored, poor)
        before, after = (metrics.psnr(*map(images.to_float, (picture, truth))) for picture in (poor, restored))
        gains.append(after - before)
    assert min(gains) > 0 and sum(gains) / len(gains) > 0.2


@pytest.mark.parametrize("path", datasets.bundled(), ids=lambda path: path.stem)
def test_the_blind_restorer_does_no_harm_to_clean_photographs(path):
    """They come back bit for bit; grass, nothing but fine texture, is not certain, and loses next to nothing."""
    network, clean = zoo.load("jpeg-blind"), images.load_uint8(path)[:, :384, :384]
    restored = network.restore(clean)
    assert restored is not clean and restored.dtype == torch.uint8
    if path.stem == "grass":
        assert metrics.psnr(images.to_float(restored), images.to_float(clean)) > 45
    else:
        assert torch.equal(restored, clean)


def test_the_blind_restorer_judges_each_picture_of_a_batch():
    clean = images.load_uint8(datasets.bundled("chelsea"))[:, :240, :240]
    pair = torch.stack([clean, degradations.for_task("jpeg-color-q30")(clean)])
    restored = zoo.load("jpeg-blind").restore(pair)
    assert torch.equal(restored[0], clean)
    assert not torch.equal(restored[1], pair[1])


def test_the_shipped_weights_are_small_together():
    assert sum(path.stat().st_size for path in zoo.WEIGHTS.rglob("*") if path.is_file()) < 40_000_000


def test_weights_and_cards_come_in_pairs():
    assert sorted(path.stem for path in zoo.WEIGHTS.glob("*.safetensors")) == SHIPPED


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_from_elsewhere_holds_the_same_codes_here(threads, monkeypatch):
    """A file written on another machine, read code by code: one digit of a probability off, and the rest is noise."""
    data = (Path(__file__).parent / "golden.bic").read_bytes()
    header, coder, seen = codec.read_header(data), codec.Codec("integer-ae"), []
    blank = torch.zeros(3, header.height, header.width, dtype=torch.uint8)
    monkeypatch.setattr(coder.model, "picture", lambda levels, *_: seen.append(levels.clone()) or blank)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        coder.decode(data[header.length :], header)
    finally:
        torch.set_num_threads(before)
    digest = hashlib.sha256(seen[0].numpy().astype("<i2").tobytes()).hexdigest()
    assert digest.startswith(GOLDEN), "write tests/golden.bic again if the weights of integer-ae are new"
