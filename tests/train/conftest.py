"""One thread for torch: these networks are small, and tests may run side by side."""

from __future__ import annotations

import os

try:
    import torch
except ImportError:
    collect_ignore_glob = ["test_*.py"]  # PyTorch trains
else:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
