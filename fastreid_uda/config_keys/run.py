"""Keys of a run: its stages, its rounds and what happens around them."""

from .key import Key

RUN_KEYS = (
    Key(
        "UDA.TARGET",
        (),
        "target data sets by their registered names. Their training images are adapted to; their "
        "identities are used for scores only. `DATASETS.NAMES` is the source, `DATASETS.TESTS` is "
        "where scores are measured",
    ),
    Key(
        "UDA.STAGES",
        ("source", "adapt"),
        "what a run does, in this order. `source`: train on `DATASETS.NAMES`; skipped when "
        "`OUTPUT_DIR/source/model_final.pth` exists or `MODEL.WEIGHTS` is set. `adapt`: adapt to "
        "the target. `supervised`: train on the target with its true identities, the upper bound, "
        "never part of a method",
        choices=("source", "adapt", "supervised"),
    ),
    Key("UDA.METHOD", "", "name of the method in `summary.json`; empty: made from `UDA.REFINERS`"),
    Key(
        "UDA.PLUGINS",
        (),
        "Python files and modules of your own that are imported before anything else, so that the "
        "refiners, losses, data sets ... in them can be chosen by name. A file in a config is "
        "looked for beside that config. **They are run**: see [extending](extending.md#security)",
    ),
    Key("UDA.SEED", 0, "seed of everything random; a run repeats bit for bit on the same machine"),
    Key(
        "UDA.BN_GROUP",
        0,
        "images per group of batch norm, counted over all processes, so the same with any number "
        "of GPUs; 0: the whole batch is one group. MMT, SECRET and P2LR: 64 images on 4 GPUs, "
        "thus 16",
    ),
    Key("UDA.DETERMINISTIC", True, "deterministic GPU kernels, a few per cent slower"),
    Key("UDA.ROUNDS", 50, "rounds of extract, cluster, refine, train; 0: direct transfer only"),
    Key("UDA.ITERS_PER_EPOCH", 0, "iterations of an epoch; 0: one pass over the kept images"),
    Key(
        "UDA.RESTART_SCHEDULE",
        True,
        "the learning rate schedule begins anew in each round; `False`: it counts the epochs of "
        "all rounds",
    ),
    Key(
        "UDA.FREEZE_EPOCHS",
        0,
        "epochs at the start of each round in which only the classifier trains, with the body in "
        "eval mode",
    ),
    Key(
        "UDA.FREEZE_BEFORE_SCHEDULE",
        False,
        "whether those epochs come on top of `SOLVER.MAX_EPOCH`",
    ),
    Key(
        "UDA.CLASSIFIER_INIT",
        "centroids",
        "first rows of each round's classifier: `centroids` or `random`",
        choices=("centroids", "random"),
    ),
    Key(
        "UDA.STABLE_ARI",
        1.0,
        "stop when the labels of two rounds in a row agree in every view by an adjusted Rand index "
        "above this, on the images kept in both; 1.0: never",
    ),
    Key(
        "UDA.STABLE_CHANGE",
        0.01,
        "... and the number of kept images changed by less than this share",
    ),
    Key(
        "UDA.MEAN_TEACHER.ENABLED",
        False,
        "a mean teacher: the moving average of the network, which is clustered and tested in its "
        "place, `theta_T <- a theta_T + (1 - a) theta_S` after each step; the losses "
        "`SoftCrossEntropyLoss` and `SoftTripletLoss` learn from it",
    ),
    Key("UDA.MEAN_TEACHER.EMA_DECAY", 0.999, "a"),
    Key(
        "UDA.MEAN_TEACHER.EMA_WARMUP",
        True,
        "a = min(1 - 1 / (s + 1), `EMA_DECAY`) at step s of the run, counted from 0",
    ),
    Key(
        "UDA.MEAN_TEACHER.EMA_BUFFERS",
        False,
        "whether the running statistics of batch norm are averaged too; `False`: the teacher keeps "
        "those of its own forward passes, as published",
    ),
    Key(
        "UDA.MEAN_TEACHER.STUDENTS",
        1,
        "networks that are trained together, each with a teacher and an augmentation of every "
        "image of its own (mutual mean-teaching: 2). With several, the stage `source` trains one "
        "network for each, in `OUTPUT_DIR/source_1`, `source_2`, with the seeds "
        "`STUDENTS * UDA.SEED + 1`, `+ 2`; the mean of the teachers' features is clustered; each "
        "teacher is tested by itself",
    ),
    Key(
        "UDA.MEAN_TEACHER.TEACHING",
        "average",
        "of several: a student learns from the mean of all teachers (`average`) or from the "
        "teacher of the next student (`cross`)",
        choices=("average", "cross"),
    ),
    Key(
        "UDA.MEAN_TEACHER.WEIGHTS",
        (),
        "of several: files of the second and further students beside `MODEL.WEIGHTS`, that of the "
        "first",
    ),
    Key(
        "UDA.REPORT.MAP_IMAGES",
        2000,
        "images of the map of features that each round's label file keeps for `tools/report.py`; "
        "0: none",
    ),
    Key(
        "UDA.SOURCE.CONFIG",
        "",
        "the training recipe of `source` and `supervised`: a YAML merged over the config, looked "
        "for beside the config file, beside its bases, and in the folders above them; empty: the "
        "run's own `SOLVER`",
    ),
    Key(
        "UDA.SOURCE.TARGET_BN",
        False,
        "before each step of the stage `source` forward a batch of target images, without labels "
        "and gradient, so that the running statistics of batch norm mix both domains; set in the "
        "recipe `configs/Source/mmt.yml`, so switched off by "
        "`UDA.SOURCE.OPTS \"['UDA.SOURCE.TARGET_BN', False]\"`",
    ),
    Key("UDA.SOURCE.OPTS", [], "overrides of the recipe: `\"['SOLVER.MAX_EPOCH', 40]\"`"),
)
