"""The products of a Winograd convolution: per frequency, summed over the input channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qgen.ir.types import Array
from qgen.targets.requantize_asm import Lines
from qgen.targets.spec import RegPlan

CHANNELS = 8  # output channels of a block
LANES = 8  # int16 elements of a register
PAIRS = 4  # of a frequency and a tile, which the kernel takes at a time
MOST_WEIGHTS = 16  # registers


@dataclass(frozen=True)
class Turn:
    """What the kernel of the products takes at a time: 4 pairs of a frequency and a tile.

    8 sums in registers keep a multiplier busy whose results take 4 cycles, so fewer tiles take
    more frequencies.

    Attributes:
        tiles: of a block: 4, 2 or 1.
        step: input channels, 8 or 16.
    """

    tiles: int
    step: int

    @property
    def frequencies(self) -> int:
        return PAIRS // self.tiles

    @property
    def chunk(self) -> int:
        """Input channels for which weights are loaded at once."""
        return min(self.step, MOST_WEIGHTS // self.frequencies)

    @property
    def regs(self) -> RegPlan:
        ends = (0, PAIRS * self.step // LANES, 2 * PAIRS, self.frequencies * self.chunk)
        x, acc, w = ends[1], ends[1] + ends[2], ends[1] + ends[2] + ends[3]
        return RegPlan(
            {"x": tuple(range(x)), "acc": tuple(range(x, acc)), "w": tuple(range(acc, w))}
        )

    @property
    def vector(self) -> int:
        """Elements of scratch from 8 input channels to the next 8."""
        return PAIRS * LANES

    def place(self, frequency: int, inputs: int) -> int:
        """Bytes of scratch ahead of a frequency, in [turn][C / 8][frequency][tile][8]."""
        turn, inside = divmod(frequency, self.frequencies)
        return 2 * self.tiles * (turn * self.frequencies * inputs + inside * LANES)

    def arranged(self, weights: Array) -> Array:
        """[frequency][C][8] in reading order: [turn][step][chunk][frequency][chunk][8]."""
        total, inputs, lanes = weights.shape
        turns = (total // self.frequencies, self.frequencies)
        chunks = (inputs // self.step, self.step // self.chunk, self.chunk)
        return weights.reshape(*turns, *chunks, lanes).transpose(0, 2, 3, 1, 4, 5).reshape(-1)

    def products(self, *, first: bool) -> Lines:
        """One step of every pair; its first input channels start the sums."""
        x, acc, w = (self.regs[role] for role in ("x", "acc", "w"))
        lines = _loads(x, "x")
        for k in range(self.step):
            if k % self.chunk == 0:
                lines += _loads(w, "w")
            name = "smull" if first and k == 0 else "smlal"
            for pair in range(PAIRS):
                by = f"v{x[k // LANES * PAIRS + pair]}.h[{k % LANES}]"
                weights = w[pair // self.tiles * self.chunk + k % self.chunk]
                low, high = acc[2 * pair], acc[2 * pair + 1]
                lines.append(f"{name} v{low}.4s, v{weights}.4h, {by}")
                lines.append(f"{name}2 v{high}.4s, v{weights}.8h, {by}")
        return Lines(f"{self.step} input channels.", tuple(lines))

    def store(self) -> Lines:
        return Lines("Sums.", tuple(_move("stp", self.regs["acc"], "sums")))


def _loads(registers: Sequence[int], pointer: str) -> list[str]:
    return _move("ldp", registers, pointer)


def _move(name: str, registers: Sequence[int], pointer: str) -> list[str]:
    """Consecutive vectors at a pointer that moves on."""
    pairs = zip(registers[::2], registers[1::2], strict=True)
    return [f"{name} q{a}, q{b}, [%[{pointer}]], #32" for a, b in pairs]


@dataclass(frozen=True)
class Product:
    """The kernel that multiplies and adds up over the input channels, frequency by frequency.

    Attributes:
        turn: what it takes at a time.
        steps: those printed one after the other; the last repeats if `repeats` is not 0.
        repeats: how often the last step runs.
    """

    turn: Turn
    steps: tuple[Lines, ...]
    repeats: int

    @property
    def regs(self) -> RegPlan:
        return self.turn.regs

    @property
    def store(self) -> Lines:
        return self.turn.store()

    def length(self, frequencies: int) -> int:
        """Instructions for all frequencies of one block of channels."""
        *straight, last = (len(lines.lines) for lines in self.steps)
        around = len(self.store.lines) + 2 + (1 if self.repeats else 0)
        looped = self.repeats * (last + 2) if self.repeats else last
        return frequencies // self.turn.frequencies * (sum(straight) + looped + around)


def products(turn: Turn, steps: int) -> Product:
    """Two steps are printed as they are, more of them as a loop behind the first."""
    lines = [turn.products(first=i == 0) for i in range(min(steps, 2))]
    return Product(turn, tuple(lines), steps - 1 if steps > 2 else 0)
