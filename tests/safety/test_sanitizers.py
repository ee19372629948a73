"""The portable C under address and undefined-behaviour sanitizers, on extreme inputs too."""

from __future__ import annotations

import pytest

from qgen.verify import verify_lowered
from qgen.verify.inputs import KINDS
from tests.safety.programs import EVERY_OP, SMALL, lowered


@pytest.mark.parametrize("name", [*SMALL, *EVERY_OP])
def test_clean_and_equal(name: str) -> None:
    """Whole models and their single ops, on every kind of input."""
    verdict = verify_lowered(lowered(name), inputs=len(KINDS), sanitize=True)
    assert verdict, str(verdict)
