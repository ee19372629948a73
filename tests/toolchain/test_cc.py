"""Compiling and linking, and the stack bound against stacks measured on the machine."""

import dataclasses
from pathlib import Path

import pytest

from qgen.errors import QgenError
from qgen.toolchain import emulator
from qgen.toolchain.cc import (
    CompileResult,
    Toolchain,
    compile_c,
    compiler_command,
    find_compiler,
    stack_bound,
)

# run -> outer -> inner is the deepest chain: 64 + 400 + 600 bytes of arrays. shallow has the
# largest frame (900) but nothing below it: neither "largest frame" nor "sum of all" is the answer.
CHAIN = """
#define NOINLINE static __attribute__((noinline))
NOINLINE int inner(int n) { volatile char a[600]; a[n & 511] = 1; return a[0]; }
NOINLINE int outer(int n) { volatile char a[400]; a[n & 255] = 2; return inner(n) + a[1]; }
NOINLINE int shallow(int n) { volatile char a[900]; a[n & 511] = 3; return a[2]; }
int run(int n) { volatile char a[64]; a[n & 63] = 4; return outer(n) + shallow(n) + a[3]; }
"""


def compiled(tc: Toolchain, source: Path) -> CompileResult:
    return compile_c(tc, [source], source.with_suffix(".o"), link=False)


def test_links_several_sources_objects_and_libraries(each, write_c, tmp_path):
    lib = write_c("double root(double x); int twice(int x) { return 2 * x; }", "lib.c")
    compile_c(each, [lib], tmp_path / "lib.o", link=False)
    text = "#include <math.h>\n#include <stdio.h>\nint twice(int); int main(int c, char **v) "
    main = write_c(text + '{ (void)v; printf("%d %.0f", twice(21), sqrt(c + 8.0)); return 0; }')
    result = compile_c(each, [main, tmp_path / "lib.o"], tmp_path / "exe", extra=["-lm", "-Wall"])
    assert emulator.run(each, tmp_path / "exe", timeout=30).stdout == b"42 3"
    assert result.stderr == ""
    assert 0 < result.seconds < 60
    assert result.compiler == find_compiler(each)
    assert "main" in result.stack_usage


def test_flags_of_the_toolchain_and_extra_reach_the_compiler(native, write_c, tmp_path):
    source = write_c("int value = N + M;")
    tc = dataclasses.replace(native, flags=("-DN=1", "-DM=1"))
    compile_c(tc, [source], tmp_path / "o", extra=["-DM=2", "-UM", "-DM=3"], link=False)
    with pytest.raises(QgenError, match=r"error: .*'M' undeclared"):
        compile_c(tc, [source], tmp_path / "o", extra=["-UM"], link=False)


def test_default_is_c99_and_warnings_come_back(native, write_c, tmp_path):
    source = write_c("int unused(void) { int x; return __STDC_VERSION__ == 199901L ? 0 : 1/0; }")
    result = compile_c(native, [source], tmp_path / "o", extra=["-Wall"], link=False)
    assert "unused variable" in result.stderr
    assert "division" not in result.stderr


def test_stack_bound_is_the_deepest_chain(each, write_c):
    bound = stack_bound(compiled(each, write_c(CHAIN)), "run")
    assert bound.path == ("run", "outer", "inner")
    assert 1064 <= bound.bytes < 1064 + 512
    assert bound.exact
    assert bound.external == ()


def test_stack_bound_starts_at_the_root_asked_for(each, write_c):
    result = compiled(each, write_c(CHAIN))
    inner = stack_bound(result, "inner")
    assert inner.bytes == result.stack_usage["inner"] + result.red_zone
    outer = stack_bound(result, "outer")
    assert outer.bytes == result.stack_usage["outer"] + inner.bytes
    assert stack_bound(result, "run").bytes == outer.bytes + result.stack_usage["run"]


def test_stack_bound_joins_the_graphs_of_several_sources(each, write_c, tmp_path):
    a = write_c("int f(int *); int main(void) { int a[100]; return f(a) + a[3]; }", "a.c")
    b = write_c("int f(int *p) { volatile int b[200]; b[0] = p[7]; return b[0]; }", "b.c")
    bound = stack_bound(compile_c(each, [a, b], tmp_path / "exe"), "main")
    assert bound.path == ("main", "f")
    assert 1200 <= bound.bytes < 1200 + 512
    assert bound.exact


