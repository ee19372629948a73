"""What the generated code must reach, as data, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import loops
from benchmarks.results import FLOAT, TWIN, Results

# At most this share of the better peer's instructions, for every model that classifies.
CLASSIFIERS = (
    "kws_ref_model", "vww_96_int8", "pretrainedResnet_quant", "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.5_160_quant", "mobilenet_v2_1.0_224_quant",
)  # fmt: skip
MOBILENETS = tuple(n for n in CLASSIFIERS if n.startswith(("mobilenet", "vww")))
SHARES = {"cortex-a53": 0.60, "cortex-a76": 0.75, "max": 0.70}
AD01_SHARES = {"cortex-a53": 0.60, "cortex-a76": 1.00, "max": 0.70}
FLOAT_SHARES = {"cortex-a53": 0.50, "cortex-a76": 0.30}
MILLIONS: Mapping[str, Mapping[str, float]] = {
    "mobilenet_v1_0.5_160_quant": {"cortex-a53": 17.0, "cortex-a76": 7.0, "max": 5.5},
    "mobilenet_v2_1.0_224_quant": {"cortex-a53": 76.0, "cortex-a76": 38.0, "max": 33.0},
}
TEXT_KIB = 48.0
LOOP_PERCENT = 85.0
# LLVM has one model for cortex-a57 and cortex-a72.
LOOP_CPUS = ("cortex-a53", "cortex-a55", "cortex-a72", "neoverse-n1")


@dataclass(frozen=True)
class Goal:
    """One figure that must not be above `limit`, or below it where `least`.

    `measured` is None where the figure was not measured in this run.
    """

    what: str
    cpu: str
    limit: float
    form: str
    measured: float | None
    least: bool = False

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.least else self.measured <= self.limit

    def row(self) -> list[str]:
        """What, CPU, goal, measured, met."""
        sign = ">=" if self.least else "<="
        measured = "-" if self.measured is None else self.form.format(self.measured)
        met = {None: "-", True: "yes", False: "**no**"}[self.met]
        return [self.what, self.cpu, f"{sign} {self.form.format(self.limit)}", measured, met]


HEADINGS = ("goal", "cpu", "limit", "measured", "met")


def goals(results: Results) -> list[Goal]:
    """All goals of the models in `results`."""
    found = [
        Goal(f"{name}: instructions / better peer", cpu, limit, "{:.2f}", results.ratio(name, cpu))
        for name, shares in [*((n, SHARES) for n in CLASSIFIERS), ("ad01_int8", AD01_SHARES)]
        for cpu, limit in shares.items()
    ]
    found += [
        Goal(f"{name}: million instructions", cpu, limit, "{:.2f}", _millions(results, name, cpu))
        for name, limits in MILLIONS.items()
        for cpu, limit in limits.items()
    ]
    found += [
        Goal(f"{TWIN} / LiteRT's {FLOAT}: instructions", cpu, limit, "{:.2f}",
             results.ratio(TWIN, cpu, FLOAT))
        for cpu, limit in FLOAT_SHARES.items()
    ]  # fmt: skip
    for cpu in LOOP_CPUS:
        over_inputs = [x for x in loops.of(results, cpu) if x.main]
        most = max(over_inputs, key=lambda x: x.total, default=None)
        slowest = min((x.of_bound for x in over_inputs), default=None)
        found += [
            Goal("main loop of matrix products: % of peak", cpu, LOOP_PERCENT, "{:.0f}",
                 most and most.of_peak, least=True),
            Goal("loops of matrix products: % of their own bound", cpu, LOOP_PERCENT, "{:.0f}",
                 slowest, least=True),
        ]  # fmt: skip
    found += [
        Goal("largest text of a MobileNet, KiB", cpu, TEXT_KIB, "{:.1f}", _text(results, cpu))
        for cpu in results.cpus
    ]
    measured = {name for name, _ in results.ours}
    return [g for g in found if _concerns(g, measured)]


def _concerns(goal: Goal, names: set[str]) -> bool:
    """False for a goal of a model that was left out by choice."""
    model = goal.what.split(":")[0].split(" /")[0]
    known = {*CLASSIFIERS, "ad01_int8"}
    return model not in known or model in names


def _millions(results: Results, name: str, cpu: str) -> float | None:
    n = results.instructions(name, cpu)
    return None if n is None else n / 1e6


def _text(results: Results, cpu: str) -> float | None:
    found = [g for (name, c), g in results.ours.items() if c == cpu and name in MOBILENETS]
    return max((g.sizes.text_bytes / 1024 for g in found), default=None)
