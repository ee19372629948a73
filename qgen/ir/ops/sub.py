"""sub: element-wise difference; add with the second operand negated after rescaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qgen.ir.op import register
from qgen.ir.ops.add import Add


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Sub(Add):
    """y = clamp(Z_y + M_y * (M_a * 2^20 * (a - Z_a) - M_b * 2^20 * (b - Z_b)))   (Q6)

    Source: paper A.2; TFLite SUB.
    """

    NAME = "sub"
    SIGN: ClassVar[int] = -1
