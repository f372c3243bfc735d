"""Runs that were never trained: random networks in the files that a run leaves."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.data.build import forget_datasets
from fastreid_uda.engine.checkpointing import save_checkpoint
from fastreid_uda.engine.resume_checks import flat_config
from fastreid_uda.engine.trainer import UDATrainer
from fastreid_uda.modeling.build import build_network
from tests.engine.small_backbone import SMALL
from tests.helpers import ROOT, TINY

RESNET = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.BACKBONE.DEPTH", "18x",
          "MODEL.BACKBONE.FEAT_DIM", "512"]  # fmt: skip
"""What fast-reid knows without the tests."""


def write_run(folder, *overrides, method="baseline", name="model_final.pth", tested=True):
    """Write a run of two rounds; gives its config, its network and what the checkpoint holds."""
    options = ["OUTPUT_DIR", str(folder), "MODEL.DEVICE", "cpu", *overrides]
    cfg = load_config(str(ROOT / f"configs/Synthetic/{method}.yml"), [*TINY, *SMALL, *options])
    network = random_network(cfg)
    forget_datasets()
    scores = UDATrainer.evaluate(cfg, network) if tested else {}
    checkpoint = {
        "model": network.state_dict(), "epoch": 2 * cfg.SOLVER.MAX_EPOCH - 1,
        "epochs_per_round": cfg.SOLVER.MAX_EPOCH, "config": flat_config(cfg),
        "records": [{"round": 0}, {"round": 1, **scores}],
    }  # fmt: skip
    save_checkpoint(str(folder / name), checkpoint)
    (folder / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    return cfg, network, checkpoint


def random_network(cfg, seed=0):
    """A network whose parameters and running statistics differ from layer to layer."""
    torch.manual_seed(seed)
    network = build_network(cfg)
    network.start_round(dict.fromkeys(network.views, 7), None)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return network.eval()
