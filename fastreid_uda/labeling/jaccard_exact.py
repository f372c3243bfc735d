"""The distances of fast-reid's `compute_jaccard_distance`, bit for bit, without N x N arrays.

For runs that have to repeat published labels also where rounding decides them: with k2 = 6 many
distances are exactly 1/2 but for the last bits, and DBSCAN at eps = 0.5 takes them or not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from ..errors import UserError
from .jaccard import average_weights, expanded_sets, jaccard_distances

KEY = "UDA.DISTANCE.JACCARD.EXACT"


def exact_jaccard(features: np.ndarray, k1: int, k2: int, *, limit: float = 1.0) -> csr_matrix:
    """As `k_reciprocal_jaccard`, with the bits of fast-reid's function on the CPU.

    Its steps are followed where they round: the lists of faiss with its order of equal distances,
    the weights by the same calls of torch, one image at a time, sums, means and the last formula
    in float32. As there, bits change with the versions of faiss and torch, with the processor, and
    with the number of torch's threads: it stays as it is set, and 1 (OMP_NUM_THREADS=1) is fast.

    Args:
        features: (N, D) float32, N >= 1.
        k1: columns of the neighbour lists; with fewer images, where fast-reid takes the last image
            for those that are missing, all are used.
        k2: neighbours whose weights are averaged; 1 for none.
        limit: see `jaccard_distances`.

    Returns:
        As `jaccard_distances`, but the diagonal is as fast-reid has it: up to 1e-6 above 0, and 1
        for an image without weights.

    Raises:
        UserError: no rows, or torch or faiss is not installed.
    """
    faiss, torch = check_exact()
    if len(features) == 0:
        raise UserError("The target set has 0 images; there is nothing to label.")
    features = np.ascontiguousarray(features, dtype=np.float32)
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    ranks = index.search(features, min(k1, len(features)))[1]
    sets = expanded_sets(ranks)
    data = _softmax_weights(torch, features, sets)
    weights = csr_matrix((data, sets.indices, sets.indptr), shape=sets.shape)
    if k2 != 1:
        weights = average_weights(weights, ranks[:, :k2])
    return jaccard_distances(weights, limit, exact=True)


def check_exact() -> tuple[Any, Any]:
    """The modules faiss and torch; a `UserError` that names the key if one is not installed."""
    try:
        import faiss
        import torch
    except ImportError as error:
        package = {"faiss": "faiss-cpu"}.get(error.name or "", error.name)
        raise UserError(
            f"{KEY} is True, which needs {error.name}, and that is not installed; install "
            f"{package} or set it to False."
        ) from None
    return faiss, torch


def _softmax_weights(torch: Any, features: np.ndarray, sets: csr_matrix) -> np.ndarray:
    """The weights of all rows, (entries of the sets,) float32."""
    weights = np.zeros(sets.nnz, dtype=np.float32)
    rows = torch.from_numpy(features)
    with torch.no_grad():
        for i in range(len(features)):
            own = slice(sets.indptr[i], sets.indptr[i + 1])
            x, y = rows[i].unsqueeze(0), rows[sets.indices[own].astype(np.int64)]
            squares = torch.pow(x, 2).sum(dim=1, keepdim=True).expand(1, len(y))
            distances = squares + torch.pow(y, 2).sum(dim=1, keepdim=True).expand(len(y), 1).t()
            distances.addmm_(x, y.t(), beta=1, alpha=-2)
            weights[own] = torch.nn.functional.softmax(-distances, dim=1).view(-1).numpy()
    return weights
