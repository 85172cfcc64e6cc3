"""The image sets from nothing: an empty folder, a fresh clone, the public addresses on a server here (make test-sets).

    python tests/sets.py

Wants the sets themselves in COURSE_DATA; this server has them by the addresses of the catalogue, and the clone's
catalogue names it. Where the folder holds other bytes than the public ones (an archive's pictures without the archive,
lossless WebP for PNG) the clone's catalogue has the sums of what is served. An archive breaks off after its first
megabyte: the download must go on from there.

Then, with nothing done by hand: download standard and training, 20 steps of a recipe, and one table's spot check.
Exit code 0 when all went well.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from web import Server

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("test", "train", "validation", "train_excluded")
COMMANDS = (
    "download standard",
    "download training",
    "train edsr-x2 --steps 20 --quiet",
    "benchmark sr-x2 --spot-check",
)


def main() -> int:
    source = Path(os.environ.get("COURSE_DATA", "")).resolve()
    if not (source / "test").is_dir():
        print("COURSE_DATA names no folder of image sets; this wants them to serve them.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="sets-") as folder, Server() as server:
        course, empty = Path(folder) / "course", Path(folder) / "empty"
        empty.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(course)], check=True)
        stand_in(server, source, course / "data" / "catalog")
        environment = os.environ | {"COURSE_DATA": str(empty), "no_proxy": "*"}
        for command in COMMANDS:
            begun, asked = time.perf_counter(), len(server.log)
            code = subprocess.run([sys.executable, "-m", "helpers", *command.split()], cwd=course, env=environment)
            seconds, asked = time.perf_counter() - begun, len(server.log) - asked
            print(f"{command}: exit code {code.returncode}, {seconds:.0f} s, {asked} requests", flush=True)
            if code.returncode:
                return 1
        megabytes = sum(path.stat().st_size for path in empty.rglob("*") if path.is_file()) / 1e6
    ranges = [asked for _, asked in server.log if asked not in (None, "bytes=0-")]
    print(f"{megabytes:.0f} MB of sets; an archive that broke off went on with {', '.join(ranges) or 'nothing'}")
    return 0 if ranges else 1


def stand_in(server: Server, source: Path, catalog: Path) -> None:
    """Serve all sets of the groups, with this server in the catalogue."""
    for path in sorted(catalog.glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        if entry["groups"]:
            (archive if "url" in entry else pictures)(server, source, entry)
            path.write_text(json.dumps(entry), encoding="utf-8")


def pictures(server: Server, source: Path, entry: dict) -> None:
    """Serve the files of an entry one by one."""
    for folder, about in entry["folders"].items():
        address = "/" + about["url"].split("://")[1]
        about["url"] = server.url(address)
        for name in about["files"]:
            file = source / folder / Path(name).name
            body = file.read_bytes() if file.is_file() else as_png(file.with_suffix(".webp"))
            server.files[address.format(name)] = body
            about["files"][name] = hashlib.sha256(body).hexdigest()


def archive(server: Server, source: Path, entry: dict) -> None:
    """Serve an archive of the pictures of an entry, which breaks off once."""
    file, address = io.BytesIO(), "/" + entry["url"].split("://")[1]
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
        for folder, about in entry["folders"].items():
            places = [source / part / Path(folder).name for part in PARTS]
            for path in sorted(path for place in places for path in place.glob("*.jpg")):
                tar.add(path, f"{about['inside']}/{path.name}")
    server.files[address], server.plan[address] = file.getvalue(), [{"after": 1 << 20}]
    entry |= {"url": server.url(address), "sha256": hashlib.sha256(file.getvalue()).hexdigest()}


def as_png(path: Path) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    with Image.open(path) as image:
        image.save(file, "png", compress_level=1)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
