"""Verify says equal where C equals golden, and finds whatever is planted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import qgen.verify.oracle
from qgen.emit import emit
from qgen.errors import QgenError
from qgen.frontend.printer import save
from qgen.ir.graph import Graph
from qgen.ir.types import Array
from qgen.lower import Lowered, lower
from qgen.targets import TARGETS
from qgen.verify import Verdict, assert_equal, verify, verify_lowered, verify_model
from qgen.verify.harness import UNKNOWN_ORIGIN
from qgen.verify.inputs import KINDS, model_inputs
from tests.models import forked, tiny

SHARED = Path(__file__).parents[2].parent / "shared" / "models"

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def lowered(target: str = "portable") -> Lowered:
    return lower(tiny(), TARGETS[target])


def planted(old: str, new: str, **options: float) -> Verdict:
    """The verdict on `tiny` with one place of its C changed."""
    model = lowered()
    text = emit(model, UNKNOWN_ORIGIN)["tiny.h"]
    assert old in text
    return verify_lowered(model, text=text.replace(old, new, 1), inputs=3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sanitize", [False, True])
@pytest.mark.parametrize("graph", [tiny(), forked()], ids=["tiny", "forked"])
def test_equal(graph: Graph, sanitize: bool) -> None:
    verdict = verify_lowered(lower(graph, TARGETS["portable"]), inputs=7, sanitize=sanitize)
    assert verdict, str(verdict)
    assert verdict.first_difference is None
    assert verdict.inputs == 7
    per_run = len(graph.ops) + len(graph.outputs)
    assert verdict.tensors == 7 * per_run + verdict.op_runs
    assert verdict.op_runs >= 2 * 4
    assert "equals golden bit for bit (7 inputs" in str(verdict)


@pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")),
    reason="needs the aarch64 compiler and emulator",
)
@pytest.mark.parametrize("graph", [tiny(), forked()], ids=["tiny", "forked"])
def test_equal_in_the_emulator(graph: Graph) -> None:
    verdict = verify(graph, "aarch64", inputs=3)
    assert verdict, str(verdict)
    assert verdict.target == "aarch64"


def test_wrong_zero_point_is_named() -> None:
    found = planted("(px[c] - 128)", "(px[c] - 127)").first_difference
    assert found is not None
    assert (found.problem, found.name, found.op, found.index) == ("value", "c1", "conv2d", 0)
    assert (found.input, found.kind) == (0, "random")
    assert found.element is not None and found.expected != found.got
    # In the model's own type, though C keeps this tensor as i8.
    assert 0 <= found.expected <= 255 and 0 <= found.got <= 255
    assert f"element {list(found.element)} is {found.got}, golden says {found.expected}" in str(
        found
    )
    assert f"(accumulator {found.accumulator})" in str(found)


def test_accumulator_is_the_one_behind_the_value() -> None:
    """Golden's figures of the first element, worked out from the definition."""
    model = lowered()
    found = planted("(px[c] - 128)", "(px[c] - 127)").first_difference
    assert found is not None and found.element is not None
    _, (image,) = next(iter(model_inputs(model.model.inputs, 1, np.random.default_rng(0))))
    op = model.model.ops[0]
    padded = np.pad(image.astype(int) - 128, ((0, 0), (1, 1), (1, 1), (0, 0)))
    _, i, j, o = found.element
    patch = padded[0, i : i + 3, j : j + 3]
    assert found.accumulator == (patch * (op.w.const[o].astype(int) - 120)).sum() + op.b.const[o]


def test_patched_weight_is_found_in_a_later_op() -> None:
    model = lowered()
    constants = model.steps[1].prepared.constants["w"].values.reshape(-1)
    text = emit(model, UNKNOWN_ORIGIN)["tiny.h"]
    start = text.index("tiny_w_01[64] = {")
    first = f"{constants[0]},"
    assert text[start:].split("{")[1].split()[0] == first
    cut = text.index(first, start)
    patched = text[:cut] + f"{constants[0] ^ 64}," + text[cut + len(first) :]
    verdict = verify_lowered(model, text=patched)
    assert not verdict
    assert verdict.first_difference is not None
    assert (verdict.first_difference.name, verdict.first_difference.index) == ("c2", 1)
    assert "op 1" in str(verdict) and "DIFFERS" in str(verdict)


def test_only_adversarial_operands_reach_the_bound() -> None:
    high = lowered().model.ops[0].bounds().high
    line = "acc = tiny_requantize(acc, tiny_m0_00[oc]"
    found = planted(line, f"if (acc == {high}) {{ acc = 0; }}\n{line}").first_difference
    assert found is not None
    assert (found.input, found.kind, found.name) == (-1, "adversarial", "c1")
    assert found.accumulator == high
    assert "alone, adversarial" in str(found)


