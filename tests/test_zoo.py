import hashlib
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import experiments
import pandas as pd
import pytest
import torch
from builders import photograph, randomized, recipe, shipped
from PIL import Image

from helpers import CourseError, codec, datasets, degradations, evaluation, images, metrics, models, recipes, zoo
from helpers.service.files import DATA, sha256

SHIPPED = sorted(path.stem for path in zoo.WEIGHTS.glob("*.json"))
RESULTS = DATA / "results"
GOLDEN = "687f4edb18b600bf"  # of the SHA-256 of the codes in golden.bic
GOLDEN_LAYERS = "4ddfd944e40aa039"  # and of those in golden-layers.bic, both layers
FIRST_COMMIT = "826dac6e575b34b4a4df4f0237522224a52a83a0"
every_shipped = pytest.mark.parametrize("name", SHIPPED)
every_table = pytest.mark.parametrize("path", sorted(RESULTS.glob("*-*.csv")), ids=lambda path: path.stem)


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


def test_available_has_task_parameters_bytes_and_origin(shelf, tmp_path, monkeypatch):
    table = zoo.available()
    assert list(table.index) == ["good-x2", "one-x3", "poor-x2"]
    assert list(table.columns) == ["task", "parameters", "bytes", "origin"]
    row = table.loc["one-x3"]
    assert row["task"] == "sr-x3" and row["bytes"] == (shelf / "one-x3.safetensors").stat().st_size
    assert row["parameters"] == sum(p.numel() for p in models.EDSR(3, 4, 1).parameters())
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    assert zoo.available().empty and zoo.for_task("sr-x2") == []
    with pytest.raises(CourseError, match="none yet"):
        zoo.load("srcnn")


@pytest.mark.parametrize("by", ["", ".json", ".safetensors"])
def test_load_gives_the_same_network_ready_to_use_and_to_train(shelf, by):
    model, other = zoo.load(shelf / f"good-x2{by}" if by else "good-x2"), zoo.load("poor-x2")
    expected = randomized(models.EDSR(2, 4, 1), seed=0)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), expected.parameters(), strict=True))
    assert not model.training and {p.device.type for p in model.parameters()} == {"cpu"}
    restored = model.restore(photograph(12, 14, 1)[None])
    assert torch.equal(restored, expected.restore(photograph(12, 14, 1)[None])) and not restored.requires_grad
    (other(restored).square().mean() + model(restored).square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for net in (model, other) for p in net.parameters())


def test_the_best_comes_first(shelf):
    assert zoo.for_task("sr-x2") == ["good-x2", "poor-x2"]
    edit(shelf / "poor-x2.json", figures={"sr-x2": {"bundled": {"psnr": 40.0, "ssim": 0.9}}})
    assert zoo.for_task("sr-x2") == ["poor-x2", "good-x2"]
    for figures in (None, [], {"sr-x2": 3}, {"sr-x2": {"bundled": {"psnr": "high"}}}):  # a trained card has none
        edit(shelf / "poor-x2.json", figures=figures)
        assert zoo.for_task("sr-x2") == ["good-x2", "poor-x2"]


# ---------------------------------------------------------------------------------------- bad zoos


BROKEN = ["", "{", "[]", "3", "{}", '{"network": 5}', "\udcff", *itertools.product(zoo.REQUIRED, (None, []))]


@pytest.mark.parametrize("card", BROKEN, ids=str)
def test_a_broken_card_is_named_by_all(shelf, card):
    if isinstance(card, tuple):  # a field that is lost or none
        edit(shelf / "good-x2.json", **dict([card]))
    else:
        (shelf / "good-x2.json").write_bytes(card.encode(errors="surrogateescape"))
    for act in (lambda: zoo.load("good-x2"), lambda: zoo.for_task("sr-x3"), zoo.available):
        with pytest.raises(CourseError, match=r"good-x2\.json: not the card of a network .*; get it again"):
            act()


NETWORKS = [{"kind": "vgg"}, {"kind": "srcnn"}, {"kind": "edsr", "depth": 3}]
NETWORKS += [{"kind": "edsr", "scale": 2, "width": 4, "blocks": 10**9}]


