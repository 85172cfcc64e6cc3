"""Image sets from the internet, by name: the catalogue, downloads that resume and are checked, safe unpacking.

What is not yet whole lies in FILE.part. It outlives a dropped connection, Ctrl-C and a killed process, and the next
call goes on where it ends. Only a whole file with the right SHA-256 gets its name, only a whole set its folder.
"""

import errno
import http.client
import json
import os
import re
import shutil
import ssl
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from tqdm.auto import tqdm

from . import datasets, images
from .files import reason

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CATALOG = datasets.DATA / "catalog"
AGENT = {"User-Agent": "restoration-course"}  # some servers refuse Python's own
TIMEOUT = 30  # seconds without a byte before the connection counts as dropped
WAITS = (1, 2, 4, 8)  # seconds before each further attempt; any progress starts them anew
CHUNK = 1 << 18  # bytes
MAX_UNPACKED = 20_000_000_000  # bytes; DIV2K, the largest set, has 3.5 GB
MAX_MEMBERS = 100_000
MAX_SWELLING, ROOM = 100, 64 << 20  # times an archive's own size that it may unpack to, and bytes that any one may
MAX_WORDS = 1 << 20  # bytes of the long names and extended headers of a tar, which tarfile reads at once


class DownloadError(RuntimeError):
    """A download or an archive that cannot be used; the message is one sentence that says what to do."""


class Gone(DownloadError):
    """The server answers, but has no such file (any more)."""


class _Dropped(Exception):
    """The connection failed or ended early: another attempt may go on from the part."""


class _Stale(_Dropped):
    """The part is not the beginning of what the server has now: another attempt must start anew."""


# ----------------------------------------------------------------------------------------------- sets


def catalog() -> dict[str, dict]:
    """What can be downloaded, by name: address, size, SHA-256 and where it comes from, licence, citation, folders.

    Raises DownloadError for an entry that lacks something, or has names that lead out of the folder of sets.
    """
    files = sorted(CATALOG.glob("*.json"), key=lambda path: path.name.lower())
    return {path.stem: _entry(path) for path in files}


