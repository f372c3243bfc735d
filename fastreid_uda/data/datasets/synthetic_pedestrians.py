"""SyntheticPedestrians: two domains of drawn people, made on first use in a few seconds.

The files follow Market-1501's layout, so that fast-reid's own reader of Market-1501 reads them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.market1501 import Market1501
from tqdm import tqdm

from ...errors import UserError
from .pedestrian_cameras import CAMERAS, STYLES, make_camera, photograph
from .pedestrian_people import Person, sample_people

VERSION = 1  # raise it with every change of the drawing: older folders are then drawn anew
SEED = 20240
FOLDER = "synthetic_pedestrians"
MARKET = "Market-1501-v15.09.15"
RECORD = "drawing.json"
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
FIRST_IDENTITY = {"source": 1, "target": 751}  # Market-1501's ids end at 1501
_ABANDONED = 3600  # seconds after which an unfinished drawing belongs to a process that died


@dataclass(frozen=True)
class SyntheticSpec:
    """How many people and images; ranges include both ends.

    Attributes:
        source_train: identities of the source domain to train on.
        source_test: identities of the source domain to test on.
        target_train: identities of the target domain to train on.
        target_test: identities of the target domain to test on.
        cameras_per_identity: how many of the 6 cameras see one identity.
        images_per_camera: training images of one identity under one of its cameras.
        gallery_per_camera: gallery images likewise, beside one query image.
        distractors: gallery images of nobody in the query set (identity 0000).
        junk: gallery images that count neither as right nor as wrong (identity -1).
    """

    source_train: int = 100
    source_test: int = 30
    target_train: int = 100
    target_test: int = 60
    cameras_per_identity: tuple[int, int] = (3, 5)
    images_per_camera: tuple[int, int] = (2, 4)
    gallery_per_camera: tuple[int, int] = (2, 3)
    distractors: int = 60
    junk: int = 20


@dataclass(frozen=True)
class _Shot:
    """One image to draw: where it goes and who is on it."""

    split: str
    identity: int
    camera: int
    frame: int
    person: Person | None

    @property
    def file(self) -> str:
        """The path below Market-1501's folder; cameras and sequences count from 1 there."""
        name = f"{self.identity:04d}" if self.identity >= 0 else "-1"
        name += f"_c{self.camera + 1}s{self.identity % 6 + 1}_{self.frame:06d}_00.jpg"
        return os.path.join(self.split, name)


@DATASET_REGISTRY.register()
class SyntheticPedestriansSource(Market1501):
    """The labelled domain: summer clothes in daylight."""

    dataset_dir = os.path.join(FOLDER, "source")
    dataset_name = "synthetic_source"

    def __init__(self, root: str = "datasets", **kwargs: Any) -> None:
        draw_domain(root, "source")
        super().__init__(root, **kwargs)

    def process_dir(self, dir_path: str, is_train: bool = True) -> list[tuple[str, Any, Any]]:
        """The items of one split, sorted by path: the file system's order differs by machine."""
        return sorted(super().process_dir(dir_path, is_train))


@DATASET_REGISTRY.register()
class SyntheticPedestriansTarget(Market1501):
    """The unlabelled domain: winter clothes under dark, tinted and noisy cameras."""

    dataset_dir = os.path.join(FOLDER, "target")
    dataset_name = "synthetic_target"

    def __init__(self, root: str = "datasets", **kwargs: Any) -> None:
        draw_domain(root, "target")
        super().__init__(root, **kwargs)

    def process_dir(self, dir_path: str, is_train: bool = True) -> list[tuple[str, Any, Any]]:
        """The items of one split, sorted by path: the file system's order differs by machine."""
        return sorted(super().process_dir(dir_path, is_train))


def draw_domain(
    root: str, domain: str, spec: SyntheticSpec | None = None, seed: int = SEED
) -> str:
    """Draw a domain below `root` unless it is there already, and return its folder.

    The images are drawn in a folder beside it, which gets its name when it is complete: whatever
    kills the process, no half of a data set is left under that name. Two processes that start at
    once both draw, and the images of the one that is ready first stay.

    Args:
        root: fast-reid's folder of data sets (the environment variable FASTREID_DATASETS).
        domain: "source" or "target".
        spec: how many people and images; None: the defaults.
        seed: the drawing is a function of it, bit for bit.

    Raises:
        UserError: the folder cannot be written.
    """
    spec = spec or SyntheticSpec()
    folder = os.path.join(root, FOLDER, domain)
    record = {"version": VERSION, "seed": seed, "spec": json.loads(json.dumps(asdict(spec)))}
    if _is_complete(folder, record):
        return folder
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        _remove_abandoned(folder)
        drawing = tempfile.mkdtemp(prefix=f".{domain}-", dir=os.path.dirname(folder))
        try:
            record_with_counts = record | {"images": _draw(drawing, domain, spec, seed)}
            with open(os.path.join(drawing, RECORD), "w", encoding="utf-8") as file:
                json.dump(record_with_counts, file, indent=1)
            os.chmod(drawing, 0o755)  # mkdtemp keeps it from everybody else
            _publish(drawing, folder, record)
        finally:
            shutil.rmtree(drawing, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}), but the synthetic pedestrians "
            "are drawn there on first use; set FASTREID_DATASETS to a folder that you may write to."
        ) from error
    return folder


