"""Training with mean teachers on a tiny data set: one student, and two with mutual teaching."""

import logging

import numpy as np
import pytest
import torch

from fastreid_uda.config_loading import load_config, source_config
from fastreid_uda.data.build import build_extraction_loader
from fastreid_uda.engine.checkpointing import load_checkpoint
from fastreid_uda.engine.checks import check_run
from fastreid_uda.engine.feature_extraction import extract_features
from fastreid_uda.engine.summary import RunSummary, best_teacher, results_table
from fastreid_uda.engine.weights import load_weights
from fastreid_uda.errors import UserError
from tests.engine.training import differing, make_trainer, train_until
from tests.helpers import ROOT, TINY


def test_mean_teacher__moves_by_the_rule_with_the_step_of_the_run(market, monkeypatch):
    trainer = make_trainer(market, "SOLVER.MAX_EPOCH", "1", method="secret")
    steps = []
    update = type(trainer.model).update_teachers

    def spy(model, step):
        (student,), (teacher,) = model.students, model.teachers
        old = {name: p.clone() for name, p in teacher.named_parameters()}
        update(model, step)
        steps.append(step)
        a = min(1 - 1 / (step + 1), 0.9)
        new = dict(student.named_parameters())
        for name, parameter in teacher.named_parameters():
            torch.testing.assert_close(parameter, a * old[name] + (1 - a) * new[name].detach())

    monkeypatch.setattr(type(trainer.model), "update_teachers", spy)
    trainer.train()
    assert steps == [0, 1, 2, 3]  # two rounds of two iterations: the second round goes on counting
    (student,), (teacher,) = trainer.model.students, trainer.model.teachers
    assert differing(student.heads.state_dict(), teacher.heads.state_dict())
    assert list(trainer.labels) == ["global", "top", "bottom"]


def test_mean_teacher__both_classifiers_start_from_the_centroids(market, monkeypatch):
    trainer = make_trainer(market, rounds=1, method="secret")
    seen = []
    wrap = trainer.wrap_model

    def spy():
        networks = [*trainer.model.students, *trainer.model.teachers]
        seen.extend({v: w.detach().clone() for v, w in n.classifiers().items()} for n in networks)
        wrap()

    monkeypatch.setattr(trainer, "wrap_model", spy)
    trainer.train()
    assert len(seen) == 2
    for classifiers in seen:
        for view, labels in trainer.labels.items():
            assert (classifiers[view].numpy() == labels.centroids).all()


def test_mean_teacher__optimizer_has_the_student_alone(market):
    trainer = make_trainer(market, "SOLVER.HEADS_LR_FACTOR", "2.0", rounds=1, method="secret")
    trainer.train()
    groups = trainer.optimizer.param_groups
    optimized = {id(p) for group in groups for p in group["params"]}
    (student,), (teacher,) = trainer.model.students, trainer.model.teachers
    assert optimized == {id(p) for p in student.parameters() if p.requires_grad}
    assert not optimized & {id(p) for p in teacher.parameters()}
    rates = {id(g["params"][0]): g["lr"] for g in groups}
    head = rates[id(student.heads.weight)]
    assert head == 2 * rates[id(next(student.backbone.parameters()))]


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_mean_teacher__resume_repeats_bit_for_bit(market, stop_after):
    overrides = ["UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.RHO.FRACTION", "0.1"]
    arguments = {"method": "secret"}
    whole = make_trainer(market, *overrides, "OUTPUT_DIR", str(market / "whole"), **arguments)
    whole.train()
    train_until(make_trainer(market, *overrides, **arguments), stop_after)
    second = make_trainer(market, *overrides, **arguments)
    assert second.resume()
    second.train()
    assert differing(whole.model.state_dict(), second.model.state_dict()) == []
    for view, labels in whole.labels.items():
        assert (labels.labels == second.labels[view].labels).all()
    assert [r["quality"]["top/eps"] for r in whole.records] == [
        r["quality"]["top/eps"] for r in second.records
    ]


def test_mean_teacher__checkpoint_gives_the_teacher_to_any_network(market):
    trainer = make_trainer(market, rounds=1, method="secret")
    trainer.train()
    path = str(market / "out/model_final.pth")
    teacher = trainer.model.teachers[0]
    pair = make_trainer(market, method="secret").model
    load_weights(pair, [path])
    single = make_trainer(market, method="baseline").model
    load_weights(single, [path])
    for network in (pair.students[0], pair.teachers[0], single):
        for name, tensor in network.backbone.state_dict().items():
            assert torch.equal(tensor, teacher.backbone.state_dict()[name]), name
    assert torch.equal(single.heads.bottleneck[0].weight, teacher.heads.bottleneck[0].weight)


