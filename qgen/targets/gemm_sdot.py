"""Matrix products with SDOT (ARMv8.2 dot product): tiles of 8, 4 or 1 rows.

SDOT adds four products to each int32 lane, and takes the four bytes of the row from any lane of a
register. So a lane is an output channel from start to end: the bias goes in first, no sums across
lanes come last.
"""

from __future__ import annotations

from collections.abc import Sequence

from qgen.ir.types import Array
from qgen.targets.dot import DotKernel, Tile
from qgen.targets.panel_asm import CHUNK, QUAD, load
from qgen.targets.spec import RegPlan

GROUP = 4  # products of one lane and SDOT
DOTPROD = frozenset({"aarch64", "dotprod"})


def register_plan(rows: int, channels: int) -> RegPlan:
    """Vector registers of a tile."""
    plan: dict[str, Sequence[int]]
    if rows == 8:
        plan = {"a": range(8), "w": range(8, 16), "acc": range(16, 32)}
    elif channels == 32:
        plan = {"a": (0,), "w": range(8, 24), "acc": range(24, 32), "free": range(1, 8)}
    else:
        end = 16 + rows * channels // 4
        free = (*range(4, 8), *range(end, 32))
        plan = {"a": range(4), "w": range(8, 16), "acc": range(16, end), "free": free}
    return RegPlan({role: tuple(registers) for role, registers in plan.items()})


def products(regs: RegPlan, tile: Tile, count: int) -> list[str]:
    """Load and multiply `count` products of every sum; 4, 8, 12 or 16."""
    groups, vectors = count // GROUP, tile.channels // 4
    w = regs["w"]
    ahead = len(w) // vectors  # groups whose weights are in registers
    lines = _rows(regs, tile, count)
    lines += load(w[: min(groups, ahead) * vectors], "v")
    for g in range(groups):
        at = g % ahead * vectors
        if g >= ahead and at == 0:
            lines += load(w[: min(groups - g, ahead) * vectors], "v")
        lines += _multiply(regs, tile, w[at : at + vectors], groups, g)
    return lines


def _rows(regs: RegPlan, tile: Tile, count: int) -> list[str]:
    a = regs["a"]
    if tile.rows > 1:
        return load(a[: tile.rows // QUAD * count // GROUP], "a")
    if count == CHUNK:
        return load(a[:1], "a")
    lines = [f"ldr d{a[0]}, [%[a]], #8"] if count & 8 else []
    if count == 4:
        return [f"ldr s{a[0]}, [%[a]], #4"]
    return [*lines, f"ld1 {{v{a[0]}.s}}[2], [%[a]], #4"] if count & 4 else lines


def _multiply(
    regs: RegPlan, tile: Tile, weights: Sequence[int], groups: int, group: int
) -> list[str]:
    """One group of products of all sums."""
    lines = []
    for vector, w in enumerate(weights):
        for row in range(tile.rows):
            acc = regs["acc"][row * len(weights) + vector]
            # A row alone has its groups side by side, four rows have theirs row by row.
            register, lane = (0, group) if tile.rows == 1 else (row // QUAD * groups + group, row)
            a = regs["a"][register]
            lines.append(f"sdot v{acc}.4s, v{w}.16b, v{a}.4b[{lane % QUAD}]")
    return lines


def again(regs: RegPlan, tile: Tile) -> list[str]:
    """One group whose offsets are in `first` and `second`, with weights of its own."""
    a, w = regs["a"], regs["w"][: tile.channels // 4]
    size = "s" if tile.rows == 1 else "q"
    lines = [f"ldr {size}{a[0]}, [%[a], %[first]]"]
    lines += [f"ldr q{a[1]}, [%[a], %[second]]"] if tile.rows > QUAD else []
    return [*lines, *load(w, "x"), *_multiply(regs, tile, w, 1, 0)]


def lanes(values: Array) -> Array:
    """A vector of parameters is one of channels."""
    return values


def store(results: Sequence[int], tile: Tile, free: Sequence[int]) -> list[str]:
    """8 bytes of each row, two rows in a register; or a row alone."""
    if tile.channels > 8:
        lines = [f"str q{r}, [%[to], #{16 * i}]" for i, r in enumerate(results)]
        return [*lines, "add %[to], %[to], %[stride]"]
    return [
        f"st1 {{v{results[row // 2]}.d}}[{row % 2}], [%[to]], %[stride]" for row in range(tile.rows)
    ]


KERNEL = DotKernel(
    mnemonic="sdot",
    name="neondot",
    requires=DOTPROD,
    group=GROUP,
    registers=register_plan,
    products=products,
    again=again,
    lanes=lanes,
    store=store,
    alone=(32, 16, 8),
)
