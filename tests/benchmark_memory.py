"""Peak memory of `python -m helpers restore` on pictures of 1 and 64 megapixels, shipped networks, Linux and macOS.

    python tests/benchmark_memory.py [--side 8000]

For deblocking the picture given has 64 megapixels; for super-resolution the one that comes out.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

RUN = """
import resource, sys
from pathlib import Path
from helpers.__main__ import main
code = main(sys.argv[1:])
status = Path("/proc/self/status")  # Linux: there, ru_maxrss also counts the process that began this one
lines = status.read_text().splitlines() if status.exists() else []
peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
peak = peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("peak", peak // (2**20 if sys.platform == "darwin" else 2**10))
sys.exit(code)
"""


def peak(side: int, task: str, folder: Path) -> int:
    """MiB at the peak of restoring a square RGB picture."""
    given = folder / "given.bmp"
    Image.effect_noise((side, side), 50).convert("RGB").save(given)
    command = [sys.executable, "-c", RUN, "restore", str(given), str(folder / "out.bmp"), "--task", task, "--quiet"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.split()[-1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--side", type=int, default=8000)
    side = options.parse_args().side
    for task, scale in (("deblock-q20", 1), ("sr-x2", 2)):
        with tempfile.TemporaryDirectory() as folder:
            small, large = (peak(n // scale, task, Path(folder)) for n in (1000, side))
        print(
            f"{task:<12} 1 MP: {small} MiB, {side**2 / 1e6:.0f} MP: {large} MiB, more: {large - small} MiB", flush=True
        )


if __name__ == "__main__":
    main()
