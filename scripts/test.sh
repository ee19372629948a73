#!/usr/bin/env bash
# All checks: style, types, tests. Installs what is missing first.
# Arguments go to pytest, e.g. ./scripts/test.sh -k conv2d.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

ruff check .
ruff format --check .
mypy
pytest -n 2 "$@"
