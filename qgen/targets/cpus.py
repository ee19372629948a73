"""Cores as data: the second axis beside the instruction set.

A core says how code is arranged and which emulated CPU checks it; what code may use is said by the
target. Names are gcc's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from qgen.errors import QgenError
from qgen.targets.spec import Target, implied


@dataclass(frozen=True)
class Cpu:
    """A core that code can be arranged for.

    Attributes:
        name: as given to ``--cpu``, in gcc's spelling.
        target: the target that the name alone stands for: the widest that the core runs.
        features: ISA features, closed under implication.
        emulator: CPU of the emulator to verify on: the core itself, or the nearest that has the
            same features.
        model: CPU whose scheduling model in LLVM (``llvm-mca -mcpu``) stands for the core.
        in_order: instructions issue in the order of the text.
        tune: ``-mtune`` of the compiler, where it is not `name`.
        triple: ``-mtriple`` for `model`.
    """

    name: str
    target: str
    features: frozenset[str]
    emulator: str
    model: str
    in_order: bool = False
    tune: str = ""
    triple: str = "aarch64-linux-gnu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", implied(self.features))
        object.__setattr__(self, "tune", self.tune or self.name)

    def tuned(self, target: Target) -> Target:
        """`target` with its compiler tuned for this core, and verified on its emulated CPU."""
        plain = target.toolchain
        emulator = (plain.emulator[0], "-cpu", self.emulator) if plain.emulator else ()
        tool = replace(plain, tune=f"-mtune={self.tune}", emulator=emulator)
        return replace(target, toolchain=tool)

    def fits(self, target: Target) -> bool:
        """True if the core runs the code of `target`, and its order means something there."""
        return bool(target.generic_cpu) and target.features <= self.features


_NEON = frozenset({"aarch64"})
_DOTPROD = _NEON | {"dotprod"}
_I8MM = _DOTPROD | {"i8mm"}
_ARMV7 = frozenset({"armv7"})
# In order or not. LLVM has no scheduling model of a7 and a8, and takes a9's for a15.
_ARMV7_CORES = {"cortex-a7": True, "cortex-a8": True, "cortex-a9": False, "cortex-a15": False}

# LLVM takes a57's model for a72 and a76, and so do we for what lies between.
_ALL = (
    Cpu("cortex-a53", "aarch64", _NEON, "cortex-a53", "cortex-a53", in_order=True),
    Cpu("cortex-a57", "aarch64", _NEON, "cortex-a57", "cortex-a57"),
    Cpu("cortex-a72", "aarch64", _NEON, "cortex-a72", "cortex-a72"),
    Cpu("cortex-a73", "aarch64", _NEON, "cortex-a72", "cortex-a73"),
    Cpu("cortex-a55", "aarch64+dotprod", _DOTPROD, "cortex-a76", "cortex-a55", in_order=True),
    Cpu("cortex-a75", "aarch64+dotprod", _DOTPROD, "cortex-a76", "cortex-a75"),
    Cpu("cortex-a76", "aarch64+dotprod", _DOTPROD, "cortex-a76", "cortex-a76"),
    Cpu("neoverse-n1", "aarch64+dotprod", _DOTPROD, "neoverse-n1", "neoverse-n1"),
    Cpu("cortex-a510", "aarch64+i8mm", _I8MM, "max", "cortex-a510", in_order=True),
    Cpu("cortex-a710", "aarch64+i8mm", _I8MM, "max", "cortex-a710"),
    # gcc 12 does not know this one; its predecessor is tuned alike.
    Cpu("cortex-a715", "aarch64+i8mm", _I8MM, "max", "cortex-a715", tune="cortex-a710"),
    Cpu("neoverse-v1", "aarch64+i8mm", _I8MM, "max", "neoverse-v1"),
    Cpu("neoverse-n2", "aarch64+i8mm", _I8MM, "max", "neoverse-n2"),
    *(
        Cpu(name, "armv7a", _ARMV7, name, "cortex-a9", in_order, triple="armv7-linux-gnueabihf")
        for name, in_order in _ARMV7_CORES.items()
    ),
)
CPUS: dict[str, Cpu] = {c.name: c for c in _ALL}


def cpu(name: str) -> Cpu:
    """The core called `name`. Raises QgenError with the nearest name, or listing the known ones."""
    if name in CPUS:
        return CPUS[name]
    short = [c for c in CPUS if c.endswith(f"-{name.lower()}")]
    close = short or difflib.get_close_matches(name.lower(), CPUS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(CPUS)}"
    raise QgenError(f"unknown cpu '{name}'", hint=hint)


def check_fits(core: Cpu, target: Target, targets: Iterable[Target]) -> None:
    """Raise QgenError where `target` needs what `core` lacks, naming what fits."""
    if core.fits(target):
        return
    if not target.generic_cpu:
        raise QgenError(
            f"target {target.name} is for no cpu in particular", hint="leave out --cpu or --target"
        )
    lacks = ", ".join(sorted(target.features - core.features))
    cores = [c.name for c in CPUS.values() if c.fits(target)]
    others = [t.name for t in targets if core.fits(t)]
    raise QgenError(
        f"cpu {core.name} lacks {lacks}, which target {target.name} needs",
        hint=f"with this target: {', '.join(cores)}; with this cpu: {', '.join(others)}",
    )
