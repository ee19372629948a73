#!/usr/bin/env bash
# From a model to its verified C file: generate, prove on the emulator, use in a program.
# Installs what is missing first.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

run() {
    printf '$ %s\n' "$*"
    "$@"
    echo
}

mkdir -p build
run qgen compile examples/digits/digits.qg --target aarch64 -o build/digits.h
run qgen verify examples/digits/digits.qg --target aarch64
run aarch64-linux-gnu-gcc -O2 -static -Ibuild examples/digits/main.c -o build/digits
run qemu-aarch64 build/digits
