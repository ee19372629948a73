"""qgen: a quantized neural network in, one verified integer-only C file out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from qgen.compile import Budget, Compiled, compile_model
    from qgen.errors import QgenError
    from qgen.frontend import load_model
    from qgen.profile import Profile, profile_model
    from qgen.verify import Verdict, assert_equal, verify_model

__all__ = [
    "Budget",
    "Compiled",
    "Profile",
    "QgenError",
    "Verdict",
    "__version__",
    "assert_equal",
    "compile_model",
    "load_model",
    "profile_model",
    "verify_model",
]

_HOMES = {
    "Budget": "qgen.compile",
    "Compiled": "qgen.compile",
    "Profile": "qgen.profile",
    "QgenError": "qgen.errors",
    "Verdict": "qgen.verify",
    "assert_equal": "qgen.verify",
    "compile_model": "qgen.compile",
    "load_model": "qgen.frontend",
    "profile_model": "qgen.profile",
    "verify_model": "qgen.verify",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: ``qgen.ir`` alone must not bring in compilers and templates."""
    if name not in _HOMES:
        raise AttributeError(f"module 'qgen' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
