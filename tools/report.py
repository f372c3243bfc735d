#!/usr/bin/env python
"""Makes one HTML page of what the labels of a run do, finished or under way; no network, no GPU."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_uda.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("report"))
