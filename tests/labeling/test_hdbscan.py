import warnings

import numpy as np
import pytest
import sklearn.cluster
from scipy.sparse import csr_matrix

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.clustering import HDBSCAN
from fastreid_uda.labeling.collapse import LabelingCollapse
from fastreid_uda.labeling.distances import CAJaccard, Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.eps import FixedEps
from fastreid_uda.labeling.hdbscan import (
    core_distances,
    spanning_chain,
)
from fastreid_uda.labeling.pairwise import SparseDistances
from fastreid_uda.labeling.pipeline import PseudoLabeler
from fastreid_uda.labeling.refiners.secret import SECRET
from fastreid_uda.labeling.types import OUTLIER, FeatureSet
from tests.helpers import make_features
from tests.labeling.test_clustering import clustered, dense, line, same_partition


def sklearn_labels(full, min_cluster_size, min_samples, selection="eom"):
    """scikit-learn's HDBSCAN on a dense matrix."""
    hdbscan = sklearn.cluster.HDBSCAN(
        min_cluster_size=min_cluster_size, min_samples=min_samples, metric="precomputed",
        cluster_selection_method=selection, copy=True,
    )  # fmt: skip
    return hdbscan.fit(full.astype(np.float64)).labels_


def naive_reachability(full, min_samples):
    """max(core of i, core of j, distance), the core being the distance of the n-th nearest."""
    core = np.sort(full, axis=1)[:, min_samples - 1]
    return np.maximum(np.maximum(core[:, None], core[None]), full)


def component_sizes(connected):
    """How many images each image is connected to, itself included, one neighbour at a time."""
    sizes = np.empty(len(connected), dtype=int)
    for n in range(len(connected)):
        seen, todo = {n}, [n]
        while todo:
            new = set(np.flatnonzero(connected[todo.pop()]).tolist()) - seen
            seen |= new
            todo += new
        sizes[n] = len(seen)
    return sizes


