"""emit: prints a lowered model as one C file. Nothing is decided here; same input, same bytes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import PurePath
from typing import Any

import numpy as np

from qgen import __version__
from qgen.errors import Loc, QgenError
from qgen.ir.graph import Graph
from qgen.ir.ops.slice import Slice
from qgen.ir.types import Array, Tensor, TensorType
from qgen.lower import Lowered, Step
from qgen.render import code, helper_code, render
from qgen.selftest import INCREMENT, MULTIPLIER, SEED, crc_table, vector
from qgen.targets.portable import COPY
from qgen.targets.spec import Constant

LINE_WIDTH = 100


@dataclass(frozen=True)
class Provenance:
    """What the header comment says about where a file comes from.

    Attributes:
        command: the normalized command line.
        source: file name of the model, without folder.
        sha256: of the model's bytes.
    """

    command: str
    source: str
    sha256: str


def emit(lowered: Lowered, origin: Provenance, *, split: bool = False) -> dict[str, str]:
    """The generated files by name: ``name.h``, or ``name.h`` and ``name.c`` with `split`."""
    name = lowered.name
    shared = _shared(lowered, origin, split)
    declarations = render("declarations.h.j2", shared)
    implementation = render("implementation.c.j2", shared | _bodies(lowered, shared))
    if split:
        body = f'#include "{name}.h"\n\n{implementation}'
        return {f"{name}.h": declarations, f"{name}.c": body}
    text = render("library.h.j2", shared | {"body": implementation, "declarations": declarations})
    return {f"{name}.h": text}


def _code(lowered: Lowered, template: str, values: dict[str, Any]) -> str:
    return code(template, values, lowered.core, tuned=lowered.cpu is not None)


def _shared(lowered: Lowered, origin: Provenance, split: bool) -> dict[str, Any]:
    graph, plan = lowered.graph, lowered.plan
    weights = sum(
        step.prepared.constants[key].values.nbytes
        for step, names in zip(lowered.steps, _constants(lowered), strict=True)
        for key, (_, new) in names.items()
        if new
    )
    return {
        "p": lowered.name,
        "P": lowered.name.upper(),
        "version": __version__,
        "split": split,
        "origin": origin,
        "target": lowered.target,
        "tuned": f", arranged for {lowered.cpu.name}" if lowered.cpu else "",
        "rounding": graph.rounding.value,
        "single": _single(graph),
        "selftest": _selftest(lowered),
        "inputs": _ports("inputs", graph.inputs),
        "outputs": _ports("outputs", graph.outputs),
        "null_checks": [f"in->{Port(t).name} == NULL" for t in graph.inputs]
        + [f"out->{Port(t).name} == NULL" for t in graph.outputs],
        "arena_bytes": plan.arena_bytes,
        "arena_align": plan.alignment,
        "weight_bytes": weights,
        "macs": sum(op.cost().macs for op in lowered.model.ops),
    }


def _selftest(lowered: Lowered) -> dict[str, Any]:
    """Memory of ``<name>_selftest``: the arena, then every input and output, all aligned."""
    plan, graph = lowered.plan, lowered.graph
    sizes = [plan.arena_bytes, *(t.type.bytes for t in (*graph.inputs, *graph.outputs))]
    starts = [0, *accumulate(-(-size // plan.alignment) * plan.alignment for size in sizes)]
    first_output = 1 + len(graph.inputs)
    return {
        "inputs": starts[1:first_output],
        "outputs": starts[first_output:-1],
        "bytes": starts[-1],
        "seed": SEED,
        "multiplier": MULTIPLIER,
        "increment": INCREMENT,
        "table": [f"0x{word:08X}u" for word in crc_table()],
    }


@dataclass(frozen=True)
class Port:
    """A graph input or output as the C interface shows it."""

    tensor: Tensor

    @property
    def name(self) -> str:
        return self.tensor.name.replace(".", "_")

    @property
    def c(self) -> str:
        return self.tensor.dtype.c

    @property
    def type(self) -> TensorType:
        return self.tensor.type

    @property
    def scale(self) -> str:
        """The scale as a C literal of single precision, 9 digits."""
        scale = self.tensor.type.quant.scale if self.tensor.type.quant else ()
        return f"{np.float32(scale[0]):.9g}".rstrip() if len(scale) == 1 else ""


def _ports(what: str, tensors: Sequence[Tensor]) -> list[Port]:
    """Raises QgenError where two names become one name of C, or one macro."""
    ports: dict[str, Port] = {}
    for t in tensors:
        port = Port(t)
        other = ports.setdefault(port.name.upper(), port)
        if other is not port:
            raise QgenError(
                f"{what} '{other.tensor.name}' and '{t.name}' would share the macros of the header",
                t.loc,
                hint="rename one in the .qg",
            )
    return list(ports.values())


def _bodies(lowered: Lowered, shared: dict[str, Any]) -> dict[str, Any]:
    running = [step for step in lowered.steps if _runs(step, lowered)]
    helpers = {h.name: h for step in running for h in step.prepared.helpers}
    if lowered.plan.output_copies:
        helpers.setdefault(COPY.name, COPY)
    printed = [
        helper_code(h, lowered.name, lowered.core, tuned=lowered.cpu is not None)
        for h in helpers.values()
    ]
    place = _places(lowered)
    copied = [
        (_port(lowered.graph, "output", i), place(t), t.type.bytes)
        for i, t in sorted(lowered.plan.output_copies.items())
    ]
    crcs = vector(lowered).crcs
    steps = [
        _step(step, names, lowered, shared) | {"crc": f"0x{crc:08X}u"}
        for step, names, crc in zip(lowered.steps, _constants(lowered), crcs, strict=True)
    ]
    return {"helpers": printed, "output_copies": copied, "steps": steps}


def _constants(lowered: Lowered) -> list[dict[str, tuple[str, bool]]]:
    """Per step the C name of each constant, and whether the step is the first to have it.

    Stripes of one op have equal constants, whatever their number of rows.
    """
    known: dict[tuple[str, bytes], str] = {}
    found: list[dict[str, tuple[str, bool]]] = []
    for step in lowered.steps:
        names: dict[str, tuple[str, bool]] = {}
        for key, constant in step.prepared.constants.items():
            name, new = f"{lowered.name}_{key}_{step.index:02d}", step.first
            if step.op.name in lowered.parts:
                values = constant.values
                taken = known.setdefault((values.dtype.str, values.tobytes()), name)
                name, new = taken, taken == name
            names[key] = name, new
        found.append(names)
    return found


def _runs(step: Step, lowered: Lowered) -> bool:
    """False for an op that the memory plan made free."""
    return lowered.plan.copies.get(step.op) != ()


def _step(
    step: Step, constants: dict[str, tuple[str, bool]], lowered: Lowered, shared: dict[str, Any]
) -> dict[str, Any]:
    op, plan = step.op, lowered.plan
    place = _places(lowered)
    names = {key: name for key, (name, _) in constants.items()}
    k = {"m1": ""} | names
    arg = {name: name for name, _ in step.parameters} | names
    params = [f"const {t.dtype.c} *{name}" for name, t in step.parameters]
    params.append(f"{op.out.dtype.c} *y")
    call = [place(t) for _, t in step.parameters] + [place(op.out)]
    if step.prepared.scratch:
        params.append("int8_t *scratch")
        call.append(_arena(plan.scratch[op].offset))
    values = dict(step.prepared.vars)
    if "parts" in values:
        copies = plan.copies.get(op, ())
        values["parts"] = [
            part | {"copy": i in copies, "arg": arg[f"x{i}"]}
            for i, part in enumerate(values["parts"])
        ]
    values |= {"fn": step.function, "op": op, "k": k, "arg": arg, "params": ", ".join(params)}
    runs = _runs(step, lowered)
    prints = runs and step.first
    return {
        "runs": runs,
        "index": step.index,
        "op": op,
        "comment": list(_comment(step)),
        "constants": [
            _constant(name, step.prepared.constants[key])
            for key, (name, new) in constants.items()
            if new and prints
        ],
        "prints": prints,
        "shares": not step.first or isinstance(op, Slice),
        "code": _code(lowered, step.spec.template, shared | values) if prints else "",
        "call": f"{step.function}({', '.join(call)})",
        "pointer": place(op.out),
        "bytes": op.out.type.bytes,
    }


def _arena(offset: int) -> str:
    return f"m + {offset}" if offset else "m"


def _places(lowered: Lowered) -> Any:
    """A function from tensor to the C expression of its address in ``<name>_run``."""
    graph, plan = lowered.graph, lowered.plan

    def pointer(t: Tensor) -> str:
        p = plan.placements[t]
        if p.space == "arena":
            base, base_type, is_const = "m", "int8_t", False
        else:
            ports = graph.inputs if p.space == "input" else graph.outputs
            port = ports[p.index]
            base = _port(graph, p.space, p.index)
            base_type, is_const = port.dtype.c, p.space == "input"
        text = f"{base} + {p.offset}" if p.offset else base
        if t.dtype.c == base_type:
            return text
        return f"({'const ' if is_const else ''}{t.dtype.c} *)({text})"

    return pointer


def _single(graph: Graph) -> bool:
    """One input and one output: plain pointers instead of structs."""
    return len(graph.inputs) == 1 and len(graph.outputs) == 1


def _port(graph: Graph, space: str, index: int) -> str:
    """C expression of a caller's buffer."""
    if _single(graph):
        return space
    if space == "input":
        return f"in->{Port(graph.inputs[index]).name}"
    return f"out->{Port(graph.outputs[index]).name}"


