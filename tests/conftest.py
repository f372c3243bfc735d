import os

# Two workers of pytest, or a test and its subprocess, must not fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "2")
