"""Ends of kernels on 32-bit NEON: what `finish.py` decides, in the instructions of ARMv7.

Quad registers are written q, their halves d. A narrowed quad register is half of one, so what
64-bit Arm writes with a second instruction into an upper half goes to the other half here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qgen.ir.linear import Linear
from qgen.ir.numerics import LOW_BITS
from qgen.ir.types import Rounding
from qgen.targets.finish import Finish, finish_values, plan_finish
from qgen.targets.matmul import Ends
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import Helper

MULTIPLY = {"sqrdmulh": "vqrdmulh.s32", "sqdmulh": "vqdmulh.s32"}


STRUCT = Helper("finish_quads", "helpers/finish_quads_neon32.c.j2")
# Fields of that struct, a quad register each, with their lanes; the dear ones come last.
LANES = {"m0": 4, "flip": 16, "low": 16, "high": 16, "zero": 8}


def quads(first: int) -> dict[str, int]:
    """Quad register of each field of the struct, where one VLDM to `first` puts them."""
    return {name: first + i for i, name in enumerate(LANES)}


def constant_registers(finish: Finish, at: Mapping[str, int]) -> str:
    """Registers to load so that an end has the constants it reads; empty where it reads none."""
    wanted = {
        "m0": finish.immediate is not None,
        "flip": finish.flip,
        "low": finish.low,
        "high": finish.high,
        "zero": not finish.unsigned,
    }
    used = [at[name] for name, needed in wanted.items() if needed and name in at]
    return f"d{2 * min(at.values())}-d{2 * max(used) + 1}" if used else ""


def ends(op: Linear, rounding: Rounding) -> Ends:
    """The constants of the end of `op` as the struct that a kernel loads."""
    value = finish_values(plan_finish(op, rounding), op)
    return Ends(STRUCT, tuple((value[name],) * count for name, count in LANES.items()))


def finish_lines(
    finish: Finish,
    sums: Sequence[Sums],
    free: Sequence[int],
    at: Mapping[str, int],
    load: Sequence[str] = (),
    late: Sequence[str] = (),
) -> tuple[Lines, int]:
    """Lines from 1, 2 or 4 vectors of 4 sums to bytes, and the quad register that holds them.

    Args:
        sums: quad registers of vectors in the order of the bytes; with an immediate only `value`
            is read, else shift registers may be overwritten.
        free: quad registers that may be overwritten: at least 4, and one beside the second pair.
        at: quad registers of constants, which may be those of parameters.
        load: lines that load them, put behind the last use of parameters.
        late: the same, put where only the first half of `sums` holds results.
    """
    lines = [] if finish.immediate is None else [*load]
    if finish.multiply:
        lines += _twice(finish, sums, free, at)
    else:
        lines += _once(sums, free, ties_away=finish.rounding is Rounding.NEAREST)
    lines += [] if finish.immediate is not None else [*load]
    # Eight results of 16 bits in the first register of each pair, then sixteen in the first of all.
    first = sums[0].value
    lines += [_narrow(finish, s.value, 2 * first + i) for i, s in enumerate(sums)]
    lines += late
    wide = range(first, first + (len(sums) + 1) // 2)
    if not finish.unsigned:
        lines += [f"vqadd.s16 q{w}, q{w}, q{at['zero']}" for w in wide]
    sign = "u" if finish.unsigned else "s"
    lines += [f"vqmovn.{sign}16 d{2 * first + i}, q{w}" for i, w in enumerate(wide)]
    return Lines(_title(finish), (*lines, *_clamp(finish, first, at, len(wide)))), first


def _shifts(sums: Sequence[Sums]) -> list[int]:
    return list(dict.fromkeys(s.shift for s in sums))


def _twice(
    finish: Finish, sums: Sequence[Sums], free: Sequence[int], at: Mapping[str, int]
) -> list[str]:
    """(Q3): the high half of the doubled product, then a rounding shift."""
    lines: list[str] = []
    if finish.left:
        up, zero = free[:2]
        lines.append(f"vmov.i32 q{zero}, #0")
        for shift in _shifts(sums):
            lines.append(f"vmax.s32 q{up}, q{shift}, q{zero}")
            lines.append(f"vmin.s32 q{shift}, q{shift}, q{zero}")
            mine = [s.value for s in sums if s.shift == shift]
            lines += [f"vshl.s32 q{v}, q{v}, q{up}" for v in mine]
    for s in sums:
        m0 = f"d{2 * at['m0']}[0]" if finish.immediate is not None else f"q{s.m0}"
        lines.append(f"{MULTIPLY[finish.multiply]} q{s.value}, q{s.value}, {m0}")
    if finish.ties == "ssra":
        # Adds -1 to what is negative: every shift is at least 1.
        lines += [f"vsra.s32 q{s.value}, q{s.value}, #31" for s in sums]
    elif finish.ties:
        fixes = list(zip(free, sums, strict=False))
        lines += [f"vand q{f}, q{s.value}, q{s.shift}" for f, s in fixes]
        lines += [f"vshr.s32 q{f}, q{f}, #31" for f, _ in fixes]
        lines += [f"vqadd.s32 q{s.value}, q{s.value}, q{f}" for f, s in fixes]
    if finish.immediate is None:
        lines += [f"vrshl.s32 q{s.value}, q{s.value}, q{s.shift}" for s in sums]
    return lines


def _once(sums: Sequence[Sums], free: Sequence[int], *, ties_away: bool) -> list[str]:
    """(Q4): the 64-bit product, rounded once."""
    product, wide, tie, by = free[:4]
    # The right shift of the 64-bit product is 31 - shift; VRSHL shifts right by negative amounts.
    lines = [f"vmov.i32 q{tie}, #31"]
    lines += [f"vsub.i32 q{shift}, q{shift}, q{tie}" for shift in _shifts(sums)]
    for s in sums:
        for half in (0, 1):
            value = 2 * s.value + half
            lines.append(f"vmull.s32 q{product}, d{value}, d{2 * s.m0 + half}")
            if ties_away:
                # There is no compare of 64 bits: that of the upper 32 is spread by its sign.
                lines += [
                    f"vmull.s32 q{wide}, d{value}, d{2 * s.m1 + half}",
                    f"vsra.s64 q{product}, q{wide}, #{LOW_BITS}",
                    f"vshl.i64 q{wide}, q{wide}, #{64 - LOW_BITS}",
                    f"vceq.i32 q{wide}, q{wide}, #0",
                    f"vand q{wide}, q{wide}, q{product}",
                    f"vshr.s64 q{wide}, q{wide}, #63",
                    f"vadd.i64 q{product}, q{product}, q{wide}",
                ]
            lines.append(f"vmovl.s32 q{by}, d{2 * s.shift + half}")
            lines.append(f"vrshl.s64 q{product}, q{product}, q{by}")
            lines.append(f"vqmovn.s64 d{value}, q{product}")
    return lines


def _narrow(finish: Finish, value: int, to: int) -> str:
    """4 x 32 bits to 4 x 16 bits."""
    sign = "u" if finish.unsigned else ""
    if finish.immediate is not None:
        return f"vqrshr{sign}n.s32 d{to}, q{value}, #{finish.immediate}"
    return f"vqmov{sign}n.s32 d{to}, q{value}"


def _clamp(finish: Finish, result: int, at: Mapping[str, int], halves: int) -> list[str]:
    # A clamp is in int8: unsigned results are brought there first, or stay and compare unsigned.
    kind = "u8" if finish.unsigned and not finish.flip else "s8"

    def both(name: str, field: str) -> str:
        if halves > 1:
            return f"{name} q{result}, q{result}, q{at[field]}"
        return f"{name} d{2 * result}, d{2 * result}, d{2 * at[field]}"

    flip = [both("veor", "flip")] if finish.flip else []
    low = [both(f"vmax.{kind}", "low")] if finish.low else []
    high = [both(f"vmin.{kind}", "high")] if finish.high else []
    return flip + low + high if finish.unsigned else low + high + flip


def _title(finish: Finish) -> str:
    if finish.multiply == "sqdmulh":
        way = "(Q4): VQDMULH truncates, the shift rounds once"
    elif not finish.multiply:
        way = "(Q4): 64-bit product, rounded once"
    else:
        turned = {"": "negative ties are clamped away (Q3c)", "ssra": "ties turned by VSRA"}
        way = f"(Q3): VQRDMULH, {turned.get(finish.ties, 'ties turned where a shift follows')}"
    shift = "" if finish.immediate is None else f"; shift by {finish.immediate} as it narrows"
    zero = "; unsigned, no zero point to add" if finish.unsigned else ""
    return way + shift + zero
