"""What `qgen inspect` says about a model: a dictionary for machines, a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.types import Tensor
from qgen.lower import Step
from qgen.passes.stripes import Part
from qgen.plan.fit import Fit
from qgen.plan.memory import MemoryPlan
from qgen.plan.schedule import order_bound
from qgen.plan.stripes import Section
from qgen.report.units import bound_bits, count, quantity, shape

Report = dict[str, Any]


def weights(op: Op) -> list[Tensor]:
    """The constants of `op` that come from the model: not those that `legalize` derived."""
    found: list[Tensor] = []
    for name, kind in op.schema().operands:
        value = getattr(op, name)
        if name not in op.INTEGER:
            found += value if kind == "many" else [value]
    return [t for t in dict.fromkeys(found) if t is not None and t.data is not None]


def inspect(
    graph: Graph,
    plan: MemoryPlan,
    model: Graph | None = None,
    steps: Sequence[Step] = (),
    stripes: Fit[Any] | None = None,
) -> Report:
    """The report of `graph` under `plan`, ready for `json.dumps`.

    `model` is the same graph before dead channels went, where they did: `macs` are the model's,
    `executed_macs` those that are left. Bytes and MACs are per inference. `weight_bytes` counts
    weights, biases and other constants of `graph`, each once. Lifetimes are indices into `layers`,
    inclusive; -1 is before the first layer, `len(layers)` after the last one. With `steps`, the
    lowered layers, each says its kernel, the instructions predicted for it, and in `lanes` how many
    products its narrow sums take before they are widened, with the proven bound of these.
    order_peak_bytes: peak of the order of ops before tensors share storages, and order_bound_bytes
    a lower bound of that for any order.
    With `stripes` a layer is some rows of one of the model, or all of them put together.
    """
    constants = {t for op in graph.ops for t in weights(op)}
    whole = {op.name: op for op in (model or graph).ops}
    parts = stripes.striped.parts if stripes else {}
    chosen = {step.op: step for step in steps}
    order, least = order_bound(stripes.graph if stripes else graph)
    layers = [
        _layer(op, plan, _whole(op, whole, parts)) | _kernel(chosen.get(op)) for op in graph.ops
    ]
    return {
        "model": graph.name,
        "rounding": graph.rounding.value,
        "inputs": [_edge(t) for t in graph.inputs],
        "outputs": [_edge(t) for t in graph.outputs],
        "macs": sum(op.cost().macs for op in whole.values()),
        "executed_macs": sum(layer["executed_macs"] for layer in layers),
        "weight_bytes": sum(t.type.bytes for t in constants),
        "arena_bytes": plan.arena_bytes,
        "liveness_peak_bytes": plan.liveness_peak_bytes,
        "order_peak_bytes": order,
        "order_bound_bytes": least,
        "gap_bytes": plan.arena_bytes - plan.liveness_peak_bytes,
        "stripes": [_chain(s, stripes) for s in stripes.chains] if stripes else [],
        "macs_again": stripes.macs_again if stripes else 0,
        "layers": layers,
    }


def _whole(op: Op, whole: Mapping[str, Op], parts: Mapping[str, Part]) -> Op:
    """The op of the model that `op` is; for some rows of one or a join of them, itself."""
    found = whole.get(op.name)
    return op if found is None or op.name in parts or type(found) is not type(op) else found


def _chain(section: Section, stripes: Fit[Any]) -> dict[str, Any]:
    first, last = (stripes.graph.ops[i] for i in (section.first, section.last))
    count = -(-last.out.shape[1] // section.rows)
    return {"first": first.name, "last": last.name, "rows": section.rows, "count": count}


def _edge(t: Tensor) -> dict[str, Any]:
    quant = t.type.quant
    return {
        "name": t.name,
        "dtype": t.dtype.value,
        "shape": list(t.shape),
        "bytes": t.type.bytes,
        "scale": quant.scale[0] if quant and len(quant.scale) == 1 else None,
        "zero": t.zero,
    }


def _layer(op: Op, plan: MemoryPlan, whole: Op) -> dict[str, Any]:
    place = plan.placements[op.out]
    bound = op.bounds()
    copied = plan.copies.get(op)
    return {
        "name": op.name,
        "op": op.NAME,
        "dtype": op.out.dtype.value,
        "shape": list(op.out.shape),
        "inputs": [{"name": t.name, "shape": list(t.shape)} for t in op.inputs()],
        "macs": whole.cost().macs,
        "executed_macs": op.cost().macs,
        "dead_channels": whole.out.type.shape[-1] - op.out.shape[-1] if op.out.shape else 0,
        "weight_bytes": sum(t.type.bytes for t in weights(op)),
        "space": place.space,
        "offset": place.offset,
        "bytes": place.bytes,
        "first": place.first,
        "last": place.last,
        "scratch_bytes": plan.scratch[op].bytes if op in plan.scratch else 0,
        "scratch_offset": plan.scratch_offset(op),
        "in_place": plan.in_place.get(op),
        "free": copied == (),
        "copied_operands": list(copied or ()),
        "accumulator": {"low": bound.low, "high": bound.high} if bound else None,
        "location": str(op.loc),
    }


def _kernel(step: Step | None) -> dict[str, Any]:
    if step is None:
        return {}
    lanes = step.prepared.lanes
    return {
        "kernel": step.spec.name,
        "predicted_instructions": step.predicted,
        "lanes": lanes and {"depth": lanes.depth, "bound": lanes.bound, "limit": lanes.limit},
    }


KERNELS_SAY = (
    "predicted: instructions of one inference; depth: products that an int16 lane takes, on "
    "average, before it is widened; bound: the most that any input gives such a lane, of 32,767."
)


def render(report: Report) -> Group:
    """The report for a terminal."""
    parts: list[RenderableType] = [_heading(report), _layers(report), _footer(report)]
    if any("kernel" in layer for layer in report["layers"]):
        parts += [_kernels(report), Text(KERNELS_SAY, style="dim")]
    return Group(*parts)


def _heading(report: Report) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("model", Text(report["model"], style="bold"))
    grid.add_row("rounding", report["rounding"])
    for key in ("inputs", "outputs"):
        for t in report[key]:
            kind = f"{t['dtype']} {shape(t['shape'])}"
            scale = "" if t["scale"] is None else f"  scale {t['scale']:.8g}"
            grid.add_row(key[:-1], f"{t['name']}  {kind}{scale}  zero {t['zero']}")
    return grid


def _layers(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True, footer_style="bold")
    layers = report["layers"]
    arena = count(report["arena_bytes"])
    columns: list[tuple[str, str, bool]] = [
        ("#", "", True),
        ("layer", "total", False),
        ("op", "", False),
        ("result", "", False),
        ("MACs", count(report["macs"]), True),
        ("%", "", True),
        ("weights B", count(report["weight_bytes"]), True),
        ("place", arena, True),
        ("bytes", "", True),
        ("live", "", False),
        ("acc", "", True),
        ("note", "", False),
    ]
    for title, footer, right in columns:
        wide = title == "layer"
        table.add_column(
            title,
            footer,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=12 if wide else None,
            ratio=1 if wide and len(layers) > 0 else None,
        )
    for i, layer in enumerate(layers):
        share = 100 * layer["macs"] / report["macs"] if report["macs"] else 0.0
        place = count(layer["offset"]) if layer["space"] == "arena" else layer["space"]
        bits = bound_bits(layer["accumulator"])
        table.add_row(
            str(i),
            Text(layer["name"], style="bold"),
            layer["op"],
            f"{layer['dtype']} {shape(layer['shape'])}",
            count(layer["macs"]) if layer["macs"] else "",
            f"{share:.1f}" if layer["macs"] else "",
            count(layer["weight_bytes"]) if layer["weight_bytes"] else "",
            place,
            count(layer["bytes"]),
            f"{layer['first']}-{layer['last']}",
            "" if bits is None else str(bits),
            _note(layer),
        )
    return table


def _kernels(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title, right in (
        ("#", True),
        ("layer", False),
        ("kernel", False),
        ("predicted", True),
        ("depth", True),
        ("bound", True),
    ):
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for i, layer in enumerate(report["layers"]):
        predicted, lanes = layer["predicted_instructions"], layer["lanes"]
        table.add_row(
            str(i),
            Text(layer["name"], style="bold"),
            layer["kernel"],
            "" if predicted is None else count(predicted),
            f"{lanes['depth']:.1f}" if lanes else "",
            count(lanes["bound"]) if lanes else "",
        )
    return table


def _note(layer: dict[str, Any]) -> str:
    """How the layer uses memory, in a few words."""
    notes = []
    if layer["dead_channels"]:
        notes.append(f"{layer['dead_channels']} dead")
    if layer["in_place"]:
        notes.append(f"over {layer['in_place']}")
    if layer["free"]:
        notes.append("free")
    if layer["copied_operands"]:
        notes.append(f"copies {len(layer['copied_operands'])}")
    if layer["scratch_bytes"]:
        notes.append(f"scratch {count(layer['scratch_bytes'])}")
    return ", ".join(notes)


def _footer(report: Report) -> Text:
    peak = report["liveness_peak_bytes"]
    gap = f", gap {count(report['gap_bytes'])}, {report['gap_bytes'] / peak:.1%}" if peak else ""
    left = ""
    executed = report["executed_macs"] - report["macs_again"]
    if executed != report["macs"]:
        left = f" ({quantity(executed)} without dead channels)"
    mine, least = report["order_peak_bytes"], report["order_bound_bytes"]
    before = f"before places are shared {count(mine)}, {count(least)} in the best order"
    gap += f"; {before}" if mine > least else "; no order takes less"
    stripes = ", ".join(
        f"{c['first']} to {c['last']} in {c['count']} of {c['rows']} rows"
        for c in report["stripes"]
    )
    if stripes:
        again = report["macs_again"] / report["macs"] if report["macs"] else 0.0
        twice = f"{quantity(report['macs_again'])} MACs ({again:.1%}) twice"
        stripes = f" Stripes: {stripes}; they compute {twice}."
    return Text(
        f"{quantity(report['macs'])} MACs{left}, {count(report['weight_bytes'])} bytes of weights, "
        f"arena {count(report['arena_bytes'])} bytes (liveness peak {count(peak)}{gap}).{stripes} "
        "place: byte of the arena, or the caller's buffer; live: layers; acc: bits.",
        style="dim",
    )
