import os
from collections import Counter

# The networks of the tests are too small for threads, and the workers of pytest share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where threads are tested, those that wait leave the cores to the others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items):
    """Files with many slow tests come first, so that no worker starts one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
