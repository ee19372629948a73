"""Matrix products with SDOT (ARMv8.2 dot product): tiles of 8, 4 or 1 rows.

SDOT adds four products to each int32 lane, and takes the four bytes of the row from any lane of a
register. So a lane is an output channel from start to end: the bias goes in first, no sums across
lanes come last.
"""

from __future__ import annotations

from collections.abc import Sequence

from qgen.ir.types import Array
from qgen.targets.dot import DotKernel, Tile
from qgen.targets.panel_asm import CHUNK, DIRECT, load
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


def products(regs: RegPlan, tile: Tile, count: int, step: str) -> list[str]:
    """Load and multiply `count` products of every sum; 4, 8, 12 or 16."""
    groups, vectors = count // GROUP, tile.channels // 4
    w = regs["w"]
    ahead = len(w) // vectors  # groups whose weights are in registers
    lines = _rows(regs, tile, count, step)
    lines += load(w[: min(groups, ahead) * vectors], "v")
    for g in range(groups):
        at = g % ahead * vectors
        if g >= ahead and at == 0:
            lines += load(w[: min(groups - g, ahead) * vectors], "v")
        lines += _multiply(regs, tile, w[at : at + vectors], g)
    return lines


def _rows(regs: RegPlan, tile: Tile, count: int, step: str) -> list[str]:
    a = regs["a"]
    if tile.rows > 1 or count == CHUNK:
        lines = load(a[: tile.rows], "a")
        if step:
            lines[-1] = f"{lines[-1].rpartition(', ')[0]}, %[{step}]"
        return lines
    lines = [f"ldr d{a[0]}, [%[a]], #8"] if count & 8 else []
    if count == 4:
        return [f"ldr s{a[0]}, [%[a]], #4"]
    return [*lines, f"ld1 {{v{a[0]}.s}}[2], [%[a]], #4"] if count & 4 else lines


def _multiply(regs: RegPlan, tile: Tile, weights: Sequence[int], group: int) -> list[str]:
    """One group of products of all sums: a lane of each row's register."""
    used = weights[: len(weights) // 2] if tile.half else weights
    return [
        f"sdot v{regs['acc'][row * len(weights) + vector]}.4s, v{w}.16b, v{a}.4b[{group}]"
        for vector, w in enumerate(used)
        for row, a in enumerate(regs["a"][: tile.rows])
    ]


def again(regs: RegPlan, tile: Tile) -> list[str]:
    """One group whose offset is in `first`, with weights of its own.

    Loads of whole registers have it in lane 0, and go beyond the panel. Rows of a single chunk may
    be the tensor itself, behind which nothing may be read.
    """
    a, w = regs["a"][: tile.rows], regs["w"][: tile.channels // 4]
    if tile.rows == 1:
        lines = [f"ldr s{a[0]}, [%[a], %[first]]"]
    else:
        lines = ["add %[first], %[first], %[a]"]
        if CHUNK // 2 < tile.depth <= CHUNK:
            lines += [f"ldr s{r}, [%[first], #{CHUNK * row}]" for row, r in enumerate(a)]
        else:
            lines += load(a, "first")
    return [*lines, *load(w, "x"), *_multiply(regs, tile, w, 0)]


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
    layout=DIRECT,
    registers=register_plan,
    products=products,
    again=again,
    lanes=lanes,
    store=store,
    alone=(32, 16, 8),
    halves=True,
)
