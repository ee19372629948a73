"""How int32 sums become bytes: what an op's parameters allow, decided here, printed in assembly.

The full way is: multiply by M0, turn ties, shift, narrow, add the zero point, narrow, clamp. Each
step is dropped or made cheaper where the op's own parameters prove that nobody can tell:

- one shift for all channels is an immediate of the narrowing instruction itself;
- where every channel shifts, one instruction turns ties (Q3d), and none where they are dead (Q3c);
- SQDMULH truncates, and a truncated product before a rounding shift rounds once (Q4a);
- the product of (Q4) with 53 bits equals one with 31 bits if it does around every tie that a result
  can show, which is compared here (Q4b);
- a stored zero point of -128 needs no addition: results are narrowed as unsigned and flipped (Q17).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.numerics import requantize
from qgen.ir.types import Array, DType, Rounding
from qgen.targets.fold import ties_are_dead
from qgen.targets.requantize_asm import Lines, Sums, requantize_lines

MOST_IMMEDIATE = 16  # of a shift that narrows 32 bits to 16
SHORT_MULTIPLIER = 31


@dataclass(frozen=True, eq=False)
class Finish:
    """The end of one op.

    Attributes:
        rounding: as the op has it.
        m0, shift: int32 per channel, as the kernel multiplies (`m0` may be a proven substitute).
        m1: bits below M0 where the long product is needed, else None.
        multiply: SQRDMULH or SQDMULH, or "" for the 64-bit product.
        immediate: right shift of all channels, where they agree; M0 then is one as well.
        shared: that shift is read from the constants, so that ops with others share the kernel.
        ties: instructions that turn negative ties: "" none, "ssra" or "mask".
        left: some multiplier is above 1.
        zero: zero point in int8.
        unsigned: narrow as unsigned and flip; no zero point is added.
        low, high: whether a clamp is needed below, above; on the int8 result.
        flip: the top bit of the narrowed result is turned.
        offset: int32 per channel that is added to the product, if `finish_top.py` makes this end;
            shifts then are to the left.
    """

    rounding: Rounding
    m0: Array
    shift: Array
    m1: Array | None
    multiply: str
    immediate: int | None
    ties: str
    left: bool
    zero: int
    unsigned: bool
    low: bool
    high: bool
    flip: bool
    offset: Array | None = None
    shared: bool = False

    def sharing(self) -> Finish:
        """The same end with its shift among the constants, where all channels have one."""
        return replace(self, shared=self.immediate is not None)

    @property
    def rows(self) -> list[Array]:
        """Parameters per channel behind the bias, in the order in which kernels read them."""
        if self.immediate is not None:
            return []
        return [self.m0, self.shift] + ([self.m1] if self.m1 is not None else [])

    @property
    def traits(self) -> tuple[str, ...]:
        """What tells apart two instances of a kernel that differ in their end."""
        found = {
            f"shr{self.immediate}": self.immediate is not None and not self.shared,
            "shift": self.shared,
            self.rounding.value: self.multiply == "" and self.rounding is not Rounding.GEMMLOWP,
            "once": self.multiply == "sqdmulh",
            self.ties: bool(self.ties),
            "left": self.left,
            "unsigned": self.unsigned,
            "low": self.low,
            "high": self.high,
            "flip": self.flip,
            "top": self.offset is not None,
        }
        return tuple(name for name, present in found.items() if present)


def plan_finish(op: Linear, rounding: Rounding) -> Finish:
    """The cheapest end that equals golden for every input; `rounding` is the op's own."""
    assert op.m0 is not None and op.shift is not None
    m0, shift = op.m0.const, op.shift.const
    m1: Array | None = None
    left = bool((shift > 0).any())
    # The bit that rounds must be one that the shift drops.
    right = bool((shift < 0).all())
    multiply = "sqrdmulh"
    if rounding is Rounding.SINGLE:
        multiply = "sqdmulh" if right else ""
    elif rounding is Rounding.NEAREST:
        m1 = op.m1.const if op.m1 is not None else np.zeros_like(m0)
        short = short_multipliers(op) if right else None
        multiply = "" if short is None else "sqdmulh"
        if short is not None:
            m0, m1 = short, None
    uniform = len(set(m0.tolist())) == len(set(shift.tolist())) == 1
    drop = -int(shift[0])
    immediate = drop if multiply and uniform and 1 <= drop <= MOST_IMMEDIATE else None
    turned = multiply == "sqrdmulh" and not ties_are_dead(op)
    ties = ("ssra" if right else "mask") if turned else ""
    offset = 128 if op.out.dtype is DType.U8 else 0
    zero = op.out.zero - offset
    lowest, highest = (bound - offset for bound in op.clamp or (op.out.dtype.min, op.out.dtype.max))
    unsigned = zero == -128
    return Finish(
        rounding=rounding,
        m0=m0,
        shift=shift,
        m1=m1,
        multiply=multiply,
        immediate=immediate,
        ties=ties,
        left=left and rounding is Rounding.GEMMLOWP,
        zero=zero,
        unsigned=unsigned,
        low=lowest > -128,
        high=highest < 127,
        # Unsigned results are flipped to int8, those of a uint8 tensor are flipped back.
        flip=unsigned != (op.out.dtype is DType.U8),
    )


