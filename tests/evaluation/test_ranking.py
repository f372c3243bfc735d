from __future__ import annotations

import dataclasses
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastreid_uda import compiled
from fastreid_uda.errors import UserError
from fastreid_uda.evaluation import matches, ranking
from fastreid_uda.evaluation.distances import feature_distances
from fastreid_uda.evaluation.ranking import evaluate_ranking, memory_needed

from . import make_people, naive_scores


@pytest.fixture(autouse=True, params=["compiled", "numpy"])
def path(request, monkeypatch):
    """Every test of this file runs on both paths."""
    monkeypatch.setenv(compiled.SWITCH, "1" if request.param == "compiled" else "0")
    if request.param == "compiled" and not compiled.available():
        pytest.skip("Numba is not installed")


def matrix_of(people, metric):
    return feature_distances(*people[:2], metric)(0, len(people.query_features))


def assert_same_scores(scores, others):
    for field in dataclasses.fields(scores):
        np.testing.assert_array_equal(getattr(scores, field.name), getattr(others, field.name))


def assert_by_definition(scores, distances, labels, max_rank):
    cmc, aps, inps = naive_scores(distances, *labels, max_rank)
    np.testing.assert_allclose(scores.cmc, cmc, rtol=0, atol=1e-12)
    found = scores.average_precisions[~np.isnan(scores.average_precisions)]
    np.testing.assert_allclose(found, aps, rtol=0, atol=1e-12)
    assert scores.mean_average_precision == pytest.approx(np.mean(aps), abs=1e-12)
    assert scores.mean_inverse_negative_penalty == pytest.approx(np.mean(inps), abs=1e-12)
    assert scores.num_valid_queries == len(aps)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_evaluate_ranking__equals_the_definition(metric, tied, seed):
    people = make_people(seed=seed, tied=tied, dimensions=5 if tied else 16)
    scores = evaluate_ranking(*people, metric=metric, max_rank=20, block_rows=40)
    assert_by_definition(scores, matrix_of(people, metric), people[2:], 20)


@st.composite
def tiny_problems(draw):
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    integers = st.integers(0, 2)
    cells = draw(st.lists(integers, min_size=rows * columns, max_size=rows * columns))
    labels = [
        np.array(draw(st.lists(integers, min_size=n, max_size=n)))
        for n in (rows, columns, rows, columns)
    ]
    return np.array(cells, dtype=np.float32).reshape(rows, columns), labels


each_path = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@each_path
@given(tiny_problems(), st.integers(1, 12), st.integers(1, 7))
def test_evaluate_ranking__any_ties_cameras_and_sizes(problem, max_rank, block_rows):
    distances, (q_ids, g_ids, q_cams, g_cams) = problem
    usable = (q_ids[:, None] == g_ids) & (q_cams[:, None] != g_cams)

    def score():
        return evaluate_ranking(
            None,
            None,
            *problem[1],
            max_rank=max_rank,
            block_rows=block_rows,
            distances=lambda start, stop: distances[start:stop],
        )

    if not usable.any():
        with pytest.raises(UserError):
            score()
        return
    scores = score()
    assert_by_definition(scores, distances, problem[1], max_rank)
    np.testing.assert_array_equal(np.isnan(scores.average_precisions), ~usable.any(axis=1))
    assert (np.diff(scores.cmc) >= 0).all() and scores.cmc[0] >= 0 and scores.cmc[-1] <= 1
    for mean in (scores.mean_average_precision, scores.mean_inverse_negative_penalty):
        assert 0 < mean <= 1 + 1e-12


DISTANCES = [-np.inf, -1.5, -0.0, 0.0, 1e-45, 1.0, 1.0 + 2.0**-23, np.inf]


@each_path
@given(st.data(), st.integers(1, 12), st.integers(1, 40), st.sampled_from([0, 3, 1000]))
def test_ranks__are_places_in_a_stable_sort(data, rows, columns, few):
    """With few < matches the kernel searches, else it counts."""

    def draw(elements, count):
        return np.array(data.draw(st.lists(elements, min_size=count, max_size=count)))

    block = draw(st.sampled_from(DISTANCES), rows * columns).astype(np.float32)
    block = block.reshape(rows, columns)
    q_ids, g_ids = (draw(st.integers(0, 1), n) for n in (rows, columns))
    q_cams, g_cams = (draw(st.integers(-1, 1), n) for n in (rows, columns))
    sides = matches.Labels("query", q_ids, q_cams), matches.Labels("gallery", g_ids, g_cams)
    expected = []
    for row, identity, camera in zip(block, q_ids, q_cams, strict=True):
        order = np.argsort(row, kind="stable")
        order = order[(g_ids[order] != identity) | (g_cams[order] != camera)]
        expected.append((1 + np.flatnonzero(g_ids[order] == identity)).tolist())
    if not any(expected):
        with pytest.raises(UserError, match="query"):
            matches.Matches.find(*sides)
        return
    found = matches.Matches.find(*sides)
    assert found.counts.tolist() == [len(ranks) for ranks in expected]
    with mock.patch.object(matches, "_FEW_MATCHES", few):
        assert found.ranked(block).tolist() == [rank for ranks in expected for rank in ranks]


