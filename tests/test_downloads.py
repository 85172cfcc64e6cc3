import hashlib
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest
from builders import pictures
from web import Server

from helpers import CourseError, datasets
from helpers import __main__ as command
from helpers.service import downloads, files

WHOLE = ["test/B/000.png", *(f"train/A/00{index}.png" for index in (0, 1, 2, 4, 5))]  # of `boxed`: 3 is left out


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder of image sets."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def server(request, data, tmp_path, monkeypatch):
    """A server and its catalogue: a set in an archive of 3 MB, `boxed`, and one of single pictures, `single`."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(time, "sleep", lambda _, sleep=time.sleep: sleep(0.001))  # pooch waits between attempts
    source, top = pictures(tmp_path / "source", 6), tmp_path / "inside" / "top"
    shutil.copytree(source, top / "a")
    pictures(top / "b", 1)
    (top / "c").write_bytes(random.Random(0).randbytes(3 << 20))
    archive = shutil.make_archive(str(tmp_path / "x"), getattr(request, "param", "zip"), top.parent, "top")
    body, singles = Path(archive).read_bytes(), {path.name: path.read_bytes() for path in sorted(source.iterdir())}
    with Server() as server:
        server.files = {"/x": body} | {f"/single/{name}": picture for name, picture in singles.items()}
        about = {"page": "https://example.org", "licence": "free", "citation": "c", "megabytes": 1}
        boxed = {"train/A": {"inside": "top/a", "leave_out": ["003.png"]}, "test/B": {"inside": "top/b"}}
        about["groups"] = ["standard"]
        digests = {name: sha256(picture) for name, picture in singles.items()}
        single = about | {"folders": {"test/C": {"url": server.url("/single/{}"), "files": digests}}}
        boxed = about | {"url": server.url("/x"), "sha256": sha256(body), "folders": boxed}
        entries = {"boxed": boxed, "single": single}
        monkeypatch.setattr(downloads, "catalog", lambda: entries)
        yield server


def get(server: Server, name: str = "boxed") -> list[tuple[str, str]]:
    """Download a set; the addresses and ranges that the server was asked for."""
    server.log.clear()
    downloads.download(name, progress=False)
    return list(server.log)


def refused(*hints: str, name: str = "boxed") -> None:
    """Downloading a set fails with one sentence that holds the hints."""
    with pytest.raises(CourseError) as why:
        downloads.download(name, progress=False)
    assert "\n" not in str(why.value) and all(hint in str(why.value) for hint in hints)


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_of_other_bytes_or_none_nothing_is_kept(server, data):
    entry = downloads.catalog()["boxed"]
    entry["sha256"], right = sha256(b"x"), entry["sha256"]
    refused("not the file that was published")
    body = server.files.pop("/x")
    refused("404", "); run it again.")
    assert tree(data) == []
    server.files["/x"], entry["sha256"] = body, right
    (data / "x").write_bytes(b"old")
    assert len(get(server)) == 1 and tree(data) == WHOLE


def test_the_next_call_goes_on(server, data):
    half = len(server.files["/x"]) // 2
    server.plan["/x"] = [{"after": half}, {"status": 503}, {"after": 1 << 19}]
    first, second, third, fourth = (asked for _, asked in get(server))
    assert first == "bytes=0-" and second == third and tree(data) == WHOLE
    assert half - (1 << 18) < int(second[6:-1]) < int(fourth[6:-1])
    shutil.rmtree(data)
    server.plan["/x"] = [{"after": half}] + [{"status": 503}] * downloads.ATTEMPTS
    refused("503", "run it again, it goes on where it ended")
    assert tree(data) == ["x.part"]
    [(_, asked)] = get(server)
    assert int(asked[6:-1]) > 0 and tree(data) == WHOLE


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("part", ["half", "all", "another"])
def test_what_a_part_holds_is_found_out(server, data, part, ranges):
    """A server without ranges sends all of it anew."""
    data.mkdir()
    body = server.files["/x"]
    (data / "x.part").write_bytes({"half": body[: len(body) // 2], "all": body, "another": b"another file"}[part])
    server.plan["/x"] = [{"no range": not ranges}]
    assert len(get(server)) == (2 if part == "another" and ranges else 1) and tree(data) == WHOLE


@pytest.mark.parametrize("server", ["zip", "gztar"], indirect=True)
def test_a_set_in_an_archive(server, data, tmp_path):
    with pytest.raises(CourseError, match="python -m helpers download boxed gets it"):
        datasets.folder("B")
    found = downloads.download("boxed", progress=False)
    assert [path.name for path in found] == ["A", "B"] and len(datasets.folder("A")) == 5 and tree(data) == WHOLE
    assert downloads.download("boxed", progress=False) == found and len(server.log) == 1
    pictures(tmp_path / "data2" / "A", 1)  # a folder that is there is left alone
    downloads.download("boxed", tmp_path / "data2", progress=False)
    assert tree(tmp_path / "data2") == ["A/000.png", "test/B/000.png"]
    shutil.rmtree(data)
    downloads.catalog()["boxed"]["folders"]["test/B"]["inside"] = "top/d"
    refused("cannot be unpacked")
    assert not (data / "test" / "B").exists()


def test_a_set_of_single_pictures_is_gone_on_from(server):
    lost = server.files.pop("/single/004.png")
    refused("404", "004.png", name="single")
    assert downloads.present("single") == {}
    server.files["/single/004.png"] = lost
    assert [asked for asked, _ in get(server, "single")] == ["/single/004.png", "/single/005.png"]
    assert len(datasets.folder("C")) == 6


def test_the_command_tells_and_downloads_once(server, capsys, tmp_path, monkeypatch):
    def told(*arguments: str, code: int = 0) -> str:
        assert command.main(["download", *arguments]) == code
        said = capsys.readouterr()
        assert code or not said.err
        return said.err if code else said.out

    standard = ("standard", "--out", str(tmp_path / "else"), "--quiet")
    first, again = told(*standard), told(*standard)
    assert first.count("please cite: c") == again.count("(is there)") == 2
    assert "(is there)" not in first and "please cite" not in again
    assert first.count(" pictures\n") == again.count(" pictures\n") == 3
    assert len(server.log) == 7 and len(tree(tmp_path / "else")) == 12
    get(server, "single")
    boxed, single = told().splitlines()
    assert boxed.split() == ["boxed", "1", "MB", "free", "[standard]"] and single.endswith("(is there)")
    assert told("--list").splitlines() == [boxed, single] and told("single", "--list") == f"{single}\n"
    with monkeypatch.context() as closed:
        closed.setattr(os, "access", lambda *_: False)
        assert f"the folder {tmp_path} may not be written to" in told("boxed", "--out", str(tmp_path / "a/b"), code=2)
        assert "(is there)" in told("single")
    server.plan["/x"] = [{"status": 500}] * 9
    in_a_file, said = ("boxed", "--out", str(tmp_path / "source" / "000.png")), "000.png: that is a file; name a folder"
    for wrong, hint in ((("boxed",), "500"), (in_a_file, said), (("x",), "there are standard, training, boxed")):
        [line] = told(*wrong, "--quiet", code=2).splitlines()
        assert line.startswith("error: ") and hint in line


# ------------------------------------------------------------------------------------ the real catalogue

REAL = downloads.catalog()


@pytest.mark.parametrize("name", REAL)
def test_each_entry_is_complete(name):
    entry, folders = REAL[name], REAL[name]["folders"].items()
    assert all(len(entry[key]) > 2 for key in ("title", "licence", "citation", "not_tried"))
    assert set(entry["groups"]) <= {"standard", "training"}
    assert all(re.fullmatch(r"(train|validation|test)/\w+", folder) for folder, _ in folders)
    singles = [about for _, about in folders if "files" in about]
    assert all(len({Path(file).name for file in about["files"]}) == len(about["files"]) for about in singles)
    assert len(singles) == len(folders) or "url" in entry
    addresses = [entry["page"], entry.get("url", "https://"), *(about["url"] for about in singles)]
    assert all(address.startswith("https://") for address in addresses)
    digests = [digest for about in singles for digest in about["files"].values()]
    digests += [entry["sha256"]] if "url" in entry else []
    assert digests and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


def test_each_set_of_a_recipe_and_of_a_table_can_be_had():
    from helpers import recipes
    from helpers.publishing import benchmark

    every = [Path(folder).name for entry in REAL.values() for folder in entry["folders"]]
    assert len(set(every)) == len(every)  # none is promised twice
    in_group = {
        group: {Path(folder).name for entry in REAL.values() if group in entry["groups"] for folder in entry["folders"]}
        for group in ("standard", "training")
    }
    assert {name for recipe in recipes.RECIPES.values() for name in recipe.sets} <= in_group["training"]
    assert {name for _, name in benchmark.tables()} - {"bundled", *benchmark.EXTRA} <= in_group["standard"]
    assert set(benchmark.EXTRA) <= set(every)


def test_the_catalogue_is_of_the_files_that_were_measured(course_data):
    """The same bytes, or the same number of pictures where the folder holds another format of them."""
    for name in ("T91", "Set5", "Set14", "Classic5", "LIVE1", "Set11", "BSD68_gray", "ResCSNet_demo", "CID22"):
        ((folder, about),) = REAL[name]["folders"].items()
        there = {path.name: path for path in datasets.folder(course_data / folder)}
        assert len(there) == len(about["files"])
        assert all(files.sha256(there[file]) == about["files"][file] for file in there.keys() & about["files"].keys())


def test_what_the_literature_tests_on_is_not_trained_on(course_data):
    """BSD100 lies under test/, and copies of test pictures are left out, as in the sets that the course trains on."""
    folders = REAL["BSDS500"]["folders"]
    assert "test/BSD100" in folders
    for folder, about in folders.items():
        names = {path.name for path in datasets.folder(course_data / folder)}
        assert len(names) == about["count"] and not names & set(about.get("leave_out", ()))
