"""What earlier runs have left in OUTPUT_DIR."""

from __future__ import annotations

import glob
import logging
import os
import shutil
from typing import Any

from fastreid.utils import comm

from ..distributed import on_main_process
from ..errors import UserError
from ..files import remove_leftovers
from .checkpointing import BEST, FINAL, LAST, PREVIOUS, try_checkpoint

logger = logging.getLogger(__name__)

_OF_A_RUN = (LAST, PREVIOUS, BEST, FINAL, "last_checkpoint", "labels", "metrics.json",
             "summary.json")  # fmt: skip


def clean_up(output_dir: str) -> None:
    """Remove half-written files of processes that were killed, also of the stages' folders."""
    if comm.is_main_process():
        stages = glob.glob(os.path.join(glob.escape(output_dir), "source*"))
        own = (os.path.join(output_dir, name) for name in ("labels", "supervised"))
        for folder in (output_dir, *own, *stages):
            remove_leftovers(folder)


def set_earlier_run_aside(output_dir: str, resume: bool) -> None:
    """Without --resume a stage begins anew: move what an earlier run left into a subfolder."""
    if resume or not comm.is_main_process():
        return
    left = [name for name in _OF_A_RUN if os.path.exists(os.path.join(output_dir, name))]
    if not left:
        return
    number = 1
    while os.path.exists(aside := os.path.join(output_dir, f"earlier_run_{number}")):
        number += 1
    os.makedirs(aside)
    for name in left:
        shutil.move(os.path.join(output_dir, name), aside)
    logger.warning("Starting anew; the run that was here is in %s (--resume continues one).", aside)


def warn_of_earlier_runs(output_dir: str) -> None:
    """Say that nothing could be resumed where an earlier run has been moved into a subfolder."""
    earlier = sorted(glob.glob(os.path.join(glob.escape(output_dir), "earlier_run_*")))
    if earlier:
        logger.warning(
            "The adaptation begins anew, because %s has no checkpoint of it; earlier runs are in "
            "%s (move one back to resume it).",
            output_dir, ", ".join(map(os.path.basename, earlier)),
        )  # fmt: skip


def is_trained(cfg: Any, digest: str, stage: str, resume: bool) -> bool:
    """Whether a stage has left its network in OUTPUT_DIR, from the same images.

    Args:
        cfg: of the stage.
        digest: of its images.
        stage: its name, for messages.
        resume: go on from the stage's last checkpoint, or anew, if the network is damaged.

    Raises:
        UserError: the network is of other images, or damaged and `resume` is False.
    """
    final = os.path.join(cfg.OUTPUT_DIR, FINAL)
    if not os.path.isfile(final):
        return False
    damage, facts = on_main_process(lambda: _look_at(final))
    if damage and not resume:
        raise UserError(
            f"{final} cannot be read, because {damage}; remove it to train the stage '{stage}' "
            "anew, or type --resume to go on from that stage's last checkpoint."
        )
    if damage:
        logger.warning(
            "%s cannot be read, because %s; stage '%s' goes on from its last checkpoint, or "
            "anew if it has none.", final, damage, stage,
        )  # fmt: skip
        return False
    logger.info("Stage %s: using %s, which exists.", stage, final)
    if facts.get("images") != digest:
        what = "was not written by a run of this version"
        if "images" in facts:
            names = "+".join(cfg.DATASETS.NAMES)
            what = f"was trained on other images than those of {names} now"
        raise UserError(f"{final} {what}; remove it, or change OUTPUT_DIR.")
    if facts.get("seed") != cfg.UDA.SEED:
        logger.warning(
            "%s was trained with UDA.SEED %s, not %s; remove it, or change OUTPUT_DIR, to train it "
            "anew.", final, facts.get("seed"), cfg.UDA.SEED,
        )  # fmt: skip
    return True


def _look_at(path: str) -> tuple[str, dict[str, Any]]:
    """Why a network cannot be read, or ""; and of which images and which seed it is."""
    state, damage = try_checkpoint(path)
    return damage, {name: state[name] for name in ("images", "seed") if name in state}
