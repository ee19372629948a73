"""Parsing, cores and errors of the assembly pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qgen.asm import rotate
from qgen.asm.cores import CORES, core_with, timing_rows
from qgen.asm.isa import inverse, macs, parse
from qgen.asm.machine import bound, steady_cycles
from qgen.asm.out_of_order import loop_cycles
from qgen.asm.rewrite import as_lists, join_steps, one_by_one, take_steps_out, walk
from qgen.asm.schedule import kernel_cycles
from qgen.asm.statement import Block, blocks, rewrite
from qgen.errors import QgenError
from qgen.targets import CPUS
from qgen.targets.gemm import NEXT_STEP
from qgen.targets.gemm_lines import FEWER, register_plan, step
from tests.ir.raising import raise_statements, reached

READS_AND_WRITES = [
    ("smull2 v8.8h, v0.16b, v12.16b", "v0 v12", "v8"),
    ("smlal v8.4s, v0.4h, v3.h[2]", "v0 v3 v8", "v8"),
    ("sqxtn v1.4h, v2.4s", "v2", "v1"),
    ("sqxtn2 v1.8h, v2.4s", "v1 v2", "v1"),
    ("ssra v1.4s, v1.4s, #31", "v1", "v1"),
    ("mov v0.s[1], v2.s[0]", "v0 v2", "v0"),
    ("umov %w[n], v2.b[3]", "v2", "%n"),
    ("tbl v0.16b, {v4.16b, v5.16b}, v1.16b", "v1 v4 v5", "v0"),
    ("ldp q0, q1, [%[w]], #32", "%w", "%w v0 v1"),
    ("ldr q0, [%[w], #16]!", "%w", "%w v0"),
    ("ldr d3, [x4, x5]", "x4 x5", "v3"),
    ("ld1 {v30.16b-v1.16b}, [%[p]], %[step]", "%p %step", "%p v0 v1 v30 v31"),
    ("ld1 {v3.s}[1], [%[p]]", "%p v3", "v3"),
    ("ld1r {v3.4s}, [%[p]]", "%p", "v3"),
    ("st1 {v8.s}[3], [%[y3]], #4", "%y3 v8", "%y3"),
    ("str wzr, [sp, #8]", "sp", ""),
    ("prfm pldl1keep, [%[p], #64]", "%p", ""),
    ("subs %[n], %[n], #1", "%n", "%n flags"),
    ("csel x1, xzr, x2, lt", "flags x2", "x1"),
    ("ccmp %[a], #2, #0, eq", "%a flags", "flags"),
    ("add x1, x2, w3, sxtw", "x2 x3", "x1"),
    ("b.ne 1b", "flags", ""),
    ("tbz %[row], #3, 9f", "%row", ""),
    ("b 2f", "", ""),
]


@pytest.mark.parametrize(("text", "reads", "writes"), READS_AND_WRITES)
def test_what_instructions_read_and_write(text: str, reads: str, writes: str) -> None:
    found = parse(text)
    assert (" ".join(sorted(found.reads)), " ".join(sorted(found.writes))) == (reads, writes)


BAD: list[tuple[str, Callable[[], object]]] = [
    ("unknown instruction 'frob v0.4s, v1.4s'", lambda: parse("frob v0.4s, v1.4s")),
    ("unknown instruction 'b.xx 1b'", lambda: parse("b.xx 1b")),
    (r"unknown operand 'z0' in 'add z0, z0, z1'", lambda: parse("add z0, z0, z1")),
    ("no address in 'ldr q0, 1f'", lambda: parse("ldr q0, 1f")),
    ("branch 'cbz' has no opposite", lambda: inverse("cbz")),
    ("no assembly: '#if X' ", lambda: list(blocks(["#if X"]))),
]


@pytest.mark.parametrize(("message", "bad"), BAD)
def test_refuses(message: str, bad: Callable[[], object]) -> None:
    with pytest.raises(QgenError, match=message):
        bad()


def test_every_raise_is_reached() -> None:
    assert set(raise_statements("qgen/asm")) <= set().union(*(reached(bad) for _, bad in BAD))


def test_products() -> None:
    for text, count in (
        ("smull v0.8h, v1.8b, v2.8b", 8),
        ("mla v0.4s, v1.4s, v2.s[1]", 4),
        ("sdot v0.4s, v1.16b, v2.4b[0]", 16),
        ("usmmla v0.4s, v1.16b, v2.16b", 32),
        ("sqrdmulh v0.4s, v1.4s, v2.4s", 0),
        ("add v0.4s, v1.4s, v2.4s", 0),
    ):
        assert macs(parse(text)) == count


def test_every_core_of_the_table_is_timed() -> None:
    rows = [*timing_rows("# c\n1 1 A:1 | 2 1\n    add x0, x1, x2; nop;\n")]
    assert rows == [(["1 1 A:1", "2 1"], ["add x0, x1, x2", "nop"])]
    for cpu in CPUS.values():
        found = core_with(cpu.model)
        assert found is None or found.in_order == cpu.in_order
        assert found is not None or not cpu.target.startswith("aarch64")


def test_an_in_order_core_waits() -> None:
    core = CORES["cortex-a53"]
    chain = [parse("smlal v0.8h, v1.8b, v2.8b")]
    free = [parse(f"smlal v{n}.8h, v30.8b, v31.8b") for n in range(8)]
    assert steady_cycles(core, chain) == 6 and steady_cycles(core, free) == 8
    assert bound(core, free) == 8 and bound(CORES["cortex-a57"], free) == 8
    # A branch waits for all results; what else is short may run meanwhile.
    assert steady_cycles(core, [*free, parse("b.ne 1b")]) == 12
    steps = [parse(f"add x{n}, x{n}, #32") for n in range(4)]
    beside = steady_cycles(core, [*free, *steps, parse("b.ne 1b")])
    among = [i for pair in zip(free, [*steps, *steps], strict=True) for i in pair]
    assert beside < steady_cycles(core, [*among, parse("b.ne 1b")])


def texts(*lines: str) -> list[str]:
    return list(lines)


def test_other_instructions_for_the_same_loads() -> None:
    body = [parse(t) for t in ("ldp q0, q1, [%[w]], #32", "ldr q2, [%[w]], #16", "ldr d3, [x1]")]
    assert [i.text for i in join_steps(body)] == texts(
        "ldp q0, q1, [%[w]], #48", "ldr q2, [%[w], #-16]", "ldr d3, [x1]"
    )
    assert [i.text for i in take_steps_out(body)] == texts(
        "ldp q0, q1, [%[w]]", "ldr q2, [%[w], #32]", "ldr d3, [x1]", "add %[w], %[w], #48"
    )
    single = one_by_one([parse("ld1 {v4.16b-v5.16b}, [%[w]], #32"), parse("ldr q9, [x1]")])
    assert [i.text for i in single] == texts(
        "ldr q4, [%[w]], #16", "ldr q5, [%[w]], #16", "ldr q9, [x1]"
    )
    assert [i.text for i in walk(single)] == texts(
        "ld1 {v4.16b}, [%[w]]", "ldr q5, [%[w], #16]", "add %[w], %[w], #32", "ldr q9, [x1]"
    )
    assert [i.text for i in as_lists([parse("ldp q6, q7, [x1]"), parse("ldp q6, q9, [x1]")])] == (
        texts("ld1 {v6.16b, v7.16b}, [x1]", "ldp q6, q9, [x1]")
    )
    # A pointer that something else looks at keeps its steps.
    tied = [*body, parse("mov %[y], %[w]")]
    assert join_steps(tied) == tied and take_steps_out(tied) == tied


def test_statements_that_stay_as_they_are() -> None:
    """One whose output may share a register with an input, and one without instructions."""
    shared = '    __asm__ volatile(\n        "add %[a], %[b], #1\\n\\t"\n'
    shared += '        : [a] "=r"(a)\n        : [b] "r"(b));'
    assert rewrite(shared, lambda found: ()) == shared
    apart = shared.replace('"=r"', '"=&r"')
    assert "add" not in rewrite(apart, lambda found: ())
    assert rewrite('    __asm__ volatile("" : "+w"(x));', lambda found: ()).endswith("(x));")


def test_steps_run_ahead_with_their_loads() -> None:
    """Of pointers of which all loads run ahead; `w` is still read in this round."""
    lines = ("ld1 {v0.16b}, [%[x]]", "ldr q1, [%[w]]", "smull v2.8h, v0.8b, v1.8b",
             "ldr q3, [%[w], #16]", "smlal v2.8h, v0.8b, v3.8b", "sadalp v4.4s, v2.8h",
             "add %[x], %[x], #16", "add %[w], %[w], #32", "subs %[n], %[n], #1")  # fmt: skip
    block = Block("1", tuple(map(parse, lines)), parse("b.ne 1b"))
    parts = rotate.split(CORES["cortex-a53"], block, disjoint=False, most=2)
    assert parts is not None
    assert [i.text for i in parts.loads] == [lines[0], lines[1], lines[6]]
    whole = rotate.split(CORES["cortex-a53"], block, disjoint=False)
    assert whole is not None and [i.text for i in whole.loads] == [
        lines[n] for n in (0, 1, 3, 6, 7)
    ]  # fmt: skip


def test_cycles_of_a_kernel_that_is_not_printed_yet() -> None:
    """A rotated loop has to be entered and left, which many rounds share."""
    core = CORES["cortex-a53"]
    lines = (*step(register_plan(FEWER), FEWER, 2, 4).lines, NEXT_STEP)
    once, often = (kernel_cycles(core, lines, n) for n in (1.0, 1e6))
    assert often < once and kernel_cycles(core, (), 0.0) == 0
    assert kernel_cycles(CORES["cortex-a57"], lines, 9.0) == bound(
        CORES["cortex-a57"], [parse(x) for x in lines]
    )


def test_an_out_of_order_core_waits_where_its_window_ends() -> None:
    core = CORES["cortex-a57"]
    free = [parse(f"smlal v{n}.8h, v30.8b, v31.8b") for n in range(8)]
    assert loop_cycles(core, free) == 8
    chain = [parse("add v0.4s, v0.4s, v1.4s")] * 4
    assert loop_cycles(core, chain) == 4 * core.timing(chain[0]).latency
    # More than a window between a result and the next one of its chain.
    late = [*free * 20, parse("ldr q30, [x0]"), *[parse("sqrshrn v30.4h, v30.4s, #3")] * 9]
    early = [late[160], *late[161:], *free * 20]
    assert loop_cycles(core, late) >= bound(core, late)
    assert loop_cycles(core, early) >= bound(core, early)
