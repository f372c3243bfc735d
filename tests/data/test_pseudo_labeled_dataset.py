import random

import numpy as np
import pytest
import torch
from PIL import Image

import fastreid_uda.plugin  # noqa: F401
from fastreid_uda.config_loading import load_config
from fastreid_uda.data.build import build_extraction_loader, build_train_loader
from fastreid_uda.data.image_list import ImageList, make_image_list
from fastreid_uda.data.pseudo_labeled_dataset import PseudoLabeledDataset
from fastreid_uda.data.transforms import build_transforms
from fastreid_uda.errors import UserError
from fastreid_uda.labeling.types import OUTLIER, PseudoLabels, make_pseudo_labels
from tests.helpers import ROOT


@pytest.fixture
def images(tmp_path):
    """24 images; the red channel of image n of the path-sorted list is 10 n."""
    names = [f"{n:02d}.png" for n in range(24)]
    for n, name in enumerate(names):
        Image.new("RGB", (16, 32), (10 * n, 0, 0)).save(tmp_path / name)
    cameras = np.arange(24) % 3
    return ImageList(tuple(str(tmp_path / name) for name in names), cameras, None)


@pytest.fixture(params=[0, 2])
def cfg(request):
    overrides = ["INPUT.SIZE_TRAIN", "[32, 16]", "INPUT.SIZE_TEST", "[32, 16]",
                 "SOLVER.IMS_PER_BATCH", "8", "DATALOADER.NUM_WORKERS", str(request.param),
                 "TEST.IMS_PER_BATCH", "5", "INPUT.FLIP.ENABLED", "False", "MODEL.DEVICE", "cpu",
                 "INPUT.REA.ENABLED", "False", "INPUT.PADDING.ENABLED", "False"]  # fmt: skip
    return load_config(ROOT / "configs/Synthetic/baseline.yml", overrides)


def label(labels):
    return {"global": make_pseudo_labels(np.array(labels), np.eye(24, dtype=np.float32))}


