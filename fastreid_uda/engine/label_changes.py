"""Whether the labels of a round are still those of the round before, by its quality record."""

from __future__ import annotations

from collections.abc import Mapping


def unchanged(quality: Mapping[str, float], same_features: bool) -> str:
    """A clause that says so, and why, if no image of any view is with others than before; or "".

    Args:
        quality: of `describe_labeling`.
        same_features: whether the features were clustered in the round before, bit for bit.
    """
    changed = _of_views(quality, "changed")
    if not changed or max(changed):
        return ""
    if same_features:
        return (
            "the labels are those of the round before, and so are the features, bit for bit: the "
            "network that is clustered has not changed; look at UDA.FREEZE_EPOCHS, SOLVER.BASE_LR "
            "and UDA.MEAN_TEACHER.EMA_DECAY"
        )
    return (
        "the labels are those of the round before, though the features have changed: the clusters "
        "are stable, and training goes on with the same labels (UDA.STABLE_ARI below 1 ends a run "
        "then)"
    )


def settled_at(
    quality: Mapping[str, float], stable_ari: float, stable_change: float
) -> float | None:
    """The adjusted Rand index of the view that changed most, if that is little; else None.

    Args:
        quality: of `describe_labeling`.
        stable_ari: all views have to be above it.
        stable_change: in all views the number of kept images has to change by less, relatively.
    """
    aris, changes = _of_views(quality, "stability_ari"), _of_views(quality, "kept_change")
    if not aris or min(aris) <= stable_ari or max(changes) >= stable_change:
        return None
    return min(aris)


def _of_views(quality: Mapping[str, float], name: str) -> list[float]:
    """An entry of all views that have it; further views have theirs under `<view>/<entry>`."""
    return [value for key, value in quality.items() if key.rpartition("/")[2] == name]
