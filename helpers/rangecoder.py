"""An entropy coder in integers: symbols to bits and back, with the same result on every machine.

It is range asymmetric numeral systems, rANS (Duda, "Asymmetric numeral systems", arXiv 1311.2540, 2013), in many lanes
side by side (Giesen, "Interleaved entropy coders", arXiv 1402.3392, 2014): NumPy codes up to a thousand symbols a step.

A table gives each symbol s of an alphabet a frequency f(s) ≥ 1. They sum to 2¹⁶; c(s) is the sum of those before s. A
lane is a number x, 2²⁰ ≤ x < 2²¹, which takes up a symbol and gives it back:

    put s:  x → 2¹⁶ ⌊x / f(s)⌋ + c(s) + x mod f(s)
    get:    s is the one with c(s) ≤ x mod 2¹⁶ < c(s) + f(s);   x → f(s) ⌊x / 2¹⁶⌋ + x mod 2¹⁶ − c(s)

`get` undoes `put`: x mod f(s) < f(s), so the last 16 bits of the new number lie in the interval of s and of no other
symbol, and the bits above them are ⌊x / f(s)⌋. A symbol costs −log₂ of its probability, since x grows by 2¹⁶ / f(s).

Before s is put, the last n bits of x go to the file, for the one n that leaves 16 f(s) ≤ x < 32 f(s): so the new
number is in [2²⁰, 2²¹) again. After `get`, the bits that x lacks to 21 are those n; a decoder reads them. What was
written last is read first: an encoder goes from the last symbol to the first.
"""

import functools
import math
import re
from collections.abc import Callable
from decimal import Context, Decimal, localcontext

import numpy as np

from .service.errors import require

PRECISION, STATE = 16, 20  # bits: of the sum of the frequencies, and of a lane after its leading one
TOTAL, LOW = 1 << PRECISION, 1 << STATE
LANES = 1024  # at most


class Tables:
    """The frequencies of many alphabets, end to end in one sorted list: one search finds a symbol of any of them."""

    def __init__(self, rows: list[np.ndarray]):
        """`rows`: for each table the frequencies of its symbols 0, 1, …: integers from 1 that sum to 2¹⁶."""
        self.frequency = np.concatenate(rows).astype(np.int32)
        self.first = np.cumsum([0, *map(len, rows[:-1])])  # where each table begins in the list
        key = np.cumsum(self.frequency) - self.frequency  # 2¹⁶ · table + c(symbol), since each table sums to 2¹⁶
        self.key = key.astype(np.int32)


def frequencies(weights: np.ndarray) -> np.ndarray:
    """Frequencies in proportion to weights, integers from 0 to 2⁴⁵, along the last axis; integer arithmetic only."""
    weights = np.asarray(weights, np.int64)
    rows = 1 + weights * (TOTAL - weights.shape[-1]) // weights.sum(-1, keepdims=True)
    largest = np.indices(rows.shape)[-1] == weights.argmax(-1)[..., None]
    return rows + largest * (TOTAL - rows.sum(-1, keepdims=True))


