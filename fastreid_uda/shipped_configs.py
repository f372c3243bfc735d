"""The config files that come with the package: in a checkout beside it, once installed inside."""

from __future__ import annotations

import os
from pathlib import Path, PurePath


def shipped_configs() -> Path:
    """The folder of the shipped configs, which holds `Base-UDA.yml`."""
    package = Path(__file__).parent
    inside = package / "configs"  # put there by setup.py
    return inside if inside.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """The paths of all shipped configs inside their folder, with forward slashes, ascending."""
    folder = shipped_configs()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yml"))


def find_config(path: str) -> str:
    """The path of a config file: itself, or the shipped one of that name if there is no such file.

    So `configs/Duke2Market/secret.yml` and `Duke2Market/secret.yml` work in any folder, and as a
    `_BASE_` too.

    Args:
        path: as the user wrote it; where no file fits, it comes back as it is.
    """
    name = PurePath(path)
    if os.path.exists(path) or name.is_absolute() or ".." in name.parts:
        return path
    inside = name.relative_to("configs") if name.parts[:1] == ("configs",) else name
    shipped = shipped_configs() / inside
    return str(shipped) if os.path.isfile(shipped) else path
