"""Which torch operations a training graph may hold, and the layers they become.

Three tables: modules by type, functions by identity, tensor methods by name. A reader has the
signature of what it reads, so that Python itself matches positional and keyword arguments; `at` is
the place in the network, and shapes are those of the example. It returns a `Match`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from qgen.errors import QgenError
from qgen.ir.types import Activation
from qgen.train import layers
from qgen.train.fold import Geometry

Reader = Callable[..., "Match"]


@dataclass(frozen=True)
class Match:
    """One operation: its operands and what it is.

    Exactly one of these is set: `layer`; `linear` (a convolution or dense layer, to be folded);
    `norm`; `activation`; or none of them, for an operation that does nothing.
    """

    operands: tuple[Any, ...]
    layer: layers.Layer | None = None
    linear: nn.Conv2d | nn.Linear | None = None
    geometry: Geometry | None = None
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    activation: Activation | None = None


class UnsupportedError(Exception):
    """Why an operation has no place in a training graph; `match` adds where it is."""


MODULES: dict[type[nn.Module], Callable[..., Match]] = {}
FUNCTIONS: dict[Any, Reader] = {}
METHODS: dict[str, Reader] = {}


def _function(*targets: Any, methods: Sequence[str] = ()) -> Callable[[Reader], Reader]:
    def register(reader: Reader) -> Reader:
        FUNCTIONS.update(dict.fromkeys(targets, reader))
        METHODS.update(dict.fromkeys(methods, reader))
        return reader

    return register


def match(node: fx.Node, module: nn.Module | None, path: str) -> Match:
    """Read a call. Raises QgenError that names an operation without a reader, and its place."""
    at = Place(node, path)
    try:
        if module is not None:
            what = type(module).__name__
            if type(module) in MODULES:
                return MODULES[type(module)](at, module, node.args[0])
        elif node.op == "call_method":
            what = f"method {node.target}"
            if node.target in METHODS:
                return METHODS[node.target](at, *node.args, **node.kwargs)
        else:
            what = f"function {getattr(node.target, '__name__', node.target)}"
            if node.target in FUNCTIONS:
                return FUNCTIONS[node.target](at, *node.args, **node.kwargs)
    except UnsupportedError as e:
        raise QgenError(f"'{path}' ({what}) cannot be quantized: {e}") from None
    except TypeError:
        raise QgenError(f"'{path}' ({what}) has arguments that are not supported") from None
    raise QgenError(
        f"'{path}' ({what}) is not supported in training graphs",
        hint="docs/training.md lists what is",
    )


@dataclass(frozen=True)
class Place:
    """A node of the traced network: its path and the shapes around it."""

    node: fx.Node
    path: str

    @property
    def out(self) -> tuple[int, ...]:
        return shape(self.node)


def shape(node: Any) -> tuple[int, ...]:
    """Shape of a traced value; () for what is not a tensor."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return tuple(getattr(meta, "shape", ()))


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """One number for both dimensions, or one for each."""
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


# -- with weights --------------------------------------------------------------------------------


