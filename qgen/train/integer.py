"""A model as a function of real images, computed by golden: integers alone, as the C does."""

from __future__ import annotations

import qgen.train.needs_torch  # noqa: F401

import numpy as np
import torch

from qgen.ir.graph import Graph
from qgen.ir.interp import run
from qgen.ir.numerics import round_all, saturate
from qgen.ir.types import Array, Tensor
from qgen.passes.legalize import legalize
from qgen.train.agreement import with_batch

NCHW = (0, 3, 1, 2)
NHWC = (0, 2, 3, 1)


class IntegerModel:
    """Called like the network that `graph` was exported from.

    Takes images [N, C, H, W] of any N, quantizes them to the input of the graph, and gives back the
    outputs as real values r = S (q - Z): a tensor, or a tuple where the graph has several.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sized: dict[int, Graph] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        count = len(images)
        if count not in self.sized:
            self.sized[count] = legalize(with_batch(self.graph, count))
        outputs = run(self.sized[count], [_stored(images, self.graph.inputs[0])])
        real = tuple(_real(q, t) for q, t in zip(outputs, self.graph.outputs, strict=True))
        return real if len(real) > 1 else real[0]


def _stored(images: torch.Tensor, t: Tensor) -> Array:
    """Real images as the integers of the tensor, NHWC, (Q1)."""
    assert t.type.quant is not None
    steps = images.detach().float().cpu().numpy().transpose(NHWC) / np.float32(t.type.scale)
    whole = np.asarray(round_all(steps.astype(np.float64), np))
    return saturate(whole + t.zero, *t.type.quant.limits(t.dtype), t.dtype)


def _real(q: Array, t: Tensor) -> torch.Tensor:
    real = (q.astype(np.float64) - t.zero) * t.type.scale
    return torch.from_numpy(real.transpose(NCHW) if real.ndim == 4 else real).float()
