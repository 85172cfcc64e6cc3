"""Image sets from the internet, by name: pooch fetches and checks each file, whole or not at all.

A set appears in its folder when all of it is there. What came of a file before a break is kept in FILE.part, and the
next call goes on where it ends.
"""

import json
import os
import shutil
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pooch
from tqdm.auto import tqdm

from .errors import CourseError, require
from .files import CATALOG, PARTS, course_data, reason, replace

ATTEMPTS = 4  # at one file, a second or two apart
TIMEOUT = 30  # seconds without a byte before the connection counts as dropped
pooch.get_logger().setLevel("WARNING")  # the progress bar says enough


def catalog() -> dict[str, dict]:
    """What can be downloaded, by name: where it comes from, size, licence, citation, folders, each file's SHA-256."""
    files = sorted(CATALOG.glob("*.json"), key=lambda path: path.name.lower())
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def names(wanted: str) -> list[str]:
    """The sets that a name stands for: itself, or those of a group, "standard" or "training". Raises CourseError."""
    entries = catalog()
    found = [name for name, entry in entries.items() if wanted == name or wanted in entry["groups"]]
    if not found:
        near = next((name for name in entries if name.lower() == wanted.lower()), None)
        hint = f"did you mean {near}?" if near else f"there are standard, training, {', '.join(entries)}."
        raise CourseError(f"no set is called {wanted!r}; {hint}")
    return found


def present(name: str, out: str | os.PathLike | None = None) -> dict[str, Path]:
    """The folders of a set that are there already, wherever `datasets.folder` would look."""
    found = {}
    for folder in catalog()[name]["folders"]:
        places = (_base(out) / part / Path(folder).name for part in (Path(folder).parent, *PARTS))
        if there := next((place for place in places if any(place.glob("[!.]*"))), None):
            found[folder] = there
    return found


def download(name: str, out: str | os.PathLike | None = None, progress: bool = True) -> list[Path]:
    """Get a set of the catalogue, or all of a group, unless it is there already; the folders of its pictures.

    They lie in `out`, by default `files.course_data()`, where `datasets.folder` finds them. Raises CourseError.
    """
    base = _base(out).absolute()
    require(not base.is_file(), f"{base}: that is a file; name a folder.")
    for each in names(name):
        entry, there = catalog()[each], present(each, out)
        missing = {folder: about for folder, about in entry["folders"].items() if folder not in there}
        get = _get_archive if "url" in entry else _get_pictures
        if missing:
            near = next(folder for folder in (base, *base.parents) if folder.exists())
            require(os.access(near, os.W_OK), f"the folder {near} may not be written to; name another one by --out.")
            get(each, entry, missing, base, progress)
    return [folder for each in names(name) for folder in present(each, out).values()]


def fetch(url: str, path: Path, sha256: str, progress: bool = True) -> None:
    """Get one file, unless it is there with that SHA-256; a break costs only what was under way. Raises CourseError."""
    part = path.with_name(f"{path.name}.part")
    box = pooch.create(path.parent, "", registry={path.name: sha256}, urls={path.name: url}, retry_if_failed=ATTEMPTS)
    try:
        box.fetch(path.name, downloader=partial(_go_on, part, progress))
    except ValueError:  # pooch's word for a wrong SHA-256, or an address that is none of the web
        raise CourseError(f"{url}: what came is not the file that was published; look whether it moved.") from None
    except OSError as why:  # those of requests, too
        kept = "; run it again, it goes on where it ended" if part.exists() else "; run it again"
        offline = type(why).__name__ == "ConnectionError"  # requests' own, whose text is a chain of exceptions
        said = f"{urlsplit(url).netloc} cannot be reached; is there a network?" if offline else reason(why)
        raise CourseError(f"{path}: the download failed ({said}){kept}.") from None


def _go_on(part: Path, progress: bool, url: str, output: str, _: pooch.Pooch) -> None:
    """A downloader for pooch: keeps what came in `part`, and asks the server for the rest."""
    import requests

    begun = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={begun}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code != 416:  # 416: there is no rest
            response.raise_for_status()
            begun = begun if response.status_code == 206 else 0  # 200: all of it comes again
            total = begun + int(response.headers.get("Content-Length", 0)) or None
            about = {"desc": part.stem, "unit": "B", "unit_scale": True, "disable": None if progress else True}
            with part.open("ab" if begun else "wb") as file, tqdm(**about, initial=begun, total=total) as bar:
                for chunk in response.iter_content(1 << 18):
                    file.write(chunk)
                    bar.update(len(chunk))
    replace(part, output)  # pooch looks at its SHA-256 now; a part of another file is found out


def _get_pictures(name: str, entry: dict, missing: dict[str, dict], base: Path, progress: bool) -> None:
    staging = base / f".{name}"
    for folder, about in missing.items():
        for file, sha256 in tqdm(about["files"].items(), desc=name, unit="file", disable=None if progress else True):
            fetch(about["url"].format(file), staging / Path(file).name, sha256, progress=False)
        os.renames(staging, base / folder)


def _get_archive(name: str, entry: dict, missing: dict[str, dict], base: Path, progress: bool) -> None:
    archive, staging = base / entry["url"].rsplit("/", 1)[-1], base / f".{name}"
    fetch(entry["url"], archive, entry["sha256"], progress)
    try:
        shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
        unpack = pooch.Unzip if zipfile.is_zipfile(archive) else pooch.Untar
        members = [about["inside"] for about in missing.values()]
        unpack(members, extract_dir=str(staging.resolve()))(str(archive), "download", None)
        for folder, about in missing.items():
            for file in about.get("leave_out", ()):
                (staging / about["inside"] / file).unlink()
            os.renames(staging / about["inside"], base / folder)
        archive.unlink()
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as why:
        raise CourseError(f"{archive}: cannot be unpacked there ({reason(why)}).") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _base(out: str | os.PathLike | None) -> Path:
    return Path(os.path.expanduser(out)) if out else course_data()
