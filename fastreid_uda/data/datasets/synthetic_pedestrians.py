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
_STRANGERS = 20  # people in the gallery whom no query asks for
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

    def identities(self, domain: str) -> tuple[int, int]:
        """How many identities of `domain` are for training, and how many there are in all."""
        train = getattr(self, f"{domain}_train")
        known = train + getattr(self, f"{domain}_test")
        if known > 750:
            raise ValueError(f"{known} identities in the {domain} domain, but at most 750 fit.")
        return train, known


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


class _SyntheticPedestrians(Market1501):
    """A domain that is drawn on first use and then read like Market-1501."""

    domain = ""

    def __init__(self, root: str = "datasets", **kwargs: Any) -> None:
        draw_domain(root, self.domain)
        super().__init__(root, **kwargs)

    def process_dir(self, dir_path: str, is_train: bool = True) -> list[tuple[str, Any, Any]]:
        """The items of one split, sorted by path: the file system's order differs by machine."""
        return sorted(super().process_dir(dir_path, is_train))


@DATASET_REGISTRY.register()
class SyntheticPedestriansSource(_SyntheticPedestrians):
    """The labelled domain: summer clothes in daylight."""

    domain = "source"
    dataset_dir = os.path.join(FOLDER, domain)
    dataset_name = "synthetic_source"


@DATASET_REGISTRY.register()
class SyntheticPedestriansTarget(_SyntheticPedestrians):
    """The unlabelled domain: winter clothes under dark, tinted and noisy cameras."""

    domain = "target"
    dataset_dir = os.path.join(FOLDER, domain)
    dataset_name = "synthetic_target"


def draw_domain(root: str, domain: str, spec: SyntheticSpec | None = None, seed: int = SEED) -> str:
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
            f"{folder} cannot be written ({error.strerror or error}), but the synthetic "
            "pedestrians are drawn there on first use; set FASTREID_DATASETS to a folder that you "
            "may write to."
        ) from error
    return folder


def _is_complete(folder: str, record: dict[str, Any]) -> bool:
    """Whether `folder` holds the drawing that `record` describes, with all its images."""
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
            found = json.load(file)
        images = found.pop("images")
        names = {split: os.listdir(os.path.join(folder, MARKET, split)) for split in images}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
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
    cameras = [
        make_camera(np.random.default_rng([seed, key, 1, number]), style, number)
        for number in range(CAMERAS)
    ]
    shots = list(_plan(domain, spec, seed))
    splits = (TRAIN, QUERY, GALLERY)
    for split in splits:
        os.makedirs(os.path.join(drawing, MARKET, split))
    # Passers-by come from the same side of the split: no test identity is seen in training.
    crowds = {
        side: [shot.person for shot in shots if shot.person and (shot.split == TRAIN) == side]
        for side in (True, False)
    }
    for n, shot in enumerate(tqdm(shots, f"Drawing {domain} pedestrians", disable=None)):
        rng = np.random.default_rng([seed, key, 2, n])
        crowd = crowds[shot.split == TRAIN]
        other = crowd[rng.integers(len(crowd))]
        image = photograph(shot.person, cameras[shot.camera], style, rng, other)
        image.save(os.path.join(drawing, MARKET, shot.file), quality=90)
    return {split: sum(shot.split == split for shot in shots) for split in splits}


def _plan(domain: str, spec: SyntheticSpec, seed: int) -> Iterator[_Shot]:
    """Who is seen where: first those with an identity, then the rest of the gallery."""
    rng = np.random.default_rng([seed, list(STYLES).index(domain), 0])
    train, known = spec.identities(domain)
    people = sample_people(rng, STYLES[domain].fashion, known + _STRANGERS)
    for n, person in enumerate(people[:known]):
        for camera in _cameras_of(rng, n, spec):
            ends = spec.images_per_camera if n < train else spec.gallery_per_camera
            images = int(rng.integers(*ends, endpoint=True)) + (n >= train)
            frame = int(rng.integers(100, 90000))
            for image in range(images):
                split = TRAIN if n < train else (GALLERY if image else QUERY)
                frame += int(rng.integers(10, 60))
                yield _Shot(split, FIRST_IDENTITY[domain] + n, camera, frame, person)
    for n in range(spec.distractors + spec.junk):
        is_distractor = n < spec.distractors
        is_empty = is_distractor and n % 3 == 0  # a false detection with nobody in it
        who = None if is_empty else people[known + n % _STRANGERS]
        yield _Shot(GALLERY, 0 if is_distractor else -1, n % CAMERAS, 90100 + 25 * n, who)


def _cameras_of(rng: np.random.Generator, number: int, spec: SyntheticSpec) -> list[int]:
    """The cameras that see a person; taking turns, so that every camera sees somebody."""
    count = int(rng.integers(*spec.cameras_per_identity, endpoint=True))
    turn = number % CAMERAS
    others = [camera for camera in range(CAMERAS) if camera != turn]
    return sorted([turn, *(int(c) for c in rng.choice(others, count - 1, replace=False))])
