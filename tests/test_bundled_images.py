"""The bundled pictures are the ones that data/README.md lists: same files, checksums, sizes and modes.

A picture that is exchanged or stored anew would shift every figure of the course, so nobody should do it unnoticed.
"""

import hashlib
import re

import pytest
from PIL import Image

from helpers.service.files import DATA

FOLDER = DATA / "images"
ROW = re.compile(
    r"^\| `(?P<file>\w+\.png)` \| (?P<size>\d+×\d+) \| (?P<mode>\w+) \|.*\| `(?P<sha256>[0-9a-f]{64})` \|$"
)


def table() -> dict[str, dict[str, str]]:
    """The rows of the table in data/README.md, by file name."""
    lines = (DATA / "README.md").read_text(encoding="utf-8").splitlines()
    return {row["file"]: row.groupdict() for row in map(ROW.match, lines) if row}


def test_the_table_and_the_folder_name_the_same_files():
    assert sorted(table()) == sorted(path.name for path in FOLDER.iterdir())


def test_there_are_at_least_eight():
    assert len(table()) >= 8


@pytest.mark.parametrize("row", table().values(), ids=table())
def test_the_checksum_is_the_listed_one(row):
    assert hashlib.sha256((FOLDER / row["file"]).read_bytes()).hexdigest() == row["sha256"]


@pytest.mark.parametrize("row", table().values(), ids=table())
def test_it_decodes_to_the_listed_size_and_mode(row):
    with Image.open(FOLDER / row["file"]) as picture:
        picture.load()
        assert (f"{picture.width}×{picture.height}", picture.mode) == (row["size"], row["mode"])


def test_every_row_names_an_author_and_a_licence():
    lines = (DATA / "README.md").read_text(encoding="utf-8").splitlines()
    for line in filter(ROW.match, lines):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 9 and all(cells), line
