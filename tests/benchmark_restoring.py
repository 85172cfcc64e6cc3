"""What makes restoring fast: memory that is kept, channels last, half precision. Each alone and all together.

    python tests/benchmark_restoring.py [NAME ...]

One process for each way, all on one picture with a megapixel of output; the table gives seconds and the ratio to the
plain float32 forward pass. Run it on a quiet machine.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ONE_WAY = """
import sys, time
import torch
sys.path.insert(0, {root!r})
if "kept memory" not in {way!r}:
    import ctypes
    ctypes.CDLL = lambda *_: (_ for _ in ()).throw(OSError())
from helpers import zoo
from helpers.service import devices
model = zoo.load({name!r})
side = 1000 // model.scale
y = torch.rand(1, model.channels, side, side, generator=torch.Generator().manual_seed(0))
layout = torch.channels_last if "channels last" in {way!r} else torch.contiguous_format
model, y = model.to(memory_format=layout), y.to(memory_format=layout)
half = devices.autocast(y.device) if "half precision" in {way!r} else torch.autocast("cpu", enabled=False)
with torch.inference_mode(), half:
    model(y)
    start = time.perf_counter()
    for _ in range(3):
        model(y)
print((time.perf_counter() - start) / 3)
"""
WAYS = ("plain", "kept memory", "channels last", "half precision", "kept memory, channels last, half precision")


def main(names: list[str]) -> None:
    for name in names or ["srcnn-955-x3", "edsr-x3", "jpeg-blind"]:
        seconds = {}
        for way in WAYS:
            script = ONE_WAY.format(root=str(ROOT), way=way, name=name)
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
            seconds[way] = float(done.stdout)
        print(name)
        for way, value in seconds.items():
            print(f"  {way:<44} {value:7.3f} s  {seconds['plain'] / value:5.2f} times as fast")


if __name__ == "__main__":
    main(sys.argv[1:])
