import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fastreid_uda.evaluation.distances import feature_distances
from fastreid_uda.evaluation.evaluated_network import EvaluatedNetwork, join_views

NAMES = ("global", "top", "bottom")


def make_views(images=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dims = {"bottom": 5, "global": 8, "top": 6}
    return {name: 3 * torch.randn(images, d, generator=generator) for name, d in dims.items()}


def squared(x):
    x = F.normalize(x)
    return torch.tensor([[float(((a - b) ** 2).sum()) for b in x] for a in x])


@pytest.mark.parametrize("eta", [0.0, 0.2, 1.0])
def test_joint__distance_is_the_weighted_sum_of_squares(eta):
    views = make_views()
    joint = join_views(views, NAMES, eta)
    distances = feature_distances(joint.numpy(), joint.numpy(), "euclidean")(0, 12)
    expected = squared(views["global"]) + eta * (squared(views["top"]) + squared(views["bottom"]))
    np.testing.assert_allclose(distances, expected, atol=1e-5)


def test_joint__cosine_ranks_alike():
    views = make_views(images=40)
    joint = join_views(views, NAMES, 0.2).numpy()
    cosine = feature_distances(joint, joint, "cosine")(0, 40)
    euclidean = feature_distances(joint, joint, "euclidean")(0, 40)
    np.testing.assert_allclose(2 * 1.4 * cosine, euclidean, atol=1e-5)


def test_joint__eta_zero_is_the_first_view():
    views = make_views()
    joint = join_views(views, NAMES, 0.0)
    expected = F.normalize(views["global"])
    torch.testing.assert_close(joint[:, :8], expected)
    assert not joint[:, 8:].any()


def test_single_view__as_it_is():
    views = make_views()
    assert join_views(views, ("top",), 0.2) is views["top"]


class Network(torch.nn.Module):
    def forward(self, batched_inputs, views):
        assert not self.training
        return {view: x for view, x in make_views().items() if view in views}


@pytest.mark.parametrize("training", [True, False])
def test_network__gives_one_tensor_and_keeps_its_mode(training):
    from fastreid.evaluation.evaluator import inference_context

    network = Network().train(training)
    tested = EvaluatedNetwork(network, NAMES, 0.2)
    with inference_context(tested):
        features = tested({})
    torch.testing.assert_close(features, join_views(make_views(), NAMES, 0.2))
    assert network.training is training
