"""The loaders that `fuzz.py` tries: for each, good files to spoil, nasty ones made by hand, and what must hold."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import fuzz_mutations as spoil
import numpy as np
import pandas as pd
import safetensors.torch
import torch
from builders import photograph, png_chunk, png_header, recipe
from hypothesis import strategies as st
from PIL import Image

from helpers import CourseError, codec, datasets, images, models, recipes, sensing, training, zoo
from helpers.models import originals
from helpers.publishing import benchmark

Case = dict[str, bytes]  # the files of a folder, by name
SMALL = {"kind": "edsr", "scale": 2, "width": 4, "blocks": 1}


@dataclasses.dataclass(frozen=True)
class Loader:
    """`load(folder)` returns if what it read of a case is valid, and raises one of `errors` if it refuses it.

    `spoilers`: (file, function) pairs, of which a case takes one. `nasty`: cases that must be refused.
    `named`: whether a message names the file. `cases`: how many a full run tries.
    """

    about: str
    good: Callable[[], list[Case]]
    load: Callable[[Path], None]
    errors: tuple[type[Exception], ...]
    spoilers: tuple[tuple[str, Callable], ...]
    drawn: st.SearchStrategy
    nasty: Callable[[], dict[str, Case]] = dict
    named: bool = True
    cases: int = 10_000
    memory: int = 2 << 30  # bytes that loading may take
    prepare: Callable[[Path], None] = lambda folder: None

    def spoilt(self, good: list[Case], rng: random.Random) -> Case:
        name, act = rng.choice(self.spoilers)
        case, other = rng.choice(good), rng.choice(good)
        return case | {name: act(case[name], rng, other[name])}


LOADERS: dict[str, Loader] = {}


def one_of(*strategies) -> st.SearchStrategy:
    return st.one_of(*strategies)


def alone(name: str, strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(lambda data: {name: data}, strategy)


# ---------------------------------------------------------------------------------------------- pictures


def _crops() -> dict[str, Image.Image]:
    with Image.open(datasets.bundled("chelsea")) as cat:
        colour = cat.convert("RGB").resize((40, 32))
    gray, alpha = colour.convert("L"), Image.linear_gradient("L").resize(colour.size)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    found = {"RGB": colour, "L": gray, "1": gray.convert("1"), "P": colour.quantize(16), "I;16": deep}
    return found | {
        "CMYK": colour.convert("CMYK"),
        "RGBA": Image.merge("RGBA", [*colour.split(), alpha]),
        "LA": Image.merge("LA", [gray, alpha]),
    }


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a cat"
    return exif


PIXELS = 32 * images.MAX_PIXELS  # bytes: twelve of floats that stand, Pillow's four, twice where it turns, our three
FORMATS: dict[str, tuple[str, list[tuple[str, dict]]]] = {
    "PNG": ("png", [("RGB", {}), ("L", {}), ("1", {}), ("P", {"transparency": 0}), ("P", {}), ("I;16", {}),
                    ("RGBA", {}), ("LA", {}), ("RGB", {"exif": True, "icc_profile": b"x" * 200})]),
    "JPEG": ("jpg", [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"exif": True}),
                     ("RGB", {"subsampling": 2, "icc_profile": b"x" * 200})]),
    "WEBP": ("webp", [("RGB", {}), ("RGB", {"lossless": True}), ("RGBA", {}), ("RGB", {"exif": True}),
                      ("RGB", {"frames": True})]),
    "TIFF": ("tif", [("RGB", {}), ("RGB", {"compression": "tiff_lzw"}), ("L", {"compression": "tiff_adobe_deflate"}),
                     ("RGB", {"compression": "jpeg"}), ("1", {"compression": "group4"}), ("I;16", {}), ("P", {}),
                     ("RGBA", {"compression": "packbits"}), ("CMYK", {}), ("RGB", {"frames": True}),
                     ("RGB", {"exif": True})]),
    "BMP": ("bmp", [("RGB", {}), ("L", {}), ("1", {}), ("P", {}), ("RGBA", {})]),
    "GIF": ("gif", [("P", {}), ("L", {}), ("P", {"transparency": 0}), ("RGB", {"frames": True})]),
    "AVIF": ("avif", [("RGB", {}), ("RGBA", {}), ("RGB", {"exif": True})]),
    "JPEG2000": ("jp2", [("RGB", {}), ("L", {}), ("RGBA", {}), ("RGB", {"no_jp2": True}), ("I;16", {}),
                         ("RGB", {"irreversible": True, "quality_layers": [20]})]),
}  # fmt: skip
OTHERS = ("PPM", "TGA", "PCX", "ICO", "SGI", "DDS", "IM", "MPO", "QOI", "ICNS", "XBM", "MSP", "DIB")
PALETTES = ("TGA", "PCX", "ICO", "IM")  # those that keep the palette of a picture which has one


def _encoded(kind: str, mode: str, options: dict) -> bytes:
    options, crop = dict(options), _crops()[mode]
    if options.pop("exif", False):
        options["exif"] = _exif()
    if options.pop("frames", False):
        options |= {"save_all": True, "append_images": [crop.rotate(180)]}
    buffer = io.BytesIO()
    crop.save(buffer, kind, **options)
    return buffer.getvalue()


def _written(name: str, variants: list[tuple[str, str, dict]]) -> list[Case]:
    """A file of each kind, mode and options that this Pillow writes."""
    found = []
    for variant in variants:
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.append({name: _encoded(*variant)})
    return found


def _pictures(kind: str) -> list[Case]:
    suffix, variants = FORMATS[kind]
    found = _written(f"x.{suffix}", [(kind, *variant) for variant in variants])
    if kind == "PNG":  # 80 MB of text in 80 kB: more than Pillow takes, and not needed for the pixels
        good, bomb = found[0]["x.png"], png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 9))
        found.append({"x.png": good[:33] + bomb + good[33:]})
    return found


def _others() -> list[Case]:
    return _written(
        "x.png",
        [(kind, mode, {}) for kind in OTHERS for mode in ("RGB", "L", "1", "P") if mode != "P" or kind in PALETTES],
    )


def _load_picture(folder: Path) -> None:
    (path,) = folder.iterdir()
    image, pixels = images.load(path), images.load_uint8(path)
    assert image.dtype == torch.float32 and image.dim() == 3 and image.shape[0] in (1, 3), image.shape
    assert image.shape == pixels.shape and pixels.dtype == torch.uint8
    assert 0 <= image.min() and image.max() <= 1
    assert set(image.shape[1:]) == set(images.stored_size(path))
    assert isinstance(images.colour_profile(path), bytes | None)


def _nasty_pngs() -> dict[str, Case]:
    palette = png_header(4, 4, 3)
    return {
        "four billion pixels": {"x.png": png_header(65_536, 65_536)},
        "two to the 32 wide": {"x.png": png_header(2**32 - 1, 1)},
        "no pixels": {"x.png": png_header(0, 7)},
        "a palette that is not there": {"x.png": palette},
    }


def _picture_loader(kind: str) -> Loader:
    suffix, variants = FORMATS[kind]
    name, magic = f"x.{suffix}", _encoded(kind, *variants[0])[:24]
    ways = [(name, spoil.damage)]
    if kind == "PNG":
        ways.append((name, lambda data, rng, other: spoil.sealed_png(spoil.damage(data, rng, other))))
    drawn = alone(name, st.builds(lambda cut, rest: magic[:cut] + rest, st.integers(2, 24), st.binary(max_size=200)))
    return Loader(
        f"pictures: {'JPEG 2000' if kind == 'JPEG2000' else 'WebP' if kind == 'WEBP' else kind}",
        lambda: _pictures(kind),
        _load_picture,
        (CourseError,),
        tuple(ways),
        drawn,
        _nasty_pngs if kind == "PNG" else dict,
        memory=PIXELS,
    )


LOADERS |= {kind.lower(): _picture_loader(kind) for kind in FORMATS if _pictures(kind)}
LOADERS["foreign"] = Loader(
    "pictures: other kinds, named .png",
    _others,
    _load_picture,
    (CourseError,),
    (("x.png", spoil.damage),),
    alone("x.png", st.binary(max_size=300)),
    lambda: {
        "PostScript, which is a program": {"x.png": _encoded("EPS", "RGB", {})},
        "a page of text": {"x.png": b"this is no picture\n" * 50},
    },
    memory=PIXELS,
)


# ------------------------------------------------------------------------------------------ pairs, CIFAR-10


def _pairs() -> list[Case]:
    wide = _crops()["RGB"].resize((48, 24))
    found = []
    for kind in ("PNG", "JPEG", "BMP"):
        buffer = io.BytesIO()
        wide.save(buffer, kind)
        found.append({"x.png": buffer.getvalue()})  # Pillow looks at the bytes, not at the name
    return found


def _load_pair(folder: Path) -> None:
    poor, good = datasets.SidePairs(folder)[0]
    assert poor.shape == good.shape and poor.shape[0] == 1 and poor.shape[1] == poor.shape[2] > 0
    assert poor.dtype == torch.float32 and 0 <= min(poor.min(), good.min()) and max(poor.max(), good.max()) <= 1


LOADERS["pairs"] = Loader(
    "pair files",
    _pairs,
    _load_pair,
    CourseError,
    (
        ("x.png", spoil.damage),
        ("x.png", lambda data, rng, other: spoil.sealed_png(spoil.damage(data, rng, other))),
    ),
    alone("x.png", st.builds(png_header, st.integers(0, 80), st.integers(0, 80), st.sampled_from((0, 2, 3, 4, 6)))),
)


def _array_file(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _npy(header: str, body: bytes = b"") -> bytes:
    """An .npy file with a header of our own words."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body


