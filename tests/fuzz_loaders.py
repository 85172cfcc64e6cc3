"""The loaders that `fuzz.py` tries: good files, ways to spoil them, nasty ones made by hand, and what must hold."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fuzz_mutations as spoil
import numpy as np
import safetensors.torch
import torch
from builders import fresh, photograph, png_header
from PIL import Image

from helpers import CourseError, codec, datasets, images, models, sensing, training, zoo
from helpers.models import originals

Case = dict[str, bytes]  # the files of a folder, by name
Way = Callable[[Case, random.Random, Case], Case]  # a good case and another one → a case that may be bad
SMALL = {"kind": "edsr", "scale": 2, "width": 4, "blocks": 1}


@dataclass(frozen=True)
class Loader:
    """`load(folder)` returns if what it read of a case is valid, and raises one of `errors` if it refuses it.

    `nasty`: cases that must be refused. `named`: whether a message names the file. `cases`: how many a full run tries.
    """

    about: str
    good: Callable[[], list[Case]]
    load: Callable[[Path], None]
    ways: tuple[Way, ...]
    nasty: Callable[[], dict[str, Case]] = dict
    named: bool = True
    cases: int = 10_000
    memory: int = 2 << 30  # bytes that loading may take
    prepare: Callable[[Path], None] = lambda folder: None
    errors: tuple[type[Exception], ...] = (CourseError,)


def on(name: str, change: Callable = spoil.damage) -> Way:
    """A way to change one file of a case."""
    return lambda case, rng, other: case | {name: change(case[name], rng, other[name])}


def saved(write: Callable, *arguments, **options) -> bytes:
    """What a function writes into the file that it is given first."""
    buffer = io.BytesIO()
    write(buffer, *arguments, **options)
    return buffer.getvalue()


class Trap:
    """Pickled, it begins a process where it is unpickled without restraint."""

    def __reduce__(self):
        return os.system, ("true",)


# ------------------------------------------------------------------------------------- pictures, pairs, CIFAR-10

PIXELS = 32 * images.MAX_PIXELS  # bytes: twelve of floats that stand, Pillow's four, twice where it turns, our three
PLAIN = [("RGB", {}), ("L", {}), ("1", {}), ("P", {}), ("I;16", {}), ("RGBA", {}), ("LA", {}), ("CMYK", {})]
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "a cat"
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (40, 32), "red")]}
MORE = [("RGB", {"exif": EXIF, "icc_profile": b"x" * 200}), ("RGB", FRAMES)]
FORMATS = {  # suffix, and what of this kind there is beside PLAIN and MORE
    "PNG": ("png", [("P", {"transparency": 0})]),
    "JPEG": ("jpg", [("RGB", {"progressive": True}), ("RGB", {"subsampling": 2})]),
    "WEBP": ("webp", [("RGB", {"lossless": True})]),
    "TIFF": ("tif", [("RGB", {"compression": "tiff_lzw"}), ("L", {"compression": "tiff_adobe_deflate"}),
                     ("RGB", {"compression": "jpeg"}), ("1", {"compression": "group4"}),
                     ("RGBA", {"compression": "packbits"})]),
    "BMP": ("bmp", []),
    "GIF": ("gif", [("P", {"transparency": 0})]),
    "AVIF": ("avif", []),
    "JPEG2000": ("jp2", [("RGB", {"no_jp2": True}), ("RGB", {"irreversible": True, "quality_layers": [20]})]),
}  # fmt: skip
OTHERS = ("PPM", "TGA", "PCX", "ICO", "SGI", "DDS", "IM", "MPO", "QOI", "ICNS", "XBM", "MSP", "DIB")


def _encoded(kind: str, mode: str, options: dict) -> bytes:
    with Image.open(datasets.bundled("chelsea")) as cat:
        crop = cat.convert("RGB").resize((40, 32))
    if mode == "P":
        crop = crop.quantize(16)
    elif mode == "I;16":
        crop = Image.fromarray(np.asarray(crop.convert("L")).astype(np.uint16) * 257)
    else:
        crop = crop.convert(mode)
    if "A" in mode:
        crop.putalpha(Image.linear_gradient("L").resize(crop.size))
    return saved(crop.save, kind, **options)


def _written(name: str, kinds: tuple[str, ...], variants: list[tuple[str, dict]]) -> list[Case]:
    """A file of each kind, mode and options that this Pillow writes."""
    found = []
    for kind in kinds:
        for variant in variants:
            with contextlib.suppress(OSError, ValueError, KeyError):
                found.append({name: _encoded(kind, *variant)})
    return found


def _load_picture(folder: Path) -> None:
    (path,) = folder.iterdir()
    image, pixels = images.load(path), images.load_uint8(path)
    assert image.dtype == torch.float32 and image.dim() == 3 and image.shape[0] in (1, 3), image.shape
    assert image.shape == pixels.shape and pixels.dtype == torch.uint8
    assert 0 <= image.min() and image.max() <= 1
    alpha = images.load_alpha(path)
    assert alpha is None or (alpha.dtype == torch.uint8 and alpha.shape == (1, *image.shape[1:]))
    assert set(image.shape[1:]) == set(images.stored_size(path))
    assert isinstance(images.attributes(path).get("icc_profile"), bytes | None)


def _sealed_png(data: bytes, rng: random.Random, other: bytes) -> bytes:
    return spoil.sealed_png(spoil.damage(data, rng, other))


def _begun(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """The first bytes of a file, which say of what kind it is, and chance."""
    return data[: rng.randint(2, 24)] + rng.randbytes(rng.randrange(200))


def _picture_loader(kind: str) -> Loader:
    (suffix, variants), name = FORMATS[kind], {"JPEG2000": "JPEG 2000", "WEBP": "WebP"}.get(kind, kind)
    damage, begun = on(f"x.{suffix}"), on(f"x.{suffix}", _begun)
    ways, nasty = (damage, damage, damage, damage, begun), dict
    if kind == "PNG":
        sizes = {"four billion pixels": (65_536, 65_536), "two to the 32 wide": (2**32 - 1, 1), "no pixels": (0, 7)}
        found = {said: {"x.png": png_header(*size)} for said, size in sizes.items()}
        found["a palette that is not there"] = {"x.png": png_header(4, 4, 3)}
        ways, nasty = (*ways, on("x.png", _sealed_png)), lambda: found
    good = partial(_written, f"x.{suffix}", (kind,), PLAIN + MORE + variants)
    return Loader(f"pictures: {name}", good, _load_picture, ways, nasty, memory=PIXELS)


LOADERS: dict[str, Loader] = {kind.lower(): _picture_loader(kind) for kind in FORMATS if _picture_loader(kind).good()}
LOADERS["foreign"] = Loader(
    "pictures: other kinds, named .png",
    lambda: _written("x.png", OTHERS, PLAIN[:3]),
    _load_picture,
    (on("x.png"), on("x.png", _begun)),
    lambda: {
        "PostScript, which is a program": {"x.png": _encoded("EPS", "RGB", {})},
        "a page of text": {"x.png": b"this is no picture\n" * 50},
    },
    memory=PIXELS,
)


def _load_pair(folder: Path) -> None:
    poor, good = datasets.SidePairs(folder)[0]
    assert poor.shape == good.shape and poor.shape[0] == 1 and poor.shape[1] == poor.shape[2] > 0
    assert poor.dtype == torch.float32 and 0 <= min(poor.min(), good.min()) and max(poor.max(), good.max()) <= 1


def _any_png(_: bytes, rng: random.Random, __: bytes) -> bytes:
    return png_header(rng.randrange(81), rng.randrange(81), rng.choice((0, 2, 3, 4, 6)))


def _pairs() -> list[Case]:
    wide = images.to_pillow(photograph(24, 48))
    return [{"x.png": saved(wide.save, kind)} for kind in ("PNG", "JPEG", "BMP")]


LOADERS["pairs"] = Loader(
    "pair files", _pairs, _load_pair, (on("x.png"), on("x.png", _sealed_png), on("x.png", _any_png))
)


# ------------------------------------------------------------------------------------------ weights and cards


def _with_weights(weights: bytes, network: dict = SMALL) -> Case:
    about = {"name": "x", "task": "sr-x2", "origin": "made here", "network": network, "parameters": 1,
             "bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest(),
             "figures": {"sr-x2": {"bundled": {"psnr": 30.0}}}}  # fmt: skip
    return {"x.json": json.dumps(about).encode(), "x.safetensors": weights}


def _zoo_cases() -> list[Case]:
    torch.manual_seed(0)
    kinds = [SMALL, {"kind": "srcnn", "scale": 2, "kernels": [3, 1, 3]}, {"kind": "fsrcnn", "d": 4, "s": 2, "m": 1}]
    made = [{k: v.contiguous() for k, v in models.build(**network).state_dict().items()} for network in kinds]
    return [_with_weights(safetensors.torch.save(state), network) for state, network in zip(made, kinds, strict=True)]


def _load_zoo(folder: Path) -> None:
    zoo.WEIGHTS = folder
    found = zoo.available()
    model = zoo.load(folder / "x.json")
    assert len(found) == 1 and not model.training
    assert model.restore(photograph(8, 8)).shape[0] == 3
    assert zoo.for_task("sr-x2") in (["x"], [])


def _any_network(case: Case, rng: random.Random, _: Case) -> Case:
    options = ("scale", "width", "blocks", "kernels", "channels", "padding", "d", "s", "m", "ratio", "hidden", "middle",
               "std", "widths", "stages", "residual", "binary", "x")  # fmt: skip
    network = {"kind": rng.choice([*models.KINDS, "vgg"])}
    for _ in range(rng.randrange(4)):
        several = [rng.randint(-2, 9) for _ in range(rng.randrange(5))]
        value = rng.choice((rng.randint(-3, 40), 2**31, 2**62, 10**30, several, rng.choice(spoil.VALUES)))
        network[rng.choice(options)] = value
    return _with_weights(case["x.safetensors"], network)


def _resealed_weights(act: Callable) -> Way:
    """Damage to weights, with a card that has their new checksum: as whoever writes both would send them."""
    return lambda case, rng, other: _with_weights(
        act(case["x.safetensors"], rng, other["x.safetensors"]), json.loads(case["x.json"])["network"]
    )


def _tensors(end: int, *shapes: list[int]) -> bytes:
    """A safetensors file whose tensors are said to be of these shapes, each of bytes 0 to `end`."""
    names = ("head.weight", "head.bias")
    header = {n: {"dtype": "F32", "shape": s, "data_offsets": [0, end]} for n, s in zip(names, shapes, strict=False)}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(64)


LOADERS["card"] = Loader(
    "cards of networks, .json",
    _zoo_cases,
    _load_zoo,
    (on("x.json", spoil.twist), on("x.json", spoil.twist), on("x.json"), _any_network),
    lambda: {
        "nested a hundred thousand times": {"x.json": b"[" * 100_000, "x.safetensors": b""},
        "a network of a billion blocks": _with_weights(_tensors(4, [1]), SMALL | {"blocks": 10**9}),
        "a network of ten billion features": _with_weights(_tensors(4, [1]), SMALL | {"width": 10**10}),
        "a network of 14 gigabytes": _with_weights(_tensors(4, [1]), SMALL | {"width": 20_000}),
        "a scale of two to the 62": _with_weights(_tensors(4, [1]), SMALL | {"scale": 2**62}),
    },
    cases=4000,
)
LOADERS["weights"] = Loader(
    "weights, .safetensors",
    _zoo_cases,
    _load_zoo,
    (_resealed_weights(spoil.damage), _resealed_weights(spoil.in_safetensors)),
    lambda: {
        "a tensor of terabytes": _with_weights(_tensors(2**42, [2**40])),
        "a tensor of more than 2^64 bytes": _with_weights(_tensors(64, [2**40, 2**40])),
        "a header of exabytes": _with_weights(struct.pack("<Q", 2**60) + b"{}"),
        "tensors that overlap": _with_weights(_tensors(16, [4], [4])),
        "code": _with_weights(pickle.dumps({"head.weight": Trap()})),
    },
    cases=5000,
)


# ------------------------------------------------------------------------------------------ checkpoints


def _model() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.build(**SMALL)


def _saved(thing, legacy: bool = False) -> bytes:
    return saved(lambda file: torch.save(thing, file, _use_new_zipfile_serialization=not legacy))


def _checkpoints() -> list[Case]:
    state = _model().state_dict()
    return [{"x.pth": _saved(thing, old)} for thing in (state, {"state_dict": state, "epoch": 3}) for old in (0, 1)]


def _load_checkpoint(folder: Path) -> None:
    assert not originals.load_checkpoint(_model(), folder / "x.pth").training


GADGETS = (b"os\nsystem", b"posix\nsystem", b"builtins\neval", b"builtins\ngetattr", b"subprocess\nPopen",
           b"torch\nload", b"numpy\nload", b"numpy\nfromfile", b"numpy.core.multiarray\n_reconstruct",
           b"numpy\nndarray", b"numpy\ndtype", b"_codecs\nencode", b"torch._utils\n_rebuild_tensor_v2",
           b"torch\nFloatStorage", b"collections\nOrderedDict", b"torch\nSize")  # fmt: skip
OPCODES = b"(tRbo}])ludaesh0N2\x85\x86\x87\x88\x89\x81\x94\x8f\x90\x91Q"


def _opcode(rng: random.Random) -> bytes:
    text, number = rng.choice((b"sprung", b"touch sprung", rng.randbytes(8))), bytes([rng.randrange(4)])
    strings = (b"X" + struct.pack("<I", len(text)) + text, b"C" + bytes([len(text)]) + text)
    numbers = (b"K" + rng.randbytes(1), b"J" + rng.randbytes(4), b"h" + number, b"q" + number)
    return rng.choice((b"c" + rng.choice(GADGETS) + b"\n", bytes([rng.choice(OPCODES)]), *strings, *numbers))


def program(rng: random.Random) -> bytes:
    """A pickle of random operations, some of which would run code."""
    return b"\x80\x02" + b"".join(_opcode(rng) for _ in range(rng.randrange(21))) + b"."


def _any_checkpoint(_: bytes, rng: random.Random, __: bytes) -> bytes:
    parts = {"x/data.pkl": program(rng), "x/version": b"3\n", "x/byteorder": b"little"}
    return rng.choice((parts["x/data.pkl"], spoil.zipped(parts)))


def _bomb() -> bytes:
    """A checkpoint one of whose members unpacks to 300 MB of zeros."""
    with zipfile.ZipFile(io.BytesIO(_saved(_model().state_dict()))) as old:
        members = {name: old.read(name) for name in old.namelist()}
    name = next(name for name in members if name.endswith("data/0"))
    return spoil.zipped(members | {name: bytes(300 << 20)}, zipfile.ZIP_DEFLATED)


LOADERS["checkpoint"] = Loader(
    "the originals' checkpoints, .pth",
    _checkpoints,
    _load_checkpoint,
    (on("x.pth"), on("x.pth", spoil.in_zip()), on("x.pth", _any_checkpoint)),
    lambda: {
        "code": {"x.pth": _saved({"head.weight": Trap()})},
        "code, the old way": {"x.pth": _saved({"head.weight": Trap()}, legacy=True)},
        "code alone": {"x.pth": pickle.dumps(Trap())},
        "nothing but a whole network": {"x.pth": _saved(_model())},
        "300 MB of zeros in 300 kB": {"x.pth": _bomb()},
    },
)


# ------------------------------------------------------------------------------------------ a training's last.pt

PLAN = training.Plan(2, 1e-3, every=2)


def _last(**changes) -> Case:
    def batch(step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.rand(1, 1, 6, 6), torch.rand(1, 1, 12, 12)

    with tempfile.TemporaryDirectory() as folder:
        training.train(_model(), batch, torch.nn.MSELoss(), PLAN, out=folder, progress=False)
        state = torch.load(Path(folder) / "last.pt", weights_only=True)
    return {"last.pt": _saved(state | changes)}


def _load_last(folder: Path) -> None:
    step = training.Run(_model(), PLAN, folder, "cpu").resume()
    assert type(step) is int and step >= 0


def _changed(case: Case, rng: random.Random, _: Case) -> Case:
    """One of a checkpoint's parts is something else."""
    state = torch.load(io.BytesIO(case["last.pt"]), weights_only=True)
    strange = (torch.zeros(2), {"param_groups": [], "state": {}}, rng.choice(spoil.VALUES))
    return {"last.pt": _saved(state | {rng.choice(list(state)): rng.choice(strange)})}


