"""Small features, images and runs for the tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from fastreid_uda.labeling.types import FeatureSet
from tests import processes

ROOT = Path(__file__).resolve().parents[1]
TRAIN_NET = ROOT / "tools/train_net.py"


def make_features(num_identities=12, images=8, cameras=3, dim=32, noise=0.25, seed=0):
    """(FeatureSet, identities): clusters on a sphere, shifted by camera, in shuffled order."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(num_identities, dim))
    identities = rng.permutation(np.repeat(np.arange(num_identities), images))
    camera_ids = rng.integers(cameras, size=len(identities))
    shift = 0.3 * rng.normal(size=(cameras, dim))
    x = centers[identities] + shift[camera_ids] + noise * rng.normal(size=(len(identities), dim))
    features = FeatureSet({"global": x.astype(np.float32)}, camera_ids.astype(np.int64))
    return features, identities


def write_market(root, identities=6, cameras=3, per_camera=2, test_identities=4, seed=0):
    """A tiny Market-1501: every identity has a colour, every camera a brightness."""
    rng = np.random.default_rng(seed)
    base = Path(root) / "Market-1501-v15.09.15"
    total = identities + test_identities
    colors = rng.integers(40, 216, size=(total + 1, 2, 3))
    for person in range(1, total + 1):
        train = person <= identities
        for camera in range(1, cameras + 1):
            for n in range(per_camera):
                if train:
                    folder = "bounding_box_train"
                else:
                    folder = "query" if n == 0 else "bounding_box_test"
                pixels = np.repeat(colors[person], 16, axis=0)[:, None].repeat(16, axis=1)
                noise = rng.normal(scale=8, size=pixels.shape)
                pixels = pixels * (0.7 + 0.15 * camera) + noise
                (base / folder).mkdir(parents=True, exist_ok=True)
                name = f"{person:04d}_c{camera}s1_{n:06d}_00.jpg"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(base / folder / name)
    return base


# A network and a schedule that run in seconds; overrides for configs/Synthetic/*.yml.
TINY = [
    "DATASETS.NAMES", "('Market1501',)", "UDA.TARGET", "('Market1501',)",
    "DATASETS.TESTS", "('Market1501',)",
    "MODEL.BACKBONE.NAME", "build_shufflenetv2_backbone", "MODEL.BACKBONE.DEPTH", "0.5x",
    "MODEL.BACKBONE.FEAT_DIM", "1024",
    "INPUT.SIZE_TRAIN", "[32, 32]", "INPUT.SIZE_TEST", "[32, 32]",
    "SOLVER.IMS_PER_BATCH", "16", "UDA.ROUNDS", "2", "UDA.ITERS_PER_EPOCH", "2",
    "UDA.CLUSTER.EPS", "0.1", "UDA.CLUSTER.DBSCAN.MIN_SAMPLES", "2",
    "UDA.SOURCE.OPTS", "['SOLVER.MAX_EPOCH', 2, 'UDA.ITERS_PER_EPOCH', 2]",
]  # fmt: skip


def train_net(config, *overrides, data=None, timeout=300, check=True, fresh=False):
    """Run tools/train_net.py; the finished process with its output as text.

    `fresh` starts a new interpreter, as a shell does; it takes the seconds of all imports.
    """
    command = [TRAIN_NET, "--config-file", config, *overrides]
    variables = {"FASTREID_DATASETS": str(data or "datasets")}
    run = processes.run_fresh if fresh else processes.run
    process = run(command, timeout, **variables)
    if check and process.returncode:
        raise AssertionError(f"exit {process.returncode}\n{process.stdout}\n{process.stderr}")
    return process


def read_summary(output_dir):
    return json.loads((Path(output_dir) / "summary.json").read_text())
