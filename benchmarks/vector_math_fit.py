"""Derives the polynomials of minigrad/plan/native/c/vector_math.h and prints them as C.

    python benchmarks/vector_math_fit.py

Each polynomial p approximates a function g on [low, high] so that the largest |weight * (p - g)| is nearly smallest;
the weight turns the error of p into the relative error of the function that uses it (Muller, Elementary Functions, 3rd
ed., chapter 3). The fit is least squares in 50-digit decimals at Chebyshev points, whose shares grow where the error is
large (Lawson 1961). The coefficients are rounded one by one, lowest degree first, and the others are fitted anew after
each, so that rounding a large coefficient does not add its error to the sum.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal, getcontext
from math import cos, pi

getcontext().prec = 50
Function = Callable[[Decimal], Decimal]
POINTS = 120
ROUNDS = 12
LN2 = Decimal(2).ln()
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def series(x: Decimal, first: Decimal, ratio: Callable[[int], Decimal]) -> Decimal:
    """first * (1 + ratio(0) * x * (1 + ratio(1) * x * (...))), until the terms no longer count."""
    total = term = first
    for n in range(200):
        term *= ratio(n) * x
        if abs(term) < abs(total) * Decimal("1e-49"):
            break
        total += term
    return total


def exp_rest(r: Decimal) -> Decimal:
    """(exp(r) - 1 - r) / r^2."""
    return series(r, Decimal(1) / 2, lambda n: Decimal(1) / (n + 3))


def tanh_rest(z: Decimal) -> Decimal:
    """(tanh(w) - w) / w^3, where z = w^2."""
    if z == 0:
        return Decimal(-1) / 3
    w = z.sqrt()
    e = (-2 * w).exp()
    return ((1 - e) / (1 + e) - w) / (z * w)


def log_rest(z: Decimal) -> Decimal:
    """(2 artanh(s) / s - 2) / z, where z = s^2: the sum of 2 z^n / (2n + 3)."""
    return Decimal(2) / 3 + sum((2 * z**n / (2 * n + 3) for n in range(1, 40)), Decimal(0))


def sin_rest(z: Decimal) -> Decimal:
    """(sin(r) - r) / r^3, where z = r^2."""
    return series(z, Decimal(-1) / 6, lambda n: Decimal(-1) / ((2 * n + 4) * (2 * n + 5)))


def cos_rest(z: Decimal) -> Decimal:
    """(cos(r) - 1 + r^2 / 2) / r^4, where z = r^2."""
    return series(z, Decimal(1) / 24, lambda n: Decimal(-1) / ((2 * n + 5) * (2 * n + 6)))


def solve(matrix: list[list[Decimal]], right: list[Decimal]) -> list[Decimal]:
    """Gaussian elimination with pivoting."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    n = len(rows)
    for i in range(n):
        pivot = max(range(i, n), key=lambda j: abs(rows[j][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for j in range(i + 1, n):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    answer = [Decimal(0)] * n
    for i in reversed(range(n)):
        answer[i] = (rows[i][n] - sum(rows[i][j] * answer[j] for j in range(i + 1, n))) / rows[i][i]
    return answer


def dot(a: Sequence[Decimal], b: Sequence[Decimal]) -> Decimal:
    return sum((x * y for x, y in zip(a, b, strict=True)), Decimal(0))


def evaluate(coefficients: Sequence[Decimal], x: Decimal) -> Decimal:
    total = Decimal(0)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def best_fit(
    g: Function, low: Decimal, high: Decimal, fixed: list[Decimal], count: int, weight: Function
) -> list[Decimal]:
    """The `count` coefficients that follow the fixed ones, by Lawson's iteration."""
    points = [(low + high) / 2 + (high - low) / 2 * Decimal(cos(pi * (i + 0.5) / POINTS)) for i in range(POINTS)]
    powers = [[weight(x) * x ** (len(fixed) + k) for k in range(count)] for x in points]
    targets = [weight(x) * (g(x) - evaluate(fixed, x)) for x in points]
    shares = [Decimal(1)] * POINTS
    best: list[Decimal] = []
    smallest = Decimal("Infinity")
    for _ in range(ROUNDS):
        normal = [
            [
                sum((s * row[j] * row[k] for s, row in zip(shares, powers, strict=True)), Decimal(0))
                for k in range(count)
            ]
            for j in range(count)
        ]
        right = [
            sum((s * row[j] * t for s, row, t in zip(shares, powers, targets, strict=True)), Decimal(0))
            for j in range(count)
        ]
        found = solve(normal, right)
        errors = [abs(dot(found, row) - t) for row, t in zip(powers, targets, strict=True)]
        if max(errors) < smallest:
            best, smallest = found, max(errors)
        mean = dot(shares, errors) / sum(shares, Decimal(0))
        shares = [s * e / mean for s, e in zip(shares, errors, strict=True)]
    return best


def rounded(value: Decimal, bits: int) -> Decimal:
    """The nearest float of so many bits; the doubles' error in Decimal -> float is half an ulp at most."""
    return Decimal(float(value) if bits == 64 else struct.unpack("f", struct.pack("f", float(value)))[0])


def fit(name: str, g: Function, high: Decimal, low: Decimal, weight: Function, counts: dict[int, int]) -> None:
    for bits, count in counts.items():
        fixed: list[Decimal] = []
        while len(fixed) < count:
            fixed.append(rounded(best_fit(g, low, high, fixed, count - len(fixed), weight)[0], bits))
        points = [low + (high - low) * i / 2000 for i in range(2001)]
        error = max(abs(weight(x) * (evaluate(fixed, x) - g(x))) for x in points)
        print(f"// {name}, REAL of {bits} bits: relative error {error:.1e}")
        suffix = "f" if bits == 32 else ""
        for c in fixed:
            print(f"    {float(c):.{9 if bits == 32 else 17}g}{suffix},")


def leading_bits(value: Decimal, bits: int, parts: int, real: int) -> None:
    """The constant as a sum of `parts` numbers, all but the last of `bits` bits (Cody and Waite)."""
    for part in range(parts):
        if part < parts - 1:
            scale = Decimal(2) ** (bits - 1 - int((value.ln() / LN2).to_integral_value(rounding="ROUND_FLOOR")))
            piece = (value * scale).to_integral_value(rounding="ROUND_HALF_EVEN") / scale
            if piece > value:  # keeps every part positive
                piece -= 1 / scale
        else:
            piece = rounded(value, real)
        print(f"    {float(piece).hex()}{'f' if real == 32 else ''}")
        value -= piece


def main() -> None:
    half = LN2 / 2 * Decimal("1.0001")
    fit("exp", exp_rest, half, -half, abs, {32: 5, 64: 10})
    quarter = (LN2 / 4) ** 2 * Decimal("1.0002")
    fit("tanh", tanh_rest, quarter, Decimal(0), lambda z: z, {32: 2, 64: 6})
    fit("half_tanh", lambda z: tanh_rest(z / 4) / 4, 4 * quarter, Decimal(0), lambda z: z, {32: 2, 64: 6})
    s = (Decimal(2).sqrt() - 1) / (Decimal(2).sqrt() + 1)
    fit("log", log_rest, s * s * Decimal("1.0002"), Decimal(0), lambda z: z, {32: 3, 64: 7})
    quarter = (PI / 4) ** 2 * Decimal("1.0002")
    fit("sin", sin_rest, quarter, Decimal(0), lambda z: z, {32: 3, 64: 6})
    fit("cos", cos_rest, quarter, Decimal(0), lambda z: z * z, {32: 3, 64: 6})
    for real, bits in ((32, 14), (64, 40)):
        print(f"// ln 2, REAL of {real} bits")
        leading_bits(LN2, bits, 2, real)
    for real, bits, parts in ((32, 11, 5), (64, 33, 4)):
        print(f"// pi / 2, REAL of {real} bits")
        leading_bits(PI / 2, bits, parts, real)


if __name__ == "__main__":
    main()
