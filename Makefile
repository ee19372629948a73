# Thin aliases; the scripts install what is missing.
.PHONY: demo test check golden bench

demo:
	./scripts/demo.sh

test:
	./scripts/test.sh

# Seconds instead of minutes: style, types, import rules, pages.
check:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest -q tests/docs/test_links.py tests/test_imports.py

# Golden against LiteRT's reference kernels.
golden:
	.venv/bin/pytest -n 2 tests/test_golden.py

# Figures per model: bytes, times, executed instructions.
bench:
	.venv/bin/python -m benchmarks
