"""The range of every number of a config that has one, and what its lists hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .config_values import EPS_KEY, INTEGERS, NUMBERS, all_keys, get
from .errors import UserError

ABOVE_0 = """
    SOLVER.BASE_LR SOLVER.GAMMA SOLVER.WARMUP_PEAK SOLVER.CLIP_GRADIENTS.CLIP_VALUE
    SOLVER.CLIP_GRADIENTS.NORM_TYPE MODEL.PIXEL_STD MODEL.HEADS.SCALE INPUT.CROP.SCALE
    INPUT.CROP.RATIO MODEL.LOSSES.CENTER_CONTRASTIVE.LOGIT_SCALE
"""
FROM_0 = """
    UDA.ROUNDS UDA.ITERS_PER_EPOCH UDA.FREEZE_EPOCHS UDA.SEED UDA.STABLE_CHANGE UDA.BN_GROUP
    UDA.REPORT.MAP_IMAGES
    SOLVER.HEADS_LR_FACTOR SOLVER.BIAS_LR_FACTOR SOLVER.WEIGHT_DECAY SOLVER.WEIGHT_DECAY_NORM
    SOLVER.WEIGHT_DECAY_BIAS SOLVER.DELAY_EPOCHS SOLVER.STEPS SOLVER.STEP_FACTORS SOLVER.ETA_MIN_LR
    SOLVER.WARMUP_FACTOR SOLVER.WARMUP_ITERS SOLVER.WARMUP_EPOCHS SOLVER.FREEZE_ITERS
    MODEL.HEADS.EMBEDDING_DIM MODEL.HEADS.NUM_CLASSES MODEL.LOSSES.CE.SCALE MODEL.LOSSES.TRI.MARGIN
    MODEL.LOSSES.TRI.SCALE MODEL.LOSSES.CENTER.SCALE MODEL.LOSSES.CENTER.LR
    MODEL.LOSSES.CENTER_CONTRASTIVE.SCALE MODEL.LOSSES.SOFT_CE.SCALE MODEL.LOSSES.SOFT_TRI.SCALE
    MODEL.LOSSES.INCLR.SCALE MODEL.LOSSES.PARTS.SCALES INPUT.PADDING.SIZE INPUT.CJ.BRIGHTNESS
    INPUT.CJ.CONTRAST INPUT.CJ.SATURATION DATALOADER.NUM_WORKERS TEST.EVAL_PERIOD TEST.ETA
"""
FROM_1 = """
    UDA.MEAN_TEACHER.STUDENTS SOLVER.MAX_EPOCH SOLVER.CHECKPOINT_PERIOD TEST.IMS_PER_BATCH
    DATALOADER.NUM_INSTANCE MODEL.BACKBONE.FEAT_DIM MODEL.BACKBONE.LAST_STRIDE
    MODEL.BACKBONE.STRIDE_SIZE MODEL.HEADS.PYRAMID.LEVELS INPUT.SIZE_TRAIN INPUT.SIZE_TEST
    INPUT.CROP.SIZE TEST.RERANK.K1 TEST.RERANK.K2 TEST.AQE.QE_TIME TEST.AQE.QE_K
    TEST.GALLERY_DRAWS
"""
SHARES = """
    UDA.MEAN_TEACHER.EMA_DECAY INPUT.FLIP.PROB INPUT.CJ.PROB INPUT.AUTOAUG.PROB INPUT.AUGMIX.PROB
    INPUT.REA.PROB INPUT.RPT.PROB TEST.RERANK.LAMBDA MODEL.BACKBONE.DROP_PATH_RATIO
    MODEL.BACKBONE.DROP_RATIO MODEL.BACKBONE.ATT_DROP_RATE
"""
LENGTHS = {
    2: "INPUT.SIZE_TRAIN INPUT.SIZE_TEST INPUT.CROP.SIZE INPUT.CROP.SCALE INPUT.CROP.RATIO "
    "MODEL.BACKBONE.STRIDE_SIZE",
    3: "MODEL.PIXEL_MEAN MODEL.PIXEL_STD INPUT.REA.VALUE",
}
MIXED = f"UDA.SOURCE.OPTS KD.MODEL_CONFIG {EPS_KEY}"  # all other lists hold names
LARGEST = 2**31 - 1
"""Of the integers, in size, but for the seed; the libraries below hold no more, or overflow."""
_SEED = "UDA.SEED"
_INFINITE = "SOLVER.CLIP_GRADIENTS.NORM_TYPE"
_RANGES = (  # keys, least, most, whether the least is left out, how to say it
    (ABOVE_0, 0, math.inf, True, "above 0"),
    (FROM_0, 0, math.inf, False, "0 or more"),
    (FROM_1, 1, math.inf, False, "1 or more"),
    (SHARES, 0, 1, False, "between 0 and 1"),
    ("SOLVER.MOMENTUM MODEL.HEADS.DROPOUT", 0, 1 - 1e-9, False, "0 or more and less than 1"),
    ("UDA.STABLE_ARI", -1, 1, False, "between -1 and 1"),
    ("INPUT.CJ.HUE", 0, 0.5, False, "between 0 and 0.5"),
    ("SOLVER.IMS_PER_BATCH", 2, math.inf, False, "2 or more"),
    (_SEED, 0, 2**32 - 1, False, "between 0 and 2**32 - 1"),
)


def accepted_range(key: str) -> str:
    """The range of a key's numbers in words; "" if there is none for it."""
    return next((allowed for keys, *_, allowed in _RANGES if key in keys.split()), "")


def check_ranges(cfg: Any) -> None:
    """Refuse lists of the wrong things, and numbers out of range, too large or not finite.

    Raises:
        UserError: naming the key, its value and what is accepted.
    """
    keys = all_keys(cfg)
    for key in keys:
        value = get(cfg, key)
        if isinstance(value, list | tuple):
            _check_list(key, value)
        if key not in (_SEED, "UDA.SOURCE.OPTS") and any(
            abs(n) > LARGEST for n in _all(int, value)
        ):
            raise UserError(
                f"{key} is {value!r:.40}, but an integer must be at most 2**31 - 1 in size."
            )
    for names, least, most, open_end, allowed in _RANGES:
        for key in names.split():
            value = get(cfg, key)
            for number in value if isinstance(value, list | tuple) else [value]:
                if not least <= number <= most or (open_end and number == least):
                    raise UserError(f"{key} is {value!s:.80}, but it must be {allowed}.")
    for key in keys:
        for number in _all(float, get(cfg, key)):
            if math.isnan(number) or (math.isinf(number) and key != _INFINITE):
                raise UserError(f"{key} is {get(cfg, key)}, but it must be finite.")


def _check_list(key: str, values: list | tuple) -> None:
    """What the list holds, and how much of it."""
    if key in MIXED.split():
        return
    accepted: tuple[type, ...] = (str,)
    kind = "names in quotes"
    if key in NUMBERS:
        accepted, kind = (int, float), "numbers"
    elif key in INTEGERS:
        accepted, kind = (int,), "integers"
    number = next((n for n, keys in LENGTHS.items() if key in keys.split()), None)
    right = all(isinstance(v, accepted) and not isinstance(v, bool) for v in values)
    if not right or number not in (None, len(values)):
        wanted = f"a list of {number} {kind}" if number else f"a list of {kind}"
        raise UserError(f"{key} is {values!r:.80}, but it must be {wanted}.")


def _all(kind: type, value: Any) -> Iterator[Any]:
    """The numbers of a kind in a value that is one, or a list."""
    for part in value if isinstance(value, list | tuple) else [value]:
        if isinstance(part, kind):
            yield part
