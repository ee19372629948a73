"""Sections and symbols of small objects with known contents."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgen.errors import QgenError
from qgen.toolchain.cc import Toolchain, compile_c
from qgen.toolchain.elf import ElfFacts, facts


def compiled(tc: Toolchain, source: Path, *extra: str) -> ElfFacts:
    obj = source.with_suffix(".o")
    compile_c(tc, [source], obj, extra=extra, link=False)
    return facts(obj)


def test_pure_function_with_a_constant_table(each, write_c):
    table = ",".join(str(i * i % 251) for i in range(1000))
    found = compiled(
        each,
        write_c(
            f"static const unsigned char table[1000] = {{{table}}};"
            "int run(int i) { return table[i]; }"
        ),
    )
    assert (found.rodata, found.data, found.bss, found.undefined) == (1000, 0, 0, ())
    assert found.symbols["table"] == 1000
    assert 0 < found.symbols["run"] <= found.text < 200


def test_literals_and_strings_are_rodata(each, write_c):
    found = compiled(each, write_c('const char *s(void) { return "fifteen letters"; }'))
    assert found.rodata == 16


def test_writable_data(each, write_c):
    text = "int set[5] = {1, 2, 3, 4, 5}; static char zero[300]; char *run(void) { return zero; }"
    found = compiled(each, write_c(text))
    assert (found.data, found.bss, found.rodata) == (20, 300, 0)


def test_common_symbols_are_bss(each, write_c):
    found = compiled(each, write_c("int tentative[10];"), "-fcommon")
    assert (found.bss, found.data) == (40, 0)


def test_constant_that_a_loader_must_write_is_data(each, write_c):
    text = "extern int a, b; int *const table[2] = {&a, &b};"
    found = compiled(each, write_c(text), "-fPIC")
    assert (found.data, found.rodata, found.undefined) == (16, 0, ("a", "b"))


def test_sections_per_function_are_added_up(each, write_c):
    text = "int f(int x) { return x * 3; } int g(int x) { return x * 5; }"
    joined = compiled(each, write_c(text))
    split = compiled(each, write_c(text), "-ffunction-sections", "-O2")
    assert split.symbols == joined.symbols
    assert split.text >= split.symbols["f"] + split.symbols["g"] > 0


def test_undefined_symbols_name_hidden_library_calls(aarch64, write_c):
    text = (
        "struct big { char b[5000]; }; int elsewhere(struct big *);"
        "int run(const struct big *p) { struct big copy = *p; return elsewhere(&copy); }"
    )
    found = compiled(aarch64, write_c(text), "-ffreestanding")
    assert found.undefined == ("elsewhere", "memcpy")


def test_not_elf(tmp_path):
    path = tmp_path / "text.o"
    path.write_text("not an object file")
    with pytest.raises(QgenError, match=r"text\.o: not a usable ELF file: Magic number"):
        facts(path)


def test_missing_file(tmp_path):
    with pytest.raises(QgenError, match=r"gone\.o: cannot read: No such file"):
        facts(tmp_path / "gone.o")


def test_every_truncation_is_an_error(aarch64, write_c, tmp_path):
    source = write_c("const char t[64] = {1}; int run(int i) { return t[i]; }")
    compile_c(aarch64, [source], tmp_path / "whole.o", link=False)
    whole = (tmp_path / "whole.o").read_bytes()
    cut = tmp_path / "cut.o"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(QgenError, match=r"cut\.o: not a usable ELF file"):
            facts(cut)


def test_elf_without_sections(aarch64, write_c, tmp_path):
    compile_c(aarch64, [write_c("int x;")], tmp_path / "o", link=False)
    image = bytearray((tmp_path / "o").read_bytes())
    image[0x28:0x30] = bytes(8)  # e_shoff
    image[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    (tmp_path / "o").write_bytes(image)
    with pytest.raises(QgenError, match="not a usable ELF file: no sections"):
        facts(tmp_path / "o")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_corruption_never_escapes(aarch64, write_c, tmp_path, changes):
    """Whatever bytes are changed: facts or the one error, nothing else."""
    path = tmp_path / "whole.o"
    if not path.exists():
        compile_c(aarch64, [write_c("int x; int run(int i) { return i; }")], path, link=False)
    image = bytearray(path.read_bytes())
    for place, value in changes:
        image[int(place * (len(image) - 1))] = value
    (tmp_path / "bad.o").write_bytes(image)
    try:
        found = facts(tmp_path / "bad.o")
    except QgenError as e:
        assert "bad.o" in str(e)
    else:
        assert isinstance(found, ElfFacts)