def test_stack_bound_covers_what_is_really_used(each, write_c, tmp_path):
    """Paint the stack, call, and see how far the paint is gone."""
    source = write_c(
        CHAIN
        + """
#include <stdio.h>
#include <string.h>
__attribute__((noinline)) static void paint(void) {
    volatile unsigned char a[8192];
    for (int i = 0; i < 8192; i++) a[i] = 0xA5;
}
__attribute__((noinline)) static int untouched(void) {
    volatile unsigned char a[8192];
    int n = 0;
    while (n < 8192 && a[n] == 0xA5) n++;
    return n;
}
int main(int c, char **v) {
    (void)v;
    paint();
    int kept = untouched();
    volatile int sink = run(c - 1); /* 0: writes the lowest byte of every array */
    printf("%d %d", kept, untouched() + 0 * sink);
    return 0;
}
"""
    )
    exe = tmp_path / "exe"
    result = compile_c(each, [source], exe, extra=["-O1", "-Wno-maybe-uninitialized"])
    before, after = map(int, emulator.run(each, exe, timeout=30).stdout.split())
    used = before - after
    assert used >= 1064  # the arrays were written to: the measurement measures
    assert used <= stack_bound(result, "run").bytes


def test_calls_out_of_the_file_make_the_bound_inexact(each, write_c):
    source = write_c("int elsewhere(void); int run(void) { return 1 + elsewhere(); }")
    bound = stack_bound(compiled(each, source), "run")
    assert bound.external == ("elsewhere",)
    assert not bound.exact


def test_without_call_graph_the_bound_is_an_estimate(each, write_c):
    """Compilers other than gcc write frames only."""
    result = dataclasses.replace(compiled(each, write_c(CHAIN)), callgraph=None)
    bound = stack_bound(result, "run")
    frames = result.stack_usage["run"] + result.stack_usage["shallow"]
    assert bound.bytes == frames + result.red_zone
    assert not bound.exact
    with pytest.raises(QgenError, match="no function 'missing' in the compiled code"):
        stack_bound(result, "missing")


def test_recursion_has_no_bound(each, write_c):
    source = write_c(
        "__attribute__((noipa)) int b(int); __attribute__((noipa)) int a(int n)"
        "{ return n ? b(n - 1) + 1 : 0; } int b(int n) { return a(n / 2) + 2; }"
        "int run(int n) { return a(n) + 3; } int leaf(int n) { return n + 1; }"
    )
    result = compiled(each, source)
    with pytest.raises(QgenError, match="stack of 'run' has no bound: recursion a -> b -> a"):
        stack_bound(result, "run")
    assert stack_bound(result, "leaf").exact  # recursion elsewhere does no harm


def test_recursion_into_itself_is_recursion(each, write_c):
    result = compiled(
        each, write_c("int f(int n) { volatile int x = n; return n ? f(x-1)+x : 1; }")
    )
    with pytest.raises(QgenError, match="recursion f -> f"):
        stack_bound(result, "f")


def test_dynamic_frame_has_no_bound(each, write_c):
    text = "int run(int n) { volatile char a[n]; a[0] = 1; return a[n - 1]; }"
    result = compiled(each, write_c(text))
    message = "stack of 'run' has no bound: run takes stack of a size unknown at build time"
    with pytest.raises(QgenError, match=message):
        stack_bound(result, "run")
    with pytest.raises(QgenError, match=message):
        stack_bound(dataclasses.replace(result, callgraph=None), "run")


def test_call_through_a_pointer_has_no_bound(each, write_c):
    result = compiled(each, write_c("int run(int (*f)(int)) { return f(1) + 1; }"))
    with pytest.raises(QgenError, match="has no bound: call through a pointer in run"):
        stack_bound(result, "run")


def test_unknown_root(each, write_c):
    with pytest.raises(QgenError, match=r"no function 'missing' in .* \(a static function may"):
        stack_bound(compiled(each, write_c(CHAIN)), "missing")


