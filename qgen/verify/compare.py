"""Compare the generated C with golden: every output and every op's result, bit for bit."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from qgen.errors import QgenError
from qgen.ir import interp
from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.op import Env, Op
from qgen.ir.types import Array, Tensor
from qgen.lower import Lowered, Step, lower
from qgen.passes.storage import OFFSET
from qgen.targets import machine
from qgen.targets.spec import Target
from qgen.verify.harness import FaultError, Session, build, callable_alone
from qgen.verify.inputs import lane_operands, model_inputs, op_operands
from qgen.verify.verdict import Difference, Verdict

Progress = Callable[[str, int, int], None]


class _DifferenceError(Exception):
    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


def verify(
    graph: Graph | Path | str,
    target: Target | str | None = None,
    *,
    cpu: str | None = None,
    inputs: int = 20,
    seed: int = 0,
    oracle: bool = False,
    progress: Progress | None = None,
) -> Verdict:
    """Generate C for a model, run it and compare it with golden.

    Args:
        graph: a graph, or the path of a .tflite or .qg file.
        target: a target or its name; by default that of the cpu, or aarch64.
        cpu: name of a core.
        inputs: how many inputs of the whole model to run.
        seed: of the random values.
        oracle: also compare golden's outputs with LiteRT's reference kernels (.tflite only).
        progress: called with (what, done, total).

    Raises QgenError where the model is bad or a compiler or emulator is missing; a difference is
    not an error but a verdict.
    """
    model_file = None
    if not isinstance(graph, Graph):
        from qgen.frontend import load_model

        model_file = Path(graph)
        graph = load_model(model_file)
    return verify_lowered(
        lower(graph, *machine(target, cpu)),
        inputs=inputs,
        seed=seed,
        oracle=oracle_bytes(model_file) if oracle else None,
        progress=progress,
    )


def oracle_bytes(path: Path | None) -> bytes:
    """The .tflite file for the oracle. Raises QgenError for any other model."""
    if path is None or path.suffix != ".tflite":
        raise QgenError("the litert oracle needs a .tflite model", hint="leave out --oracle")
    try:
        return path.read_bytes()
    except OSError as e:
        raise QgenError(f"cannot read {path}: {e.strerror}") from e


def verify_lowered(
    lowered: Lowered,
    *,
    inputs: int = 20,
    seed: int = 0,
    text: str | None = None,
    sanitize: bool = False,
    oracle: bytes | None = None,
    timeout: float = 300.0,
    progress: Progress | None = None,
) -> Verdict:
    """As `verify`, for a lowered model.

    Args:
        text: the generated header, if not what `emit` prints.
        sanitize: build with the compiler's sanitizers; only where the target is the host.
        oracle: the .tflite file to compare golden with.
        timeout: seconds that a single result may take.
    """
    if inputs < 1:
        raise QgenError(f"cannot verify with {inputs} inputs", hint="use 1 or more")
    started = time.perf_counter()
    report = progress or (lambda what, done, total: None)
    rng = np.random.default_rng(seed)
    found: Difference | None = None
    with tempfile.TemporaryDirectory(prefix="qgen-verify-") as folder:
        report("compiling", 0, 1)
        driver = build(lowered, Path(folder), text=text, sanitize=sanitize)
        with Session(driver, timeout=timeout) as session:
            comparison = _Comparison(lowered, session)
            try:
                comparison.models(inputs, rng, report, keep=oracle is not None)
                comparison.ops(rng, report)
                session.close()
                if oracle is not None:
                    report("running the oracle", 0, 1)
                    comparison.oracle(oracle)
            except _DifferenceError as e:
                found = e.difference
            except FaultError as e:
                found = comparison.fault(str(e))
    return Verdict(
        equal=found is None,
        model=lowered.name,
        target=lowered.target.name,
        cpu=lowered.cpu.name if lowered.cpu else None,
        inputs=comparison.inputs,
        tensors=comparison.tensors,
        op_runs=comparison.op_runs,
        first_difference=found,
        oracle="LiteRT's reference kernels" if oracle is not None else "",
        seconds=time.perf_counter() - started,
    )


class _Comparison:
    """Goes through the jobs; raises _DifferenceError at the first difference.

    `at` is what is awaited from the program, to name the place of a crash.
    """

    def __init__(self, lowered: Lowered, session: Session) -> None:
        self.lowered = lowered
        self.session = session
        # Golden in the file's order of ops, so that results arrive in the order they are needed.
        # A tensor in stripes is waited for until all results that come before are known.
        ops = {op.name: op for op in lowered.model.ops}
        self.sources = [self._source(op.name) for op in lowered.graph.ops]
        order = dict.fromkeys(name for name in self.sources if name in ops)
        self.model = lowered.model.replace(ops=tuple(ops[name] for name in order))
        self.golden = ops
        self.index = {op.name: i for i, op in enumerate(lowered.graph.ops)}
        self.inputs = self.tensors = self.op_runs = 0
        self.kept: list[tuple[str, list[Array], list[Array]]] = []
        self.at = Difference("fault", -1, "", -1, lowered.name, "model", "")

    def fault(self, message: str) -> Difference:
        return dataclasses.replace(self.at, problem="fault", message=message)

    def models(self, count: int, rng: np.random.Generator, report: Progress, *, keep: bool) -> None:
        """Whole runs: each op's result is read as soon as golden has its own.

        `keep` inputs and golden outputs for the oracle.
        """
        for n, (kind, arrays) in enumerate(model_inputs(self.model.inputs, count, rng)):
            report("comparing inputs", n, count)
            outputs = self._model(n, kind, arrays)
            self.inputs += 1
            if keep:
                self.kept.append((kind, arrays, outputs))

    def _model(self, n: int, kind: str, arrays: list[Array]) -> list[Array]:
        known = dict(zip((t.name for t in self.model.inputs), arrays, strict=True))
        last = {name: i for i, name in enumerate(self.sources)}
        results = enumerate(self.lowered.graph.ops)
        waiting = next(results, None)

        def watch(t: Tensor, value: Array) -> None:
            nonlocal waiting
            known[t.name] = value
            while waiting and self.sources[waiting[0]] in known:
                i, made = waiting
                op = self.golden.get(self.sources[i], made)
                self.at = self._place(made, n, kind)
                self._compare(
                    self.lowered.as_stored(known[self.sources[i]], made.out),
                    self.session.receive(made.out),
                    made.out,
                    lambda op=op, made=made: self._again(op, made, arrays),  # type: ignore[misc]
                )
                if last[self.sources[i]] == i:
                    del known[self.sources[i]]
                waiting = next(results, None)

        first = self.model.ops[0] if self.model.ops else None
        if first:
            self.at = self._place(self.lowered.graph.ops[0], n, kind)
        self.session.model(arrays)
        outputs = interp.run(self.model, arrays, watch)
        for t, value in zip(self.lowered.graph.outputs, outputs, strict=True):
            self.at = Difference("value", n, kind, -1, t.name, "output", "")
            whole = self.lowered.as_stored(value, t)
            self._compare(whole, self.session.receive(t), t, None)
        return outputs

    def ops(self, rng: np.random.Generator, report: Progress) -> None:
        """Each op alone, on operands that the model may never produce from its inputs."""
        alone = [s for s in self.lowered.steps if callable_alone(self.lowered, s)]
        steps = [s for s in alone if s.parameters and s.first]
        for n, step in enumerate(steps):
            report("comparing ops", n, len(steps))
            for kind, values in op_operands(step.op, rng):
                self._op(step, kind, values)
                self.op_runs += 1
            for x in lane_operands(step, rng):
                self._op(step, "widest lane", x)
                self.op_runs += 1

    def _op(self, step: Step, kind: str, values: Mapping[Tensor, Array]) -> None:
        op = step.op
        self.at = self._place(op, -1, kind)
        self.session.op(step, [values[t] for _, t in step.parameters])
        env = _env(values, self.model)
        expected = op.eval(env)
        got = self.session.receive(op.out)
        self._compare(expected, got, op.out, lambda: _accumulators(op, env))

    def oracle(self, model: bytes) -> None:
        """Golden's outputs against those of LiteRT's reference kernels."""
        from qgen.verify.oracle import litert_reference

        foreign = litert_reference(model, [arrays for _, arrays, _ in self.kept])
        for n, ((kind, _, ours), theirs) in enumerate(zip(self.kept, foreign, strict=True)):
            for t, a, b in zip(self.model.outputs, ours, theirs, strict=True):
                self.at = Difference("oracle", n, kind, -1, t.name, "output", "")
                self._compare(b.reshape(a.shape), a, t, None)

    def _place(self, op: Op, n: int, kind: str) -> Difference:
        return Difference("value", n, kind, self.index[op.name], op.name, op.NAME, str(op.loc))

    def _compare(
        self, expected: Array, got: Array, t: Tensor, acc: Callable[[], Array | None] | None
    ) -> None:
        self.tensors += 1
        if expected.dtype != got.dtype or expected.shape != got.shape:
            raise AssertionError(f"'{t.name}': {expected.dtype}{expected.shape}, {got.shape}")
        if np.array_equal(expected, got):
            return
        different = np.argwhere(expected != got)
        element = tuple(int(i) for i in different[0])
        golden = self.golden.get(self._source(t.name))
        moved = -OFFSET if golden is not None and golden.out.dtype is not t.dtype else 0
        wide = acc() if acc else None
        raise _DifferenceError(
            dataclasses.replace(
                self.at,
                element=element,
                expected=int(expected[element]) + moved,
                got=int(got[element]) + moved,
                accumulator=int(wide[element]) if wide is not None else None,
                count=len(different),
            )
        )

    def _again(self, op: Op, made: Op, arrays: Sequence[Array]) -> Array | None:
        """Accumulators of `made`, rows of `op`, in the run with `arrays`: golden freed them."""
        values = dict(zip(self.model.inputs, arrays, strict=True))
        wanted = set(op.inputs())

        def keep(t: Tensor, value: Array) -> None:
            if t in wanted:
                values[t] = value

        interp.run(self.model, arrays, keep)
        wide = _accumulators(op, _env(values, self.model))
        part = self.lowered.parts.get(made.name)
        return wide[:, slice(*part.rows)] if part and wide is not None else wide

    def _source(self, name: str) -> str:
        """The tensor of the model that holds what the file's tensor holds, or rows of it."""
        part = self.lowered.parts.get(name)
        return part.of if part else name


def _env(values: Mapping[Tensor, Array], graph: Graph) -> Env:
    return Env(lambda t: t.data if t.data is not None else values[t], graph.rounding)


def _accumulators(op: Op, env: Env) -> Array | None:
    """Accumulators with bias in the shape of the result, None for an op without."""
    if not isinstance(op, Linear):
        return None

    def finish(self: Linear, acc: Array, env: Env) -> Array:
        return (acc.astype(np.int64) + self.bias()).reshape(self.out.shape)

    # The same op, evaluated up to where the accumulator would be scaled down.
    probe = type(type(op).__name__, (type(op),), {"finish": finish})
    fields = {f.name: getattr(op, f.name) for f in dataclasses.fields(op)}
    wide: Array = probe(**fields).eval(env)
    return wide
