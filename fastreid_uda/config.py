"""Every config key of the plug-in, and the labeling stages built from them."""

from __future__ import annotations

from typing import Any

from .errors import UserError
from .labeling.clustering import CLUSTERERS
from .labeling.distances import DISTANCES
from .labeling.eps import EPS_RULES, EpsRule, FixedEps
from .labeling.eps_scan import Scan  # registers itself
from .labeling.pipeline import PseudoLabeler
from .labeling.refiners import REFINERS
from .registry import Registry

AUTO = "auto"
"""The value of UDA.CLUSTER.EPS that stands for the rule `Scan`."""


def add_uda_config(cfg: Any) -> None:
    """Add the keys to fast-reid's default config, in place.

    Keys of refiners, clusterers, distances and eps rules come from their constructors: the key
    `UDA.MSPLR.MIN_IMAGES` is the field `min_images` of the class `MSPLR`.
    """
    node = type(cfg)
    cfg.UDA = node()
    _add_run_keys(cfg.UDA)
    _add_labeling_keys(cfg.UDA, node)
    _add_keys_to_fastreid_nodes(cfg, node)


def _add_run_keys(uda: Any) -> None:
    """Stages, rounds and what happens around them."""
    node = type(uda)
    # Target data sets, names in fast-reid's registry. Their training images are adapted to and
    # their identities never used, except to report scores. DATASETS.NAMES is the source;
    # DATASETS.TESTS is where scores are measured.
    uda.TARGET = ()
    # What a run does, in this order: "source" trains on DATASETS.NAMES (skipped when its result
    # exists or MODEL.WEIGHTS is set), "adapt" adapts to TARGET, "supervised" trains on TARGET with
    # its true identities: the upper bound, never part of a method.
    uda.STAGES = ("source", "adapt")
    uda.METHOD = ""  # the name in summary.json; empty: made from REFINERS
    uda.SEED = 0  # of everything random; a run repeats bit for bit on the same machine
    # Images per group of batch norm, counted over all processes: the same with any number of GPUs.
    # 0: the whole batch is one group. MMT, SECRET and P2LR: 64 images on 4 GPUs, thus 16.
    uda.BN_GROUP = 0
    uda.DETERMINISTIC = True  # deterministic GPU kernels, a few per cent slower
    uda.ROUNDS = 50  # rounds of extract, cluster, refine, train
    uda.ITERS_PER_EPOCH = 0  # 0: one pass over the training images; else this number
    # SOLVER describes the training of one round: MAX_EPOCH epochs with its schedule. True: the
    # schedule begins anew in each round; False: it counts the epochs of all rounds.
    uda.RESTART_SCHEDULE = True
    # In each round train only the classifier in the first epochs, with the body in eval mode.
    uda.FREEZE_EPOCHS = 0
    uda.FREEZE_BEFORE_SCHEDULE = False  # True: the frozen epochs come on top of SOLVER.MAX_EPOCH
    uda.CLASSIFIER_INIT = "centroids"  # each round: centroids | random
    # Stop when the labels of two rounds in a row agree in all views: adjusted Rand index above
    # STABLE_ARI (on the images kept in both) and number of kept images changed by less than
    # STABLE_CHANGE.
    uda.STABLE_ARI = 1.0  # 1.0: never stop early
    uda.STABLE_CHANGE = 0.01
    # A mean teacher: the moving average of the network's parameters, which is clustered and tested
    # in its place: theta_T <- a theta_T + (1 - a) theta_S after each step.
    uda.MEAN_TEACHER = node()
    uda.MEAN_TEACHER.ENABLED = False
    uda.MEAN_TEACHER.EMA_DECAY = 0.999  # a, from 0 to 1
    uda.MEAN_TEACHER.EMA_WARMUP = True  # a = min(1 - 1 / (s + 1), EMA_DECAY) at step s of the run
    # False: the teacher keeps running statistics of its own forward passes (as published); True:
    # they are averaged like the parameters.
    uda.MEAN_TEACHER.EMA_BUFFERS = False
    # Networks that are trained together, each with a teacher of its own and its own augmentation of
    # every image. With several the stage "source" trains one network for each of them, and the mean
    # of the teachers' features is clustered (mutual mean-teaching: 2).
    uda.MEAN_TEACHER.STUDENTS = 1
    # Who teaches a student when there are several: average (the mean of all teachers' outputs) or
    # cross (the teacher of the next student).
    uda.MEAN_TEACHER.TEACHING = "average"
    uda.MEAN_TEACHER.WEIGHTS = ()  # files of the second and further students beside MODEL.WEIGHTS
    uda.SOURCE = node()
    # The training recipe of the stages "source" and "supervised": a YAML merged over this config,
    # looked for beside the config file, beside its bases, and in the folders above them.
    uda.SOURCE.CONFIG = ""
    # Before each step of source training forward a batch of target images, without labels and
    # without gradient: the running statistics of batch norm become a mixture of both domains.
    uda.SOURCE.TARGET_BN = False
    uda.SOURCE.OPTS = []  # overrides of the recipe, e.g. "['SOLVER.MAX_EPOCH', 40]"


