"""Whether logistic and tanh of a .tflite model become tables."""

from __future__ import annotations

from enum import Enum


class Tables(Enum):
    """LiteRT's reference kernels for 8-bit logistic and tanh are tables of 256 entries.

    AUTO has the paper's fixed-point arithmetic (A.1) where it equals the table for every input,
    and the table elsewhere: always what LiteRT computes. ALWAYS trades 256 bytes for speed. NEVER
    has fixed point wherever the result's parameters allow it, though it be one step off.
    """

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"
