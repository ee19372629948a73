"""The house in order: what every op must have, no file too long. Imports: test_imports.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from qgen.emit import emit
from qgen.ir.op import registry
from qgen.ir.types import Rounding
from qgen.lower import Lowered, lower
from qgen.package import SYSTEMS
from qgen.render import environment
from qgen.targets import TARGETS
from qgen.targets.portable import PORTABLE
from qgen.verify.harness import UNKNOWN_ORIGIN
from tests.ops import strategies

ROOT = Path(__file__).parents[1]
QGEN = ROOT / "qgen"
TEMPLATES = QGEN / "templates"
OPS = registry()
ROWS = [row for target in TARGETS.values() for row in target.kernels]


@pytest.mark.parametrize("name", OPS)
def test_op_is_one_slice(name: str) -> None:
    """The same name finds the op, its portable row, its template and its random cases."""
    assert OPS[name].__module__ == f"qgen.ir.ops.{name}"
    assert (QGEN / "ir" / "ops" / f"{name}.py").is_file()
    assert [row for row in PORTABLE.kernels if row.op == name], "no portable row"
    assert name in strategies.OPS, "no case in tests/ops/strategies.py"
    doc = (OPS[name].__doc__ or "").strip()
    assert doc and "Op(" not in doc, "no docstring"


def test_rows_and_ops_know_each_other() -> None:
    assert {row.op for row in ROWS} == set(OPS) == set(strategies.OPS)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_template_exists(row: object) -> None:
    assert (TEMPLATES / row.template).is_file()  # type: ignore[attr-defined]


@cache
def programs(target: str) -> tuple[Lowered, ...]:
    """Programs that use every row and helper; tests/ops/test_kernels.py proves that they do."""
    return tuple(
        lower(strategies.program(name, rounding, 40, 0), TARGETS[target])
        for name in strategies.OPS
        for rounding in Rounding
    )


def _included(template: str) -> Iterator[str]:
    """`template` and those that it imports or includes."""
    yield template
    text = (TEMPLATES / template).read_text()
    for name in re.findall(r'(?:import|include|from)\s+"([^"]+\.j2)"', text):
        yield from _included(name)


def test_every_template_is_used() -> None:
    roots = {row.template for row in ROWS}
    for target in TARGETS:
        roots |= {h.template for p in programs(target) for s in p.steps for h in s.prepared.helpers}
    # Printed by these themselves.
    for name in ("emit.py", "verify/harness.py", "profile/program.py"):
        module = QGEN / name
        roots |= set(re.findall(r'"([\w/]+\.(?:[ch]\.)?j2)"', module.read_text()))
    files = {file for system in SYSTEMS.values() for file in system.files}
    roots |= {f"package/{file}.j2" for file in (*files, "library.c")}
    used = {t for root in roots for t in _included(root)}
    there = {p.relative_to(TEMPLATES).as_posix() for p in TEMPLATES.rglob("*.j2")}
    assert there == used


def test_every_template_parses() -> None:
    for name in environment().list_templates():
        if name.endswith(".j2"):
            environment().get_template(name)


def test_nothing_asks_for_a_target_by_name() -> None:
    """A target is data: no comparison with a target's name anywhere in the compiler."""
    for path in QGEN.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                words = {s.value for s in sides if isinstance(s, ast.Constant)}
                assert not words & set(TARGETS), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_source_file_is_too_long() -> None:
    folders = [ROOT / name for name in ("qgen", "tests", "examples", "benchmarks", "docs")]
    files = [
        p for folder in folders for p in folder.rglob("*") if p.suffix in (".py", ".j2", ".lark")
    ]
    assert len(files) > 100
    long = {p.relative_to(ROOT).as_posix(): n for p in files if (n := len(_lines(p))) > 400}
    assert not long


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize("target", TARGETS)
def test_generated_c_has_no_floating_point(target: str) -> None:
    for program in programs(target):
        (text,) = emit(program, UNKNOWN_ORIGIN).values()
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        # Scales of the caller's tensors are macros, for the caller's own arithmetic.
        code = re.sub(r"#(?:define \w+_SCALE|error) .*", "", code)
        found = re.findall(
            r"\b(?:float|double|float32_t|float32x\d+_t)\b|math\.h|\w*_f(?:16|32|64)\b"
            r"|\bf(?:add|mul|mla|div|cvt)\w* ",
            code,
        )
        found += re.findall(r"\d\.\d", re.sub(r'"[^"\n]*"', "", code))
        assert not found, f"{program.name}: {found[:5]}"
        assert text.isascii()
