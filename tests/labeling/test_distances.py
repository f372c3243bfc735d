import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from fastreid_uda.errors import UserError
from fastreid_uda.labeling import pairwise
from fastreid_uda.labeling.blockwise import BlockwiseDistances
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.distances import DISTANCES, Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.pairwise import ROUNDING, SparseDistances
from fastreid_uda.labeling.types import OUTLIER


def naive_distances(x, metric):
    """One pair at a time, in float64."""
    x = x.astype(np.float64)
    result = np.zeros((len(x), len(x)))
    for i, j in np.ndindex(result.shape):
        if metric == "euclidean":
            result[i, j] = np.sqrt(((x[i] - x[j]) ** 2).sum())
        elif i != j:
            lengths = np.sqrt((x[i] @ x[i]) * (x[j] @ x[j]))
            result[i, j] = 1 - x[i] @ x[j] / (lengths or 1)
    return result


def naive_smallest_mean(matrix, fraction, camera_ids=None, zeros=False):
    """All pairs i < j that take part, sorted; the mean of the first ones, at least one."""
    pairs = [(i, j) for i in range(len(matrix)) for j in range(i + 1, len(matrix))]
    if camera_ids is not None:
        pairs = [(i, j) for i, j in pairs if camera_ids[i] != camera_ids[j]]
    upper = sorted(matrix[i, j] for i, j in pairs)
    upper = [d for d in upper if zeros or d > 0]
    count = max(1, round(fraction * len(upper)))
    return sum(upper[:count]) / len(upper[:count]), count


def unit_rows(num_rows, dimension, seed=0):
    rng = np.random.default_rng(seed)
    return normalize_rows(rng.normal(size=(num_rows, dimension)).astype(np.float32))


def with_equal_and_zero_rows(num_rows=30):
    features = unit_rows(num_rows, 24)
    features[[2, 11, 29]] = features[5]
    features[[0, 17]] = 0
    return features


def random_sparse(num_rows=40, share=0.2, seed=0):
    """A SparseDistances with stored zeros off the diagonal, and the same as a dense array."""
    rng = np.random.default_rng(seed)
    full = np.where(rng.random((num_rows,) * 2) < share, rng.random((num_rows,) * 2), 1)
    full = np.triu(full, 1).astype(np.float32)
    full[0, 1] = full[3, 7] = 0
    full = full + full.T
    np.fill_diagonal(full, 0)
    i, j = np.nonzero(full < 1)
    return SparseDistances(csr_matrix((full[i, j], (i, j)))), full


def all_distances(distances):
    blocks = list(distances.row_blocks())
    assert [start for start, _, _ in blocks[1:]] == [stop for _, stop, _ in blocks[:-1]]
    return np.vstack([block for _, _, block in blocks])


def check_graph(graph, full, radius):
    """The graph holds the pairs within the radius of a dense array, zeros and diagonal too."""
    stored = np.zeros(full.shape, dtype=bool)
    entries = graph.tocoo()
    stored[entries.row, entries.col] = True
    np.testing.assert_array_equal(stored, full <= np.float32(radius))
    np.testing.assert_array_equal(entries.data, full[entries.row, entries.col])
    assert graph.nnz == stored.sum() and stored.diagonal().all()
    assert graph.has_sorted_indices and graph.dtype == np.float32


NAMES = ["Cosine", "Euclidean", "Jaccard"]  # those that need no cameras
# Blocks of 5 rows have edges inside the data; blocks of 64 do not.
BLOCKWISE = [(metric, size) for metric in ("cosine", "euclidean") for size in (1, 5, 64)]


@pytest.mark.parametrize(("metric", "size"), BLOCKWISE)
def test_blockwise__row_blocks_equal_naive_loops(metric, size):
    features = with_equal_and_zero_rows()
    got = all_distances(BlockwiseDistances(features, metric, size))
    np.testing.assert_allclose(got, naive_distances(features, metric), atol=1e-6)
    assert got.dtype == np.float32
    assert (got == got.T).all() and (got.diagonal() == 0).all() and (got >= 0).all()


@pytest.mark.parametrize(("metric", "size"), BLOCKWISE)
@pytest.mark.parametrize("radius", [0.0, 0.7, 1.0, 1.3, 3.0])
def test_blockwise__within_equals_dense_comparison(metric, size, radius):
    distances = BlockwiseDistances(with_equal_and_zero_rows(), metric, block_rows=size)
    check_graph(distances.within(radius), all_distances(distances), radius)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_blockwise__within_a_radius_that_is_a_distance(metric):
    distances = BlockwiseDistances(unit_rows(90, 300), metric, block_rows=32)
    full = all_distances(distances)
    for radius in full[0, 1:10]:
        check_graph(distances.within(float(radius)), full, radius)


