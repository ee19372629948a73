"""Arena sizes of the shared models: the liveness peak itself, for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgen.plan.memory import plan_memory
from qgen.plan.schedule import schedule

MODELS = Path(__file__).parents[3] / "shared" / "models"
PEAKS = {
    "kws_ref_model": 16_000,
    "vww_96_int8": 55_296,
    "pretrainedResnet_quant": 49_152,
    "mobilenet_v1_0.25_128_quant": 98_304,
    "mobilenet_v1_0.5_160_quant": 307_200,
    "mobilenet_v2_1.0_224_quant": 1_505_280,
}


@pytest.mark.parametrize("name", PEAKS)
def test_arena_is_the_liveness_peak(name: str) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("the folder of shared models is absent")
    tflite = pytest.importorskip("qgen.frontend.tflite", reason="the extra 'tflite' is missing")
    graph = schedule(tflite.load(path))
    plan = plan_memory(graph)
    plan.check()
    assert plan.liveness_peak_bytes == plan.arena_bytes == PEAKS[name]
