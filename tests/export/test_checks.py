"""A comparison that would let errors pass would be worse than none."""

import math

import pytest
import torch
from torch.nn import functional as F

from fastreid_uda.errors import UserError
from fastreid_uda.export.checks import BATCHES, Check, Difference, make_checks, measure
from fastreid_uda.export.checks import require_close as require


def network(batch):
    return batch["images"].mean(dim=3).flatten(1)


@pytest.fixture
def checks():
    torch.manual_seed(1)
    return make_checks(torch.rand(sum(BATCHES), 3, 6, 4) * 255, network)


def test_make_checks__images_and_noise_in_batches_of_all_sizes(checks):
    assert [len(check.images) for check in checks] == [*BATCHES, *BATCHES]
    assert set(BATCHES) == {1, 2, 5}
    for check in checks:
        assert torch.equal(check.features, network({"images": check.images}))


def test_measure__equals_a_loop_over_rows(checks):
    def moved(images):
        return network({"images": images}) * 1.01 + 0.1

    relative = unit = 0.0
    for check in checks:
        for image, expected in zip(check.images, check.features, strict=True):
            found = moved(image[None])[0].double()
            expected = expected.double()
            relative = max(relative, float((found - expected).norm() / expected.norm()))
            own, other = found / found.norm(), expected / expected.norm()
            unit = max(unit, float((own - other).abs().max()))
    difference = measure(moved, checks)
    assert difference.relative == pytest.approx(relative, rel=1e-12) and relative > 0.01
    assert difference.unit == pytest.approx(unit, rel=1e-9) and 0 < unit < relative
    assert measure(lambda images: network({"images": images}), checks) == Difference(0.0, 0.0)


def test_measure__one_wrong_row_of_one_batch_shows(checks):
    def wrong(images):
        features = network({"images": images}).clone()
        if len(features) == 5:
            features[3] = -features[3]
        return features

    assert measure(wrong, checks).relative == pytest.approx(2)


@pytest.mark.parametrize("spoil", [lambda x: x * math.nan, lambda x: x[:, 1:], lambda x: x[:1]])
def test_measure__other_shapes_and_nan_are_infinitely_far(checks, spoil):
    assert math.isinf(measure(lambda x: spoil(network({"images": x})), checks).largest)


def test_measure__does_not_let_a_network_change_the_images(checks):
    def in_place(images):
        return network({"images": images.mul_(1)})

    before = checks[0].images.clone()
    measure(lambda images: in_place(images.add_(1)), checks)
    assert torch.equal(checks[0].images, before)


@pytest.mark.parametrize(
    "difference",
    [Difference(1e-4, 0.0), Difference(0.0, 2e-4), Difference(math.inf, math.inf),
     Difference(math.nan, 0.0)],
)  # fmt: skip
def test_require_close__refuses_with_the_figures(difference):
    require("onnx", Difference(9e-5, 9e-5), 1e-4)
    with pytest.raises(UserError, match=r"onnx gives other features .* below 1e-04.*nothing"):
        require("onnx", difference, 1e-4)


def test_check__features_may_be_of_any_network():
    check = Check(torch.zeros(1, 3, 2, 2), torch.ones(1, 4))
    assert measure(lambda images: torch.ones(1, 4), [check]).largest == 0
    assert F.normalize(check.features).norm() == 1
