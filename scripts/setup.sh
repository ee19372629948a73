# Sourced by demo.sh and test.sh: compilers, emulator and .venv, only what is missing.
#
# Debian packages are looked for by a file each of them brings, so that a second run needs no apt.
# PYTHON chooses another interpreter than the first suitable python3.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

suitable_python() {
    # ensurepip is what Debian's python3 lacks without python3-venv.
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 /usr/bin/python3}; do
        if suitable_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

missing_packages() {
    command -v gcc >/dev/null || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    command -v g++ >/dev/null || echo g++
    command -v clang >/dev/null || echo clang
    command -v aarch64-linux-gnu-gcc >/dev/null || echo gcc-aarch64-linux-gnu
    command -v aarch64-linux-gnu-g++ >/dev/null || echo g++-aarch64-linux-gnu
    [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || echo libc6-dev-arm64-cross
    command -v arm-linux-gnueabihf-gcc >/dev/null || echo gcc-arm-linux-gnueabihf
    [ -e /usr/arm-linux-gnueabihf/include/stdio.h ] || echo libc6-dev-armhf-cross
    command -v cmake >/dev/null || echo cmake
    command -v make >/dev/null || echo make
    command -v qemu-aarch64 >/dev/null || echo qemu-user
    # For examples/firmware: boards without an operating system, and microcontrollers.
    command -v make >/dev/null || echo make
    command -v qemu-system-aarch64 >/dev/null || echo qemu-system-arm
    command -v arm-none-eabi-gcc >/dev/null || echo gcc-arm-none-eabi
    # For tests/safety: what static analysis finds in the generated C.
    command -v clang-tidy >/dev/null || echo clang-tidy
    command -v cppcheck >/dev/null || echo cppcheck
    # For cycles of `qgen profile`; the name may carry a version.
    compgen -c llvm-mca >/dev/null || echo llvm
    [ -x .venv/bin/python ] || [ -n "$(find_python)" ] || echo python3 python3-venv
}

install_packages() {
    local root=() log
    say "installing $*"
    command -v apt-get >/dev/null ||
        die "this needs apt-get; without it, install the equivalents of: $*"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "run 'apt-get install $*' as root, then this again"
        root=(sudo)
    fi
    log=$(mktemp)
    if ! { "${root[@]}" apt-get update -q &&
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -q --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "apt-get failed, all it said is in $log"
    fi
    rm -f "$log"
}

make_venv() {
    local wanted python
    wanted=$(sha256sum pyproject.toml)
    if [ -x .venv/bin/qgen ] && [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! [ -x .venv/bin/pip ]; then
        python=$(find_python)
        [ -n "$python" ] || die "no Python 3.11 or newer with venv; set PYTHON to one"
        say "making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv
    fi
    say "installing qgen and its tools into .venv"
    .venv/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]' >&2
    echo "$wanted" >.venv/installed
}

packages=$(missing_packages)
# Unquoted: one word per package.
# shellcheck disable=SC2086
[ -z "$packages" ] || install_packages $packages
make_venv
export PATH="$PWD/.venv/bin:$PATH"
