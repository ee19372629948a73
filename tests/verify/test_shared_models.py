"""Real models, trained by others: generated C equals golden on every target, within the arena."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgen.compile import compile_model
from qgen.frontend import load_model
from qgen.lower import lower
from qgen.targets import TARGETS
from qgen.verify import verify_lowered

MODELS = Path(__file__).parents[3] / "shared" / "models"

# Liveness peak of the activations in bytes, and inputs to run: big models take a second each.
CASES = {
    "hello_world_int8": (32, 20),
    "ad01_int8": (256, 20),
    "kws_ref_model": (16_000, 20),
    "pretrainedResnet_quant": (49_152, 20),
    "vww_96_int8": (55_296, 20),
    "mobilenet_v1_0.25_128_quant": (98_304, 8),
    "mobilenet_v1_0.5_160_quant": (307_200, 4),
    "mobilenet_v2_1.0_224_quant": (1_505_280, 2),
}


# Arena over the liveness peak of the tensors alone: scratch of the kernels is what exceeds it.
# SMMLA reads panels of interleaved rows, which take 4,416 bytes beside the widest ops of resnet.
MOST = {"aarch64+i8mm": 1.09}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_equals_golden(name: str, target: str) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("the folder of shared models is absent")
    peak, inputs = CASES[name]
    lowered = lower(load_model(path), TARGETS[target])
    plan = lowered.plan
    assert plan.liveness_peak_bytes <= plan.arena_bytes <= MOST.get(target, 1.05) * peak
    verdict = verify_lowered(lowered, inputs=inputs)
    assert verdict, str(verdict)
    assert verdict.inputs == inputs


# What must hold for every MobileNet: bytes of code, without weights.
CODE = 48 * 1024
MACHINES = [
    ("aarch64", "cortex-a53"),
    ("aarch64", None),
    ("aarch64+dotprod", "cortex-a55"),
    ("aarch64+dotprod", "cortex-a76"),
    ("aarch64+i8mm", None),
    ("armv7a", None),
]


@pytest.mark.parametrize(("target", "cpu"), MACHINES)
@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("mobilenet")])
def test_code_of_mobilenets(name: str, target: str, cpu: str | None, tmp_path: Path) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("the folder of shared models is absent")
    made = compile_model(path, target, cpu=cpu, out=tmp_path / "model.h")
    assert made.sizes is not None
    assert made.sizes.text_bytes <= CODE


# Arena in bytes to keep to, most MACs computed twice as a share, inputs.
BUDGETS = {
    "vww_96_int8": (36 * 1024, 0.02, 4),
    "mobilenet_v1_0.25_128_quant": (60 * 1024, 0.02, 4),
    "mobilenet_v2_1.0_224_quant": (400_000, 0.02, 1),
}


@pytest.mark.parametrize("target", ["portable", "aarch64"])
@pytest.mark.parametrize("name", BUDGETS)
def test_equals_golden_in_stripes(name: str, target: str) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("the folder of shared models is absent")
    arena, share, inputs = BUDGETS[name]
    chosen = TARGETS[target]
    lowered = lower(load_model(path), chosen, ram=arena + chosen.stack_bytes)
    lowered.plan.check()
    assert lowered.chains and lowered.plan.arena_bytes <= arena
    assert lowered.macs_again <= share * sum(op.cost().macs for op in lowered.model.ops)
    verdict = verify_lowered(lowered, inputs=inputs)
    assert verdict, str(verdict)
