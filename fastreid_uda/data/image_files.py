"""Image files of any kind -> RGB, and a look at all of a run before it starts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from ..errors import UserError

MAX_PIXELS = 100_000_000
"""No crop of a person is larger; a damaged header, or a file made to fill the memory, is."""

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def load_image(path: str) -> Any:
    """A PIL RGB image, turned as its Exif orientation says; the first frame of an animation.

    As fast-reid's `read_image`, but gray images of 16 bits are scaled to 8 bits, not clipped at
    255. Transparency is left out, as there.

    Raises:
        UserError: the file is missing, damaged, no image, too large, or of 32 bits per pixel.
    """
    try:
        with Image.open(path) as image:
            _check_header(image)
            return _to_rgb(_upright(image))
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


def _check_header(image: Image.Image) -> None:
    """Refuse what cannot be a crop, or has no one way to become RGB."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} pixels, more than {MAX_PIXELS // 10**6} million"
        )
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise ValueError("32 bits per pixel, whose range is not known; save it with 8 bits")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged Exif data say nothing about the pixels
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BITS or image.mode == "I":  # a PNG has 16 bits at most
        # The high byte, as Pillow takes of colour images of 16 bits.
        gray = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(gray.astype(np.uint8))
    return image.convert("RGB")


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
