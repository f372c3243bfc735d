"""The trainer: rounds of epochs with a training set, a classifier and an optimiser made anew."""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from fastreid.engine.defaults import DefaultTrainer
from fastreid.engine.hooks import IterationTimer
from fastreid.engine.train_loop import HookBase, TrainerBase
from fastreid.evaluation.testing import flatten_results_dict
from fastreid.solver import build_optimizer
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.build import build_test_loader, build_train_loader, gallery_draws
from ..data.image_list import ImageList
from ..data.pseudo_labeled_dataset import PseudoLabeledDataset
from ..data.transforms import build_transforms
from ..distributed import require_same, wait_for_main
from ..errors import UserError
from ..evaluation.evaluated_network import EvaluatedNetwork
from ..evaluation.reid_evaluator import BlockwiseReidEvaluator
from ..labeling.types import PseudoLabels, class_means
from ..modeling.batch_norm import average_statistics
from ..modeling.build import build_network
from .checkpoint_hook import CheckpointHook
from .epoch_writer import EpochWriter
from .feature_extraction import ProgressLoader
from .freeze_hook import FreezeHook
from .learning_rate import LearningRateHook, build_scheduler
from .mean_teacher_hook import MeanTeacherHook
from .round_hook import RoundHook
from .run_checks_hook import RunChecksHook
from .run_state import resume_run, save_run
from .seeding import derive_seed, seed_all_generators
from .summary import teacher_prefix

logger = logging.getLogger(__name__)


