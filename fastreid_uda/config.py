"""Every config key of the plug-in, and the labeling stages built from them."""

from __future__ import annotations

import copy
from typing import Any

from .config_keys import CHOICES, HOST, KEYS, Key
from .errors import UserError
from .labeling.clustering import CLUSTERERS
from .labeling.distances import DISTANCES
from .labeling.eps import EPS_RULES, EpsRule, FixedEps
from .labeling.eps_scan import Scan  # registers itself
from .labeling.pipeline import PseudoLabeler
from .labeling.refiners import REFINERS
from .registry import LOSSES, Registry

AUTO = "auto"
"""The value of UDA.CLUSTER.EPS that stands for the rule `Scan`."""


def add_uda_config(cfg: Any) -> None:
    """Add the keys to fast-reid's default config, in place.

    They are those of `config_keys`, and the arguments of the constructors of all registered
    classes: the key `UDA.MSPLR.MIN_IMAGES` is the field `min_images` of the class `MSPLR`. What
    plug-ins register has keys if they were imported before.
    """
    node = type(cfg)
    for key in KEYS:
        if key.default is not HOST:
            _add_key(cfg, key)
    _add_arguments(cfg.UDA.DISTANCE, node, DISTANCES)
    _add_arguments(cfg.UDA.CLUSTER, node, CLUSTERERS)
    _add_arguments(cfg.UDA.CLUSTER, node, EPS_RULES)
    _add_arguments(cfg.UDA, node, REFINERS)
    _add_losses(cfg.MODEL.LOSSES, node)


def _add_key(cfg: Any, key: Key) -> None:
    """Set the default of a key, in groups that are made if need be."""
    *groups, name = key.name.split(".")
    node = cfg
    for group in groups:
        if group not in node:
            node[group] = type(cfg)()
        node = node[group]
    node[name] = copy.copy(key.default)


def _add_losses(losses: Any, node: type) -> None:
    """Make `MODEL.LOSSES.<node>.<ARGUMENT>` of the losses of plug-ins; all others have keys."""
    for name in LOSSES:
        cls: Any = LOSSES.get(name)
        if cls.node not in losses:
            arguments = LOSSES.defaults(name).items()
            losses[cls.node] = node({key.upper(): value for key, value in arguments})


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
    check_choice("UDA.CLUSTER.EPS_UPDATE", uda.CLUSTER.EPS_UPDATE)
    check_choice("UDA.NON_FINITE", uda.NON_FINITE)
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
        map_images=uda.REPORT.MAP_IMAGES,
    )
    _check_scan(uda.CLUSTER, labeler)
    return labeler


def check_choice(key: str, value: str, known: tuple[str, ...] = ()) -> None:
    """Refuse a value that is none of the known ones; (): those of `config_keys`."""
    known = known or CHOICES[key]
    if value not in known:
        raise UserError(f"{key} is {value!r}, but the known values are: {', '.join(known)}.")


def method_name(cfg: Any) -> str:
    """The name of the method in reports: UDA.METHOD, else the refiners joined by '+'."""
    return cfg.UDA.METHOD or "+".join(cfg.UDA.REFINERS) or "baseline"
