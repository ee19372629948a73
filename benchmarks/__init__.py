"""Figures of generated code, measured: instructions, bytes, seconds, and LiteRT beside them."""