END = "    return TINY_SUCCESS;"


@pytest.mark.parametrize(
    ("old", "new", "name", "message"),
    [
        (END, "output[-1] = 1;" + END, "flat", "wrote outside its result"),
        (END, "m[-1] = 1;" + END, "flat", "wrote outside the arena"),
        (END, "output[512] = 1;" + END, "flat", "SIGSEGV"),
        (END, "((uint8_t *)(uintptr_t)input)[0] = 1;" + END, "flat", "wrote to an operand"),
        (END, "return 5;", "flat", "the run function returned an error"),
        ("    tiny_01_c2((", "m[TINY_ARENA_BYTES] = 1; tiny_01_c2((", "c2", "past the end"),
        ("    tiny_02_total((", "m[-1] = 1; tiny_02_total((", "total", "outside the arena"),
    ],
)
def test_stray_accesses(old: str, new: str, name: str, message: str) -> None:
    found = planted(old, new).first_difference
    assert found is not None
    assert (found.problem, found.name) == ("fault", name)
    assert message in str(found)


def test_reading_past_an_operand_is_found() -> None:
    line = "int32_t acc = tiny_b_00[oc]"
    stray = "const volatile uint8_t *v = x; int32_t acc = tiny_b_00[oc] + 0 * v[192]"
    found = planted(line, stray).first_difference
    assert found is not None
    assert found.name == "c1" and "SIGSEGV" in found.message


def test_endless_loop_ends_in_a_verdict() -> None:
    loop = "{ volatile int stay = 1; while (stay) { } }"
    found = planted("    tiny_01_c2((", loop + " tiny_01_c2((", timeout=1.0).first_difference
    assert found is not None
    assert (found.name, found.message) == ("c2", "no result within 1 s")


def test_sanitizer_names_undefined_behaviour() -> None:
    line = "acc = tiny_requantize(acc, tiny_m0_00[oc]"
    overflow = f"acc += 2147483647 - (acc < 0); acc = acc + 1 - 1;{line}"
    found = planted(line, overflow, sanitize=True).first_difference
    assert found is not None and "signed integer overflow" in found.message


def test_generated_code_that_warns_is_refused() -> None:
    with pytest.raises(QgenError, match="unused variable"):
        planted(END, "int unused;" + END)


def test_more_inputs_cycle_through_kinds() -> None:
    tensors = tiny().inputs
    drawn = list(model_inputs(tensors, 12, np.random.default_rng(3)))
    again = list(model_inputs(tensors, 12, np.random.default_rng(3)))
    assert [k for k, _ in drawn[: len(KINDS)]] == list(KINDS)
    assert len({a[0].tobytes() for _, a in drawn}) == 12
    assert all(np.array_equal(a[0], b[0]) for (_, a), (_, b) in zip(drawn, again, strict=True))


def test_no_inputs_is_refused() -> None:
    with pytest.raises(QgenError, match="cannot verify with 0 inputs"):
        verify(tiny(), "portable", inputs=0)


def test_oracle_needs_tflite(tmp_path: Path) -> None:
    save(tiny(), tmp_path / "tiny.qg")
    with pytest.raises(QgenError, match=r"needs a \.tflite model"):
        verify(tmp_path / "tiny.qg", "portable", oracle=True)


def test_golden_that_differs_from_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(model: bytes, inputs: list[list[Array]]) -> list[list[Array]]:
        return [[np.full((1, 512), 90, np.uint8)] for _ in inputs]

    monkeypatch.setattr(qgen.verify.oracle, "litert_reference", other)
    found = verify_lowered(lowered(), inputs=2, oracle=b"model").first_difference
    assert found is not None
    assert (found.problem, found.name, found.expected) == ("oracle", "flat", 90)
    assert "LiteRT says 90" in str(found)


@pytest.mark.skipif(not SHARED.exists(), reason=f"no models in {SHARED.name}")
def test_real_model_with_oracle() -> None:
    pytest.importorskip("ai_edge_litert")
    verdict = verify(SHARED / "kws_ref_model.tflite", "portable", inputs=3, oracle=True)
    assert verdict, str(verdict)
    assert "golden equals LiteRT" in str(verdict)


def test_for_pytest_of_a_user(tmp_path: Path) -> None:
    save(tiny(), tmp_path / "tiny.qg")
    assert verify_model(tmp_path / "tiny.qg", "portable", inputs=1)
    assert_equal(tmp_path / "tiny.qg", "portable", inputs=1)


def test_assert_equal_says_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = planted("(px[c] - 128)", "(px[c] - 127)")
    monkeypatch.setattr("qgen.verify.verify_model", lambda *a, **k: verdict)
    with pytest.raises(AssertionError, match=r"conv2d 'c1' .* golden says"):
        assert_equal("tiny.qg")
