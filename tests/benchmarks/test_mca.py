"""The timings in use are those of llvm-mca, and so are the cycles that follow from them."""

from __future__ import annotations

import random
import shutil

import pytest

from benchmarks.mca import PROGRAMS, concrete, cycles, tables
from qgen.asm.cores import CORES, Core
from qgen.asm.isa import parse
from qgen.asm.machine import steady_cycles
from qgen.asm.out_of_order import loop_cycles
from tests.asm.test_schedule import POOL, random_lines

# Other releases of LLVM have other models.
pytestmark = pytest.mark.skipif(not shutil.which(PROGRAMS[0]), reason="needs llvm-mca 22")

SOME = (
    "smlal v0.8h, v1.8b, v2.8b",
    "sadalp v0.4s, v1.8h",
    "sdot v0.4s, v1.16b, v2.4b[0]",
    "ldp q0, q1, [x0], #32",
    "ld1 {v0.16b}, [x0]",
    "subs x0, x0, #1",
)


@pytest.mark.parametrize("core", CORES.values(), ids=lambda c: c.name)
def test_the_table_is_as_measured(core: Core) -> None:
    for line, row in zip(SOME, tables(core, SOME), strict=True):
        used = core.timing(parse(line))
        assert (used.latency, used.uops, used.leads) == (row.latency, row.uops, row.leads)
        assert sum(used.pipes.values()) == pytest.approx(sum(busy for _, busy in row.pipes))


@pytest.mark.parametrize("core", [c for c in CORES.values() if c.in_order], ids=lambda c: c.name)
def test_cycles_of_in_order_cores(core: Core) -> None:
    """Loads and vector instructions at random take the cycles of llvm-mca, or nearly."""
    draw = random.Random(0)
    # A list of registers must be in turn, which random ones are not.
    others = ("add %", "csel", "cmp", "st", "ld1 {{v{v}.16b")
    pool = tuple(line for line in POOL if not line.startswith(others))
    for _ in range(5):
        body = [parse(line) for line in random_lines(draw, 24, pool)]
        assert steady_cycles(core, body) == pytest.approx(cycles(core, concrete(body)), rel=0.05)


@pytest.mark.parametrize("name", ["cortex-a57", "neoverse-n1"])
def test_cycles_of_out_of_order_cores(name: str) -> None:
    """A chain beside products that wait for nothing: what the window holds decides."""
    core = CORES[name]
    free = [f"smlal v{8 + n}.8h, v30.8b, v31.8b" for n in range(16)]
    chain = ["ldr q0, [x0]", *["ssra v0.4s, v1.4s, #3", "addp v1.4s, v0.4s, v1.4s"] * 8]
    for lines in (free, [*free, *chain], [*chain, *free], [*free * 4, *chain]):
        body = [parse(line) for line in lines]
        assert loop_cycles(core, body) == pytest.approx(cycles(core, lines), rel=0.1)
