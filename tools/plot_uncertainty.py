#!/usr/bin/env python
"""Draws how uncertain the right and the wrong labels of a round are: P2LR's Fig. 3c."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_uda.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("plot-uncertainty"))
