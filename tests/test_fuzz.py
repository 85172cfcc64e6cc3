"""Every loader on nasty files and on a share of what `make fuzz` tries; and that the fuzzer sees each kind of fault."""

import sys

import pytest
from PIL import features

if sys.platform != "linux":
    pytest.skip("limits the memory of a process as Linux does", allow_module_level=True)
if not features.check("avif"):
    pytest.skip("its good files want a Pillow that reads all of them, AVIF too", allow_module_level=True)

import fuzz
from fuzz_loaders import LOADERS

BAD = """
import os
from fuzz_loaders import Loader

def fail(said):
    raise ValueError(said)

def loader(load):
    act = lambda folder: (folder / "x").read_bytes() == b"good" or load(folder)
    return Loader("", lambda: [{"x": b"good"}], act, (lambda case, *_: {"x": b"bad"},), errors=(ValueError,))

LOADERS = {name: loader(load) for name, load in {
    "clean": lambda folder: fail(f"{folder / 'x'}: no good."),
    "foreign": lambda folder: {}["x"],
    "two lines": lambda folder: fail(f"{folder / 'x'}: no\\ngood."),
    "no name": lambda folder: fail("no good."),
    "memory": lambda folder: bytearray(3 << 30),
    "writes": lambda folder: (folder.parent / "out").write_bytes(b""),
    "reads": lambda folder: open("/var/nothing"),
    "begins": lambda folder: os.system("true"),
    "dies": lambda folder: os.abort(),
    "hangs": lambda folder: [None for _ in iter(int, 1)],
}.items()}
"""
SAYS = {
    "dies": "exit status -6", "hangs": "exit status -27", "foreign": "KeyError", "two lines": "not one plain line",
    "no name": "names no file", "memory": "MemoryError", "writes": "not its business: open",
    "reads": "not its business: open", "begins": "not its business: os.system",
}  # fmt: skip


@pytest.fixture(scope="module")
def tried():
    return dict(fuzz.run(list(LOADERS), share=200))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_a_file_is_read_right_or_refused_in_a_line(tried, name):
    found = tried[name]
    failed = [f"{one['case']}: {one['outcome']}: {one['said']}" for one in found if one["outcome"] in fuzz.FAILED]
    assert not failed, "\n".join(failed)
    assert {one["outcome"] for one in found} == {"accepted", "refused"} and len(found) >= LOADERS[name].cases // 200


@pytest.mark.slow
def test_the_fuzzer_sees_each_kind_of_fault(tmp_path, monkeypatch):
    (tmp_path / "bad_loaders.py").write_text(BAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fuzz, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(fuzz, "LIMIT", 1)
    found = dict(fuzz.run(["clean", *SAYS], 1, module="bad_loaders"))
    assert [one["outcome"] for one in found.pop("clean")] == ["accepted", "refused"]
    for name, (good, bad) in found.items():
        assert good["outcome"] == "accepted" and SAYS[name] in bad["said"], name
        assert bad["outcome"] == {"dies": "crashed", "hangs": "hung"}.get(name, "wrong"), name
        assert (tmp_path / "kept" / name / "1" / "x").read_bytes() == b"bad"


def test_the_same_seed_makes_the_same_cases():
    first, again, other = (list(fuzz.cases(LOADERS["png"], 30, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 30 + len(LOADERS["png"].good()) + len(LOADERS["png"].nasty())


def test_the_page_has_a_clean_row_of_each_loader():
    page = fuzz.PAGE.read_text(encoding="utf-8")
    lines = [line for line in page.split(fuzz.BEGIN)[1].split(fuzz.END)[0].splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in lines[1:]]
    assert [row[0] for row in rows] == [loader.about for loader in LOADERS.values()]
    for row in rows:
        tried, accepted, refused, failed = (int(cell.replace(",", "")) for cell in row[1:5])
        assert tried >= 1000 and failed == 0 and accepted + refused == tried
