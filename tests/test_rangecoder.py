"""The entropy coder: what goes in comes out, at the price of its probability, and the bytes are the same everywhere."""

import decimal
import hashlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers import rangecoder
from helpers.rangecoder import RUNS, TOP, TOTAL, Decoder, Encoder, LevelDecoder, LevelEncoder, Tables, frequencies

ALPHABETS = Tables([frequencies(row) for row in ([1, 1], [0, 1, 10**6], np.arange(200), [5, 0, 0, 1, 2], [7])])


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tables, and a symbol of each, as often as its frequency says; by integers, so the same on all machines."""
    key = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    tables = (key >> np.uint64(40)).astype(np.int64) % len(ALPHABETS.first)
    slots = (key >> np.uint64(20)).astype(np.int64) % TOTAL
    return tables, np.searchsorted(ALPHABETS.key, tables * TOTAL + slots, "right") - 1 - ALPHABETS.first[tables]


def coded(parts: list, sections: int = 1) -> bytes:
    encoder = Encoder(ALPHABETS)
    for section in reversed(np.array_split(np.arange(len(parts)), sections)):
        for part in section:
            encoder.put(*parts[part])
        encoder.end_section()
    return encoder.finish()


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(1, 3), st.integers(0, 2**63))
def test_symbols_come_back_in_their_order(sizes, sections, seed):
    tables, symbols = drawn(sum(sizes), seed)
    cuts = np.cumsum(sizes)[:-1]
    parts = list(zip(np.split(tables, cuts), np.split(symbols, cuts), strict=True)) if sizes else []
    decoder = Decoder(coded(parts, sections), ALPHABETS)
    for tables_, symbols_ in parts:
        np.testing.assert_array_equal(decoder.get(tables_), symbols_)
    decoder.finish()


@pytest.mark.parametrize(("count", "more"), [(0, 5), (10, 6), (1000, 8), (300000, 40)])
def test_a_file_takes_few_bytes_more_than_its_symbols_must(count, more):
    """Lanes cost nothing: a thousand of them, of twenty bits each, would be 2,560 bytes."""
    tables, symbols = drawn(count, 0)
    bits = -np.log2(ALPHABETS.frequency[ALPHABETS.first[tables] + symbols] / TOTAL).sum()
    assert bits / 8 <= len(coded([(tables, symbols)])) <= bits / 8 + more


def test_lanes_hardly_begin_where_there_are_no_bits_for_them():
    """Each lane that begins as zeros costs twenty bits; these symbols are worth one, all together."""
    certain, tables = Tables([frequencies([0, 10**9])]), np.zeros(66000, np.int64)
    encoder = Encoder(certain)
    encoder.put(tables, tables + 1)
    data = encoder.finish()
    assert len(data) < 60
    np.testing.assert_array_equal(Decoder(data, certain).get(tables), tables + 1)


def test_the_coder_is_the_one_of_the_docstring():
    """One lane, in Python's integers, as the proof has it: the same number at the end, and the same bits."""
    tables, symbols = drawn(12, 1)
    data = coded([(tables, symbols)])
    assert data[0] >> 4 >= 4  # one lane for the last sixteen symbols
    x, written = 1 << 20, ""
    for table, symbol in zip(tables[::-1], symbols[::-1], strict=True):
        row = ALPHABETS.frequency[ALPHABETS.first[table] :].tolist()
        f, c = row[symbol], sum(row[:symbol])
        bits = ""
        while x >= 32 * f:
            x, bits = x >> 1, str(x & 1) + bits
        x, written = (x // f << 16) + c + x % f, bits + written
    assert 1 << 20 <= x < 1 << 21
    written = f"{x - (1 << 20):020b}" + written
    assert data[2:] == int(written.ljust(-(-len(written) // 8) * 8, "0"), 2).to_bytes(-(-len(written) // 8), "big")


def test_bytes_and_tables_are_those_of_this_format():
    """Known answers: a file that was written must be read by all later versions, on all machines."""
    tables, symbols = drawn(40, 7)
    assert coded([(tables, symbols)]).hex() == "52287bad3091bea5d5bbc770963ec220"
    assert hashlib.sha256(coded([drawn(50000, 7)])).hexdigest()[:16] == "5773dd7013a8c518"
    rows = rangecoder.laplace_tables().all.frequency.astype("<i4").tobytes()
    assert hashlib.sha256(rows).hexdigest()[:16] == "fc322b26cae35853"


def test_tables_do_not_depend_on_the_decimal_context_of_the_caller():
    with decimal.localcontext(decimal.Context(prec=4, rounding=decimal.ROUND_UP)):
        again = rangecoder.LaplaceTables()
    np.testing.assert_array_equal(again.all.frequency, rangecoder.laplace_tables().all.frequency)


@given(st.lists(st.integers(0, 2**45 // 300), min_size=1, max_size=300).filter(sum))
@example([0, 32767, 32768])  # both get as many, before the rest is given away
def test_any_weights_make_frequencies(weights):
    row = frequencies(weights)
    assert row.min() >= 1 and row.sum() == TOTAL
    assert (np.diff(row[np.lexsort([row, weights])]) >= 0).all()  # the larger weight, the larger frequency


def levels_of(count: int, seed: int, extreme: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels, means and scales; most are certain, and with `extreme` some levels come from elsewhere."""
    random = np.random.default_rng(seed)
    scales = random.integers(-90, 100, count)
    means = random.integers(-64 * 20, 64 * 20, count)
    near = np.round(means / 64 + random.laplace(size=count) * np.exp(scales / 16)).clip(-TOP, TOP)
    levels = np.where(random.random(count) < 0.05 * extreme, random.integers(-TOP, TOP + 1, count), near)
    return levels.astype(np.int16), means, scales


def there_and_back(tiles: list) -> bytes:
    """The bytes of tiles, which are checked to give them back."""
    encoder = LevelEncoder()
    for tile in reversed(tiles):
        for part in tile:
            encoder.put(*part)
        encoder.end_tile()
    data = encoder.finish()
    decoder = LevelDecoder(data)
    for levels, means, scales in (part for tile in tiles for part in tile):
        np.testing.assert_array_equal(decoder.get(means, scales), levels)
    decoder.finish()
    return data


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 20000), min_size=1, max_size=3), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 2**31),
    st.sampled_from((3000, 1 << 20)),
)
def test_levels_come_back_whatever_was_expected(sizes, extreme, seed, enough):
    """Also where tiles are coded before all are known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rangecoder, "ENOUGH", enough)
        there_and_back([[levels_of(size, seed + at, extreme) for at, size in enumerate(tile)] for tile in sizes])


@pytest.mark.parametrize("count", [1, 1 << RUNS[-1], (1 << RUNS[-1]) + 1, 30000])
@pytest.mark.parametrize("wrong", [[], [0], [-1], [0, -1], slice(None, None, 700)])
def test_levels_that_are_all_but_certain_take_hardly_a_bit(count, wrong):
    levels, zeros = np.zeros(count, np.int16), np.zeros(count, np.int64)
    levels[wrong] = -2
    levels[np.flatnonzero(levels)[:1]] = 300
    data = there_and_back([[(levels, zeros, zeros - 48)]])
    assert len(data) < 13 + 5 * np.count_nonzero(levels)


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=9), st.sampled_from(("cut", "changed", "anything")))
def test_damaged_bytes_give_a_reason_or_other_levels(at, new, kind):
    levels, means, scales = levels_of(3000, 5, False)
    whole = there_and_back([[(levels, means, scales)]])
    at %= len(whole)
    broken = {"cut": whole[:at], "changed": whole[:at] + new + whole[at + 1 :], "anything": new * 20}[kind]
    try:
        decoder = LevelDecoder(broken)
        got = decoder.get(means, scales)
        assert len(got) == 3000 and abs(got).max() <= TOP
        decoder.finish()
        assert kind != "cut" or at > len(whole) - 3  # the very last bits may be zeros, which a decoder supplies
    except ValueError as why:
        assert str(why).startswith("they ")


def test_more_symbols_than_were_put_are_refused_before_they_are_read():
    """With a count of none there is one lane, and a symbol that is nearly certain takes no bit: hours of work."""
    tables = np.zeros(10**7, np.int64)
    decoder = Decoder(bytes(100), ALPHABETS)
    with pytest.raises(ValueError, match="they hold fewer symbols"):
        decoder.get(tables)
