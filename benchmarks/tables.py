"""The tables of the page: headings, and cells as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks import goals, loops, runner
from benchmarks.litert_peer import KERNELS
from benchmarks.results import FLOAT, TWIN, Results
from qgen.report.profile import dearest, number

Rows = tuple[Sequence[str], list[list[str]]]
TOP = 3


def millions(n: float) -> str:
    """Millions to about three digits: 7246376 -> '7.25', 641 -> '0.0006'."""
    value = n / 1e6
    digits = 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def markdown(rows: Rows, left: int = 1) -> str:
    """A Markdown table, the first `left` columns to the left and the others to the right."""
    headings, cells = rows
    lines = [headings, ["---"] * left + ["---:"] * (len(headings) - left), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def peers(results: Results) -> Rows:
    """qgen beside LiteRT, per model and CPU, and beside what its own multiplies allow."""
    headings = (
        "model", "cpu", "qgen target", "xnn (M)", "ruy (M)", "qgen (M)", "xnn/MAC", "ruy/MAC",
        "qgen/MAC", "qgen / better", "multiplies (M)", "qgen / multiplies", "text (B)", "RAM (B)",
        "LiteRT heap (B)",
    )  # fmt: skip
    return headings, [
        row for name in results.names for cpu in results.cpus for row in _peer(results, name, cpu)
    ]


def _peer(results: Results, name: str, cpu: str) -> Iterator[list[str]]:
    ours = results.ours[name, cpu]
    total, peer = ours.profile.total, results.peers.get((name, cpu))
    theirs = [peer.instructions[k] if peer else None for k in KERNELS]
    figures = [*theirs, float(total.instructions)]
    yield [
        name,
        cpu,
        ours.lowered.target.name,
        *("-" if n is None else millions(n) for n in figures),
        *(number(None if n is None else n / ours.macs, ".3f") for n in figures),
        number(results.ratio(name, cpu), ".2f"),
        millions(total.fewest),
        number(total.instructions / total.fewest, ".2f"),
        f"{ours.sizes.text_bytes:,}",
        f"{ours.ram_bytes:,}",
        f"{min(peer.heap_bytes.values()):,}" if peer else "-",
    ]


def floats(results: Results) -> Rows:
    """The int8 model of qgen beside the float model of LiteRT."""
    headings = ("cpu", "LiteRT float, xnn (M)", "LiteRT float, ruy (M)", "qgen int8 (M)", "ratio")
    cells = []
    for cpu in results.cpus:
        peer, ours = results.peers.get((FLOAT, cpu)), results.instructions(TWIN, cpu)
        if peer and ours:
            both = [millions(peer.instructions[k]) for k in KERNELS]
            ratio = number(results.ratio(TWIN, cpu, FLOAT), ".2f")
            cells.append([cpu, *both, millions(ours), ratio])
    return headings, cells


def cycles(results: Results) -> Rows:
    """Estimated cycles of every model on the cores that are timed."""
    headings = ("model", "cpu", "cycles (M, est.)", "MAC/cycle", "% of peak", "cycles/instruction")
    cells = []
    for name in results.names:
        for cpu in runner.TIMED:
            ours = results.ours.get((name, cpu))
            total = ours.profile.total if ours else None
            if ours and total and total.cycles:
                percent = number(ours.profile.percent_of_peak(total), ".1f")
                per = f"{total.cycles / total.instructions:.2f}"
                rate = number(total.macs_per_cycle, ".2f")
                cells.append([name, cpu, millions(total.cycles), rate, percent, per])
    return headings, cells


def goal_rows(results: Results) -> Rows:
    return goals.HEADINGS, [goal.row() for goal in goals.goals(results)]


def loop_rows(results: Results) -> Rows:
    """The inner loop of each kernel of matrix products, by core."""
    return loops.HEADINGS, [
        loops.cells(cpu, loop)
        for cpu in dict.fromkeys(cpu for _, cpu in results.ours)
        for loop in loops.of(results, cpu)
    ]


def models(results: Results) -> Rows:
    """Sizes and times of the first CPU's code."""
    headings = (
        "model", "MACs (M)", "generate (s)", "gcc -O2 (s)", "header (kB)", "text (B)", "rodata (B)",
        "arena (B)", "stack (B)", "golden (ms)",
    )  # fmt: skip
    cells = []
    for name in results.names:
        ours = results.ours[name, results.cpus[0]]
        sizes = ours.sizes
        cells.append([
            name, millions(ours.macs), f"{ours.seconds:.2f}", f"{sizes.cc_seconds:.2f}",
            f"{sum(map(len, ours.texts.values())) / 1e3:,.0f}", f"{sizes.text_bytes:,}",
            f"{sizes.rodata_bytes:,}", f"{ours.lowered.plan.arena_bytes:,}",
            f"{sizes.stack_bytes:,}", f"{results.golden_ms[name]:.1f}",
        ])  # fmt: skip
    return headings, cells


def layers(results: Results) -> Rows:
    """The dearest layers of each model on the first CPU."""
    headings = (
        "model", "layer", "op", "kernel", "MACs", "instructions", "predicted", "share", "per MAC",
        "/ multiplies",
    )  # fmt: skip
    cells = []
    for name in results.names:
        profile = results.ours[name, results.cpus[0]].profile
        total = profile.total
        for layer in dearest(profile, TOP):
            cells.append([
                name, f"{layer.index} {layer.name}", layer.op, layer.kernel, f"{layer.macs:,}",
                f"{layer.instructions:,}", number(layer.predicted),
                f"{layer.instructions / total.instructions:.0%}",
                f"{layer.instructions / layer.macs:.3f}" if layer.macs else "",
                f"{layer.instructions / layer.fewest:.2f}" if layer.fewest else "",
            ])  # fmt: skip
    return headings, cells
