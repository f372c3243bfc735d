"""fast-reid's test of checkpoints, by its public functions alone: what tools/train_net.py of a
fast-reid checkout does with --eval-only. Prints the scores of each folder as a line of JSON.

    python fastreid_scores.py FOLDER ...    each with config.yaml and model.pth

Importing `fastreid_uda` lets fast-reid 1.4.0 import on Python 3.10 and newer; none of the plug-in's
networks, heads or data sets is imported.
"""

import json
import sys

import fastreid_uda  # noqa: F401  isort: skip
from fastreid.config import get_cfg
from fastreid.engine import DefaultTrainer
from fastreid.utils.checkpoint import Checkpointer


def scores_of(folder):
    cfg = get_cfg()
    cfg.merge_from_file(f"{folder}/config.yaml")
    cfg.merge_from_list(["MODEL.WEIGHTS", f"{folder}/model.pth"])
    cfg.freeze()
    model = DefaultTrainer.build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return DefaultTrainer.test(cfg, model)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps({key: float(value) for key, value in scores_of(name).items()}))
    ours = {name.split(".")[1] for name in sys.modules if name.startswith("fastreid_uda.")}
    assert not ours & {"modeling", "data", "engine", "evaluation", "export"}, ours