def test_mean_teacher__resume_with_other_views_is_refused(market):
    make_trainer(market, rounds=1, method="secret").train()
    names = ["MODEL.HEADS.PARTS.NAMES", "('bottom', 'top')"]
    with pytest.raises(UserError, match=r"views global, top, bottom, but .* global, bottom, top"):
        make_trainer(market, *names, method="secret").resume()


# -- two students with two teachers ----------------------------------------------------------------

KMEANS = ["UDA.CLUSTER.KMEANS.IMAGES_PER_CLUSTER", "6"]


def test_two_students__every_image_comes_in_two_augmentations(market):
    trainer = make_trainer(market, *KMEANS, "INPUT.FLIP.PROB", "0.5", rounds=1, method="p2lr")
    batches = []
    forward = trainer.model.forward

    def spy(batch, *arguments):
        batches.append(batch)
        return forward(batch, *arguments)

    trainer.model.forward = spy
    trainer.train()
    images = [batch["images"] for batch in batches if trainer.model.training and "weights" in batch]
    assert images and all(x.shape[1:] == (2, 3, 32, 32) for x in images)
    assert any(not torch.equal(x[:, 0], x[:, 1]) for x in images)


def test_two_students__start_apart_and_share_one_optimizer(market):
    trainer = make_trainer(market, *KMEANS, rounds=1, method="p2lr")
    first, second = trainer.model.students
    assert differing(first.state_dict(), second.state_dict())
    trainer.train()
    optimized = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for s in (first, second) for p in s.parameters() if p.requires_grad}


@pytest.mark.parametrize("method", ["p2lr", "inclr"])
@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_two_students__resume_repeats_bit_for_bit(market, method, stop_after):
    options = {"method": method}
    whole = make_trainer(market, *KMEANS, "OUTPUT_DIR", str(market / "whole"), **options)
    whole.train()
    train_until(make_trainer(market, *KMEANS, **options), stop_after)
    second = make_trainer(market, *KMEANS, **options)
    assert second.resume()
    second.train()
    assert differing(whole.model.state_dict(), second.model.state_dict()) == []
    for view, labels in whole.labels.items():
        assert (labels.labels == second.labels[view].labels).all()
        assert (labels.weights == second.labels[view].weights).all()
    for n in range(2):
        ours, theirs = (np.load(market / f / f"labels/round_{n:03d}.npz") for f in ("out", "whole"))
        assert all(np.array_equal(ours[k], theirs[k], equal_nan=True) for k in theirs.files)


def test_two_students__clustered_features_are_the_teachers_normalised_mean(market):
    trainer = make_trainer(market, *KMEANS, method="inclr")
    loader = build_extraction_loader(trainer.images, trainer.cfg)
    views = {}
    for teacher in trainer.model.teachers:
        features = extract_features(teacher, loader, trainer.images).views["part2"]
        views[id(teacher)] = features / np.linalg.norm(features, axis=1, keepdims=True)
    mean = sum(views.values()) / 2
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    ours = extract_features(trainer.model, loader, trainer.images, ["student/global"])
    np.testing.assert_allclose(ours.views["part2"], expected, atol=1e-6)
    # Teachers are copies of the students before the first step.
    np.testing.assert_array_equal(ours.extras["student/global"], ours.views["global"])


def test_two_students__each_loads_its_own_file(market, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("fastreid_uda"), "propagate", True)
    paths = []
    for seed in ("1", "2"):
        out = str(market / seed)
        make_trainer(market, "UDA.SEED", seed, "OUTPUT_DIR", out, supervised=True).train()
        paths.append(f"{out}/model_final.pth")
    model = make_trainer(market, method="p2lr").model
    load_weights(model, paths)
    for path, student, teacher in zip(paths, model.students, model.teachers, strict=True):
        saved = load_checkpoint(path)["model"]
        for network in (student, teacher):
            own = {f"backbone.{k}": v for k, v in network.backbone.state_dict().items()}
            assert differing(saved, own) == []
    assert "students start from" not in caplog.text
    load_weights(model, paths[:1])
    assert "2 students start from 1 network(s)" in caplog.text
    first, second = (student.backbone.state_dict() for student in model.students)
    assert differing(first, second) == []


def test_two_students__a_run_gives_each_its_teacher(market):
    trainer = make_trainer(market, *KMEANS, rounds=1, method="p2lr")
    trainer.train()
    path = str(market / "out/model_final.pth")
    model = make_trainer(market, method="p2lr").model
    load_weights(model, [path])
    for theirs, student, teacher in zip(
        trainer.model.teachers, model.students, model.teachers, strict=True
    ):
        for network in (student, teacher):
            assert differing(theirs.backbone.state_dict(), network.backbone.state_dict()) == []