def _entry(path: Path) -> dict:
    """One entry of the catalogue. Raises DownloadError."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        sane = _is_entry(entry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sane = False
    if not sane:
        raise DownloadError(f"{path}: not an entry of the catalogue; get it again, or remove it.")
    return entry


def _is_entry(entry: dict) -> bool:
    """Whether an entry has all that a download wants, and only names that stay in their folders. May raise KeyError."""
    single, folders = "pictures" in entry, entry["folders"]
    address = r"https?://[^\s{}?#]+/" + (r"[\w.-]*\{\}[\w.-]*" if single else r"[\w.-]*\w")
    names = [*folders]
    for about in folders.values():
        names += [] if single else [about["inside"], *about.get("leave_out", ())]
    return (
        all(isinstance(entry[key], str) for key in ("title", "page", "licence", "citation"))
        and isinstance(entry["megabytes"], int | float)
        and isinstance(entry["sha256"], str | None)
        and isinstance(entry["bytes"], int | None)
        and re.fullmatch(address, entry["url"]) is not None
        and all(type(about["count"]) is int and about["count"] > 0 for about in folders.values())
        and all(0 < len(name) < 200 and name.isprintable() and not _escapes(name) for name in names)
        and (_are_pictures(entry["pictures"]) and len(folders) == 1 if single else names != [])
    )


def _are_pictures(names) -> bool:
    """Whether these are the names of single pictures, each once."""
    return isinstance(names, list) and len({*names}) == len(names) and all(re.fullmatch(r"\w{1,99}", n) for n in names)


def download(name: str, out: str | os.PathLike | None = None, progress: bool = True) -> list[Path]:
    """Get a set of the catalogue unless it is there already; the folders of its pictures.

    They lie in `out`, by default `datasets.course_data()`, where `datasets.folder` finds them. Raises DownloadError.
    """
    entry, base, there = _find(name), _base(out), present(name, out)
    missing = {folder: about for folder, about in entry["folders"].items() if folder not in there}
    if missing:
        get = _get_pictures if "pictures" in entry else _get_archive
        with _plainly(base):
            base.mkdir(parents=True, exist_ok=True)
            get(name, entry, missing, base, progress)
    return list(present(name, out).values())


def present(name: str, out: str | os.PathLike | None = None) -> dict[str, Path]:
    """The folders of a set that are there already, wherever `datasets.folder` would look. Raises DownloadError."""
    found = {}
    for folder in _find(name)["folders"]:
        for part in (Path(folder).parent, "", "train", "test"):
            place = _base(out) / part / Path(folder).name
            if folder not in found and any(place.glob("*")):
                found[folder] = place
    return found


def _find(name: str) -> dict:
    entries = catalog()
    if name not in entries:
        raise DownloadError(f"no set of the catalogue is called {name!r}; there are {', '.join(entries)}.")
    return entries[name]


def _base(out: str | os.PathLike | None) -> Path:
    return Path(os.path.expanduser(out)) if out else datasets.course_data()


def _get_archive(name: str, entry: dict, missing: dict[str, dict], base: Path, progress: bool) -> None:
    archive = base / entry["url"].rsplit("/", 1)[-1]
    fetch(entry["url"], archive, sha256=entry["sha256"], size=entry["bytes"], progress=progress)
    staging = base / f".{name}"
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    try:
        extract(archive, staging, [about["inside"] for about in missing.values()], progress)
        for folder, about in missing.items():
            source = staging / about["inside"]
            for file in about.get("leave_out", ()):
                (source / file).unlink(missing_ok=True)
            found = sum(path.suffix.lower() in images.SUFFIXES for path in source.glob("*"))
            if found != about["count"]:
                raise DownloadError(
                    f"{archive}: holds {found} pictures in {about['inside']} and not {about['count']}; "
                    f"the set has changed, look at {entry['page']}."
                )
            _settle(source, base / folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    archive.unlink()


def _get_pictures(name: str, entry: dict, missing: dict[str, dict], base: Path, progress: bool) -> None:
    """One by one; those that are whole stay for the next call. A few may be gone for good, and are left out."""
    (folder,) = missing
    staging, gone = base / f".{name}", []
    for picture in tqdm(entry["pictures"], desc=name, unit="picture", disable=None if progress else True):
        url = entry["url"].format(picture)
        file = staging / url.rsplit("/", 1)[-1]
        try:
            images.load_uint8(fetch(url, file, progress=False))
        except Gone:
            gone.append(url)
        except images.ImageError as why:
            file.unlink(missing_ok=True)
            raise DownloadError(f"{url}: what came is no whole picture; run it again ({why}).") from None
        if len(gone) > len(entry["pictures"]) // 10:
            raise DownloadError(f"{name}: {len(gone)} pictures are gone, {gone[0]} first; look at {entry['page']}.")
    _settle(staging, base / folder)


def _settle(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, destination)


# -------------------------------------------------------------------------------------------- download


def fetch(
    url: str, path: str | os.PathLike, *, sha256: str | None = None, size: int | None = None, progress: bool = True
) -> Path:
    """Download one file, going on from `path`.part where an earlier call left one; `path` appears whole or not at all.

    A file that is there and has that checksum and size is left alone. Raises DownloadError (Gone where the server has
    no such file): no network, wrong bytes, an answer that stays too short, a full disk, another process at work.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url}: not an address of the web; it begins with https://.")
    with _plainly(path):
        if not _whole(path, sha256, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path):
                if not _whole(path, sha256, size):  # nor has another process brought it meanwhile
                    _bring(url, path, sha256, size, progress)
    return path


def _bring(url: str, path: Path, sha256: str | None, size: int | None, progress: bool) -> None:
    part, note = (path.with_name(path.name + ending) for ending in (".part", ".part.json"))
    about = {"desc": path.name, "total": size, "unit": "B", "unit_scale": True}
    try:
        with part.open("ab") as file, tqdm(**about, disable=None if progress else True) as bar:
            _persist(url, file, note, size, bar)
        fault = _fault(part, sha256, size)
        if fault:
            part.unlink()
            raise DownloadError(
                f"{url}: what came {fault}, so it was removed; run it again, and if that repeats, the publisher has "
                "changed the file or the network alters it."
            )
        os.replace(part, path)
    finally:
        if not part.exists() or not part.stat().st_size:  # nothing to go on from
            part.unlink(missing_ok=True)
            note.unlink(missing_ok=True)