def _add_labeling_keys(uda: Any, node: type) -> None:
    """The stages between features and pseudo labels."""
    uda.NON_FINITE = "raise"  # images with a NaN feature: raise | drop (leave them out)
    uda.CAMERA_NORMALIZATION = False  # standardise the features of each camera before clustering
    uda.ROW_NORMALIZATION = True  # L2-normalise the features before clustering
    # True: cluster the concatenation of all views, one label for all of them (naive SECRET).
    uda.JOIN_VIEWS = False
    uda.DISTANCE = node()
    uda.DISTANCE.NAME = "Jaccard"
    _add_arguments(uda.DISTANCE, node, DISTANCES)
    uda.CLUSTER = node()
    uda.CLUSTER.NAME = "DBSCAN"
    # DBSCAN's radius; None: found by EPS_RULE; "auto": by its rule Scan, which tries several.
    uda.CLUSTER.EPS = None
    uda.CLUSTER.EPS_RULE = "Rho"
    uda.CLUSTER.EPS_UPDATE = "first"  # the rule's radius: first (kept in later rounds) | every
    _add_arguments(uda.CLUSTER, node, CLUSTERERS)
    _add_arguments(uda.CLUSTER, node, EPS_RULES)
    uda.REFINERS = ()  # applied in order; () is plain clustering
    _add_arguments(uda, node, REFINERS)


def _add_keys_to_fastreid_nodes(cfg: Any, node: type) -> None:
    """Keys that belong beside fast-reid's own."""
    # Epochs are counted from 0 and SCHED_ADVANCE is added, giving u. The learning rate is BASE_LR
    # times: WARMUP_FACTOR + (WARMUP_PEAK - WARMUP_FACTOR) u / WARMUP_EPOCHS for u <= WARMUP_EPOCHS,
    # afterwards GAMMA to the power of the number of STEPS reached by u.
    # SOLVER.SCHED "EpochWarmupMultiStepLR" uses these; all other names are fast-reid's.
    cfg.SOLVER.WARMUP_EPOCHS = 0
    cfg.SOLVER.WARMUP_PEAK = 1.0
    cfg.SOLVER.SCHED_ADVANCE = 0
    cfg.SOLVER.STEP_FACTORS = []  # the factor from each of STEPS on, instead of powers of GAMMA
    # What the smoothed mass eps is shared among: "others" (fast-reid: eps/(K-1) on each wrong
    # class) or "all" (MMT: eps/K on every class, the right one too).
    cfg.MODEL.LOSSES.CE.SMOOTHING = "others"
    cfg.MODEL.LOSSES.CENTER = node({"SCALE": 0.005, "LR": 0.5})
    # LOGIT_SCALE multiplies dot products of unit vectors, or of plain ones if NORMALIZE is False.
    cfg.MODEL.LOSSES.CENTER_CONTRASTIVE = node(
        {"SCALE": 1.0, "NORMALIZE": True, "LOGIT_SCALE": 10.0}
    )
    cfg.MODEL.LOSSES.SOFT_CE = node({"SCALE": 1.0})  # these two follow the mean teacher
    cfg.MODEL.LOSSES.SOFT_TRI = node({"SCALE": 1.0})
    # INCLR's Eq. 7, read in three ways: weighted_ce | weighted_soft | regulariser.
    cfg.MODEL.LOSSES.INCLR = node({"SCALE": 0.5, "KL_MODE": "weighted_ce"})
    # The losses that multiply each image by the weight of its label.
    cfg.MODEL.LOSSES.WEIGHTED = (
        "CrossEntropyLoss", "SoftCrossEntropyLoss", "SoftTripletLoss", "CenterLoss", "INCLRLoss",
        "CenterContrastiveLoss",
    )  # fmt: skip
    # The losses of the views beside "global": their names, their scales in that order, and whether
    # they are averaged over these views instead of summed. (): the names, the scales of "global".
    cfg.MODEL.LOSSES.PARTS = node({"NAME": (), "SCALES": (), "MEAN": False})
    cfg.MODEL.HEADS.DROPOUT = 0.0  # of the features after the neck, before the classifier
    # PyramidHead: the feature map is cut into 1, 2, ..., LEVELS stripes, and the vectors of all
    # stripes go through a linear layer with EMBEDDING_DIM outputs (0: there is none).
    cfg.MODEL.HEADS.PYRAMID = node({"LEVELS": 2})
    # The views of MultiViewHead beside "global": stripes of the feature map, top to bottom.
    cfg.MODEL.HEADS.PARTS = node()
    cfg.MODEL.HEADS.PARTS.NAMES = ("top", "bottom")
    cfg.MODEL.HEADS.PARTS.BOTTLENECK = True  # a bottleneck block before the stripes, shared by all
    cfg.MODEL.HEADS.PARTS.DETACH = False  # True: the losses of the parts stop at the feature map
    # The views that are tested. Several are joined to one feature whose squared Euclidean distance
    # is d_first + ETA * (sum of the others'), each between unit rows.
    cfg.TEST.VIEWS = ("global",)
    cfg.TEST.ETA = 0.2
    cfg.INPUT.CJ.ONE_OF = False  # True: one random jitter of the four instead of all of them
    cfg.DATASETS.FOLDER = node()  # the data set PersonFolder: your own crops
    cfg.DATASETS.FOLDER.TRAIN = ""  # a folder of crops, searched through its subfolders
    cfg.DATASETS.FOLDER.QUERY = ""  # optional, needs identities
    cfg.DATASETS.FOLDER.GALLERY = ""
    # A regular expression for the path inside the folder, with the groups "camera" and "identity"
    # (either may be missing), e.g. "(?P<identity>\\d+)_c(?P<camera>\\d+)"; empty: neither is known.
    cfg.DATASETS.FOLDER.PATTERN = ""
    # Instead of the pattern: a CSV with the columns path (inside the folder), camera, identity.
    cfg.DATASETS.FOLDER.CSV = ""


