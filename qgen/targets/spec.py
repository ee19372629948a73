"""Machines as data: targets, kernel rows, register plans.

A target is a set of ISA features, a toolchain and a list of kernel rows in order of preference. A
row says which op it computes, which template holds its C, what it needs, and prepares the
constants that the template prints. Nothing in qgen tests a target by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import Any

from qgen.errors import QgenError
from qgen.ir.op import Op
from qgen.ir.types import Array, Rounding
from qgen.targets.work import Clock, Work
from qgen.toolchain.cc import Toolchain

# Each feature and those it brings with it.
FEATURES: Mapping[str, frozenset[str]] = {
    "c99": frozenset(),
    "neon": frozenset({"c99"}),
    "aarch64": frozenset({"neon"}),
    "armv7": frozenset({"neon"}),
    "dotprod": frozenset({"neon"}),
    "i8mm": frozenset({"neon"}),
}


def implied(features: frozenset[str]) -> frozenset[str]:
    """`features` and all that they imply. Raises QgenError for an unknown one."""
    for name in features:
        if name not in FEATURES:
            raise QgenError(f"unknown feature '{name}'", hint=f"known: {', '.join(FEATURES)}")
    more = features.union(*(FEATURES[f] for f in features))
    return features if more == features else implied(more)


@dataclass(frozen=True)
class Bank:
    """Vector registers of an instruction set: ``v0`` to ``v31``, say."""

    prefix: str
    count: int


VECTORS = Bank("v", 32)
QUADS = Bank("q", 16)  # of 32-bit Arm; q0 is d0 and d1


@dataclass(frozen=True)
class RegPlan:
    """Vector registers of a kernel by role, e.g. ``acc=(16, ..., 31)``.

    The roles must not share a register; the clobber list is derived from them, so a template
    cannot use one that the compiler does not know of.
    """

    vector: Mapping[str, tuple[int, ...]]
    bank: Bank = VECTORS

    def __post_init__(self) -> None:
        used = [r for regs in self.vector.values() for r in regs]
        if len(set(used)) != len(used) or not all(0 <= r < self.bank.count for r in used):
            ends = f"{self.bank.prefix}0..{self.bank.prefix}{self.bank.count - 1}"
            raise QgenError(f"register plan overlaps or leaves {ends}: {dict(self.vector)}")

    def __getitem__(self, role: str) -> tuple[int, ...]:
        return self.vector[role]

    @property
    def clobbers(self) -> tuple[str, ...]:
        used = sorted(r for regs in self.vector.values() for r in regs)
        return tuple(f"{self.bank.prefix}{r}" for r in used)

    def __str__(self) -> str:
        p = self.bank.prefix

        def text(regs: tuple[int, ...]) -> str:
            return f"{p}{regs[0]}" if len(regs) == 1 else f"{p}{regs[0]}-{p}{regs[-1]}"

        return " | ".join(f"{role} {text(regs)}" for role, regs in self.vector.items())


@dataclass(frozen=True)
class Helper:
    """A static C function that several ops of a file may share, printed once.

    `name` is its C name without the model's prefix; `vars` what its template sees. A `compact` one
    is printed without what makes it faster and longer.
    """

    name: str
    template: str
    vars: Mapping[str, Any] = field(default_factory=dict)
    compact: bool = False


@dataclass(frozen=True)
class Constant:
    """A ``static const`` array of the generated file; `comment` says what its order means."""

    values: Array
    comment: str = ""


@dataclass(frozen=True)
class Lanes:
    """Sums narrower than int32 that a kernel makes, with the proof that they fit, (Q16).

    Attributes:
        products: what meets in a lane before it is widened, in words.
        depth: how many products that is, on average.
        bound: largest magnitude that any input gives a lane; it holds one more below zero.
        limit: the largest that it holds.
    """

    products: str
    depth: float
    bound: int
    limit: int = 2**15 - 1

    def __str__(self) -> str:
        bits = self.limit.bit_length() + 1
        return f"int{bits} lanes (Q16): {self.products}; at most {self.bound} of {self.limit}"


@dataclass(frozen=True)
class Prepared:
    """What a row makes of one op: everything its template prints, decided in Python.

    Attributes:
        constants: packed weights, biases, multipliers by their C name without prefix.
        scratch: bytes of the arena the op needs while it runs.
        helpers: shared functions it calls, dependencies first.
        vars: further template variables.
        lanes: its narrow sums and their proof, None where it sums in int32 alone.
        notes: further lines for the comment above the function: register plan, budget.
        extremes: inputs [K] of one output, as int8, that drive a narrow lane of the kernel to its
            proven bound; `verify` runs them.
    """

    constants: Mapping[str, Constant] = field(default_factory=dict)
    scratch: int = 0
    helpers: tuple[Helper, ...] = ()
    vars: Mapping[str, Any] = field(default_factory=dict)
    lanes: Lanes | None = None
    notes: tuple[str, ...] = ()
    extremes: tuple[Array, ...] = ()


def _any(op: Op, rounding: Rounding) -> str:
    return ""


def _unknown(op: Op, rounding: Rounding) -> None:
    return None


@dataclass(frozen=True)
class KernelSpec:
    """One kernel: a row of a target's table.

    Attributes:
        name: ``<types>_<op>__<isa>_<tile>``.
        op: name of the op it computes.
        template: its C text, below ``qgen/templates``.
        requires: ISA features.
        prepare: constants and variables for one op under a rounding.
        refuses: why the row cannot take an op, or an empty string.
        cost: predicted instructions of one run, or None where nothing is predicted.
        work: what a run executes, where that is known line by line; it then stands for `cost`.
        tile: output pixels x output channels x depth of one step, where the kernel has a tile.
        regs: vector registers, where the kernel is assembly.
        within: the row with at most so many bytes of scratch, where it has a choice.
        sharing: the same kernel in instances that more ops can share, at the cost of a few
            instructions; None where there is nothing to share.
    """

    name: str
    op: str
    template: str
    requires: frozenset[str]
    prepare: Callable[[Any, Rounding], Prepared]
    refuses: Callable[[Any, Rounding], str] = _any
    cost: Callable[[Any, Rounding], float | None] = _unknown
    work: Callable[[Any, Rounding], Work] | None = None
    tile: tuple[int, int, int] | None = None
    regs: RegPlan | None = None
    within: Callable[[int], KernelSpec] | None = None
    sharing: KernelSpec | None = None

    def predicted(self, op: Op, rounding: Rounding) -> float | None:
        """Instructions of one run, or None where nothing is predicted."""
        return self.work(op, rounding).instructions if self.work else self.cost(op, rounding)


def with_sharing(row: KernelSpec) -> KernelSpec:
    """A row with its sibling; its `prepare`, and `work` or `cost`, take the keyword `sharing`."""
    prepare: Callable[..., Prepared] = row.prepare
    work: Callable[..., Work] | None = row.work
    cost: Callable[..., float | None] = row.cost
    other = replace(row, prepare=partial(prepare, sharing=True))
    if work:
        return replace(row, sharing=replace(other, work=partial(work, sharing=True)))
    return replace(row, sharing=replace(other, cost=partial(cost, sharing=True)))


@dataclass(frozen=True)
class Target:
    """A machine qgen writes code for.

    Attributes:
        name: as given to ``--target``.
        summary: one line for ``--help``.
        features: ISA features, closed under implication.
        toolchain: compilers, flags and emulator to verify with.
        kernels: rows in order of preference.
        includes: headers beyond <stdint.h> and <stddef.h>.
        guard: preprocessor condition under which the file can be compiled.
        granule: numbers of channels are kept multiples of this when dead ones go.
        stack_bytes: what the header promises as the most stack a run takes; `compile` and `verify`
            hold the compiler's figure against it.
        text_bytes: code, without weights, that a model should take at most: beyond it, ops share
            instances of kernels.
        generic_cpu: the core whose order of instructions is taken where none is chosen: an in-order
            one, since it suffers most from another's. Empty where there is no such order.
    """

    name: str
    summary: str
    features: frozenset[str]
    toolchain: Toolchain
    kernels: tuple[KernelSpec, ...]
    includes: tuple[str, ...] = ()
    guard: str = ""
    granule: int = 1
    stack_bytes: int = 1024
    text_bytes: int = 48 * 1024
    generic_cpu: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", implied(self.features))
        for row in self.kernels:
            if not implied(row.requires) <= self.features:
                raise QgenError(f"kernel {row.name} needs more than target {self.name} has")

    def select(
        self, op: Op, rounding: Rounding, clock: Clock | None = None, room: int | None = None
    ) -> KernelSpec:
        """The row for `op`: of those that take it the one predicted to need fewest instructions.

        With a `clock`, the one predicted to need fewest cycles, if their work is known of all.
        `room` is what scratch a row may take that has a choice, in bytes; None for any.

        The first row that predicts nothing ends the search: rows behind it are its fallbacks. It
        is taken if no row before it predicts. Raises QgenError with every row's reason where no
        row takes the op.
        """
        reasons = []
        found: list[tuple[float, KernelSpec]] = []
        for row in self.kernels:
            if row.op != op.NAME:
                continue
            if row.within and room is not None:
                row = row.within(room)
            reason = row.refuses(op, rounding)
            if reason:
                reasons.append(f"{row.name}: {reason}")
                continue
            cost = row.predicted(op, rounding)
            if cost is None:
                found = found or [(0.0, row)]
                break
            found.append((cost, row))
        if not found:
            raise QgenError(
                f"no kernel of target {self.name} computes {op.NAME} '{op.name}'"
                + "".join(f"; {r}" for r in reasons),
                op.loc,
            )
        works = [row.work(op, rounding) for _, row in found if row.work]
        if clock and len(found) > 1 and len(works) == len(found):
            cycles = [work.cycles(clock) for work in works]
            return found[cycles.index(min(cycles))][1]
        return min(found, key=itemgetter(0))[1]
