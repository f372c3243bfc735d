"""Small adaptations that are killed again and again: `python -m tests.soak`."""

import os

# Before torch is imported. The networks are too small for threads, and a process without threads
# can be forked.
os.environ["OMP_NUM_THREADS"] = "1"
