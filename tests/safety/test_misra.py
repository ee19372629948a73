"""docs/misra.md lists the rules that cppcheck's addon reports, and no others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.safety.programs import ONE_OF_EVERY_OP, ROOT, lowered, need, write

PAGE = ROOT / "docs" / "misra.md"
ROW = re.compile(r"^\| (\d+\.\d+) \| (?:mandatory|required|advisory) \| [^|]+ \| [^|]+ \|$", re.M)
REPORTED = re.compile(r"^(\S+) (\S+)$", re.M)
# Rows of numbers and nothing else.
TABLE = re.compile(r"= \{\n[-0-9, \n]+\};")


def cppcheck(source: Path) -> list[tuple[str, str]]:
    """(id, severity) of every message."""
    command = ["cppcheck", "--quiet", "--addon=misra", "--std=c99", "--enable=style"]
    done = subprocess.run(
        [*command, "--template={id} {severity}", source.name],
        cwd=source.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return REPORTED.findall(done.stderr)


def test_listed_rules_are_reported(tmp_path: Path) -> None:
    need("cppcheck")
    found: set[str] = set()
    for name in ("digits", ONE_OF_EVERY_OP):
        source = write(lowered(name), tmp_path)
        source.write_text(TABLE.sub("= {0};", source.read_text()))
        messages = cppcheck(source)
        # Severities above style mean a defect.
        assert {severity for _, severity in messages} == {"style"}
        found |= {identity for identity, _ in messages if identity.startswith("misra-")}
    listed = {f"misra-c2012-{rule}" for rule in ROW.findall(PAGE.read_text())}
    assert found == listed


def test_the_addon_runs(tmp_path: Path) -> None:
    need("cppcheck")
    planted = tmp_path / "planted.c"
    planted.write_text("static void f(void)\n{\n    goto end;\nend:\n    return;\n}\n")
    assert ("misra-c2012-15.1", "style") in cppcheck(planted)
