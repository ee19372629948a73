"""The tables of the paper on data that any machine has; one command per table."""

try:
    import torch  # noqa: F401
except ImportError:
    raise SystemExit("error: the experiments need PyTorch (pip install 'qgen[train]')") from None