LOADERS["resume"] = Loader(
    "a training's checkpoint, last.pt",
    lambda: [_last()],
    _load_last,
    (on("last.pt"), on("last.pt", spoil.in_zip()), _changed, on("last.pt", _any_checkpoint)),
    lambda: {
        "code": {"last.pt": _saved({"model": Trap()})},
        "a step that is a word": _last(step="two"),
        "a log that is none": _last(log=3),
        "another network": _last(model={"head.weight": torch.zeros(2)}),
    },
    cases=2000,
)


# ------------------------------------------------------------------------------------------ .bic, measurements


def _tiny_zoo(folder: Path) -> None:
    """Networks with few weights that the files of codec and sensing name."""

    def random(model: torch.nn.Module) -> None:
        for part in getattr(getattr(model, "context", None), "networks", []):
            torch.nn.init.normal_(part[-1].weight, std=0.05)

    any_ratio = {"kind": "rescsnet-any", "width": 4, "stages": 1, "blocks": 1}
    made = {"tiny": ("codec", {"kind": "transform", "hidden": 4}), "rescsnet-any": ("cs", any_ratio)}
    made["tiny-detail"] = ("codec", {"kind": "detail", "hidden": 4})
    zoo.WEIGHTS = fresh(folder, made | {"tiny-x2": ("sr-x2", SMALL)}, random)
    codec._load.cache_clear()


