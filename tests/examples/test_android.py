"""The Android example, as far as it can be built without the NDK."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from qgen import compile_model
from qgen.toolchain import elf
from qgen.verify.harness import WARNINGS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "android"
PAGE = 16384

# ABI of Android -> clang's target, qgen's, and what cross-compiles for the same processor here.
ABIS = {
    "arm64-v8a": ("aarch64-linux-android29", "aarch64", "aarch64-linux-gnu-gcc", ""),
    "armeabi-v7a": (
        "armv7a-linux-androideabi29", "armv7a", "arm-linux-gnueabihf-gcc",
        "-march=armv7-a -mfpu=neon",
    ),
}  # fmt: skip

# ARMv7-A need not have a divide: without optimization a division by a constant is one of these,
# which come with the compiler.
DIVISION = {"__aeabi_idiv", "__aeabi_uidiv"}

# The part of JNI that the example uses. A table of functions, as in the real one.
JNI = """
#include <stddef.h>
#include <stdint.h>
#define JNIEXPORT __attribute__((visibility("default")))
#define JNICALL
typedef int32_t jint;
typedef int64_t jlong;
typedef struct object *jobject;
typedef jobject jclass;
typedef jobject jstring;
struct JNINativeInterface;
typedef const struct JNINativeInterface *JNIEnv;
struct JNINativeInterface {
    jstring (*NewStringUTF)(JNIEnv *, const char *);
    void *(*GetDirectBufferAddress)(JNIEnv *, jobject);
    jlong (*GetDirectBufferCapacity)(JNIEnv *, jobject);
};
"""

# A direct buffer is an address and a size; one without address stands for a buffer on Java's heap.
CALLER = """
#include <jni.h>
#include <string.h>
#include "samples.h"

struct object { void *data; jlong size; };
static jstring text(JNIEnv *env, const char *s) { (void)env; return (jstring)(uintptr_t)s; }
static void *address(JNIEnv *env, jobject b) { (void)env; return b->data; }
static jlong capacity(JNIEnv *env, jobject b) { (void)env; return b->data ? b->size : -1; }
static const struct JNINativeInterface functions = {text, address, capacity};

jint Java_org_example_Digits_memoryBytes(JNIEnv *, jclass);
jint Java_org_example_Digits_run(JNIEnv *, jclass, jobject, jobject, jobject);
jint Java_org_example_Digits_selftest(JNIEnv *, jclass, jobject);
jstring Java_org_example_Digits_text(JNIEnv *, jclass, jint);

static char memory[1 << 16];
static int8_t scores[10];

