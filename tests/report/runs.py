"""Small runs as they lie in OUTPUT_DIR: real labels of drawn features, no network."""

import json
from dataclasses import replace

import numpy as np
from PIL import Image

from fastreid_uda.labeling.clustering import DBSCAN, KMeans
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.label_files import labeling_to_arrays
from fastreid_uda.labeling.pipeline import PseudoLabeler
from fastreid_uda.labeling.quality import describe_labeling
from fastreid_uda.labeling.types import FeatureSet
from tests.helpers import make_features

ODD = 'a <b>&amp; "ü" \u2028 </script>'
"""A folder whose name would break a page that does not escape it."""


def write_run(
    folder, rounds=3, views=("global",), identities=True, cameras=True, uncertainty=False,
    scores=True, kmeans=False, map_images=60, images=True, teachers=1,
):  # fmt: skip
    """Write summary.json, labels and images; the paths of the images."""
    features, people = make_features(num_identities=10, images=8, cameras=3)
    camera_ids = features.camera_ids if cameras else None
    paths = write_images(folder / "data" / ODD.replace("/", "_"), people) if images else None
    clusterer = KMeans(num_clusters=9, n_init=1) if kmeans else DBSCAN()
    labeler = PseudoLabeler(Jaccard(8, 3), FixedEps(0.6), clusterer, map_images=map_images)
    records, before, rng = [], None, np.random.default_rng(0)
    (folder / "labels").mkdir(parents=True)
    for number in range(rounds):
        x = features.views["global"]
        spread = 0.6 / (1 + number)
        noisy = {v: (x + spread * rng.normal(size=x.shape)).astype(np.float32) for v in views}
        labeling = labeler(FeatureSet(noisy, camera_ids), number, rounds)
        if uncertainty:
            labeling = with_uncertainty(labeling, rng)
        record = describe_labeling(labeling, camera_ids, people if identities else None, before)
        before = labeling.labels
        record["seconds"] = {"extract": 1.0, **record["seconds"]}
        record |= {"round": number, "train_seconds": 2.0, "test_seconds": 0.5, "peak_rss_mb": 300}
        for teacher in range(1, teachers + 1 if scores else 1):
            prefix = f"teacher_{teacher}/" if teacher > 1 else ""
            record |= {f"{prefix}mAP": 20.0 + number, f"{prefix}Rank-1": 30.0 + number}
        records.append(record)
        arrays = labeling_to_arrays(labeling, people if identities else None, camera_ids)
        np.savez_compressed(folder / f"labels/round_{number:03d}.npz", **arrays)
    names = paths or [f"images/{n:03d}.jpg" for n in range(len(people))]
    (folder / "labels/images.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    transfer = {"mAP": 15.0, "Rank-1": 21.0} if scores else {}
    write_summary(folder, {
        "method": "P2LR <&>", "source": "S", "target": "T", "seed": 0, "version": "0.1.0",
        "direct_transfer": transfer, "rounds": records, "last": records[-1],
        "best": records[-1] if scores else {},
        "warnings": [{"round": 1, "text": "A <b>warning</b> & more", "times": 2}],
    })  # fmt: skip
    return names


def write_summary(folder, summary):
    (folder / "summary.json").write_text(json.dumps(summary))


def with_uncertainty(labeling, rng):
    """Uncertainties of all images, the two least certain of which are left out."""
    first, part = next(iter(labeling.labels.items()))
    values = rng.gamma(2, 0.1, size=len(part.labels)).astype(np.float32)
    values[0] = np.nan
    part = replace(part.drop(values > np.sort(values[1:])[-3]), uncertainty=values)
    return replace(labeling, labels={**labeling.labels, first: part})


def write_images(folder, people):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    colors = rng.integers(0, 255, size=(int(people.max()) + 1, 3), dtype=np.uint8)
    paths = []
    for n, person in enumerate(people):
        path = folder / f"{n:03d}.png"
        Image.fromarray(np.tile(colors[person], (32, 16, 1))).save(path)
        paths.append(str(path))
    return paths
