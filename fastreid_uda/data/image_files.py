"""Image files of any kind -> RGB, and a look at all of a run before it starts."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin
from tqdm import tqdm

from ..errors import UserError

logger = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000
"""No crop of a person is larger; a damaged header, or a file made to fill the memory, is."""

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")

_TWELVE_BITS = 1 << 12

_BITS = TiffImagePlugin.BITSPERSAMPLE
_PHOTOMETRIC = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
_SAMPLE_FORMAT = TiffImagePlugin.SAMPLEFORMAT
_SIGNED = 2  # a sample format

_warned_of_few_bits = False  # in this process


def load_image(path: str) -> Any:
    """A PIL RGB image, turned as its Exif orientation says; the first frame of an animation.

    As fast-reid's `read_image`, but gray images of 16 bits are scaled to 8 bits, not clipped at
    255; the first of a process that uses 12 of them or fewer is warned of. Transparency is left
    out, as there.

    Raises:
        UserError: the file is missing, damaged, no image, too large, or of signed pixels or more
            than 16 bits.
    """
    try:
        with Image.open(path) as image:
            _check_header(image)
            return _to_rgb(_upright(image), path, white_is_zero=_tag(image, _PHOTOMETRIC, 1) == 0)
    except Exception as error:  # whatever the decoders of Pillow raise on a damaged file
        raise UserError(
            f"{path} cannot be read as an image ({_reason(path, error)}); replace or remove the "
            "file."
        ) from error


def check_images(paths: Iterable[str]) -> None:
    """Look at the header of every file, without decoding it, with a bar on a terminal.

    Raises:
        UserError: some are missing, empty, no image or too large; names the first three.
    """
    bad: list[str] = []
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
        for path in tqdm(list(paths), desc="images", leave=False, disable=None):
            try:
                with Image.open(path) as image:
                    _check_header(image)
            except Exception as error:
                count += 1
                bad += [f"{path} ({_reason(path, error)})"] if len(bad) < 3 else []
    if count:
        which = "1 image" if count == 1 else f"{count} images"
        raise UserError(
            f"{which} of the data sets cannot be read: {', '.join(bad)}"
            f"{', ...' if count > len(bad) else ''}; replace or remove the files."
        )


def _check_header(image: ImageFile.ImageFile) -> None:
    """Refuse what cannot be a crop, or has no one way to become RGB."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} million"
        )
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        bits, formats = _tag(image, _BITS, (32,)), _tag(image, _SAMPLE_FORMAT, ())
        signed = "signed " if _SIGNED in formats else ""
        raise ValueError(
            f"{signed}{bits[0]} bits per pixel, whose range is not known; save it with 8 bits"
        )


def _tag(image: ImageFile.ImageFile, tag: int, default: Any) -> Any:
    """What the header of a TIFF file says; the default in other formats."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(tag, default)
    return default


def _upright(image: ImageFile.ImageFile) -> Image.Image:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Pillow maps raw pixels of a file that has a name, with the sides of the turned image:
        # they come out scrambled where these differ.
        image.filename = ""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged Exif data say nothing about the pixels
        return image


def _to_rgb(image: Image.Image, path: str, *, white_is_zero: bool) -> Image.Image:
    if image.mode in _SIXTEEN_BITS or image.mode == "I":  # a PNG has 16 bits at most
        # The high byte, as Pillow takes of colour images of 16 bits.
        gray = np.asarray(image).astype(np.int64)
        _warn_of_few_bits(path, int(gray.max()))
        gray = gray >> 8
        # Pillow inverts those of 8 bits itself.
        image = Image.fromarray((255 - gray if white_is_zero else gray).astype(np.uint8))
    return image.convert("RGB")


def _warn_of_few_bits(path: str, largest: int) -> None:
    global _warned_of_few_bits
    if 0 < largest < _TWELVE_BITS and not _warned_of_few_bits:
        _warned_of_few_bits = True
        logger.warning(
            "%s has 16 bits per pixel but no value above %d of 65535, so next to nothing is seen "
            "on it; if its pixels have fewer bits, save it with 8 bits. Other such images are not "
            "named.",
            path, largest,
        )  # fmt: skip


def _reason(path: str, error: Exception) -> str:
    """A few words; an OSError knows them, a decoder's error says them."""
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if os.path.isfile(path) and not os.path.getsize(path):
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image, or of a format that Pillow does not know"
    return " ".join(str(error).split()) or type(error).__name__
