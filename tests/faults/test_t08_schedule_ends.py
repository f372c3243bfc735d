"""Where the shares of P2LR begin and end, through the whole pipeline.

The formula itself: tests/labeling/refiners/test_p2lr_selection.py.
"""

import numpy as np
import pytest

from fastreid_uda.labeling.clustering import KMeans
from fastreid_uda.labeling.collapse import LabelingCollapse
from fastreid_uda.labeling.refiners.p2lr import P2LR, selected_count
from tests.faults.labelers import line_labeler, make_labeler, on_a_line
from tests.helpers import make_features

FEATURES = make_features(noise=0.5)[0]


def kept(p0, h, round_index, num_rounds):
    labeler = make_labeler(clusterer=KMeans(num_clusters=6, n_init=2), refiners=(P2LR(p0=p0, h=h),))
    return int(labeler(FEATURES, round_index, num_rounds).labels["global"].kept.sum())


@pytest.mark.parametrize("p0", [0.2, 0.29, 0.3, 1.0])
@pytest.mark.parametrize("h", [0.0, 1.5])
@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_rounds__begin_with_p0_and_end_with_all_images(p0, h, rounds):
    images = FEATURES.num_images
    assert kept(p0, h, rounds - 1, rounds) == images
    if rounds > 1:
        assert kept(p0, h, 0, rounds) == selected_count(images, p0)


def test_share_of_less_than_one_image__keeps_one_and_not_all():
    with pytest.raises(LabelingCollapse, match=r"\(P2LR left 1 of 1\).*change UDA\.P2LR"):
        kept(1e-9, 1.5, 0, 3)


def test_share__counts_images_of_equal_doubt_together():
    # Two clusters of two equal images each: all four are as doubtful as each other.
    features = on_a_line([1, 1, -1, -1])
    labels = line_labeler(0.5, 2, refiners=(P2LR(p0=0.25),))(features, 0, 3).labels["global"]
    assert labels.labels.tolist() == [0, 0, 1, 1]
    assert np.unique(labels.uncertainty).size == 1
