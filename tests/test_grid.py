"""Every combination of the labeling stages by config alone, and a sample of them in training."""

import re
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from fastreid_uda.config import build_labeler
from fastreid_uda.config_checks import check_config
from fastreid_uda.config_loading import load_config
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.clustering import CLUSTERERS
from fastreid_uda.labeling.distances import DISTANCES
from fastreid_uda.labeling.eps import EPS_RULES
from fastreid_uda.labeling.quality import label_accuracy
from fastreid_uda.labeling.refiners import REFINERS
from fastreid_uda.labeling.types import FeatureSet
from tests.engine.training import make_trainer
from tests.helpers import ROOT, make_features, write_market

CHAINS = [(), *((name,) for name in REFINERS), *permutations(REFINERS, 2), tuple(REFINERS)]
OPTIONS = [
    "UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.RHO.FRACTION", "0.06",
    "UDA.CLUSTER.CROSSCAMERA.FRACTION", "0.06", "UDA.CLUSTER.DBSCAN.MIN_SAMPLES", "3",
    "UDA.CLUSTER.KMEANS.NUM_CLUSTERS", "12", "UDA.DISTANCE.JACCARD.K1", "8",
    "UDA.DISTANCE.CAJACCARD.K1_INTER", "6", "UDA.CLUSTER.HDBSCAN.MAX_DISTANCE", "1.0",
    "UDA.NPLP.STARTUP_ROUNDS", "0", "UDA.P2LR.P0", "0.5",
]  # fmt: skip


@pytest.fixture(scope="module")
def base():
    return load_config(str(ROOT / "configs/Synthetic/baseline.yml"), OPTIONS)


@pytest.fixture(scope="module")
def people():
    """Twelve people who lie apart in three views, and the extras that a mean teacher gives."""
    features, identities = make_features(images=10, noise=0.25)
    rng = np.random.default_rng(1)
    x = features.views["global"]

    def again():
        return x + 0.1 * rng.normal(size=x.shape).astype(np.float32)

    views = {"global": x, "top": again(), "bottom": again()}
    extras = {"student/global": again(), "unnormalized/global": 5 * x}
    return FeatureSet(views, features.camera_ids, extras), identities


def config_of(base, *overrides):
    cfg = base.clone()
    cfg.defrost()
    cfg.merge_from_list(list(overrides))
    check_config(cfg)
    return cfg


class Remembering:
    """A stage that works on the same features once, whatever chain of refiners they are for."""

    def __init__(self, stage, known):
        self.stage, self.known = stage, known

    def measure(self, features, *arguments, limit=None):
        key = (features.tobytes(), limit)
        if key not in self.known:
            self.known[key] = self.stage.measure(features, *arguments, limit=limit)
        return self.known[key]

    def cluster(self, features, distances, eps, seed):
        key = (features.tobytes(), eps, seed)
        if key not in self.known:
            self.known[key] = self.stage.cluster(features, distances, eps, seed)
        return self.known[key].copy()

    def __getattr__(self, name):
        return getattr(self.stage, name)


