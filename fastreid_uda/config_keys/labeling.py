"""Keys of the stages between features and pseudo labels that are of no single class."""

from .key import Key

LABELING_KEYS = (
    Key(
        "UDA.NON_FINITE",
        "raise",
        "images with a NaN feature: `raise`, or `drop` (leave them out)",
        choices=("raise", "drop"),
    ),
    Key(
        "UDA.CAMERA_NORMALIZATION",
        False,
        "standardise the features of each camera before clustering",
    ),
    Key("UDA.ROW_NORMALIZATION", True, "L2-normalise the features before clustering"),
    Key(
        "UDA.JOIN_VIEWS",
        False,
        "of a network with several views: cluster the concatenation of their features, one label "
        "for all of them (naive SECRET)",
    ),
    Key(
        "UDA.DISTANCE.NAME",
        "Jaccard",
        "`Jaccard`, `CAJaccard` (camera-aware, [options](methods/options.md)), `Cosine` or "
        "`Euclidean`",
    ),
    Key(
        "UDA.CLUSTER.NAME",
        "DBSCAN",
        "`DBSCAN`, `HDBSCAN` ([options](methods/options.md)) or `KMeans`",
    ),
    Key(
        "UDA.CLUSTER.EPS",
        None,
        "radius of DBSCAN; `None`: found by the rule; `auto`: by the rule `Scan`, whatever "
        "`EPS_RULE` is",
    ),
    Key(
        "UDA.CLUSTER.EPS_RULE",
        "Rho",
        "`Rho`: the mean of the smallest distances; `CrossCamera`: of those between images of "
        "different cameras, [NPLP](methods/nplp.md); `Scan`: the best of several, "
        "[eps without labels](scan_eps.md)",
    ),
    Key(
        "UDA.CLUSTER.EPS_UPDATE",
        "first",
        "the rule's radius is kept from the `first` round, or found in `every` round",
        choices=("first", "every"),
    ),
    Key(
        "UDA.REFINERS",
        (),
        "refiners in the order of their application; `()` is plain clustering",
    ),
)
