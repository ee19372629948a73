"""The embedded vector: equal on every target, and the op that a fault sits in is named."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from qgen.emit import emit
from qgen.errors import QgenError
from qgen.frontend import load_model
from qgen.ir import interp
from qgen.ir.graph import Graph
from qgen.lower import Lowered, lower
from qgen.passes.legalize import legalize
from qgen.selftest import INCREMENT, MULTIPLIER, SEED, crc_table, pseudo_random, vector
from qgen.targets import TARGETS
from qgen.toolchain.cc import compile_c, find_compiler, stack_bound
from qgen.toolchain.emulator import run, run_command
from qgen.verify.harness import SANITIZE, UNKNOWN_ORIGIN, WARNINGS
from tests.models import forked, tiny

ROOT = Path(__file__).parents[2]
MODELS = ROOT.parent / "shared" / "models"

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

# Prints the result and its op; memory is poisoned, and a byte behind it must survive.
MAIN = """
#include <stdio.h>
#include <string.h>
#define P_SELFTEST
#define P_IMPLEMENTATION
#include "p.h"
static P_ALIGNED unsigned char memory[P_SELFTEST_BYTES + 1];
int main(void)
{
    int result;
    memset(memory, 0xA5, sizeof memory);
    if (p_selftest(NULL) != P_ERROR_NULL || p_selftest(memory + 1) != P_ERROR_ALIGNMENT)
        return 1;
    for (result = 0; result <= P_SELFTEST_BYTES; ++result)
        if (memory[result] != 0xA5)
            return 2;
    result = p_selftest(memory);
    printf("%d %s\\n", result, p_selftest_op(result));
    return memory[P_SELFTEST_BYTES] == 0xA5 ? 0 : 3;
}
"""


def outcome(
    lowered: Lowered, folder: Path, text: str | None = None, extra: tuple[str, ...] = ()
) -> str:
    """What the selftest of a model prints; it takes no more stack than the header promises."""
    name = lowered.name
    header = text or emit(lowered, UNKNOWN_ORIGIN)[f"{name}.h"]
    (folder / f"{name}.h").write_text(header, encoding="ascii")
    source = folder / "main.c"
    main = MAIN.replace("p_", f"{name}_").replace("P_", f"{name.upper()}_")
    source.write_text(main.replace("p.h", f"{name}.h"))
    tool = lowered.target.toolchain
    made = compile_c(tool, [source], folder / "main", extra=(*WARNINGS, *extra))
    if not extra:
        assert stack_bound(made, f"{name}_selftest").bytes <= lowered.target.stack_bytes
    done = run(tool, folder / "main", timeout=120)
    assert done.returncode == 0
    return done.stdout.decode().strip()


def runnable(target: str) -> None:
    """Skip where the target's compiler or emulator is not installed."""
    try:
        find_compiler(TARGETS[target].toolchain)
        run_command(TARGETS[target].toolchain, Path(__file__))
    except QgenError as e:
        pytest.skip(str(e))


def digits() -> Graph:
    return load_model(ROOT / "examples" / "digits" / "digits.qg")


def test_generator_is_the_loop_that_c_runs() -> None:
    state, expected = SEED, []
    for _ in range(1000):
        state = (MULTIPLIER * state + INCREMENT) % 2**32
        expected.append(state >> 24)
    values, last = pseudo_random(1000, SEED)
    assert values.tolist() == expected and last == state
    first, between = pseudo_random(3, SEED)
    second, _ = pseudo_random(997, between)
    assert [*first.tolist(), *second.tolist()] == expected


def test_generator_reaches_every_value() -> None:
    counts = np.bincount(pseudo_random(2**16, SEED)[0], minlength=256)
    assert counts.min() > 180 and counts.max() < 340


def test_table_is_that_of_zlib() -> None:
    table = crc_table()
    for data in (b"", b"a", b"123456789", bytes(range(256))):
        crc = 0xFFFFFFFF
        for byte in data:
            crc ^= byte
            crc = crc >> 4 ^ table[crc & 15]
            crc = crc >> 4 ^ table[crc & 15]
        assert crc ^ 0xFFFFFFFF == zlib.crc32(data)


