import copy

import pytest
import torch

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.errors import UserError
from fastreid_uda.modeling.build import build_network
from tests.helpers import ROOT, TINY
from tests.modeling.test_multi_view_head import make_batch


def make_config(*overrides):
    defaults = ["MODEL.DEVICE", "cpu", "UDA.MEAN_TEACHER.EMA_DECAY", "0.999"]
    return load_config(ROOT / "configs/Synthetic/secret.yml", [*TINY, *defaults, *overrides])


def make_pair(*overrides):
    torch.manual_seed(0)
    model = build_network(make_config(*overrides))
    model.start_round({"global": 4, "top": 5, "bottom": 6}, None)
    return model.train()


def state_of(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def parameters_of(module):
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}


def take_step(model, batch, step):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    sum(model(batch).values()).backward()
    optimizer.step()
    model.update_teachers(step)


def test_start__teacher_is_a_copy_without_losses_and_gradients():
    model = make_pair()
    student, teacher = model.students[0], model.teachers[0]
    ours, theirs = state_of(teacher), state_of(student)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert len(teacher.criteria) == 0
    shared = {p.data_ptr() for p in student.parameters()} & {
        p.data_ptr() for p in teacher.parameters()
    }
    assert not shared


@pytest.mark.parametrize("step", [0, 1, 9, 998, 5000])
def test_step__moves_student_and_teacher_by_the_rule_and_leaves_the_batch(step):
    model = make_pair()
    with torch.no_grad():  # a teacher that differs from its student
        for parameter in model.teachers[0].parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    batch = make_batch(3)
    untouched = copy.deepcopy(batch)
    old_teacher, old_student = parameters_of(model.teachers[0]), parameters_of(model.students[0])
    take_step(model, batch, step)
    student, teacher = parameters_of(model.students[0]), parameters_of(model.teachers[0])
    a = min(1 - 1 / (step + 1), 0.999)
    moved = [name for name in student if not torch.equal(student[name], old_student[name])]
    trained = [n for n, p in model.students[0].named_parameters() if p.requires_grad]
    assert moved == trained
    for name, tensor in teacher.items():
        expected = a * old_teacher[name].double() + (1 - a) * student[name].double()
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-8)
    assert all(torch.equal(batch[key], untouched[key]) for key in batch)


def test_decay__of_the_specification():
    model = make_pair()
    assert [model.decay_at(s) for s in (0, 9, 999, 10**6)] == [0.0, 0.9, 0.999, 0.999]
    assert make_pair("UDA.MEAN_TEACHER.EMA_WARMUP", "False").decay_at(0) == 0.999


def test_first_step__makes_the_teacher_equal_to_the_student():
    model = make_pair()
    take_step(model, make_batch(3), 0)
    student, teacher = parameters_of(model.students[0]), parameters_of(model.teachers[0])
    assert all(torch.equal(student[name], tensor) for name, tensor in teacher.items())


def statistics_of(module):
    return {n: b.clone() for n, b in module.named_buffers() if "running" in n}


def test_buffers__are_the_teachers_own_by_default():
    model = make_pair()
    model.update_teachers(3)
    before = statistics_of(model.teachers[0])
    with torch.no_grad():
        model(make_batch(3))
    own, students = statistics_of(model.teachers[0]), statistics_of(model.students[0])
    assert all(not torch.equal(own[name], before[name]) for name in own)
    # Same parameters and same batch: both have moved alike, by the forward pass alone.
    assert all(torch.equal(own[name], students[name]) for name in own)
    model.update_teachers(3)
    assert all(
        torch.equal(tensor, own[n]) for n, tensor in statistics_of(model.teachers[0]).items()
    )


def test_buffers__averaged_by_key():
    model = make_pair("UDA.MEAN_TEACHER.EMA_BUFFERS", "True")
    before = statistics_of(model.teachers[0])
    with torch.no_grad():
        model(make_batch(3))
    after = statistics_of(model.teachers[0])
    assert all(torch.equal(before[name], after[name]) for name in before)
    model.update_teachers(3)
    students = statistics_of(model.students[0])
    for name, tensor in statistics_of(model.teachers[0]).items():
        torch.testing.assert_close(tensor, 0.75 * before[name] + 0.25 * students[name])


def test_training__both_see_the_same_tensor_in_training_mode(monkeypatch):
    model = make_pair()
    seen = []
    for network in (model.students[0], model.teachers[0]):
        original = network.outputs

        def spy(images, targets=None, original=original, network=network):
            seen.append((images, network.training, torch.is_grad_enabled()))
            return original(images, targets)

        monkeypatch.setattr(network, "outputs", spy)
    model(make_batch(3))
    (first, *modes), (second, *others) = seen
    assert first is second
    assert modes == [True, False] and others == [True, True]


def test_evaluation__the_teacher_speaks():
    model = make_pair()
    with torch.no_grad():
        for parameter in model.students[0].parameters():
            parameter.zero_()
    model.eval()
    batch = make_batch(3)
    with torch.no_grad():
        features, teachers = model(batch), model.teachers[0](batch)
    assert all(torch.equal(features[view], teachers[view]) for view in model.views)


@pytest.mark.parametrize("value", ["-0.1", "1.5"])
def test_decay__out_of_range_is_explained(value):
    with pytest.raises(UserError, match=f"EMA_DECAY is {value}, but it must be between 0 and 1"):
        make_config("UDA.MEAN_TEACHER.EMA_DECAY", value)


def test_eta__below_zero_is_explained():
    with pytest.raises(UserError, match=r"TEST\.ETA is -0\.1, but it must be 0 or more"):
        make_config("TEST.ETA", "-0.1")
