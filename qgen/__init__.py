"""qgen: a quantized neural network in, one verified integer-only C file out."""

__version__ = "0.1.0"
