"""Rules that choose eps without labels, by what they lose against the best eps of the same grid.

Loss: pair F1 (an image in no cluster is in no pair) of the best eps minus that of the chosen one.
Every set of features is clustered with and without camera normalisation, for each distance, by
DBSCAN (min_samples 4) on the grid of UDA.CLUSTER.EPS auto. The sets: synthetic features of several
noise levels and camera offsets, and the files that are named, such as those that
tools/scan_eps.py --run OUTPUT_DIR --save-features FILE.npz writes.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tabulate import tabulate

from fastreid_uda.labeling.camera_normalization import normalize_per_camera, normalize_rows
from fastreid_uda.labeling.clustering import DBSCAN
from fastreid_uda.labeling.distances import Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.eps import CrossCamera, Rho
from fastreid_uda.labeling.eps_report import pair_f1
from fastreid_uda.labeling.eps_scan import EpsScan, Scan
from fastreid_uda.labeling.label_files import read_feature_set

CHOSEN = "silhouette x kept (auto)"
RULES = {  # the largest wins, of the eps with two clusters or more; but for auto none above a tenth
    "most clusters": lambda row: row.clusters,
    "most clusters of 2+ cameras": lambda row: row.clusters * row.cross_camera,
    "silhouette": lambda row: row.silhouette,
    "stability": lambda row: row.stability or 0,
    "stability x kept": lambda row: (row.stability or 0) * row.kept,
    CHOSEN: lambda row: row.score,
    "... x share of 2+ cameras": lambda row: row.score * row.cross_camera,
    "... x stability": lambda row: row.score * (row.stability or 0),
}
DISTANCES = {"Jaccard": Jaccard(), "Cosine": Cosine(), "Euclidean": Euclidean()}


def synthetic(images: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, features, camera ids, identities: N / 17 people, 6 cameras, a spectrum like 1 / j.

    In half of the sets everybody is seen by all cameras, in the others 7 of 10 people by one alone.
    """
    for noise, offset, local in itertools.product((1.0, 1.5, 2.0), (0.3, 1.0), (0.0, 0.7)):
        rng = np.random.default_rng(0)
        people = rng.integers(images // 17, size=images)
        homes = rng.integers(6, size=images // 17)
        stays = rng.random(images // 17) < local
        cameras = np.where(stays[people], homes[people], rng.integers(6, size=images))
        x = rng.normal(size=(images // 17, 256))[people]
        x += offset * rng.normal(size=(6, 256))[cameras]
        x += noise * rng.lognormal(-0.6, 0.4, size=(images, 1)) * rng.normal(size=x.shape)
        x *= np.sqrt(1 / np.arange(1, 257))
        yield f"noise {noise}, offset {offset}, local {local}", np.float32(x), cameras, people


def losses(scan: EpsScan, truth: list[float], others: dict[str, float]) -> dict[str, float]:
    """Rule -> its loss; eps of rules that do not scan count as the nearest of the grid."""
    allowed = [n for n, row in enumerate(scan.rows) if row.clusters >= 2 and not row.crowded]
    places = {
        name: max(allowed, key=lambda n: score(scan.rows[n])) for name, score in RULES.items()
    }
    eps = np.array([row.eps for row in scan.rows])
    places |= {name: int(abs(eps - value).argmin()) for name, value in others.items()}
    places[CHOSEN] = int(np.flatnonzero(eps == scan.eps)[0])
    return {name: max(truth) - truth[place] for name, place in places.items()}


def main() -> None:
    """Scan everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FEATURES.npz", help="with identities, cameras")
    parser.add_argument("--images", type=int, default=1500, help="of the synthetic features")
    parser.add_argument("--verbose", action="store_true", help="print every scan's line too")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    sets = list(synthetic(args.images))
    for path in args.files:
        features, identities = read_feature_set(path)
        sets.append((Path(path).stem, features.views["global"], features.camera_ids, identities))
    lost: dict[tuple, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, (name, plain, cameras, people) in enumerate(sets):
        kind = "synthetic" if number < len(sets) - len(args.files) else "files"
        for normalized in (False, True):
            x = normalize_rows(normalize_per_camera(plain, cameras) if normalized else plain)
            for distance, measure in DISTANCES.items():
                distances = measure.measure(x)

                def cluster(eps, x=x, distances=distances):
                    return DBSCAN().cluster(x, distances, eps, 0)

                scan = Scan().scan(distances, cameras, cluster)
                truth = pair_f1(scan.labels, people)
                others = {"rho rule (default)": Rho().find(distances),
                          "NPLP's rule": CrossCamera().find(distances, cameras)}  # fmt: skip
                row = losses(scan, truth, others)
                for rule, loss in row.items():
                    lost[kind, distance, normalized][rule].append(loss)
                lost[kind, distance, normalized]["best pair F1"].append(max(truth))
                if args.verbose:
                    text = "; ".join(f"{rule} {loss:.3f}" for rule, loss in row.items())
                    print(f"{name}, {distance}, {normalized}: best {max(truth):.3f}; {text}")
    rules = list(next(iter(lost.values())))
    for kind in dict.fromkeys(key[0] for key in lost):
        keys = [key for key in lost if key[0] == kind]
        lines = [
            [rule, *(f"{np.mean(lost[k][rule]):.3f} ({max(lost[k][rule]):.3f})" for k in keys)]
            for rule in rules
        ]
        headers = [f"{distance}{', normalised' * normalized}" for _, distance, normalized in keys]
        count = len(lost[keys[0]][rules[0]])
        print(f"\n{kind}, {count} sets: loss of pair F1, mean (worst)")
        print(tabulate(lines, ["rule", *headers], tablefmt="github"))


if __name__ == "__main__":
    main()
