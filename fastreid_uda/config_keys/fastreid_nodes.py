"""Keys beside fast-reid's own, in its groups."""

from .key import HOST, Key

_SOLVER = (
    Key("SOLVER.SCHED", HOST, "one more name: `EpochWarmupMultiStepLR`, counted in epochs. Epochs "
        "are counted from 0 and `SCHED_ADVANCE` is added, giving u. The learning rate is `BASE_LR` "
        "times `WARMUP_FACTOR` + (`WARMUP_PEAK` - `WARMUP_FACTOR`) u / `WARMUP_EPOCHS` for u <= "
        "`WARMUP_EPOCHS`, afterwards `GAMMA` to the power of the number of `STEPS` reached by u"),
    Key("SOLVER.WARMUP_EPOCHS", 0,
        "its warm-up, from `WARMUP_FACTOR` to `WARMUP_PEAK` times `BASE_LR`"),
    Key("SOLVER.WARMUP_PEAK", 1.0, "factor at the end of the warm-up"),
    Key("SOLVER.SCHED_ADVANCE", 0,
        "added to the epoch, counted from 0, before the schedule looks at it"),
    Key("SOLVER.STEP_FACTORS", [],
        "the factor on `BASE_LR` from each of `SOLVER.STEPS` on, instead of powers of `GAMMA`"),
)  # fmt: skip

_NETWORK = (
    Key("MODEL.FROM_WEIGHTS", False,
        "set `MODEL.BACKBONE` and `MODEL.HEADS` to what the tensors of `MODEL.WEIGHTS` tell of "
        "their network (depth, IBN, non-local blocks, pooling, ...), so that a released checkpoint "
        "needs no description ([own cameras](own_data.md))"),
    Key("MODEL.HEADS.NAME", HOST,
        "`PseudoLabelHead`: one view, `global`; `MultiViewHead`: `global` and horizontal stripes "
        "of the feature map, each with its own neck, classifier, labels and losses; `PyramidHead`: "
        "one view, `global`, of stripes at several granularities ([NPLP](methods/nplp.md))"),
    Key("MODEL.HEADS.PYRAMID.LEVELS", 2,
        "of `PyramidHead`: the feature map is cut into 1, 2, ..., `LEVELS` stripes; the vectors of "
        "all stripes are joined and go through a linear layer with `MODEL.HEADS.EMBEDDING_DIM` "
        "outputs (0: there is none). `MODEL.HEADS.NECK_FEAT` has no meaning there"),
    Key("MODEL.HEADS.PARTS.NAMES", ("top", "bottom"),
        "of `MultiViewHead`: the stripes, from top to bottom, the views beside `global`"),
    Key("MODEL.HEADS.PARTS.BOTTLENECK", True,
        "a bottleneck block, shared by all stripes, before them"),
    Key("MODEL.HEADS.PARTS.DETACH", False, "the losses of the stripes stop at the feature map"),
    Key("MODEL.HEADS.DROPOUT", 0.0,
        "of the features after the neck, before the classifier, in training"),
)  # fmt: skip

_LOSSES = (
    Key("MODEL.LOSSES.NAME", HOST,
        "five more names: `CenterLoss`, `CenterContrastiveLoss`, `SoftCrossEntropyLoss`, "
        "`SoftTripletLoss`, `INCLRLoss`; the losses of all views are added"),
    Key("MODEL.LOSSES.WEIGHTED",
        ("CrossEntropyLoss", "SoftCrossEntropyLoss", "SoftTripletLoss", "CenterLoss", "INCLRLoss",
         "CenterContrastiveLoss"),
        "the losses that multiply each image by the weight of its label; all but fast-reid's own"),
    Key("MODEL.LOSSES.PARTS.NAME", (),
        "the losses of the views beside `global`; `()`: those of `MODEL.LOSSES.NAME`"),
    Key("MODEL.LOSSES.PARTS.SCALES", (),
        "their weights in that order; `()`: the same as those of `global`"),
    Key("MODEL.LOSSES.PARTS.MEAN", False, "their losses are averaged over these views, not added"),
    Key("MODEL.LOSSES.CE.SMOOTHING", "others",
        "the smoothed mass goes to the `others` (fast-reid: eps/(K-1) on each wrong class) or to "
        "`all` classes (MMT: eps/K on every class, the right one too)",
        choices=("all", "others")),
    Key("MODEL.LOSSES.CENTER.SCALE", 0.005, "weight of the center loss"),
    Key("MODEL.LOSSES.CENTER.LR", 0.5, "learning rate of the centers"),
    Key("MODEL.LOSSES.CENTER_CONTRASTIVE.SCALE", 1.0,
        "weight of the center contrastive loss, which needs `PyramidHead`, "
        "[NPLP](methods/nplp.md)"),
    Key("MODEL.LOSSES.CENTER_CONTRASTIVE.NORMALIZE", True,
        "features and class centers are unit vectors; `False`: as the paper's Eq. 10 and 11 are "
        "printed"),
    Key("MODEL.LOSSES.CENTER_CONTRASTIVE.LOGIT_SCALE", 10.0, "factor on their dot products"),
    Key("MODEL.LOSSES.SOFT_CE.SCALE", 1.0,
        "weight of the cross-entropy with the teacher's class probabilities"),
    Key("MODEL.LOSSES.SOFT_TRI.SCALE", 1.0,
        "weight of the triplet loss with the teacher's distances"),
    Key("MODEL.LOSSES.INCLR.SCALE", 0.5, "weight of INCLR's credibility loss (lambda_KL)"),
    Key("MODEL.LOSSES.INCLR.KL_MODE", "weighted_ce",
        "the reading of its Eq. 7: `weighted_ce`, `weighted_soft` or `regulariser`, "
        "[INCLR](methods/inclr.md)"),
)  # fmt: skip

_DATA = (
    Key("TEST.VIEWS", ("global",),
        "the views that are tested; several are joined to one feature, whose squared Euclidean "
        "distance is d_first + `ETA` * (sum of the others'), each between unit rows"),
    Key("TEST.ETA", 0.2, "weight of the distances of all but the first of them"),
    Key("TEST.GALLERY_DRAWS", 10,
        "of a test set without a gallery of its own (VehicleID): one random image of each identity "
        "is drawn as the gallery so many times, and the scores are the means, see "
        "[vehicles](vehicles.md)"),
    Key("INPUT.CJ.ONE_OF", False,
        "one random colour jitter of the four instead of all of them"),
    Key("DATASETS.FOLDER.TRAIN", "",
        "the data set `PersonFolder`, your own crops: a folder, searched through its subfolders"),
    Key("DATASETS.FOLDER.QUERY", "", "folder of the query images; optional, needs identities"),
    Key("DATASETS.FOLDER.GALLERY", "", "folder of the gallery images; optional, likewise"),
    Key("DATASETS.FOLDER.PATTERN", "",
        "regular expression for the path inside the folder, with the groups `camera` and "
        "`identity` (either may be missing), e.g. `(?P<identity>\\d+)_c(?P<camera>\\d+)`; empty: "
        "neither is known"),
    Key("DATASETS.FOLDER.CSV", "",
        "a table with the columns path (inside the folder), camera, identity, instead of the "
        "pattern; see [your own cameras](own_data.md)"),
)  # fmt: skip

FASTREID_KEYS = (*_SOLVER, *_NETWORK, *_LOSSES, *_DATA)
