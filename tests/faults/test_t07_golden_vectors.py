"""Values of an independent calculation, for what could be read the other way round.

The other golden vectors stand where the functions are tested: in tests/labeling test_uncertainty.py
(u of P2LR and INCLR's divergence), test_p2lr_selection.py, test_secret.py, test_self_assessment.py
and test_eps.py (NPLP, the rho rule) and test_camera_normalization.py (MSPLR); the schedules and the
smoothed labels in test_learning_rate.py and test_losses.py.
"""

from dataclasses import replace

import numpy as np
import pytest

from fastreid_uda.errors import UserError
from fastreid_uda.labeling.refiners import RefinerInputs
from fastreid_uda.labeling.refiners.base import STUDENT
from fastreid_uda.labeling.refiners.inclr import INCLR
from fastreid_uda.labeling.refiners.p2lr import P2LR
from fastreid_uda.labeling.refiners.secret import SECRET
from fastreid_uda.labeling.types import FeatureSet, PseudoLabels
from tests.faults.labelers import line_labeler, on_a_line


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def inputs_of(features, labels, student=None):
    extras = {} if student is None else {STUDENT: np.array(student, np.float32)}
    views = FeatureSet({"global": unit(np.array(features))}, extras=extras)
    weights = np.ones(len(labels), np.float32)
    identity = np.eye(views.views["global"].shape[1], dtype=np.float32)
    clusters = {"global": PseudoLabels(np.array(labels), identity, weights)}
    return RefinerInputs(views, views, {}, clusters, {}, 0, 3)


def test_p2lr__diverges_from_the_ideal_to_the_prediction_and_not_back():
    # Each class mean is the axis itself, so that the centroids are the unit matrix.
    rows = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.8, 0.6, 0], [0.6, 0.8, 0]]
    inputs = inputs_of([*rows[:3]], [0, 1, 2])
    u = P2LR().measure(inputs)
    assert u == pytest.approx([0.137067] * 3, abs=1e-5)
    assert u != pytest.approx([0.010050] * 3, abs=1e-3)  # KL(P || Q)


def test_inclr__weighs_by_the_divergence_from_teacher_to_student():
    inputs = inputs_of([[1, 0], [0, 1]], [0, 1], student=[[0.8, 0.6], [0, 1]])
    weights = INCLR(lgmr=False).refine(inputs)["global"].weights
    assert weights == pytest.approx([0.982014, 1], abs=1e-6)
    back = inputs_of([[0.8, 0.6], [0, 1]], [0, 1], student=[[1, 0], [0, 1]])
    exact = replace(back.clusters["global"], centroids=np.eye(2, dtype=np.float32))
    method = INCLR(lgmr=False)
    divergence = method._inaccuracy(back, {"global": exact})
    assert divergence == pytest.approx([0.269629, 0], abs=1e-6)
    assert np.exp(-divergence) == pytest.approx([0.763662, 1], abs=1e-6)


@pytest.mark.parametrize("k", [0.0, 1.0])
def test_secret__borders_of_k_are_refused(k):
    with pytest.raises(UserError, match=rf"UDA\.SECRET\.K is {k}"):
        SECRET(k=k)


def test_msplr_normalization__reaches_the_clusterer():
    # Camera 0 sees 1, 3 and 5, camera 1 sees 10 and 30: -1.22, 0, 1.22 and -1, 1 afterwards.
    features = on_a_line([1, 3, 5, 10, 30], [0, 0, 0, 1, 1])
    labeler = line_labeler(0.3, 2, camera_normalization=True)
    assert labeler(features).labels["global"].labels.tolist() == [0, -1, 1, 0, 1]
