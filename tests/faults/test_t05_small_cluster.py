"""A cluster of DBSCAN with fewer images than min_samples, and what comes after it."""

import numpy as np
import pytest

from fastreid_uda.data.samplers import IdentityBatchSampler
from fastreid_uda.labeling.collapse import LabelingCollapse
from fastreid_uda.labeling.refiners.msplr import MSPLR
from fastreid_uda.labeling.refiners.nplp import NPLP
from fastreid_uda.labeling.refiners.p2lr import P2LR
from tests.faults.labelers import line_labeler, on_a_line

# The cores are at 0 and 1.8. The image at 0.9 is near to both and goes to the first: the second
# cluster has 3 images at min_samples 4.
POSITIONS = [-0.6, -0.5, 0, 0.9, 1.8, 2.5, 2.6]
LABELS = [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("refiners", [(), (NPLP(),), (P2LR(p0=1.0),), (MSPLR(3, 1),)])
def test_three_images_at_min_samples_4__are_a_cluster_like_any_other(refiners):
    labeling = line_labeler(refiners=refiners)(on_a_line(POSITIONS))
    assert labeling.labels["global"].labels.tolist() == LABELS
    assert labeling.kept_after["clustering"] == {"global": {"images": 7, "clusters": 2}}


def test_three_images_at_min_samples_4__fall_to_a_filter_of_four_images():
    with pytest.raises(LabelingCollapse, match=r"MSPLR\.MIN_IMAGES left 1 of 4\)"):
        line_labeler(refiners=(MSPLR(4, 1),))(on_a_line(POSITIONS))


def test_three_images__are_drawn_four_times_with_one_of_them_twice():
    sampler = IdentityBatchSampler(
        np.array(LABELS), None, batch_size=8, images_per_identity=4, num_batches=20, seed=0
    )
    for batch in sampler:
        groups = np.array([index for index, _ in batch]).reshape(2, 4)
        small = next(group for group in groups if LABELS[group[0]] == 1)
        assert set(small) <= {4, 5, 6} and len(set(small)) >= 2
