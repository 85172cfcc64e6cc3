import hashlib
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

BODY = random.Random(0).randbytes(3 << 20)
HALF = len(BODY) // 2


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(time, "sleep", lambda _, sleep=time.sleep: sleep(0.001))  # pooch waits between attempts
    with Server() as server:
        server.files = {"/file.bin": BODY}
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "file.bin"


def fetch(server: Server, path: Path, digest: str = sha256(BODY)) -> list[str | None]:
    """Fetch one file; the ranges that the server was asked for."""
    server.log.clear()
    downloads.fetch(server.url("/file.bin"), path, digest, progress=False)
    return [asked for _, asked in server.log]


def left(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.glob("*"))


def refused(server: Server, path: Path, *hints: str, **options) -> None:
    """Fetching fails with one sentence that holds the hints, and leaves no file of that name."""
    with pytest.raises(CourseError) as why:
        fetch(server, path, **options)
    assert "\n" not in str(why.value) and all(hint in str(why.value) for hint in hints), why.value
    assert not path.exists()


# ------------------------------------------------------------------------------------------------ one file


def test_other_bytes_are_not_kept(server, path):
    refused(server, path, "not the file that was published", digest=sha256(b"x"))
    assert left(path) == []
    fetch(server, path)
    assert path.read_bytes() == BODY and left(path) == ["file.bin"]
    assert fetch(server, path) == []
    path.write_bytes(b"old")
    fetch(server, path)
    assert path.read_bytes() == BODY


def test_the_next_call_goes_on(server, path):
    server.plan["/file.bin"] = [{"after": HALF}, {"status": 503}, {"after": 1 << 19}]
    first, second, third, fourth = fetch(server, path)
    assert path.read_bytes() == BODY and first == "bytes=0-" and second == third
    assert HALF - (1 << 18) < int(second[6:-1]) < int(fourth[6:-1])
    path.unlink()
    server.plan["/file.bin"] = [{"after": HALF}] + [{"status": 503}] * downloads.ATTEMPTS
    refused(server, path, "503", "run it again, it goes on where it ended")
    assert left(path) == ["file.bin.part"]
    (asked,) = fetch(server, path)
    assert int(asked[6:-1]) > 0 and path.read_bytes() == BODY and left(path) == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("part", [BODY[:HALF], BODY, b"another file"], ids=len)
def test_what_a_part_holds_is_found_out(server, path, part, ranges):
    """A server without ranges sends all of it anew."""
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(part)
    server.plan["/file.bin"] = [{"no range": not ranges}]
    fetch(server, path)
    assert path.read_bytes() == BODY and left(path) == ["file.bin"]


