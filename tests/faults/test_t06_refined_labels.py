"""What the labels of every refiner, and of two in a row, are like.

One refiner at a time: tests/labeling/refiners/test_refiner_contract.py.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.labeling.refiners import REFINERS
from fastreid_uda.labeling.types import OUTLIER
from tests.labeling.refiners.test_refiner_contract import VARIANTS, make_inputs, partition

KEEPS_NUMBERS = ("P2LR",)  # labels and classes stay as they were clustered


def build(name):
    *_, arguments = VARIANTS.get(name, {"": {}}).values()
    return REFINERS.build(name, **arguments)


def refine(names, inputs):
    for name in names:
        inputs = replace(inputs, clusters=build(name).refine(inputs))
    return inputs.clusters


@pytest.mark.parametrize("name", sorted(REFINERS))
def test_refined__classes_have_no_gaps_or_their_old_numbers(name):
    inputs = make_inputs()
    for view, part in refine([name], inputs).items():
        used = np.unique(part.labels[part.kept])
        raw = inputs.clusters[view]
        if name in KEEPS_NUMBERS:
            assert (part.labels[part.kept] == raw.labels[part.kept]).all()
            assert (part.centroids == raw.centroids).all()
        else:
            assert used.tolist() == list(range(part.num_classes))


@pytest.mark.parametrize("name", sorted(REFINERS))
def test_refined__a_row_of_the_centroids_belongs_to_its_images(name):
    inputs = make_inputs()
    for view, part in refine([name], inputs).items():
        x = inputs.features.views[view]
        for label in np.unique(part.labels[part.kept]):
            own = x[part.labels == label] @ part.centroids[label]
            assert own.mean() > (x @ part.centroids[label]).mean()


@pytest.mark.parametrize("names", list(itertools.permutations(sorted(REFINERS), 2)), ids="-".join)
def test_two_refiners__repeat_and_follow_a_permutation(names):
    inputs = make_inputs()
    order = np.random.default_rng(0).permutation(inputs.features.num_images)
    first, again = refine(names, inputs), refine(names, make_inputs())
    permuted = refine(names, make_inputs(order))
    for view, part in first.items():
        assert (part.labels == again[view].labels).all()
        assert (part.weights == again[view].weights).all()
        assert partition(part.labels[order]) == partition(permuted[view].labels)
        raw = inputs.clusters[view].labels
        assert (part.labels[raw == OUTLIER] == OUTLIER).all()
