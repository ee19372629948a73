"""The foreign oracle: LiteRT's reference kernels run on the original .tflite file.

The golden interpreter must agree with them bit for bit. LiteRT's optimized kernels round
differently in places and are of no use here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qgen.errors import Loc, QgenError
from qgen.ir.types import Array


def litert_reference(model: bytes | Path, inputs: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Outputs of a model for each list of inputs.

    Args:
        model: a .tflite flatbuffer, or the path of one.
        inputs: lists with one array per input of the model, in its order, of the tensors' own
            (quantized) types and shapes.

    Returns: for each list of inputs the arrays of the model's outputs, in its order.
    Raises QgenError where LiteRT is missing, refuses the model, or an input does not fit.
    """
    session = _Session(model, keep_all=False)
    results = []
    for arrays in inputs:
        session.run(arrays)
        results.append([session.tensor(index) for index in session.outputs])
    return results


def litert_reference_tensors(
    model: bytes | Path, inputs: Sequence[Sequence[Array]]
) -> list[dict[str, Array]]:
    """Every tensor of the model by name for each list of inputs, to find the first wrong op.

    Constants are included; tensors LiteRT cannot read back are left out. Where names repeat, the
    second and later tensors are called ``name#index``. Arguments and errors as `litert_reference`.
    """
    session = _Session(model, keep_all=True)
    results = []
    for arrays in inputs:
        session.run(arrays)
        results.append(session.tensors())
    return results


class _Session:
    """One interpreter with the reference kernels, its tensors allocated."""

    def __init__(self, model: bytes | Path, *, keep_all: bool) -> None:
        litert = _import_litert()
        self.loc = Loc(file=str(model)) if isinstance(model, Path) else None
        if isinstance(model, Path):
            try:
                model = model.read_bytes()
            except OSError as error:
                raise QgenError(f"cannot read model: {error.strerror}", self.loc) from error
        with self._litert("load"):
            self.interpreter = litert.Interpreter(
                model_content=model,
                num_threads=1,
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=keep_all,
            )
            self.interpreter.allocate_tensors()
        self.inputs: list[dict[str, Any]] = self.interpreter.get_input_details()
        self.outputs = [int(d["index"]) for d in self.interpreter.get_output_details()]

    def run(self, arrays: Sequence[Array]) -> None:
        if len(arrays) != len(self.inputs):
            raise QgenError(f"model has {len(self.inputs)} inputs, got {len(arrays)}", self.loc)
        for array, detail in zip(arrays, self.inputs, strict=True):
            shape, dtype = tuple(int(d) for d in detail["shape"]), np.dtype(detail["dtype"])
            if array.shape != shape or array.dtype != dtype:
                raise QgenError(
                    f"input '{detail['name']}' is {dtype}{list(shape)}, "
                    f"got {array.dtype}{list(array.shape)}",
                    self.loc,
                )
            self.interpreter.set_tensor(detail["index"], array)
        with self._litert("run"):
            self.interpreter.invoke()

    def tensor(self, index: int) -> Array:
        value: Array = self.interpreter.get_tensor(index)
        return value

    def tensors(self) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for detail in self.interpreter.get_tensor_details():
            name, index = str(detail["name"]), int(detail["index"])
            # Scratch tensors of a kernel have no data that can be read back.
            with contextlib.suppress(ValueError, RuntimeError):
                found[f"{name}#{index}" if name in found else name] = self.tensor(index)
        return found

    @contextlib.contextmanager
    def _litert(self, what: str) -> Iterator[None]:
        """Quiet stderr and turn LiteRT's exceptions into one line."""
        try:
            with _quiet_stderr():
                yield
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise QgenError(f"LiteRT cannot {what} this model: {reason}", self.loc) from error


def _import_litert() -> Any:
    try:
        with _quiet_stderr():
            from ai_edge_litert import interpreter
    except ImportError as error:
        raise QgenError(
            "the litert oracle needs the package ai-edge-litert",
            hint="pip install qgen[oracle]",
        ) from error
    return interpreter


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 to the null device: LiteRT logs from C++, past sys.stderr."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(saved, 2)
        os.close(null)
        os.close(saved)
