"""Vehicles: what fast-reid's readers give, which camera ids are none, which gallery is drawn."""

import random

import numpy as np
import pytest

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config import build_labeler
from fastreid_uda.config_loading import load_config
from fastreid_uda.data.build import (
    forget_datasets,
    gallery_draws,
    load_dataset,
    load_training_images,
)
from fastreid_uda.errors import UserError
from tests.helpers import ROOT
from tests.vehicles import write_vehicle_id, write_veri, write_veri_wild

VEHICLE_ID = ("VehicleID", "SmallVehicleID", "MediumVehicleID", "LargeVehicleID")


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    for write in (write_veri, write_vehicle_id, write_veri_wild):
        write(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    forget_datasets()
    return load_config(str(ROOT / "configs/VeRi2VehicleID/baseline.yml"))


@pytest.mark.parametrize(
    "name,train,query,gallery,cameras",
    [("VeRi", 36, 12, 12, 3), ("VeRiWild", 12, 3, 3, 2), ("SmallVeRiWild", 12, 3, 3, 2),
     *((name, 30, 16, 4, None) for name in VEHICLE_ID)],
)  # fmt: skip
def test_vehicle_set__has_its_images_and_cameras(cfg, name, train, query, gallery, cameras):
    images, dataset = load_training_images((name,), cfg), load_dataset(name, cfg)
    assert len(images) == train and images.identities.max() == 5
    assert (len(dataset.query), len(dataset.gallery)) == (query, gallery)
    assert list(images.paths) == sorted(images.paths)
    known = images.camera_ids is not None
    assert (len(set(images.camera_ids.tolist())) if known else None) == cameras
    assert gallery_draws(name, cfg) == (0 if known else 10)


def test_vehicle_id__every_image_of_a_test_is_query_or_gallery(cfg):
    dataset = load_dataset("SmallVehicleID", cfg)
    paths = [item[0] for item in (*dataset.query, *dataset.gallery)]
    assert len(set(paths)) == len(paths) == 20
    assert sorted(item[1] for item in dataset.gallery) == [23, 24, 25, 26]


def test_vehicle_id__split_is_the_same_in_every_process_and_leaves_the_generator(cfg):
    splits = []
    for seed in (1, 2):
        random.seed(seed)
        expected = random.Random(seed).random()
        forget_datasets()
        splits.append(load_dataset("SmallVehicleID", cfg))
        assert random.random() == expected
    assert splits[0] is not splits[1]
    assert splits[0].query == splits[1].query and splits[0].gallery == splits[1].gallery


def test_sources_with_and_without_cameras__are_trained_on_without(cfg, caplog):
    images = load_training_images(("VeRi", "VehicleID"), cfg)
    assert len(images) == 66 and images.camera_ids is None and images.identities.max() == 11
    assert "The cameras of VeRi are not used, because VehicleID" in caplog.text
    assert load_training_images(("VeRi", "VeRiWild"), cfg).camera_ids is not None


def test_combined_source__has_the_test_images_too(cfg):
    images = load_training_images(("VehicleID",), cfg, combineall=True)
    assert len(images) == 50 and images.camera_ids is None and images.identities.max() == 9


@pytest.mark.parametrize(
    "overrides,sentence",
    [
        (["UDA.CAMERA_NORMALIZATION", "True"],
         r"UDA\.CAMERA_NORMALIZATION needs them; set it to False"),
        (["UDA.REFINERS", "('MSPLR',)"], r"set UDA\.MSPLR\.MIN_CAMERAS to 1"),
        (["UDA.DISTANCE.NAME", "CAJaccard"], r"UDA\.DISTANCE\.NAME.*CAJaccard"),
        (["UDA.CLUSTER.EPS", "None", "UDA.CLUSTER.EPS_RULE", "CrossCamera"],
         r"UDA\.CLUSTER\.EPS_RULE.*CrossCamera"),
    ],
)  # fmt: skip
def test_target_without_cameras__is_refused_by_what_needs_them(cfg, overrides, sentence):
    cfg = load_config(str(ROOT / "configs/VeRi2VehicleID/baseline.yml"), overrides)
    cameras = load_training_images(cfg.UDA.TARGET, cfg).camera_ids
    with pytest.raises(UserError, match=rf"no camera ids, but .*{sentence}"):
        build_labeler(cfg).check_cameras(cameras)
    build_labeler(cfg).check_cameras(load_training_images(("VeRi",), cfg).camera_ids)


@pytest.mark.parametrize("method", ["baseline", "msplr", "nplp", "secret", "p2lr", "inclr"])
@pytest.mark.parametrize("task", ["VehicleID2VeRi", "VeRi2VehicleID"])
def test_task__its_target_has_what_its_method_needs(cfg, task, method):
    cfg = load_config(str(ROOT / f"configs/{task}/{method}.yml"))
    names = {"VehicleID": ("VehicleID",), "VeRi": ("VeRi",)}
    source, target = task.split("2")
    assert names[source] == cfg.DATASETS.NAMES
    assert cfg.UDA.TARGET == cfg.DATASETS.TESTS
    assert cfg.UDA.TARGET[0].endswith(target)
    assert list(cfg.INPUT.SIZE_TRAIN) == list(cfg.INPUT.SIZE_TEST) == [256, 256]
    build_labeler(cfg).check_cameras(load_training_images(cfg.UDA.TARGET, cfg).camera_ids)
    assert np.isin(cfg.UDA.REFINERS, [method.upper()]).all()


@pytest.mark.parametrize("damage,sentence", [
    (lambda base: (base / "train_test_split/test_list_800.txt").unlink(), "test_list_800.txt"),
    (lambda base: (base / "train_test_split/train_list.txt").write_text("0000001\n"), "cannot be"),
    (lambda base: (base / "train_test_split/train_list.txt").write_text("x 1\n"), "cannot be read"),
    (lambda base: (base / "train_test_split/train_list.txt").write_text(""), "no training images"),
])  # fmt: skip
def test_damaged_lists__are_named(cfg, tmp_path, damage, sentence):
    damage(tmp_path / "vehicleid")
    with pytest.raises(UserError, match=sentence):
        load_training_images(("SmallVehicleID",), cfg)


def test_training_images__are_counted_in_the_log(cfg, caplog):
    caplog.set_level("INFO", logger="fastreid_uda")
    load_training_images(("VeRi",), cfg)
    load_training_images(("VehicleID",), cfg)
    assert "Training images of VeRi: 36; identities: 6, cameras: 3." in caplog.text
    assert "Training images of VehicleID: 30; identities: 6, cameras: unknown." in caplog.text
