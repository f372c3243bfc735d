import pytest

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.data.build import load_dataset, load_training_images
from tests.helpers import ROOT

LISTS = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_02_x_0_0.jpg 1"],
    "list_val.txt": ["0000/0000_055_15_0303noon_0001_0.jpg 0"],
    "list_query.txt": ["0000/0000_001_03_x_0_0.jpg 0"],
    "list_gallery.txt": ["0000/0000_002_04_x_0_0.jpg 0", "0001/0001_002_04_x_0_0.jpg 1"],
}


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    base = tmp_path / "MSMT17_V1"
    for folder in ("train", "test"):
        (base / folder).mkdir(parents=True)
    for name, lines in LISTS.items():
        (base / name).write_text("".join(line + "\n" for line in lines))
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    return load_config(str(ROOT / "configs/Market2MSMT/secret.yml"))


def test_train__has_the_validation_images_too(cfg):
    images = load_training_images(cfg.UDA.TARGET, cfg)
    assert [path.rsplit("/", 1)[1][:11] for path in images.paths] == [
        "0000_000_01", "0000_055_15", "0001_000_02",
    ]  # fmt: skip
    assert images.identities.tolist() == [0, 0, 1]  # the two lists share their identities
    assert images.camera_ids.tolist() == [0, 2, 1]  # cameras 1, 15, 2
    assert len(load_training_images(("MSMT17",), cfg)) == 2


def test_test_images__are_those_of_the_host(cfg):
    ours, theirs = (load_dataset(name, cfg) for name in ("MSMT17TrainVal", "MSMT17"))
    assert ours.query == theirs.query and ours.gallery == theirs.gallery


def test_combineall__adds_no_image_twice(cfg):
    ours, theirs = (load_dataset(name, cfg, True) for name in ("MSMT17TrainVal", "MSMT17"))
    assert ours.train == theirs.train
