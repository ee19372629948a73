"""Imported before PyTorch, this says in one line what to install where it is missing."""

from qgen.errors import QgenError

try:
    import torch  # noqa: F401
except ImportError as e:
    if e.name is None or e.name.split(".")[0] != "torch":
        raise
    raise QgenError("training needs PyTorch", hint="pip install 'qgen[train]'") from None
