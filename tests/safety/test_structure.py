"""No recursion, no call through a pointer, no array of variable length; a stack that is known."""

from __future__ import annotations

import re
from pathlib import Path

import networkx as nx
import pytest

from qgen.targets import TARGETS
from qgen.toolchain.cc import compile_c, stack_bound
from tests.safety.programs import EVERY_OP, SMALL, lowered, write

NO_VLA = ("-Wvla", "-Walloca", "-Werror")
# A declarator of a pointer to a function, as in `int (*f)(void)`.
FUNCTION_POINTER = re.compile(r"\(\s*\*\s*(const\s+)?\w*\s*\)\s*\(")


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*SMALL, EVERY_OP[0]])
def test_structure(name: str, target: str, tmp_path: Path) -> None:
    low = lowered(name, target)
    source = write(low, tmp_path)
    for path in (source, source.with_suffix(".h")):
        assert not FUNCTION_POINTER.search(without_comments(path.read_text()))
    tool = low.target.toolchain
    made = compile_c(tool, [source], tmp_path / "model.o", extra=NO_VLA, link=False)
    assert not made.dynamic
    if made.callgraph is None:
        pytest.skip("the compiler writes no call graph")
    assert nx.is_directed_acyclic_graph(made.callgraph)
    assert "__indirect_call" not in made.callgraph
    stack = stack_bound(made, f"{low.name}_run")
    # Among random ops are some whose result is one value: for these gcc calls memset, which
    # `qgen compile` refuses.
    assert stack.exact or (name in EVERY_OP and stack.external == ("memset",))
    assert stack.bytes <= low.target.stack_bytes


def test_a_function_pointer_is_found() -> None:
    assert FUNCTION_POINTER.search("void f(int (*g)(int));")
    assert FUNCTION_POINTER.search("typedef int (* const op)(void);")
    assert not FUNCTION_POINTER.search("y = (int8_t)(*x) + f(*x);")
