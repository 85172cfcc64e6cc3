"""Speed and peak memory of `compress` and `decompress`, the course's codecs on a real photograph, enlarged.

    python tests/benchmark_codec.py [--megapixels 2 50] [--model integer-ae] [--quality 50]

Each direction is a process of its own, as on the command line; seconds are those of the work without the start of
Python. Run it on a quiet machine.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmark_memory import RUN
from PIL import Image

PHOTOGRAPH = Path(__file__).resolve().parent.parent / "data" / "images" / "flower.png"
TIMED = RUN.replace("code = main", "import time\nfrom helpers import codec\nstart = time.perf_counter()\ncode = main")
TIMED += "print('seconds', time.perf_counter() - start)\n"
TIMED = TIMED.replace("sys.exit(code)\n", "") + "sys.exit(code)\n"


def measured(*command: str) -> tuple[float, int]:
    """Seconds, and MiB at the peak."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED, *command, "--quiet"], check=True, capture_output=True, text=True
    )
    said = done.stdout.split()
    return float(said[-1]), int(said[said.index("peak") + 1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--megapixels", type=float, nargs="+", default=[2, 50])
    options.add_argument("--model", default="integer-ae")
    options.add_argument("--quality", default="50")
    given = options.parse_args()
    for megapixels in given.megapixels:
        with tempfile.TemporaryDirectory() as folder:
            names = [str(Path(folder) / name) for name in ("in.bmp", "out.bic", "back.bmp")]
            with Image.open(PHOTOGRAPH) as photo:
                scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
                photo.convert("RGB").resize((round(photo.width * scale), round(photo.height * scale))).save(names[0])
            there = measured("compress", *names[:2], "--model", given.model, "--quality", given.quality)
            back = measured("decompress", *names[1:])
            bpp = 8 * Path(names[1]).stat().st_size / megapixels / 1e6
        for name, (seconds, memory) in (("compress", there), ("decompress", back)):
            print(f"{name:<11} {megapixels:g} MP: {seconds:.2f} s, {megapixels / seconds:.2f} MP/s, {memory} MiB")
        both = megapixels / (there[0] + back[0])
        print(f"both        {megapixels:g} MP: {both:.2f} MP/s at {bpp:.2f} bits per pixel", flush=True)


if __name__ == "__main__":
    main()