def _bics() -> list[Case]:
    sizes = ((20, 30, 3), (33, 17, 1), (1, 1, 3), (48, 20, 3))  # the last one in two layers
    fitted = {"x.bic": codec.compress(photograph(20, 30), "fitted", minutes=0.001)}
    return [fitted, *({"x.bic": codec.compress(photograph(*size), "tiny", quality=2 * size[0])} for size in sizes)]


def _load_bic(folder: Path) -> None:
    data = (folder / "x.bic").read_bytes()
    picture, header = codec.decompress(data), codec.read_header(data)
    assert picture.shape == (1 if header.gray else 3, header.height, header.width)
    assert picture.dtype == torch.float32 and 0 <= picture.min() and picture.max() <= 1


def _bic(height: int, width: int, name: bytes, payload: bytes = bytes(8), dial: int = 0, fine: bool = False) -> Case:
    signature = codec.load("tiny").signature(codec.DETAILED if fine else 0)
    rest = struct.pack("<4sBHHB", signature, dial, height, width, len(name)) + name + payload
    version = codec.DETAILED_VERSION if fine else codec.VERSION
    return {"x.bic": spoil.sealed_bic(b"BIC" + bytes([version]) + bytes(4) + rest)}


def _any_bic(_: Case, rng: random.Random, __: Case) -> Case:
    name = rng.choice((b"tiny", b"tiny", b"tiny-x2", b"rescsnet-any", b"../tiny", rng.randbytes(rng.randrange(256))))
    payload, dial = rng.randbytes(rng.randrange(80)), rng.randrange(256)
    return _bic(rng.randrange(65), rng.randrange(65), name, payload, dial, fine=rng.random() < 0.5)


