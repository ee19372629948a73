"""qgen run: evaluate a model with the golden interpreter."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np

from qgen.cli import common
from qgen.errors import QgenError
from qgen.files import write_files
from qgen.frontend import load_model
from qgen.frontend.printer import write_npz
from qgen.ir import interp
from qgen.ir.types import Array
from qgen.passes.legalize import legalize


def add(commands: common.Commands) -> None:
    parser = common.command(
        commands,
        "run",
        run,
        "evaluate a model with the golden interpreter",
        "Evaluate a model on arrays of its own quantized types, as the generated C would.",
        """
qgen run kws.tflite --input mfcc.npy -o scores.npy
qgen run two_heads.tflite --input left.npy --input right.npy -o heads.npz
""",
    )
    common.add_model(parser)
    parser.add_argument(
        "--input", action="append", type=Path, required=True, metavar="X.npy", dest="inputs",
        help="one per input of the model, in its order",
    )  # fmt: skip
    parser.add_argument(
        "-o", dest="out", type=Path, required=True, metavar="FILE",
        help=".npy, or .npz with the outputs by name",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    common.check_out(args.out, args.model)
    graph = legalize(load_model(args.model))
    inputs = [_read(path) for path in args.inputs]
    names = [t.name for t in graph.outputs]
    named = args.out.suffix == ".npz"
    if len(names) > 1 and not named:
        raise QgenError(
            f"'{graph.name}' has {len(names)} outputs: {', '.join(names)}",
            hint="write them to a .npz file",
        )
    outputs = interp.run(graph, inputs)
    stream = io.BytesIO()
    if named:
        write_npz(stream, dict(zip(names, outputs, strict=True)))
    else:
        np.save(stream, outputs[0])
    write_files({args.out: stream.getvalue()})
    return 0


def _read(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as e:
        raise QgenError(f"cannot read {path}: {(e.strerror or 'not a .npy file').lower()}") from e
    except (ValueError, EOFError) as e:
        raise QgenError(f"{path} is not a .npy file") from e
    if not isinstance(array, np.ndarray):
        raise QgenError(f"{path} is not a .npy file", hint="give one array per --input")
    return array
