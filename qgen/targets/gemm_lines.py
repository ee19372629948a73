"""Assembly of the SMULL kernel: its tiles, their registers, and the lines of each part."""

from __future__ import annotations

from qgen.targets.requantize_asm import Lines
from qgen.targets.spec import RegPlan

CHANNELS = 4  # output channels of one block
ROWS = 4
FEWER = 3  # rows of the tile for in-order cores
STEP = 32  # products of one step
LANES = 8

# Registers by rows of the tile: of rows, of products and of weights. A lane waits for its own last
# product, so an in-order core likes many of them; with four rows there is room for one per row.
_SIZES = {1: (8, 4, 8), FEWER: (6, 6, 8), ROWS: (8, 4, 4)}


def register_plan(rows: int) -> RegPlan:
    """Vector registers of the kernel for 1, 3 or 4 rows."""
    sizes = (*_SIZES[rows], CHANNELS * rows)
    roles = ("a", "product", "b", "acc")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return RegPlan(
        {r: tuple(range(at, at + n)) for r, at, n in zip(roles, starts, sizes, strict=True)}
    )


def step(regs: RegPlan, rows: int, halves: int, depth: int) -> Lines:
    """Products of one step, `depth` accumulated per lane before SADALP.

    `halves` q registers of each row lie in a, `halves` of each channel pass through b.
    """
    a, b, product = (regs[role] for role in ("a", "b", "product"))
    group = len(product) // rows
    held = len(b) // halves  # channels
    lines = _load_rows(regs, rows, halves)
    ahead = _load_weights(regs, rows, halves)
    lines += ahead.pop(0)
    for first in range(0, CHANNELS, group):
        if ahead and first % max(group, held // 2) == 0:
            lines += ahead.pop(0)
        for part in range(2 * halves):
            name = "smull" if part % depth == 0 else "smlal"
            high, lanes = ("2", "16b") if part % 2 else ("", "8b")
            for i in range(rows):
                left = f"v{a[2 * i + part // 2]}.{lanes}"
                for j in range(group):
                    right = f"v{b[halves * ((first + j) % held) + part // 2]}.{lanes}"
                    lines.append(f"{name}{high} v{product[group * i + j]}.8h, {left}, {right}")
            if part % depth == depth - 1 or part == 2 * halves - 1:
                lines += _add_up(regs, rows, first)
    if two_pointers(rows) and halves == 2:
        lines += [f"add %[{w}], %[{w}], #{CHANNELS * STEP}" for w in "wv"]
    times = f"{depth} product{'s' if depth > 1 else ''} per lane"
    return Lines(f"{16 * halves} products, {times}.", tuple(lines))


def _load_rows(regs: RegPlan, rows: int, halves: int) -> list[str]:
    a = regs["a"]
    if halves == 1:
        return [f"ldr q{a[2 * i]}, [%[a{i}]], #16" for i in range(rows)]
    if two_pointers(rows):
        return [
            f"ld1 {{v{a[2 * i]}.16b, v{a[2 * i + 1]}.16b}}, [%[a{i}]], #32" for i in range(rows)
        ]
    return [f"ldp q{a[2 * i]}, q{a[2 * i + 1]}, [%[a{i}]], #32" for i in range(rows)]


def two_pointers(rows: int) -> bool:
    """The halves of a step's weights have a pointer each.

    In-order cores hold back the products behind a load that changes its own pointer; additions that
    follow each other hold them back once.
    """
    return rows == FEWER


def _load_weights(regs: RegPlan, rows: int, halves: int) -> list[list[str]]:
    """Loads of the weights of a step; each goes ahead of the products of those before."""
    b = regs["b"]
    if halves == 2 and len(b) == 2 * CHANNELS:
        lists = [f"ld1 {{v{b[i]}.16b-v{b[i + 3]}.16b}}" for i in (0, 4)]
        if two_pointers(rows):
            return [[f"{x}, [%[{w}]]"] for x, w in zip(lists, "wv", strict=True)]
        return [[f"{x}, [%[w]], #64"] for x in lists]
    return [
        [f"ldp q{b[2 * i % len(b)]}, q{b[2 * i % len(b) + 1]}, [%[w]], #32"]
        for i in range(CHANNELS * halves // 2)
    ]


def _add_up(regs: RegPlan, rows: int, first: int) -> list[str]:
    """Products of the channels from `first` on to int32."""
    product, acc = regs["product"], regs["acc"]
    group = len(product) // rows
    return [
        f"sadalp v{acc[CHANNELS * i + first + j]}.4s, v{product[group * i + j]}.8h"
        for i in range(rows)
        for j in range(group)
    ]


def last_eight(regs: RegPlan, rows: int) -> Lines:
    a, b, product = (regs[role] for role in ("a", "b", "product"))
    group = len(product) // rows
    lines = [f"ldr d{a[i]}, [%[a{i}]], #8" for i in range(rows)]
    lines += [f"ldp d{b[j]}, d{b[j + 1]}, [%[w]], #16" for j in (0, 2)]
    for first in range(0, CHANNELS, group):
        lines += [
            f"smull v{product[group * i + j]}.8h, v{a[i]}.8b, v{b[first + j]}.8b"
            for i in range(rows)
            for j in range(group)
        ]
        lines += _add_up(regs, rows, first)
    return Lines("8 products.", tuple(lines))


def start(regs: RegPlan, rows: int) -> Lines:
    """Accumulators hold the bias in one lane: a load of 32 bits clears the rest of a register."""
    acc = regs["acc"]
    lines = []
    for at in (8, 0):
        for i in range(rows):
            to = CHANNELS * i + at // 4
            where = f"[%[q], #{at}]" if at else "[%[q]]"
            lines.append(f"ldp s{acc[to]}, s{acc[to + 1]}, {where}")
    lines[-1] += ", #16"
    if two_pointers(rows):
        lines.append("add %[v], %[w], #64")
    return Lines("Accumulators start at the bias, which lies in their first lanes.", tuple(lines))


def sums(regs: RegPlan, rows: int, *, words: int, row_sums: bool) -> Lines:
    """Partial sums to sums, one register of 4 channels per row.

    `words` parameters of each channel for the end go to b.
    """
    b, product, acc = (regs[role] for role in ("b", "product", "acc"))
    lines = [f"ldp q{b[0]}, q{b[1]}, [%[q]], #32"] if words >= 2 else []
    lines += [f"ldr q{b[2]}, [%[q]], #16"] if words == 3 else []
    for half in (0, 2):
        for i in range(rows):
            one, two = acc[CHANNELS * i + half], acc[CHANNELS * i + half + 1]
            lines.append(f"addp v{one}.4s, v{one}.4s, v{two}.4s")
    for i in range(rows):
        one, two = acc[CHANNELS * i], acc[CHANNELS * i + 2]
        lines.append(f"addp v{product[i]}.4s, v{one}.4s, v{two}.4s")
    if row_sums:
        lines += [f"ldr q{acc[0]}, [%[q]], #16", f"ldr q{acc[1]}, [%[sums]]"]
        lines += [f"mla v{product[i]}.4s, v{acc[0]}.4s, v{acc[1]}.s[{i}]" for i in range(rows)]
    return Lines("Partial sums to sums: one register of 4 channels per row.", tuple(lines))
