"""Speed and bytes of the entropy coder, beside those of constriction's range coder where that is installed.

    python tests/benchmark_rangecoder.py PICTURE ... [--model integer-ae] [--qualities 0 30 50 90] [--runs 5]

Both code the codes of the same pictures, with the same means and scales, in turns, in seconds of this process alone;
printed are medians. To compare, `pip install constriction` first.
"""

import argparse
import statistics
import time

import numpy as np

from helpers import codec, images
from helpers.rangecoder import TOP, LevelDecoder, LevelEncoder, laplace_tables

try:
    import constriction
except ImportError:
    constriction = None

Pass = tuple[np.ndarray, np.ndarray, np.ndarray]  # levels, means, scales as the coder wants them


def passes(path: str, name: str, quality: float) -> list[Pass]:
    """What the codec has to code of a picture, pass by pass."""
    found, coder = [], codec.load(name)
    pixels, dial = images.load_uint8(path), round(codec.DIAL * quality / 100)
    rate = codec.dial_rate(dial)

    def put(given, means, scales):
        found.append((given, means, scales))
        return given

    for corner in codec._corners(*pixels.shape[-2:]):
        coder.context.walk(coder.levels(pixels, dial, corner), coder.model.exact_steps(rate), rate, put)
    return found


def ours(found: list[Pass]) -> tuple[float, float, int]:
    """Seconds to encode and to decode, and bytes."""
    start = time.process_time()
    encoder = LevelEncoder()
    for levels, means, scales in found:
        encoder.put(levels, means, scales)
    encoder.end_tile()
    data, middle = encoder.finish(), time.process_time()
    decoder = LevelDecoder(data)
    back = [decoder.get(means, scales) for _, means, scales in found]
    end = time.process_time()
    assert all((levels == levels_).all() for levels_, (levels, *_) in zip(back, found, strict=True))
    return middle - start, end - middle, len(data)


def theirs(found: list[Pass]) -> tuple[float, float, int]:
    """The same of constriction."""
    laplace = constriction.stream.model.QuantizedLaplace(-TOP, TOP)
    floats = [(levels.astype(np.int32), means / 64, np.exp(scales / 16)) for levels, means, scales in found]
    start = time.process_time()
    encoder = constriction.stream.queue.RangeEncoder()
    for levels, means, scales in floats:
        encoder.encode(levels, laplace, means, scales)
    data, middle = encoder.get_compressed(), time.process_time()
    decoder = constriction.stream.queue.RangeDecoder(data)
    for _, means, scales in floats:
        decoder.decode(laplace, means, scales)
    return middle - start, time.process_time() - middle, 4 * len(data)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("pictures", nargs="+")
    options.add_argument("--model", default="integer-ae")
    options.add_argument("--qualities", type=float, nargs="+", default=[0, 30, 50, 90])
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args()
    coders = {"ours": ours} | ({"constriction": theirs} if constriction else {})
    laplace_tables()
    for quality in given.qualities:
        totals, symbols, worst = {name: np.zeros(3) for name in coders}, 0, (-1.0, "")
        for path in given.pictures:
            found = passes(path, given.model, quality)
            symbols += sum(len(levels) for levels, *_ in found)
            runs = {name: [] for name in coders}
            for _ in range(given.runs):
                for name, code in coders.items():
                    runs[name].append(code(found))
            medians = {name: [statistics.median(one) for one in zip(*of, strict=True)] for name, of in runs.items()}
            for name, of in medians.items():
                totals[name] += of
            if constriction:
                worst = max(worst, (medians["ours"][2] / medians["constriction"][2] - 1, path))
        print(f"quality {quality:g}, {symbols / 1e6:.2f} million symbols")
        for name, (there, back, size) in totals.items():
            speed = symbols / (there + back) / 1e6
            print(
                f"  {name:<12} {size:9.0f} bytes, {there:.2f} + {back:.2f} s, {speed:.1f} million symbols/s both ways"
            )
        if constriction:
            size, speed = (totals["ours"][2] / totals["constriction"][2], sum(totals["constriction"][:2]))
            print(f"  bytes {100 * size - 100:+.2f} %, at worst {100 * worst[0]:+.2f} % ({worst[1]}),", end=" ")
            print(f"{speed / sum(totals['ours'][:2]):.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()