def _persist(url: str, file: BinaryIO, note: Path, size: int | None, bar: tqdm) -> None:
    """Attempt until the part is whole; give up when several attempts in a row add nothing."""
    waits, best = iter(WAITS), file.seek(0, os.SEEK_END)
    while True:
        try:
            return _attempt(url, file, note, size, bar)
        except _Dropped as why:
            if isinstance(why, _Stale):
                note.unlink(missing_ok=True)
            done = file.seek(0, os.SEEK_END)
            if done > best:
                waits, best = iter(WAITS), done
            wait = next(waits, None)
            if wait is None:
                raise DownloadError(
                    f"{url}: the download does not get on ({why}); check the network and run it again, "
                    "it goes on where it ended."
                ) from None
            time.sleep(wait)


def _attempt(url: str, file: BinaryIO, note: Path, size: int | None, bar: tqdm) -> None:
    """Ask for what the part lacks, and append it. Raises _Dropped where asking again may help."""
    known = _remembered(note, url)
    offset = file.seek(0, os.SEEK_END) if known else 0
    if offset and offset == known["size"]:
        return  # only its new name was missing
    span = {"Range": f"bytes={offset}-", "If-Range": known["validator"]} if offset else {}
    with _ask(url, span) as response:
        offset = offset if response.status == 206 else 0  # a server may send all, and does if the file has changed
        told = _about(url, response, offset)
        if offset and not _continues(told, known):
            raise _Stale("the file changes on the server")
        total = told["size"] or size
        if size and total != size:
            raise DownloadError(
                f"{url}: the server offers {total:,} bytes where the catalogue says {size:,}; "
                "the file has changed, or your network wants a login first (open a browser)."
            )
        if not offset:
            file.truncate(0)
            note.write_text(json.dumps(told), encoding="utf-8")
        _check_room(note.parent, (total or 0) - offset)
        bar.reset(total)
        bar.n = bar.initial = offset
        for chunk in _chunks(response):
            file.write(chunk)
            bar.update(len(chunk))
    done = file.seek(0, os.SEEK_END)
    if done != (total or done):
        raise _Dropped(f"the connection ends after {done:,} of {total:,} bytes")


def _ask(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=AGENT | headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as why:
        answer = f"the server answers {why.code} {why.reason}"
        why.close()
        if why.code == 416:  # the part is longer than the file
            raise _Stale(answer) from None
        if why.code in (408, 429) or why.code >= 500:
            raise _Dropped(answer) from None
        kind = Gone if why.code in (403, 404, 410) else DownloadError
        raise kind(f"{url}: {answer}; it may have moved, look at the publisher's page.") from None
    except (OSError, http.client.HTTPException) as why:
        cause = getattr(why, "reason", why)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{url}: its certificate is not trusted here ({cause}); update your system's certificates."
            ) from None
        raise _Dropped(str(cause) or type(cause).__name__) from None


def _about(url: str, response: http.client.HTTPResponse, offset: int) -> dict:
    """What an answer says of the file: enough to know later whether a part is its beginning."""
    size, etag = response.length, response.headers.get("ETag", "")
    if response.status == 206:
        span = re.fullmatch(rf"bytes {offset}-\d+/(\d+)", response.headers.get("Content-Range", ""))
        size = int(span[1]) if span else None
    # A weak ETag (W/"…") does not promise the same bytes.
    return {"url": url, "size": size, "validator": etag if etag[:1] == '"' else response.headers.get("Last-Modified")}


def _continues(told: dict, known: dict) -> bool:
    same_size = known["size"] in (None, told["size"])  # None: the first answer did not tell it
    return told["size"] is not None and same_size and told["validator"] == known["validator"]


