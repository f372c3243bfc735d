"""MSMT17 as the published figures use it: trained on its train and its validation list."""

from __future__ import annotations

from typing import Any

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.msmt17 import MSMT17


@DATASET_REGISTRY.register()
class MSMT17TrainVal(MSMT17):
    """fast-reid's MSMT17 with list_val beside list_train: 32,621 training images.

    fast-reid adds list_val only with `DATASETS.COMBINEALL`, which adds the test images too; MMT
    (mmt/datasets/msmt17.py:41-43), SECRET (secret/data/datasets/msmt17.py:34-36) and P2LR train on
    both lists.
    """

    def __init__(self, root: str = "datasets", **arguments: Any) -> None:
        super().__init__(root=root, **arguments)
        if not arguments.get("combineall"):  # which has brought them in already
            self._train = [*self.train, *self.process_dir(self.train_dir, self.list_val_path)]
