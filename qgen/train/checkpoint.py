"""The state of a training run in a file that is whole or not there."""

from __future__ import annotations

import qgen.train.needs_torch  # noqa: F401

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from qgen.errors import QgenError
from qgen.files import write_files

NAME = "last.pt"


def save(
    folder: Path, model: nn.Module, optimizer: Optimizer, history: list[dict[str, float]]
) -> Path:
    """Write the state after ``len(history)`` epochs over that of the epoch before.

    Ranges and batch-norm statistics are buffers of the model. Raises QgenError where the file
    cannot be written.
    """
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
    }
    content = io.BytesIO()
    torch.save(state, content)
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise QgenError(f"cannot make folder {folder}: {(e.strerror or str(e)).lower()}") from e
    write_files({path: content.getvalue()})
    return path


def load(folder: Path, model: nn.Module, optimizer: Optimizer) -> list[dict[str, float]]:
    """Restore a run from `folder`; the history, empty where there is no checkpoint yet.

    Raises QgenError for a file that is no checkpoint, or one of another model or optimizer.
    """
    path = folder / NAME
    if not path.exists():
        return []
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        history: list[dict[str, float]] = state["history"]
        weights, moments = state["model"], state["optimizer"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as e:
        raise QgenError(f"{path} is not a checkpoint", hint="delete it") from e
    try:
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
    except (RuntimeError, ValueError, KeyError) as e:
        raise QgenError(
            f"{path} is the checkpoint of another model: {str(e).splitlines()[-1].strip()}",
            hint="give each run a folder of its own",
        ) from e
    return history