def _remembered(note: Path, url: str) -> dict:
    """What the note beside a part says; empty where the part cannot be continued."""
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        plain = isinstance(known["size"], int | None) and known["validator"].isprintable()  # it goes into a header
        return known if known["url"] == url and plain and known["validator"] else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # not there, or cut short
        return {}


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it comes. A fault of the network is _Dropped here, so that all other OSErrors are the disk's."""
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as why:
            raise _Dropped(str(why) or type(why).__name__) from None
        if not chunk:
            return
        yield chunk


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Refuse to be the second process at one file; where the system or the disk knows no locks, go on without."""
    if fcntl is None:
        yield
        return
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadError(f"{path}: another process is downloading it; wait until that has ended.") from None
        except OSError:
            pass
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _whole(path: Path, sha256: str | None, size: int | None) -> bool:
    return path.is_file() and not _fault(path, sha256, size)


def _fault(path: Path, sha256: str | None, size: int | None) -> str:
    """What is wrong with a file, or nothing."""
    if size and path.stat().st_size != size:
        return f"has {path.stat().st_size:,} bytes instead of {size:,}"
    if sha256 and (found := datasets.sha256(path)) != sha256:
        return f"has the SHA-256 {found} instead of {sha256}"
    return ""


# --------------------------------------------------------------------------------------------- unpack


def extract(
    archive: str | os.PathLike, folder: str | os.PathLike, only: Sequence[str] = (), progress: bool = False
) -> Path:
    """Unpack a zip or tar archive into the new `folder`, which appears whole or not at all.

    `only` names folders inside; the rest is passed over. Raises DownloadError for a member that would leave the folder
    or is a link or a device, for more than MAX_MEMBERS or MAX_UNPACKED bytes, a damaged archive, a full disk.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise DownloadError(f"{archive}: no such file; check the name.")
    if folder.exists():
        raise DownloadError(f"{folder}: is already there; remove it, or name another folder.")
    staging = folder.with_name(f".{folder.name}.unpacking")
    with _plainly(folder):
        shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
        staging.mkdir(parents=True)
        try:
            _unpack(archive, staging, tuple(f"{inside}/" for inside in only), progress)
            os.replace(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def _unpack(archive: Path, staging: Path, only: tuple[str, ...], progress: bool) -> None:
    total, most = 0, max(ROOM, MAX_SWELLING * archive.stat().st_size)
    members = tqdm(_members(archive), desc=archive.name, unit="file", disable=None if progress else True)
    try:
        for count, (name, size, plain, opened) in enumerate(members, start=1):
            total += size
            if size < 0 or count > MAX_MEMBERS or total > min(MAX_UNPACKED, most):
                raise DownloadError(f"{archive}: would unpack to too much ({name!r:.200}); it is no set of pictures.")
            if only and not name.startswith(only):
                continue
            if not plain or _escapes(name):
                raise DownloadError(f"{archive}: {name!r:.200} is a link or leads out of its folder; do not use it.")
            _check_room(staging, size)
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened() as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    except DownloadError:
        raise
    except Exception as why:  # what a damaged archive raises has many types
        if isinstance(why, OSError) and why.errno:
            raise
        raise DownloadError(
            f"{archive}: damaged, or no archive; remove it and download it again ({reason(why)})."
        ) from why


def _members(archive: Path) -> Iterator[tuple[str, int, bool, Callable[[], BinaryIO]]]:
    """Name, size, whether it is a plain file, and how to open it, of each member but the folders.

    Only the bytes of plain files are copied, never links, owners or modes: tarfile's own filter for that is missing
    from the first releases of Python 3.10 and 3.11, and zipfile has none.
    """
    with archive.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if not zipped:
        with tarfile.open(archive, tarinfo=_Member) as file:
            for member in file:
                if not member.isdir():
                    yield member.name, member.size, member.isreg(), partial(file.extractfile, member)
    else:
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                if not member.is_dir():
                    kind = stat.S_IFMT(member.external_attr >> 16)
                    yield member.filename, member.file_size, kind in (0, stat.S_IFREG), partial(file.open, member)


class _Member(tarfile.TarInfo):
    """A header of a tar: what it says of sizes is looked at before tarfile acts on it."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        found = super().frombuf(buf, encoding, errors)
        plain = found.type in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
        if found.size < 0 or not plain and found.size > MAX_WORDS:  # tarfile would go backwards, or read it all
            raise ValueError(f"a member says that it has {found.size:,} bytes")
        return found


def _escapes(name: str) -> bool:
    path = PureWindowsPath(name)  # knows both slashes, and drives
    return bool(path.anchor) or ".." in path.parts


# ----------------------------------------------------------------------------------------------- disk


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    """Turn what the disk does into one sentence that names the file."""
    try:
        yield
    except OSError as why:
        if why.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"{path}: the disk is full; free some space and run it again.") from None
        raise DownloadError(f"{path}: cannot be written ({why.strerror or why}); name another folder.") from None


def _check_room(folder: Path, wanted: int) -> None:
    if wanted > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
