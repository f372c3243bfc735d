#!/usr/bin/env python
"""Which eps suits the target: clusters at many eps, without labels."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastreid_uda.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("scan-eps"))