def test_round_trip__image_to_label_to_batch(images, cfg):
    labels = [n // 4 if n % 5 else OUTLIER for n in range(24)]
    dataset = PseudoLabeledDataset(images, build_transforms(cfg, is_train=True))
    dataset.relabel(label(labels))
    seen = set()
    for batch in build_train_loader(dataset, cfg, num_batches=10, seed=0):
        shown = (batch["images"][:, 0].mean(dim=(1, 2)) / 10).round().long()
        assert shown.tolist() == batch["indices"].tolist()
        assert batch["targets"].tolist() == [labels[n] for n in shown]
        assert batch["camids"].tolist() == [n % 3 for n in shown]
        assert batch["weights"].tolist() == [1.0] * len(shown)
        seen |= set(shown.tolist())
    assert seen == {n for n in range(24) if labels[n] != OUTLIER}


def test_extraction_loader__is_in_the_order_of_the_list(images, cfg):
    shown = [
        int(x) for b in build_extraction_loader(images, cfg) for x in b["images"][:, 0, 0, 0] / 10
    ]
    assert shown == list(range(24))


def test_relabel__takes_effect_in_the_next_loader(images, cfg):
    dataset = PseudoLabeledDataset(images, build_transforms(cfg, is_train=True))
    for shift in (0, 1):
        dataset.relabel(label([(n + shift) % 6 for n in range(24)]))
        for batch in build_train_loader(dataset, cfg, num_batches=2, seed=0):
            assert batch["targets"].tolist() == [(n + shift) % 6 for n in batch["indices"].tolist()]


def test_relabel__several_views_keep_what_all_label(images):
    dataset = PseudoLabeledDataset(images, lambda image: torch.zeros(3, 2, 2))
    top = [n // 4 for n in range(24)]
    bottom = [OUTLIER if n < 6 else n // 6 for n in range(24)]
    dataset.relabel({"top": label(top)["global"], "bottom": label(bottom)["global"]})
    assert dataset.kept.tolist() == list(range(6, 24))
    assert dataset[7]["targets"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="outlier of this round"):
        dataset[0]


def test_relabel__wrong_length(images):
    dataset = PseudoLabeledDataset(images, lambda image: image)
    short = make_pseudo_labels(np.zeros(3, int), np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="labels 3 images, but the data set has 24"):
        dataset.relabel({"global": short})


def test_augmentation__depends_on_the_seed_alone(images):
    def noisy(image):
        return torch.rand(2) + random.random() + np.random.rand()

    dataset = PseudoLabeledDataset(images, noisy)
    first = dataset[3, 11]["images"]
    torch.rand(5), random.random(), np.random.rand()
    assert (dataset[3, 11]["images"] == first).all()
    assert (dataset[3, 12]["images"] != first).any()


def test_augmentation__leaves_the_global_generators_alone(images):
    dataset = PseudoLabeledDataset(images, lambda image: torch.rand(1))
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    dataset[3, 11]
    assert (torch.rand(1), random.random(), np.random.rand()) == expected


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0broken"])
@pytest.mark.parametrize("workers", ["0", "1"])
def test_unreadable_image__is_named(tmp_path, images, content, workers):
    broken = images.paths[5]
    with open(broken, "wb") as file:
        file.write(content)
    cfg = load_config(ROOT / "configs/Synthetic/baseline.yml", ["DATALOADER.NUM_WORKERS", workers])
    with pytest.raises(UserError, match=r"05\.png cannot be read as an image"):
        list(build_extraction_loader(images, cfg))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "I;16", "1", "LA"])
def test_odd_images__become_rgb(tmp_path, mode):
    name = tmp_path / ("odd.tif" if mode in ("CMYK", "I;16") else "odd.png")
    Image.new("RGB", (8, 8), (200, 10, 10)).convert("L" if mode == "I;16" else mode).convert(
        mode
    ).save(name)
    dataset = PseudoLabeledDataset(
        ImageList((str(name),), None, None), lambda image: torch.tensor(np.asarray(image).shape)
    )
    assert dataset[0]["images"].tolist() == [8, 8, 3]
    assert dataset[0]["camids"] == -1


def test_image_list__sorts_by_path_and_numbers_from_zero():
    items = [("b", "m_10", "m_c2"), ("a", "m_2", "m_c1"), ("c", "m_10", "m_c2")]
    images = make_image_list(items, "toy")
    assert images.paths == ("a", "b", "c")
    assert images.identities.tolist() == [1, 0, 0]
    assert images.camera_ids.tolist() == [0, 1, 1]
    assert images.digest == make_image_list(items[::-1], "toy").digest


def test_image_list__unknown_cameras_and_repeated_paths(caplog):
    images = make_image_list([("a", None, None), ("a", None, None)], "toy")
    assert images.identities is None and images.camera_ids is None
    assert "1 image(s) more than once" in caplog.text


def test_image_list__empty():
    with pytest.raises(UserError, match="toy has no training images"):
        make_image_list([], "toy")


def test_relabel__several_views_trust_the_least():
    images = ImageList(tuple(f"{n}.jpg" for n in range(3)), None, None)
    dataset = PseudoLabeledDataset(images, transform=lambda image: image)

    def part(labels, weights):
        return PseudoLabels(np.array(labels), np.ones((2, 4)), np.array(weights, np.float32))

    dataset.relabel({"global": part([0, 1, 1], [1, 0.5, 1]), "top": part([1, 0, -1], [0.2, 1, 0])})
    assert dataset.kept.tolist() == [0, 1]
    assert dataset.targets.tolist() == [0, 1, -1]
    assert dataset._weights.tolist() == pytest.approx([0.2, 0.5, 0])
    assert dataset._targets.tolist() == [[0, 1, 1], [1, 0, -1]]
