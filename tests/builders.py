"""Tiny pictures, networks, recipes and zoos, shared by the tests."""

import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from helpers import images, models, recipes
from helpers.training import Plan


def photograph(height: int = 32, width: int = 40, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """A smooth random picture with a few edges, float (C, H, W) in [0, 1]; the same seed, the same picture."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]
    smooth[:, height // 3 :, width // 2 :] *= 0.6
    return images.quantize(smooth)


def pictures(folder: Path, count: int = 3, height: int = 48, width: int = 56, channels: int = 3) -> Path:
    """A folder of `count` PNG photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        images.save(folder / f"{index:03d}.png", photograph(height, width, channels, seed=index))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """What lies in a folder and below, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every weight random, so that no part of the network is without effect, and outputs mostly within [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 25
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
        seen = []
        last = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)][-1]
        last.bias.zero_()
        hook = last.register_forward_hook(lambda _, __, output: seen.append(output))
        model(photograph(45, 61, getattr(model, "channels", 1))[None])
        hook.remove()
        gain = 0.1 / seen[0].std()
        last.weight *= gain
        last.bias.fill_((0.0 if _adds_to_its_input(model) else 0.5) - gain * seen[0].mean())
    return model.eval()


def _adds_to_its_input(model: torch.nn.Module) -> bool:
    return isinstance(model, models.EDSR | models.DRUNet) or getattr(model, "residual", False)


def recipe(name: str = "tiny-x2", scale: int = 2, **changes) -> recipes.Recipe:
    """A recipe of a network with a few hundred weights, for four steps."""
    task = f"sr-x{scale}" if scale > 1 else "deblock-q20"
    network = {"kind": "edsr", "scale": scale, "width": 4, "blocks": 1}
    defaults = {"plan": Plan(4, 1e-3, every=2), "patch": 8, "batch": 2, "origin": "made for a test"}
    return recipes.Recipe(name, task, **({"network": network} | defaults | changes))


def shipped(folder: Path, *made: recipes.Recipe, psnr: float = 30.0) -> Path:
    """A zoo folder with random weights and a card for each recipe; earlier ones have the higher figure."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, one in enumerate(made):
        model = randomized(models.build(**one.network), seed=index)
        recipes.write(one, model, folder, figures={one.task: {"bundled": {"psnr": psnr - index, "ssim": 0.9}}})
    return folder


def fresh(folder: Path, networks: dict[str, tuple[str, dict]], change=lambda model: None) -> Path:
    """A zoo folder of networks without training, (task, network) by name, each changed before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, (task, network)) in enumerate(networks.items()):
        torch.manual_seed(index)
        change(model := models.build(**network))
        recipes.write(recipes.Recipe(name, task, network, Plan(4, 1e-3)), model, folder)
    return folder


def png_header(width: int, height: int, mode_byte: int = 2) -> bytes:
    """The start of a PNG file that declares a size, and holds next to no pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, mode_byte, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 64)) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """One chunk of a PNG file, with the right checksum or another."""
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(samples: np.ndarray, bits: int, colour: int, *chunks: bytes, after: bytes = b"") -> bytes:
    """A PNG file of samples (H, W, C); `chunks` stand before the pixels. Colours: 0 gray, 2 RGB, 3, 4 LA, 6 RGBA."""
    height, width = samples.shape[:2]
    lines = b"".join(b"\0" + row for row in _packed(samples, bits, ">"))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = header + b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(lines)) + after + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(samples: np.ndarray, bits: int = 8, order: str = "<", **tags: int | list[int] | bytes) -> bytes:
    """An uncompressed TIFF of samples (H, W, C), gray with white at the top unless `tags` (t262=0) say otherwise."""
    height, width, channels = samples.shape
    pixels = b"".join(_packed(samples, bits, order))
    values = {256: width, 257: height, 258: [bits] * channels, 259: 1, 262: 1, 273: 8, 277: channels, 278: height}
    values |= {279: len(pixels)} | {int(name[1:]): value for name, value in tags.items()}
    entries, rest = b"", pixels  # the pixels stand behind the header, then what is too long for an entry
    for tag, value in sorted(values.items()):
        value = [value] if isinstance(value, int) else value
        data = value if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}I", *value)
        if len(data) > 4:
            data, rest = struct.pack(order + "I", 8 + len(rest)), rest + data
        kind = 2 if isinstance(value, bytes) else 4  # text or numbers
        entries += struct.pack(order + "HHI", tag, kind, len(value)) + data.ljust(4, b"\0")
    magic, end = (b"II*\0" if order == "<" else b"MM\0*"), struct.pack(order + "H", len(values)) + entries + bytes(4)
    return magic + struct.pack(order + "I", 8 + len(rest)) + rest + end


def _packed(samples: np.ndarray, bits: int, order: str) -> list[bytes]:
    """The bytes of each row, the highest bit of a sample first; of 16 bits, in this order of bytes."""
    rows = samples.reshape(len(samples), -1)
    if bits == 16:
        return [row.astype(order + "u2").tobytes() for row in rows]
    planes = (rows[:, :, None].astype(int) >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.astype(np.uint8)).tobytes() for row in planes.reshape(len(rows), -1)]
