import pytest
import torch
from torch.nn import functional as F

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.modeling.build import build_network
from fastreid_uda.modeling.meta_arch.mean_teacher import (
    MeanTeacher,
    plain_mean,
    spoken_mean,
    unit_mean,
)
from tests.modeling.test_mean_teacher import (
    make_config,
    make_pair,
    parameters_of,
    state_of,
    take_step,
)
from tests.modeling.test_multi_view_head import make_batch, make_network

CLASSES = {"global": 4, "top": 5, "bottom": 6}


def make_two(teaching="average", *overrides, **options):
    torch.manual_seed(0)
    cfg = make_config("UDA.MEAN_TEACHER.ENABLED", "False", *overrides)
    model = MeanTeacher([build_network(cfg) for _ in range(2)], teaching=teaching, **options)
    model.start_round(CLASSES, None)
    with torch.no_grad():  # teachers that differ from their students
        for parameter in model.teachers.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model.train()


def make_augmented(students=2):
    batch = make_batch(3)
    images = torch.randint(0, 256, (8, students, 3, 32, 32)).float()
    return batch | {"images": images, "weights": torch.linspace(0, 1, 8)}


@pytest.mark.parametrize("augmentations", ["one for all", "one for each"])
@pytest.mark.parametrize("teaching", MeanTeacher.TEACHING)
def test_training__each_learns_from_the_right_teacher(teaching, augmentations):
    model = make_two(teaching)
    batch = make_augmented() if augmentations == "one for each" else make_batch(3)
    losses = model(batch)
    images = batch["images"]
    images = images.unbind(1) if augmentations == "one for each" else [images, images]
    own = [model.students[0].preprocess_image({"images": x}) for x in images]
    targets, weights = model.students[0].supervision(batch)
    with torch.no_grad():
        first, second = (t.outputs(x, targets) for t, x in zip(model.teachers, own, strict=True))
        guides = {"cross": [second, first]}
        middle = {v: {k: (first[v][k] + second[v][k]) / 2 for k in first[v]} for v in first}
        guides["average"] = [middle, middle]
        expected = [
            student.losses(student.outputs(x, targets), targets, weights, guide)
            for student, x, guide in zip(model.students, own, guides[teaching], strict=True)
        ]
    for name in losses:
        assert float(losses[name].detach()) == pytest.approx(
            sum(float(part[name]) for part in expected), rel=1e-4
        )


@pytest.mark.parametrize("students", [1, 3])
def test_training__as_many_augmentations_as_students_are_needed(students):
    with pytest.raises(ValueError, match="zip"):
        make_two()(make_augmented(students))


def test_training__leaves_the_batch():
    batch = make_augmented()
    before = batch["images"].clone()
    make_two()(batch)
    assert torch.equal(batch["images"], before)


def test_step__both_teachers_move_by_the_rule():
    model = make_two()
    before = [parameters_of(teacher) for teacher in model.teachers]
    take_step(model, make_augmented(), 4)
    for student, teacher, old in zip(model.students, model.teachers, before, strict=True):
        new = parameters_of(student)
        for name, tensor in parameters_of(teacher).items():
            torch.testing.assert_close(tensor, 0.8 * old[name] + 0.2 * new[name])


@pytest.mark.parametrize("step", [0, 7])
def test_step__without_momentum_the_teachers_are_their_students(step):
    model = make_two(ema_decay=0.0)
    take_step(model, make_augmented(), step)
    for student, teacher in zip(model.students, model.teachers, strict=True):
        new = parameters_of(student)
        assert all(torch.equal(new[name], x) for name, x in parameters_of(teacher).items())


def test_start_round__random_classifiers_are_shared_with_the_own_teacher_only():
    model = make_two()
    model.start_round(CLASSES, None)
    first, second = (student.classifiers() for student in model.students)
    for student, teacher in zip((first, second), model.teachers, strict=True):
        for view, weight in teacher.classifiers().items():
            assert torch.equal(weight, student[view]) and not weight.requires_grad
            assert weight.data_ptr() != student[view].data_ptr()
    assert not torch.equal(first["global"], second["global"])
    assert set(model.classifiers()) == {f"{n}/{view}" for n in range(2) for view in CLASSES}


def test_start_round__centroids_fill_all_four():
    model = make_two()
    centroids = {v: F.normalize(torch.randn(k, 1024), dim=1) for v, k in CLASSES.items()}
    model.start_round(CLASSES, centroids)
    for network in (*model.students, *model.teachers):
        for view, weight in network.classifiers().items():
            assert torch.equal(weight, centroids[view])