def _says(kind: str, shape: str) -> bytes:
    return _npy(f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}", bytes(64))


def _load_cifar(folder: Path) -> None:
    os.environ["COURSE_DATA"] = str(folder)
    (folder / "train" / "CIFAR10_subset").mkdir(parents=True)
    shutil.move(folder / "x.npz", folder / "train" / "CIFAR10_subset" / "x.npz")
    found = datasets.cifar10()
    assert found.dtype == torch.uint8 and found.shape[1:] == (3, 32, 32) and len(found)


_shapes = st.lists(st.integers(0, 40), max_size=5).map(tuple)
_kinds = st.sampled_from(("u1", "i1", "<u2", "<i8", "<f4", "<f8", "?", "<c8", "S3", "<U2", "<M8[s]"))

LOADERS["cifar"] = Loader(
    "a part of CIFAR-10, .npz",
    lambda: [{"x.npz": _array_file(images=np.arange(n * 3072, dtype=np.uint8).reshape(n, 32, 32, 3))} for n in (1, 3)],
    _load_cifar,
    (CourseError,),
    (("x.npz", spoil.damage), ("x.npz", spoil.in_zip())),
    alone("x.npz", st.builds(lambda s, k: _array_file(images=np.zeros(s, k)), _shapes, _kinds)),
    lambda: {
        "an array of terabytes": {"x.npz": spoil.zipped({"images.npy": _says("|u1", "(10**9, 32, 32, 3)")})},
        "terabytes, in figures": {"x.npz": spoil.zipped({"images.npy": _says("|u1", "(1000000000, 32, 32, 3)")})},
        "an archive in the archive": {"x.npz": spoil.zipped({"images.npy": _array_file(a=np.zeros(3))})},
        "an array and no archive": {"x.npz": _says("|u1", "(64,)")},
        "code": {"x.npz": _array_file(images=np.array([Trap()], object))},
        "other arrays": {"x.npz": _array_file(labels=np.zeros(3))},
        "not pictures": {"x.npz": _array_file(images=np.zeros((3, 32, 32, 3)))},
    },
)


