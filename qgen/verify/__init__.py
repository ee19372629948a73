"""The promise of qgen: the generated C computes what golden computes, bit for bit.

For a project's own tests::

    from qgen.verify import assert_equal

    def test_model() -> None:
        assert_equal("model.tflite", cpu="cortex-a53")
"""

from __future__ import annotations

from pathlib import Path

from qgen.verify.compare import verify, verify_lowered
from qgen.verify.verdict import Difference, Verdict

__all__ = ["Difference", "Verdict", "assert_equal", "verify", "verify_lowered", "verify_model"]


def verify_model(
    path: str | Path,
    target: str | None = None,
    *,
    cpu: str | None = None,
    inputs: int = 20,
    seed: int = 0,
) -> Verdict:
    """Verify a model file on a target; the verdict is true if equal, and prints what differs.

    The default target is that of the cpu, or aarch64.

    Raises QgenError where the model is bad or a compiler or emulator is missing.
    """
    return verify(Path(path), target, cpu=cpu, inputs=inputs, seed=seed)


def assert_equal(
    path: str | Path,
    target: str | None = None,
    *,
    cpu: str | None = None,
    inputs: int = 20,
    seed: int = 0,
) -> None:
    """AssertionError with the first difference unless the model verifies on the target."""
    verdict = verify_model(path, target, cpu=cpu, inputs=inputs, seed=seed)
    if not verdict:
        raise AssertionError(str(verdict))