def test_two_students__each_teacher_is_tested(market):
    trainer = make_trainer(market, *KMEANS, "TEST.EVAL_PERIOD", "1", rounds=1, method="p2lr")
    trainer.train()
    record = trainer.records[0]
    assert {"mAP", "Rank-1", "teacher_2/mAP", "teacher_2/Rank-1"} <= set(record)
    for number, teacher in enumerate(trainer.model.teachers, start=1):
        alone = trainer.evaluate(trainer.cfg, teacher)
        prefix = "" if number == 1 else "teacher_2/"
        assert alone["mAP"] == record[f"{prefix}mAP"]


def test_summary__best_is_the_best_teacher_of_all_rounds(tmp_path):
    records = [
        {
            "round": 0,
            "mAP": 40.0,
            "Rank-1": 50.0,
            "teacher_2/mAP": 45.0,
            "teacher_2/Rank-1": 44.0,
            "B/mAP": 1.0,
            "teacher_2/B/mAP": 2.0,
        },
        {"round": 1, "mAP": 43.0, "Rank-1": 51.0, "teacher_2/mAP": 42.0, "teacher_2/Rank-1": 41.0},
    ]
    assert [best_teacher(record) for record in records] == [(45.0, 2), (43.0, 1)]
    assert best_teacher({"round": 2}) == (-1.0, 1)
    summary = RunSummary(str(tmp_path / "s.json"), {"method": "P2LR", "source": "s"})
    summary.set_rounds(records)
    best = summary.content["best"]
    assert (best["round"], best["mAP"], best["Rank-1"], best["teacher"]) == (0, 45.0, 44.0, 2)
    assert best["B/mAP"] == 2.0 and not any(name.startswith("teacher_") for name in best)
    assert summary.content["last"] == records[1]
    table = results_table(summary.content)
    assert "P2LR (last round), teacher 1" in table and "P2LR (last round), teacher 2" in table
    assert "45.0" in table and "40.0" not in table


@pytest.mark.parametrize("seed,seeds", [("0", [1, 2]), ("1", [3, 4])])
def test_source_recipes__one_per_student_with_a_seed_and_a_folder_of_its_own(seed, seeds):
    path = str(ROOT / "configs/Synthetic/p2lr.yml")
    cfg = load_config(path, [*TINY, "UDA.SEED", seed, "OUTPUT_DIR", "logs/x"])
    recipes = [source_config(cfg, "source", student) for student in range(2)]
    assert [recipe.UDA.SEED for recipe in recipes] == seeds
    assert [r.OUTPUT_DIR for r in recipes] == ["logs/x/source_1", "logs/x/source_2"]
    assert not any(recipe.UDA.MEAN_TEACHER.ENABLED for recipe in recipes)
    assert {recipe.MODEL.HEADS.DROPOUT for recipe in recipes} == {0.0}
    upper = source_config(cfg, "supervised")
    assert int(seed) == upper.UDA.SEED
    assert upper.OUTPUT_DIR == "logs/x/supervised"
    one = load_config(path, [*TINY, "UDA.MEAN_TEACHER.STUDENTS", "1", "OUTPUT_DIR", "logs/x"])
    assert source_config(one, "source").OUTPUT_DIR == "logs/x/source"


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["UDA.MEAN_TEACHER.STUDENTS", "0"], "STUDENTS is 0, but it must be 1 or more"),
        (["UDA.MEAN_TEACHER.ENABLED", "False"], "STUDENTS is 2, but .*ENABLED is False"),
        (["UDA.MEAN_TEACHER.TEACHING", "mutual"], "TEACHING is 'mutual'.*average, cross"),
        (["UDA.MEAN_TEACHER.WEIGHTS", "('a.pth',)"], "names one file for each"),
        (["MODEL.WEIGHTS", "a.pth", "UDA.MEAN_TEACHER.WEIGHTS", "('a.pth', 'b.pth')"],
         r"WEIGHTS is \('a.pth', 'b.pth'\), but"),
        (["MODEL.WEIGHTS", "a.pth", "UDA.MEAN_TEACHER.WEIGHTS", "('',)"],
         r"WEIGHTS is \('',\), but it names one file"),
        (["MODEL.WEIGHTS", "a.pth", "UDA.MEAN_TEACHER.WEIGHTS", "(1,)"], r"WEIGHTS is \(1,\)"),
        (["UDA.P2LR.ALPHA", "0.0"], "UDA.P2LR.ALPHA is 0.0"),
        (["UDA.P2LR.P0", "1.5"], "UDA.P2LR.P0 is 1.5"),
        (["UDA.P2LR.EPSILON", "0.0"], "UDA.P2LR.EPSILON is 0.0"),
        (["UDA.P2LR.H", "-1.0"], "UDA.P2LR.H is -1.0"),
        (["UDA.P2LR.CRITERION", "entropy"], "UDA.P2LR.CRITERION is 'entropy'.*kl"),
    ],
)  # fmt: skip
def test_config__what_cannot_work_is_refused(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        load_config(str(ROOT / "configs/Synthetic/p2lr.yml"), overrides)


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["MODEL.LOSSES.WEIGHTED", "('TripletLoss',)"], "WEIGHTED has TripletLoss, which knows no"),
        (["MODEL.LOSSES.WEIGHTED", "('Focal',)"], "WEIGHTED is 'Focal', but the known names are"),
        (["MODEL.LOSSES.PARTS.NAME", "('Focal',)"], "PARTS.NAME is 'Focal'"),
        (["MODEL.LOSSES.PARTS.SCALES", "(1.0, 2.0)"], "PARTS.SCALES is .1.0, 2.0., but it needs"),
        (["MODEL.LOSSES.INCLR.KL_MODE", "soft"], "KL_MODE is 'soft'.*weighted_ce"),
        (["MODEL.HEADS.DROPOUT", "1.0"], "DROPOUT is 1.0, but it must be"),
        (["MODEL.HEADS.NAME", "PseudoLabelHead", "TEST.VIEWS", "('global',)"],
         "INCLR refines the labels of 'global'.*MultiViewHead"),
        (["UDA.MEAN_TEACHER.ENABLED", "False", "UDA.MEAN_TEACHER.STUDENTS", "1",
          "MODEL.LOSSES.NAME", "('CrossEntropyLoss',)"],
         "INCLR compares the features of student and teacher.*change UDA.INCLR.IGMO"),
        (["MODEL.WEIGHTS", __file__, "UDA.MEAN_TEACHER.WEIGHTS", "('no.pth',)"],
         "UDA.MEAN_TEACHER.WEIGHTS is 'no.pth', but there is no such file"),
    ],
)  # fmt: skip
def test_check_run__what_cannot_work_is_refused_at_the_start(market, overrides, sentence):
    path = str(ROOT / "configs/Synthetic/inclr.yml")
    with pytest.raises(UserError, match=sentence):
        check_run(load_config(path, [*TINY, "MODEL.DEVICE", "cpu", *overrides]), eval_only=False)


