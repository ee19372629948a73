"""Quantization-aware training (section 3): a PyTorch network becomes a model for qgen.

    config = QatConfig(weight_bits=8, activation_bits=8)
    training = create_training_graph(model, example, config)
    ...                                    # train it like any module
    evaluation = create_eval_graph(training)
    save(export(evaluation, "digits"), Path("digits.qg"))

PyTorch is imported when the first of these names is used; without it they raise a QgenError,
and so does the import of `qgen.train.models`, `data`, `detection` and `loop`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qgen.train.config import QatConfig, Statistics

if TYPE_CHECKING:
    from qgen.train.agreement import Agreement, check
    from qgen.train.evaluate import calibrate, create_eval_graph
    from qgen.train.rewrite import create_training_graph, freeze_batch_norm
    from qgen.train.to_ir import export

__all__ = [
    "Agreement",
    "QatConfig",
    "Statistics",
    "calibrate",
    "check",
    "create_eval_graph",
    "create_training_graph",
    "export",
    "freeze_batch_norm",
]

_HOME = {
    "Agreement": "agreement",
    "calibrate": "evaluate",
    "check": "agreement",
    "create_eval_graph": "evaluate",
    "create_training_graph": "rewrite",
    "export": "to_ir",
    "freeze_batch_norm": "rewrite",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(f"{__name__}.needs_torch")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