def test_blockwise__equal_rows_are_at_exactly_zero():
    features = np.repeat(unit_rows(1, 777), 40, axis=0)
    for metric in ("cosine", "euclidean"):
        assert (all_distances(BlockwiseDistances(features, metric, block_rows=7)) == 0).all()


def test_euclidean__toy():
    features = np.array([[0, 0], [3, 4]], dtype=np.float32)
    assert all_distances(Euclidean().measure(features)).tolist() == [[0, 5], [5, 0]]


def test_cosine__zero_rows_are_alone():
    features = np.array([[1, 0], [0, 0], [0, 0], [0, 1]], dtype=np.float32)
    assert (all_distances(Cosine().measure(features)) == 1 - np.eye(4)).all()


def test_cosine__length_of_rows_does_not_matter():
    features = unit_rows(20, 6) * np.arange(1, 21, dtype=np.float32)[:, None]
    got = all_distances(Cosine().measure(features))
    np.testing.assert_allclose(got, naive_distances(features, "cosine"), atol=1e-6)


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.999])
def test_sparse__within_equals_dense_comparison(radius):
    distances, full = random_sparse()
    check_graph(distances.within(radius), full, radius)


def test_sparse__within_includes_a_distance_equal_to_the_radius():
    matrix = csr_matrix((np.float32([0, 0.6, 0.6, 0]), ([0, 0, 1, 1], [0, 1, 0, 1])))
    # As float64 the float32 nearest to 0.6 is above 0.6.
    assert SparseDistances(matrix).within(0.6).nnz == 4


@pytest.mark.parametrize("radius", [1.0, 1.5])
def test_sparse__within_refuses_a_radius_that_reaches_all_pairs(radius):
    distances, _ = random_sparse()
    with pytest.raises(UserError, match=rf"UDA.CLUSTER.EPS is {radius}"):
        distances.within(radius)


def test_sparse__row_blocks_fill_what_is_missing():
    distances, full = random_sparse()
    np.testing.assert_array_equal(all_distances(distances), full)
    assert distances.fill == 1 and distances.num_rows == 40


def test_sparse__needs_the_diagonal():
    with pytest.raises(ValueError, match="diagonal"):
        SparseDistances(csr_matrix(np.array([[0, 0.5], [0.5, 0]], dtype=np.float32)))


def test_sparse__unsorted_indices_are_sorted_in_a_copy():
    matrix = csr_matrix((np.float32([0.5, 0, 0, 0.5]), [1, 0, 1, 0], [0, 2, 4]), shape=(2, 2))
    graph = SparseDistances(matrix).within(0.6)
    assert graph.indices.tolist() == [0, 1, 0, 1] and graph.data.tolist() == [0, 0.5, 0.5, 0]
    assert matrix.indices.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("parts", [1, 7, 1 << 20])
def test_sparse__does_not_depend_on_how_it_is_cut(monkeypatch, parts):
    monkeypatch.setattr(pairwise, "_ENTRIES_AT_A_TIME", parts)
    distances, full = random_sparse()
    check_graph(distances.within(0.4), full, 0.4)
    labels = np.arange(40) % 4 - 1
    np.testing.assert_allclose(
        np.stack(distances.class_sums(labels)), naive_class_sums(full, labels), rtol=1e-6
    )
    assert distances.count_near(0.5, 0.1) == sum(abs(d - 0.5) <= 0.1 for d in upper_half(full))


def upper_half(full):
    return full[np.triu_indices(len(full), 1)].astype(np.float64)


def with_limit(limit=0.6):
    """Sparse distances of which only those up to a limit are stored, and all as a dense array."""
    distances, full = random_sparse()
    return SparseDistances(distances.within(limit), limit=limit), full


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.6])
def test_sparse_with_limit__answers_up_to_the_limit(radius):
    distances, full = with_limit()
    check_graph(distances.within(radius), full, radius)
    check_graph(distances.below(radius or 0.1), full, np.nextafter(np.float32(radius or 0.1), 0))
    rows = np.arange(3, 30)
    check_graph(distances.subset(rows).within(radius), full[np.ix_(rows, rows)], radius)
    expected = sum(abs(d - 0.4) <= 0.2 for d in upper_half(full))
    assert distances.count_near(0.4, tolerance=0.2) == expected


