import math

import pytest
import torch
from torch.nn import functional as F

import fastreid_uda  # noqa: F401  mends fast-reid before it is imported
from fastreid_uda.modeling.losses import LOSSES
from fastreid_uda.modeling.losses.soft_triplet import hardest_pairs, soft_triplet

SOFT = ["SoftCrossEntropyLoss", "SoftTripletLoss"]


def head_outputs(targets, num_classes=5, seed=0, **to):
    generator = torch.Generator().manual_seed(seed)
    rows = len(targets)
    return {
        "cls_outputs": torch.full((rows, num_classes), torch.nan).to(**to),  # must not be read
        "pred_class_logits": torch.randn(rows, num_classes, generator=generator).to(**to),
        "features": torch.randn(rows, 6, generator=generator).to(**to),
    }


def require_grad(outputs):
    return {name: values.requires_grad_() for name, values in outputs.items()}


def naive_soft_cross_entropy(student, teacher, weights):
    total = 0.0
    for z, reference, weight in zip(student.tolist(), teacher.tolist(), weights, strict=True):
        sum_z, sum_r = sum(math.exp(v) for v in z), sum(math.exp(v) for v in reference)
        for a, b in zip(z, reference, strict=True):
            total -= weight * math.exp(b) / sum_r * math.log(math.exp(a) / sum_z)
    return total / len(student)


def naive_soft_triplet(student, teacher, targets, weights):
    def distance(features, i, j):
        return max(math.dist(features[i], features[j]), 1e-6)

    student, teacher, targets = student.tolist(), teacher.tolist(), targets.tolist()
    images, total = range(len(targets)), 0.0
    for i in images:
        same = [j for j in images if targets[j] == targets[i]]
        other = [j for j in images if targets[j] != targets[i]]
        if not other:
            continue
        p = max(same, key=lambda j: distance(student, i, j))
        n = min(other, key=lambda j: distance(student, i, j))
        gap = distance(student, i, p) - distance(student, i, n)
        gap_ref = distance(teacher, i, p) - distance(teacher, i, n)
        q = 1 / (1 + math.exp(-gap_ref))
        total += weights[i] * (q * math.log1p(math.exp(-gap)) + (1 - q) * math.log1p(math.exp(gap)))
    return total / len(targets)


BATCHES = {
    "balanced": [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
    "without another positive": [0, 1, 2, 2, 2, 3, 4, 4],
    "every image its own class": [0, 1, 2, 3, 4],
    "one class": [0, 0, 0, 0],
    "one image": [0],
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES.keys())
def test_soft_losses__equal_loops(labels, weighted):
    targets = torch.tensor(labels)
    classes = int(targets.max()) + 1
    student, teacher = (head_outputs(targets, classes, seed) for seed in (0, 1))
    weights = torch.linspace(0, 1, len(labels)) if weighted else None
    factors = [1.0] * len(labels) if weights is None else weights.tolist()
    expected = {
        "SoftCrossEntropyLoss": naive_soft_cross_entropy(
            student["pred_class_logits"], teacher["pred_class_logits"], factors
        ),
        "SoftTripletLoss": naive_soft_triplet(
            student["features"], teacher["features"], targets, factors
        ),
    }
    for name, value in expected.items():
        loss = LOSSES.build(name, scale=0.7)(student, targets, weights, teacher)
        assert float(loss) == pytest.approx(0.7 * value, rel=1e-5, abs=1e-7), name


def test_soft_triplet__by_hand():
    # Points on a line. The student's gaps d_p - d_n are 3 - 1 = 2, 3 - 2 = 1 and, for the image
    # without another positive, 0 - 1 = -1; the teacher's at the same pairs are 1 - 3 = -2,
    # 1 - 2 = -1 and 0 - 3 = -3 (its own nearest negative would be at 2).
    student, teacher = torch.tensor([[0.0], [3.0], [1.0]]), torch.tensor([[0.0], [1.0], [3.0]])
    targets = torch.tensor([0, 0, 1])
    assert [x.tolist() for x in hardest_pairs(student, targets)] == [[1, 0, 2], [2, 2, 0]]
    # -q log s(gap) - (1 - q) log s(-gap), with s the sigmoid and q = s(-2), s(-1), s(-3).
    expected = (1.888522 + 1.044320 + 0.360688) / 3
    loss = soft_triplet(student, teacher, targets)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_hardest_pairs__of_equal_distances_are_the_first():
    features = torch.tensor([[0.0], [1.0], [-1.0], [1.0], [-1.0]])
    positives, negatives = hardest_pairs(features, torch.tensor([0, 0, 0, 1, 1]))
    assert positives.tolist() == [1, 2, 1, 4, 3]
    assert negatives.tolist() == [3, 3, 4, 1, 2]


def test_hardest_pairs__do_not_drown_in_the_length_of_the_features():
    targets = torch.arange(40) // 4
    features = torch.randint(64, (40, 8), generator=torch.Generator().manual_seed(0)) / 64
    for shifted, plain in zip(
        hardest_pairs(features + 1000, targets), hardest_pairs(features, targets), strict=True
    ):
        assert torch.equal(shifted, plain)


@pytest.mark.parametrize("teacher_spread", [0.0, 1.0])
def test_soft_triplet__identical_features_have_finite_gradients(teacher_spread):
    student = torch.full((6, 4), 0.3, requires_grad=True)
    teacher = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * teacher_spread
    loss = soft_triplet(student, teacher, torch.tensor([0, 0, 0, 1, 1, 1]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2), rel=1e-5)
    assert student.grad.abs().max() == 0


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_soft_triplet__without_negatives_is_zero_with_zero_gradient(spread):
    student = (torch.randn(4, 3) * spread).requires_grad_()
    loss = soft_triplet(student, torch.randn(4, 3), torch.full((4,), 2))
    loss.backward()
    assert float(loss.detach()) == 0
    assert student.grad.abs().max() == 0


@pytest.mark.parametrize("name", SOFT)
def test_soft_losses__send_gradients_to_the_student_only(name):
    targets = torch.arange(8) // 2
    student, teacher = (require_grad(head_outputs(targets, seed=seed)) for seed in (0, 1))
    LOSSES.build(name)(student, targets, None, teacher).backward()
    used = "features" if name == "SoftTripletLoss" else "pred_class_logits"
    assert student[used].grad.abs().max() > 0
    assert all(values.grad is None for values in teacher.values())
    assert all(values.grad is None for key, values in student.items() if key != used)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SOFT)
