"""Whatever goes wrong: one clear line, the right exit code, nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qgen.cli.ops
from qgen.__main__ import main
from qgen.errors import QgenError
from qgen.files import write_files

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def line(capsys: pytest.CaptureFixture[str], words: list[str], code: int = 2) -> str:
    """The line on stderr; stdout is empty and no file appears."""
    before = sorted(Path().rglob("*"))
    assert main(words) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert sorted(Path().rglob("*")) == before
    assert "Traceback" not in said.err
    return said.err


PORTABLE = ["--target", "portable"]
CASES = """qgen 1
model cases rounding(gemmlowp)
input X : i8[4] quant(scale=0.1, zero=0)
input x : i8[4] quant(scale=0.2, zero=0)
y = add(X, x) : i8[4] quant(scale=0.3, zero=0)
output y
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "arguments are required: COMMAND (see qgen --help)"),
        (["complie", "tiny.qg"], "invalid choice: 'complie'"),
        (["compile"], "required: MODEL (see qgen compile --help)"),
        (["compile", "tiny.qg", "--frob"], "unrecognized arguments: --frob"),
        (["compile", "absent.tflite"], "absent.tflite: cannot read the model: No such file"),
        (["compile", "absent.qg"], "absent.qg: cannot read the model: No such file"),
        (["compile", "folder.tflite"], "folder.tflite: cannot read the model: Is a directory"),
        (["compile", "notes.txt"], "notes.txt: unknown model format '.txt' (use .qg or .tflite)"),
        (["compile", "bad.qg"], "bad.qg:"),
        (["compile", "lone.qg"], "keep it beside the model"),
        (["compile", "tiny.qg", "--target", "aarch46"], "unknown target 'aarch46' (did you mean"),
        (["compile", "tiny.qg", "--target", "vax"], "unknown target 'vax' (known: "),
        (["compile", "tiny.qg", "--cpu", "cortex-a35x"], "unknown cpu 'cortex-a35x' (did you mean"),
        (["inspect", "tiny.qg", "--cpu", ""], "unknown cpu '' (known: cortex-a53, "),
        (["verify", "tiny.qg", "--target", "aarch64+i8mm", "--cpu", "cortex-a76"], "lacks i8mm, "),
        (["compile", "tiny.qg", *PORTABLE, "--cpu", "cortex-a76"], "portable is for no cpu in"),
        (["compile", "tiny.qg", "--name", "int"], "'int' is a keyword of C or C++ (rename it)"),
        (["compile", "tiny.qg", "--name", "NULL"], "'NULL' is a macro of C (rename it)"),
        (["compile", "tiny.qg", "--name", "stdint"], "that of a C header (rename it)"),
        (["compile", "tiny.qg", "-o", "tiny.qg"], "tiny.qg is the model, it is not overwritten"),
        (["compile", "tiny.qg", "-o", "notes.txt/t.h"], "notes.txt/t.h: not a directory"),
        (["compile", "cases.qg"], "inputs 'X' and 'x' would share the macros of the header"),
        (["compile", "tiny.qg", "--name", "3d"], "model name '3d' is not an identifier"),
        (["compile", "tiny.qg", "--name", ""], "model name '' is not an identifier"),
        (["compile", "tiny.qg", "--max-ram", "lots"], "'lots' is not a size such as 65536, 64K"),
        (["verify", "tiny.qg", "--inputs", "0"], "--inputs: '0' is not a positive number"),
        (["verify", "tiny.qg", "--inputs", "9" * 20], "99999' is more than 1000000000"),
        (["verify", "tiny.qg", "--seed", "-1"], "--seed: '-1' is not a number from 0"),
        (["verify", "tiny.qg", "--oracle", "litert"], "the litert oracle needs a .tflite model"),
        (["verify", "absent.tflite"], "absent.tflite: cannot read the model"),
        (["import", "tiny.qg", "-o", "no/such/t.qg"], "cannot write"),
        (["import", "tiny.qg", "-o", "t.txt"], "t.txt would be written as text (end its name in"),
        (["inspect", "tiny.qg", "--plot", "t.png"], "t.png would be a picture in SVG (end its"),
        (["inspect", "tiny.qg", "--plot", "no/such.svg"], "cannot write no/such.svg: no such file"),
        (["run", "tiny.qg", "-o", "y.npy"], "arguments are required: --input"),
        (["run", "tiny.qg", "--input", "absent.npy", "-o", "y.npy"], "cannot read absent.npy: no "),
        (["run", "tiny.qg", "--input", "notes.txt", "-o", "y.npy"], "notes.txt is not a .npy file"),
        (["run", "tiny.qg", "--input", "empty.npy", "-o", "y.npy"], "empty.npy is not a .npy file"),
        (["run", "tiny.qg", "--input", "tiny.npz", "-o", "y.npy"], "give one array per --input"),
        (["run", "tiny.qg", "--input", "f.npy", "-o", "y.npy"], "[1, 8, 8, 3], got float64[2]"),
        (["run", "forked.qg", "--input", "f.npy", "-o", "y.npz"], "takes 2 inputs, got 1"),
        (["run", "forked.qg", "--input", "f.npy", "-o", "y.npy"], "write them to a .npz file"),
    ],
)  # fmt: skip
def test_refused(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (here / "folder.tflite").mkdir()
    (here / "notes.txt").write_text("not a model")
    (here / "bad.qg").write_text("qgen 1\nmodel bad rounding(gemmlowp)\ninput x ! u8[1]\n")
    (here / "lone.qg").write_text((here / "tiny.qg").read_text().replace("tiny.npz", "lone.npz"))
    (here / "cases.qg").write_text(CASES)
    (here / "empty.npy").write_bytes(b"")
    np.save("f.npy", np.zeros(2))
    said = line(capsys, words)
    assert said.startswith("qgen: error: ")
    assert message in said
    assert said.count("\n") == 1 or said.rstrip().endswith("^")


def test_syntax_error_shows_a_caret(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.qg").write_text("qgen 1\nmodel bad rounding(gemmlowp)\ninput x ! u8[1]\n")
    first, source, caret = line(capsys, ["compile", "bad.qg"]).splitlines()
    assert first.startswith("qgen: error: bad.qg:3:9: ")
    assert source == "  input x ! u8[1]"
    assert caret == "  " + " " * 8 + "^"


@needs_cc
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-ram", "100"], "bytes of RAM ("),
        (["--max-flash", "1K"], "bytes of flash ("),
        (["-o", "no/such/tiny.h"], "cannot write no/such/tiny.h: no such file or directory"),
        (["-o", "."], "cannot write .: it is a directory (give a file name)"),
        (
            ["-o", ".", "--split"],
            "cannot write .: it is a directory, not a header (give a file name",
        ),
        (["-o", "tiny.c", "--split"], "tiny.c is to be the header (-o takes the name of the .h"),
    ],
)
def test_compile_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in line(capsys, ["compile", "tiny.qg", *PORTABLE, *words])


@needs_cc
def test_both_budgets_in_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", "tiny.qg", *PORTABLE, "--max-ram", "1", "--max-flash", "2"]
    said = line(capsys, words)
    assert said.startswith("qgen: error: tiny needs ")
    assert "the budget is 1; and " in said and "the budget is 2 (the smallest" in said


def test_budget_that_no_stripes_meet(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = line(capsys, ["inspect", "tiny.qg", *PORTABLE, "--max-ram", "1200"])
    assert said.startswith("qgen: error: tiny does not fit 1200 bytes of RAM (the smallest that ")
    assert "keep to is 1536 (512 arena + 1024 stack at most), the obstacle is " in said


@needs_cc
def test_verify_checks_the_budget(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "tiny.qg", *PORTABLE, "--inputs", "1", "--max-ram", "1"]) == 2
    said = capsys.readouterr()
    assert "equals golden" in said.out and "the budget is 1" in said.err


@pytest.fixture
def no_tools(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "empty").mkdir()
    monkeypatch.setenv("PATH", str(here / "empty"))


def test_compile_without_compiler(
    no_tools: None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "tiny.qg", *PORTABLE]) == 0
    said = capsys.readouterr()
    assert (here / "tiny.h").exists()
    assert said.err.startswith("qgen: sizes were not measured: no C compiler for portable")
    assert said.err.count("\n") == 1


