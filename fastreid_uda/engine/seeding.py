"""All randomness of a run as a function of its seed and of where the run is.

Random number generators are seeded at the start of every epoch from (seed, stage, epoch, rank), so
a run that is resumed at an epoch needs no saved generator states to repeat itself bit for bit.
"""

from __future__ import annotations

import os
import random
import zlib

import numpy as np
import torch


def derive_seed(seed: int, *place: str | int) -> int:
    """A seed in [0, 2^31) for a place in the run, such as ("adapt", epoch)."""
    words = [seed, *(p if isinstance(p, int) else zlib.crc32(p.encode()) for p in place)]
    return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


def seed_all_generators(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def use_deterministic_kernels(enabled: bool) -> None:
    """Let the same GPU give the same bits each time; operations without such a kernel warn."""
    if enabled and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
