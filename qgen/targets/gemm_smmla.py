"""Matrix products with SMMLA (ARMv8.6 int8 matrix multiply): tiles of 8, 4 or 1 rows.

SMMLA multiplies two rows of eight products by two channels into the four int32 lanes of a
register: row 0 by channels 0 and 1, then row 1. Sums end where they are, with their parameters in
the order of the lanes; only the bytes are sorted, by UZP1 and UZP2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgen.ir.types import Array
from qgen.targets.dot import DotKernel, Tile
from qgen.targets.gemm_sdot import DOTPROD
from qgen.targets.panel_asm import PAIRED, QUAD, load
from qgen.targets.spec import RegPlan

GROUP = 8  # products of one sum and SMMLA
PAIRS = 4  # of the channels of a block
I8MM = DOTPROD | {"i8mm"}


def register_plan(rows: int, channels: int) -> RegPlan:
    """Vector registers of a tile; a row alone is multiplied as two equal ones."""
    acc = tuple(range(16, 16 + PAIRS * max(rows // 2, 1)))
    return RegPlan({"a": tuple(range(8)), "w": tuple(range(8, 16)), "acc": acc})


def products(regs: RegPlan, tile: Tile, count: int, step: str) -> list[str]:
    """Load and multiply `count` products of every sum; 8 or 16."""
    assert not step, "rows are interleaved"
    groups, a, w = count // GROUP, regs["a"], regs["w"]
    if tile.rows == 1:
        lines = [f"ld1r {{v{r}.2d}}, [%[a]], #8" for r in a[:groups]]
    else:
        lines = load(a[: tile.rows * count // 16], "a")
    lines += load(w[: PAIRS * groups], "v")
    for g in range(groups):
        lines += _multiply(regs, tile, w[PAIRS * g : PAIRS * (g + 1)], groups, g)
    return lines


def _multiply(
    regs: RegPlan, tile: Tile, weights: Sequence[int], groups: int, group: int
) -> list[str]:
    """One group of products of all sums."""
    lines = []
    for pair in range(max(tile.rows // 2, 1)):
        # Four rows lie together, two to a register.
        a = regs["a"][group if tile.rows == 1 else (pair // 2 * groups + group) * 2 + pair % 2]
        for channels, w in enumerate(weights):
            acc = regs["acc"][PAIRS * pair + channels]
            lines.append(f"smmla v{acc}.4s, v{a}.16b, v{w}.16b")
    return lines


def again(regs: RegPlan, tile: Tile) -> list[str]:
    """One group whose offsets are in `first` and `second`, with weights of its own."""
    a, w = regs["a"], regs["w"][:PAIRS]
    lines = ["add %[first], %[first], %[a]"]
    if tile.rows == 1:
        lines.append(f"ld1r {{v{a[0]}.2d}}, [%[first]]")
    else:
        lines.append(f"ldp q{a[0]}, q{a[1]}, [%[first]]")
    if tile.rows > QUAD:
        lines += ["add %[second], %[second], %[a]", f"ldp q{a[2]}, q{a[3]}, [%[second]]"]
    return [*lines, *load(w, "x"), *_multiply(regs, tile, w, 1, 0)]


def lanes(values: Array) -> Array:
    """Channels 0, 1, 0, 1, then 2, 3, 2, 3, and so on."""
    return np.repeat(values.reshape(-1, 1, 2), 2, axis=1).reshape(-1)


def store(results: Sequence[int], tile: Tile, free: Sequence[int]) -> list[str]:
    """8 bytes of each row; a result holds two rows, two channels of each in turn."""
    if tile.rows == 1:
        (v,) = results
        sorted_ = f"uzp1 v{free[0]}.8h, v{v}.8h, v{v}.8h"
        return [sorted_, f"st1 {{v{free[0]}.8b}}, [%[to]], %[stride]"]
    sort, stores = [], []
    for i in range(0, len(results), 2):
        pair = f"v{results[i]}.8h, v{results[i + 1]}.8h"
        # Rows 0 and 2 of the four, and rows 1 and 3.
        even, odd = free[i], free[i + 1]
        sort += [f"uzp1 v{even}.8h, {pair}", f"uzp2 v{odd}.8h, {pair}"]
        places = ((even, 0), (odd, 0), (even, 1), (odd, 1))
        stores += [f"st1 {{v{v}.d}}[{half}], [%[to]], %[stride]" for v, half in places]
    return sort + stores


KERNEL = DotKernel(
    mnemonic="smmla",
    name="neoni8mm",
    requires=I8MM,
    group=GROUP,
    layout=PAIRED,
    registers=register_plan,
    products=products,
    again=again,
    lanes=lanes,
    store=store,
    wide_ends=False,
)
