"""Ways to spoil a file: blind ones, and ones that keep checksums and containers right, so that what is spoilt is read.

Each takes bytes and a `random.Random` and returns bytes; the same generator, the same damage.
"""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

LIES = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 30_001, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
VALUES = (None, True, 0, -1, 1, 3.5, 1e308, float("nan"), 10**12, 10**30, "", "x", "a\nb", "\0", "..", "../../out",
          "/etc/passwd", "x" * 5000, "{0.__class__}", [], [0], {}, {"a": 1}, [[[[[[]]]]]])  # fmt: skip


def damage(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """One to three blind faults: flipped bits, lost, doubled or strange bytes, lying numbers, a splice with `other`."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, new, lost = _fault(rng.choice(FAULTS), data, rng, other)
        data = data[:at] + new + data[at + lost :]
    return data


FAULTS = ("flip", "overwrite", "truncate", "insert", "remove", "double", "lie", "lie", "splice")


def _fault(kind: str, data: bytes, rng: random.Random, other: bytes) -> tuple[int, bytes, int]:
    """Where, which bytes come there, and how many go."""

    def place(data: bytes) -> int:
        """Headers, which say what follows, are small and come first."""
        return rng.randrange(min(len(data), 128) if rng.random() < 0.5 else len(data)) if data else 0

    if kind == "truncate":
        return rng.randrange(len(data) + 1), b"", len(data)
    at = place(data)
    if kind == "flip":
        return at, bytes(byte ^ 1 << rng.randrange(8) for byte in data[at : at + 1]), 1
    if kind == "insert":
        return at, rng.choice((rng.randbytes(rng.randint(1, 40)), bytes(rng.randint(1, 300)))), 0
    if kind == "remove":
        return at, b"", rng.randint(1, 64)
    if kind == "double":
        return at, data[at : at + rng.randint(1, 200)], 0
    if kind == "splice":
        return at, other[place(other) :], len(data)
    if kind == "overwrite":
        new = rng.randbytes(rng.randint(1, 8))
    else:  # a number of 1, 2, 4 or 8 bytes, of either order, that says too little or too much
        layout = rng.choice(("B", "<H", ">H", "<I", ">I", "<I", ">I", "<Q", ">Q"))
        new = struct.pack(layout, rng.choice(LIES) % 256 ** struct.calcsize(layout))
    return at, new, len(new)


# ------------------------------------------------------------------------------------- with a fitting seal


def sealed_png(data: bytes) -> bytes:
    """The checksum of every chunk made to fit."""
    sealed, at = data[:8], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        if at + 12 + length > len(data):
            break
        body = data[at + 4 : at + 8 + length]
        sealed, at = sealed + data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)), at + 12 + length
    return sealed + data[at:]


def sealed_bic(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", zlib.crc32(data[8:])) + data[8:] if len(data) > 8 else data


def in_zip(change: Callable = damage) -> Callable:
    """Damage to one member of a zip archive, which is packed again with right checksums; or a member is lost."""

    def act(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
        if data[:2] != b"PK":
            return change(data, rng, other)
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = {part.filename: old.read(part) for part in old.infolist()}
        name = rng.choice(sorted(members, key=lambda name: len(members[name]))[: rng.randint(1, len(members))])
        if rng.random() < 0.05:
            members[rng.choice(("other.npy", "../" + name, name + "x"))] = members.pop(name)
        else:
            members[name] = change(members[name], rng, other)
        return zipped(members, zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED)

    return act


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as new:
        for name, body in members.items():
            new.writestr(name, body)
    return buffer.getvalue()


def twist(data: bytes, rng: random.Random, _: bytes = b"") -> bytes:
    """JSON of which one value, at any depth, is another, is lost, or has a neighbour."""
    found = json.loads(data)
    parents = [found]
    for parent in parents:
        parents += [value for value in _values(parent) if isinstance(value, dict | list) and value]
    parent = rng.choice(parents)
    key = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    kind = rng.randrange(10)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(("more", "", "../x", "kind"))] = rng.choice(VALUES)
    else:
        parent[key] = rng.choice((*VALUES, rng.choice(list(_values(parent)))))
    return json.dumps(found).encode()


def _values(node) -> list:
    return list(node.values()) if isinstance(node, dict) else list(node)


def in_safetensors(data: bytes, rng: random.Random, _: bytes = b"") -> bytes:
    """The header of a safetensors file twisted, its length made to fit."""
    length = struct.unpack_from("<Q", data)[0]
    header = twist(data[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]
