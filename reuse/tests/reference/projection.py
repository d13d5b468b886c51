#!/usr/bin/env python3
"""Reference for `tests/projection.rs`: R and signatures, implemented from the doc comment of
`Projection`, with only the standard library.

    python3 projection.py > projection.csv
"""

import math
import struct
from fractions import Fraction

CASES = [(1, 1, 64), (1, 9, 20), (1, 27, 64), (7, 3, 64), (2**40 + 5, 576, 20), (2**64 - 1, 25, 33)]
VECTORS = range(5)
MAGNITUDE = 4


def chacha8_block(key: list[int], counter: int, stream: int) -> list[int]:
    """Computes 16 words of ChaCha with 8 rounds; 64-bit counter and stream number, low half first."""

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for target, addend, mixed, left in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[target] = (state[target] + state[addend]) & 0xFFFFFFFF
            word = state[mixed] ^ state[target]
            state[mixed] = (word << left | word >> (32 - left)) & 0xFFFFFFFF

    constants = list(struct.unpack("<4I", b"expand 32-byte k"))
    start = constants + key + list(struct.unpack("<4I", struct.pack("<QQ", counter, stream)))
    state = start.copy()
    for _ in range(4):
        for column in range(4):
            quarter(column, column + 4, column + 8, column + 12)
        for diagonal in range(4):
            quarter(diagonal, (diagonal + 1) % 4 + 4, (diagonal + 2) % 4 + 8, (diagonal + 3) % 4 + 12)
    return [(word + first) & 0xFFFFFFFF for word, first in zip(state, start)]


def uniform_words(seed: int, stream: int):
    """Yields 64-bit words, each from two consecutive 32-bit words, the low one first."""
    key = list(struct.unpack("<8I", seed.to_bytes(32, "little")))
    counter = 0
    while True:
        block = chacha8_block(key, counter, stream)
        yield from (low | high << 32 for low, high in zip(block[::2], block[1::2]))
        counter += 1


def f32_bits(value: float) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


def as_f32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def projection(seed: int, length: int, bits: int) -> list[list[float]]:
    words = uniform_words(seed, length)
    rows = []
    for _ in range(bits):
        row = []
        while len(row) < length:
            u = ((next(words) >> 11) + 1) / 2**53
            v = (next(words) >> 11) / 2**53
            radius = math.sqrt(-2 * math.log(u))
            row += [as_f32(radius * math.cos(math.tau * v)), as_f32(radius * math.sin(math.tau * v))]
        rows.append(row[:length])
    return rows


def sparse(seed: int, length: int, bits: int) -> list[list[float]]:
    words = uniform_words(seed, length + 2**63)
    entry = {0: -1.0, 5: 1.0}
    return [[entry.get(6 * next(words) >> 64, 0.0) for _ in range(length)] for _ in range(bits)]


def nearest_f32(value: Fraction) -> float:
    """Rounds to the nearest f32, ties to even. Conversion by way of a double would round twice."""
    if value == 0:
        return 0.0
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    if abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    unit = max(exponent - 23, -149)
    return math.ldexp(round(value / Fraction(2) ** unit), unit)


def sign_bit(x: list[float], row: list[float]) -> int:
    total = 0.0
    for a, b in zip(x, row, strict=True):
        total = nearest_f32(Fraction(a) * Fraction(b) + Fraction(total))
    return int(total > 0)


def vector(number: int, length: int) -> list[float]:
    return [((i * 37 + number * 11) % 19 - 9) / 4 for i in range(length)]


def delicate(row: list[float]) -> list[float]:
    """A vector whose exact product with `row` is 0. The sign depends on the rounding of the sum, so it
    distinguishes fused multiply-add from two roundings, and ascending order from any other."""
    swapped = [0.0] * len(row)
    for i in range(0, len(row) - 1, 2):
        swapped[i], swapped[i + 1] = row[i + 1], -row[i]
    return swapped


def centred(x: list[float]) -> list[float]:
    total = 0.0
    for value in x:
        total = nearest_f32(Fraction(total) + Fraction(value))
    mean = nearest_f32(Fraction(total) * Fraction(nearest_f32(Fraction(1, len(x)))))
    return [nearest_f32(Fraction(value) - Fraction(mean)) for value in x]


def exponent(x: list[float]) -> int:
    squares = 0.0
    for value in x:
        squares = nearest_f32(Fraction(value) * Fraction(value) + Fraction(squares))
    return max(math.floor(math.log2(squares) / 2) + 64, 0) if squares else 0


def main() -> None:
    print("kind,matrix,seed,length,bits,index,element,hex")
    for (seed, length, bits), draw in [(case, draw) for case in CASES for draw in (projection, sparse)]:
        rows = draw(seed, length, bits)
        matrix = "gaussian" if draw is projection else "sparse"
        case = f"{matrix},{seed},{length},{bits}"
        for bit in sorted({0, bits // 2, bits - 1}):
            for element in sorted({0, length // 2, length - 1}):
                print(f"entry,{case},{bit},{element},{f32_bits(rows[bit][element]):08x}")
        checksum = 0
        for row in rows:
            for value in row:
                checksum = (checksum * 31 + f32_bits(value)) % 2**64
        print(f"checksum,{case},,,{checksum:016x}")
        for number in VECTORS:
            x = vector(number, length)
            signature = sum(sign_bit(x, row) << bit for bit, row in enumerate(rows))
            print(f"signature,{case},{number},,{signature:016x}")
            if bits + MAGNITUDE <= 64:
                low = exponent(x) % 2**MAGNITUDE
                print(f"magnitude,{case},{number},,{signature << MAGNITUDE | low:016x}")
            signature = sum(sign_bit(centred(x), row) << bit for bit, row in enumerate(rows))
            print(f"centred,{case},{number},,{signature:016x}")
        own = sum(sign_bit(delicate(row), row) << bit for bit, row in enumerate(rows))
        print(f"delicate,{case},,,{own:016x}")


if __name__ == "__main__":
    main()
