import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import photograph, pictures, recipe, shipped

from helpers import CourseError, baselines, evaluation, images, models, recipes, zoo
from helpers.__main__ import main
from helpers.publishing import benchmark

TASK = "sr-x2"
TABLE = f"{TASK}-mine.csv"
METHODS = ["bicubic", "one-x2", "two-x2"]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Two networks, one table, of a set of two pictures, and a folder for it."""
    monkeypatch.setattr(zoo, "WEIGHTS", shipped(tmp_path / "weights", recipe("one-x2"), recipe("two-x2")))
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setattr(baselines, "for_task", lambda task: [])
    monkeypatch.setattr(benchmark, "tables", lambda: [(TASK, "mine")])
    pictures(tmp_path / "mine", count=2)
    return tmp_path / "results"


def measured(folder, **options) -> list[str]:
    return [method for _, _, method, _ in benchmark.run([TASK], folder=folder, **options)]


def noted(folder) -> dict:
    return json.loads((folder / "provenance.json").read_text())


def rewrite(folder, change) -> None:
    (folder / "provenance.json").write_text(json.dumps({key: about | change for key, about in noted(folder).items()}))


def test_what_is_measured_is_not_measured_again(bench):
    assert next(benchmark.run([TASK], folder=bench))[2] == "bicubic"  # then it is stopped
    assert measured(bench) == METHODS[1:]
    before = (bench / TABLE).read_bytes()
    assert measured(bench) == []
    assert (bench / TABLE).read_bytes() == before
    once = pd.read_csv(bench / TABLE).drop(columns="seconds")
    assert list(once["method"]) == METHODS * 2 and list(once["image"]) == ["000.png"] * 3 + ["001.png"] * 3
    rewrite(bench, {"fingerprint": "of other code"})
    assert measured(bench) == METHODS
    assert pd.read_csv(bench / TABLE).drop(columns="seconds").equals(once)


def test_other_weights_are_measured_again_and_theirs_alone(bench):
    measured(bench)
    torch.manual_seed(5)
    recipes.write(recipe("two-x2"), models.build(**recipe("two-x2").network), zoo.WEIGHTS, steps=1, seconds=1.0)
    assert measured(bench) == ["two-x2"]
    (zoo.WEIGHTS / "one-x2.json").unlink()  # a method that is gone leaves the table
    rewrite(bench, {"fingerprint": "of other code"})
    measured(bench)
    assert set(pd.read_csv(bench / TABLE)["method"]) == {"bicubic", "two-x2"}


def test_other_code_is_measured_again(monkeypatch, tmp_path):
    before = {name: benchmark.fingerprint("sr-x3", name) for name in ("unsharp", "wavelet", "srcnn-915-x3")}
    assert len(set(before.values())) == 3 and benchmark.fingerprint("sr-x3", "unsharp") == before["unsharp"]
    other, hashed = tmp_path / "other.py", benchmark.sha256
    other.write_text("other code")
    for module in (models.srcnn, models.base, images):  # the class, the one below it, what all run through
        changed = {Path(module.__file__).resolve(): other}
        with monkeypatch.context() as patch:
            patch.setattr(benchmark, "sha256", lambda *paths, of=changed: hashed(*(of.get(p, p) for p in paths)))
            assert benchmark.fingerprint("sr-x3", "srcnn-915-x3") != before["srcnn-915-x3"]
    monkeypatch.setattr(baselines, "find", lambda *_: baselines.Classical("unsharp", {"radius": 9, "amount": 0.1}, 3))
    assert benchmark.fingerprint("sr-x3", "unsharp") != before["unsharp"]


def test_a_spot_check_keeps_a_table_that_still_holds(bench):
    measured(bench)
    before = (bench / TABLE).read_bytes()
    rewrite(bench, {"fingerprint": "of other code"})
    assert measured(bench, spot_check=True) == measured(bench) == []  # it counts as current
    assert (bench / TABLE).read_bytes() == before
    assert noted(bench)[f"{TASK}/mine/one-x2"]["spot_checked"]["image"] == "001.png"


@pytest.mark.parametrize("spoil", ["a score", "a row is missing", "other weights"])
def test_a_spot_check_vouches_for_whole_tables_of_the_same_weights_and_scores_alone(bench, spoil):
    measured(bench)
    table, again = pd.read_csv(bench / TABLE), ["one-x2"]
    first, last = (table.index[(table["method"] == "one-x2") & (table["image"] == f"00{n}.png")] for n in (0, 1))
    rewrite(bench, {"fingerprint": "of other code"})
    if spoil == "a score":
        table.loc[last, "psnr"] += 0.001
    elif spoil == "a row is missing":
        table = table.drop(first)
    else:
        rewrite(bench, {"weights": "x"})
        again = METHODS
    table.to_csv(bench / TABLE, index=False)
    assert measured(bench, spot_check=True) == again
    assert "spot_checked" not in noted(bench)[f"{TASK}/mine/one-x2"]


def test_provenance_says_when_and_from_what(bench):
    measured(bench)
    assert set(noted(bench)) == {f"{TASK}/mine/{name}" for name in METHODS}
    one = noted(bench)[f"{TASK}/mine/one-x2"]
    assert set(one) == {"fingerprint", "weights", "date", "commit", "machine"}
    assert one["weights"] == zoo.card("one-x2")["sha256"] and "PyTorch" in one["machine"]


def test_what_cannot_be_measured_is_said(bench, capsys):
    measured(bench)
    (bench.parent / "mine" / "bad.png").write_bytes(b"nothing")
    rewrite(bench, {"fingerprint": "of other code"})
    with pytest.raises(CourseError, match=r"bad\.png"):
        measured(bench)
    assert len(pd.read_csv(bench / TABLE)) == 6
    (bench.parent / "mine").rename(bench.parent / "elsewhere")
    assert main(["benchmark", TASK, "--out", str(bench)]) == 0
    assert "skipped" in capsys.readouterr().out


@pytest.mark.slow
def test_costs_are_of_each_method(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "methods_for", lambda task: ["bicubic", "edsr-x3"])
    picture = images.save(tmp_path / "p.png", photograph(192, 192))
    found = benchmark.costs("sr-x3", picture, repeats=2).set_index("method")
    assert found.loc["bicubic", "parameters"] == 0 and pd.isna(found.loc["bicubic", "multiply-adds"])
    assert found.loc["edsr-x3", "multiply-adds"] == models.multiply_adds(zoo.load("edsr-x3"))
    assert (found["seconds per megapixel"] > 0).all()
    if pd.isna(found.loc["edsr-x3", "peak MiB"]):
        pytest.skip("this system does not tell of memory")
    assert 2 < found.loc["edsr-x3", "peak MiB"] < 3000


def test_every_table_of_the_repository_is_where_its_provenance_says():
    about, tables = noted(benchmark.RESULTS), benchmark.tables()
    assert {("codec", "Kodak24"), ("jpeg-color-q10", "Kodak24")} <= set(tables)  # which is measured where it is
    for task, name in tables:
        if name in benchmark.EXTRA:
            assert not (benchmark.RESULTS / f"{task}-{name}.csv").exists(), "say where this table comes from"
            continue
        for method in evaluation.methods_for(task):
            found = about[f"{task}/{name}/{method}"]
            assert found["fingerprint"] == benchmark.fingerprint(task, method), (task, name, method)


def test_the_benchmark_of_speed_can_be_called():
    program = Path(__file__).with_name("benchmark.py")
    done = subprocess.run([sys.executable, program, "--help"], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "training" in done.stdout, done.stderr
