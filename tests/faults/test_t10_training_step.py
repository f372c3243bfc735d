"""One step of the trainer: student and teacher move, the batch stays as it was."""

import pytest
import torch

from tests.engine.training import make_trainer

KMEANS = ["UDA.CLUSTER.NAME", "KMeans", "UDA.CLUSTER.KMEANS.IMAGES_PER_CLUSTER", "6"]


def train_one_step(trainer, monkeypatch):
    """The parameters before and after, by network, and the batch before and after."""
    seen = {}
    step = trainer.run_step

    def parameters():
        networks = {"student": trainer.model.students, "teacher": trainer.model.teachers}
        return {
            f"{kind} {n}": {name: p.detach().clone() for name, p in network.named_parameters()}
            for kind, several in networks.items()
            for n, network in enumerate(several)
        }

    def spy():
        batch = next(trainer._batches)
        seen["given"] = {k: v.clone() for k, v in batch.items() if torch.is_tensor(v)}
        seen["batch"] = batch
        trainer._batches = iter([batch])
        seen["before"] = parameters()
        step()

    monkeypatch.setattr(trainer, "run_step", spy)
    trainer.train()
    return seen | {"after": parameters()}


@pytest.mark.parametrize("method,students", [("secret", 1), ("p2lr", 2)])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_one_step__moves_students_and_teachers_and_leaves_the_batch(
    market, monkeypatch, method, students, optimizer
):
    options = [*(KMEANS if method == "p2lr" else []), "SOLVER.OPT", optimizer]
    trainer = make_trainer(
        market, *options, "SOLVER.MAX_EPOCH", "1", "UDA.ITERS_PER_EPOCH", "1",
        "UDA.FREEZE_EPOCHS", "0", method=method, rounds=1,
    )  # fmt: skip
    assert len(trainer.model.students) == len(trainer.model.teachers) == students
    seen = train_one_step(trainer, monkeypatch)
    assert seen["given"].keys() >= {"images", "targets", "weights"}
    for name, tensor in seen["given"].items():
        assert torch.equal(seen["batch"][name], tensor), name
    for network, before in seen["before"].items():
        after = seen["after"][network]
        moved = [name for name in before if not torch.equal(before[name], after[name])]
        assert len(moved) > len(before) / 2, network
        assert any("backbone" in name for name in moved), network
