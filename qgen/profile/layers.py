"""What a model costs, layer by layer: instructions exactly, cycles as an estimate.

The program calls an empty function after every op and the plugin notes what ran before each call;
what lies between two calls belongs to the op, with all the helpers it calls and its share of
``<name>_run``. The price of the marking call is measured and subtracted.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qgen.emit import Provenance, emit
from qgen.errors import QgenError
from qgen.lower import Lowered, Step
from qgen.profile import count, mca, peak, program
from qgen.profile.blocks import Code, Executed, inner_loops
from qgen.profile.count import Block
from qgen.profile.peak import Peak
from qgen.targets import Cpu
from qgen.targets.spec import Target, implied

ORIGIN = Provenance("qgen profile", "model", "0" * 64)
# Before the ops: the price of a call twice, and the one that begins the inference.
_FIRST_OP = 3
# Sums become bytes: saturating moves to narrower lanes.
_ENDS = re.compile(r"\b([su]qxtu?n|sqr?shru?n|vqmovu?n|vqr?shru?n)")


@dataclass(frozen=True)
class InnerLoop:
    """One round of a loop, in the mean: MACs, instructions and estimated cycles.

    Attributes:
        bound: cycles that its instructions take of the busiest unit or of the core's width, if
            none waits for another: what its own budget allows.
        ends: it finishes outputs, too: it is a loop over them rather than over inputs.
    """

    macs: float
    instructions: float
    cycles: float
    bound: float
    ends: bool


@dataclass(frozen=True)
class Layer:
    """One op of the model.

    Attributes:
        kernel: the row that computes it; empty where the memory plan made it free.
        macs: of one inference, as are all figures.
        fewest: multiply instructions that the MACs alone need, of those the kernel may use.
        instructions: executed.
        predicted: instructions the cost model expected; None where it says nothing.
        cycles: an estimate; None where there is no llvm-mca, or no model of the core.
        loop: the innermost loop of multiplies that takes most cycles; None as `cycles`, or where
            there is none.
    """

    index: int
    name: str
    op: str
    kernel: str
    macs: int
    fewest: int
    instructions: int
    predicted: int | None = None
    cycles: float | None = None
    loop: InnerLoop | None = None

    @property
    def macs_per_instruction(self) -> float | None:
        return self.macs / self.instructions if self.macs and self.instructions else None

    @property
    def macs_per_cycle(self) -> float | None:
        return self.macs / self.cycles if self.macs and self.cycles else None


@dataclass(frozen=True)
class Profile:
    """One inference of a model on one core.

    Attributes:
        target: instructions the code may use.
        cpu: core whose schedule the cycles are estimated by.
        emulated: the emulator's CPU on which instructions were counted.
        scheduling: core whose model in LLVM the cycles come from: `cpu`, or the nearest.
        model_macs: of the model; the file computes less where channels are dead.
        layers: one per op, in order.
        rest: what belongs to no op: entering, copying outputs, returning.
        peak: what the core's multiply instructions alone allow; None as in `Layer.cycles`.
        note: why there are no cycles, in one line; else empty.
    """

    model: str
    target: str
    cpu: str
    emulated: str
    scheduling: str
    model_macs: int
    layers: tuple[Layer, ...]
    rest: Layer
    peak: Peak | None
    note: str

    @property
    def total(self) -> Layer:
        """All layers and the rest as if they were one."""
        parts = (*self.layers, self.rest)
        predicted = [layer.predicted for layer in self.layers if layer.kernel]
        return Layer(
            -1, "total", "", "",
            sum(layer.macs for layer in parts),
            sum(layer.fewest for layer in parts),
            sum(layer.instructions for layer in parts),
            None if None in predicted else sum(filter(None, predicted)),
            None if self.rest.cycles is None else sum(layer.cycles or 0.0 for layer in parts),
        )  # fmt: skip

    def percent_of_peak(self, layer: Layer) -> float | None:
        """MAC rate of `layer` in percent of `peak`; None where either is unknown."""
        rate = layer.macs_per_cycle
        return 100 * rate / self.peak.rate if rate and self.peak else None

    def loop_percent_of_peak(self, layer: Layer) -> float | None:
        """MAC rate of the inner loop alone in percent of `peak`."""
        if layer.loop is None or self.peak is None:
            return None
        return 100 * layer.loop.macs / layer.loop.cycles / self.peak.rate

    def loop_percent_of_bound(self, layer: Layer) -> float | None:
        """Estimated speed of the inner loop in percent of what its own instructions allow."""
        return None if layer.loop is None else 100 * layer.loop.bound / layer.loop.cycles

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; cycles and all that follows from them are None where unknown."""
        total = self.total
        return {
            "model": self.model,
            "target": self.target,
            "cpu": self.cpu,
            "emulated": self.emulated,
            "scheduling": self.scheduling,
            "model_macs": self.model_macs,
            "macs": total.macs,
            "fewest_instructions": total.fewest,
            "instructions": total.instructions,
            "predicted": total.predicted,
            "macs_per_instruction": _rounded(total.macs_per_instruction),
            "cycles": _whole(total.cycles),
            "cycles_are": "estimate",
            "macs_per_cycle": _rounded(total.macs_per_cycle),
            "peak_macs_per_cycle": _rounded(self.peak.rate) if self.peak else None,
            "peak_instruction": self.peak.instruction if self.peak else None,
            "percent_of_peak": _rounded(self.percent_of_peak(total)),
            "note": self.note,
            "layers": [
                {"index": layer.index} | self._layer_dict(layer, total) for layer in self.layers
            ],
            "rest": {
                "instructions": self.rest.instructions,
                "cycles": _whole(self.rest.cycles),
            },
        }

    def _layer_dict(self, layer: Layer, total: Layer) -> dict[str, Any]:
        return {
            "name": layer.name,
            "op": layer.op,
            "kernel": layer.kernel,
            "macs": layer.macs,
            "fewest_instructions": layer.fewest,
            "instructions": layer.instructions,
            "predicted": layer.predicted,
            "share": _rounded(layer.instructions / total.instructions),
            "macs_per_instruction": _rounded(layer.macs_per_instruction),
            "cycles": _whole(layer.cycles),
            "macs_per_cycle": _rounded(layer.macs_per_cycle),
            "percent_of_peak": _rounded(self.percent_of_peak(layer)),
            "loop_percent_of_peak": _rounded(self.loop_percent_of_peak(layer)),
            "loop_percent_of_bound": _rounded(self.loop_percent_of_bound(layer)),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def measure(lowered: Lowered, machine: Target, core: Cpu) -> Profile:
    """Run one inference under the emulator.

    Args:
        lowered: the model; its own target may be one without an emulator.
        machine: whose compiler, emulator and instructions are used.
        core: whose cycles are estimated.

    Raises:
        QgenError: a missing compiler or emulator. Missing llvm-mca is no error: see `Profile.note`.
    """
    steps = lowered.steps
    emulator = machine.toolchain.emulator
    try:
        tools, note = mca.find_tools(), ""
    except QgenError as e:
        tools, note = None, f"no cycles: {e}"
    with tempfile.TemporaryDirectory(prefix="qgen-profile-") as folder:
        texts = emit(lowered, ORIGIN)
        exe = program.build(lowered, texts, machine.toolchain, Path(folder), marks=True)
        mark = count.address(exe, program.MARK)
        run = count.run(exe, emulator, ["1"], mark=mark, blocks=tools is not None)
        # Two, one before the inference, one after each op and one after the inference.
        if len(run.marks) != len(steps) + _FIRST_OP + 1:
            raise AssertionError(f"{lowered.name}: {len(run.marks)} marks for {len(steps)} ops")
        spent = [b - a for a, b in itertools.pairwise(run.marks)]
        call = spent[0]
        *ops, rest = [n - call for n in spent[_FIRST_OP - 1 :]]
        layers = [_layer(s, n, lowered) for s, n in zip(steps, ops, strict=True)]
        layers.append(Layer(-1, "(rest)", "", "", 0, 0, rest))
        best = None
        if tools:
            ran = [
                [b for b in blocks if b.start != mark]
                for blocks in run.blocks[_FIRST_OP : _FIRST_OP + len(layers)]
            ]
            try:
                layers, best = _timed(layers, ran, exe, machine.features, core, tools)
            except QgenError as e:
                note = f"no cycles: {e}"
    *of_ops, last = layers
    return Profile(
        model=lowered.name,
        target=lowered.target.name,
        cpu=core.name,
        emulated=emulator[-1],
        scheduling=core.model,
        model_macs=sum(op.cost().macs for op in lowered.model.ops),
        layers=tuple(of_ops),
        rest=last,
        peak=best,
        note=note,
    )


def _layer(step: Step, instructions: int, lowered: Lowered) -> Layer:
    free = lowered.plan.copies.get(step.op) == ()
    op, macs = step.op, step.op.cost().macs
    return Layer(
        index=step.index,
        name=op.name,
        op=op.NAME,
        kernel="" if free else step.spec.name,
        macs=macs,
        fewest=-(-macs // peak.macs_per_instruction(implied(step.spec.requires))),
        instructions=instructions,
        predicted=step.predicted,
    )


def _timed(
    layers: Sequence[Layer],
    ran: Sequence[Sequence[Block]],
    exe: Path,
    features: frozenset[str],
    core: Cpu,
    tools: mca.Tools,
) -> tuple[list[Layer], Peak | None]:
    """`layers` with cycles, and the peak of the core: all code in one call of llvm-mca."""
    addresses = [b for blocks in ran for b in blocks]
    low, high = min(b.start for b in addresses), max(b.end for b in addresses)
    code = Code(exe, tools.objdump, low, high)
    executed: list[list[Executed]] = [code.executed(blocks) for blocks in ran]
    texts = [block.text for blocks in executed for block in blocks]
    texts += [m.text for m in peak.multiplies(features)]
    cost = mca.costs(tools, core, features, texts, thumb=code.thumb)
    timed = [
        # The call that marks the end is not the layer's.
        replace(layer, cycles=_cycles(blocks, cost, core), loop=_inner_loop(blocks, cost, core))
        if layer.instructions > 0
        else replace(layer, cycles=0.0)
        for layer, blocks in zip(layers, executed, strict=True)
    ]
    return timed, peak.peak(features, cost)


def _inner_loop(
    blocks: Sequence[Executed], cost: Mapping[str, mca.Cost], core: Cpu
) -> InnerLoop | None:
    found = []
    for body in inner_loops(blocks):
        rounds = body[-1].count
        macs = sum(b.count * peak.macs_of(b.text) for b in body)
        cycles = _cycles(body, cost, core)
        instructions = sum(b.count * b.instructions for b in body)
        bound = sum(b.count * cost[b.text].throughput for b in body)
        if macs:
            ends = any(_ENDS.search(b.text) for b in body)
            per = 1 / rounds
            loop = InnerLoop(macs * per, instructions * per, cycles * per, bound * per, ends)
            found.append((cycles, loop))
    return max(found, key=lambda f: f[0])[1] if found else None


def _cycles(blocks: Sequence[Executed], cost: Mapping[str, mca.Cost], core: Cpu) -> float:
    return sum(b.count * cost[b.text].on(core, b.loop) for b in blocks)
