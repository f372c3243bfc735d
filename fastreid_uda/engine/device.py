"""The device of a config on a machine without a GPU."""

from __future__ import annotations

from typing import Any

import torch


def use_cpu_without_gpu(cfg: Any) -> None:
    """Set MODEL.DEVICE to the CPU, in place, if it is a GPU and there is none."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