def test_sparse_with_limit__of_eps_and_rounding_can_count_pairs_near_eps():
    for eps in np.random.default_rng(0).uniform(0.1, 0.9, 200):
        assert with_limit(float(eps) + ROUNDING)[0].count_near(float(eps)) >= 0


@pytest.mark.parametrize(
    "question",
    [
        lambda distances: distances.within(0.61),
        lambda distances: distances.below(0.7),
        lambda distances: distances.count_near(0.6),
        lambda distances: distances.radii(np.array([2.0])),
        lambda distances: distances.smallest_mean(0.1),
        lambda distances: distances.class_sums(np.zeros(40, dtype=np.int64)),
        lambda distances: next(distances.row_blocks()),
        lambda distances: distances.subset(np.arange(9)).within(0.61),
    ],
    ids=["within", "below", "near", "radii", "mean", "sums", "blocks", "subset"],
)
def test_sparse_with_limit__refuses_what_it_does_not_know(question):
    with pytest.raises(ValueError, match=r"only those up to 0\.6 are"):
        question(with_limit()[0])


def test_sparse_with_limit__one_that_reaches_all_pairs_is_none():
    distances, full = random_sparse()
    whole = SparseDistances(distances.below(1), limit=1.0)
    np.testing.assert_array_equal(all_distances(whole), full)


@pytest.mark.parametrize("exact", [False, True])
def test_jaccard__measures_up_to_a_limit(exact):
    if exact:
        pytest.importorskip("faiss")
        pytest.importorskip("torch")
    features, jaccard = unit_rows(80, 4), Jaccard(8, 3, exact=exact)
    limited, whole = jaccard.measure(features, limit=0.5), jaccard.measure(features)
    assert (limited.within(0.5) != whole.within(0.5)).nnz == 0
    assert limited.within(0.5).nnz == whole.within(0.5).nnz
    with pytest.raises(ValueError, match="only those up to 0.5"):
        limited.within(0.6)


