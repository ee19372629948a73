"""Inline assembly as data: parsed, timed, put into an order that suits a core, printed again."""
