"""What `qgen profile` prints for people: one row per layer, then what the figures mean."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from qgen.profile.layers import Layer, Profile
from qgen.report.units import count, quantity

UNKNOWN = "-"


def number(value: float | None, form: str = ",.0f") -> str:
    """`value` in a format, a dash where it is not known."""
    return UNKNOWN if value is None else format(value, form)


def dearest(profile: Profile, top: int) -> list[Layer]:
    """The `top` layers with the most instructions, most first."""
    return sorted(profile.layers, key=lambda layer: -layer.instructions)[:top]


def render(profile: Profile, top: int | None = None) -> Group:
    """The report for a terminal; `top` keeps the dearest layers only, dearest first."""
    layers = dearest(profile, top) if top else [*profile.layers, profile.rest]
    return Group(_heading(profile), _layers(profile, layers), _footer(profile))


def _heading(profile: Profile) -> Text:
    core = profile.cpu
    if profile.emulated != core:
        core += f" (instructions counted on the emulator's {profile.emulated})"
    return Text.assemble((profile.model, "bold"), f"  target {profile.target}, {core}")


def _layers(profile: Profile, layers: list[Layer]) -> Table:
    total = profile.total
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        show_footer=True,
        footer_style="bold",
    )
    columns: list[tuple[str, str, bool]] = [
        ("#", "", True),
        ("layer", "total", False),
        ("kernel", "", False),
        ("MACs", count(total.macs), True),
        ("instructions", count(total.instructions), True),
        ("share", "", True),
        ("predicted", number(total.predicted), True),
        ("MAC/instr", number(total.macs_per_instruction, ".2f"), True),
        ("cycles (est.)", number(total.cycles), True),
        ("% peak", number(profile.percent_of_peak(total), ".1f"), True),
        ("in loop", "", True),
    ]
    for title, footer, right in columns:
        table.add_column(
            title,
            footer,
            justify="right" if right else "left",
            # Names give way in a narrow window, figures do not.
            no_wrap=right,
            overflow="ellipsis",
            min_width=None if right else 12,
        )
    for layer in layers:
        table.add_row(
            str(layer.index) if layer.index >= 0 else "",
            Text(layer.name, style="bold"),
            layer.kernel or (f"{layer.op}(free)" if layer.op else ""),
            count(layer.macs) if layer.macs else "",
            count(layer.instructions),
            f"{layer.instructions / total.instructions:.1%}",
            number(layer.predicted),
            number(layer.macs_per_instruction, ".2f") if layer.macs else "",
            number(layer.cycles),
            number(profile.percent_of_peak(layer), ".1f") if layer.macs else "",
            number(profile.loop_percent_of_peak(layer), ".1f") if layer.macs else "",
        )
    return table


def _footer(profile: Profile) -> Text:
    return Text(summary(profile), style="dim")


def summary(profile: Profile) -> str:
    """What the figures mean, in a sentence or two."""
    total = profile.total
    said = f"{quantity(total.instructions)} executed instructions per inference: exact, not time."
    if profile.note:
        return f"{said} {profile.note[0].upper()}{profile.note[1:]}."
    said += (
        f" {quantity(round(total.cycles or 0))} cycles: an estimate, executed blocks x their cost"
        f" in LLVM's model of {profile.scheduling}; no cache misses."
    )
    if profile.peak:
        said += (
            f" 100 % of peak is {profile.peak.rate:.1f} MAC per cycle,"
            f" {profile.peak.instruction} alone; in loop: of the dearest loop of multiplies."
        )
    return said
