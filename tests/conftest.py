import os

# The networks of the tests are too small for threads, and the workers of pytest share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
