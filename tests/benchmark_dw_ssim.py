"""DW-SSIM with its gradient, ours against window by window, as its authors wrote it: seconds and the ratio.

    python tests/benchmark_dw_ssim.py [--batch 8] [--side 100]

Window by window, the transform is two convolutions, as in the authors' library; or, better than theirs, four sums. One
thread; each way is repeated in a row, as training repeats it, three such rows in turns; the median without warm-ups.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reference_dw_ssim import haar_by_convolution, window_by_window

from helpers import wavelets


def seconds(index: Callable, x: torch.Tensor, y: torch.Tensor) -> float:
    """Time of one index with its gradient."""
    x = x.clone().requires_grad_()
    start = time.perf_counter()
    index(x, y).backward()
    return time.perf_counter() - start


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--side", type=int, default=100)
    given = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.rand(2, given.batch, 1, given.side, given.side)
    ways = {
        "window by window": lambda x, y: window_by_window(2 * x - 1, 2 * y - 1, haar_by_convolution),
        "the same, by sums": lambda x, y: window_by_window(2 * x - 1, 2 * y - 1),
        "one product": lambda x, y: wavelets.dw_ssim(x, y, joint=True),
    }
    times = {name: [] for name in ways}
    for _ in range(3):
        for name, index in ways.items():
            times[name] += [seconds(index, x, y) for _ in range(6)][1:]
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:<17} {value:8.4f} s  {medians['window by window'] / value:6.1f} times as fast")


if __name__ == "__main__":
    main()
