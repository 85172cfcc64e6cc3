"""Files: how one appears whole or not at all, and why one is refused."""

from __future__ import annotations  # as `__main__` has it, which imports this

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on success, remove it on any failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    # not mkstemp: its files are private, and a saved picture is an ordinary one, as the umask has it
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def reason(why: Exception) -> str:
    """What an error says, for a sentence: one line of printable characters, since parsers quote the file."""
    return "".join(filter(str.isprintable, " ".join(str(why).split())))[:200] or type(why).__name__