def short_multipliers(op: Linear) -> Array | None:
    """(Q4b) M0 of 31 bits whose truncated product then rounded equals (Q4) for every sum, or None.

    Both are monotone in the sum, so they are equal if they are around every tie that a result
    inside the clamp can show. Where the nearest M0 is not, its neighbours are tried.
    """
    assert op.m0 is not None and op.shift is not None and op.clamp is not None
    m0, shift = op.m0.const.astype(np.int64), op.shift.const.astype(np.int64)
    m1 = op.m1.const.astype(np.int64) if op.m1 is not None else np.zeros_like(m0)
    low, high = op.clamp[0] - op.out.zero, op.clamp[1] - op.out.zero
    ties = np.arange(low, high + 2, dtype=np.int64) - 1
    bound = op.bounds()
    real = (m0 + m1 / 2.0**22) * 2.0 ** (shift - SHORT_MULTIPLIER)
    if not (real > 0).all():
        return None
    # Sums on both sides of each tie: [channels, sums].
    middle = np.floor((ties + 0.5) / real[:, None]).astype(np.int64)
    sums = np.clip(
        (middle[:, :, None] + np.arange(-1, 3)).reshape(len(m0), -1), bound.low, bound.high
    )
    ends = np.broadcast_to([bound.low, bound.high], (len(m0), 2))
    sums = np.concatenate([sums, ends], axis=1)
    wanted = requantize(sums, m0[:, None], shift[:, None], Rounding.NEAREST, m1[:, None])
    wanted = np.clip(wanted, low, high)
    found = np.full(len(m0), -1, np.int64)
    for change in (0, 1, -1, 2, -2):
        candidate = np.clip(m0 + change, 0, 2**31 - 1)
        got = once(sums, candidate[:, None], shift[:, None])
        equal = (np.clip(got, low, high) == wanted).all(axis=1)
        found = np.where((found < 0) & equal, candidate, found)
    return None if (found < 0).any() else found.astype(np.int32)


def once(sums: Array, m0: Array, shift: Array) -> Array:
    """(Q4a) SQDMULH and SRSHL for shift < 0: the product truncated, then rounded, ties up."""
    product: Array = (sums * m0) >> 31
    rounded: Array = (product + (np.int64(1) << (-shift - 1))) >> -shift
    return rounded


@dataclass(frozen=True)
class Constants:
    """Registers for the constants of an end; those that are not needed are never loaded."""

    m0: int
    zero: int
    low: int
    high: int
    flip: int


# Offsets in the struct of `helpers/finish_constants_neon.c.j2`.
OFFSETS = {"m0": 0, "zero": 16, "low": 32, "high": 48, "flip": 64, "shift": 80}


def load_lines(finish: Finish, at: Constants) -> Lines:
    """Loads of what `finish_lines` reads from `at`; ``%[out]`` points to the struct."""
    wanted = {
        "m0": finish.immediate is not None,
        "zero": not finish.unsigned and finish.offset is None,
        "low": finish.low,
        "high": finish.high,
        "flip": finish.flip,
    }
    lines = [
        f"ldr q{getattr(at, name)}, [%[out], #{OFFSETS[name]}]"
        for name, needed in wanted.items()
        if needed
    ]
    return Lines("Constants of the end.", tuple(lines))


