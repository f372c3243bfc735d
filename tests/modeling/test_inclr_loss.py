import math

import pytest
import torch

import fastreid_uda  # noqa: F401  mends fast-reid before it is imported
from fastreid_uda.errors import UserError
from fastreid_uda.modeling.losses import LOSSES
from fastreid_uda.modeling.losses.inclr import INCLRLoss, divergence

TARGETS = torch.tensor([0, 1, 4, 4, 2, 3])
WEIGHTS = torch.tensor([1.0, 0.5, 0.0, 0.25, 1.0, 0.9])


def make_outputs(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        "cls_outputs": torch.full((6, 5), torch.nan),  # must not be read
        "pred_class_logits": torch.randn(6, 5, generator=generator).to(dtype),
        "features": torch.randn(6, 3, generator=generator),
    }


def softmax(logits):
    total = sum(math.exp(z) for z in logits)
    return [math.exp(z) / total for z in logits]


def naive_loss(kl_mode, student, teacher, weights):
    total = 0.0
    for z_student, z_teacher, y, w in zip(student, teacher, TARGETS.tolist(), weights, strict=True):
        q, p = softmax(z_student), softmax(z_teacher)
        kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += {"weighted_ce": -w * math.log(q[y]), "weighted_soft": w * kl, "regulariser": kl}[
            kl_mode
        ]
    return total / len(student)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("kl_mode", INCLRLoss.MODES)
def test_inclr_loss__equals_a_loop(kl_mode, weights):
    student, teacher = make_outputs(0), make_outputs(1)
    loss = LOSSES.build("INCLRLoss", scale=0.7, kl_mode=kl_mode)
    expected = naive_loss(
        kl_mode,
        student["pred_class_logits"].tolist(),
        teacher["pred_class_logits"].tolist(),
        [1.0] * 6 if weights is None else weights.tolist(),
    )
    value = loss(student, TARGETS, weights, teacher)
    assert float(value) == pytest.approx(0.7 * expected, rel=1e-5)


def test_divergence__golden_figures_of_both_directions():
    # Centroids (1, 0), (0, 1) and temperature 20; features (1, 0) and (0.8, 0.6).
    teacher, student = torch.tensor([[20.0, 0.0]]), torch.tensor([[16.0, 12.0]])
    assert float(divergence(teacher, student)) == pytest.approx(0.018150, abs=1e-6)
    assert float(divergence(student, teacher)) == pytest.approx(0.269629, abs=1e-6)


def test_divergence__is_zero_between_equals_and_finite_between_opposites():
    logits = torch.tensor([[200.0, -200.0, 0.0]])
    assert float(divergence(logits, logits)) == 0
    assert float(divergence(logits, -logits)) == pytest.approx(400)


@pytest.mark.parametrize("kl_mode", INCLRLoss.MODES)
def test_inclr_loss__gradient_reaches_the_student_only(kl_mode):
    student, teacher = make_outputs(0), make_outputs(1)
    for outputs in (student, teacher):
        outputs["pred_class_logits"].requires_grad_()
    LOSSES.build("INCLRLoss", kl_mode=kl_mode)(student, TARGETS, WEIGHTS, teacher).backward()
    gradient = student["pred_class_logits"].grad
    assert teacher["pred_class_logits"].grad is None
    # The weight of the third image is 0.
    assert (gradient.abs().amax(dim=1) > 0).tolist() == [
        True, True, kl_mode == "regulariser", True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("kl_mode", INCLRLoss.MODES)
def test_inclr_loss__is_float32_of_half_precision_logits(kl_mode):
    student, teacher = make_outputs(0, torch.float16), make_outputs(1, torch.float16)
    as_float = [{key: x.float() for key, x in outputs.items()} for outputs in (student, teacher)]
    loss = LOSSES.build("INCLRLoss", kl_mode=kl_mode)
    expected = loss(as_float[0], TARGETS, WEIGHTS, as_float[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the only one of a CPU in torch 2.1
        value = loss(student, TARGETS, WEIGHTS, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


def test_inclr_loss__unknown_mode_names_the_key():
    with pytest.raises(
        UserError,
        match=r"MODEL\.LOSSES\.INCLR\.KL_MODE is 'ce'.*: weighted_ce, weighted_soft, regulariser",
    ):
        INCLRLoss(kl_mode="ce")
