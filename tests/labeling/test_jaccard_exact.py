"""The exact mode beside fast-reid's own function: every bit of the dense result."""

import sys

import numpy as np
import pytest

from fastreid_uda import compiled
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.camera_normalization import normalize_rows
from fastreid_uda.labeling.distances import Jaccard
from fastreid_uda.labeling.jaccard_exact import exact_jaccard

torch = pytest.importorskip("torch")
pytest.importorskip("fastreid")
pytest.importorskip("faiss")


@pytest.fixture(params=[1, 2])
def threads(request):
    """Of torch: they change bits, of both alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def features_of(num_rows, dimension, equal=0):
    rng = np.random.default_rng(num_rows + dimension)
    people = rng.integers(num_rows // 9, size=num_rows)
    features = 0.7 * rng.normal(size=(num_rows, dimension))
    features += rng.normal(size=(num_rows // 9, dimension))[people]
    features[5 : 5 + equal] = features[3]
    features[-equal // 2 :] = features[2] if equal else features[-equal // 2 :]
    return normalize_rows(features.astype(np.float32))


def check_bits(features, k1, k2):
    import fastreid_uda  # noqa: F401  mends fast-reid before it is imported
    from fastreid.utils.compute_dist import compute_jaccard_distance  # isort: skip

    theirs = compute_jaccard_distance(torch.from_numpy(features), k1, k2, search_option=3)
    ours = exact_jaccard(features, k1, k2).tocoo()
    full = np.ones_like(theirs)
    full[ours.row, ours.col] = ours.data
    np.testing.assert_array_equal(full, theirs)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("equal", [0, 6, 40])
@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (30, 6), (20, 1), (7, 3), (1, 1)])
def test_exact_jaccard__has_the_bits_of_fastreid(monkeypatch, k1, k2, equal):
    for switch in ("1", "0"):
        monkeypatch.setenv(compiled.SWITCH, switch)
        check_bits(features_of(300, 32, equal), k1, k2)


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("equal", [0, 12])
@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (30, 6), (15, 1)])
def test_exact_jaccard__has_the_bits_of_fastreid_on_more_images(k1, k2, equal):
    check_bits(features_of(1000, 2048, equal), k1, k2)


def test_exact_jaccard__is_near_to_the_default():
    features = features_of(300, 32)
    exact, default = (
        np.vstack([block for _, _, block in Jaccard(20, 6, exact=exact).measure(features)
                   .row_blocks()])
        for exact in (True, False)
    )  # fmt: skip
    np.testing.assert_allclose(exact, default, atol=2e-6)
    assert (exact != default).any()


def test_exact_jaccard__limit():
    features = features_of(300, 32, 6)
    whole, near = exact_jaccard(features, 20, 6), exact_jaccard(features, 20, 6, limit=0.5)
    whole.data[whole.data > np.float32(0.5)] = 2
    rows = np.repeat(np.arange(300), np.diff(whole.indptr))
    kept = (whole.data < 2) | (rows == whole.indices)
    assert near.nnz == kept.sum()
    np.testing.assert_array_equal(near.data, whole.data[kept])


def test_exact_jaccard__no_rows():
    with pytest.raises(UserError, match="0 images"):
        exact_jaccard(np.empty((0, 4), dtype=np.float32), 20, 6)


@pytest.mark.parametrize(("module", "package"), [("torch", "torch"), ("faiss", "faiss-cpu")])
def test_exact_jaccard__names_what_is_not_installed(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"JACCARD.EXACT is True.*{module}.*install {package}"):
        Jaccard(exact=True)
