"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from qgen.errors import QgenError


def write_files(contents: Mapping[Path, bytes], folders: Collection[Path] = ()) -> None:
    """Write all files, or none of them where one cannot be written.

    Each is written beside its place under another name and then renamed, so nobody ever sees half
    a file. Devices and pipes, which cannot be renamed over, are written directly. `folders` are
    made where they are missing, their parents are not.

    Raises QgenError with the path that cannot be written.
    """
    waiting: list[tuple[Path, Path]] = []
    made: list[Path] = []
    path = Path()
    try:
        for path in sorted(folders):
            if not path.exists():
                path.mkdir()
                made.append(path)
        for path, data in contents.items():
            real = Path(os.path.realpath(path))
            if real.is_dir():
                raise QgenError(f"cannot write {path}: it is a directory", hint="give a file name")
            if real.exists() and not real.is_file():
                real.write_bytes(data)
                continue
            if real.exists() and not os.access(real, os.W_OK):
                raise PermissionError(0, "Permission denied")
            beside = real.with_name(f".{real.name}.{os.getpid()}.tmp")
            waiting.append((beside, real))
            beside.write_bytes(data)
        for beside, path in waiting:
            beside.replace(path)
    except OSError as e:
        raise QgenError(f"cannot write {path}: {(e.strerror or str(e)).lower()}") from e
    finally:
        for beside, _ in waiting:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only goes where nothing was put into it