LOADERS["bic"] = Loader(
    "compressed pictures, .bic",
    _bics,
    _load_bic,
    (on("x.bic"), on("x.bic", lambda *given: spoil.sealed_bic(spoil.damage(*given))), _any_bic),
    lambda: {
        "178 megapixels in 8 bytes": _bic(13_000, 13_600, b"tiny"),
        "a name too long for a file": _bic(8, 8, b"x" * 255),
        "a name that is a path": _bic(8, 8, b"../box/tiny.json"),
        "a name of two lines": _bic(8, 8, b"a\nb"),
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


def _other_arrays(case: Case, rng: random.Random, _: Case) -> Case:
    """Words, numbers or the kind of the arrays changed."""
    with np.load(io.BytesIO(case["x.npz"])) as archive:
        arrays = dict(archive)
    name = rng.choice(list(arrays))
    changed = (spoil.twist if name == "about" else spoil.damage)(arrays[name].tobytes(), rng)
    kind = rng.choice(("u1", "i1", "<u2", "<i8", "<f4", "<f8", "?", "<c8", "S3", "<U2", "<M8[s]"))
    other = np.zeros([rng.randrange(41) for _ in range(rng.randrange(5))], kind)
    arrays[name] = rng.choice((np.frombuffer(changed, arrays[name].dtype), other))
    return {"x.npz": saved(np.savez_compressed, **arrays)}


def _swapped(member: str, body: bytes) -> Case:
    with zipfile.ZipFile(io.BytesIO(_measurements()[0]["x.npz"])) as old:
        members = {name: old.read(name) for name in old.namelist()}
    return {"x.npz": spoil.zipped(members | {member: body})}


HUGE = {"descr": "|u1", "fortran_order": False, "shape": (10**13,)}
LOADERS["measurements"] = Loader(
    "measurements, .npz",
    _measurements,
    _load_measurements,
    (on("x.npz"), on("x.npz", spoil.in_zip()), _other_arrays),
    lambda: {
        "an archive where an array should be": _swapped("scales.npy", saved(np.savez, a=np.zeros(3))),
        "an array of terabytes": _swapped("measurements.npy", saved(np.lib.format.write_array_header_1_0, HUGE)),
        "words nested two thousand times": _swapped("about.npy", saved(np.save, np.full(3000, 91, np.uint8))),
        "code": _swapped("scales.npy", saved(np.save, np.array([Trap()], object))),
    },
    named=False,
    prepare=_tiny_zoo,
)