def _comment(step: Step) -> Iterator[str]:
    op = step.op
    # Without the folder: the same model gives the same bytes wherever it lies.
    loc = replace(op.loc, file=PurePath(op.loc.file).name)
    yield f'{op.NAME} "{op.name}"  {loc}   kernel {step.spec.name}'
    doc = inspect.getdoc(type(op)) or ""
    yield from doc.split("\n\n")[0].splitlines()
    shapes = [f"{name} {_type(t)}" for name, t in step.parameters]
    yield "; ".join([*shapes, f"y {_type(op.out)}"])
    bound = op.bounds()
    if bound:
        yield f"accumulator in [{bound.low}, {bound.high}], inside int32"
    if step.prepared.lanes:
        yield str(step.prepared.lanes)
    yield from step.prepared.notes


def _place(loc: Loc) -> str:
    """Where an op stands in the model, without the folders of this machine."""
    return str(replace(loc, file=PurePath(loc.file).name))


def _type(t: Tensor) -> str:
    zero = f" zero {t.zero}" if t.type.quant else ""
    return f"{t.dtype.value}{list(t.shape)}{zero}"


def _constant(name: str, constant: Constant) -> str:
    values = constant.values
    kind = {"u1": "uint8_t", "i1": "int8_t", "i2": "int16_t", "i4": "int32_t"}[values.dtype.str[1:]]
    comment = f"/* {constant.comment} */\n" if constant.comment else ""
    rows = "\n".join(_rows(values))
    return f"{comment}static const {kind} {name}[{values.size}] = {{\n{rows}\n}};\n"


def _rows(values: Array) -> Iterable[str]:
    """Numbers in lines of constant count, so that columns line up with the packing."""
    flat = values.reshape(-1)
    width = 6 if flat.dtype.itemsize == 1 else 8 if flat.dtype.itemsize == 2 else 13
    count = 1 << max((LINE_WIDTH // width).bit_length() - 1, 0)
    words = _words(flat)
    for i in range(0, len(words), count):
        yield "    " + ", ".join(words[i : i + count]) + ","


def _words(flat: Array) -> list[str]:
    if flat.dtype.itemsize > 1:
        # INT_MIN has no literal of its own type in C.
        return [str(v) if v > -(2**31) else "(-2147483647 - 1)" for v in flat.tolist()]
    names = [str(v) for v in range(-128, 256)]
    return [names[v + 128] for v in flat.tolist()]
