"""Builds programs that run one generated model N times, to be counted under the emulator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import count
from qgen.emit import Port, Provenance, emit
from qgen.errors import QgenError
from qgen.frontend import load_model
from qgen.ir.types import Tensor
from qgen.lower import Lowered, lower
from qgen.targets import TARGETS
from qgen.targets import target as target_by_name
from qgen.toolchain.cc import compile_c

CPUS = ("cortex-a53", "cortex-a76", "max")
MARK = "bench_mark"
# Assembly, because a compiler may put other instructions between two calls.
TWO_MARKS = f'__asm__ volatile("bl {MARK}\\n\\tbl {MARK}" : : : "x30", "memory");'

# The models that the documentation reports, small to large; the folder is not part of the project.
MODELS = (
    "hello_world_int8", "ad01_int8", "kws_ref_model", "vww_96_int8", "pretrainedResnet_quant",
    "mobilenet_v1_0.25_128_quant", "mobilenet_v1_0.5_160_quant", "mobilenet_v2_1.0_224_quant",
)  # fmt: skip
FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "models"


@dataclass(frozen=True)
class Generated:
    """A model lowered and printed.

    Attributes:
        path: of the model.
        texts: the generated files.
        seconds: from the model file to the text.
    """

    path: Path
    lowered: Lowered
    texts: dict[str, str]
    seconds: float

    @property
    def name(self) -> str:
        return self.lowered.name

    @property
    def macs(self) -> int:
        return sum(op.cost().macs for op in self.lowered.model.ops)


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


def target_for(cpu: str) -> str:
    """The target that is verified on this CPU of the emulator; aarch64 for any other."""
    return next((t.name for t in TARGETS.values() if cpu in t.toolchain.emulator), "aarch64")


def generate(path: Path, target: str = "aarch64") -> Generated:
    """Model file to C, in memory."""
    started = time.perf_counter()
    lowered = lower(load_model(path), target_by_name(target))
    texts = emit(lowered, Provenance("benchmark", path.name, "0" * 64))
    return Generated(path, lowered, texts, time.perf_counter() - started)


def build(generated: Generated, folder: Path, *, marks: bool = False) -> Path:
    """The program: its argument is the number of inferences.

    With `marks` it calls ``bench_mark`` before each inference and after each of its ops, and twice
    before the first so that the price of the call itself is known.
    """
    header = folder / f"{generated.name}.h"
    header.write_text(generated.texts[header.name], encoding="ascii", errors="backslashreplace")
    source = folder / "bench_main.c"
    source.write_text(_main(generated.lowered, marks), encoding="ascii")
    exe = folder / f"{generated.name}{'_marks' if marks else ''}"
    compile_c(generated.lowered.target.toolchain, [source], exe)
    return exe


def _buffers(kind: str, tensors: Sequence[Tensor]) -> str:
    return "\n".join(
        f"static {Port(t).c} {kind}{i}[{t.type.bytes // t.dtype.numpy.itemsize}]"
        " __attribute__((aligned(64)));"
        for i, t in enumerate(tensors)
    )


def _main(lowered: Lowered, marks: bool) -> str:
    p, P = lowered.name, lowered.name.upper()
    inputs, outputs = lowered.graph.inputs, lowered.graph.outputs
    if len(inputs) == len(outputs) == 1:
        structs, call = "", f"{p}_run(input0, output0, arena)"
    else:
        ins = ", ".join(f"input{i}" for i in range(len(inputs)))
        outs = ", ".join(f"output{i}" for i in range(len(outputs)))
        structs = f"const {p}_input in = {{{ins}}};\n    const {p}_output out = {{{outs}}};"
        call = f"{p}_run(&in, &out, arena)"
    fills = "\n    ".join(f"fill(input{i}, sizeof input{i});" for i in range(len(inputs)))
    # The empty asm keeps the calls: those of a function without effect may be dropped.
    mark = f"""
__attribute__((noinline)) static void {MARK}(void) {{ __asm__ volatile(""); }}
#define {P}_TRACE(op, data, bytes) {MARK}()
"""
    return f"""#include <stdint.h>
#include <stdlib.h>
{mark if marks else ""}
#define {P}_IMPLEMENTATION
#include "{p}.h"

static {P}_ALIGNED unsigned char arena[{P}_ARENA_BYTES];
{_buffers("input", inputs)}
{_buffers("output", outputs)}

/* The same bytes as litert_peer.c. */
static void fill(void *to, size_t bytes)
{{
    static uint32_t state = 1;
    unsigned char *t = (unsigned char *)to;
    for (; bytes > 0; --bytes) {{
        state = state * 1664525u + 1013904223u;
        *t++ = (unsigned char)(state >> 24);
    }}
}}

int main(int argc, char **argv)
{{
    long n = argc > 1 ? atol(argv[1]) : 1;
    {structs}
    {fills}
    {TWO_MARKS if marks else ""}
    for (; n > 0; --n) {{
        {f"{MARK}();" if marks else ""}
        if ({call} != 0) {{
            return 1;
        }}
    }}
    {f"{MARK}();" if marks else ""}
    return 0;
}}
"""


def instructions(exe: Path, cpu: str) -> int:
    """Executed instructions of one inference: the runs differ by one, as all are alike."""
    return round(count.per_inference(exe, cpu, ["1"], ["2"], 1))
