"""Machines as data: see spec.py for the contract, the other modules for the tables."""

from __future__ import annotations

import difflib

from qgen.errors import QgenError
from qgen.targets.aarch64 import AARCH64
from qgen.targets.aarch64_dotprod import AARCH64_DOTPROD
from qgen.targets.aarch64_i8mm import AARCH64_I8MM
from qgen.targets.armv7a import ARMV7A
from qgen.targets.cpus import CPUS, Cpu, check_fits, cpu
from qgen.targets.portable import PORTABLE
from qgen.targets.spec import Target

__all__ = ["CPUS", "DEFAULT", "TARGETS", "Cpu", "cpu", "machine", "target"]

_ALL = (
    AARCH64,
    AARCH64_DOTPROD,
    AARCH64_I8MM,
    ARMV7A,
    PORTABLE,
)
TARGETS: dict[str, Target] = {t.name: t for t in _ALL}
DEFAULT = AARCH64


def target(name: str) -> Target:
    """The target called `name`. Raises QgenError listing the known ones."""
    if name in TARGETS:
        return TARGETS[name]
    close = difflib.get_close_matches(name, TARGETS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(TARGETS)}"
    raise QgenError(f"unknown target '{name}'", hint=hint)


def machine(wanted: Target | str | None, cpu_name: str | None) -> tuple[Target, Cpu | None]:
    """What ``--target`` and ``--cpu`` mean together: a core alone stands for its instruction set.

    Raises QgenError for an unknown name, and for a core that cannot run the target's code.
    """
    core = cpu(cpu_name) if cpu_name is not None else None
    if wanted is None:
        return (TARGETS[core.target] if core else DEFAULT), core
    chosen = target(wanted) if isinstance(wanted, str) else wanted
    if core:
        check_fits(core, chosen, TARGETS.values())
    return chosen, core
