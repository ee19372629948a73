"""An end with fewer instructions, for cores with SQRDMLAH (ARMv8.1): results in the top byte.

(Q3) is (SQRDMULH(sum, M0) + 2^(n-1)) >> n, plus the zero point, saturated to int8; negative ties
turn by one more addend, -1. So with c = Z * 2^n + 2^(n-1) per channel, of which a copy is loaded
for every vector of sums:

    SSRA      c += sum >> 31          only where negative ties show; sum and product agree in sign,
                                      or the product is 0, which -1 does not bring below 0
    SQRDMLAH  c += sum * M0           the same rounding
    SQSHL     c << (24 - n)           saturates int32 where the result would leave int8
    UZP2      halves, then bytes      the upper ones of two vectors: no narrowing, nothing to add

An addend that saturates leaves int8 as well, as long as n is below 24.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qgen.targets.finish import Constants, Finish, clamp_lines, load_lines
from qgen.targets.requantize_asm import Lines

TOP = 24  # bits below the top byte


def with_top(finish: Finish) -> Finish:
    """The same end with results in the top byte, or `finish` where that is not possible."""
    shift = finish.shift
    possible = finish.multiply == "sqrdmulh" and finish.immediate is None
    if not (possible and (shift < 0).all() and (shift > -TOP).all() and finish.ties != "mask"):
        return finish
    offset = (finish.zero << -shift.astype(np.int64)) + (1 << (-shift.astype(np.int64) - 1))
    return replace(
        finish,
        shift=shift + TOP,
        offset=offset.astype(np.int32),
        # Bytes are those of an int8 result; one of uint8 is flipped.
        unsigned=False,
        flip=finish.unsigned != finish.flip,
    )


def top_lines(
    finish: Finish,
    sums: Sequence[int],
    copies: Sequence[int],
    m0: Sequence[int],
    shift: Sequence[int],
) -> tuple[list[str], tuple[int, ...]]:
    """Lines from vectors of sums to bytes, and the registers that then hold 16 or fewer each.

    Args:
        sums: vectors of 4 sums in the order of the bytes; four become one register.
        copies: as many registers, which hold the offsets.
        m0, shift: registers of the parameters, which repeat over the vectors.
    """
    each = len(m0)
    pairs = list(zip(copies, sums, strict=True))
    lines = [f"ssra v{c}.4s, v{s}.4s, #31" for c, s in pairs] if finish.ties else []
    lines += [f"sqrdmlah v{c}.4s, v{s}.4s, v{m0[i % each]}.4s" for i, (c, s) in enumerate(pairs)]
    lines += [f"sqshl v{c}.4s, v{c}.4s, v{shift[i % each]}.4s" for i, c in enumerate(copies)]
    for arrangement in ("8h", "16b"):
        # One vector alone meets itself.
        some = list(zip(copies[::2], [*copies[1::2], copies[-1]], strict=False))
        lines += [
            f"uzp2 v{a}.{arrangement}, v{a}.{arrangement}, v{b}.{arrangement}" for a, b in some
        ]
        copies = copies[::2]
    return lines, tuple(copies)


def last_lines(finish: Finish, results: Sequence[int], free: Sequence[int]) -> Lines:
    """Clamps and flips; `free` takes their constants, which ``%[out]`` points to."""
    constants = Constants(0, 0, *free[:3])
    lines = (*load_lines(finish, constants).lines, *clamp_lines(finish, results, constants))
    ties = "ties turned by SSRA" if finish.ties else "negative ties are clamped away (Q3c)"
    return Lines(f"(Q3): SQRDMLAH, {ties}; the result in the top byte", lines)
