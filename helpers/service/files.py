"""Files: where the course's own and the image sets lie; how one appears whole or not at all; why one is refused."""

from __future__ import annotations  # as `__main__` has it, which imports this

import errno
import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"
CATALOG = DATA / "catalog"  # what `downloads` can get, a file each
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PARTS = ("", "train", "validation", "test")  # where in the folder of image sets a set may lie


def expanded(paths: list[Path]) -> list[Path]:
    """Paths, of which those with a * in them are patterns, as not every shell expands them."""
    return [Path(each) for path in paths for each in ("*" in str(path) and sorted(glob.glob(str(path)))) or [path]]


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on success, remove it on any failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")
    try:
        # not mkstemp: its files are private, and a saved picture is an ordinary one, as the umask has it
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        replace(temporary, path)
    except OSError as why:
        ours = str(why.filename) == str(temporary)
        # a write names no file, a copy the one that it reads first
        full = why.errno in FULL and (why.filename is None or str(why.filename2) == str(temporary))
        if ours or full:
            raise OSError(why.errno, why.strerror, str(path)) from None  # the name that the user gave
        raise
    finally:
        with suppress(OSError):  # where the file could not be made, it cannot be removed either
            temporary.unlink(missing_ok=True)


def replace(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Rename a file, which may replace another; try again for a second where Windows says that someone reads one."""
    for left in reversed(range(5)):
        try:
            return os.replace(source, target)
        except PermissionError:  # a virus scanner looks at what is new
            if not left:
                raise
            time.sleep(0.2)


def refusal(path: str | os.PathLike) -> str:
    """Why no file can be written at `path`, and what to do, as the end of a sentence; empty where it can."""
    path = Path(path)
    if os.path.isdir(path):  # no error, as of Path.is_dir, for a name that is too long
        return "that is a folder; name a file in it"
    if len(os.fsencode(path.name)) > 230:  # systems take 255 bytes; `atomic` adds some
        return "the name is too long; take a shorter one"
    if not os.path.isdir(path.parent):
        return f"the folder {path.parent} does not exist; create it first"
    if not os.access(path.parent, os.W_OK):
        return f"the folder {path.parent} may not be written to; name a file in another one"
    return ""


def unwritten(why: Exception) -> str:
    """Why something was not written, and what to do, as the end of a sentence."""
    if getattr(why, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space"
    return f"cannot be written ({getattr(why, 'strerror', None) or reason(why)}); mend that"


def reason(why: Exception) -> str:
    """What an error says, for a sentence: one line of printable characters, since parsers quote the file."""
    return "".join(filter(str.isprintable, " ".join(str(why).split())))[:200] or type(why).__name__


def course_data() -> Path:
    """The folder of image sets: `COURSE_DATA` where that is set, else `data/downloads`."""
    return Path(os.path.expanduser(os.environ.get("COURSE_DATA") or DATA / "downloads"))  # ~nobody stays as it is


def sha256(*paths: Path) -> str:
    """The SHA-256 of a file, or of several, one after the other."""
    import hashlib  # which `--help` need not wait for

    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
