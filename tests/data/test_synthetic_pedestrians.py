"""The synthetic domains: deterministic, readable by fast-reid, never half drawn."""

import json
import os
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastreid_uda.data.datasets import synthetic_pedestrians as module
from fastreid_uda.data.datasets.pedestrian_cameras import CAMERAS
from fastreid_uda.data.datasets.pedestrian_drawing import contact_sheet
from fastreid_uda.data.datasets.pedestrian_people import SUMMER, WINTER, sample_people
from fastreid_uda.data.datasets.synthetic_pedestrians import (
    GALLERY,
    MARKET,
    QUERY,
    RECORD,
    SEED,
    TRAIN,
    SyntheticSpec,
    draw_domain,
)
from fastreid_uda.errors import UserError

TINY = SyntheticSpec(
    source_train=6,
    source_test=6,
    target_train=6,
    target_test=6,
    cameras_per_identity=(2, 3),
    images_per_camera=(1, 2),
    gallery_per_camera=(1, 1),
    distractors=4,
    junk=2,
)
DOMAINS = {"source": "SyntheticPedestriansSource", "target": "SyntheticPedestriansTarget"}


def contents(folder: str) -> dict[str, bytes]:
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Both domains, as small as they get."""
    root = str(tmp_path_factory.mktemp("datasets"))
    for domain in DOMAINS:
        draw_domain(root, domain, TINY)
    return root


@pytest.fixture
def read(root, monkeypatch):
    """The data set object of fast-reid, by domain."""
    monkeypatch.setattr(module, "SyntheticSpec", lambda: TINY)
    return {d: module.DATASET_REGISTRY.get(name)(root=root) for d, name in DOMAINS.items()}


def test_the_same_seed_draws_the_same_bytes(root, tmp_path):
    again = draw_domain(str(tmp_path), "target", TINY)
    assert contents(again) == contents(os.path.join(root, "synthetic_pedestrians", "target"))


def test_another_seed_draws_other_people(root, tmp_path):
    other = contents(draw_domain(str(tmp_path), "target", TINY, seed=SEED + 1))
    images = contents(os.path.join(root, "synthetic_pedestrians", "target"))
    assert not set(images.values()) & set(other.values())


@pytest.mark.parametrize("domain", DOMAINS)
def test_fast_reid_reads_all_cameras_of_every_split(read, domain):
    counts = json.loads(Path(read[domain].dataset_dir, RECORD).read_text())["images"]
    splits = {TRAIN: read[domain].train, QUERY: read[domain].query, GALLERY: read[domain].gallery}
    for split, items in splits.items():
        junk = TINY.junk if split == GALLERY else 0
        assert len(items) == counts[split] - junk
        assert len({camera for _, _, camera in items}) == CAMERAS
        assert items == sorted(items)
    assert read[domain].get_num_pids(read[domain].train) == 6
    assert sum(identity == 0 for _, identity, _ in read[domain].gallery) == TINY.distractors


def test_identities_are_disjoint_between_domains_and_splits(read):
    groups = []
    for dataset in read.values():
        groups.append({int(identity.rsplit("_", 1)[1]) for _, identity, _ in dataset.train})
        groups.append({identity for _, identity, _ in dataset.query})
        assert {i for _, i, _ in dataset.gallery} - {0} == groups[-1]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 24


def test_every_training_identity_is_seen_by_two_cameras_or_more(read):
    for dataset in read.values():
        cameras = defaultdict(set)
        for _, identity, camera in dataset.train:
            cameras[identity].add(camera)
        assert min(map(len, cameras.values())) >= 2


def test_every_query_has_a_match_under_another_camera(read):
    for dataset in read.values():
        for _, identity, camera in dataset.query:
            assert any(i == identity and c != camera for _, i, c in dataset.gallery)


def test_the_default_domains_have_no_person_in_common():
    people = [sample_people(np.random.default_rng(0), fashion, 160) for fashion in (SUMMER, WINTER)]
    assert not set(people[0]) & set(people[1])
    for domain in people:
        pairs = [(a, b) for n, a in enumerate(domain) for b in domain[:n]]
        assert min(a.differences(b) for a, b in pairs) >= 2
        # Clothes alone are confusing: many pairs share the color of one piece or of both.
        assert sum(a.upper == b.upper and a.lower == b.lower for a, b in pairs) > 50


def test_images_are_people_sized_and_not_uniform(read):
    for dataset in read.values():
        for path, _, _ in dataset.train:
            with Image.open(path) as image:
                assert image.size == (64, 128)
                assert np.asarray(image).std() > 8


def break_nothing(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name(".target-abandoned"))


def remove_record(folder: Path) -> None:
    (folder / RECORD).unlink()


def cut_record_short(folder: Path) -> None:
    (folder / RECORD).write_text('{"version": ')


def remove_one_image(folder: Path) -> None:
    next((folder / MARKET / TRAIN).iterdir()).unlink()


def age_version(folder: Path) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(record | {"version": 0}))


@pytest.mark.parametrize(
    "damage", [break_nothing, remove_record, cut_record_short, remove_one_image, age_version]
)
def test_what_is_not_complete_is_drawn_again(root, tmp_path, damage):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "synthetic_pedestrians" / "target"
    expected = contents(str(folder))
    damage(folder)
    assert draw_domain(str(tmp_path), "target", TINY) == str(folder)
    assert contents(str(folder)) == expected


def test_a_complete_folder_is_not_drawn_again(root, monkeypatch):
    monkeypatch.setattr(module, "_draw", lambda *_: pytest.fail("drawn again"))
    for domain in DOMAINS:
        draw_domain(root, domain, TINY)


def test_an_interrupted_drawing_leaves_nothing_under_the_final_name(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "photograph", interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw_domain(str(tmp_path), "source", TINY)
    assert os.listdir(tmp_path / "synthetic_pedestrians") == []


def test_leftovers_of_killed_processes_are_removed_after_an_hour(tmp_path):
    parent = tmp_path / "synthetic_pedestrians"
    for name, age in (("old", 7200), ("young", 60)):
        (parent / f".source-{name}").mkdir(parents=True)
        stamp = (parent / f".source-{name}").stat().st_mtime - age
        os.utime(parent / f".source-{name}", (stamp, stamp))
    draw_domain(str(tmp_path), "source", TINY)
    assert sorted(os.listdir(parent)) == [".source-young", "source"]


@pytest.mark.parametrize("stale", [False, True])
def test_the_slower_of_two_processes_keeps_what_the_faster_one_drew(tmp_path, monkeypatch, stale):
    draw, folder = module._draw, tmp_path / "synthetic_pedestrians" / "source"

    def draw_while_another_process_finishes(*args):
        monkeypatch.setattr(module, "_draw", draw)
        draw_domain(str(tmp_path), "source", TINY)
        (folder / "from the other process").touch()
        return draw(*args)

    if stale:
        folder.mkdir(parents=True)
    monkeypatch.setattr(module, "_draw", draw_while_another_process_finishes)
    draw_domain(str(tmp_path), "source", TINY)
    assert (folder / "from the other process").exists()
    assert os.listdir(folder.parent) == ["source"]


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file.*cannot be written.*FASTREID_DATASETS"):
        draw_domain(str(tmp_path / "file"), "target", TINY)


def test_a_read_only_root_is_named_but_a_drawn_one_is_read(root, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.tempfile, "mkdtemp", refuse)  # root may write where chmod says no
    monkeypatch.setattr(module.os, "makedirs", refuse)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
        draw_domain(str(tmp_path), "target", TINY)
    assert draw_domain(root, "target", TINY)


def test_more_identities_than_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="750"):
        draw_domain(str(tmp_path), "source", SyntheticSpec(source_train=740, source_test=20))


def test_contact_sheet_has_one_row_per_entry():
    image = Image.new("RGB", (64, 128))
    assert contact_sheet([[image] * 3, [image]], gap=0).size == (192, 256)