def _add_arguments(parent: Any, node: type, registry: Registry) -> None:
    """Make `PARENT.<CLASS>.<ARGUMENT>` of every constructor argument of every registered class."""
    for name in registry:
        arguments = registry.defaults(name)
        if arguments:
            parent[name.upper()] = node({key.upper(): value for key, value in arguments.items()})


def _build(registry: Registry, name: str, parent: Any) -> Any:
    cls = registry.get(name)
    arguments = {key.lower(): value for key, value in parent.get(name.upper(), {}).items()}
    return cls(**arguments)


def _build_eps(node: Any) -> EpsRule:
    """The rule that UDA.CLUSTER.EPS and EPS_RULE ask for."""
    eps = node.EPS
    if eps is None or eps == AUTO:
        return _build(EPS_RULES, Scan.__name__ if eps == AUTO else node.EPS_RULE, node)
    if isinstance(eps, bool) or not isinstance(eps, int | float):
        raise UserError(
            f"UDA.CLUSTER.EPS is {eps!r}, but it must be a number, {AUTO}, or None, for which "
            "UDA.CLUSTER.EPS_RULE finds a number."
        )
    return FixedEps(eps)


def _check_scan(node: Any, labeler: PseudoLabeler) -> None:
    """Refuse to compare the clusters of a clusterer that gives the same ones at every eps."""
    needed = node.EPS == AUTO or labeler.uses("uses_eps")
    if isinstance(labeler.eps, Scan) and needed and not labeler.clusterer.uses_eps:
        key = "EPS is auto" if node.EPS == AUTO else "EPS_RULE is Scan"
        raise UserError(
            f"UDA.CLUSTER.{key}, which compares the clusters at several eps, but UDA.CLUSTER.NAME "
            f"is {node.NAME}, whose clusters do not depend on eps; set UDA.CLUSTER.EPS to a "
            "number, or to None with another UDA.CLUSTER.EPS_RULE, or UDA.CLUSTER.NAME to DBSCAN."
        )


def build_labeler(cfg: Any) -> PseudoLabeler:
    """The labeling stages that a config asks for.

    Raises:
        UserError: a key has a value that is not accepted.
    """
    uda = cfg.UDA
    check_choice("UDA.CLUSTER.EPS_UPDATE", uda.CLUSTER.EPS_UPDATE, ("first", "every"))
    check_choice("UDA.NON_FINITE", uda.NON_FINITE, ("raise", "drop"))
    labeler = PseudoLabeler(
        camera_normalization=uda.CAMERA_NORMALIZATION,
        row_normalization=uda.ROW_NORMALIZATION,
        join_views=uda.JOIN_VIEWS,
        distance=_build(DISTANCES, uda.DISTANCE.NAME, uda.DISTANCE),
        eps=_build_eps(uda.CLUSTER),
        eps_update=uda.CLUSTER.EPS_UPDATE,
        clusterer=_build(CLUSTERERS, uda.CLUSTER.NAME, uda.CLUSTER),
        refiners=tuple(_build(REFINERS, name, uda) for name in uda.REFINERS),
        non_finite=uda.NON_FINITE,
        seed=uda.SEED,
    )
    _check_scan(uda.CLUSTER, labeler)
    return labeler


def check_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is none of the known ones."""
    if value not in known:
        raise UserError(f"{key} is {value!r}, but the known values are: {', '.join(known)}.")


def method_name(cfg: Any) -> str:
    """The name of the method in reports: UDA.METHOD, else the refiners joined by '+'."""
    return cfg.UDA.METHOD or "+".join(cfg.UDA.REFINERS) or "baseline"
