"""PersonFolder: links, odd names, wrong suffixes, cameras for some images only."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.data import build, folder_listing
from fastreid_uda.data.datasets.person_folder import PersonFolder
from fastreid_uda.data.folder_listing import list_images
from fastreid_uda.data.image_files import load_image
from fastreid_uda.data.image_list import make_image_list
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.camera_normalization import normalize_per_camera

CAMERA = r"c(?P<camera>[^_/]*)_"


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8)).save(folder / name)
    return str(folder)


def names_of(items):
    return [item[0].rsplit("/", 1)[1] for item in items]


def test_links__to_folders_and_files_are_followed(tmp_path):
    put(tmp_path / "else", "b.jpg"), put(tmp_path, "c.jpg")
    folder = put(tmp_path / "crops", "a.jpg")
    os.symlink("../else", tmp_path / "crops/link"), os.symlink("../c.jpg", tmp_path / "crops/c.jpg")
    assert list_images(folder, "KEY") == ["a.jpg", "c.jpg", "link/b.jpg"]
    os.symlink("crops", tmp_path / "whole")
    assert list_images(str(tmp_path / "whole"), "KEY") == ["a.jpg", "c.jpg", "link/b.jpg"]


@pytest.mark.parametrize("target", [".", "..", "../../crops/a", "loop"])
def test_loop_of_links__ends_and_is_said(tmp_path, heard, target):
    folder = put(tmp_path / "crops", "a/b/1.jpg", "2.jpg")
    os.symlink(target, tmp_path / "crops/a/loop")
    assert list_images(folder, "KEY") == ["2.jpg", "a/b/1.jpg"]
    assert ("has been read; it is left out" in heard.text) == (target != "loop")


def test_folders_that_link_to_each_other__are_read_once(tmp_path):
    folder = put(tmp_path / "crops", *(f"{n}/{n}.jpg" for n in range(12)))
    for a in range(12):
        for b in range(12):
            os.symlink(f"../{b}", tmp_path / f"crops/{a}/to{b}")
    assert list_images(folder, "KEY") == sorted(f"{n}/{n}.jpg" for n in range(12))


def test_link_beside_its_image__is_listed_and_said(tmp_path, heard):
    folder = put(tmp_path / "crops", "a.jpg")
    os.symlink("a.jpg", tmp_path / "crops/b.jpg")
    assert list_images(folder, "KEY") == ["a.jpg", "b.jpg"]
    assert "1 image(s) are links to others of the same list, e.g." in heard.text


def test_unreadable_subfolder__is_no_silent_loss(tmp_path, monkeypatch):
    folder = put(tmp_path / "crops", "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folder_listing.os, "scandir", denied)
    with pytest.raises(UserError, match=r"crops/b cannot be read \(Permission denied\)"):
        list_images(folder, "KEY")


def test_suffixes__are_counted_where_they_are_wrong(tmp_path, heard):
    folder = put(tmp_path / "crops", "a.JPG", "b.TIFF")
    for name in ("c.txt", "d.TXT", "e.heic", "f"):
        (tmp_path / "crops" / name).touch()
    assert list_images(folder, "KEY") == ["a.JPG", "b.TIFF"]
    assert "2 images; ignored 4 other file(s) (.txt, .heic, no suffix)" in heard.text
    os.unlink(tmp_path / "crops/a.JPG"), os.unlink(tmp_path / "crops/b.TIFF")
    with pytest.raises(UserError, match=r"KEY is .*holds no images .*but 4 other file.*\.txt"):
        list_images(folder, "KEY")


def test_odd_names__are_read(tmp_path):
    names = ["a b/c1_ü 名.jpg", "c2_'\"%s{x}.jpg", "c3_\udcff.jpg"]
    folder = put(tmp_path / "my crops é", *names)
    items = PersonFolder(folder, pattern=CAMERA).train
    images = make_image_list(items, "folder")
    assert len(images) == 3 and sorted(images.camera_ids) == [0, 1, 2] and images.digest
    assert all(load_image(path).size == (4, 8) for path in images.paths)


def test_line_break_in_a_name__is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'a\\nb\.jpg' has a line break; rename") as caught:
        list_images(put(tmp_path / "crops", "a\nb.jpg"), "DATASETS.FOLDER.TRAIN")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("set_key", ["query", "gallery"])
def test_one_test_folder_alone__is_refused(tmp_path, set_key):
    folder = put(tmp_path / "crops", "c1_a.jpg")
    with pytest.raises(UserError, match=f"FOLDER.{set_key.upper()} is set.*both of them or"):
        PersonFolder(folder, **{set_key: folder})


def test_cameras_of_some_images_only__are_refused(tmp_path):
    folder = put(tmp_path / "crops", "c1_a.jpg", "c_b.jpg", "c_c.jpg")
    items = PersonFolder(folder, pattern=CAMERA).train
    with pytest.raises(UserError, match=r"mine: 2 of 3 images have no camera, e.g. .*c_b\.jpg"):
        make_image_list(items, "mine")


def test_identities_of_some_images_only__are_said(heard):
    images = make_image_list([("a", "1", "x"), ("b", None, "x")], "mine")
    assert images.identities is None and images.camera_ids.tolist() == [0, 0]
    assert "1 of 2 images have an identity; none of them is used" in heard.text


@pytest.mark.parametrize("camera", ["-1", "north gate", "é", "0"])
def test_cameras__are_names(tmp_path, camera):
    folder = put(tmp_path / "crops", f"c{camera}_a.jpg", "c7_b.jpg", f"c {camera} _c.jpg")
    images = make_image_list(PersonFolder(folder, pattern=CAMERA).train, "mine")
    cameras = dict(zip(map(os.path.basename, images.paths), images.camera_ids, strict=True))
    assert cameras[f"c{camera}_a.jpg"] == cameras[f"c {camera} _c.jpg"] != cameras["c7_b.jpg"]


def test_duplicate_paths__are_positional_and_said(heard):
    items = [("b", "1", "x"), ("a", "2", "y"), ("b", "3", "z")]
    images = make_image_list(items, "mine")
    assert images.paths == ("a", "b", "b") and images.identities.tolist() == [1, 0, 2]
    assert images.camera_ids.tolist() == [1, 0, 2]
    assert "lists 1 image(s) more than once, e.g. b; each entry counts" in heard.text


def test_camera_with_one_image__normalises_to_zero():
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    one_each = normalize_per_camera(x, np.arange(4))
    assert np.isfinite(one_each).all() and not one_each.any()
    last_alone = normalize_per_camera(x, np.array([0, 0, 0, 1]))
    assert np.isfinite(last_alone).all() and last_alone[:3].any() and not last_alone[3].any()


def test_lists__are_kept_until_they_are_forgotten(tmp_path):
    folder = put(tmp_path / "crops", "a.jpg", "b.jpg")
    cfg = build_cfg(folder)
    assert len(build.load_training_images(["PersonFolder"], cfg)) == 2
    os.unlink(tmp_path / "crops/b.jpg")
    assert len(build.load_training_images(["PersonFolder"], cfg)) == 2
    build.forget_datasets()
    assert len(build.load_training_images(["PersonFolder"], cfg)) == 1
    shutil.rmtree(folder), build.forget_datasets()
    with pytest.raises(UserError, match="which is not a folder"):
        build.load_training_images(["PersonFolder"], cfg)


def build_cfg(folder):
    from fastreid_uda.config_loading import load_config
    from tests.helpers import ROOT

    overrides = ["UDA.TARGET", "('PersonFolder',)", "DATASETS.FOLDER.TRAIN", folder]
    return load_config(ROOT / "configs/Synthetic/baseline.yml", overrides)
