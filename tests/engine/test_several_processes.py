"""Two processes train as one: parameters, class memories and labels are the same on both."""

import os

import numpy as np
import pytest
import torch

from tests.engine.training import make_trainer
from tests.modeling.test_center_contrastive import update_by_loop

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="gloo is used without CUDA")


def train_in_each_process(folder, method, overrides):
    rank = torch.distributed.get_rank()
    trainer = make_trainer(folder, *overrides, method=method)
    updates = []
    for loss in trainer.model.class_memories():
        take, update = loss.take_batch, loss.update

        def spy(features, targets, loss=loss, update=update):
            updates[-1] |= {"before": loss.table.clone(), "features": features, "targets": targets}
            update(features, targets)
            updates[-1]["after"] = loss.table.clone()

        def own(take=take):
            updates.append(dict(zip(("own_features", "own_targets"), take(), strict=True)))
            return updates[-1]["own_features"], updates[-1]["own_targets"]

        loss.take_batch, loss.update = own, spy
    trainer.train()
    state = {
        "parameters": {n: p.detach() for n, p in trainer.model.named_parameters()},
        "tables": [loss.table for loss in trainer.model.class_memories()],
        "labels": torch.from_numpy(trainer.labels["global"].labels),
        "updates": updates,
    }
    torch.save(state, f"{folder}/{rank}.pth")


def train_in_two_processes(folder, method, *overrides):
    from fastreid.engine import launch

    arguments = (folder, method, overrides)
    launch(train_in_each_process, 2, dist_url="auto", args=arguments)
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@needs_no_gpu
@pytest.mark.slow
def test_nplp__two_processes_keep_the_same_table_and_wait_for_no_classifier(market):
    first, second = train_in_two_processes(market, "nplp", "SOLVER.MAX_EPOCH", "1")
    assert same(first["parameters"].values(), second["parameters"].values())
    assert same(first["tables"], second["tables"])
    assert torch.equal(first["labels"], second["labels"])
    assert len(first["updates"]) == 4  # two rounds of two iterations
    for ours, theirs in zip(first["updates"], second["updates"], strict=True):
        assert not torch.equal(ours["own_features"], theirs["own_features"])
        for name in ("features", "targets"):
            batch = torch.cat([ours[f"own_{name}"], theirs[f"own_{name}"]])
            assert torch.equal(ours[name], batch) and torch.equal(theirs[name], batch)
        # What one process does with the whole batch.
        arrays = [ours[name].double().numpy() for name in ("before", "features")]
        expected = update_by_loop("normalised", *arrays, ours["targets"].numpy())
        np.testing.assert_allclose(ours["after"].numpy(), expected, atol=1e-6)
        assert torch.equal(ours["after"], theirs["after"])


@needs_no_gpu
@pytest.mark.slow
def test_msplr__two_processes_train_a_classifier_behind_frozen_epochs(market):
    first, second = train_in_two_processes(market, "msplr", "UDA.FREEZE_EPOCHS", "1")
    assert same(first["parameters"].values(), second["parameters"].values())
    assert same(first["tables"], second["tables"])
    assert os.path.exists(market / "out/model_final.pth")
