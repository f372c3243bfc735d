"""Two output folders, bit for bit."""

import json

import numpy as np
import torch

NETWORKS = ("model_final.pth", "model_last.pth", "model_previous.pth", "model_best.pth")
NOT_COMPARED = (
    "seconds", "train_seconds", "test_seconds", "peak_mb", "peak_rss_mb", "config", "warnings",
)  # fmt: skip
"""Entries of checkpoints and of summary.json: times, memory, paths, what a resume is warned of."""


def differences(ours, theirs):
    """What differs between two runs: labels of all rounds, weights, optimiser, records, scalars.

    Args:
        ours: output folder of a run.
        theirs: that of the run it should equal.

    Returns:
        Names of files with the entries in them; [] if nothing differs.
    """
    found = _files(ours) ^ _files(theirs)
    found |= {str(path.relative_to(ours)) for path in ours.rglob(".*")}
    for name in _files(ours) & _files(theirs):
        if name.endswith(".npz"):
            pair = (dict(np.load(folder / name)) for folder in (ours, theirs))
        elif name.endswith(".pth"):
            pair = (torch.load(folder / name, weights_only=True) for folder in (ours, theirs))
        elif name.endswith("summary.json"):
            pair = (json.loads((folder / name).read_text()) for folder in (ours, theirs))
        else:
            pair = (_iterations(folder / name) for folder in (ours, theirs))
        found |= set(_entries_that_differ(*pair, name))
    return sorted(found)


def _files(folder):
    patterns = ("labels/*.npz", "*.pth", "source*/model_*.pth", "summary.json", "metrics.json")
    return {str(path.relative_to(folder)) for p in patterns for path in folder.glob(p)}


def _iterations(path):
    """Which iterations have scalars, and how often.

    Not the scalars, which are medians over what one process has seen, nor the order of the lines of
    one epoch.
    """
    return sorted(json.loads(line)["iteration"] for line in path.read_text().splitlines())


def _entries_that_differ(ours, theirs, name):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys(), key=str):
            if key in NOT_COMPARED:
                continue
            if key not in ours or key not in theirs:
                yield f"{name}: {key}"
            else:
                yield from _entries_that_differ(ours[key], theirs[key], f"{name}: {key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for n, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _entries_that_differ(*pair, f"{name}: {n}")
    elif not _equal(ours, theirs):
        yield name


def _equal(ours, theirs):
    if isinstance(ours, torch.Tensor | np.ndarray) and type(ours) is type(theirs):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        return ours.dtype == theirs.dtype and np.array_equal(
            ours, theirs, equal_nan=ours.dtype.kind == "f"
        )
    return type(ours) is type(theirs) and ours == theirs