def _is_complete(folder: str, record: dict[str, Any]) -> bool:
    """Whether `folder` holds the drawing that `record` describes, with all its images."""
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
            found = json.load(file)
        images = found.pop("images")
        names = {split: os.listdir(os.path.join(folder, MARKET, split)) for split in images}
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return found == record and all(len(names[split]) == n for split, n in images.items())


def _remove_abandoned(folder: str) -> None:
    parent, domain = os.path.split(folder)
    for entry in os.scandir(parent):
        with contextlib.suppress(OSError):  # another process may be removing it too
            old = time.time() - entry.stat().st_mtime > _ABANDONED
            if entry.name.startswith(f".{domain}-") and old:
                shutil.rmtree(entry.path, ignore_errors=True)


def _publish(drawing: str, folder: str, record: dict[str, Any]) -> None:
    """Give the finished `drawing` its name, unless another process was faster."""
    if os.path.lexists(folder) and not _is_complete(folder, record):
        with contextlib.suppress(FileNotFoundError):  # another process moved it away first
            os.rename(folder, f"{drawing}-old")
        shutil.rmtree(f"{drawing}-old", ignore_errors=True)
    try:
        os.rename(drawing, folder)
    except OSError:
        if not _is_complete(folder, record):
            raise


def _draw(drawing: str, domain: str, spec: SyntheticSpec, seed: int) -> dict[str, int]:
    """Draw all images of a domain and return their number per split."""
    style, key = STYLES[domain], list(STYLES).index(domain)
    cameras = [make_camera(np.random.default_rng([seed, key, 1, c]), style, c) for c in range(CAMERAS)]
    shots = list(_plan(domain, spec, seed))
    counts = {split: sum(shot.split == split for shot in shots) for split in (TRAIN, QUERY, GALLERY)}
    for split in counts:
        os.makedirs(os.path.join(drawing, MARKET, split))
    people = [shot.person for shot in shots if shot.person is not None]
    for n, shot in enumerate(tqdm(shots, f"Drawing {domain} pedestrians", disable=None)):
        rng = np.random.default_rng([seed, key, 2, n])
        other = people[rng.integers(len(people))]
        image = photograph(shot.person, cameras[shot.camera], style, rng, other)
        image.save(os.path.join(drawing, MARKET, shot.file), quality=90)
    return counts


def _plan(domain: str, spec: SyntheticSpec, seed: int) -> Iterator[_Shot]:
    """Who is seen where, split by split."""
    rng = np.random.default_rng([seed, list(STYLES).index(domain), 0])
    train, test = getattr(spec, f"{domain}_train"), getattr(spec, f"{domain}_test")
    people = sample_people(rng, STYLES[domain].fashion, train + test + spec.junk)
    first = FIRST_IDENTITY[domain]
    for n, person in enumerate(people[: train + test]):
        for camera in _cameras_of(rng, n, spec):
            frame = int(rng.integers(100, 90000))
            ends = spec.images_per_camera if n < train else spec.gallery_per_camera
            images = int(rng.integers(*ends, endpoint=True))
            for image in range(images + (n >= train)):
                split = TRAIN if n < train else (GALLERY if image else QUERY)
                frame += int(rng.integers(10, 60))
                yield _Shot(split, first + n, camera, frame, person)
    for n in range(spec.distractors + spec.junk):
        distractor = n < spec.distractors
        person = None if distractor and n % 3 == 0 else people[-1 - n % max(1, spec.junk)]
        yield _Shot(GALLERY, 0 if distractor else -1, n % CAMERAS, 90100 + 25 * n, person)


def _cameras_of(rng: np.random.Generator, number: int, spec: SyntheticSpec) -> list[int]:
    """The cameras that see a person; taking turns, so that every camera sees somebody."""
    count = int(rng.integers(*spec.cameras_per_identity, endpoint=True))
    turn = number % CAMERAS
    others = [c for c in range(CAMERAS) if c != turn]
    return sorted([turn, *(int(c) for c in rng.choice(others, count - 1, replace=False))])
