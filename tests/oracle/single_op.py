"""Random single-operator models: one function per operator, `RANDOM_OPS` lists them all.

Each function draws a valid configuration and returns a .tflite flatbuffer; equal generators give
equal models. `random_inputs` makes inputs for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.oracle.builder import random_inputs
from tests.oracle.elementwise_ops import (
    random_add,
    random_logistic,
    random_mul,
    random_quantize,
    random_relu,
    random_relu6,
    random_relu_n1_to_1,
    random_softmax,
    random_sub,
    random_tanh,
)
from tests.oracle.matmul_ops import (
    random_conv_2d,
    random_depthwise_conv_2d,
    random_fully_connected,
)
from tests.oracle.shape_ops import (
    random_average_pool_2d,
    random_concatenation,
    random_max_pool_2d,
    random_mean,
    random_pad,
    random_padv2,
    random_reshape,
    random_resize_bilinear,
    random_resize_nearest_neighbor,
    random_slice,
)

__all__ = ["RANDOM_OPS", "random_inputs"]

RANDOM_OPS: dict[str, Callable[[np.random.Generator], bytes]] = {
    "conv_2d": random_conv_2d,
    "depthwise_conv_2d": random_depthwise_conv_2d,
    "fully_connected": random_fully_connected,
    "add": random_add,
    "sub": random_sub,
    "mul": random_mul,
    "average_pool_2d": random_average_pool_2d,
    "max_pool_2d": random_max_pool_2d,
    "mean": random_mean,
    "pad": random_pad,
    "padv2": random_padv2,
    "reshape": random_reshape,
    "resize_bilinear": random_resize_bilinear,
    "resize_nearest_neighbor": random_resize_nearest_neighbor,
    "slice": random_slice,
    "softmax": random_softmax,
    "quantize": random_quantize,
    "concatenation": random_concatenation,
    "relu": random_relu,
    "relu6": random_relu6,
    "relu_n1_to_1": random_relu_n1_to_1,
    "logistic": random_logistic,
    "tanh": random_tanh,
}