def test_soft_losses__are_float32_of_half_precision_outputs(name, dtype):
    targets = torch.arange(8) // 2
    student, teacher = (head_outputs(targets, seed=seed, dtype=dtype) for seed in (0, 1))
    as_float = ({key: x.float() for key, x in outputs.items()} for outputs in (student, teacher))
    student_float, teacher_float = as_float
    loss = LOSSES.build(name)
    expected = loss(student_float, targets, None, teacher_float)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the only one of a CPU in torch 2.1
        values = [
            loss(student, targets, None, teacher),
            loss(student_float, targets, None, teacher_float),
        ]
    for value in values:
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


def test_soft_losses__of_a_student_equal_to_its_teacher_are_the_entropy():
    targets = torch.arange(8) // 2
    outputs = head_outputs(targets)
    loss = LOSSES.build("SoftCrossEntropyLoss")(outputs, targets, None, outputs)
    entropy = torch.distributions.Categorical(logits=outputs["pred_class_logits"]).entropy().mean()
    assert float(loss) == pytest.approx(float(entropy), rel=1e-5)

    loss = LOSSES.build("SoftTripletLoss")(outputs, targets, None, outputs)
    distances = torch.cdist(outputs["features"], outputs["features"])
    same = targets[:, None] == targets
    hardest = distances.where(same, -torch.ones(())).amax(1)
    nearest = distances.where(~same, 99 * torch.ones(())).amin(1)
    pairs = torch.distributions.Categorical(logits=torch.stack((hardest, nearest), 1))
    assert float(loss) == pytest.approx(float(pairs.entropy().mean()), rel=1e-5)


def test_soft_cross_entropy__has_the_gradient_of_the_divergence():
    targets = torch.arange(8) // 2
    student, teacher = (head_outputs(targets, seed=seed) for seed in (0, 1))
    logits = student["pred_class_logits"].requires_grad_()
    probabilities = teacher["pred_class_logits"].softmax(dim=1)
    loss = LOSSES.build("SoftCrossEntropyLoss")(student, targets, None, teacher)
    divergence = F.kl_div(F.log_softmax(logits, dim=1), probabilities, reduction="batchmean")
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, divergence)]
    assert torch.allclose(*gradients, atol=1e-7)
    entropy = torch.distributions.Categorical(probabilities).entropy().mean()
    assert float((loss - divergence).detach()) == pytest.approx(float(entropy), rel=1e-5)


def test_soft_triplet__of_a_certain_teacher_is_the_hard_triplet_loss():
    targets = torch.arange(12) // 4
    student = torch.randn(12, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    teacher = 1e3 * F.one_hot(targets, 6).float()
    hard = LOSSES.build("TripletLoss", margin=0.0, hard_mining=True)({"features": student}, targets)
    soft = soft_triplet(student, teacher, targets)
    assert float(soft.detach()) == pytest.approx(float(hard.detach()), rel=1e-5)
    gradients = [torch.autograd.grad(value, student)[0] for value in (soft, hard)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_soft_triplet__gradients_match_finite_differences():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    weights = torch.rand(6, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(
        lambda features: soft_triplet(features, teacher, targets, weights), (student,)
    )