def _conv(at: Place, m: nn.Conv2d, x: Any) -> Match:
    if m.padding_mode != "zeros":
        raise UnsupportedError(f"padding mode {m.padding_mode}")
    if m.groups not in (1, m.in_channels):
        raise UnsupportedError(f"{m.groups} groups, neither one nor one per channel")
    dilation, kernel = pair(m.dilation), pair(m.kernel_size)
    if m.padding == "valid":
        pads = (0, 0, 0, 0)
    elif m.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        h, w = total
        pads = (h // 2, h - h // 2, w // 2, w - w // 2)
    else:
        assert not isinstance(m.padding, str)
        h, w = pair(m.padding)
        pads = (h, h, w, w)
    return Match((x,), linear=m, geometry=Geometry(pair(m.stride), pads, dilation, m.groups))


MODULES[nn.Conv2d] = _conv
MODULES[nn.Linear] = lambda at, m, x: Match((x,), linear=m)
MODULES[nn.BatchNorm2d] = MODULES[nn.BatchNorm1d] = lambda at, m, x: Match((x,), norm=m)


# -- activations ---------------------------------------------------------------------------------


@_function(torch.relu, torch.relu_, functional.relu, functional.relu_, methods=("relu", "relu_"))
def _relu(at: Place, input: Any, inplace: bool = False) -> Match:
    return Match((input,), activation=Activation.RELU)


@_function(functional.relu6)
def _relu6(at: Place, input: Any, inplace: bool = False) -> Match:
    return Match((input,), activation=Activation.RELU6)


@_function(torch.clamp, torch.clip, methods=("clamp", "clip", "clamp_"))
def _clamp(at: Place, input: Any, min: Any = None, max: Any = None) -> Match:
    for activation in Activation:
        if activation is not Activation.NONE and activation.real_range == (min, max):
            return Match((input,), activation=activation)
    raise UnsupportedError(f"a clamp to [{min}, {max}]; [0, 6], [-1, 1] and [0, None] are")


@_function(functional.hardtanh, functional.hardtanh_)
def _hardtanh(
    at: Place, input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Match:
    return _clamp(at, input, min_val, max_val)


MODULES[nn.ReLU] = lambda at, m, x: _relu(at, x)
MODULES[nn.ReLU6] = lambda at, m, x: _relu6(at, x)
MODULES[nn.Hardtanh] = lambda at, m, x: _hardtanh(at, x, m.min_val, m.max_val)


# -- element-wise --------------------------------------------------------------------------------


def _binary(operation: str) -> Reader:
    def read(at: Place, input: Any, other: Any, alpha: float = 1) -> Match:
        if alpha != 1:
            raise UnsupportedError(f"alpha {alpha}")
        if not shape(input) or len(shape(input)) != len(shape(other)):
            raise UnsupportedError("operands are not two tensors of one rank")
        return Match((input, other), layer=layers.Binary(at.path, operation))

    return read


_function(torch.add, operator.add, operator.iadd, methods=("add", "add_"))(_binary("add"))
_function(torch.sub, operator.sub, operator.isub, methods=("sub", "sub_"))(_binary("sub"))
_function(torch.mul, operator.mul, operator.imul, methods=("mul", "mul_"))(_binary("mul"))


@_function(torch.sigmoid, functional.sigmoid, methods=("sigmoid",))
def _sigmoid(at: Place, input: Any) -> Match:
    return Match((input,), layer=layers.Function(at.path, "logistic"))


@_function(torch.tanh, functional.tanh, methods=("tanh",))
def _tanh(at: Place, input: Any) -> Match:
    return Match((input,), layer=layers.Function(at.path, "tanh"))


@_function(torch.softmax, functional.softmax, methods=("softmax",))
def _softmax(at: Place, input: Any, dim: int, dtype: Any = None, _stacklevel: int = 3) -> Match:
    return Match((input,), layer=layers.Function(at.path, "softmax", dim % len(shape(input))))


def _softmax_module(at: Place, m: nn.Softmax, x: Any) -> Match:
    if m.dim is None:
        raise UnsupportedError("it has no dim")
    return _softmax(at, x, m.dim)


MODULES[nn.Sigmoid] = lambda at, m, x: _sigmoid(at, x)
MODULES[nn.Tanh] = lambda at, m, x: _tanh(at, x)
MODULES[nn.Softmax] = _softmax_module


# -- windows -------------------------------------------------------------------------------------


@_function(functional.max_pool2d, torch.max_pool2d)
def _max_pool(
    at: Place,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Match:
    if ceil_mode or return_indices or pair(dilation) != (1, 1):
        raise UnsupportedError("ceil_mode, return_indices and dilation")
    kernel = pair(kernel_size)
    layer = layers.MaxPool(at.path, kernel, pair(stride or kernel), pair(padding))
    return Match((input,), layer=layer)


@_function(functional.avg_pool2d)
def _average_pool(
    at: Place,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Match:
    if ceil_mode or divisor_override is not None:
        raise UnsupportedError("ceil_mode and divisor_override")
    kernel, pads = pair(kernel_size), pair(padding)
    if count_include_pad and pads != (0, 0):
        raise UnsupportedError("padding that counts; set count_include_pad=False")
    layer = layers.AveragePool(at.path, kernel, pair(stride or kernel), pads)
    return Match((input,), layer=layer)


@_function(functional.adaptive_avg_pool2d)
def _adaptive(at: Place, input: Any, output_size: Any) -> Match:
    if pair(output_size) == (1, 1):
        return Match((input,), layer=layers.Mean(at.path, keep=True))
    rows, columns = shape(input)[2:]
    target = pair(output_size)
    if rows % target[0] or columns % target[1]:
        raise UnsupportedError(f"{rows} x {columns} does not divide into {target[0]} x {target[1]}")
    kernel = (rows // target[0], columns // target[1])
    return Match((input,), layer=layers.AveragePool(at.path, kernel, kernel, (0, 0)))


@_function(torch.mean, methods=("mean",))
def _mean(at: Place, input: Any, dim: Any = None, keepdim: bool = False) -> Match:
    axes = (dim,) if isinstance(dim, int) else tuple(dim or ())
    rank = len(shape(input))
    if rank != 4 or sorted(a % rank for a in axes) != [2, 3]:
        raise UnsupportedError("only the mean over height and width")
    return Match((input,), layer=layers.Mean(at.path, keepdim))


MODULES[nn.MaxPool2d] = lambda at, m, x: _max_pool(
    at, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
)
MODULES[nn.AvgPool2d] = lambda at, m, x: _average_pool(
    at, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override
)
MODULES[nn.AdaptiveAvgPool2d] = lambda at, m, x: _adaptive(at, x, m.output_size)


# -- shapes --------------------------------------------------------------------------------------


@_function(torch.cat, torch.concat, torch.concatenate)
def _concat(at: Place, tensors: Sequence[Any], dim: int = 0) -> Match:
    rank = len(at.out)
    if dim % rank == 0:
        raise UnsupportedError("the batch dimension")
    return Match(tuple(tensors), layer=layers.Concat(at.path, dim % rank))


@_function(torch.flatten, torch.reshape, methods=("view", "reshape", "flatten"))
def _reshape(at: Place, input: Any, *size: Any, **names: Any) -> Match:
    """Whatever the arguments say, the example's shapes show what they mean."""
    if not at.out or at.out[0] != shape(input)[0]:
        raise UnsupportedError("the batch dimension changes")
    return Match((input,), layer=layers.Reshape(at.path, at.out[1:]))


@_function(torch.permute, methods=("permute",))
def _permute(at: Place, input: Any, *dims: Any) -> Match:
    order = dims[0] if len(dims) == 1 else dims
    if tuple(order) != (0, 2, 3, 1):
        raise UnsupportedError("only (0, 2, 3, 1) needs no transpose in NHWC")
    return Match((input,), layer=layers.ChannelsLast(at.path))


@_function(methods=("contiguous",))
def _nothing(at: Place, input: Any) -> Match:
    return Match((input,))


@_function(functional.dropout)
def _dropout(
    at: Place, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Match:
    return Match((input,), layer=layers.Dropout(at.path, p, whole_channels=False))


@_function(functional.dropout2d)
def _dropout2d(
    at: Place, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Match:
    return Match((input,), layer=layers.Dropout(at.path, p, whole_channels=True))


MODULES[nn.Flatten] = MODULES[nn.Unflatten] = lambda at, m, x: _reshape(at, x)
MODULES[nn.Identity] = lambda at, m, x: _nothing(at, x)
MODULES[nn.Dropout] = lambda at, m, x: _dropout(at, x, m.p)
MODULES[nn.Dropout2d] = lambda at, m, x: _dropout2d(at, x, m.p)
