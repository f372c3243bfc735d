"""T11: two processes train as one, and one that fails ends both with the same message."""

import os
import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist

from fastreid_uda import distributed
from fastreid_uda.engine.label_hooks import PseudoLabelHook
from fastreid_uda.labeling.types import make_pseudo_labels
from fastreid_uda.modeling.meta_arch.uda_baseline import UDABaseline
from tests.engine.training import make_trainer
from tests.faults.processes import in_two_processes, needs_no_gpu
from tests.helpers import write_market

pytestmark = [needs_no_gpu, pytest.mark.slow]

# A frozen body; class memory and dropout; a neck that no loss reads; several views and a teacher;
# groups of batch norm within a process, over both, and shares of 7 and 8 images; two students.
RUNS = {
    "msplr": ("msplr", ["UDA.FREEZE_EPOCHS", "1", "SOLVER.MAX_EPOCH", "2"]),
    "nplp": ("nplp", []),
    "triplets": ("nplp", ["MODEL.LOSSES.NAME", "('TripletLoss',)"]),
    "secret": ("secret", ["UDA.BN_GROUP", "8"]),
    "shared_group": ("baseline", ["UDA.BN_GROUP", "12"]),
    "uneven": ("baseline", ["SOLVER.IMS_PER_BATCH", "15", "DATALOADER.NUM_INSTANCE", "3"]),
    "p2lr": ("p2lr", ["UDA.MEAN_TEACHER.EMA_BUFFERS", "True"]),
}


FIVE_CLUSTERS = ["UDA.CLUSTER.NAME", "KMeans", "UDA.CLUSTER.KMEANS.NUM_CLUSTERS", "5"]


def train(folder, names):
    """Each run's losses, labels, weights and scores."""
    found = {}
    for name in names:
        method, overrides = RUNS[name]
        solver = ["SOLVER.MAX_EPOCH", "1", "SOLVER.OPT", "SGD", "SOLVER.BASE_LR", "0.0001"]
        trainer = make_trainer(folder, *FIVE_CLUSTERS, *solver, *overrides, method=method)
        # A network that has learnt nothing magnifies the rounding of float32 a thousandfold.
        for module in trainer.model.modules():
            if isinstance(module, UDABaseline):
                module.backbone.double(), module.heads.double()
                module.pixel_mean = module.pixel_mean.double()
        losses = []
        log = trainer._log

        def spy(values, seconds, losses=losses, log=log):
            losses.append({key: float(value.detach()) for key, value in values.items()})
            log(values, seconds)

        trainer._log = spy
        trainer.train()
        found[name] = {
            "losses": losses,
            "labels": {v: torch.from_numpy(p.labels) for v, p in trainer.labels.items()},
            "state": trainer.model.state_dict(),
            "rounds": len(trainer.records),
        }
    return found


@pytest.fixture
def both(market):
    """The runs in two processes, and in this one."""
    results, _ = in_two_processes(train, market, list(RUNS))
    return results, train(market, list(RUNS))


def test_two_processes__train_as_one(both):
    (first, second), alone = both
    for name in RUNS:
        ours, theirs, whole = first[name], second[name], alone[name]
        assert ours["losses"] == theirs["losses"]
        assert ours["rounds"] == whole["rounds"] == 2
        for a, b in zip(ours["losses"], whole["losses"], strict=True):
            assert a == pytest.approx(b, rel=1e-4, abs=1e-5), name
        for view, labels in whole["labels"].items():
            assert torch.equal(ours["labels"][view], labels), (name, view)
        for key, value in whole["state"].items():
            assert torch.equal(ours["state"][key], theirs["state"][key]), (name, key)
            np.testing.assert_allclose(ours["state"][key], value, rtol=1e-4, atol=1e-4)


def fail_in_labeling(folder):
    def failing(self, features):
        raise ValueError("no room left on rank 0")

    PseudoLabelHook._label = failing
    make_trainer(folder).train()


def test_error_on_rank_0__ends_all(market):
    results, seconds = in_two_processes(fail_in_labeling, market)
    assert all("no room left on rank 0" in result for result in results)
    assert seconds < 60


def assert_both_end(function, folder, sentence):
    results, seconds = in_two_processes(function, folder)
    assert sentence in results[0]
    assert results[0] == results[1]
    assert seconds < 60


def lose_an_image(folder):
    trainer = make_trainer(folder)
    if dist.get_rank() == 1:
        open(trainer.images.paths[-1], "wb").close()
    trainer.train()


def test_unreadable_image_on_rank_1__ends_all(market):
    assert_both_end(lose_an_image, market, "cannot be read as an image")


def poison(folder):
    trainer = make_trainer(folder)
    if dist.get_rank() == 1:
        original = trainer.model.supervision

        def poisoned(batch):
            targets, weights = original(batch)
            return targets, weights * float("nan")

        trainer.model.supervision = poisoned
    trainer.train()


def test_nan_loss_on_rank_1__ends_all(market):
    assert_both_end(poison, market, "The loss is not finite in round 0")


def list_other_images(folder):
    if dist.get_rank() == 1:
        os.environ["FASTREID_DATASETS"] = str(folder / "other")
    make_trainer(folder)


def test_other_images_on_rank_1__are_refused(market):
    write_market(market / "other", identities=5)
    sentence = "The list of images of stage 'test' of process 1 is not that of"
    assert_both_end(list_other_images, market, sentence)


def garble_labels(folder):
    trainer = make_trainer(folder)
    start = trainer.start_round

    def garbled(labels, *arguments):
        part = labels["global"]
        if dist.get_rank() == 1:
            part = replace(part, labels=np.roll(part.labels, 1))
        start({"global": part}, *arguments)

    trainer.start_round = garbled
    trainer.train()


def test_other_labels_on_rank_1__are_refused(market):
    sentence = "The labeling of round 0 of process 1 is not that of process 0"
    assert_both_end(garble_labels, market, sentence)


def shrink(folder):
    label = PseudoLabelHook._label

    def shrinking(self, features):
        labeling = label(self, features)
        if self.trainer.round == 0:
            return labeling
        x = features.views["global"]
        few = make_pseudo_labels(np.where(np.arange(len(x)) < 9, np.arange(len(x)) % 2, -1), x)
        return replace(labeling, labels={"global": few})

    PseudoLabelHook._label = shrinking
    trainer = make_trainer(folder)
    trainer.train()
    return [part.num_classes for part in trainer.labels.values()]


def test_shrinking_label_set__both_go_on(market):
    results, _ = in_two_processes(shrink, market)
    assert results == [[2], [2]]


def wait_long(folder):
    answer = distributed.on_main_process(lambda: time.sleep(7) or "late")
    if dist.get_rank() == 0:
        time.sleep(7)
    distributed.wait_for_main()
    return answer


def test_long_labeling__is_waited_for(tmp_path):
    results, _ = in_two_processes(wait_long, tmp_path, timeout=timedelta(seconds=5))
    assert results == ["late", "late"]
