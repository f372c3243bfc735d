"""Tiny VeRi-776, VehicleID and VERI-Wild, in the names and lists of the real ones."""

from pathlib import Path

import numpy as np
from PIL import Image


def _draw(path, colors, light, rng):
    """A picture of two colours, one above the other, in some light."""
    pixels = np.repeat(colors, 16, axis=0)[:, None].repeat(32, axis=1) * light
    pixels = pixels + rng.normal(scale=8, size=pixels.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def write_veri(root, vehicles=6, cameras=3, per_camera=2, test_vehicles=4, seed=0):
    """VeRi-776: every vehicle has two colours, every camera a brightness; one query per camera."""
    rng = np.random.default_rng(seed)
    base = Path(root) / "veri"
    colors = rng.integers(40, 216, size=(vehicles + test_vehicles + 1, 2, 3))
    for vehicle in range(1, vehicles + test_vehicles + 1):
        for camera in range(1, cameras + 1):
            for n in range(per_camera):
                folder = "image_train" if vehicle <= vehicles else "image_test"
                if folder == "image_test" and n == 0:
                    folder = "image_query"
                name = f"{vehicle:04d}_c{camera:03d}_{16450 + n:08d}_{n}.jpg"
                _draw(base / folder / name, colors[vehicle], 0.7 + 0.15 * camera, rng)
    return base


def write_vehicle_id(root, vehicles=6, images=5, test_vehicles=4, seed=0):
    """VehicleID: numbered images in one folder, and lists of "image vehicle"; no cameras.

    All its test lists have the same vehicles, each with the given number of images.
    """
    rng = np.random.default_rng(seed)
    base = Path(root) / "vehicleid"
    colors = rng.integers(40, 216, size=(vehicles + test_vehicles, 2, 3))
    lines = []
    for vehicle in range(vehicles + test_vehicles):
        for n in range(images):
            image = f"{1000 * n + vehicle + 1:07d}"
            _draw(base / f"image/{image}.jpg", colors[vehicle], 0.8 + 0.1 * n, rng)
            lines.append(f"{image} {vehicle + 17}\n")
    lists = base / "train_test_split"
    lists.mkdir()
    (lists / "train_list.txt").write_text("".join(lines[: vehicles * images]))
    for size in (800, 1600, 2400, 13164):
        (lists / f"test_list_{size}.txt").write_text("".join(lines[vehicles * images :]))
    return base


def write_veri_wild(root, vehicles=6, cameras=2, test_vehicles=3, seed=0):
    """VERI-Wild: images in a folder per vehicle; lists, and a table with the cameras."""
    rng = np.random.default_rng(seed)
    base = Path(root) / "VERI-Wild"
    colors = rng.integers(40, 216, size=(vehicles + test_vehicles, 2, 3))
    rows, lists = ["id/image;Camera ID;Time\n"], {"train_list": [], "query": [], "gallery": []}
    for vehicle in range(vehicles + test_vehicles):
        for camera in range(cameras):
            image = f"{vehicle + 1:05d}/{100 * vehicle + camera:06d}"
            _draw(base / f"images/{image}.jpg", colors[vehicle], 0.8 + 0.1 * camera, rng)
            rows.append(f"{image};{camera + 30};2018-03-10 10:00:00\n")
            tested = "query" if camera == 0 else "gallery"
            lists["train_list" if vehicle < vehicles else tested].append(f"{image}.jpg\n")
    folder = base / "train_test_split"
    folder.mkdir()
    (folder / "vehicle_info.txt").write_text("".join(rows))
    (folder / "train_list.txt").write_text("".join(lists["train_list"]))
    for size in (3000, 5000, 10000):
        (folder / f"test_{size}_query.txt").write_text("".join(lists["query"]))
        (folder / f"test_{size}.txt").write_text("".join(lists["gallery"]))
    return base