def finish_lines(
    finish: Finish, sums: Sequence[Sums], free: Sequence[int], at: Constants
) -> tuple[Lines, tuple[int, ...]]:
    """Lines from sums to bytes, and the registers that then hold 16 (or the last fewer) bytes.

    Args:
        sums: vectors of 4 sums in the order of the bytes; every four become one register, the
            first of them. One or two vectors give 4 or 8 bytes. With an immediate, their m0, shift
            and m1 registers are not read; without, shift registers may be overwritten.
        free: at least 4 registers, used by ends that turn ties by a mask, shift left or read their
            shift from the constants.
        at: registers of constants, loaded by `load_lines`.
    """
    lines: list[str] = []
    values = [s.value for s in sums]
    if finish.multiply and not finish.left and finish.ties != "mask":
        for s in sums:
            m0 = at.m0 if finish.immediate is not None else s.m0
            lines.append(f"{finish.multiply} v{s.value}.4s, v{s.value}.4s, v{m0}.4s")
        if finish.ties:
            # Adds -1 to what is negative: x + (x >> 31), as every shift is at least 1.
            lines += [f"ssra v{v}.4s, v{v}.4s, #31" for v in values]
        if finish.shared:
            lines.insert(0, f"ldr q{free[0]}, [%[out], #{OFFSETS['shift']}]")
            lines += [f"srshl v{v}.4s, v{v}.4s, v{free[0]}.4s" for v in values]
        elif finish.immediate is None:
            lines += [f"srshl v{s.value}.4s, v{s.value}.4s, v{s.shift}.4s" for s in sums]
    else:
        floor = not finish.ties
        made = requantize_lines(sums, free, finish.rounding, left=finish.left, floor=floor)
        lines += made.lines
    lines += _narrow32(finish, values)
    halves = values[::2]
    if not finish.unsigned:
        lines += [f"sqadd v{v}.8h, v{v}.8h, v{at.zero}.8h" for v in halves]
    narrow = "uqxtn" if finish.unsigned else "sqxtn"
    results = tuple(halves[::2])
    lines += [f"{narrow} v{v}.8b, v{v}.8h" for v in results]
    lines += [f"{narrow}2 v{to}.16b, v{v}.8h" for to, v in zip(results, halves[1::2], strict=False)]
    lines += clamp_lines(finish, results, at)
    return Lines(_title(finish), tuple(lines)), results


def _narrow32(finish: Finish, values: Sequence[int]) -> list[str]:
    """Pairs of 4 x 32 bits to 8 x 16 bits in the first of each pair."""
    if finish.immediate is not None and not finish.shared:
        name, tail = ("sqrshrun" if finish.unsigned else "sqrshrn"), f", #{finish.immediate}"
    else:
        name, tail = ("sqxtun" if finish.unsigned else "sqxtn"), ""
    lines = [f"{name} v{v}.4h, v{v}.4s{tail}" for v in values[::2]]
    pairs = zip(values[::2], values[1::2], strict=False)
    return lines + [f"{name}2 v{to}.8h, v{v}.4s{tail}" for to, v in pairs]


def clamp_lines(finish: Finish, results: Sequence[int], at: Constants) -> list[str]:
    """Clamps and flips of bytes, where they are needed."""
    # A clamp is in int8: unsigned results are brought there first.
    flipped = [f"eor v{v}.16b, v{v}.16b, v{at.flip}.16b" for v in results] if finish.flip else []
    low = [f"smax v{v}.16b, v{v}.16b, v{at.low}.16b" for v in results] if finish.low else []
    high = [f"smin v{v}.16b, v{v}.16b, v{at.high}.16b" for v in results] if finish.high else []
    if finish.unsigned and not finish.flip:
        # uint8 result that stays unsigned: the bounds are compared as unsigned.
        return [line.replace("smax", "umax").replace("smin", "umin") for line in low + high]
    return flipped + low + high if finish.unsigned else low + high + flipped


def _title(finish: Finish) -> str:
    if finish.multiply == "sqdmulh":
        way = "(Q4): SQDMULH truncates, the shift rounds once"
    elif not finish.multiply:
        way = "(Q4): 64-bit product, rounded once"
    else:
        turned = {"": "negative ties are clamped away (Q3c)", "ssra": "ties turned by SSRA"}
        way = f"(Q3): SQRDMULH, {turned.get(finish.ties, 'ties turned where a shift follows')}"
    shift = "" if finish.immediate is None else f"; shift by {finish.immediate} as it narrows"
    shift = "; the shift is a constant of the op" if finish.shared else shift
    zero = "; unsigned, no zero point to add" if finish.unsigned else ""
    return way + shift + zero


def finish_values(finish: Finish, op: Linear) -> dict[str, int]:
    """Values of the constants struct, as int8.

    Where an unsigned result stays unsigned its bounds are those of uint8, as the same bytes.
    """
    low, high = op.clamp or (op.out.dtype.min, op.out.dtype.max)
    if finish.unsigned and not finish.flip:
        low, high = (int(np.uint8(bound).view(np.int8)) for bound in (low, high))
    else:
        offset = 128 if op.out.dtype is DType.U8 else 0
        low, high = low - offset, high - offset
    m0 = int(finish.m0[0]) if finish.immediate is not None else 0
    flip = -128 if finish.flip else 0
    shift = -(finish.immediate or 0) if finish.shared else 0
    ends = {"zero": finish.zero, "low": low, "high": high, "flip": flip}
    return {"m0": m0, **ends, "shift": shift}
