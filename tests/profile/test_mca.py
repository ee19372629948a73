"""Cycles by llvm-mca: known costs, and what is said where it is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qgen.errors import QgenError
from qgen.profile import mca, peak
from qgen.profile.blocks import Code
from qgen.targets import CPUS, TARGETS

A53, A76 = CPUS["cortex-a53"], CPUS["cortex-a76"]
# Each result is the next one's operand.
CHAIN = "\n".join(["mul x0, x0, x1"] * 4)
NEON = TARGETS["aarch64"].features


def test_a_chain_costs_its_latency_and_alone_its_units() -> None:
    (cost,) = mca.costs(mca.find_tools(), A76, NEON, [CHAIN]).values()
    assert cost.repeated > cost.throughput >= 4
    assert cost.on(A76, loop=True) == cost.repeated
    assert cost.on(A76, loop=False) == cost.throughput
    # In order, nothing overlaps with its neighbours.
    assert cost.on(A53, loop=False) == cost.repeated


def test_equal_code_is_asked_for_once() -> None:
    found = mca.costs(mca.find_tools(), A53, NEON, [CHAIN, "nop", CHAIN])
    assert list(found) == [CHAIN, "nop"]


@pytest.mark.parametrize("name", CPUS)
def test_every_core_has_a_peak(name: str) -> None:
    core = CPUS[name]
    features = TARGETS[core.target].features
    texts = [m.text for m in peak.multiplies(features)]
    try:
        costs = mca.costs(mca.find_tools(), core, features, texts)
    except QgenError as e:
        # The core may be younger than the LLVM that is here.
        assert f"'{core.model}' is not a recognized processor" in str(e)
        return
    found = peak.peak(features, costs)
    assert found
    # Between one multiply in two cycles and four in one.
    macs = peak.macs_per_instruction(features)
    assert macs / 2 <= found.rate <= 4 * macs


def test_peaks() -> None:
    assert peak.peak(frozenset({"c99"}), {}) is None
    assert peak.macs_per_instruction(frozenset({"c99"})) == 1
    widest = {name: peak.macs_per_instruction(t.features) for name, t in TARGETS.items()}
    assert widest["aarch64"] == 8
    assert widest["aarch64+dotprod"] == 16
    assert widest["aarch64+i8mm"] == 32


@pytest.mark.parametrize(
    ("line", "macs"),
    [
        ("smull v0.8h, v1.8b, v2.8b", 8),
        ("smlal2\tv0.8h, v1.16b, v2.16b", 8),
        ("mla v0.8h, v1.8h, v2.h[0]", 8),
        ("sdot v0.4s, v1.16b, v2.4b[1]", 16),
        ("smmla v0.4s, v1.16b, v2.16b", 32),
        ("vmlal.s8 q0, d1, d2", 8),
        ("smull v0.2d, v1.2s, v2.2s", 0),
        ("sadalp v0.4s, v1.8h", 0),
    ],
)
def test_macs_of_code(line: str, macs: int) -> None:
    assert peak.macs_of(f"nop\n{line}") == macs


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_newest_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("llvm-mca", "llvm-mca-16", "llvm-mca-19", "llvm-objdump-19", "llvm-objdump"):
        script(tmp_path / name, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mca.find_tools() == mca.Tools(
        str(tmp_path / "llvm-mca-19"), str(tmp_path / "llvm-objdump-19")
    )
    monkeypatch.setenv("QGEN_MCA", str(tmp_path / "llvm-mca"))
    assert mca.find_tools().objdump == str(tmp_path / "llvm-objdump")


def test_missing_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., Path]
) -> None:
    folder = only()
    with pytest.raises(QgenError, match=r"llvm-mca not found \(apt-get install llvm, or set QGEN"):
        mca.find_tools()
    monkeypatch.setenv("QGEN_MCA", "my-mca")
    with pytest.raises(QgenError, match=r"QGEN_MCA: 'my-mca' not found \(correct it or unset it"):
        mca.find_tools()
    script(folder / "my-mca", "")
    with pytest.raises(QgenError, match="my-mca has no my-objdump beside it"):
        mca.find_tools()


def test_no_model_of_a_core() -> None:
    tools = mca.find_tools()
    with pytest.raises(QgenError, match="LLVM has no scheduling model of cortex-a53 "):
        mca.costs(tools, replace(A53, model=""), NEON, ["nop"])
    unknown = replace(A53, model="cortex-a7", triple="armv7a-linux-gnueabihf")
    with pytest.raises(QgenError, match="cannot estimate cycles: unable to find instruction-level"):
        mca.costs(tools, unknown, frozenset({"neon"}), ["nop"])


def test_code_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(QgenError, match="cannot estimate cycles: "):
        mca.costs(mca.find_tools(), A53, NEON, ["frobnicate x0"])
    script(tmp_path / "llvm-mca", "exit 3")
    with pytest.raises(QgenError, match="llvm-mca cannot estimate cycles: exit code 3"):
        mca.costs(mca.Tools(str(tmp_path / "llvm-mca"), ""), A53, NEON, ["nop"])


A9 = replace(A53, model="cortex-a9", triple="armv7-linux-gnueabihf")
THUMB = "it ge\nmvnge r3, #0\nadds r3, r3, r3"


def test_thumb_and_what_a_model_lacks() -> None:
    """LLVM's cortex-a9 knows no `it`: it costs the mean of the others."""
    tools = mca.find_tools()
    neon = frozenset({"neon"})
    if mca._lenient(tools.mca):
        plain, lone = mca.costs(tools, A9, neon, [THUMB, "it ge"], thumb=True).values()
        assert plain.throughput == 1.5 and lone.repeated == 1
    else:
        with pytest.raises(QgenError, match=r"cannot estimate cycles: found an unsupported \w+"):
            mca.costs(tools, A9, neon, [THUMB], thumb=True)
    with pytest.raises(QgenError, match="cannot estimate cycles"):
        mca.costs(tools, A9, neon, ["frob"], thumb=True)


def test_thumb_is_recognized(tmp_path: Path) -> None:
    tool = tmp_path / "objdump"
    script(tool, "printf '  10: nop\\n  12: bx lr\\n'")
    assert Code(tmp_path, str(tool), 0, 32).thumb
    script(tool, "printf '  10: nop\\n  14: bx lr\\n'")
    assert not Code(tmp_path, str(tool), 0, 32).thumb
