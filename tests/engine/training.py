"""Small trainers of the synthetic configs on a tiny Market-1501, in this process."""

import pytest
import torch

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config import build_labeler
from fastreid_uda.config_loading import load_config
from fastreid_uda.data.build import forget_datasets, load_training_images
from fastreid_uda.engine.label_hooks import PseudoLabelHook, TrueLabelHook
from fastreid_uda.engine.trainer import UDATrainer
from tests.engine.small_backbone import SMALL
from tests.helpers import ROOT, TINY


def make_trainer(folder, *overrides, supervised=False, rounds=2, method="msplr"):
    defaults = ["OUTPUT_DIR", str(folder / "out"), "MODEL.DEVICE", "cpu", "TEST.EVAL_PERIOD", "0",
                "SOLVER.MAX_EPOCH", "2"]  # fmt: skip
    path = str(ROOT / f"configs/Synthetic/{method}.yml")
    cfg = load_config(path, [*TINY, *SMALL, *defaults, *overrides])
    forget_datasets()  # a trainer begins a run
    images = load_training_images(("Market1501",), cfg)
    hook = TrueLabelHook() if supervised else PseudoLabelHook(build_labeler(cfg), cfg)
    return UDATrainer(
        cfg, images, stage="test", label_hook=hook, num_rounds=1 if supervised else rounds
    )


def state_of(trainer):
    return {key: value.clone() for key, value in trainer.model.state_dict().items()}


def train_until(trainer, epoch):
    """Train, and stop as if killed once the checkpoint of an epoch is written."""
    save = trainer.save

    def save_and_stop(name):
        save(name)
        if name == "model_last.pth" and trainer.epoch == epoch:
            raise InterruptedError

    trainer.save = save_and_stop
    with pytest.raises(InterruptedError):
        trainer.train()


def differing(first, second):
    return [key for key in second if key not in first or not torch.equal(first[key], second[key])]