def others(path: Path) -> None:
    """Other bytes, with their checksum on the card."""
    path.write_bytes(b"no weights")
    edit(path.with_suffix(".json"), sha256=sha256(path))


SPOILT = [(lambda path, n=n: edit(path.with_suffix(".json"), network=n), "not the weights") for n in NETWORKS]
SPOILT += [(others, "not the weights"), (Path.unlink, "missing")]
SPOILT += [(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "SHA-256")]


@pytest.mark.parametrize(("spoil", "why"), SPOILT)
def test_damaged_weights_are_refused(shelf, spoil, why):
    spoil(shelf / "good-x2.safetensors")
    with pytest.raises(CourseError, match=rf"good-x2\.safetensors.*{why}"):
        zoo.load("good-x2")
    with pytest.raises(CourseError, match="no network is called 'vgg'; there are: good-x2, one-x3, poor-x2; one that"):
        zoo.load("vgg")


# --------------------------------------------------------------------------------- what is shipped


@every_shipped
def test_shipped_weights_are_what_their_card_says(name):
    about, path = zoo.card(name), zoo.WEIGHTS / f"{name}.safetensors"
    model = zoo.load(name)  # checks the SHA-256
    assert about["name"] == name and about["bytes"] == path.stat().st_size
    assert about["parameters"] == sum(p.numel() for p in model.parameters())
    assert about["multiply_adds"] == models.multiply_adds(model)
    assert all(p.isfinite().all() for p in model.parameters())
    assert all(about[key] for key in ("origin", "recipe", "licence", "commit", "device", "seconds", "data"))
    assert about["figures"] or about["task"] == "codec-detail"  # which its codec's figures include
    sets = about["recipe"]["sets"]
    assert about["licence"] == recipes.licence(sets, about.get("started_from"))
    assert all((each in about["licence"]) == (each in sets) for each in ("CID22", "DIV2K_test_LR_x4"))
    if start := about.get("started_from"):
        assert start["name"] == about["recipe"]["start_from"]
        if start["name"] in SHIPPED and "history" not in about:  # those of a first stretch are not, but their recipe is
            assert start["sha256"] == sha256(zoo.WEIGHTS / f"{start['name']}.safetensors")
        assert start["name"] in recipes.RECIPES


@every_shipped
def test_the_commit_on_a_card_can_be_checked_out(name):
    if not shutil.which("git") or not _is_ancestor(FIRST_COMMIT):
        pytest.skip("not a whole clone of the course")
    assert _is_ancestor(zoo.card(name)["commit"].removesuffix("+"))


def _is_ancestor(commit: str) -> bool:
    return not subprocess.run(["git", "-C", DATA.parent, "merge-base", "--is-ancestor", commit, "HEAD"]).returncode


def test_the_shipped_weights_are_pairs_and_small_together():
    assert sorted(path.stem for path in zoo.WEIGHTS.glob("*.safetensors")) == SHIPPED
    assert sum(path.stat().st_size for path in zoo.WEIGHTS.rglob("*") if path.is_file()) < 40_000_000


@every_table
def test_tables_have_every_picture_of_their_set_and_a_row_is_reached_again(path, request):
    """The smallest picture by what costs nothing, which tells of set and protocol; a bundled one by all that is fast.

    Of codecs, by JPEG, and by the course's.
    """
    table = pd.read_csv(path)
    task, dataset = table.loc[0, "task"], table.loc[0, "dataset"]
    if dataset != "bundled":
        request.getfixturevalue("course_data")
    files = sorted(datasets.folder(dataset), key=lambda file: file.stat().st_size)
    assert path.stem == f"{task}-{dataset}"
    assert set(table["method"]) == set(evaluation.methods_for(task))
    for _, rows in table.groupby("method"):
        settings = rows["setting"].nunique() if "setting" in rows else 1
        assert sorted(rows["image"]) == sorted([file.name for file in files] * settings)
    rows = table[table["image"] == files[0].name]
    if not task.startswith("codec"):
        free = evaluation.BASELINES[task.split("-")[0]]
        slow = rows["method"].isin(["non-local-means", "bilateral", "sensed-tv"])
        rows = rows[~slow if dataset == "bundled" else rows["method"] == free]
        again, failures = evaluation.evaluate(task, files[:1], rows["method"], dataset, progress=False)
        assert not failures
        assert list(again["psnr"]) == pytest.approx(list(rows["psnr"]), abs=0.02)
        assert list(again["ssim"]) == pytest.approx(list(rows["ssim"]), abs=0.001)
        return
    picture = images.load_uint8(files[0])
    picture = images.luma_uint8(picture) if task == "codec-gray" else picture
    for name in ("jpeg", codec.DEFAULT) if dataset == "bundled" else ("jpeg",):
        coder = evaluation.load_method(name, task)
        setting = coder.settings[3]  # one of ten: all would take as many times as long
        new, _ = evaluation.score_codec(picture, setting, coder)
        row = rows[(rows["method"] == name) & (rows["setting"] == setting)].iloc[0]
        for key, tolerance in (("psnr", 0.05), ("ms_ssim", 0.002), ("bpp", 0.01 * row["bpp"])):
            assert new[key] == pytest.approx(row[key], abs=tolerance), (name, key)