@pytest.mark.parametrize("few", [0, 1000])
def test_ranks__many_matches(few, monkeypatch):
    monkeypatch.setattr(matches, "_FEW_MATCHES", few)
    people = make_people(num_queries=5, num_gallery=700, identities=2, cameras=2)
    scores = evaluate_ranking(*people)
    assert_by_definition(scores, matrix_of(people, "cosine"), people[2:], 50)


def test_evaluate_ranking__same_on_both_paths_and_in_threads(monkeypatch):
    people = make_people(num_queries=70, num_gallery=400, tied=True, dimensions=7)
    here = evaluate_ranking(*people)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(matches, "_ROWS_PER_TASK", 2)
    assert_same_scores(here, evaluate_ranking(*people))
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert_same_scores(here, evaluate_ranking(*people))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_feature_distances__same_on_both_paths(metric, monkeypatch):
    people = make_people(dimensions=33)
    here = matrix_of(people, metric)
    monkeypatch.setenv(compiled.SWITCH, "0")
    np.testing.assert_array_equal(here, matrix_of(people, metric))


def test_evaluate_ranking__float64_distances_are_not_rounded():
    # In float32 all four distances are equal.
    row = np.array([[1 + 3e-12, 1 + 1e-12, 1 + 2e-12, 1]])
    scores = evaluate_ranking(
        None,
        None,
        np.array([0]),
        np.array([0, 1, 0, 1]),
        np.array([0]),
        np.array([1, 1, 1, 1]),
        distances=lambda start, stop: row[start:stop],
    )
    assert scores.mean_average_precision == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_evaluate_ranking__worked_example():
    # Query 0 (person 7, camera 0). By distance: junk, wrong, right, junk, right, wrong.
    row = np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]])
    scores = evaluate_ranking(
        None,
        None,
        np.array([7, 9]),  # person 9 is not in the gallery
        np.array([7, 1, 7, 7, 7, 2]),
        np.array([0, 0]),
        np.array([0, 0, 1, 0, 2, 1]),
        max_rank=4,
        distances=lambda start, stop: row[start:stop],
    )
    np.testing.assert_array_equal(scores.cmc, [0, 1, 1, 1])
    assert scores.mean_average_precision == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores.mean_inverse_negative_penalty == pytest.approx(2 / 3)
    assert scores.num_valid_queries == 1 and np.isnan(scores.average_precisions[1])
    assert scores.percentages() == pytest.approx(
        {"Rank-1": 0, "mAP": 100 * (1 / 2 + 2 / 3) / 2, "mINP": 200 / 3}
    )


def test_evaluate_ranking__gallery_smaller_than_max_rank():
    people = make_people(num_gallery=7, identities=3)
    scores = evaluate_ranking(*people, max_rank=50)
    assert scores.cmc.shape == (50,) and scores.cmc[6] == scores.cmc[49] == 1
    assert_by_definition(scores, matrix_of(people, "cosine"), people[2:], 50)


@pytest.mark.parametrize("tied", [False, True])
def test_evaluate_ranking__block_size_changes_nothing(tied):
    people = make_people(tied=tied)
    distances = matrix_of(people, "euclidean")
    whole = evaluate_ranking(*people, metric="euclidean")
    for block_rows in (1, 3, 39, 1000):
        assert_same_scores(
            whole, evaluate_ranking(*people, metric="euclidean", block_rows=block_rows)
        )
        given_blocks = evaluate_ranking(
            *people, block_rows=block_rows, distances=lambda start, stop: distances[start:stop]
        )
        assert_same_scores(whole, given_blocks)


def test_evaluate_ranking__gallery_order_changes_nothing_without_ties():
    people = make_people()
    order = np.random.default_rng(1).permutation(len(people.gallery_features))
    shuffled = people._replace(
        gallery_features=people.gallery_features[order],
        gallery_identities=people.gallery_identities[order],
        gallery_camera_ids=people.gallery_camera_ids[order],
    )
    assert_same_scores(evaluate_ranking(*people), evaluate_ranking(*shuffled))


def test_evaluate_ranking__writes_into_nothing():
    people = make_people()
    distances = matrix_of(people, "cosine")
    for array in (distances, *people):
        array.flags.writeable = False
    evaluate_ranking(*people)
    evaluate_ranking(*people, distances=lambda start, stop: distances[start:stop])


