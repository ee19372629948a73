"""Models and cores that are measured, and what qgen makes of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qgen.compile import Sizes, measure
from qgen.emit import emit
from qgen.errors import QgenError
from qgen.frontend import load_model
from qgen.lower import Lowered, lower
from qgen.profile import layers
from qgen.profile.layers import Profile
from qgen.targets import CPUS as CORES
from qgen.targets import TARGETS, Cpu, machine
from qgen.targets.spec import Target

# Of the emulator: NEON alone, with SDOT, with SMMLA as well.
CPUS = ("cortex-a53", "cortex-a76", "max")
# Cores whose cycles are estimated; `max` is none.
TIMED = ("cortex-a53", "cortex-a55", "cortex-a76")

# The models that the documentation reports, small to large; the folder is not part of the project.
MODELS = (
    "hello_world_int8", "ad01_int8", "kws_ref_model", "vww_96_int8", "pretrainedResnet_quant",
    "mobilenet_v1_0.25_128_quant", "mobilenet_v1_0.5_160_quant", "mobilenet_v2_1.0_224_quant",
)  # fmt: skip
FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "models"


@dataclass(frozen=True)
class Generated:
    """A model lowered and printed for one CPU.

    Attributes:
        path: of the model.
        cpu: name of the core, or of an emulated CPU that is no core.
        core: whose cycles are estimated.
        texts: the generated files.
        seconds: from the model file to the text.
    """

    path: Path
    cpu: str
    core: Cpu
    lowered: Lowered
    texts: dict[str, str]
    seconds: float

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def macs(self) -> int:
        return sum(op.cost().macs for op in self.lowered.model.ops)

    @cached_property
    def profile(self) -> Profile:
        """Instructions and cycles of one inference."""
        return layers.measure(self.lowered, self.lowered.target, self.core)

    @cached_property
    def sizes(self) -> Sizes:
        """What the compiler makes of it."""
        return measure(self.lowered, self.texts)

    @property
    def ram_bytes(self) -> int:
        return self.lowered.plan.arena_bytes + self.sizes.stack_bytes


def models(names: Sequence[str], folder: Path) -> list[Path]:
    """Paths of models: names in `folder`, or paths; the documented ones if there are no names.

    Raises QgenError where one does not exist.
    """
    found = []
    for name in names or MODELS:
        path = Path(name) if Path(name).suffix in (".tflite", ".qg") else None
        path = path or folder / f"{name}.tflite"
        if not path.is_file():
            raise QgenError(f"no model {path}", hint="give a path, or the folder with --models")
        found.append(path)
    return found


def machine_for(cpu: str) -> tuple[Target, Cpu | None]:
    """Target and core for a CPU of the emulator: one that is no core takes the target it verifies.

    Raises QgenError for a CPU that qgen has nothing for.
    """
    target = next((t for t in TARGETS.values() if cpu in t.toolchain.emulator), None)
    return (target, None) if target and cpu not in CORES else machine(None, cpu)


def generate(path: Path, cpu: str) -> Generated:
    """Model file to C, in memory."""
    started = time.perf_counter()
    target, core = machine_for(cpu)
    lowered = lower(load_model(path), target, core)
    texts = emit(lowered, layers.ORIGIN)
    seconds = time.perf_counter() - started
    return Generated(path, cpu, core or CORES[target.generic_cpu], lowered, texts, seconds)
