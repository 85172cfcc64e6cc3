import json

import pandas as pd
import pytest
import torch
from builders import photograph, pictures, recipe, shipped

from helpers import CourseError, datasets, evaluation, images, models, recipes, zoo
from helpers.__main__ import main
from helpers.publishing import benchmark

TASK = "sr-x2"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Two networks, a set of two pictures under the name of each set, and a folder for tables."""
    monkeypatch.setattr(zoo, "WEIGHTS", shipped(tmp_path / "weights", recipe("one-x2"), recipe("two-x2")))
    files = images.listing(pictures(tmp_path / "set", count=2))
    monkeypatch.setattr(datasets, "folder", lambda name: files)
    monkeypatch.setattr(evaluation.baselines, "for_task", lambda task: [])
    monkeypatch.setattr(benchmark, "tables", lambda: [(TASK, "mine")])
    return tmp_path / "results"


def measured(folder, **options) -> list[str]:
    return [method for _, _, method, _ in benchmark.run(folder=folder, **options)]


def test_what_is_measured_is_not_measured_again(bench):
    assert measured(bench) == ["bicubic", "one-x2", "two-x2"]
    before = (bench / f"{TASK}-mine.csv").read_bytes()
    assert measured(bench) == []
    assert (bench / f"{TASK}-mine.csv").read_bytes() == before
    once = pd.read_csv(bench / f"{TASK}-mine.csv").drop(columns="seconds")
    assert measured(bench, again=True) == ["bicubic", "one-x2", "two-x2"]
    assert pd.read_csv(bench / f"{TASK}-mine.csv").drop(columns="seconds").equals(once)


def test_a_benchmark_that_was_stopped_goes_on(bench):
    first = next(benchmark.run(folder=bench))
    assert first[2] == "bicubic"
    assert measured(bench) == ["one-x2", "two-x2"]
    table = pd.read_csv(bench / f"{TASK}-mine.csv")
    assert list(table["method"]) == ["bicubic", "one-x2", "two-x2"] * 2
    assert list(table["image"]) == ["000.png"] * 3 + ["001.png"] * 3


def test_other_weights_are_measured_again_and_theirs_alone(bench):
    measured(bench)
    torch.manual_seed(5)
    recipes.write(recipe("two-x2"), models.build(**recipe("two-x2").network), zoo.WEIGHTS, steps=1, seconds=1.0)
    assert measured(bench) == ["two-x2"]


CODE = """import os
def double(x):
    return 2 * x  # a comment
class Kept:
    name = "# no comment"
"""
WORDS = """\"\"\"A module.\"\"\"

import os

def double(x):
    \"\"\"Twice x,

    in more lines than one.\"\"\"
    # why
    return 2 * x
class Kept:
    \"\"\"A class.\"\"\"
    name = "# no comment"