def test_copy_to_teachers__each_from_its_own_student():
    model = make_two("average", "MODEL.HEADS.DROPOUT", "0.5")
    model(make_augmented())  # other running statistics
    model.copy_to_teachers()
    for student, teacher in zip(model.students, model.teachers, strict=True):
        state = state_of(student)
        assert all(torch.equal(state[name], x) for name, x in state_of(teacher).items())
    first, second = (state_of(teacher)["heads.weight"] for teacher in model.teachers)
    assert not torch.equal(first, second)


def features_of_each(model, batch, views):
    """The features of each student and of each teacher."""
    with torch.no_grad():
        return [[n(batch, views) for n in part] for part in (model.students, model.teachers)]


def test_evaluation__the_mean_of_the_teachers_unit_features():
    model, batch = make_two().eval(), make_batch(3)
    with torch.no_grad():
        features = model(batch)
    _, (first, second) = features_of_each(model, batch, None)
    assert tuple(features) == model.views
    for view in model.views:
        mean = (F.normalize(first[view]) + F.normalize(second[view])) / 2
        torch.testing.assert_close(features[view], F.normalize(mean))


def test_evaluation__further_features_by_name():
    model, batch = make_two().eval(), make_batch(3)
    names = ("student/global", "top", "unnormalized/global", "unnormalized/bottom")
    with torch.no_grad():
        features = model(batch, names)
    (a, b), (c, d) = features_of_each(model, batch, None)
    assert tuple(features) == names
    expected = {
        "student/global": F.normalize(F.normalize(a["global"]) + F.normalize(b["global"])),
        "top": F.normalize(F.normalize(c["top"]) + F.normalize(d["top"])),
        "unnormalized/global": (c["global"] + d["global"]) / 2,
        "unnormalized/bottom": (c["bottom"] + d["bottom"]) / 2,
    }
    for name in names:
        torch.testing.assert_close(features[name], expected[name])


def test_evaluation__further_features_of_one_student():
    model, batch = make_pair().eval(), make_batch(3)
    names = ("global", "student/global", "unnormalized/global")
    with torch.no_grad():
        features = model(batch, names)
        own, taught = model.students[0](batch)["global"], model.teachers[0](batch)["global"]
    assert torch.equal(features["global"], taught)
    assert torch.equal(features["unnormalized/global"], taught)
    torch.testing.assert_close(features["student/global"], F.normalize(own))


@pytest.mark.parametrize(
    "views,forwarded",
    [
        (None, ["teacher"] * 2),
        (("top", "unnormalized/top"), ["teacher"] * 2),
        (("student/global",), ["student"] * 2),
        (("global", "student/global"), ["teacher"] * 2 + ["student"] * 2),
        ((), []),
    ],
)
def test_evaluation__networks_are_forwarded_only_if_wanted(views, forwarded, monkeypatch):
    model, seen = make_two().eval(), []
    for role, networks in (("student", model.students), ("teacher", model.teachers)):
        for network in networks:

            def spy(*arguments, original=network.outputs, role=role, **options):
                assert not original.__self__.training
                seen.append(role)
                return original(*arguments, **options)

            monkeypatch.setattr(network, "outputs", spy)
    with torch.no_grad():
        model(make_batch(3), views)
    assert seen == forwarded


def test_evaluation__of_a_single_network():
    network, batch = make_network().eval(), make_batch(3)
    with torch.no_grad():
        features = network(batch, ("unnormalized/top", "top"))
        assert tuple(features) == ("unnormalized/top", "top")
        assert torch.equal(features["unnormalized/top"], network(batch)["top"])
        with pytest.raises(KeyError, match=r"no features 'student/global'.*global, top, bottom"):
            network(batch, ("student/global",))


@pytest.mark.parametrize("name", ["left", "student/left", "other/global"])
def test_evaluation__unknown_features_are_explained(name):
    model = make_pair().eval()
    with pytest.raises(KeyError, match=f"gives no features '{name}'.*unnormalized/, student/"):
        model(make_batch(3), (name,))


def test_tested__the_teachers_or_the_network_itself():
    model, network = make_two(), make_network()
    assert model.tested == list(model.teachers) and network.tested == [network]


def test_means__by_hand():
    first, second = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert unit_mean([first, second])[0].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])
    assert unit_mean([first]).tolist() == [[1.0, 0.0]]
    assert plain_mean([first, second]).tolist() == [[1.5, 0.5]]
    assert spoken_mean([first]) is first
    assert torch.equal(spoken_mean([first, second]), unit_mean([first, second]))