# 0.9 reaches pairs that the sparse matrix does not store: their distance is 1.
@pytest.mark.parametrize("fraction", [1e-9, 1.6e-3, 0.1, 0.9, 1.0])
def test_smallest_mean__equals_naive_sort(fraction):
    distances, full = random_sparse()
    mean, count = distances.smallest_mean(fraction)
    expected, expected_count = naive_smallest_mean(full.astype(np.float64), fraction)
    assert (count, mean) == (expected_count, pytest.approx(expected, rel=1e-12))
    for metric, size in BLOCKWISE:
        distances = BlockwiseDistances(with_equal_and_zero_rows(), metric, block_rows=size)
        mean, count = distances.smallest_mean(fraction)
        full = all_distances(distances).astype(np.float64)
        expected, expected_count = naive_smallest_mean(full, fraction)
        assert (count, mean) == (expected_count, pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize("fraction", [1e-9, 0.0012, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("zeros", [True, False])
def test_smallest_mean__between_cameras_equals_naive_sort(fraction, zeros):
    sparse, full = random_sparse()
    camera_ids = np.random.default_rng(1).integers(3, size=40)
    camera_ids[[0, 3]], camera_ids[[1, 7]] = 0, 2  # the pairs at distance 0 are across cameras
    cases = [(sparse, full, camera_ids)]
    for metric, size in BLOCKWISE:
        distances = BlockwiseDistances(with_equal_and_zero_rows(), metric, block_rows=size)
        cases.append((distances, all_distances(distances), camera_ids[:30]))
    for distances, full, cameras in cases:
        mean, count = distances.smallest_mean(fraction, cameras, zeros=zeros)
        expected, expected_count = naive_smallest_mean(
            full.astype(np.float64), fraction, cameras, zeros
        )
        assert (count, mean) == (expected_count, pytest.approx(expected, rel=1e-12))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_smallest_mean__ties_and_duplicates(data):
    # Points on a grid of 4 places: equal distances, and zeros, in most pairs.
    number = data.draw(st.integers(2, 12))
    places = data.draw(st.lists(st.integers(0, 3), min_size=number, max_size=number))
    camera_ids = data.draw(st.lists(st.integers(0, 2), min_size=number, max_size=number))
    cameras = data.draw(st.sampled_from([None, np.array(camera_ids)]))
    zeros, fraction = data.draw(st.booleans()), data.draw(st.floats(0.01, 1))
    points = np.array(places, dtype=np.float32)[:, None]
    distances = BlockwiseDistances(points, "euclidean", data.draw(st.sampled_from([1, 3, 64])))
    full = all_distances(distances).astype(np.float64)
    try:
        expected = naive_smallest_mean(full, fraction, cameras, zeros)
    except ZeroDivisionError:  # no pair takes part
        with pytest.raises(UserError, match="target images have no"):
            distances.smallest_mean(fraction, cameras, zeros=zeros)
    else:
        assert distances.smallest_mean(fraction, cameras, zeros=zeros) == pytest.approx(expected)


def test_smallest_mean__many_more_blocks_than_the_buffer_holds():
    # 1,225 pairs by single rows, of which 1, 2, 5 and 20 count: the buffer is cut again and again.
    distances = BlockwiseDistances(unit_rows(50, 3), "euclidean", block_rows=1)
    full = all_distances(distances).astype(np.float64)
    camera_ids = np.arange(50) % 4
    for fraction in (0.001, 0.002, 0.005, 0.02):
        mean, count = distances.smallest_mean(fraction, camera_ids)
        expected = naive_smallest_mean(full, fraction, camera_ids)
        assert (mean, count) == (pytest.approx(expected[0], rel=1e-12), expected[1])


@pytest.mark.parametrize(
    ("zeros", "camera_ids", "words"),
    [
        (True, [5, 5, 5], "no pair between different cameras"),
        (False, [0, 1, 1], "no distance above 0 between different cameras"),
        (False, None, "no distance above 0 between them"),
    ],
)
def test_smallest_mean__no_pair_takes_part(zeros, camera_ids, words):
    distances = BlockwiseDistances(np.ones((3, 2), dtype=np.float32), "euclidean")
    cameras = None if camera_ids is None else np.array(camera_ids)
    with pytest.raises(UserError, match=rf"3 target images have {words}.*UDA\.CLUSTER\.EPS"):
        distances.smallest_mean(0.5, cameras, zeros=zeros)


def test_smallest_mean__nothing_stored():
    own = np.arange(3)
    diagonal = csr_matrix((np.zeros(3, np.float32), (own, own)))
    assert SparseDistances(diagonal).smallest_mean(0.5) == (1.0, 2)


@pytest.mark.parametrize("num_rows", [1, 4])
def test_smallest_mean__no_distance_above_zero(num_rows):
    same = np.ones((num_rows, 2), dtype=np.float32)
    for distances in (
        BlockwiseDistances(same, "euclidean"),
        Jaccard().measure(normalize_rows(same)),
    ):
        with pytest.raises(UserError, match=rf"{num_rows} target images .*UDA.CLUSTER.EPS"):
            distances.smallest_mean(0.1)


def blockwise_and_sparse():
    """Every kind of distances with its dense array."""
    for metric, size in BLOCKWISE:
        distances = BlockwiseDistances(with_equal_and_zero_rows(), metric, block_rows=size)
        yield distances, all_distances(distances)
    yield random_sparse()


def naive_class_sums(full, labels):
    """One pair at a time."""
    own, everyone = np.zeros(len(labels)), np.zeros(len(labels))
    for i, j in np.ndindex(full.shape):
        if labels[i] != OUTLIER and labels[j] != OUTLIER:
            everyone[i] += float(full[i, j])
            own[i] += float(full[i, j]) * (labels[i] == labels[j])
    return own, everyone


@pytest.mark.parametrize("classes", [1, 2, 7, 25])
@pytest.mark.parametrize("outliers", [0.0, 0.3, 1.0])
def test_class_sums__equal_naive_loops(classes, outliers):
    rng = np.random.default_rng(classes)
    for distances, full in blockwise_and_sparse():
        labels = rng.integers(classes, size=len(full))
        labels[rng.random(len(full)) < outliers] = OUTLIER
        own, everyone = distances.class_sums(labels)
        assert own.dtype == everyone.dtype == np.float64
        expected = naive_class_sums(full, labels)
        np.testing.assert_allclose(own, expected[0], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(everyone, expected[1], rtol=1e-6, atol=1e-6)


def test_class_sums__toy():
    distances = BlockwiseDistances(np.float32([[0], [1], [3], [9]]), "euclidean", block_rows=2)
    own, everyone = distances.class_sums(np.array([0, 0, 1, OUTLIER]))
    assert own.tolist() == [1, 1, 0, 0]
    assert everyone.tolist() == [1 + 3, 1 + 2, 3 + 2, 0]


def test_class_sums__identical_images_are_at_exactly_zero():
    same = np.repeat(unit_rows(1, 777), 20, axis=0)
    labels = np.arange(20) % 4 - 1
    for distances in (BlockwiseDistances(same, "euclidean", 7), Jaccard().measure(same)):
        assert (np.stack(distances.class_sums(labels)) == 0).all()


@pytest.mark.parametrize("rows", [[], [4], [0, 2, 3, 5, 11, 17, 29], [11, 2, 28], range(30)])
def test_subset__is_a_part_of_all_distances(rows):
    rows = np.array(rows, dtype=np.int64)
    for distances, full in blockwise_and_sparse():
        part = distances.subset(rows)
        assert part.num_rows == len(rows) and distances.num_rows == len(full)
        if len(rows):
            np.testing.assert_allclose(all_distances(part), full[np.ix_(rows, rows)], atol=1e-6)
            check_graph(part.within(0.7), all_distances(part), 0.7)
        again = part.subset(np.arange(len(rows))[1::2])
        if again.num_rows:
            expected = full[np.ix_(rows[1::2], rows[1::2])]
            np.testing.assert_allclose(all_distances(again), expected, atol=1e-6)


def test_subset__of_jaccard_keeps_the_neighborhoods_of_all_images():
    features = unit_rows(60, 8)
    distances, rows = Jaccard(8, 3).measure(features), np.arange(0, 60, 2)
    part = all_distances(distances.subset(rows))
    np.testing.assert_array_equal(part, all_distances(distances)[np.ix_(rows, rows)])
    assert (part != all_distances(Jaccard(8, 3).measure(features[rows]))).any()


@pytest.mark.parametrize("radius", [0.0, 0.4, 1.0])
def test_count_near__equals_naive_count(radius):
    sparse, _ = random_sparse()
    features = with_equal_and_zero_rows()
    blockwise = [BlockwiseDistances(features, metric, block_rows=s) for metric, s in BLOCKWISE]
    for distances in [sparse, *blockwise]:
        upper = all_distances(distances)[np.triu_indices(distances.num_rows, 1)]
        expected = sum(abs(float(d) - radius) <= 0.05 for d in upper)
        assert distances.count_near(radius, tolerance=0.05) == expected


def test_count_near__structural_tie_of_jaccard():
    matrix = csr_matrix((np.float32([0, 0.5, 0.5, 0, 0]), ([0, 0, 1, 1, 2], [0, 1, 0, 1, 2])))
    assert SparseDistances(matrix).count_near(0.5) == 1
    assert SparseDistances(matrix).count_near(0.6) == 0
    assert SparseDistances(matrix).count_near(1.0) == 2


@pytest.mark.parametrize("name", ["CAJaccard", "Jaccard"])
def test_distances__memory_grows_with_the_images(name):
    stage = DISTANCES.build(name)
    assert 0 < stage.memory_needed(1000, 64) < stage.memory_needed(100_000, 64)
    assert "UDA.DISTANCE" in stage.memory_advice


def test_distances__known_names_and_defaults():
    assert list(DISTANCES) == ["CAJaccard", *NAMES]
    assert DISTANCES.defaults("Jaccard") == {
        "k1": 30, "k2": 6, "backend": "auto", "precision": "float32", "approximate": "",
        "force_approximate": False, "exact": False,
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_rows", [1, 5, 25, 26, 29, 30])
def test_distances__small_sets(name, num_rows):
    features = unit_rows(num_rows, 8)
    before = features.copy()
    full = all_distances(DISTANCES.build(name).measure(features))
    assert full.shape == (num_rows, num_rows)
    assert (full.diagonal() == 0).all() and (full == full.T).all()
    assert (features == before).all()


@pytest.mark.parametrize("name", NAMES)
def test_distances__no_rows(name):
    with pytest.raises(UserError, match="0 images"):
        DISTANCES.build(name).measure(unit_rows(0, 8))


@pytest.mark.parametrize("name", NAMES)
def test_distances__follow_a_permutation(name):
    features, order = unit_rows(60, 8), np.random.default_rng(1).permutation(60)
    full = all_distances(DISTANCES.build(name).measure(features))
    permuted = all_distances(DISTANCES.build(name).measure(features[order]))
    np.testing.assert_allclose(permuted, full[np.ix_(order, order)], atol=1e-6)


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("K1", {"k1": 0}),
        ("K2", {"k2": -1}),
        ("BACKEND", {"backend": "annoy"}),
        ("PRECISION", {"precision": "float16"}),
        ("APPROXIMATE", {"approximate": "lsh"}),
        ("EXACT", {"exact": True, "approximate": "ivf"}),
        ("EXACT", {"exact": True, "backend": "torch", "precision": "bfloat16"}),
    ],
)
def test_jaccard__refuses_arguments(key, arguments):
    with pytest.raises(UserError, match=rf"UDA.DISTANCE.JACCARD.{key} is "):
        Jaccard(**arguments)