def random_case(seed):
    """(features, distances, the same as a dense matrix up to the limit, clusterer)"""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(6, 140))
    features = clustered(size, seed=seed, noise=float(rng.choice([0.2, 0.5, 0.8, 1.2])))
    if seed % 3 == 0:  # identical images
        features[rng.integers(0, size, size // 3)] = features[rng.integers(0, size, size // 3)]
    distance, limits = [
        (Jaccard(k1=8, k2=2), [0.0, 0.6]),
        (Jaccard(k1=20, k2=6), [0.0, 0.7]),
        (Euclidean(), [0.5, 0.9, 3.0]),
        (Cosine(), [0.3, 3.0]),
    ][seed % 4]
    limit = float(rng.choice(limits))
    clusterer = HDBSCAN(
        int(rng.integers(2, 6)), int(rng.integers(1, 6)), str(rng.choice(["eom", "leaf"])),
        max_distance=limit,
    )  # fmt: skip
    distances = distance.measure(features)
    return features, distances, np.minimum(dense(distances), np.float32(limit or 1)), clusterer


@pytest.mark.parametrize("seed", range(80))
def test_hdbscan__equals_sklearn_on_the_dense_matrix(seed):
    features, distances, full, clusterer = random_case(seed)
    labels = clusterer.cluster(features, distances, None, seed=0)
    reachability = naive_reachability(full, clusterer.min_samples)
    limit = np.float32(clusterer.max_distance or 1)
    kept = component_sizes(reachability < limit) >= clusterer.min_cluster_size
    if kept.all():
        expected = sklearn_labels(
            full, clusterer.min_cluster_size, clusterer.min_samples, clusterer.cluster_selection
        )
    else:  # the rest, at their reachabilities; images at the limit are outliers
        expected = np.full(len(full), OUTLIER)
        if kept.any():
            rest = reachability[np.ix_(kept, kept)]
            np.fill_diagonal(rest, 0)
            expected[kept] = sklearn_labels(
                rest, clusterer.min_cluster_size, 1, clusterer.cluster_selection
            )
    assert same_partition(labels, expected)
    assert labels.dtype == np.int64
    first = [np.flatnonzero(labels == k)[0] for k in range(labels.max() + 1)]
    assert first == sorted(first)  # numbered by appearance, all of them used


def test_random_cases__are_of_every_kind():
    kinds = set()
    for seed in range(80):
        _, _, full, clusterer = random_case(seed)
        reachability = naive_reachability(full, clusterer.min_samples)
        sizes = component_sizes(reachability < np.float32(clusterer.max_distance or 1))
        kinds.add("all left out" if sizes.max() < clusterer.min_cluster_size else "some clusters")
        kinds.add("connected" if sizes.min() == len(full) else "several components")
        kinds.add("isolated" if sizes.min() == 1 else "none isolated")
    assert len(kinds) == 6


def separate_clusters(seed):
    """Three groups of 15 images, 15 images that are at distance 1 from all, and their groups."""
    rng = np.random.default_rng(seed)
    full = np.ones((60, 60), dtype=np.float32)
    for start in (0, 15, 30):
        block = np.triu(rng.uniform(0.1, 0.6, (15, 15)), 1)
        full[start : start + 15, start : start + 15] = block + block.T
    np.fill_diagonal(full, 0)
    order = rng.permutation(60)
    groups = np.r_[np.repeat([0, 1, 2], 15), np.full(15, OUTLIER)]
    return full[np.ix_(order, order)], groups[order]


@pytest.mark.parametrize("seed", range(5))
def test_hdbscan__isolated_images_are_outliers_in_any_order(seed):
    full, groups = separate_clusters(seed)
    i, j = np.nonzero(full < 1)
    distances = SparseDistances(csr_matrix((full[i, j], (i, j)), shape=full.shape))
    labels = HDBSCAN().cluster(np.zeros((60, 1)), distances, None, seed=0)
    assert same_partition(labels, groups)


def test_hdbscan__isolated_images_are_luck_in_the_dense_matrix():
    # What the test above is there for: the same images are in a cluster or not.
    matrices = [separate_clusters(seed) for seed in range(5)]
    isolated = [(sklearn_labels(full, 4, 4)[groups < 0] >= 0).sum() for full, groups in matrices]
    assert min(isolated) == 0 and max(isolated) > 0


def test_hdbscan__toy():
    features, distances = line(0, 0.1, 0.2, 0.3, 9, 5, 5.1, 5.2, 5.3)
    labels = HDBSCAN(max_distance=2.0).cluster(features, distances, None, seed=0)
    assert labels.tolist() == [0, 0, 0, 0, OUTLIER, 1, 1, 1, 1]


def test_hdbscan__clusters_of_different_density():
    # No radius of DBSCAN finds both: 0.2 loses the second, 2 joins the first to the third.
    features, distances = line(0, 0.1, 0.2, 0.3, 20, 22, 24, 26, 1.5, 1.6, 1.7, 1.8)
    labels = HDBSCAN(max_distance=100.0).cluster(features, distances, None, seed=0)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_hdbscan__duplicates_are_a_cluster():
    features, distances = line(3, 3, 3, 3, 7, 7, 7, 7, 7, 50)
    labels = HDBSCAN(max_distance=20.0).cluster(features, distances, None, seed=0)
    assert labels.tolist() == [0] * 4 + [1] * 5 + [OUTLIER]


@pytest.mark.parametrize("selection", ["eom", "leaf"])
def test_hdbscan__one_group_is_no_cluster(selection):
    # All images alike, or a single dense group: nothing splits, as in scikit-learn.
    for positions in ([1] * 9, [0, 0.1, 0.2, 0.3, 0.4]):
        features, distances = line(*positions)
        hdbscan = HDBSCAN(cluster_selection=selection, max_distance=9.0)
        labels = hdbscan.cluster(features, distances, None, seed=0)
        assert same_partition(labels, sklearn_labels(dense(distances), 4, 4, selection))


def test_hdbscan__pairs_at_the_limit_are_not_near():
    features, distances = line(0, 1, 2, 3, 10, 11, 12, 13)
    at, above = (
        HDBSCAN(2, 2, max_distance=limit).cluster(features, distances, None, seed=0)
        for limit in (1.0, 1.01)
    )
    assert at.tolist() == [OUTLIER] * 8 and above.tolist() == [0] * 4 + [1] * 4


def test_hdbscan__limit_beyond_the_stored_pairs_changes_nothing():
    features = clustered(80)
    distances = Jaccard(k1=8, k2=2).measure(features)
    labels = [
        HDBSCAN(max_distance=m).cluster(features, distances, None, 0) for m in (0.0, 1.0, 5.0)
    ]
    assert (labels[0] == labels[1]).all() and (labels[0] == labels[2]).all()
    assert labels[0].max() > 3


@pytest.mark.parametrize("seed", range(10))
def test_spanning_chain__equals_prim_on_the_dense_matrix(seed):
    rng = np.random.default_rng(seed)
    full = np.triu(rng.integers(0, 6, (30, 30)), 1)  # ties everywhere
    full = (full + full.T).astype(np.float32)
    limit, min_samples = 5.0, int(rng.integers(1, 5))
    i, j = np.nonzero(full < limit)
    graph = csr_matrix((full[i, j], (i, j)), shape=full.shape)
    reachability = naive_reachability(full, min_samples)
    cores = core_distances(graph, min_samples, limit)
    assert (cores == np.sort(full, axis=1)[:, min_samples - 1]).all()
    order, reached = spanning_chain(graph, cores, limit)
    expected, distance = [0], [limit]
    while len(expected) < 30:
        rest = [n for n in range(30) if n not in expected]
        distance.append(min(reachability[m][n] for m in expected for n in rest))
        expected.append(
            min(n for n in rest if min(reachability[m][n] for m in expected) == distance[-1])
        )
    assert order.tolist() == expected and reached.tolist() == distance


def test_core_distances__of_an_image_with_few_neighbors_is_the_limit():
    graph = csr_matrix((np.float32([0, 0.5, 0.5, 0, 0]), ([0, 0, 1, 1, 2], [0, 1, 0, 1, 2])))
    assert core_distances(graph, 2, 1.0).tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"min_cluster_size": 1}, "HDBSCAN.MIN_CLUSTER_SIZE is 1, but it must be at least 2"),
        ({"min_samples": 0}, "HDBSCAN.MIN_SAMPLES is 0, but it must be at least 1"),
        ({"max_distance": -0.1}, r"HDBSCAN.MAX_DISTANCE is -0\.1"),
        ({"max_distance": np.inf}, "HDBSCAN.MAX_DISTANCE is inf"),
        ({"cluster_selection": "dbscan"}, "HDBSCAN.CLUSTER_SELECTION is 'dbscan'.*eom, leaf"),
    ],
)
def test_hdbscan__refuses_arguments_out_of_range(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        HDBSCAN(**arguments)


@pytest.mark.parametrize("distance", [Jaccard, CAJaccard, Cosine, Euclidean])
def test_hdbscan__needs_a_largest_distance_where_all_pairs_are_known(distance):
    if distance.fill == 1:
        HDBSCAN().check_distances(distance.fill)
        return
    features, distances = line(0, 1, 2, 3, 4)
    for refuse in (
        lambda: HDBSCAN().check_distances(distance.fill),
        lambda: HDBSCAN().cluster(features, distances, None, 0),
    ):
        with pytest.raises(UserError, match=r"HDBSCAN\.MAX_DISTANCE is 0.*set it to the distance"):
            refuse()
    HDBSCAN(max_distance=0.5).check_distances(distance.fill)


@pytest.mark.parametrize("images", [2, 3, 4, 5])
def test_hdbscan__fewer_images_than_it_needs(images):
    features, distances = line(*range(images))
    for arguments, key, need in (
        ({"min_cluster_size": 4, "min_samples": 1}, "MIN_CLUSTER_SIZE", 4),
        ({"min_cluster_size": 2, "min_samples": 4}, "MIN_SAMPLES", 4),
    ):
        hdbscan = HDBSCAN(**arguments, max_distance=9.0)
        if images >= need:
            assert hdbscan.cluster(features, distances, None, 0).shape == (images,)
            continue
        with pytest.raises(UserError, match=rf"{key} is 4, but there are only {images} target"):
            hdbscan.cluster(features, distances, None, 0)


def test_hdbscan__needs_distances():
    with pytest.raises(ValueError, match="needs distances"):
        HDBSCAN().cluster(np.zeros((9, 1)), None, None, seed=0)


def test_hdbscan__no_warnings_and_no_change_of_the_distances():
    features = clustered(90)
    features[10:20] = features[10]
    distances = Jaccard(k1=8, k2=2).measure(features)
    before = dense(distances)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HDBSCAN().cluster(features, distances, None, seed=0)
    assert (dense(distances) == before).all()


def labeler(**changes):
    options = {"distance": Jaccard(k1=8, k2=2), "eps": FixedEps(0.6), "clusterer": HDBSCAN(3, 3)}
    return PseudoLabeler(**(options | changes))


@pytest.mark.parametrize(
    ("distance", "limit"),
    [(Jaccard(k1=8, k2=2), 0.0), (CAJaccard(), 0.0), (Cosine(), 0.7), (Euclidean(), 1.2)],
)
def test_pipeline__labels_every_view_with_hdbscan(distance, limit):
    features, identities = make_features(noise=0.1)
    x = features.views["global"]
    features = FeatureSet({"global": x, "top": x[:, :24], "bottom": x[:, 8:]}, features.camera_ids)
    labeling = labeler(
        distance=distance,
        clusterer=HDBSCAN(3, 3, max_distance=limit),
        camera_normalization=True,
        refiners=(SECRET(),),
    )(features)
    assert labeling.eps == {}
    for part in labeling.clusters.values():
        kept = part.labels != OUTLIER
        assert kept.mean() > 0.8
        assert len(set(zip(part.labels[kept], identities[kept], strict=True))) <= part.num_classes


def test_collapse__names_the_keys_of_hdbscan():
    features = FeatureSet({"global": np.ones((20, 4), np.float32)})
    with pytest.raises(LabelingCollapse) as error:
        labeler()(features)
    assert "found 0 cluster(s)" in str(error.value)
    assert "change UDA.CLUSTER.HDBSCAN or UDA.CLUSTER.NAME" in str(error.value)
    assert "EPS" not in str(error.value)