# ------------------------------------------------------------------------------------------ weights and cards


def _zoo_pair(network: dict, seed: int) -> Case:
    torch.manual_seed(seed)
    weights = safetensors.torch.save({k: v.contiguous() for k, v in models.build(**network).state_dict().items()})
    return {"x.json": _card(network, weights), "x.safetensors": weights}


def _card(network: dict, weights: bytes, **changes) -> bytes:
    about = {"name": "x", "task": "sr-x2", "origin": "made here", "network": network, "parameters": 1,
             "bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest(),
             "figures": {"sr-x2": {"bundled": {"psnr": 30.0}}}}  # fmt: skip
    return json.dumps(about | changes).encode()


def _zoo_cases() -> list[Case]:
    kinds = [SMALL, {"kind": "srcnn", "scale": 2, "kernels": [3, 1, 3]}, {"kind": "fsrcnn", "d": 4, "s": 2, "m": 1}]
    return [_zoo_pair(network, seed) for seed, network in enumerate(kinds)]


def _load_zoo(folder: Path) -> None:
    zoo.WEIGHTS = folder
    found = zoo.available()
    model = zoo.load(folder / "x.json")
    assert len(found) == 1 and not model.training
    assert model.restore(photograph(8, 8)).shape[0] == 3
    assert zoo.for_task("sr-x2") in (["x"], [])


