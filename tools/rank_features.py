#!/usr/bin/env python
"""Scores saved features: Rank-1, Rank-5, Rank-10, mAP and mINP."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_uda.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("rank"))
