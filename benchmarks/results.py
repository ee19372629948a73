"""Everything that is measured, and how: models on cores, LiteRT beside them, golden."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import litert_peer, runner
from benchmarks.litert_peer import Peer, PeerFigures
from benchmarks.runner import Generated
from qgen.ir import interp
from qgen.ir.graph import Graph

GOLDEN_RUNS = 3
# The float model whose int8 twin is among `runner.MODELS`.
FLOAT, TWIN = "vww_96_float", "vww_96_int8"

SMALL = 1 << 20  # bytes

Key = tuple[str, str]  # model, cpu


@dataclass(frozen=True)
class Results:
    """All figures of one run of the benchmarks.

    Attributes:
        names: of the models, in order.
        cpus: on which instructions are compared.
        ours: qgen, measured, by model and cpu.
        peers: LiteRT, likewise; empty where it was left out.
        golden_ms: milliseconds per inference of the golden interpreter, by model.
    """

    names: tuple[str, ...]
    cpus: tuple[str, ...]
    ours: Mapping[Key, Generated]
    peers: Mapping[Key, PeerFigures]
    golden_ms: Mapping[str, float]

    def instructions(self, name: str, cpu: str) -> int | None:
        """qgen's per inference; None where it was not measured."""
        found = self.ours.get((name, cpu))
        return found.profile.total.instructions if found else None

    def ratio(self, name: str, cpu: str, peer: str = "") -> float | None:
        """qgen's instructions over those of the better kernels of LiteRT.

        `peer` is the model that LiteRT runs, where it is another one.
        """
        ours, other = self.instructions(name, cpu), self.peers.get((peer or name, cpu))
        return ours / other.better if ours and other else None


def measure(
    paths: Sequence[Path],
    cpus: Sequence[str],
    timed: Sequence[str],
    looped: Sequence[str],
    peer: Peer | None,
    progress: Callable[[str], None] = lambda what: None,
) -> Results:
    """Measure all models on all CPUs, two at a time: the programs run outside of Python.

    Args:
        cpus: of the emulator, for instructions; the first one's code is also timed.
        timed: further cores for cycles.
        looped: further cores for inner loops, of models in small files: they use the same kernels.
        peer: LiteRT, or None to leave it out.

    Raises QgenError where something does not build or run.
    """

    def ours(path: Path, cpu: str) -> Generated:
        generated = runner.generate(path, cpu)
        progress(f"{path.stem}, {cpu}: {generated.profile.total.instructions:,} instructions")
        assert cpu not in cpus or generated.sizes
        return generated

    def other(path: Path, cpu: str) -> PeerFigures:
        assert peer
        found = litert_peer.measure(peer, path, cpu)
        progress(f"{path.stem}, {cpu}: LiteRT {found.better:,.0f} instructions")
        return found

    # Before the rest, which would be in the way of its time.
    golden = {path.stem: golden_seconds(ours(path, cpus[0]).lowered.model) * 1e3 for path in paths}
    float_model = [p.with_name(f"{FLOAT}.tflite") for p in paths if p.stem == TWIN]
    float_model = [p for p in float_model if p.is_file()]
    # Large models first: the last job is then a short one.
    ordered = sorted(paths, key=lambda p: -p.stat().st_size)
    with ThreadPoolExecutor(2) as pool:
        made: dict[Key, Future[Generated]] = {}
        peers: dict[Key, Future[PeerFigures]] = {}
        for path in ordered:
            small = path.stat().st_size < SMALL
            for cpu in dict.fromkeys([*cpus, *timed, *(looped if small else ())]):
                made[path.stem, cpu] = pool.submit(ours, path, cpu)
        if peer:
            for path in (*ordered, *float_model):
                for cpu in cpus:
                    peers[path.stem, cpu] = pool.submit(other, path, cpu)
        return Results(
            names=tuple(path.stem for path in paths),
            cpus=tuple(cpus),
            ours={key: job.result() for key, job in made.items()},
            peers={key: job.result() for key, job in peers.items()},
            golden_ms=golden,
        )


def golden_seconds(model: Graph) -> float:
    """Seconds per inference of the golden interpreter: best of three after one to warm up."""
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(t.dtype.min, t.dtype.max + 1, t.shape).astype(t.dtype.numpy)
        for t in model.inputs
    ]
    interp.run(model, inputs)
    taken = []
    for _ in range(GOLDEN_RUNS):
        started = time.perf_counter()
        interp.run(model, inputs)
        taken.append(time.perf_counter() - started)
    return min(taken)