class Encoder:
    """Symbols to bytes: sections from the last to the first, and within a section its symbols in their order.

    All lanes end as 20 bits of the file each, so they must begin as 20 bits that had to be stored anyway: there is one
    lane first, and new ones begin as the bits that were written last. A decoder puts these back where it comes there.
    """

    def __init__(self, tables: Tables):
        self.tables, self.section = tables, []
        self.lanes, self.growth, self.count = np.array([LOW], np.int32), 0, 0
        self.written = []  # bits, those of the end of the file first

    def put(self, tables: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """Append symbols, (n,) integers, each with the number of its table, to the section; returns them."""
        self.section.append((self.tables.first[tables] + symbols).astype(np.int32))
        return symbols

    def end_section(self) -> None:
        """Code the section, in the steps of the decoder, the last one first. The next one stands before it."""
        entries = np.concatenate([*self.section, np.empty(0, np.int32)])
        frequency, start = self.tables.frequency[entries], self.tables.key[entries] & TOTAL - 1
        if not self.count:
            self.growth = _growth(PRECISION - np.log2(frequency[::-1]))
        self.count += len(entries)
        steps, begin, end = [], 0, 0
        for symbols in self.section:
            end += len(symbols)
            while begin < end:
                lanes = _lanes(self.count - begin, self.growth)
                stop = min(begin + lanes, end)
                steps.append((lanes, slice(begin, stop)))
                begin = stop
        for lanes, where in reversed(steps):
            if lanes > len(self.lanes):
                self._grow(lanes)
            f = frequency[where]
            x = self.lanes[: len(f)]
            whole = x // f
            n = np.frexp(whole)[1] - (STATE - PRECISION + 1)
            self.written.append(_bits(x, n))
            whole >>= n  # as of x without its last n bits
            self.lanes[: len(f)] = (whole << PRECISION) + start[where] + (x >> n) - whole * f
        self.section = []

    def _grow(self, lanes: int) -> None:
        bits = np.concatenate([*self.written[::-1], np.empty(0, np.uint8)])
        wanted = STATE * (lanes - len(self.lanes))
        taken = np.pad(bits[:wanted], (0, max(0, wanted - len(bits)))).reshape(-1, STATE)  # zeros, where bits lack
        self.lanes = np.append(self.lanes, LOW + taken @ (1 << np.arange(STATE)[::-1])).astype(np.int32)
        self.written = [bits[wanted:]]

    def finish(self) -> bytes:
        """How the lanes grow, how many symbols there are, the lanes, and the bits that `get` will need."""
        self.end_section()
        bits = np.concatenate([_bits(self.lanes, np.full(len(self.lanes), STATE)), *self.written[::-1]])
        rest, count = self.count >> 7, [self.count & 127]  # seven bits a byte; all bytes but the last are over 127
        while rest:
            rest, count = rest >> 7, [rest & 127 | 128, *count]
        return bytes([self.growth, *count]) + np.packbits(bits).tobytes()


class Decoder:
    """The bytes of an Encoder back to symbols. Raises ValueError, with a reason, where they cannot be such bytes."""

    def __init__(self, data: bytes, tables: Tables):
        head = re.match(rb"(.)([\x80-\xff]{0,4}[\0-\x7f])", data, re.DOTALL)
        require(head, "they begin wrong")
        self.tables, self.growth = tables, data[0]
        self.left = functools.reduce(lambda count, byte: count << 7 | byte & 127, head[2], 0)
        self._open(data[head.end() :])
        self.lanes = (LOW + self._read(np.full(_lanes(self.left, self.growth), STATE))).astype(np.int32)

    def get(self, tables: np.ndarray) -> np.ndarray:
        """The next symbols, (n,) int64, one of each table."""
        require(len(tables) <= self.left, "they hold fewer symbols")  # of more, one lane could take hours
        keys, found, at = tables.astype(np.int32) << PRECISION, np.empty(len(tables), np.int64), 0
        while at < len(keys):
            x = self.lanes[: len(keys) - at]
            where = slice(at, at + len(x))
            key = keys[where] + (x & TOTAL - 1)
            entry = found[where] = self.tables.key.searchsorted(key, "right") - 1
            x = self.tables.frequency[entry] * (x >> PRECISION) + key - self.tables.key[entry]
            lacking = STATE + 1 - np.frexp(x)[1]
            self.lanes[: len(x)] = x << lacking | self._read(lacking)
            at, self.left = at + len(x), self.left - len(x)
            if _lanes(self.left, self.growth) < len(self.lanes):
                self._shrink(_lanes(self.left, self.growth))
        return found - self.tables.first[tables]

    def finish(self) -> None:
        """Raises ValueError if the symbols are not all that were put, or some were read wrong."""
        require(not self.left and self.lanes[0] == LOW, "they do not end where they should")

    def _open(self, data: bytes) -> None:
        self.data, self.at = data, 0  # in bits
        # a 32-bit word from each byte on, the first one highest: any 20 bits lie in one
        self.windows = np.ndarray(len(data) + 4 * LANES, ">u4", data + bytes(4 * LANES + 3), strides=(1,))

    def _read(self, counts: np.ndarray) -> np.ndarray:
        """The next bits as numbers, of at most 20 bits each."""
        ends = self.at + counts.cumsum()
        self.at = int(ends[-1])
        require(self.at <= 8 * len(self.data), "they end too early")
        begins = ends - counts
        return self.windows[begins >> 3] >> (32 - (begins & 7) - counts) & (1 << counts) - 1

    def _shrink(self, lanes: int) -> None:
        rest = np.unpackbits(np.frombuffer(self.data[self.at >> 3 :], np.uint8))[self.at & 7 :]
        back = _bits(self.lanes[lanes:], np.full(len(self.lanes) - lanes, STATE))
        self._open(np.packbits(np.concatenate([back, rest])).tobytes())
        self.lanes = self.lanes[:lanes]


def _bits(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The last `counts` bits of each value, one after another: uint8 of 0 and 1."""
    place = np.repeat(counts.cumsum(), counts) - 1 - np.arange(counts.sum())
    return (np.repeat(values, counts) >> place & 1).astype(np.uint8)


def _lanes(left: int, growth: int) -> int:
    """How many lanes code the next step where `left` symbols are left to decode: few for the last ones."""
    late, pace = divmod(growth, 16)
    return min(1 << (max(0, left - (1 << late)) >> pace).bit_length(), LANES)


def _growth(bits: np.ndarray) -> int:
    """How lanes should grow: in few steps, each lane out of bits that are there. `bits`: of each symbol, last first.

    An encoder may choose by floats, since a decoder is told.
    """
    lanes = 1 << np.arange(LANES.bit_length() - 1)
    needed = np.searchsorted(np.cumsum(bits), STATE * (2 * lanes - 1)) + 1  # symbols, before there can be 2 · lanes
    choices = [(1 << 20, 255)]  # about how many steps until all lanes are there; the growth
    for pace in range(16):
        late = int((needed - (lanes << pace)).clip(1).max() - 1).bit_length()
        if late < 16:
            # ten doublings to 1,024 lanes take 2^(pace − 1) steps each
            choices.append(((1 << late) + (5 << pace), 16 * late + pace))
    return min(choices)[1]


# ------------------------------------------------------------------------------- rounded numbers by their Laplace law

SCALES = range(-48, 81)  # sixteenths of the natural logarithm of a scale, which is in steps: 0.05 to 148
MEAN = 64  # means are given in so many parts of a step
COARSE = np.clip(np.array(SCALES) + 32, 0, 55) // 11  # a wide distribution needs no exact mean: MEAN >> coarse parts
TOP = 511  # levels go from -511 to 511
LIMITS = range(5, 12)  # logarithms of the doubt, of 2¹⁶, below which levels are coded in runs
RUNS = range(4, 14)  # logarithms of the lengths that runs may have
ENOUGH = 1 << 20  # levels: so many wait until it is decided how they are coded
ONE = 40  # bits after the point of the numbers that tables are made of


class LaplaceTables:
    """For each scale and each fraction of the mean that matters to it, the distribution of the level.

    Symbol 0 stands for all levels out of reach, then come those from -reach to reach steps around the likeliest one.
    """

    def __init__(self):
        with localcontext(Context(prec=30)):
            scales = [_laplace(k, MEAN >> int(coarse)) for k, coarse in zip(SCALES, COARSE, strict=True)]
        rows = [row for table in scales for row in table]
        self.first = np.cumsum([0, *map(len, scales[:-1])])
        self.half = np.array([*(len(row) // 2 for row in rows), 3])  # the symbol of the likeliest level
        self.doubt = TOTAL - np.array([row[len(row) // 2] for row in rows])  # of 2¹⁶
        self.surprise, self.plain, self.run = range(len(rows), len(rows) + 3)  # `run`: the first of the tables of runs
        rows.append(frequencies([1, 32, 480, 0, 480, 32]))  # out of reach, -2, -1, 0, 1, 2 from the likeliest level
        rows.append(np.full(1 << 10, TOTAL >> 10))  # any level, out of reach
        rows += [np.append(np.full(1 << k, TOTAL >> k + 1), TOTAL >> 1) for k in RUNS]
        self.all = Tables(rows)

    def place(self, means: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each level the table and the likeliest value; means in 1/64 of a step, scales as in SCALES: integers."""
        scale = np.clip(scales, SCALES[0], SCALES[-1]) - SCALES[0]
        coarse = COARSE[scale]
        # rounded to a multiple of 2^coarse, in those; counted from the lower end of a level
        mean = ((means + ((1 << coarse) >> 1)) >> coarse) + ((MEAN // 2) >> coarse)
        return self.first[scale] + (mean & ((MEAN - 1) >> coarse)), ((mean << coarse) >> 6).clip(-TOP, TOP)

    def symbols(self, levels: np.ndarray, tables: np.ndarray, modes: np.ndarray) -> np.ndarray:
        """The symbols of levels, whose likeliest values are `modes`."""
        half = self.half[tables]
        symbols = levels - modes + half
        return np.where((symbols > 0) & (symbols < 2 * half), symbols, 0)

    def walk(
        self, choice: int, levels: np.ndarray, tables: np.ndarray, modes: np.ndarray, code: Callable
    ) -> np.ndarray:
        """Go through levels, (n,), by the tables and likeliest values of `place`; returns them.

        Most levels are all but certain. Where others than the likeliest have less than 2^limit of 2¹⁶, levels are not
        coded one by one: a symbol tells how many in a row are the likeliest, up to 2^run. `choice` is both, in a byte.

        `code(tables, symbols)` returns symbols: an encoder's those that it is given, a decoder's those that it reads.
        """
        run = min(RUNS[0] + choice % 16, RUNS[-1])
        levels, likely = levels.copy(), self.doubt[tables] >> (choice >> 4) == 0
        levels[~likely] = self._each(levels[~likely], tables[~likely], modes[~likely], code)
        likely = np.flatnonzero(likely)
        others, wrong, at = iter(np.flatnonzero(levels[likely] != modes[likely]).tolist()), [], 0
        end = next(others, math.inf)
        while at < len(likely):
            given = np.array([min(end - at, 1 << run)])
            length = int(code(np.array([self.run + run - RUNS[0]]), given)[0])
            at += length
            if length < 1 << run:
                wrong.append(at)
                at, end = at + 1, next(others, math.inf)
        require(not wrong or wrong[-1] < len(likely), "they hold a run that is too long")
        wrong = likely[wrong]
        levels[wrong] = self._each(levels[wrong], np.full(len(wrong), self.surprise), modes[wrong], code)
        return levels

    def _each(self, levels: np.ndarray, tables: np.ndarray, modes: np.ndarray, code: Callable) -> np.ndarray:
        symbols = code(tables, self.symbols(levels, tables, modes))
        outside = symbols == 0
        found = modes + symbols - self.half[tables]
        found[outside] = code(np.full(outside.sum(), self.plain), levels[outside] + TOP) - TOP
        return found.clip(-TOP, TOP)


def _laplace(k: int, parts: int) -> np.ndarray:
    """The tables of one scale, e^(k/16) steps, (fractions of the mean from -½ on, symbols).

    The tails of the distribution come from one e⁻ˣ of `decimal`, which by its standard is the correctly rounded one,
    and from products of integers: nothing here can differ between machines.
    """
    scale = (Decimal(k) / 16).exp()
    reach = min(int(12 * scale) + 1, 2 * TOP)
    ratio = int((-1 / (parts * scale)).exp() * 2**ONE)
    tail = [1 << ONE]  # twice the probability to be more than 0, 1, 2, … parts above the mean
    while len(tail) <= parts * (reach + 1):
        tail.append(tail[-1] * ratio >> ONE)
    edges = parts * np.arange(reach + 1) + parts // 2  # ½, 1½, …
    mean = np.arange(parts)[:, None] - parts // 2
    above, below = np.array(tail)[edges - mean], np.array(tail)[edges + mean]
    middle = (2 << ONE) - above[:, :1] - below[:, :1]
    outside = above[:, -1:] + below[:, -1:]
    return frequencies(np.hstack([outside, -np.diff(below)[:, ::-1], middle, -np.diff(above)]))


laplace_tables = functools.cache(LaplaceTables)  # the one instance, which takes a tenth of a second


class LevelEncoder:
    """Levels with means and scales to bytes: the tiles of a picture from the last to the first, a tile in its order."""

    def __init__(self):
        self.tables, self.tile, self.waiting, self.choice = laplace_tables(), [], [], None
        self.encoder = Encoder(self.tables.all)

    def put(self, levels: np.ndarray, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """The next levels of the tile, (n,) from -511 to 511, which it returns; the rest as in LaplaceTables.place."""
        self.tile.append([part.astype(np.int16) for part in (levels, *self.tables.place(means, scales))])
        return levels

    def end_tile(self) -> None:
        """What is put from now on is the tile before."""
        self.waiting, self.tile = self.tile + self.waiting, []
        if sum(len(levels) for levels, *_ in self.waiting) >= ENOUGH:
            self._code()

    def finish(self) -> bytes:
        """The bytes: the choice, and those of the Encoder."""
        self._code()
        return bytes([self.choice]) + self.encoder.finish()

    def _code(self) -> None:
        if self.choice is None:
            self.choice = self._choose()
        for part in self.waiting:
            self.tables.walk(self.choice, *part, self.encoder.put)
        self.encoder.end_section()
        self.waiting = []

    def _choose(self) -> int:
        """The limit and the run of the fewest bits, as a byte."""
        levels, table, mode = map(np.concatenate, zip(*self.waiting, strict=True))
        grade, wrong = np.frexp(self.tables.doubt)[1][table], levels != mode  # the limit that each is below
        single = self._price(levels, table, mode)
        told = wrong * self._price(levels, np.full(len(table), self.tables.surprise), mode)
        sums = [np.bincount(grade, of, 17) for of in (np.ones(len(table)), wrong, single, told)]
        count, wrong, single, told = np.cumsum(sums, 1)[:, LIMITS]
        places = np.log2((count + 1) / (wrong + 1))
        best = (wrong * (places + 2) + told - single).argmin()  # a place in a run costs 2 bits more, or less
        return LIMITS[best] << 4 | int(places[best].clip(RUNS[0], RUNS[-1])) - RUNS[0]

    def _price(self, levels: np.ndarray, tables: np.ndarray, modes: np.ndarray) -> np.ndarray:
        """The bits of each level."""
        symbols = self.tables.symbols(levels, tables, modes)
        bits = PRECISION - np.log2(self.tables.all.frequency)
        return bits[self.tables.all.first[tables] + symbols] + 10 * (symbols == 0)


class LevelDecoder:
    """The bytes of a LevelEncoder back to levels. Raises ValueError, as a Decoder does."""

    def __init__(self, data: bytes):
        self.tables, self.choice = laplace_tables(), data[0] if data else 0
        self.decoder = Decoder(data[1:], self.tables.all)
        self.finish = self.decoder.finish

    def get(self, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """The next levels, (n,) int64, of the first tile first."""
        tables, modes = self.tables.place(means, scales)
        return self.tables.walk(self.choice, modes, tables, modes, lambda tables, _: self.decoder.get(tables))