@pytest.mark.parametrize(
    "method,overrides",
    [
        ("p2lr", ["UDA.CLUSTER.NAME", "DBSCAN", "UDA.P2LR.ACTION", "reweight"]),
        ("p2lr", ["UDA.P2LR.CRITERION", "internal", "SOLVER.AMP.ENABLED", "True"]),
        ("p2lr", ["UDA.P2LR.CRITERION", "consistency", "UDA.MEAN_TEACHER.STUDENTS", "1"]),
        ("p2lr", ["UDA.P2LR.CRITERION", "l2", "UDA.MEAN_TEACHER.STUDENTS", "3"]),
        ("p2lr", ["UDA.MEAN_TEACHER.EMA_DECAY", "0.0", "UDA.MEAN_TEACHER.TEACHING", "cross"]),
        ("inclr", ["UDA.INCLR.LABELS", "per_branch", "UDA.CLUSTER.NAME", "KMeans",
                   "UDA.INCLR.K", "0.1", "MODEL.LOSSES.INCLR.KL_MODE", "weighted_soft"]),
        ("inclr", ["UDA.INCLR.LGMR", "False", "MODEL.LOSSES.INCLR.KL_MODE", "regulariser",
                   "UDA.CLUSTER.NAME", "KMeans"]),
        ("msplr", ["UDA.MEAN_TEACHER.ENABLED", "True", "UDA.MEAN_TEACHER.STUDENTS", "2",
                   "UDA.STABLE_ARI", "1.0"]),
        ("secret", ["UDA.MEAN_TEACHER.STUDENTS", "2", "UDA.REFINERS", "('SECRET', 'P2LR')"]),
    ],
)  # fmt: skip
def test_combinations__several_students_with_every_method(market, method, overrides):
    trainer = make_trainer(market, *KMEANS, *overrides, "SOLVER.MAX_EPOCH", "1", method=method)
    trainer.train()
    assert len(trainer.records) == 2
    for student, teacher in zip(trainer.model.students, trainer.model.teachers, strict=True):
        assert all(torch.isfinite(p).all() for p in teacher.parameters())
        same = differing(student.backbone.state_dict(), teacher.backbone.state_dict()) == []
        assert not same or "0.0" in overrides


def test_resume__with_another_number_of_students_is_refused(market):
    make_trainer(market, *KMEANS, rounds=1, method="p2lr").train()
    one = make_trainer(market, *KMEANS, "UDA.MEAN_TEACHER.STUDENTS", "1", method="p2lr")
    with pytest.raises(UserError, match=r"has 2 mean teacher\(s\), but the config describes 1"):
        one.resume()
