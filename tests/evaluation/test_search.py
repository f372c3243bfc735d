"""The nearest images, against a sort of all distances in a loop."""

import numpy as np
import pytest

from fastreid_uda.evaluation import search
from fastreid_uda.evaluation.distances import METRICS
from fastreid_uda.evaluation.reranking import reranked_distances
from fastreid_uda.evaluation.search import Reranking, find_matches

from .test_reranking import fastreid_distances

RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(5, 8)).astype(np.float32)
GALLERY = RNG.normal(size=(40, 8)).astype(np.float32)
NONE = np.zeros(0, dtype=np.int64)


def by_loop(query, metric, left_out, top):
    """(distance, row) of all gallery rows that are not left out, sorted."""
    pairs = []
    for row, image in enumerate(GALLERY.astype(float)):
        q = query.astype(float)
        if metric == "cosine":
            distance = 1 - q @ image / np.linalg.norm(q) / np.linalg.norm(image)
        else:
            distance = ((q - image) ** 2).sum()
        if row not in left_out:
            pairs.append((distance, row))
    return sorted(pairs)[:top]


@pytest.mark.parametrize("cells", [1, 1 << 24])
@pytest.mark.parametrize("metric", METRICS)
def test_find_matches__is_what_a_loop_finds(metric, cells, monkeypatch):
    monkeypatch.setattr(search, "_BLOCK_CELLS", cells)  # one query at a time, and all at once
    left_out = [np.array([n, n + 1, n]) for n in range(5)]
    found = find_matches(QUERIES, GALLERY, left_out, metric=metric, top=7)
    for query, rows, matches in zip(QUERIES, left_out, found, strict=True):
        expected = by_loop(query, metric, rows, 7)
        assert matches.rows.tolist() == [row for _, row in expected]
        np.testing.assert_allclose(matches.distances, [d for d, _ in expected], atol=1e-5)


def test_find_matches__fewer_images_than_asked_for():
    found = find_matches(QUERIES[:1], GALLERY, [np.arange(38)], metric="cosine", top=20)
    assert sorted(found[0].rows) == [38, 39]
    everything = find_matches(QUERIES[:1], GALLERY, [np.arange(40)], metric="cosine", top=20)
    assert everything[0].rows.tolist() == [] and everything[0].distances.tolist() == []


def test_find_matches__equal_distances_in_the_order_of_rows():
    gallery = np.repeat(GALLERY[:2], 3, axis=0)
    found = find_matches(GALLERY[:1], gallery, [NONE], metric="cosine", top=6)
    assert found[0].rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert (found[0].distances >= 0).all()


def test_find_matches__re_ranked_query_by_query():
    again = Reranking(k1=6, k2=3, lambda_value=0.3)
    found = find_matches(QUERIES, GALLERY, [NONE] * 5, metric="cosine", top=4, reranking=again)
    for query, matches in zip(QUERIES, found, strict=True):
        expected = reranked_distances(query[None], GALLERY, k1=6, k2=3, lambda_value=0.3)(0, 1)[0]
        assert matches.rows.tolist() == np.argsort(expected, kind="stable")[:4].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_find_matches__re_ranked_without_the_query_in_the_gallery(metric):
    """fast-reid's formula, the row of the query taken out by hand; its camera stays."""
    row, camera, again = 11, np.array([2, 30]), Reranking(k1=6, k2=3, lambda_value=0.3)
    others = np.delete(GALLERY, row, axis=0)
    expected = fastreid_distances((GALLERY[[row]], others), metric, 6, 3, 0.3)[0]
    expected = np.insert(np.asarray(expected), row, np.inf)
    expected[camera] = np.inf
    found = find_matches(
        GALLERY[[row, 4]], GALLERY, [camera, NONE], metric=metric, top=40, reranking=again,
        own=[row, None],
    )  # fmt: skip
    assert len(found[0].rows) == 37 and len(found[1].rows) == 40 and found[1].rows[0] == 4
    np.testing.assert_allclose(found[0].distances, expected[found[0].rows], atol=1e-5)
    assert (np.diff(found[0].distances) >= 0).all() and row not in found[0].rows


@pytest.mark.parametrize("reranking", [None, Reranking()])
def test_find_matches__the_query_is_the_only_image(reranking):
    found = find_matches(
        GALLERY[:1], GALLERY[:1], [NONE], metric="cosine", top=3, reranking=reranking, own=[0]
    )
    assert found[0].rows.tolist() == []