def _reseal(act: Callable) -> Callable:
    """Damage to weights, with a card that has their new checksum: as whoever writes both would send them."""

    def reseal(case: Case, rng: random.Random, other: Case) -> Case:
        weights = act(case["x.safetensors"], rng, other["x.safetensors"])
        about = json.loads(case["x.json"])
        return {"x.json": _card(about["network"], weights), "x.safetensors": weights}

    return reseal


class _WeightsLoader(Loader):
    def spoilt(self, good: list[Case], rng: random.Random) -> Case:
        act = rng.choice((spoil.damage, spoil.in_safetensors))
        return _reseal(act)(rng.choice(good), rng, rng.choice(good))


def _with_weights(weights: bytes, network: dict = SMALL) -> Case:
    return {"x.json": _card(network, weights), "x.safetensors": weights}


def _safetensors(header: dict, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _huge(shape: list[int], end: int) -> bytes:
    return _safetensors({"head.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}, bytes(64))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_kind = st.sampled_from([*models.KINDS, "vgg"])
_option = st.sampled_from(("scale", "width", "blocks", "kernels", "channels", "padding", "d", "s", "m", "ratio",
                           "hidden", "middle", "std", "widths", "stages", "residual", "binary", "x"))  # fmt: skip
_setting = st.integers(-3, 40) | st.sampled_from((2**31, 2**62, 10**30)) | json_values | st.lists(st.integers(-2, 9))
_networks = st.builds(
    lambda kind, options: {"kind": kind} | options, _kind, st.dictionaries(_option, _setting, max_size=3)
)

LOADERS["card"] = Loader(
    "cards of networks, .json",
    _zoo_cases,
    _load_zoo,
    (CourseError,),
    (("x.json", spoil.twist), ("x.json", spoil.twist), ("x.json", spoil.damage)),
    st.builds(lambda network: _with_weights(_zoo_pair(SMALL, 0)["x.safetensors"], network), _networks),
    lambda: {
        "nested a hundred thousand times": {"x.json": b"[" * 100_000, "x.safetensors": b""},
        "a network of a billion blocks": _with_weights(_huge([1], 4), SMALL | {"blocks": 10**9}),
        "a network of ten billion features": _with_weights(_huge([1], 4), SMALL | {"width": 10**10}),
        "a network of 14 gigabytes": _with_weights(_huge([1], 4), SMALL | {"width": 20_000}),
        "a scale of two to the 62": _with_weights(_huge([1], 4), SMALL | {"scale": 2**62}),
    },
    cases=4000,
)
LOADERS["weights"] = _WeightsLoader(
    "weights, .safetensors",
    _zoo_cases,
    _load_zoo,
    (CourseError,),
    (),
    st.builds(lambda body: _with_weights(body), st.binary(max_size=200)),
    lambda: {
        "a tensor of terabytes": _with_weights(_huge([2**40], 2**42)),
        "a tensor of more than 2^64 bytes": _with_weights(_huge([2**40, 2**40], 64)),
        "a header of exabytes": _with_weights(struct.pack("<Q", 2**60) + b"{}"),
        "tensors that overlap": _with_weights(
            _safetensors(
                {k: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for k in ("head.weight", "head.bias")},
                bytes(16),
            )
        ),
        "code": _with_weights(pickle.dumps({"head.weight": Trap()})),
    },
    cases=5000,
)


# ------------------------------------------------------------------------------------------ checkpoints


class Trap:
    """Pickled, it begins a process where it is unpickled without restraint."""

    def __reduce__(self):
        return os.system, ("true",)


def _saved(thing, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _small_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.build(**SMALL)


def _checkpoints() -> list[Case]:
    state = _small_model().state_dict()
    wrapped = {"state_dict": state, "epoch": 3}
    return [{"x.pth": _saved(thing, legacy)} for thing in (state, wrapped) for legacy in (False, True)]


def _load_checkpoint(folder: Path) -> None:
    model = originals.load_checkpoint(_small_model(), folder / "x.pth")
    assert not model.training and all(isinstance(p, torch.Tensor) for p in model.parameters())


def _pickled(program: bytes) -> bytes:
    """A checkpoint whose pickle is a program of our own."""
    return spoil.zipped({"x/data.pkl": b"\x80\x02" + program + b".", "x/version": b"3\n", "x/byteorder": b"little"})


GADGETS = ((b"os", b"system"), (b"posix", b"system"), (b"builtins", b"eval"), (b"builtins", b"getattr"),
           (b"subprocess", b"Popen"), (b"os", b"mkdir"), (b"shutil", b"rmtree"), (b"torch", b"load"),
           (b"torch.serialization", b"load"), (b"numpy", b"load"), (b"numpy", b"fromfile"), (b"imp", b"load_source"),
           (b"numpy.core.multiarray", b"_reconstruct"), (b"numpy", b"ndarray"), (b"numpy", b"dtype"),
           (b"_codecs", b"encode"), (b"torch._utils", b"_rebuild_tensor_v2"), (b"torch", b"FloatStorage"),
           (b"collections", b"OrderedDict"), (b"torch", b"Size"), (b"numpy", b"ndarray.tofile"))  # fmt: skip
_opcodes = one_of(
    st.sampled_from(GADGETS).map(lambda gadget: b"c" + gadget[0] + b"\n" + gadget[1] + b"\n"),
    st.sampled_from([bytes([b]) for b in b"(tRbo}])ludaesh0N2\x85\x86\x87\x88\x89\x81\x94\x8f\x90\x91Q"]),
    st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=9).map(
        lambda t: b"X" + struct.pack("<I", len(t)) + t.encode()
    ),
    st.sampled_from((b"Xsprung", b"touch sprung")).map(lambda t: b"X" + struct.pack("<I", len(t)) + t),
    st.integers(0, 255).map(lambda n: b"K" + bytes([n])),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: b"J" + struct.pack("<i", n)),
    st.binary(max_size=8).map(lambda b: b"C" + bytes([len(b)]) + b),
    st.integers(0, 3).map(lambda n: b"h" + bytes([n])),
    st.integers(0, 3).map(lambda n: b"q" + bytes([n])),
)
programs = st.lists(_opcodes, max_size=20).map(b"".join)

LOADERS["checkpoint"] = Loader(
    "the originals' checkpoints, .pth",
    _checkpoints,
    _load_checkpoint,
    (CourseError,),
    (
        ("x.pth", spoil.damage),
        ("x.pth", lambda d, r, o: spoil.in_zip()(d, r, o) if d[:2] == b"PK" else spoil.damage(d, r)),
    ),
    alone("x.pth", one_of(programs.map(_pickled), programs.map(lambda p: b"\x80\x02" + p + b"."))),
    lambda: {
        "code": {"x.pth": _saved({"head.weight": Trap()})},
        "code, the old way": {"x.pth": _saved({"head.weight": Trap()}, legacy=True)},
        "code alone": {"x.pth": pickle.dumps(Trap())},
        "nothing but a whole network": {"x.pth": _saved(_small_model())},
        "300 MB of zeros in 300 kB": {"x.pth": _bomb("x/data/0", 300 << 20)},
    },
)


def _bomb(name: str, size: int) -> bytes:
    """A checkpoint whose member `name` unpacks to so many zeros."""
    good = _saved(_small_model().state_dict())
    with zipfile.ZipFile(io.BytesIO(good)) as old:
        members = {part.filename: old.read(part) for part in old.infolist()}
    first = next(iter(members)).partition("/")[0]
    members[name.replace("x/", f"{first}/", 1)] = bytes(size)
    return spoil.zipped(members, zipfile.ZIP_DEFLATED)


def _npeg_case() -> Case:
    torch.manual_seed(0)
    model, case = models.NPEG(), {}
    for name in ("encoder", "decoder"):
        layers = [m for m in getattr(model, name) if isinstance(m, torch.nn.Conv2d)]
        parts = [t.detach() for layer in layers for t in (layer.weight.permute(2, 3, 1, 0), layer.bias)]
        array = np.empty(len(parts), dtype=object)
        array[:] = [part.numpy() for part in parts]
        buffer = io.BytesIO()
        np.savez(buffer, w=array)
        case[f"{name}.npy"] = buffer.getvalue()
    return case


def _load_npeg(folder: Path) -> None:
    model = originals.load_npeg(folder / "encoder.npy", folder / "decoder.npy")
    assert not model.training and all(p.dtype == torch.float32 for p in model.parameters())


def _npeg(program: bytes) -> Case:
    header = _says("|O", "(1,)")[:-64]
    return {**_npeg_case(), "encoder.npy": spoil.zipped({"w.npy": header + b"\x80\x02" + program + b"."})}


def _doubling(times: int, kind: str) -> bytes:
    """A pickle of a few bytes for 2^times objects: each list or tuple holds the one before twice."""
    program = b"K\0\x85q\0" if kind == "tuple" else b"]q\0"
    for index in range(times):
        inner = b"h%c" % index
        program += (inner + inner + b"\x86" if kind == "tuple" else b"](" + inner + inner + b"e") + b"q%c" % (index + 1)
    return program


LOADERS["npeg"] = Loader(
    "NPEG's weights, pickled .npy",
    lambda: [_npeg_case()],
    _load_npeg,
    (CourseError,),
    (
        ("encoder.npy", spoil.damage),
        ("decoder.npy", spoil.in_zip()),
        ("encoder.npy", spoil.in_zip(lambda d, r, o: spoil.damage(d[:700], r, o) + d[700:])),
    ),
    programs.map(_npeg),
    lambda: {
        "code": _npeg(pickle.dumps([Trap()])[2:-1]),
        "lists of lists, 2^60 in all": _npeg(_doubling(60, "list")),
        "a set of tuples of tuples": _npeg(_doubling(60, "tuple") + b"q\x50\x8f(h\x50\x90"),
        "an array of a billion objects": _npeg(
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\0\0\0\x40\x85X\1\0\0\0OtR"
        ),
        "an encoding by another codec": _npeg(b"c_codecs\nencode\n(X\1\0\0\0aX\4\0\0\0zlibtR"),
        "a gigabyte of zeros": {
            **_npeg_case(),
            "encoder.npy": spoil.zipped({"w.npy": bytes(1 << 30)}, zipfile.ZIP_DEFLATED),
        },
    },
    cases=5000,
)


# ------------------------------------------------------------------------------------------ a training's last.pt

PLAN = training.Plan(4, 1e-3, every=2)


def _last(**changes) -> bytes:
    run = training.Run(_small_model(), PLAN, None, "cpu")
    for _ in range(2):
        run.update(run.network(torch.rand(1, 1, 6, 6)).square().mean())
    buffer = io.BytesIO()
    parts = ("model", "average", "optimizer", "schedule", "scaler")
    state = {name: getattr(run, name).state_dict() for name in parts}
    state |= {"step": 2, "log": [{"step": 2, "loss": 0.1}], "best": 30.0, "seconds": 1.0, "origin": run._origin()}
    torch.save(state | changes, buffer)
    return buffer.getvalue()


def _load_last(folder: Path) -> None:
    run = training.Run(_small_model(), PLAN, folder, "cpu")
    step = run.resume()
    assert type(step) is int and step >= 0
    run.update(run.network(torch.rand(1, 1, 6, 6)).square().mean())
    try:
        run.record(step + 1, [], run.bar(step, False))
    except CourseError as why:  # a flipped bit can make a weight huge
        assert "the loss is" in str(why)


_states = st.sampled_from(
    ("model", "average", "optimizer", "schedule", "scaler", "step", "log", "best", "seconds", "origin")
)
_plain = one_of(json_values, st.just(torch.zeros(2)), st.just({"param_groups": [], "state": {}}))
_changed = st.dictionaries(_states, _plain, min_size=1, max_size=2)


def _inside(part: str, value) -> bytes:
    """A checkpoint of which something within a part is another value."""
    state = torch.load(io.BytesIO(_last()), weights_only=True)
    group = state["optimizer"]["param_groups"][0]
    moments = state["optimizer"]["state"][0]
    places = {**dict.fromkeys(group, group), **dict.fromkeys(moments, moments)}
    places |= dict.fromkeys(state["schedule"], state["schedule"]) | {"head.weight": state["model"]}
    places[part][part] = value
    return _saved(state)


_inner = st.sampled_from(("lr", "betas", "eps", "params", "exp_avg", "exp_avg_sq", "step", "last_epoch", "base_lrs",
                          "_step_count", "lr_lambdas", "amsgrad", "foreach", "head.weight"))  # fmt: skip

LOADERS["resume"] = Loader(
    "a training's checkpoint, last.pt",
    lambda: [{"last.pt": _last()}],
    _load_last,
    (CourseError,),
    (("last.pt", spoil.damage), ("last.pt", spoil.in_zip())),
    alone(
        "last.pt",
        one_of(_changed.map(lambda c: _last(**c)), st.builds(_inside, _inner, _plain), programs.map(_pickled)),
    ),
    lambda: {
        "code": {"last.pt": _saved({"model": Trap()})},
        "a step that is a word": {"last.pt": _last(step="two")},
        "a step before the first": {"last.pt": _last(step=-1)},
        "a log that is none": {"last.pt": _last(log=3)},
        "an optimiser without weights": {"last.pt": _inside("params", [])},
        "moments of another shape": {"last.pt": _inside("exp_avg", torch.zeros(2))},
        "a rate that is a word": {"last.pt": _inside("lr", "fast")},
        "a schedule that is a word": {"last.pt": _inside("last_epoch", "late")},
    },
    cases=2000,
)


# ------------------------------------------------------------------------------------------ .bic, measurements


def _tiny_zoo(folder: Path) -> None:
    """Networks with few weights that the files of codec and sensing name."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = {"kind": "transform", "hidden": 4}
    model = models.build(**network)
    for part in model.context.networks:
        torch.nn.init.normal_(part[-1].weight, std=0.05)
    recipes.write(recipes.Recipe("tiny", "codec", network, plan=PLAN), model, folder)
    network = {"kind": "rescsnet-any", "width": 4, "stages": 1, "blocks": 1}
    recipes.write(recipes.Recipe("rescsnet-any", "cs", network, plan=PLAN), models.build(**network), folder)
    recipes.write(recipe("tiny-x2"), _small_model(), folder)
    zoo.WEIGHTS = folder
    codec.load.cache_clear()


def _bics() -> list[Case]:
    sizes = ((20, 30, 3), (33, 17, 1), (1, 1, 3))
    return [{"x.bic": codec.compress(photograph(*size), "tiny", quality=2 * size[0])} for size in sizes]


def _load_bic(folder: Path) -> None:
    data = (folder / "x.bic").read_bytes()
    picture, header = codec.decompress(data), codec.read_header(data)
    assert picture.shape == (1 if header.gray else 3, header.height, header.width)
    assert picture.dtype == torch.float32 and 0 <= picture.min() and picture.max() <= 1


def _bic(dial: int, height: int, width: int, name: bytes, payload: bytes) -> bytes:
    weights = bytes.fromhex(zoo.card("tiny")["sha256"])[:4]
    rest = struct.pack("<4sBHHB", weights, dial, height, width, len(name)) + name + payload
    return spoil.sealed_bic(b"BIC" + bytes([codec.VERSION]) + bytes(4) + rest)


_name = one_of(st.just(b"tiny"), st.just(b"tiny"), st.sampled_from((b"tiny-x2", b"rescsnet-any", b"../tiny")),
               st.binary(max_size=255))  # fmt: skip

LOADERS["bic"] = Loader(
    "compressed pictures, .bic",
    _bics,
    _load_bic,
    (CourseError,),
    (
        ("x.bic", spoil.damage),
        ("x.bic", lambda data, rng, other: spoil.sealed_bic(spoil.damage(data, rng, other))),
    ),
    alone(
        "x.bic",
        st.builds(_bic, st.integers(0, 255), st.integers(0, 64), st.integers(0, 64), _name, st.binary(max_size=80)),
    ),
    lambda: {
        "178 megapixels in 8 bytes": {"x.bic": _bic(0, 13_000, 13_600, b"tiny", bytes(8))},
        "a name too long for a file": {"x.bic": _bic(0, 8, 8, b"x" * 255, bytes(8))},
        "a name that is a path": {"x.bic": _bic(0, 8, 8, b"../box/tiny.json", bytes(8))},
        "a name of two lines": {"x.bic": _bic(0, 8, 8, b"a\nb", bytes(8))},
    },
    named=False,
    cases=4000,
    prepare=_tiny_zoo,
)


def _measurements() -> list[Case]:
    return [{"x.npz": sensing.sense(photograph(40, 50, 1), ratio, bits)} for ratio, bits in ((0.1, 8), (0.02, 5))]


def _load_measurements(folder: Path) -> None:
    data = (folder / "x.npz").read_bytes()
    picture, about = sensing.recover(data), sensing.read(data)[0]
    assert picture.shape == (1, about.height, about.width) and picture.dtype == torch.float32
    assert 0 <= picture.min() and picture.max() <= 1


def _resealed(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Arrays or words of a file of measurements changed, its checksum made to fit."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    name = rng.choice(("about", "scales", "measurements"))
    if name == "about":
        arrays["about"] = np.frombuffer(spoil.twist(arrays["about"].tobytes(), rng), np.uint8)
    else:
        arrays[name] = np.frombuffer(spoil.damage(arrays[name].tobytes(), rng), arrays[name].dtype)
        about = json.loads(arrays["about"].tobytes())
        about["checksum"] = zlib.crc32(arrays["measurements"].tobytes(), zlib.crc32(arrays["scales"].tobytes()))
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    return _array_file(**arrays)


def _swapped(member: str, body: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_measurements()[0]["x.npz"])) as old:
        members = {name: old.read(name) for name in old.namelist()}
    return spoil.zipped(members | {member: body})


LOADERS["measurements"] = Loader(
    "measurements, .npz",
    _measurements,
    _load_measurements,
    (CourseError,),
    (("x.npz", spoil.damage), ("x.npz", spoil.in_zip()), ("x.npz", _resealed)),
    alone(
        "x.npz",
        st.builds(
            lambda s, k, m: _swapped(f"{m}.npy", _npy_of(np.zeros(s, k))),
            _shapes,
            _kinds,
            st.sampled_from(("about", "scales", "measurements")),
        ),
    ),  # fmt: skip
    lambda: {
        "an archive where an array should be": {"x.npz": _swapped("scales.npy", _array_file(a=np.zeros(3)))},
        "an array of terabytes": {"x.npz": _swapped("measurements.npy", _says("|u1", "(10000000000000,)"))},
        "words nested two thousand times": {"x.npz": _swapped("about.npy", _npy_of(np.full(3000, 91, np.uint8)))},
        "code": {"x.npz": _swapped("scales.npy", _npy_of(np.array([Trap()], object)))},
    },
    named=False,
    prepare=_tiny_zoo,
)


def _npy_of(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------ tables of results


def _tables() -> list[Case]:
    row = {"task": "sr-x2", "dataset": "bundled", "image": "a.png", "method": "bicubic", "psnr": 30.5, "ssim": 0.9}
    table = pd.DataFrame([row, row | {"image": "b.png"}, row | {"method": "edsr-x2"}]).to_csv(index=False)
    note = {
        "fingerprint": benchmark.fingerprint("sr-x2", "bicubic"),
        "date": "2026-01-01",
        "commit": "0",
        "machine": "m",
    }
    said = json.dumps({"sr-x2/bundled/bicubic": note, "sr-x2/bundled/edsr-x2": note})
    return [{"sr-x2-bundled.csv": table.encode(), "provenance.json": said.encode()}]


def _load_tables(folder: Path) -> None:
    recipes.commit = lambda: ""  # else it asks git, which is a process
    assert isinstance(benchmark._is_current(folder, "sr-x2", "bundled", "bicubic"), bool)
    rows = pd.DataFrame([{"task": "sr-x2", "dataset": "bundled", "image": "a.png", "method": "bicubic", "psnr": 31.0}])
    benchmark._keep(folder, "sr-x2", "bundled", "bicubic", rows, ["a.png", "b.png"])
    assert benchmark._is_current(folder, "sr-x2", "bundled", "bicubic")


LOADERS["tables"] = Loader(
    "result tables and their provenance",
    _tables,
    _load_tables,
    (CourseError,),
    (("sr-x2-bundled.csv", spoil.damage), ("provenance.json", spoil.twist), ("provenance.json", spoil.damage)),
    st.builds(lambda text: _tables()[0] | {"sr-x2-bundled.csv": text.encode(errors="replace")}, st.text(max_size=60)),
    lambda: {
        "a table without methods": _tables()[0] | {"sr-x2-bundled.csv": b"task,image\nsr-x2,a.png\n"},
        "a table of nothing": _tables()[0] | {"sr-x2-bundled.csv": b""},
        "a provenance that is a list": _tables()[0] | {"provenance.json": b"[]"},
        "a provenance cut short": _tables()[0] | {"provenance.json": b'{"sr-x2/bundled/bicubic": {"fing'},
    },
    cases=2000,
)
