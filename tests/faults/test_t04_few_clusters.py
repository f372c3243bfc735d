"""All noise, one cluster, fewer clusters than a batch has identities: never a hang."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.data.samplers import IdentityBatchSampler
from fastreid_uda.engine import label_hooks
from fastreid_uda.labeling.clustering import DBSCAN, HDBSCAN, KMeans
from fastreid_uda.labeling.collapse import LabelingCollapse
from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.refiners.p2lr import P2LR
from fastreid_uda.labeling.types import FeatureSet
from tests.engine.training import make_trainer
from tests.faults.labelers import CLUSTERERS, line_labeler, make_labeler, on_a_line
from tests.faults.watchdog import watchdog
from tests.helpers import make_features

WHOLE_RUN = 60  # seconds, on a machine with other work


@pytest.mark.parametrize("clusters", range(1, 16))
@pytest.mark.parametrize("images", [1, 4])
def test_fewer_clusters_than_p__the_sampler_lowers_p(clusters, images):
    targets = np.repeat(np.arange(clusters), images)
    with watchdog():
        batches = list(
            IdentityBatchSampler(
                targets, None, batch_size=64, images_per_identity=4, num_batches=5, seed=0
            )
        )
    assert [len(batch) for batch in batches] == [4 * clusters] * 5


@pytest.mark.parametrize("distance,eps", [("Jaccard", 0.05), ("Cosine", 0.1), ("Euclidean", 0.1)])
def test_all_noise__is_a_collapse_with_counts_eps_distances_and_key(distance, eps):
    x = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    labeler = make_labeler(distance, DBSCAN(4), eps=FixedEps(eps))
    with (
        watchdog(),
        pytest.raises(
            LabelingCollapse,
            match=rf"found 0 cluster\(s\) of 0 of 40 images at eps {eps} \(on average 1/3/7 other "
            r"images are within .*\).*training needs 2; change UDA\.CLUSTER\.EPS",
        ),
    ):
        labeler(FeatureSet({"global": x}))


@pytest.mark.parametrize(
    "changes,key",
    [
        ({}, "UDA.CLUSTER.EPS"),
        ({"clusterer": KMeans(num_clusters=1)}, "UDA.CLUSTER.KMEANS"),
        ({"clusterer": HDBSCAN(max_distance=1.0)}, "UDA.CLUSTER.HDBSCAN"),
    ],
)
def test_one_cluster__is_a_collapse_with_the_key_of_the_clusterer(changes, key):
    labeler = replace(line_labeler(), **changes)
    with watchdog(), pytest.raises(LabelingCollapse, match=rf"found [01] cluster.*change {key}"):
        labeler(on_a_line(np.linspace(0, 1, 12)))


def test_distances__of_the_message_are_radii_of_so_many_neighbors():
    with pytest.raises(LabelingCollapse, match=r"eps 0\.5 \(.* within 1/2/5\)"):
        line_labeler(0.5)(on_a_line([0, 1, 2, 3, 4, 5]))


def test_distances__beyond_the_pairs_that_were_measured_are_more():
    x = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    with pytest.raises(LabelingCollapse, match=r"other images are within .*/more/more\)"):
        make_labeler("Jaccard", DBSCAN(4), eps=FixedEps(0.05))(FeatureSet({"global": x}))


def test_distances__of_equal_images_count_as_0():
    with pytest.raises(LabelingCollapse, match=r"eps 0\.5 \(.* within 0/2/3\)"):
        line_labeler(0.5)(on_a_line([0, 0, 1, 1, 3, 3]))
    with pytest.raises(LabelingCollapse, match=r"\(all images are at distance 0: .*all alike\)"):
        line_labeler(0.5)(on_a_line([7] * 12))


@pytest.mark.parametrize("clusterer", CLUSTERERS)
def test_one_image_per_camera__names_the_normalization_that_leaves_zeros(clusterer):
    x = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    labeler = make_labeler(clusterer=clusterer, camera_normalization=True)
    with pytest.raises(LabelingCollapse, match=r"are all zero; change UDA\.CAMERA_NORMALIZATION"):
        labeler(FeatureSet({"global": x}, np.arange(60)))
    with pytest.raises(LabelingCollapse) as caught:  # not to blame
        labeler(FeatureSet({"global": np.zeros_like(x)}, np.arange(60)))
    assert "NORMALIZATION" not in str(caught.value)


def test_filters__are_counted_and_the_one_that_emptied_everything_is_named():
    #            4 images, 1 camera | 2 images, 2 cameras | 4 images, 1 camera
    positions = [0, 0.1, 0.2, 0.3, 10, 10.1, 20, 20.1, 20.2, 20.3]
    features = on_a_line(positions, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    with pytest.raises(
        LabelingCollapse,
        match=r"found 3 cluster\(s\) of 10 of 10 images.*\(MSPLR\.MIN_IMAGES left 2 of 8, "
        r"MSPLR\.MIN_CAMERAS left 0 of 0\).*change UDA\.MSPLR\.MIN_CAMERAS, UDA\.REFINERS",
    ):
        line_labeler(min_samples=2, refiners=(MSPLR(),))(features)


def test_filters__of_a_labeling_are_in_its_record():
    features, _ = make_features(noise=0.4)
    labeling = make_labeler(refiners=(MSPLR(), P2LR(p0=0.5)))(features, 0, 3)
    images = [views["global"]["images"] for views in labeling.kept_after.values()]
    assert list(labeling.kept_after) == [
        "clustering", "MSPLR.MIN_IMAGES", "MSPLR.MIN_CAMERAS", "P2LR",
    ]  # fmt: skip
    assert images == sorted(images, reverse=True) and images[-1] < images[-2]
    assert images[0] == labeling.clusters["global"].kept.sum()
    assert images[-1] == labeling.labels["global"].kept.sum()


def test_first_round_all_noise__ends_the_run_and_writes_no_labels(market):
    trainer = make_trainer(market, "UDA.CLUSTER.DBSCAN.MIN_SAMPLES", "1000")
    with watchdog(WHOLE_RUN), pytest.raises(LabelingCollapse, match=r"^Round 0: View 'global'"):
        trainer.train()
    assert not (market / "out/labels").exists() and trainer.records == []


def test_later_round_all_noise__keeps_the_labels_once_and_the_rounds_before(market, monkeypatch):
    label = label_hooks.PseudoLabelHook._label

    def blind(self, features):
        if self.trainer.round:
            features = features.map_views(np.ones_like)
        return label(self, features)

    monkeypatch.setattr(label_hooks.PseudoLabelHook, "_label", blind)
    trainer = make_trainer(market, "SOLVER.MAX_EPOCH", "1", rounds=4)
    with (
        watchdog(WHOLE_RUN),
        pytest.raises(
            LabelingCollapse,
            match=r"^Round 2: View 'global': .*rounds before are kept in OUTPUT_DIR",
        ),
    ):
        trainer.train()
    first, second = trainer.records
    assert second["collapsed"].startswith("Round 1: View 'global': clustering found 1 cluster")
    assert second["kept_after"] == first["kept_after"] and "collapsed" not in first
    assert json.loads(json.dumps(trainer.records)) == trainer.records
    assert (market / "out/model_last.pth").exists()


def test_fewer_clusters_than_p__train_with_smaller_batches_and_one_warning(market, heard):
    trainer = make_trainer(market, "SOLVER.IMS_PER_BATCH", "64", "SOLVER.MAX_EPOCH", "2", rounds=1)
    with watchdog(WHOLE_RUN):
        trainer.train()
    classes = trainer.records[0]["clusters"]
    assert 2 <= classes < 16
    assert heard.text.count(f"{classes} classes are fewer than the 16 of a batch") == 1


def test_filters__of_the_same_name_are_counted_each():
    features, _ = make_features(noise=0.4)
    labeling = make_labeler(refiners=(MSPLR(2, 1), P2LR(p0=0.5), MSPLR(4, 1)))(features, 0, 3)
    left = {name: views["global"]["images"] for name, views in labeling.kept_after.items()}
    assert list(left) == ["clustering", "MSPLR.MIN_IMAGES", "P2LR", "MSPLR.MIN_IMAGES 2"]
    assert left["MSPLR.MIN_IMAGES"] > left["P2LR"] > left["MSPLR.MIN_IMAGES 2"]
