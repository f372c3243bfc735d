import numpy as np
import pytest

from fastreid_uda.report.feature_maps import draw_maps, rounds_to_map


@pytest.mark.parametrize(
    "most,expected",
    [(0, []), (1, [9]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, [*range(10)]), (99, [*range(10)])],
)  # fmt: skip
def test_rounds_to_map__first_and_last_and_between(most, expected):
    assert rounds_to_map(list(range(10)), most) == expected


def clusters(seed, images=90, dim=8):
    rng = np.random.default_rng(0)
    centers = 6 * rng.normal(size=(5, dim))[np.arange(images) % 5]
    return centers + np.random.default_rng(seed).normal(size=(images, dim))


def test_maps__keep_neighbours_and_resemble_each_other():
    rows = np.arange(90)
    maps, seconds = draw_maps([(n, rows, clusters(n), 0.5) for n in range(3)])
    assert [m.number for m in maps] == [0, 1, 2] and seconds > 0
    for plane in maps:
        assert np.allclose(plane.places.mean(axis=0), 0)
        assert (plane.places**2).sum(axis=1).mean() == pytest.approx(1)
        gaps = np.linalg.norm(plane.places[:, None] - plane.places[None], axis=2)
        np.fill_diagonal(gaps, np.inf)
        assert (gaps.argmin(axis=1) % 5 == rows % 5).mean() > 0.95
    # Between two rounds an image moves less than to a random other one.
    moved = np.linalg.norm(maps[2].places - maps[1].places, axis=1).mean()
    shuffled = maps[2].places[np.random.default_rng(0).permutation(90)]
    assert moved < 0.5 * np.linalg.norm(shuffled - maps[1].places, axis=1).mean()


def test_maps__repeat():
    rounds = [(0, np.arange(40), clusters(0, 40), None)]
    first, second = (draw_maps(rounds)[0][0].places for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_maps__other_images_few_images_and_identical_ones():
    rounds = [
        (0, np.arange(40), clusters(0, 40), None),
        (1, np.arange(20, 60), clusters(1, 40), None),
        (2, np.arange(3), clusters(1, 3), None),
        (3, np.arange(9), np.ones((9, 1)), None),
    ]
    for plane in draw_maps(rounds)[0]:
        assert plane.places.shape == (len(plane.rows), 2) and np.isfinite(plane.places).all()
