import numpy as np
import pytest

from fastreid_uda.labeling.camera_normalization import normalize_per_camera, normalize_rows


def naive_normalize_per_camera(features, camera_ids):
    """MSPLR Eq. 4, one number at a time."""
    result = np.zeros(features.shape)
    for n in range(len(features)):
        for d in range(features.shape[1]):
            own = [
                float(features[m, d])
                for m in range(len(features))
                if camera_ids[m] == camera_ids[n]
            ]
            mean = sum(own) / len(own)
            sigma = (sum((x - mean) ** 2 for x in own) / len(own)) ** 0.5
            result[n, d] = (features[n, d] - mean) / (sigma if sigma >= 1e-6 else 1)
    return result


def test_normalize_per_camera__golden_vector():
    features = np.array([[1, 2], [10, 0], [3, 2], [30, 0], [5, 8]], dtype=np.float32)
    expected = [
        [-1.224745, -0.707107],
        [-1, 0],
        [0, -0.707107],
        [1, 0],
        [1.224745, 1.414214],
    ]
    got = normalize_per_camera(features, np.array([0, 1, 0, 1, 0]))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert got.dtype == np.float32


def test_normalize_per_camera__equals_naive_loop():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (40, 5)).astype(np.float32)
    features[:, 2] = 0.1  # constant
    camera_ids = rng.integers(0, 4, 40) * 7
    np.testing.assert_allclose(
        normalize_per_camera(features, camera_ids),
        naive_normalize_per_camera(features, camera_ids),
        atol=1e-5,
    )


def test_normalize_per_camera__one_image_gives_zero_row():
    features = np.array([[0.3, -7.1], [1, 2], [2, 4]], dtype=np.float32)
    assert (normalize_per_camera(features, np.array([5, 0, 0]))[0] == 0).all()


def test_normalize_per_camera__is_free_of_camera_offset_and_scale():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 8)).astype(np.float32)
    camera_ids = np.repeat([0, 1, 2], 20)
    offset = rng.normal(size=(3, 8)).astype(np.float32)[camera_ids]
    scale = np.array([1, 4, 0.5], dtype=np.float32)[camera_ids, None]
    np.testing.assert_allclose(
        normalize_per_camera(features * scale + offset, camera_ids),
        normalize_per_camera(features, camera_ids),
        atol=1e-4,
    )


def test_normalize_per_camera__follows_a_permutation():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(30, 4)).astype(np.float32)
    camera_ids, order = rng.integers(0, 3, 30), rng.permutation(30)
    np.testing.assert_allclose(
        normalize_per_camera(features[order], camera_ids[order]),
        normalize_per_camera(features, camera_ids)[order],
        atol=1e-6,
    )


def test_normalize_rows__toy_with_zero_row():
    got = normalize_rows(np.array([[3, 4], [0, 0], [0, -2]], dtype=np.float32))
    np.testing.assert_allclose(got, [[0.6, 0.8], [0, 0], [0, -1]], atol=1e-7)
    assert got.dtype == np.float32


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_normalize_rows__extreme_lengths(scale):
    features = np.full((2, 4), scale, dtype=np.float32)
    np.testing.assert_allclose(normalize_rows(features), np.full((2, 4), 0.5))


def test_both__leave_inputs_unchanged():
    features = np.random.default_rng(3).normal(size=(10, 3)).astype(np.float32)
    camera_ids = np.repeat([0, 1], 5)
    before = features.copy(), camera_ids.copy()
    normalize_per_camera(features, camera_ids)
    normalize_rows(features)
    assert (features == before[0]).all() and (camera_ids == before[1]).all()


def test_both__no_rows():
    empty = np.empty((0, 3), dtype=np.float32)
    assert normalize_per_camera(empty, np.empty(0, dtype=np.int64)).shape == (0, 3)
    assert normalize_rows(empty).shape == (0, 3)
