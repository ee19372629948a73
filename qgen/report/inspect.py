"""What `qgen inspect` says about a model: a dictionary for machines, a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.types import Tensor
from qgen.lower import Step
from qgen.plan.memory import MemoryPlan
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
    graph: Graph, plan: MemoryPlan, model: Graph | None = None, steps: Sequence[Step] = ()
) -> Report:
    """The report of `graph` under `plan`, ready for `json.dumps`.

    `model` is the same graph before dead channels went, where they did: `macs` are the model's,
    `executed_macs` those that are left. Bytes and MACs are per inference. `weight_bytes` counts
    weights, biases and other constants of `graph`, each once. Lifetimes are indices into `layers`,
    inclusive; -1 is before the first layer, `len(layers)` after the last one. With `steps`, the
    lowered layers, each says its kernel, the instructions predicted for it, and in `lanes` how many
    products its narrow sums take before they are widened, with the proven bound of these.
    """
    constants = {t for op in graph.ops for t in weights(op)}
    whole = {op.name: op for op in (model or graph).ops}
    chosen = {step.op: step for step in steps}
    layers = [_layer(op, plan, whole[op.name]) | _kernel(chosen.get(op)) for op in graph.ops]
    return {
        "model": graph.name,
        "rounding": graph.rounding.value,
        "inputs": [_edge(t) for t in graph.inputs],
        "outputs": [_edge(t) for t in graph.outputs],
        "macs": sum(layer["macs"] for layer in layers),
        "executed_macs": sum(layer["executed_macs"] for layer in layers),
        "weight_bytes": sum(t.type.bytes for t in constants),
        "arena_bytes": plan.arena_bytes,
        "liveness_peak_bytes": plan.liveness_peak_bytes,
        "layers": layers,
    }


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
    ratio = f", {report['arena_bytes'] / peak:.3f} of it" if peak else ""
    left = ""
    if report["executed_macs"] != report["macs"]:
        left = f" ({quantity(report['executed_macs'])} without dead channels)"
    return Text(
        f"{quantity(report['macs'])} MACs{left}, {count(report['weight_bytes'])} bytes of weights, "
        f"arena {count(report['arena_bytes'])} bytes (liveness peak {count(peak)}{ratio}). "
        "place: byte of the arena, or the caller's buffer; live: layers; acc: bits.",
        style="dim",
    )
