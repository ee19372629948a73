"""Executed instructions and estimated cycles of a model, layer by layer, without hardware."""

from __future__ import annotations

from pathlib import Path

from qgen.compile import Progress
from qgen.frontend import load_model
from qgen.lower import lower
from qgen.profile.layers import Layer, Profile, measure
from qgen.targets import CPUS, DEFAULT, Cpu, machine
from qgen.targets import target as target_by_name
from qgen.targets.spec import Target

__all__ = ["Layer", "Profile", "profile_model"]


def profile_model(
    path: Path | str,
    target: str | None = None,
    *,
    cpu: str | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Profile one inference of a model.

    Args:
        path: a .tflite or .qg file.
        target: name of a target; by default that of `cpu`, or aarch64.
        cpu: name of a core; by default the one whose order of instructions the target's code has.
        progress: called with (what, done, total).

    Raises QgenError where the model is bad, the core lacks what the target needs, or the compiler,
    the emulator or the host's compiler is missing. Without llvm-mca there are no cycles.
    """
    report = progress or (lambda what, done, total: None)
    report("generating", 0, 2)
    wanted, measured, core = machines(target, cpu)
    lowered = lower(load_model(Path(path)), wanted, core if measured is wanted else None)
    report("running", 1, 2)
    tuned = core.tuned(measured) if core else measured
    return measure(lowered, tuned, core or CPUS[measured.generic_cpu])


def machines(target: str | None, cpu: str | None) -> tuple[Target, Target, Cpu | None]:
    """The target code is made for, the one whose compiler and emulator measure it, and the core.

    They differ for a target that is for any machine: it has no emulator, and is measured as it is
    on 64-bit Arm. Raises QgenError as `targets.machine`.
    """
    if target is not None:
        wanted = target_by_name(target)
        if not wanted.toolchain.emulator:
            return (wanted, *machine(DEFAULT, cpu))
    measured, core = machine(target, cpu)
    return measured, measured, core