def test_what_cannot_be_had_or_kept_is_said(server, path, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    refused(server, tmp_path / "file" / "x.bin", "the download failed", "x.bin")
    server.files.clear()
    refused(server, path, "404", "run it again")
    assert left(path) == []


# -------------------------------------------------------------------------------------------------- sets


@pytest.fixture
def shop(request, server, tmp_path, monkeypatch):
    """A catalogue of a set in an archive, `boxed`, and one of single pictures, `single`; image sets in data/."""
    source = pictures(tmp_path / "source", 6)
    files = {path.name: path.read_bytes() for path in sorted(source.iterdir())}
    shutil.copytree(source, tmp_path / "inside" / "top" / "a")
    pictures(tmp_path / "inside" / "top" / "b", 1)
    kind = getattr(request, "param", "zip")
    body = Path(shutil.make_archive(str(tmp_path / "x"), kind, tmp_path / "inside", "top")).read_bytes()
    server.files = {"/x": body} | {f"/single/{name}": picture for name, picture in files.items()}
    about = {"page": "https://example.org", "licence": "free", "citation": "c", "megabytes": 1, "groups": ["standard"]}
    boxed = {"train/A": {"inside": "top/a", "leave_out": ["003.png"]}, "test/B": {"inside": "top/b"}}
    single = {"url": server.url("/single/{}"), "files": {name: sha256(picture) for name, picture in files.items()}}
    entries = {
        "boxed": about | {"url": server.url("/x"), "sha256": sha256(body), "folders": boxed},
        "single": about | {"folders": {"test/C": single}},
    }
    monkeypatch.setattr(downloads, "catalog", lambda: entries)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    return entries


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("shop", ["zip", "gztar"], indirect=True)
def test_a_set_in_an_archive(server, shop, tmp_path):
    with pytest.raises(CourseError, match="python -m helpers download boxed gets it"):
        datasets.folder("B")
    found = downloads.download("boxed", progress=False)
    assert [path.name for path in found] == ["A", "B"] and len(datasets.folder("A")) == 5  # one is left out
    assert tree(tmp_path / "data") == ["test/B/000.png", *(f"train/A/00{i}.png" for i in (0, 1, 2, 4, 5))]
    assert downloads.download("boxed", progress=False) == found and len(server.log) == 1
    pictures(tmp_path / "data2" / "A", 1)  # a folder that is there is left alone
    downloads.download("boxed", tmp_path / "data2", progress=False)
    assert tree(tmp_path / "data2") == ["A/000.png", "test/B/000.png"]
    shop["boxed"]["folders"]["test/B"]["inside"] = "top/d"
    with pytest.raises(CourseError, match="cannot be unpacked"):
        downloads.download("boxed", tmp_path / "data3", progress=False)
    assert not (tmp_path / "data3" / "test" / "B").exists()


def test_a_set_of_single_pictures_is_gone_on_from(server, shop):
    lost = server.files.pop("/single/004.png")
    with pytest.raises(CourseError, match=r"404.*004\.png|004\.png.*404"):
        downloads.download("single", progress=False)
    assert downloads.present("single") == {}
    server.files["/single/004.png"] = lost
    server.log.clear()
    downloads.download("single", progress=False)
    assert [asked for asked, _ in server.log] == ["/single/004.png", "/single/005.png"]
    assert len(datasets.folder("C")) == 6


def test_the_command_tells_and_downloads_once(server, shop, capsys, tmp_path):
    def told(*arguments: str, code: int = 0) -> str:
        assert command.main(["download", *arguments]) == code
        said = capsys.readouterr()
        assert code or not said.err
        return said.err if code else said.out

    get = ("standard", "--out", str(tmp_path / "else"), "--quiet")
    first, again = told(*get), told(*get)
    assert first.count("please cite: c") == again.count("(is there)") == 2
    assert "(is there)" not in first and "please cite" not in again
    assert first.count(" pictures\n") == again.count(" pictures\n") == 3
    assert len(server.log) == 7 and len(tree(tmp_path / "else")) == 12
    downloads.download("single", progress=False)
    boxed, single = told().splitlines()
    assert boxed.split() == ["boxed", "1", "MB", "free", "[standard]"] and single.endswith("(is there)")
    assert told("--list").splitlines() == [boxed, single] and told("single", "--list") == f"{single}\n"
    server.plan["/x"] = [{"status": 500}] * 9
    in_a_file = ("boxed", "--out", str(tmp_path / "source" / "000.png"))
    for wrong, hint in ((("boxed",), "500"), (in_a_file, "000.png"), (("x",), "there are standard, training, boxed")):
        [line] = told(*wrong, "--quiet", code=2).splitlines()
        assert line.startswith("error: ") and hint in line


# ------------------------------------------------------------------------------------ the real catalogue

REAL = downloads.catalog()


@pytest.mark.parametrize("name", REAL)
def test_each_entry_is_complete(name):
    entry = REAL[name]
    assert all(len(entry[key]) > 2 for key in ("title", "licence", "citation", "not_tried"))
    assert set(entry["groups"]) <= {"standard", "training"}
    digests = [entry[key] for key in ("sha256",) if key in entry]
    addresses = [entry[key] for key in ("page", "url") if key in entry]
    for folder, about in entry["folders"].items():
        assert re.fullmatch(r"(train|validation|test)/\w+", folder)
        if "files" in about:
            digests += about["files"].values()
            addresses.append(about["url"])
            assert len({Path(file).name for file in about["files"]}) == len(about["files"])
    assert all(address.startswith("https://") for address in addresses)
    assert digests and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


def test_each_set_of_a_recipe_and_of_a_table_can_be_had():
    from helpers import recipes
    from helpers.publishing import benchmark

    folders = [Path(folder).name for entry in REAL.values() for folder in entry["folders"]]
    assert len(set(folders)) == len(folders)  # none is promised twice
    there = {group: set() for group in ("standard", "training")}
    for entry in REAL.values():
        for group in entry["groups"]:
            there[group] |= {Path(folder).name for folder in entry["folders"]}
    assert {name for recipe in recipes.RECIPES.values() for name in recipe.sets} <= there["training"]
    assert {name for _, name in benchmark.tables()} - {"bundled", *benchmark.EXTRA} <= there["standard"]
    assert set(benchmark.EXTRA) <= set(folders)


def test_the_catalogue_is_of_the_files_that_were_measured(course_data):
    """The same bytes, or the same number of pictures where the folder holds another format of them."""
    for name in ("T91", "Set5", "Set14", "Classic5", "LIVE1", "Set11", "BSD68_gray", "ResCSNet_demo", "CID22"):
        ((folder, about),) = REAL[name]["folders"].items()
        there = {path.name: path for path in datasets.folder(course_data / folder)}
        assert len(there) == len(about["files"])
        for file, digest in about["files"].items():
            if file in there:
                assert files.sha256(there[file]) == digest


def test_what_the_literature_tests_on_is_not_trained_on(course_data):
    """BSD100 lies under test/, and copies of test pictures are left out, as in the sets that the course trains on."""
    folders = REAL["BSDS500"]["folders"]
    assert "test/BSD100" in folders
    for folder, about in folders.items():
        names = {path.name for path in datasets.folder(course_data / folder)}
        assert len(names) == about["count"]
        assert not names & set(about.get("leave_out", ()))