def test_the_demos_of_the_original_are_beaten_as_the_table_says(course_data):
    stored = pd.read_csv(DATA / "experiments" / "demos.csv")
    again = experiments.table("demos")
    assert list(again["psnr"]) == pytest.approx(list(stored["psnr"]), abs=0.02)
    assert (again["ours measured"] <= again["original measured"]).all()
    means = again.pivot_table(index="ratio", columns="method", values="psnr")
    assert len(means) == 6 and (means["rescsnet-any"] > means["original"]).all()


def saved(picture, quality):
    """A Pillow picture through a JPEG file."""
    return images.to_pillow(degradations.decode(degradations.jpeg_bytes(images.from_pillow(picture), quality)))


def on_a_page(picture):
    """A screenshot: the picture, smaller, in a white page with a dark bar."""
    page = Image.new("RGB", (420, 400), "white")
    page.paste("navy", (0, 0, 420, 30))
    page.paste(picture.resize((190, 190), Image.Resampling.BICUBIC), (20, 60))
    return page


WITHOUT_A_GRID = {
    "x0.6": lambda picture: picture.resize((144, 144), Image.Resampling.LANCZOS),
    "x2, cut": lambda picture: picture.resize((480, 480), Image.Resampling.LANCZOS).crop((13, 6, 333, 326)),
    "turned by a degree": lambda picture: picture.rotate(1, Image.Resampling.BICUBIC).crop((8, 8, 232, 232)),
    "resized, saved again": lambda picture: saved(picture.resize((200, 200), Image.Resampling.BICUBIC), 97),
    "resized, gray": lambda picture: picture.resize((200, 200), Image.Resampling.BICUBIC).convert("L"),
    "on a page": on_a_page,
}


@pytest.mark.parametrize("change", WITHOUT_A_GRID.values(), ids=WITHOUT_A_GRID)
def test_the_blind_restorer_gains_on_jpegs_that_lost_their_grid(change):
    """Resampling destroys the comb of the coefficients; such pictures came back untouched."""
    network, gains = zoo.load("jpeg-blind"), []
    for name, quality in (("chelsea", 10), ("coffee", 10), ("rocket", 30)):
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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("file", "golden"), [("golden.bic", GOLDEN), ("golden-layers.bic", GOLDEN_LAYERS)])
def test_a_file_from_elsewhere_holds_the_same_codes_here(file, golden, threads, monkeypatch):
    """A file written on another machine, read code by code: one digit of a probability off, and the rest is noise."""
    data = (Path(__file__).parent / file).read_bytes()
    header, coder, seen = codec.read_header(data), codec.Codec("integer-ae"), []
    blank = torch.zeros(3, header.height, header.width, dtype=torch.uint8)
    monkeypatch.setattr(coder.model, "picture", lambda levels, *_: seen.append(levels.clone()) or blank)
    monkeypatch.setattr(coder.second, "add", lambda _, found, __: seen.append(found.clone()))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        coder.decode(data[header.length :], header)
    finally:
        torch.set_num_threads(before)
    digest = hashlib.sha256(b"".join(levels.numpy().astype("<i2").tobytes() for levels in seen)).hexdigest()
    assert digest.startswith(golden), f"write tests/{file} again if the weights of integer-ae are new"