@pytest.mark.parametrize("normalized", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("distance", list(DISTANCES))
@pytest.mark.parametrize("clusterer", list(CLUSTERERS))
def test_every_chain_of_refiners__labels(base, people, clusterer, distance, normalized):
    features, identities = people
    measured, clustered = {}, {}
    for chain in CHAINS:
        cfg = config_of(
            base, "UDA.REFINERS", str(chain), "UDA.CLUSTER.NAME", clusterer,
            "UDA.DISTANCE.NAME", distance, "UDA.CAMERA_NORMALIZATION", str(normalized),
        )  # fmt: skip
        labeler = build_labeler(cfg)
        labeler.check_views(tuple(features.views))
        labeler.check_cameras(features.camera_ids)
        labeler = replace(
            labeler,
            distance=Remembering(labeler.distance, measured),
            clusterer=Remembering(labeler.clusterer, clustered),
        )
        labeling = labeler(features, round_index=1, num_rounds=3)
        for view, part in labeling.labels.items():
            where = (chain, view)
            assert part.num_classes >= 2 and part.kept.sum() >= 20, where
            assert label_accuracy(part.labels[part.kept], identities[part.kept]) > 0.8, where


@pytest.mark.parametrize("rule", list(EPS_RULES))
@pytest.mark.parametrize("distance", list(DISTANCES))
def test_every_eps_rule__finds_the_people(base, people, rule, distance):
    features, identities = people
    cfg = config_of(base, "UDA.CLUSTER.EPS_RULE", rule, "UDA.DISTANCE.NAME", distance)
    part = build_labeler(cfg)(features).labels["global"]
    assert label_accuracy(part.labels[part.kept], identities[part.kept]) > 0.8


ONE_CAMERA = {"cameras": np.zeros(120, np.int64)}
NO_CAMERAS = {"cameras": None}
ONE_VIEW = {"views": ("global",)}


@pytest.mark.parametrize(
    ("overrides", "given"),
    [
        (["UDA.REFINERS", "('SECRET',)"], ONE_VIEW),
        (["UDA.REFINERS", "('INCLR',)"], ONE_VIEW),
        (["UDA.REFINERS", "('MSPLR', 'SECRET')"], ONE_VIEW),
        (["UDA.REFINERS", "('SECRET',)", "UDA.JOIN_VIEWS", "True"], {}),
        (["UDA.REFINERS", "('MSPLR',)"], ONE_CAMERA),
        (["UDA.REFINERS", "('MSPLR',)"], NO_CAMERAS),
        (["UDA.REFINERS", "('NPLP',)", "UDA.CLUSTER.EPS_RULE", "CrossCamera"], ONE_CAMERA),
        (["UDA.REFINERS", "('NPLP',)", "UDA.CLUSTER.NAME", "KMeans",
          "UDA.CLUSTER.EPS_RULE", "CrossCamera"], ONE_CAMERA),
        (["UDA.CLUSTER.EPS_RULE", "CrossCamera"], NO_CAMERAS),
        (["UDA.DISTANCE.NAME", "CAJaccard"], ONE_CAMERA),
        (["UDA.DISTANCE.NAME", "CAJaccard"], NO_CAMERAS),
        (["UDA.CAMERA_NORMALIZATION", "True"], NO_CAMERAS),
    ],
)  # fmt: skip
def test_what_cannot_work__is_refused_with_a_key_that_exists(base, people, overrides, given):
    features, _ = people
    cfg = config_of(base, "UDA.CAMERA_NORMALIZATION", "False", *overrides)
    labeler = build_labeler(cfg)
    with pytest.raises(UserError) as error:
        labeler.check_views(given.get("views", tuple(features.views)))
        labeler.check_cameras(given.get("cameras", features.camera_ids))
    assert "\n" not in str(error.value)
    keys = re.findall(r"(?:UDA|MODEL)(?:\.[A-Z0-9_]+)+", str(error.value))
    assert keys
    for key in keys:
        node = cfg
        for name in key.split("."):
            assert name in node, f"{key} is no key"
            node = node[name]


# Every value of every axis at least once: refiners, clusterer, distance, teachers, backbone, loss.
TRAINED = {
    "hdbscan-osnet": ("baseline", ["UDA.CLUSTER.NAME", "HDBSCAN",
        "UDA.CLUSTER.HDBSCAN.MIN_CLUSTER_SIZE", "2", "UDA.CLUSTER.HDBSCAN.MIN_SAMPLES", "2",
        "MODEL.BACKBONE.NAME", "build_osnet_backbone", "MODEL.BACKBONE.DEPTH", "x0_25",
        "MODEL.BACKBONE.FEAT_DIM", "128"]),
    "ca_jaccard-mobilenet": ("baseline", ["UDA.DISTANCE.NAME", "CAJaccard",
        "UDA.CLUSTER.EPS", "0.5", "MODEL.BACKBONE.NAME", "build_mobilenetv2_backbone",
        "MODEL.BACKBONE.DEPTH", "1.0x", "MODEL.BACKBONE.FEAT_DIM", "1280"]),
    "msplr-kmeans-two_teachers": ("p2lr", ["UDA.REFINERS", "('MSPLR',)",
        "UDA.MSPLR.MIN_IMAGES", "2"]),
    "msplr_p2lr-cosine-one_teacher": ("p2lr", ["UDA.REFINERS", "('MSPLR', 'P2LR')",
        "UDA.MSPLR.MIN_IMAGES", "2", "UDA.MEAN_TEACHER.STUDENTS", "1", "UDA.CLUSTER.NAME", "DBSCAN",
        "UDA.DISTANCE.NAME", "Cosine", "UDA.CLUSTER.EPS", "0.2"]),
    "nplp-kmeans-euclidean": ("nplp", ["UDA.CLUSTER.NAME", "KMeans", "UDA.CLUSTER.EPS", "None",
        "UDA.CLUSTER.KMEANS.NUM_CLUSTERS", "6", "UDA.DISTANCE.NAME", "Euclidean",
        "UDA.NPLP.STARTUP_ROUNDS", "0", "UDA.NPLP.MIN_SAMPLES", "2"]),
    "nplp-two_teachers": ("nplp", ["UDA.MEAN_TEACHER.ENABLED", "True",
        "UDA.MEAN_TEACHER.STUDENTS", "2", "UDA.NPLP.STARTUP_ROUNDS", "0"]),
    "secret_msplr-camera_normalization": ("secret", ["UDA.REFINERS", "('SECRET', 'MSPLR')",
        "UDA.SECRET.K", "0.1", "UDA.MSPLR.MIN_IMAGES", "2"]),
    "nplp_inclr": ("inclr", ["UDA.REFINERS", "('NPLP', 'INCLR')", "UDA.NPLP.STARTUP_ROUNDS", "0",
        "UDA.NPLP.MIN_SAMPLES", "2", "UDA.CLUSTER.NAME", "DBSCAN"]),
    "msplr_spcl": ("baseline", ["UDA.REFINERS", "('MSPLR', 'SpCL')", "UDA.MSPLR.MIN_IMAGES", "2",
        "UDA.SPCL.MIN_SAMPLES", "2", "UDA.SPCL.GAP", "0.05"]),
    "secret-no_teacher-no_normalization": ("secret", ["UDA.MEAN_TEACHER.ENABLED", "False",
        "MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'TripletLoss')",
        "UDA.CAMERA_NORMALIZATION", "False"]),
}  # fmt: skip


@pytest.mark.parametrize("cell", TRAINED)
def test_sample_of_cells__trains_two_rounds(tmp_path, monkeypatch, cell):
    method, overrides = TRAINED[cell]
    write_market(tmp_path / "data")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    trainer = make_trainer(tmp_path, "SOLVER.MAX_EPOCH", "1", *overrides, method=method)
    before = {name: tensor.clone() for name, tensor in trainer.model.named_parameters()}
    trainer.train()
    assert [record["round"] for record in trainer.records] == [0, 1]
    assert all(record["clusters"] >= 2 for record in trainer.records)
    moved = [name for name, tensor in trainer.model.named_parameters()
             if "heads" not in name and not tensor.equal(before[name])]  # fmt: skip
    assert moved


def test_sample__covers_every_axis():
    words = " ".join(" ".join([method, *map(str, o)]) for method, o in TRAINED.values()).lower()
    for name in (*REFINERS, *CLUSTERERS, *DISTANCES):
        # DBSCAN and Jaccard are those of the base config
        assert name.lower() in words or name in ("DBSCAN", "Jaccard"), name
