import numpy as np
import pytest

from fastreid_uda.labeling.blockwise import BlockwiseDistances
from fastreid_uda.labeling.distances import Euclidean, Jaccard
from fastreid_uda.labeling.self_assessment import cluster_scores, image_scores
from fastreid_uda.labeling.types import OUTLIER
from tests.helpers import make_features

POINTS = np.float32([[0, 0], [0, 1], [1, 0], [4, 0], [4, 1], [10, 0]])
GOLDEN = [0.688271, 0.732230]


def naive_scores(full, labels):
    """Eq. 6 to 8, one image at a time: (image -> s_i, cluster -> S_k)."""
    images = {}
    for i in np.flatnonzero(labels != OUTLIER):
        rest = [j for j in np.flatnonzero(labels != OUTLIER) if j != i]
        own = [float(full[i, j]) for j in rest if labels[j] == labels[i]]
        others = [float(full[i, j]) for j in rest if labels[j] != labels[i]]
        images[i] = 0.0
        if own and others:
            a, b = sum(own) / len(own), sum(others) / len(others)
            images[i] = (b - a) / max(a, b) if max(a, b) > 0 else 0.0
    clusters = {
        k: float(np.mean([s for i, s in images.items() if labels[i] == k]))
        for k in sorted(set(labels.tolist()) - {OUTLIER})
    }
    return images, clusters


def dense(distances):
    return np.vstack([block for _, _, block in distances.row_blocks()])


def test_cluster_scores__golden_without_noise():
    labels = np.array([0, 0, 0, 1, 1, OUTLIER])
    scores = cluster_scores(Euclidean().measure(POINTS), labels)
    np.testing.assert_allclose(scores, GOLDEN, atol=1e-6)


def test_cluster_scores__golden_order_turns_round_if_noise_counts():
    # The noise as a cluster of its own, whose one image then is in everyone's b.
    labels = np.array([0, 0, 0, 1, 1, 2])
    scores = cluster_scores(Euclidean().measure(POINTS), labels)
    np.testing.assert_allclose(scores[:2], [0.798786, 0.768045], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", [Euclidean(), Jaccard(k1=8, k2=2)], ids=["blocks", "sparse"])
def test_scores__equal_naive_loops(distance, seed):
    rng = np.random.default_rng(seed)
    x = make_features(num_identities=8, images=6, noise=0.5, seed=seed)[0].views["global"]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x[[5, 17, 30]] = x[9]
    distances = distance.measure(x)
    labels = np.unique(rng.integers(OUTLIER, 7 + 5 * seed, size=len(x)), return_inverse=True)[1]
    labels = labels.astype(np.int64) - 1
    images, clusters = naive_scores(dense(distances), labels)
    got = image_scores(distances, labels)
    assert np.isnan(got[labels == OUTLIER]).all()
    for i, expected in images.items():
        assert got[i] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(
        cluster_scores(distances, labels), list(clusters.values()), atol=1e-5
    )


def scores_of_line(positions, labels):
    points = np.array(positions, dtype=np.float32)[:, None]
    return cluster_scores(BlockwiseDistances(points, "euclidean"), np.array(labels))


def test_cluster_scores__one_cluster_has_no_other():
    assert scores_of_line([0, 1, 5], [0, 0, 0]).tolist() == [0]
    assert scores_of_line([0, 1, 5, 9], [0, 0, 0, OUTLIER]).tolist() == [0]


def test_cluster_scores__an_image_alone_in_its_cluster():
    # Image 0: a = 1, b = 9; image 1: a = 1, b = 8; image 2 is alone.
    scores = scores_of_line([0, 1, 9], [0, 0, 1])
    assert scores.tolist() == pytest.approx([(8 / 9 + 7 / 8) / 2, 0])


def test_cluster_scores__identical_images():
    assert scores_of_line([2, 2, 2, 2], [0, 0, 1, 1]).tolist() == [0, 0]
    assert scores_of_line([2, 2, 7, 7], [0, 0, 1, 1]).tolist() == [1, 1]
    # The same images in two clusters: b = 0, a = 3.
    assert scores_of_line([2, 5, 2, 2], [0, 0, 1, 1])[1] == pytest.approx(1)


def test_cluster_scores__impure_clusters_are_below_zero():
    # Each cluster is spread over both ends: a = 10, b = 5.
    assert scores_of_line([0, 10, 0, 10], [0, 0, 1, 1]).tolist() == pytest.approx([-0.5, -0.5])


def test_cluster_scores__a_cluster_without_images_and_no_cluster_at_all():
    assert scores_of_line([0, 1, 9, 9], [0, 0, 2, 2])[1] == 0
    assert np.isfinite(scores_of_line([0, 1, 9, 9], [0, 0, 2, 2])).all()
    assert scores_of_line([0, 1], [OUTLIER, OUTLIER]).tolist() == []
