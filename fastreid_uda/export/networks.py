"""The one network of a checkpoint that is taken away."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..config_values import get
from ..engine.checkpoint_names import current_names
from ..engine.summary import SCORES, best_teacher, teacher_prefix
from ..engine.weights import WeightsLoader
from ..errors import UserError
from ..modeling.build import build_plain_network
from ..modeling.meta_arch.uda_baseline import UDABaseline
from .sources import Source

NETWORKS = ("teacher", "student")

_OF_THE_TEST = (
    "TEST.VIEWS", "TEST.ETA", "TEST.METRIC", "TEST.FLIP.ENABLED", "TEST.AQE.ENABLED",
    "TEST.RERANK.ENABLED", "INPUT.SIZE_TEST", "INPUT.CROP.ENABLED", "DATASETS.TESTS",
)  # fmt: skip
"""Keys without which the scores of a run say nothing of a network."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode on the CPU, of fast-reid's layers, and where it comes from.

    Attributes:
        module: the network.
        cfg: of the network.
        name: for people, e.g. "teacher 1 of 2".
        rounds: how many rounds of adaptation it has seen; None if the file does not say.
        scores: its own in the test after the last of them, in per cent; empty if not known.
    """

    module: UDABaseline
    cfg: Any
    name: str
    rounds: int | None
    scores: Mapping[str, float]


def load_network(
    source: Source, kind: str | None = None, number: int | None = None
) -> TrainedNetwork:
    """Build the chosen network of a checkpoint and load it.

    Args:
        source: the checkpoint and its config.
        kind: `teacher` or `student`; None: a teacher if there is one.
        number: which one of several, from 1; None: the first, of a run's best checkpoint the best.

    Raises:
        UserError: there is no such network, or it does not fit the config.
    """
    path, record = source.path, _last_record(source)
    state = _state_in(source.checkpoint, path)
    kind = _kind_of(state, kind, path)
    of_kind = {name for name in state if name.startswith(f"{kind}s.")} if kind else set()
    count = len({name.split(".")[1] for name in of_kind}) or 1
    if number is None:
        is_best = os.path.basename(path) == "model_best.pth" and kind == "teacher"
        number = best_teacher(record)[1] if is_best else 1
    if not 1 <= number <= count:
        accepted = "leave it out" if count == 1 else f"choose 1 to {count}"
        raise UserError(f"--number is {number}, but {path} has {count} {kind or 'network'}(s); "
                        f"{accepted}.")  # fmt: skip
    if kind:
        prefix = f"{kind}s.{number - 1}."
        state = {n.removeprefix(prefix): state[n] for n in of_kind if n.startswith(prefix)}
    state = current_names(state, path)
    name = (kind or "the network") if count == 1 else f"{kind} {number} of {count}"
    own = {key: record.get(teacher_prefix(number) + key) for key in SCORES}
    tested = kind != "student"  # where there are teachers, students are not tested
    return TrainedNetwork(
        module=_built(source, state),
        cfg=source.cfg,
        name=name,
        rounds=_rounds(source.checkpoint),
        scores={key: value for key, value in own.items() if value is not None and tested},
    )


def _state_in(checkpoint: Mapping[str, Any], path: str) -> dict[str, torch.Tensor]:
    """Name -> tensor: plain, or under "model"; without the prefix of DataParallel."""
    state = checkpoint.get("model", checkpoint)
    named = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not named or not state or not all(torch.is_tensor(t) for t in state.values()):
        raise UserError(
            f"{path} holds no network; give a file with a state dict (name -> tensor), plain or "
            "under the key 'model'."
        )
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _kind_of(state: Mapping[str, torch.Tensor], kind: str | None, path: str) -> str:
    """The kind of networks that is chosen from; "" where there is one network without a teacher."""
    if kind is not None and kind not in NETWORKS:
        raise UserError(f"--network is {kind!r}, but the known ones are: {', '.join(NETWORKS)}.")
    if any(name.startswith("teachers.") for name in state):
        return kind or "teacher"
    if kind is not None:
        raise UserError(
            f"--network is {kind}, but {path} holds a network without a teacher; leave it out."
        )
    return ""


def _built(source: Source, state: Mapping[str, torch.Tensor]) -> UDABaseline:
    """The network of the config with these tensors."""
    cfg = source.cfg.clone()
    cfg.defrost()
    if (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME) == ("Baseline", "EmbeddingHead"):
        # fast-reid's own network is the same, but gives one feature instead of views.
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME = "UDABaseline", "PseudoLabelHead"
    cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.PRETRAIN = "cpu", False
    cfg.MODEL.HEADS.NUM_CLASSES = len(state.get("heads.weight", ()))
    network = build_plain_network(cfg)
    loader = _StateLoader(network, source.path, state)
    with _without_log("fastreid.utils.checkpoint"):  # what does not fit is an error, see below
        loader.load(source.path, checkpointables=[])
    _check_layers(network, state, loader.random_views, source.path)
    network.criteria = torch.nn.ModuleDict()  # losses are not taken away
    return network.requires_grad_(False).eval()


def _check_layers(
    network: UDABaseline, state: Mapping[str, torch.Tensor], random_views: set[str], path: str
) -> None:
    """Refuse a file with fewer layers than the network, or with more but those of further views."""
    lacking = [view for view in network.views if view in random_views]
    if lacking:
        raise UserError(
            f"{path} does not have the layers of the view(s) {', '.join(lacking)} that the config "
            "describes; set MODEL.HEADS to those of the file."
        )
    own, further = network.state_dict(), ("heads.parts.", "heads.part_bottleneck.")
    left = [
        name
        for name in state
        if name not in own
        and name.startswith(("backbone.", "heads."))
        and not name.startswith(further)
    ]
    if left:
        raise UserError(
            f"{path} has {len(left)} tensor(s) that the network of the config has not, as "
            f"{left[0]}; set MODEL.BACKBONE and MODEL.HEADS to those of the file."
        )


class _StateLoader(WeightsLoader):
    """Loads a state that has been read, with the checks of weights of other runs."""

    def __init__(self, network: UDABaseline, path: str, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__(network, path)
        self._state = state

    def _load_file(self, filename: str) -> Any:
        return {"model": dict(self._state)}


def _rounds(checkpoint: Mapping[str, Any]) -> int | None:
    records = checkpoint.get("records")
    return len(records) if isinstance(records, list) else None


def _last_record(source: Source) -> dict[str, Any]:
    """What the run found in the round that the checkpoint is the end of; {} if not known."""
    checkpoint = source.checkpoint
    records, epochs = checkpoint.get("records"), checkpoint.get("epochs_per_round")
    if not (isinstance(records, list) and records and isinstance(epochs, int)):
        return {}
    tested = checkpoint.get("config", {})
    same = all(tested.get(key, now) == now for key, now in _test_of(source.cfg).items())
    ends = checkpoint.get("epoch", -1) + 1 == len(records) * epochs
    return records[-1] if ends and same else {}


def _test_of(cfg: Any) -> dict[str, str]:
    """The values of `_OF_THE_TEST` as a checkpoint has them."""
    return {key: str(get(cfg, key)) for key in _OF_THE_TEST}


@contextmanager
def _without_log(name: str) -> Iterator[None]:
    """Without the warnings of a logger."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