class UDATrainer(DefaultTrainer):
    """fast-reid's trainer for one list of images whose labels are replaced in each round.

    A round is `SOLVER.MAX_EPOCH` epochs. Before its first epoch the label hook calls `start_round`
    with the labels; a run with true labels is a run of one round. Hooks see fast-reid's trainer:
    `iter`, `epoch` and `storage` count through all rounds.

    Args:
        cfg: complete config.
        images: the training images.
        stage: name of the stage; part of every seed.
        label_hook: makes the labels; called first in every epoch.
        step_hooks: what else happens around each step; called after the label hook.
        num_rounds: planned number of rounds.
        on_round_end: called with the records of all finished rounds.

    Attributes:
        labels: view -> labels of the current round; empty before the first.
        records: one dict per finished round.
        memory: what the label hook keeps between rounds; in the checkpoint.
        stop_reason: set by the label hook to end the run before the next epoch.
        is_over: whether the stage has come to its end, and not to an error.
    """

    # fast-reid's class reads these four from a private inner trainer; here they are plain.
    model: nn.Module = None
    data_loader: Any = None
    optimizer: torch.optim.Optimizer = None
    grad_scaler: Any = None

    def __init__(
        self,
        cfg: Any,
        images: ImageList,
        *,
        stage: str,
        label_hook: HookBase,
        step_hooks: Sequence[HookBase] = (),
        num_rounds: int = 1,
        on_round_end: Callable[[list[dict[str, Any]]], None] = lambda records: None,
    ) -> None:
        TrainerBase.__init__(self)
        self.cfg = cfg
        self.on_round_end = on_round_end
        self.images = images
        require_same(
            f"The list of images of stage '{stage}'",
            images.digest.encode(),
            "put the same files under the same path on all machines",
        )
        self.stage = stage
        self.num_rounds = num_rounds
        self.epochs_per_round = cfg.SOLVER.MAX_EPOCH + (
            cfg.UDA.FREEZE_EPOCHS if cfg.UDA.FREEZE_BEFORE_SCHEDULE else 0
        )
        seed_all_generators(derive_seed(cfg.UDA.SEED, stage, "model"))
        self.model = self.build_model(cfg)
        self.model.train()
        # Every student sees an augmentation of its own.
        self.dataset = PseudoLabeledDataset(
            images, build_transforms(cfg, is_train=True), draws=len(self.model.students)
        )
        self.start_epoch = self.epoch = 0
        self.max_epoch = num_rounds * self.epochs_per_round
        self.iter = self.start_iter = self.round_start_iter = 0
        self.iters_per_epoch = 0
        self.scheduler: dict[str, Any] = {}
        self.labels: dict[str, PseudoLabels] = {}
        self.records: list[dict[str, Any]] = []
        self.memory: dict[str, Any] = {}
        self.stop_reason = ""
        self.is_over = False
        os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
        writers = self.build_writers()
        self.register_hooks(
            [
                IterationTimer(warmup_iter=0),
                LearningRateHook(),
                label_hook,
                *step_hooks,
                MeanTeacherHook() if cfg.UDA.MEAN_TEACHER.ENABLED else None,
                FreezeHook(cfg.UDA.FREEZE_EPOCHS),
                RunChecksHook(),
                RoundHook(),
                EpochWriter(writers, period=200) if comm.is_main_process() else None,
                CheckpointHook(),
            ]
        )

    # -- where the run is ------------------------------------------------------------------------

    @property
    def round(self) -> int:
        """Index of the current round, from 0."""
        return self.epoch // self.epochs_per_round

    @property
    def epoch_in_round(self) -> int:
        """Index of the current epoch in its round, from 0."""
        return self.epoch % self.epochs_per_round

    @property
    def iter_in_round(self) -> int:
        """Iterations of the current round that are done."""
        return self.iter - self.round_start_iter

    @property
    def max_iter(self) -> int:
        """The planned number of iterations, if later rounds are as long as this one."""
        epochs_left = self.max_epoch - self.round * self.epochs_per_round
        return self.round_start_iter + epochs_left * self.iters_per_epoch

    # -- a round ---------------------------------------------------------------------------------

    def start_round(
        self,
        labels: Mapping[str, PseudoLabels],
        use_centroids: bool,
        features: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Swap the training set in place and make classifier, optimiser and schedule anew.

        Args:
            labels: view -> labels of all images.
            use_centroids: whether the classifier starts from the centroids or at random.
            features: name -> (N, D) features of all images under each name in the network's
                `memory_features`, from whose class means the class memories start; None: random.
        """
        self.labels = dict(labels)
        require_same(
            f"The labeling of round {self.round}",
            as_bytes(labels) + str(self.memory.get("eps")).encode(),
            "its machine or its connection is damaged: continue with --resume on others",
        )
        self.dataset.relabel(labels)
        self.round_start_iter = self.iter
        centroids = None
        if use_centroids:
            centroids = {view: torch.from_numpy(part.centroids) for view, part in labels.items()}
        num_classes = {view: part.num_classes for view, part in labels.items()}
        means = None if features is None else self._class_means(features)
        self.model.start_round(num_classes, centroids, means)
        batch_size = self.cfg.SOLVER.IMS_PER_BATCH
        one_pass = max(1, len(self.dataset.kept) // batch_size)
        self.iters_per_epoch = self.cfg.UDA.ITERS_PER_EPOCH or one_pass
        self._renew_optimizer()
        self._printer._max_iter = self.max_iter  # the time left that fast-reid's printer shows
        logger.info(
            "Training on %d of %d images in %s classes, %d iterations per epoch.",
            len(self.dataset.kept), len(self.images),
            "/".join(map(str, num_classes.values())), self.iters_per_epoch,
        )  # fmt: skip

    def _class_means(self, features: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Name -> (K, D) mean features of the classes of the view that the name ends with."""
        means = {}
        for name in self.model.memory_features:
            part = self.labels[name.rpartition("/")[2]]
            rows = class_means(features[name], part.labels, part.num_classes)
            means[name] = torch.from_numpy(rows)
        return means

    def _renew_optimizer(self) -> None:
        # contiguous=False: on torch >= 2 fast-reid's flat buffers lose their gradients and nothing
        # is trained, without an error (solver/build.py:180). Network by network, because fast-reid
        # knows the head and the frozen layers by the start of their names.
        self.optimizer, *others = (
            build_optimizer(self.cfg, student, contiguous=False)[0]
            for student in self.model.students
        )
        for group in (group for other in others for group in other.param_groups):
            self.optimizer.add_param_group(group)
        first_epoch = 0 if self.cfg.UDA.RESTART_SCHEDULE else self.round * self.epochs_per_round
        self.scheduler = build_scheduler(
            self.cfg, self.optimizer, self.iters_per_epoch, first_epoch
        )
        self._amp = self.cfg.SOLVER.AMP.ENABLED
        on_gpu = self.model.device.type == "cuda"
        self.grad_scaler = make_grad_scaler() if self._amp and on_gpu else None
        self.wrap_model()

    def wrap_model(self) -> None:
        """Wrap the network for several processes; again whenever its parameters change."""
        self._module = self.model
        if comm.get_world_size() > 1:
            on_gpu = self.model.device.type == "cuda"
            # Batch norm sees to its statistics itself; torch 2.15 renamed the argument.
            known = inspect.signature(DistributedDataParallel).parameters
            sync = (
                "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
            )
            self._module = DistributedDataParallel(
                self.model, device_ids=[comm.get_local_rank()] if on_gpu else None, **{sync: False}
            )

    # -- the loop --------------------------------------------------------------------------------

    def train(self) -> None:
        """All epochs from `start_epoch`; ends early if a hook sets `stop_reason`."""
        logger.info("Stage %s: starting from epoch %d.", self.stage, self.start_epoch)
        with EventStorage(self.iter) as self.storage:
            # A run that is resumed after its last epoch saves the same again.
            self.epoch = min(self.start_epoch, self.max_epoch - 1)
            self.before_train()
            try:
                for epoch in range(self.start_epoch, self.max_epoch):
                    self.epoch = epoch
                    self.before_epoch()
                    if self.stop_reason:
                        break
                    for _ in range(self.iters_per_epoch):
                        self.before_step()
                        self.run_step()
                        self.after_step()
                        self.iter += 1
                    self.after_epoch()
                self.is_over = True
            finally:
                self.after_train()

    def before_epoch(self) -> None:
        """Seed everything for this epoch, let the hooks act, and start a fresh loader."""
        place = (self.stage, self.epoch)
        seed_all_generators(derive_seed(self.cfg.UDA.SEED, *place, "round"))
        self.model.train()
        # Scalars of the round belong to its first iteration: fast-reid's writers skip older ones.
        self.storage.iter = self.iter
        super().before_epoch()
        if self.stop_reason:
            return
        self.data_loader = build_train_loader(
            self.dataset,
            self.cfg,
            num_batches=self.iters_per_epoch,
            seed=derive_seed(self.cfg.UDA.SEED, *place, "batches"),
        )
        self._batches = iter(self.data_loader)
        # The same on all ranks: what is drawn for a batch is drawn for the whole batch.
        seed_all_generators(derive_seed(self.cfg.UDA.SEED, *place, "steps", 0))

    def after_epoch(self) -> None:
        """Close the loader before the hooks act, so that no worker holds old labels."""
        self._batches = None
        average_statistics(self.model)
        super().after_epoch()

    def run_step(self) -> None:
        """One batch: losses, gradients, optimiser, class memories."""
        start = time.perf_counter()
        batch = next(self._batches)
        data_time = time.perf_counter() - start
        device = self.model.device.type
        with torch.autocast(device, enabled=self._amp):
            losses = self._module(batch)
            total = sum(losses.values())
        self._check_finite(losses)
        self.optimizer.zero_grad()
        if self.grad_scaler is None:
            total.backward()
            self.optimizer.step()
        else:
            self.grad_scaler.scale(total).backward()
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        self._update_class_memories()
        self._log(losses, data_time)

    def _check_finite(self, losses: Mapping[str, torch.Tensor]) -> None:
        # The same on all ranks, which compute the losses of the whole batch.
        if not torch.isfinite(torch.stack([x.detach() for x in losses.values()])).all():
            values = ", ".join(f"{name} {float(x.detach()):.4g}" for name, x in losses.items())
            raise UserError(
                f"The loss is not finite in round {self.round}, epoch {self.epoch}, iteration "
                f"{self.iter} ({values}); lower SOLVER.BASE_LR, and continue from the last "
                "checkpoint with --resume."
            )

    def _update_class_memories(self) -> None:
        for memory in self.model.class_memories():
            batch = memory.take_batch()
            if batch is None:
                continue
            memory.update(*batch)

    def _log(self, losses: Mapping[str, torch.Tensor], data_time: float) -> None:
        if comm.is_main_process():
            scalars = {name: float(x.detach()) for name, x in losses.items()}
            self.storage.put_scalar("data_time", data_time)
            self.storage.put_scalars(total_loss=sum(scalars.values()), **scalars)

    def save(self, name: str) -> None:
        """Write everything the run needs to go on after the epochs done so far."""
        if comm.is_main_process():
            save_run(self, name)

    def resume(self) -> bool:
        """Go on from the last checkpoint of OUTPUT_DIR; returns whether there was one."""
        return resume_run(self)

    # -- evaluation, as fast-reid's trainer has it -------------------------------------------------

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset_name: str, output_dir: str | None = None) -> Any:
        """Loader and evaluator of a test set."""
        loader, num_query = build_test_loader(dataset_name, cfg)
        draws = gallery_draws(dataset_name, cfg)
        evaluator = BlockwiseReidEvaluator(cfg, num_query, output_dir, draws=draws)
        return ProgressLoader(loader, f"test {dataset_name}"), evaluator

    @classmethod
    def evaluate(cls, cfg: Any, model: nn.Module) -> dict[str, float]:
        """Scores in per cent on `DATASETS.TESTS`, flat: "mAP", "Rank-1", ...; empty without tests.

        With several test sets the names are "<data set>/mAP", and "mAP" is that of the first. Of
        several teachers each is tested by itself, and the names of all but the first begin with
        "teacher_2/", "teacher_3/", ...
        """
        scores: dict[str, float] = {}
        for number, network in enumerate(model.tested if cfg.DATASETS.TESTS else (), start=1):
            prefix = teacher_prefix(number)
            own = cls._evaluate_one(cfg, network)
            scores |= {prefix + name: value for name, value in own.items()}
            if own:
                shown = ", ".join(f"{name} {own[name]:.2f}" for name in ("mAP", "Rank-1", "mINP"))
                logger.info("Scores on %s: %s%s.", cfg.DATASETS.TESTS[0], prefix, shown)
        wait_for_main()
        return scores

    @classmethod
    def _evaluate_one(cls, cfg: Any, network: nn.Module) -> dict[str, float]:
        tested = EvaluatedNetwork(network, cfg.TEST.VIEWS, cfg.TEST.ETA)
        results = flatten_results_dict(cls.test(cfg, tested))
        scores = {name: float(value) for name, value in results.items()}
        if len(cfg.DATASETS.TESTS) > 1:
            first = f"{cfg.DATASETS.TESTS[0]}/"
            scores |= {k.removeprefix(first): v for k, v in scores.items() if k.startswith(first)}
        return scores

    def build_writers(self) -> list[Any]:
        """fast-reid's writers: terminal and log file, metrics.json, TensorBoard."""
        writers = super().build_writers()
        self._printer = writers[0]
        return writers

    @classmethod
    def build_model(cls, cfg: Any) -> nn.Module:
        """The network of the config."""
        return build_network(cfg)


def as_bytes(labels: Mapping[str, PseudoLabels]) -> bytes:
    """What several processes must have in common to train on the same labels."""
    arrays = [a for part in labels.values() for a in (part.labels, part.weights, part.centroids)]
    sizes = str({view: part.centroids.shape for view, part in labels.items()}).encode()
    return b"".join([sizes, *(np.ascontiguousarray(array).tobytes() for array in arrays)])


def make_grad_scaler() -> Any:
    """Loss scaling for float16 on a GPU, under the name it has in this version of torch."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda")
    return torch.cuda.amp.GradScaler()
