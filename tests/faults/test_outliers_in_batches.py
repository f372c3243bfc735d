"""An image without a label never reaches a loss."""

import numpy as np
import pytest
import torch

from fastreid_uda.data.build import build_train_loader
from fastreid_uda.labeling.types import OUTLIER, make_pseudo_labels
from tests.engine.training import make_trainer


@pytest.fixture
def dataset(market):
    trainer = make_trainer(market, method="baseline")
    images = len(trainer.images)
    labels = np.arange(images) % 3 - 1  # a third are outliers
    trainer.dataset.relabel({"global": make_pseudo_labels(labels, np.eye(images, 4, dtype="f4"))})
    return trainer.dataset, trainer.cfg


def test_outlier__cannot_be_drawn(dataset):
    data, _ = dataset
    outlier = int(np.flatnonzero(data.targets == OUTLIER)[0])
    with pytest.raises(ValueError, match=f"Image {outlier} is an outlier"):
        data[outlier]


@pytest.mark.parametrize("sampler", ["BalancedIdentitySampler", "TrainingSampler"])
def test_batches__have_no_outlier_and_plain_labels(dataset, sampler):
    data, cfg = dataset
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.SAMPLER_TRAIN = sampler
    for batch in build_train_loader(data, cfg, num_batches=4, seed=0):
        assert batch["targets"].dtype == torch.int64 and batch["targets"].min() >= 0
        assert (batch["targets"].numpy() == data.targets[batch["indices"]]).all()
