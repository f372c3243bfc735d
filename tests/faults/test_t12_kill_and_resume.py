"""A run that is killed (SIGKILL) and resumed, three times in a row: the short form of make soak."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.slow
def test_kill_and_resume__three_kills_change_nothing():
    # Kills in the checkpoint, the labeling and the step, the first of them in the source stage.
    command = ["--kills", "3", "--methods", "SECRET(MT)", "--seed", "33"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\n3 kills, 0 differences\n")
