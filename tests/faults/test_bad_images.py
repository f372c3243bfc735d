"""Images of any kind become RGB or are refused by name, before a run writes anything."""

import os

import numpy as np
import pytest
from fastreid.data.data_utils import read_image
from PIL import Image

from fastreid_uda.config_loading import load_config
from fastreid_uda.data import image_files
from fastreid_uda.data.image_files import check_images, load_image
from fastreid_uda.engine.data_checks import check_datasets
from fastreid_uda.errors import UserError
from tests.helpers import ROOT, TINY, write_market

GRAY = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLORS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return str(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("factor", [256, 257])
def test_16_bits__come_out_as_the_8_bit_version(tmp_path, suffix, factor):
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(GRAY.astype(np.uint16) * factor))
    check_images([path])
    assert (np.asarray(load_image(path)) == GRAY[..., None]).all()


def test_16_bits__big_endian(tmp_path):
    image = Image.frombytes("I;16B", (16, 16), (GRAY.astype(">u2") * 257).tobytes())
    path = save(tmp_path / "a.tif", image)
    assert (np.asarray(load_image(path)) == GRAY[..., None]).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bits__are_refused(tmp_path, mode):
    path = save(tmp_path / "a.tif", Image.fromarray(GRAY).convert(mode))
    for function in (load_image, lambda path: check_images([path])):
        with pytest.raises(UserError, match=r"a\.tif.*32 bits per pixel"):
            function(path)


@pytest.mark.parametrize(
    "mode,suffix",
    [("RGB", "jpg"), ("RGB", "bmp"), ("L", "png"), ("LA", "png"), ("CMYK", "jpg"), ("CMYK", "tif"),
     ("P", "png"), ("1", "png"), ("RGBA", "png"), ("RGBA", "webp")],
)  # fmt: skip
def test_common_modes__are_what_fastreid_reads(tmp_path, mode, suffix):
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(COLORS).convert(mode))
    assert (np.asarray(load_image(path)) == np.asarray(read_image(path, "RGB"))).all()
    assert load_image(path).mode == "RGB"


def test_palette_with_transparency__keeps_its_colors(tmp_path):
    image = Image.fromarray(COLORS).convert("P")
    path = save(tmp_path / "a.png", image, transparency=3)
    assert (np.asarray(load_image(path)) == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_animation__is_its_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"a.{suffix}"
    save(path, frames[0], save_all=True, append_images=frames[1:], **options)
    assert (np.asarray(load_image(str(path))) == [255, 0, 0]).all()


def test_exif_orientation__is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", Image.new("RGB", (8, 4)), exif=exif)
    assert load_image(path).size == (4, 8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_truncated__is_named(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    save(path, Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"a\.{suffix} cannot be read as an image \(.+\); replace"):
        load_image(str(path))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_100, 10_000), (20_000, 20_000)])  # Pillow warns; refuses
def test_huge__is_refused_by_its_header(tmp_path, size):
    path = tmp_path / "a.png"
    save(path, Image.new("1", size))
    for function in (load_image, lambda path: check_images([path])):
        with pytest.raises(UserError, match="more than 100 million"):
            function(str(path))


def test_huge__check_shows_no_warning_of_pillow(tmp_path, recwarn):
    path = save(tmp_path / "a.png", Image.new("1", (10_100, 10_000)))
    recwarn.clear()
    with pytest.raises(UserError, match="10100 x 10000 pixels"):
        check_images([path])
    assert not recwarn.list


def test_check__names_three_of_all_bad_files(tmp_path):
    good = save(tmp_path / "good ü.png", Image.fromarray(COLORS))
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    os.symlink("loop.png", tmp_path / "loop.png")
    (tmp_path / "folder.png").mkdir()
    bad = [str(tmp_path / name) for name in ("empty.png", "text.png", "loop.png", "folder.png")]
    with pytest.raises(UserError) as caught:
        check_images([good, *bad, str(tmp_path / "gone.png")])
    text = str(caught.value)
    assert text.startswith(
        f"5 images of the data sets cannot be read: {bad[0]} (the file is empty)"
    )
    assert f"{bad[1]} (no image, or of a format" in text and "Too many levels" in text
    assert "folder.png" not in text and text.endswith(", ...; replace or remove the files.")
    check_images([good])


@pytest.fixture
def market(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    return write_market(tmp_path)


@pytest.mark.parametrize("folder", ["bounding_box_train", "bounding_box_test", "query"])
def test_run__bad_image_of_any_list_is_named_before_it_starts(market, folder):
    cfg = load_config(ROOT / "configs/Synthetic/baseline.yml", TINY)
    check_datasets(cfg, eval_only=False)
    broken = sorted((market / folder).iterdir())[0]
    broken.write_bytes(b"")
    with pytest.raises(UserError, match=f"1 image of the data sets.*{broken.name}"):
        check_datasets(cfg, eval_only=False)


def test_run__reads_each_list_once(market, monkeypatch):
    from fastreid.data.datasets.market1501 import Market1501

    from fastreid_uda.data.build import load_test_set, load_training_images

    calls = []
    read = Market1501.process_dir
    monkeypatch.setattr(
        Market1501, "process_dir", lambda *a, **k: calls.append(a[1]) or read(*a, **k)
    )
    cfg = load_config(ROOT / "configs/Synthetic/baseline.yml", TINY)
    check_datasets(cfg, eval_only=False)
    load_training_images(("Market1501",), cfg), load_test_set("Market1501", cfg)
    assert len(calls) == len(set(calls)) == 3
    check_datasets(cfg, eval_only=False)  # the next run reads anew
    assert len(calls) == 6


def test_limit__is_above_every_camera():
    assert image_files.MAX_PIXELS >= 7680 * 4320
