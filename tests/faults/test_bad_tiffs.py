"""TIFF files that Pillow reads as something else than they say, and pixels of other depths."""

import logging

import numpy as np
import pytest
from PIL import Image

from fastreid_uda.data import image_files
from fastreid_uda.data.image_files import check_images, load_image
from fastreid_uda.errors import UserError

GRAY = np.random.default_rng(0).integers(1, 256, (20, 40), dtype=np.uint8)
RAW, PACKED = None, "tiff_lzw"
ORIENTATION, PHOTOMETRIC = 0x112, 262


@pytest.fixture
def save(tmp_path):
    def write(pixels, compression=RAW, name="a.tif", mode=None, **tags):
        image = Image.fromarray(pixels)
        path = tmp_path / name
        tiffinfo = {{"orientation": ORIENTATION, "photometric": PHOTOMETRIC}[key]: value
                    for key, value in tags.items()}  # fmt: skip
        image = image.convert(mode) if mode else image
        image.save(path, tiffinfo=tiffinfo, compression=compression)
        return str(path)

    return write


def upright(pixels, orientation):
    turns = [
        lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1],
        lambda a: a.T, lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1].T, np.rot90,
    ]  # fmt: skip
    return turns[orientation - 1](pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [RAW, PACKED])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_orientation__is_applied_with_any_compression(save, depth, compression, orientation):
    pixels = GRAY if depth is np.uint8 else GRAY.astype(depth) << 8
    path = save(pixels, compression, orientation=orientation)
    assert (np.asarray(load_image(path))[..., 0] == upright(GRAY, orientation)).all()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "1"])
def test_orientation__of_other_modes_is_that_of_a_packed_file(save, mode, orientation):
    raw, packed = (
        np.asarray(load_image(save(GRAY, compression, mode=mode, orientation=orientation)))
        for compression in (RAW, PACKED)
    )
    assert (raw == packed).all() and raw.shape[:2] == upright(GRAY, orientation).shape


@pytest.mark.parametrize("compression", [RAW, PACKED])
@pytest.mark.parametrize("orientation", [1, 6])
def test_white_is_zero__is_no_negative(save, compression, orientation):
    stored = (255 - GRAY).astype(np.uint16) << 8  # Pillow inverts those of 8 bits as it saves
    deep = save(stored, compression, "deep.tif", photometric=0, orientation=orientation)
    flat = save(GRAY, compression, "flat.tif", photometric=0, orientation=orientation)
    assert (np.asarray(load_image(deep))[..., 0] == upright(GRAY, orientation)).all()
    assert (np.asarray(load_image(deep)) == np.asarray(load_image(flat))).all()


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_few_bits__are_said_once_with_the_first_file(save, heard, monkeypatch, tmp_path, name):
    monkeypatch.setattr(image_files, "_warned_of_few_bits", False)
    deep = GRAY.astype(np.uint16)
    Image.fromarray(deep << 8).save(tmp_path / f"full_{name}")
    Image.fromarray(deep * 0).save(tmp_path / f"black_{name}")
    Image.fromarray(deep << 4).save(tmp_path / name)
    with heard.at_level(logging.WARNING):
        for good in (f"full_{name}", f"black_{name}"):
            load_image(str(tmp_path / good))
        assert not heard.records
        for _ in range(2):
            load_image(str(tmp_path / name))
    (record,) = heard.records
    assert f"{tmp_path / name} has 16 bits per pixel but no value above" in record.getMessage()
    assert "save it with 8 bits" in record.getMessage()


def test_signed_16_bits__are_refused_by_their_name(tmp_path):
    (tmp_path / "signed.tif").write_bytes(signed_tiff(GRAY.astype("<i2")))
    for function in (load_image, lambda path: check_images([path])):
        with pytest.raises(UserError, match=r"signed\.tif.*\(signed 16 bits per pixel, whose"):
            function(str(tmp_path / "signed.tif"))


def signed_tiff(pixels):
    """Pillow writes none."""
    height, width = pixels.shape
    entries = [(256, width), (257, height), (258, 16), (259, 1), (262, 1),
               (273, 8 + 2 + 9 * 12 + 4), (277, 1), (279, pixels.nbytes), (339, 2)]  # fmt: skip
    parts = [b"II*\0", (8).to_bytes(4, "little"), len(entries).to_bytes(2, "little")]
    for tag, value in entries:  # LONG, one value
        parts += [tag.to_bytes(2, "little"), (4).to_bytes(2, "little"), (1).to_bytes(4, "little")]
        parts += [value.to_bytes(4, "little")]
    return b"".join([*parts, bytes(4), pixels.tobytes()])