"""


def test_words_do_not_count_and_code_does():
    assert benchmark.without_words(CODE) == benchmark.without_words(WORDS)
    for old, new in (("2 * x", "3 * x"), ("# no comment", "# none"), ("    return", "        return")):
        assert benchmark.without_words(CODE) != benchmark.without_words(CODE.replace(old, new).replace("\n\n", "\n"))


def test_other_code_is_measured_again(bench, monkeypatch):
    measured(bench)
    monkeypatch.setattr(benchmark, "_code", lambda module: f"other {module}")
    assert measured(bench) == ["bicubic", "one-x2", "two-x2"]


def test_a_spot_check_keeps_a_table_that_still_holds_and_no_other(bench, monkeypatch):
    measured(bench)
    path = bench / f"{TASK}-mine.csv"
    before = path.read_bytes()
    monkeypatch.setattr(benchmark, "_code", lambda module: f"other {module}")
    assert measured(bench, spot_check=True) == []
    assert path.read_bytes() == before
    about = json.loads((bench / "provenance.json").read_text())[f"{TASK}/mine/one-x2"]
    assert about["spot_checked"]["image"] == "001.png"
    assert measured(bench) == []  # it counts as current
    table = pd.read_csv(path)
    table.loc[(table["method"] == "one-x2") & (table["image"] == "001.png"), "psnr"] += 0.001
    table.to_csv(path, index=False)
    monkeypatch.setattr(benchmark, "_code", lambda module: f"yet other {module}")
    assert measured(bench, spot_check=True) == ["one-x2"]
    assert "spot_checked" not in json.loads((bench / "provenance.json").read_text())[f"{TASK}/mine/one-x2"]


@pytest.mark.parametrize("spoil", ["a row is missing", "other weights"])
def test_a_spot_check_vouches_for_whole_tables_of_the_same_weights_alone(bench, monkeypatch, spoil):
    measured(bench)
    monkeypatch.setattr(benchmark, "_code", lambda module: f"other {module}")
    path = bench / f"{TASK}-mine.csv"
    if spoil == "a row is missing":
        table = pd.read_csv(path)
        table[(table["method"] != "one-x2") | (table["image"] != "000.png")].to_csv(path, index=False)
    else:
        about = json.loads((bench / "provenance.json").read_text())
        about[f"{TASK}/mine/one-x2"]["weights"] = "of another day"
        (bench / "provenance.json").write_text(json.dumps(about))
    assert measured(bench, spot_check=True) == ["one-x2"]


def test_the_code_of_a_network_is_that_of_its_base_classes_too():
    assert {"models.srcnn", "models.base"} <= set(benchmark._modules_of(models.build("srcnn", scale=2)))
    sensor = models.build("rescsnet-any", width=4, stages=1, blocks=1)  # no Restorer, but uses what is in the same file
    assert {"models.rescsnet", "models.base"} <= set(benchmark._modules_of(sensor))


def test_the_strength_of_a_classical_method_counts(monkeypatch):
    before = benchmark.fingerprint("sr-x3", "unsharp")
    assert before == benchmark.fingerprint("sr-x3", "unsharp") != benchmark.fingerprint("sr-x3", "wavelet")
    other = evaluation.baselines.Classical("unsharp", {"radius": 9, "amount": 0.1}, 3)
    monkeypatch.setattr(evaluation.baselines, "find", lambda *_: other)
    assert benchmark.fingerprint("sr-x3", "unsharp") != before


def test_methods_that_are_gone_leave_the_table(bench):
    measured(bench)
    (zoo.WEIGHTS / "one-x2.json").unlink()
    measured(bench, again=True)
    assert set(pd.read_csv(bench / f"{TASK}-mine.csv")["method"]) == {"bicubic", "two-x2"}


def test_provenance_says_when_and_from_what(bench):
    measured(bench)
    about = json.loads((bench / "provenance.json").read_text())
    assert set(about) == {f"{TASK}/mine/{name}" for name in ("bicubic", "one-x2", "two-x2")}
    one = about[f"{TASK}/mine/one-x2"]
    assert set(one) == {"fingerprint", "weights", "date", "commit", "machine"}
    assert one["weights"] == zoo.card("one-x2")["sha256"]
    assert "PyTorch" in one["machine"]


def test_a_picture_that_cannot_be_measured_stops_and_keeps_what_is_there(bench, monkeypatch, tmp_path):
    measured(bench)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    monkeypatch.setattr(datasets, "folder", lambda name: [bad])
    with pytest.raises(CourseError, match=r"bad\.png"):
        measured(bench, again=True)
    assert len(pd.read_csv(bench / f"{TASK}-mine.csv")) == 6


def test_sets_that_are_not_there_are_said_and_skipped(bench, monkeypatch, capsys):
    def folder(name):
        raise CourseError("not there")

    monkeypatch.setattr(datasets, "folder", folder)
    assert main(["benchmark", TASK, "--out", str(bench)]) == 0
    assert "skipped" in capsys.readouterr().out


def test_the_command_names_the_tables_that_there_are(capsys):
    assert main(["benchmark", "sr-x9"]) == 2
    assert "'sr-x9'" in capsys.readouterr().err


def test_costs_are_of_each_method(bench, tmp_path, monkeypatch):
    picture = images.save(tmp_path / "p.png", photograph(64, 64))
    monkeypatch.setattr(benchmark, "_peak", lambda *_: 1.0)  # a process of its own would not see the fixture
    found = benchmark.costs(TASK, picture, repeats=2).set_index("method")
    assert found.loc["bicubic", "parameters"] == 0 and pd.isna(found.loc["bicubic", "multiply-adds"])
    assert found.loc["one-x2", "multiply-adds"] == models.multiply_adds(zoo.load("one-x2"))
    assert (found["seconds per megapixel"] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("task", "name"), [("sr-x3", "edsr-x3"), ("codec", "integer-ae")])
def test_the_peak_of_memory_is_a_number_of_a_process_of_its_own(task, name):
    peak = benchmark._peak(task, name, datasets.bundled("flower"))
    if peak is None:
        pytest.skip("this system does not tell")
    assert 10 < peak < 3000


def test_every_table_of_the_repository_is_where_its_provenance_says():
    about = json.loads((benchmark.RESULTS / "provenance.json").read_text())
    for task, name in benchmark.tables():
        for method in evaluation.methods_for(task):
            found = about[f"{task}/{name}/{method}"]
            assert found["fingerprint"] == benchmark.fingerprint(task, method), (task, name, method)
