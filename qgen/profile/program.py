"""The program that is counted: a generated file with a main that runs it N times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qgen.emit import Port
from qgen.lower import Lowered
from qgen.render import environment
from qgen.toolchain.cc import Toolchain, compile_c

# The function whose calls part the run.
MARK = "profile_mark"


def build(
    lowered: Lowered,
    texts: Mapping[str, str],
    toolchain: Toolchain,
    folder: Path,
    *,
    marks: bool = False,
) -> Path:
    """The program: its argument is the number of inferences.

    Args:
        texts: the generated header by its name.
        toolchain: of a machine with an emulator that runs what `lowered` is for.
        folder: where all files go.
        marks: call the function `MARK` before each inference and after each of its ops.

    Raises QgenError without compiler, or where the generated C does not compile.
    """
    header = folder / f"{lowered.name}.h"
    header.write_text(texts[header.name], encoding="ascii", errors="backslashreplace")
    source = folder / "profile_main.c"
    source.write_text(_main(lowered, marks), encoding="ascii")
    exe = folder / (f"{lowered.name}_marks" if marks else lowered.name)
    compile_c(toolchain, [source], exe)
    return exe


def _main(lowered: Lowered, marks: bool) -> str:
    inputs, outputs = lowered.graph.inputs, lowered.graph.outputs
    return environment().get_template("profile/main.c.j2").render(
        p=lowered.name,
        P=lowered.name.upper(),
        mark=MARK if marks else "",
        single=len(inputs) == len(outputs) == 1,
        inputs=[Port(t) for t in inputs],
        outputs=[Port(t) for t in outputs],
    )  # fmt: skip