def test_budget_without_compiler(no_tools: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", "tiny.qg", *PORTABLE, "--max-ram", "1M"]
    assert "no C compiler for portable" in line(capsys, words)


def test_verify_without_compiler(no_tools: None, capsys: pytest.CaptureFixture[str]) -> None:
    said = line(capsys, ["verify", "tiny.qg"])
    assert "no C compiler for aarch64" in said and "apt-get install" in said


@pytest.mark.parametrize("command", ["compile", "verify"])
@pytest.mark.parametrize(
    ("cpu", "needed"), [("cortex-a55", "gcc >= 8 or clang >= 7"), ("cortex-a510", "gcc >= 10 or ")]
)
def test_compiler_too_old(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    cpu: str,
    needed: str,
) -> None:
    """A compiler of 2016: it takes no architecture after ARMv8.1."""
    old = here / "old-gcc"
    old.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "*-dumpversion*) echo 6.1.0 ;;\n"
        "*-march=armv8.[2-9]*) echo \"error: unknown value for '-march'\" >&2; exit 1 ;;\n"
        "esac\n"
    )
    old.chmod(0o755)
    monkeypatch.setenv("QGEN_CC", str(old))
    said = line(capsys, [command, "tiny.qg", "--cpu", cpu])
    assert said.startswith("qgen: error: old-gcc 6.1.0 cannot compile for aarch64+")
    assert "unknown value for '-march' (needs " + needed in said
    assert said.count("\n") == 1


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="needs the aarch64 compiler")
def test_verify_without_emulator(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgen.toolchain.emulator._NATIVE_HOSTS", {})
    which = shutil.which
    monkeypatch.setattr(
        "qgen.toolchain.emulator.shutil.which", lambda n: None if "qemu" in n else which(n)
    )
    assert "emulator 'qemu-aarch64' for aarch64 not found" in line(capsys, ["verify", "tiny.qg"])


def raising(error: BaseException) -> Any:
    def run(args: object) -> int:
        raise error

    return run


def test_a_bug_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QGEN_DEBUG", raising=False)
    monkeypatch.setattr(qgen.cli.ops, "run", raising(ZeroDivisionError("by zero")))
    said = line(capsys, ["ops"], code=70)
    assert said.startswith("qgen: this is a bug of qgen") and "ZeroDivisionError: by zero" in said
    assert "please report it" in said and said.count("\n") == 1
    monkeypatch.setenv("QGEN_DEBUG", "1")
    assert main(["ops"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "standard output: no space left on device"),
        (PermissionError(13, "Permission denied", "/tmp/x"), "/tmp/x: permission denied"),
        (MemoryError(), "not enough memory for this model"),
    ],
)
def test_what_the_machine_refuses(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    message: str,
) -> None:
    monkeypatch.setattr(qgen.cli.ops, "run", raising(error))
    monkeypatch.setattr("qgen.__main__._drop_output", lambda: None)
    assert line(capfd, ["ops"]) == f"qgen: error: {message}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_a_pipe() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qgen", "ops"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr == b"qgen: error: standard output: no space left on device\n"


def test_interrupt_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qgen.cli.ops, "run", raising(KeyboardInterrupt()))
    assert line(capsys, ["ops"], code=130) == ""


def test_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "qgen", "ops", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("before")
    with pytest.raises(QgenError, match=r"cannot write .*none/new: no such file or directory"):
        write_files({old: b"after", tmp_path / "none" / "new": b"x"})
    assert old.read_text() == "before"
    assert list(tmp_path.iterdir()) == [old]


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_files({tmp_path / "link": b"text", Path(os.devnull): b"text"})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"text"
    assert Path(os.devnull).is_char_device()


def test_read_only_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    kept.write_text("before")
    kept.chmod(0o444)
    if os.geteuid() == 0:
        # Root may write everywhere, so the answer that others get stands in.
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(QgenError, match="permission denied"):
        write_files({kept: b"after"})
    assert kept.read_text() == "before"