def test_missing_compiler_names_candidates_and_hint():
    tc = Toolchain("aarch64", ("no-such-gcc", "no-such-clang -x"), install_hint="install gcc")
    names = "'no-such-gcc' or 'no-such-clang -x'"
    message = rf"^no C compiler for aarch64: {names} not found \(install gcc\)$"
    with pytest.raises(QgenError, match=message):
        find_compiler(tc)


def test_second_candidate_is_taken():
    tc = Toolchain("portable", ("no-such-gcc", "gcc -m64"))
    path, *arguments = compiler_command(tc)
    assert (Path(path).name, arguments) == ("gcc", ["-m64"])
    assert find_compiler(tc) == path


def test_qgen_cc_overrides(native, monkeypatch):
    monkeypatch.setenv("QGEN_CC", "aarch64-linux-gnu-gcc -mcpu=cortex-a53")
    assert compiler_command(native)[1:] == ["-mcpu=cortex-a53"]
    assert find_compiler(native).endswith("aarch64-linux-gnu-gcc")
    monkeypatch.setenv("QGEN_CC", "no-such-gcc")
    with pytest.raises(QgenError, match=r"QGEN_CC: compiler 'no-such-gcc' not found \(correct it"):
        find_compiler(native)


def test_compile_error_is_its_first_line_and_leaves_no_output(each, write_c, tmp_path):
    source = write_c("int x;\nint f(void) { return y; }\nint g(void) { return z; }\n")
    with pytest.raises(QgenError) as caught:
        compile_c(each, [source], tmp_path / "exe")
    assert "unit.c:2:22: error: 'y' undeclared" in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.hint.startswith("generated C that does not compile is a bug of qgen")
    assert not (tmp_path / "exe").exists()


def test_link_error(each, write_c, tmp_path):
    source = write_c("int missing(void); int main(void) { return missing(); }")
    with pytest.raises(QgenError, match="undefined reference to `missing'"):
        compile_c(each, [source], tmp_path / "exe")
    assert not (tmp_path / "exe").exists()


def test_missing_source(native, tmp_path):
    with pytest.raises(QgenError, match=r"gone\.c: No such file"):
        compile_c(native, [tmp_path / "gone.c"], tmp_path / "exe")


def test_a_flag_for_tuning_may_be_unknown(native, write_c, tmp_path):
    source = write_c("int x;")
    for tune in ("-mtune=no-such-core", "-DKNOWN=1"):
        compile_c(dataclasses.replace(native, tune=tune), [source], tmp_path / "o", link=False)
    known = write_c("#ifndef KNOWN\n#error absent\n#endif\nint x;", "known.c")
    tc = dataclasses.replace(native, tune="-DKNOWN=1")
    compile_c(tc, [known], tmp_path / "o", link=False)


def test_a_compiler_that_lacks_an_instruction(native, write_c, tmp_path):
    tc = dataclasses.replace(native, probe='__asm__("frobnicate");', needs="gcc >= 99")
    with pytest.raises(QgenError, match=r"cannot compile for portable: .*rror.* \(needs gcc >= 99"):
        compile_c(tc, [write_c("int x;")], tmp_path / "o", link=False)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("link", [True, False])
def test_unwritable_output(native, write_c, tmp_path, link):
    source = write_c("int main(void) { return 0; }")
    with pytest.raises(QgenError, match=r"cannot write .*exe: No such file or directory"):
        compile_c(native, [source], tmp_path / "no" / "folder" / "exe", link=link)


def test_compiler_that_cannot_start(write_c, tmp_path):
    broken = tmp_path / "broken-cc"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with pytest.raises(QgenError, match=r"cannot run compiler .*broken-cc: Exec format error"):
        compile_c(Toolchain("t", (str(broken),)), [write_c("int x;")], tmp_path / "o", link=False)


def test_one_object_has_one_source(native, write_c, tmp_path):
    source = write_c("int x;")
    with pytest.raises(ValueError, match="exactly one source"):
        compile_c(native, [source, source], tmp_path / "o", link=False)