int main(void)
{
    JNIEnv env = &functions;
    const jint bytes = Java_org_example_Digits_memoryBytes(&env, NULL);
    struct object x = {NULL, 64}, y = {scores, 10}, heap = {NULL, 64}, m = {memory, bytes};
    int i, j, start;
    for (start = 0; start < 16; ++start) {
        m.data = memory + start;
        if (Java_org_example_Digits_selftest(&env, NULL, &m) != 0)
            return 1;
    }
    for (i = 0; i < SAMPLES; ++i) {
        x.data = (void *)(uintptr_t)sample_image[i];
        if (Java_org_example_Digits_run(&env, NULL, &x, &y, &m) != 0)
            return 2;
        for (j = 0; j < 10; ++j)
            if (scores[j] > scores[sample_label[i]])
                return 3;
    }
    if (Java_org_example_Digits_run(&env, NULL, &heap, &y, &m) != -1 ||
        Java_org_example_Digits_run(&env, NULL, NULL, &y, &m) != -1 ||
        Java_org_example_Digits_selftest(&env, NULL, &heap) != -1)
        return 4;
    m.size = bytes - 1;
    if (Java_org_example_Digits_run(&env, NULL, &x, &y, &m) != -1)
        return 5;
    if (strcmp((char *)Java_org_example_Digits_text(&env, NULL, 1), "stem") != 0 ||
        strcmp((char *)Java_org_example_Digits_text(&env, NULL, 0), "success") != 0)
        return 6;
    return 0;
}
"""


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("abi", ABIS)
def test_generated_file_compiles_for_android(abi: str, split: bool, tmp_path: Path) -> None:
    machine, target, _, _ = ABIS[abi]
    model = ROOT / "examples" / "digits" / "digits.qg"
    compile_model(model, target, out=tmp_path / "digits.h", emit_for=["cmake"], split=split)
    for optimize in ("-O0", "-O2", "-Oz"):
        for more in ([], ["-DDIGITS_SELFTEST"]):
            words = ["-std=c99", optimize, "-ffreestanding", "-fPIC", *WARNINGS, *more]
            run("clang", f"--target={machine}", *words, "-c", "digits.c", cwd=tmp_path)
            found = elf.facts(tmp_path / "digits.o")
            assert not writable(tmp_path / "digits.o")
            assert set(found.undefined) <= (DIVISION if optimize == "-O0" else set())


def writable(path: Path) -> list[str]:
    """Writable sections with contents; not tables of addresses, which only the loader writes."""
    with path.open("rb") as stream:
        return [
            s.name
            for s in ELFFile(stream).iter_sections()
            if s["sh_flags"] & SH_FLAGS.SHF_WRITE
            and s["sh_size"]
            and not s.name.startswith(".data.rel.ro")
        ]


def run(*words: str, cwd: Path) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def built(folder: Path, abi: str, compiler: str, flags: str) -> Path:
    """libdigits.so by the example's CMake."""
    (folder / "jni").mkdir()
    (folder / "jni" / "jni.h").write_text(JNI)
    qgen = folder / "qgen"
    qgen.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m qgen "$@"\n')
    qgen.chmod(0o755)
    flags = f"{flags} -I{folder / 'jni'} -Wall -Wextra -Wpedantic -Werror"
    cross = ["-DCMAKE_SYSTEM_NAME=Linux"] if compiler != "cc" else []
    run(
        "cmake", "-S", str(EXAMPLE / "cpp"), "-B", "build", f"-DQGEN={qgen}",
        f"-DANDROID_ABI={abi}", f"-DCMAKE_C_COMPILER={compiler}", f"-DCMAKE_C_FLAGS={flags}",
        "-DCMAKE_BUILD_TYPE=Release", *cross, cwd=folder,
    )  # fmt: skip
    run("cmake", "--build", "build", cwd=folder)
    return folder / "build" / "libdigits.so"


@pytest.mark.parametrize("abi", ABIS)
def test_library_fits_large_pages(abi: str, tmp_path: Path) -> None:
    _, target, compiler, flags = ABIS[abi]
    library = built(tmp_path, abi, compiler, flags)
    assert f'#define DIGITS_TARGET "{target}"' in (tmp_path / "build" / "digits.h").read_text()
    with library.open("rb") as stream:
        file = ELFFile(stream)
        loaded = [s.header for s in file.iter_segments("PT_LOAD")]
        names = [s for s in file.get_section_by_name(".dynsym").iter_symbols() if s.name]
    assert loaded and all(s.p_align == PAGE for s in loaded)
    assert all(s.p_vaddr % PAGE == s.p_offset % PAGE for s in loaded)
    exported = {s.name for s in names if s["st_shndx"] != "SHN_UNDEF"}
    native = ("memoryBytes", "run", "selftest", "text")
    assert {s for s in exported if not s.startswith("_")} == {
        f"Java_org_example_Digits_{name}" for name in native
    }
    # What the start files of the system bring along is weak; the example needs nothing.
    needed = {s.name for s in names if s["st_shndx"] == "SHN_UNDEF"}
    assert all(s["st_info"]["bind"] == "STB_WEAK" for s in names if s.name in needed), needed


def test_java_calls_what_exists() -> None:
    java = (EXAMPLE / "java" / "org" / "example" / "Digits.java").read_text()
    source = (EXAMPLE / "cpp" / "digits_jni.c").read_text()
    methods = [line.split("(")[0].split()[-1] for line in java.splitlines() if " native " in line]
    assert sorted(methods) == ["memoryBytes", "run", "selftest", "text"]
    assert all(f"Java_org_example_Digits_{m}(" in source for m in methods)


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_native_methods_run_on_the_pc(tmp_path: Path) -> None:
    library = built(tmp_path, "x86_64", "cc", "")
    (tmp_path / "caller.c").write_text(CALLER)
    run(
        "cc", "caller.c", "-Ijni", f"-I{ROOT / 'examples' / 'digits'}", str(library),
        f"-Wl,-rpath,{library.parent}", "-o", "caller", cwd=tmp_path,
    )  # fmt: skip
    run("./caller", cwd=tmp_path)