def test_vector_is_golden_as_it_is_stored() -> None:
    lowered = lower(tiny(), TARGETS["portable"])
    made = vector(lowered)
    values = interp.run_all(legalize(tiny()), made.inputs)
    # c1 and c2 are u8 in the model and i8, 128 lower, in the file.
    stored = [values["c1"] ^ 128, values["c2"] ^ 128, values["total"], values["flat"]]
    assert made.crcs == tuple(zlib.crc32(v.tobytes()) for v in stored)


def test_inputs_of_one_model_differ() -> None:
    left, right = vector(lower(forked(), TARGETS["portable"])).inputs
    assert left.shape == right.shape and not np.array_equal(left, right)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("graph", [tiny(), forked(), digits()], ids=["tiny", "forked", "digits"])
def test_equal_on_every_target(graph: Graph, target: str, tmp_path: Path) -> None:
    runnable(target)
    assert outcome(lower(graph, TARGETS[target]), tmp_path) == "0 no op"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["kws_ref_model", "vww_96_int8", "mobilenet_v1_0.25_128_quant"])
def test_equal_on_real_models(name: str, target: str, tmp_path: Path) -> None:
    """Buffers are reused in the arena: each result is looked at before it is overwritten."""
    runnable(target)
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("the folder of shared models is absent")
    assert outcome(lower(load_model(path), TARGETS[target]), tmp_path) == "0 no op"


def weight_changed(text: str, symbol: str) -> str:
    """The header with one number of a constant changed."""
    start = text.index("{", text.index(f" {symbol}[")) + 1
    end = text.index(",", start)
    return text[:start] + f" {int(text[start:end]) ^ 64}" + text[end:]


@pytest.mark.parametrize("target", TARGETS)
def test_changed_weight_names_its_op(target: str, tmp_path: Path) -> None:
    runnable(target)
    lowered = lower(digits(), TARGETS[target])
    text = emit(lowered, UNKNOWN_ORIGIN)["digits.h"]
    step = next(s for s in lowered.steps if s.op.name == "branch")
    (key,) = (k for k in step.prepared.constants if k.startswith("w"))
    changed = weight_changed(text, f"digits_{key}_{step.index:02d}")
    assert outcome(lowered, tmp_path, changed) == f"{step.index + 1} branch"


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("(px[c] - 128)", "(px[c] - 127)", "1 c1"),
        ("(px[c] + 28)", "(px[c] + 27)", "2 c2"),
        ("(tiny_clamp(v, -90, 165) + 90)", "(tiny_clamp(v, -90, 165))", "3 total"),
        # A fault of the machine between two ops: the result of the free op is no longer there.
        ("    TINY_TRACE(3, output, 512);\n    if", "    output[511] ^= 1;\n    if", "4 flat"),
    ],
)  # fmt: skip
def test_changed_kernel_names_its_op(old: str, new: str, shown: str, tmp_path: Path) -> None:
    lowered = lower(tiny(), TARGETS["portable"])
    text = emit(lowered, UNKNOWN_ORIGIN)["tiny.h"]
    assert old in text
    assert outcome(lowered, tmp_path, text.replace(old, new, 1)) == shown


@pytest.mark.parametrize("graph", [tiny(), forked(), digits()], ids=["tiny", "forked", "digits"])
def test_clean_under_sanitizers(graph: Graph, tmp_path: Path) -> None:
    assert outcome(lower(graph, TARGETS["portable"]), tmp_path, extra=SANITIZE) == "0 no op"


def test_costs_nothing_unless_asked_for(tmp_path: Path) -> None:
    """Without the macro no byte of it is in the object."""
    lowered = lower(tiny(), TARGETS["portable"])
    (tmp_path / "tiny.h").write_text(emit(lowered, UNKNOWN_ORIGIN)["tiny.h"])
    (tmp_path / "use.c").write_text('#define TINY_IMPLEMENTATION\n#include "tiny.h"\n')
    compile_c(lowered.target.toolchain, [tmp_path / "use.c"], tmp_path / "use.o", link=False)
    assert b"selftest" not in (tmp_path / "use.o").read_bytes()


def test_stripes(tmp_path: Path) -> None:
    """Every stripe has its part of golden's tensor; slices of the input too."""
    path = MODELS / "vww_96_int8.tflite"
    if not path.exists():
        pytest.skip("the folder of shared models is absent")
    lowered = lower(load_model(path), TARGETS["portable"], ram=26 * 1024)
    assert any(part.of == lowered.model.inputs[0].name for part in lowered.parts.values())
    assert outcome(lowered, tmp_path) == "0 no op"
