"""Strategies of hypothesis: feature sets and labelers of every kind, the odd ones above all."""

import numpy as np
from hypothesis import strategies as st

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.clustering import DBSCAN, HDBSCAN, KMeans
from fastreid_uda.labeling.distances import CAJaccard, Cosine, Euclidean, Jaccard
from fastreid_uda.labeling.eps import CrossCamera, FixedEps, Rho
from fastreid_uda.labeling.pipeline import PseudoLabeler
from fastreid_uda.labeling.refiners.inclr import INCLR
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.refiners.nplp import NPLP
from fastreid_uda.labeling.refiners.p2lr import P2LR
from fastreid_uda.labeling.refiners.secret import SECRET
from fastreid_uda.labeling.refiners.spcl import SpCL
from fastreid_uda.labeling.types import FeatureSet

NORMS = (1e-30, 1e-12, 1e-3, 1.0, 1e3, 1e12, 1e18, 1e30)


@st.composite
def feature_sets(draw):
    """0 to 30 images of few people: duplicates, zero rows, rows of any length, 1 to 3 cameras."""
    images = draw(st.sampled_from([0, 1, 2, 5, 12, 20, 30, 30]))
    people = draw(st.sampled_from([1, 3, 4, 6]))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    identities = rng.integers(people, size=images)
    noise = draw(st.sampled_from([0.1, 0.0, 1e-7, 0.3, 1.0]))  # 0: people are copies of one image
    norm = draw(st.one_of(st.sampled_from(NORMS), st.none()))

    def rows(dim):
        x = rng.normal(size=(people, dim))[identities] + noise * rng.normal(size=(images, dim))
        x *= np.array(rng.choice(NORMS, size=images) if norm is None else norm)[..., None]
        x[rng.random(images) < draw(st.sampled_from([0, 0, 0, 0.2, 1]))] = 0
        return x.astype(np.float32)

    names = draw(st.sampled_from([("global", "top"), ("global",), ("global", "top", "bottom")]))
    views = {name: rows(draw(st.sampled_from([5, 1]))) for name in names}
    dim = views["global"].shape[1]
    cameras = draw(st.sampled_from([3, 2, 1, 0, 3]))
    camera_ids = rng.integers(cameras, size=images) if cameras else None
    extras = {name: rows(dim) for name in ("student/global", "unnormalized/global")}
    return FeatureSet(views, camera_ids, extras)


K = st.integers(1, 40)
CHAINS = st.lists(
    st.one_of(
        st.builds(MSPLR, min_images=st.integers(1, 4), min_cameras=st.integers(1, 2)),
        st.builds(SECRET, denominator=st.sampled_from(["valid", "all"])),
        st.builds(
            INCLR,
            lgmr=st.booleans(),
            igmo=st.booleans(),
            labels=st.sampled_from(["shared", "per_branch"]),
        ),
        st.builds(
            P2LR,
            criterion=st.sampled_from(["kl", "l2", "internal", "consistency"]),
            action=st.sampled_from(["select", "reweight"]),
            epsilon=st.sampled_from([0.99, 1.0]),
        ),
        st.builds(NPLP, startup_rounds=st.integers(0, 1), share=st.sampled_from([0.1, 1.0])),
        st.builds(SpCL, gap=st.sampled_from([0.02, 0.1])),
    ),
    max_size=3,
).map(tuple)
DISTANCES = st.one_of(
    st.builds(Jaccard, k1=K, k2=st.integers(1, 8), backend=st.just("numpy")),
    st.builds(CAJaccard, k1_inter=K, k2_inter=st.integers(0, 3), backend=st.just("numpy")),
    st.just(Cosine()),
    st.just(Euclidean()),
)
CLUSTERERS = st.one_of(
    st.builds(DBSCAN, min_samples=st.integers(1, 4)),
    st.builds(DBSCAN, min_samples=st.integers(1, 4)),
    st.builds(KMeans, num_clusters=st.integers(1, 8), n_init=st.just(2)),
    st.builds(
        HDBSCAN,
        min_cluster_size=st.integers(2, 4),
        min_samples=st.integers(1, 4),
        max_distance=st.sampled_from([0.7, 0.0]),
    ),
)
RULES = st.one_of(
    st.sampled_from([0.5, 0.05, 0.9, 1e-6, 1.5]).map(FixedEps),
    st.builds(Rho, st.sampled_from([1.6e-3, 0.1, 1.0])),
    st.builds(CrossCamera, st.sampled_from([0.0012, 0.3])),
)
LABELERS = st.builds(
    PseudoLabeler,
    distance=DISTANCES,
    eps=RULES,
    clusterer=CLUSTERERS,
    refiners=CHAINS,
    camera_normalization=st.booleans(),
    row_normalization=st.booleans(),
    join_views=st.booleans(),
    non_finite=st.sampled_from(["raise", "drop"]),
    seed=st.integers(0, 3),
)


def label(labeler, features, **arguments):
    """The labeling, or the sentence of the error that says why there is none."""
    try:
        return labeler(features, **arguments)
    except UserError as error:
        return str(error)
