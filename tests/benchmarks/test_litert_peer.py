"""What can go wrong while LiteRT is set up, in one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import litert_peer
from benchmarks.litert_peer import PeerFigures
from qgen.errors import QgenError


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in the compiler's place."""
    tool = folder / "aarch64-linux-gnu-gcc"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_no_cross_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QgenError, match="cross-compiler 'aarch64-linux-gnu-gcc' not found"):
        litert_peer.set_up(tmp_path)


def test_no_cxx_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # gcc repeats the name of a library that it does not find.
    compiler(tmp_path, monkeypatch, "echo libstdc++.so.6")
    with pytest.raises(QgenError, match="no C\\+\\+ library for AArch64"):
        litert_peer.set_up(tmp_path)


def test_the_wheel_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(tmp_path, monkeypatch, "echo /usr/aarch64-linux-gnu/lib/libstdc++.so.6")
    monkeypatch.setattr(litert_peer, "_PIP", ("no-such-command",))
    with pytest.raises(QgenError, match=r"cannot fetch ai-edge-litert 1\.4\.0: .*no-such-command"):
        litert_peer.set_up(tmp_path / "build")
    assert not (tmp_path / "build").exists()


def test_the_program_does_not_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / litert_peer._WHEEL / "ai_edge_litert" / "libLiteRtRuntimeCApi.so"
    library.parent.mkdir(parents=True)
    library.touch()
    script = (
        'case $1 in -print*) echo /x/lib/libstdc++.so.6;; *) echo "bad library" >&2; exit 1;; esac'
    )
    compiler(tmp_path, monkeypatch, script)
    with pytest.raises(QgenError, match="the LiteRT program does not build: bad library"):
        litert_peer.set_up(tmp_path)


def test_the_better_kernels_count() -> None:
    found = PeerFigures({"xnn": 50.0, "ruy": 40.0}, {"xnn": 1, "ruy": 2})
    assert found.better == 40.0


def test_a_model_that_litert_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_peer.count, "per_inference", lambda *a, **k: 1.0)
    emulator = tmp_path / "qemu-aarch64"
    emulator.write_text("#!/bin/sh\necho no such op >&2; exit 1\n")
    emulator.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    peer = litert_peer.Peer(tmp_path / "peer", tmp_path)
    with pytest.raises(QgenError, match=r"LiteRT cannot run m\.tflite: no such op"):
        litert_peer.measure(peer, Path("m.tflite"), "cortex-a53")