def test_evaluate_ranking__memory_is_a_few_blocks():
    people = make_people(num_queries=400, num_gallery=4000, dimensions=8, identities=400)
    tracemalloc.start()
    evaluate_ranking(*people, block_rows=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    block = 20 * 4000 * 4
    assert peak < 3 * block  # two during the hand-over of a block; the matrix would be 20


def test_memory_needed__is_above_the_peak_by_little(monkeypatch):
    people = make_people(num_queries=300, num_gallery=3000, dimensions=64, identities=300)
    evaluate_ranking(*people)  # what stays in memory is loaded
    tracemalloc.start()
    evaluate_ranking(*people)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    needed = memory_needed(300, 3000, 64) - ranking.BUFFERS
    assert peak <= needed <= 2 * peak


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(3))
def test_evaluate_ranking__equals_fastreid(metric, seed):
    torch = pytest.importorskip("torch")
    rank = pytest.importorskip("fastreid.evaluation.rank")
    from fastreid.utils.compute_dist import build_dist

    people = make_people(num_queries=80, num_gallery=600, identities=60, cameras=6, seed=seed)
    distances = build_dist(*map(torch.from_numpy, people[:2]), metric)
    np.testing.assert_allclose(matrix_of(people, metric), distances, rtol=1e-6, atol=1e-5)
    cmc, aps, inps = rank.evaluate_rank(distances, *people[2:], use_cython=False)
    scores = evaluate_ranking(*people, metric=metric)
    np.testing.assert_allclose(scores.cmc, cmc, rtol=0, atol=1e-6)
    assert scores.mean_average_precision == pytest.approx(np.mean(aps), abs=1e-6)
    assert scores.mean_inverse_negative_penalty == pytest.approx(np.mean(inps), abs=1e-6)


def test_feature_distances__a_zero_row_is_at_distance_1():
    query = np.array([[0, 0], [3, 4]], dtype=np.float32)
    block = feature_distances(query, query, "cosine")(0, 2)
    np.testing.assert_allclose(block, [[1, 1], [1, 0]], atol=1e-7)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_feature_distances__copies_no_features(metric):
    features = np.random.default_rng(0).normal(size=(9000, 128)).astype(np.float32)
    tracemalloc.start()
    block_of = feature_distances(features[:4500, :100], features[4500:, :100], metric)
    block_of(0, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.25 * features.nbytes
    order = np.asfortranarray(features[:60])
    np.testing.assert_allclose(
        feature_distances(order[:30], order[30:], metric)(3, 9),
        feature_distances(features[:30], features[30:60], metric)(3, 9),
        rtol=1e-6,
        atol=1e-5,
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_feature_distances__any_float_is_computed_in_float32(dtype):
    features = make_people().query_features.astype(dtype)
    block = feature_distances(features, features, "euclidean")(0, 2)
    assert block.dtype == np.float32
    single = features.astype(np.float32)
    np.testing.assert_array_equal(block, feature_distances(single, single, "euclidean")(0, 2))


def break_people(**changes):
    return make_people()._replace(**changes)


ONES = np.ones(40, dtype=np.int64), np.ones(150, dtype=np.int64)


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (break_people(query_identities=ONES[0] * 99), "No query identity occurs in the gallery"),
        (
            break_people(query_camera_ids=ONES[0], gallery_camera_ids=ONES[1]),
            "own camera \\(every camera id is 1\\)",
        ),
        (break_people(query_identities=ONES[0][1:]), "The query has 39 identities, but 40"),
        (break_people(gallery_camera_ids=ONES[1][1:]), "The gallery has 150 identities, but 149"),
        (break_people(query_identities=ONES[0] * 0.5), "query identities are float64"),
        (break_people(gallery_features=make_people().gallery_features[:99]), "gallery has 150"),
        (break_people(gallery_features=np.ones((150, 3))), "16 dimensions, gallery features 3"),
        (break_people(gallery_features=np.ones(150)), "gallery features are float64 of shape"),
        (break_people(gallery_features=np.ones((150, 16), int)), "gallery features are int64"),
        (break_people(query_features=None), "Give query_features and gallery_features"),
        (break_people(gallery_features=np.full((150, 16), np.inf)), "150 of 150 gallery feature"),
        (break_people(gallery_features=np.full((150, 16), 1e30)), "too large for float32"),
    ],
)
def test_evaluate_ranking__error(people, message):
    with pytest.raises(UserError, match=message):
        evaluate_ranking(*people)


def test_evaluate_ranking__error_every_match_is_of_the_same_camera():
    identities = np.arange(3)
    with pytest.raises(UserError, match="own camera and is removed"):
        evaluate_ranking(np.eye(3), np.eye(3), *[identities] * 4)


@pytest.mark.parametrize("options", [{"max_rank": 0}, {"block_rows": 0}, {"metric": "manhattan"}])
def test_evaluate_ranking__error_in_options(options):
    with pytest.raises(UserError, match=str(next(iter(options.values())))):
        evaluate_ranking(*make_people(), **options)


def test_evaluate_ranking__error_in_given_distances():
    people = make_people()
    for block, message in ((np.zeros((40, 3)), "shape"), (np.full((40, 150), np.nan), "NaN")):
        with pytest.raises(UserError, match=message):
            evaluate_ranking(*people, distances=lambda start, stop, block=block: block)


def test_memory_needed__is_less_for_smaller_blocks():
    assert memory_needed(500, 20_000, 64, block_rows=1) < memory_needed(500, 20_000, 64) / 2
