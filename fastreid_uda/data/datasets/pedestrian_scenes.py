"""The places in front of the synthetic cameras: a wall or a view above, a floor below."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .pedestrian_people import Color

SCENE = (224, 192)  # wider and higher than an image, which shows a piece of it

_WALLS: dict[str, Color] = {
    "plaster": (206, 190, 164),
    "hedge": (70, 112, 60),
    "sky": (176, 204, 228),
    "brick": (128, 74, 60),
    "shop": (78, 84, 92),
    "shutter": (138, 142, 146),
    "corridor": (186, 182, 168),
}
_FLOORS: dict[str, Color] = {
    "grass": (96, 138, 66),
    "pavement": (164, 160, 154),
    "sand": (206, 186, 140),
    "asphalt": (84, 84, 88),
    "tiles": (140, 134, 128),
}


def draw_scene(rng: np.random.Generator, wall: str, floor: str, horizon: int) -> Image.Image:
    """A place of size `SCENE` whose floor begins at row `horizon`."""
    scene = Image.new("RGB", SCENE)
    draw = ImageDraw.Draw(scene)
    _draw_wall(draw, rng, wall, horizon)
    _draw_floor(draw, rng, floor, horizon)
    return scene.filter(ImageFilter.GaussianBlur(0.8))


def _rows(draw: ImageDraw.ImageDraw, top: int, bottom: int, ends: tuple[Color, Color]) -> None:
    """Fill the rows from `top` to `bottom` with a vertical gradient."""
    for y in range(top, bottom):
        share = (y - top) / max(1, bottom - top - 1)
        red, green, blue = (int(a + (b - a) * share) for a, b in zip(*ends, strict=True))
        draw.line((0, y, SCENE[0], y), fill=(red, green, blue))


def _tint(color: Color, factor: float) -> Color:
    red, green, blue = (max(0, min(255, int(part * factor))) for part in color)
    return red, green, blue


def _blotches(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, area: tuple[int, int], color: Color
) -> None:
    """Leaves, grass or gravel: small ellipses around one color."""
    for _ in range(900):
        x, y = rng.uniform(0, SCENE[0]), rng.uniform(*area)
        w, h = rng.uniform(1, 5, 2)
        draw.ellipse((x, y, x + w, y + h), fill=_tint(color, rng.uniform(0.65, 1.3)))


def _draw_wall(draw: ImageDraw.ImageDraw, rng: np.random.Generator, kind: str, end: int) -> None:
    base = _tint(_WALLS[kind], rng.uniform(0.85, 1.12))
    _rows(draw, 0, end, (_tint(base, 1.08), _tint(base, 0.9)))
    if kind == "hedge":
        _blotches(draw, rng, (0, end), base)
    elif kind == "plaster":
        for x in range(int(rng.integers(40)), SCENE[0], 56):
            draw.rectangle((x, 16, x + 24, 52), fill=_tint(base, 0.62))
    elif kind == "sky":
        for x in range(0, SCENE[0], 30):
            house = _tint((168, 156, 150), rng.uniform(0.8, 1.15))
            draw.rectangle((x, end - int(rng.integers(15, 70)), x + 29, end), fill=house)
    elif kind == "brick":
        _draw_bricks(draw, base, end)
    elif kind == "shop":
        _draw_windows(draw, rng, end)
    elif kind == "shutter":
        for y in range(0, end, 5):
            draw.line((0, y, SCENE[0], y), fill=_tint(base, 0.72), width=2)
    else:
        for x in range(0, SCENE[0], 37):
            draw.line((x, 0, x, end), fill=_tint(base, 0.72), width=2)


def _draw_bricks(draw: ImageDraw.ImageDraw, base: Color, end: int) -> None:
    joint = _tint(base, 1.3)
    for row, y in enumerate(range(0, end, 7)):
        draw.line((0, y, SCENE[0], y), fill=joint)
        for x in range((row % 2) * 8, SCENE[0], 16):
            draw.line((x, y, x, y + 7), fill=joint)


def _draw_windows(draw: ImageDraw.ImageDraw, rng: np.random.Generator, end: int) -> None:
    for x in range(0, SCENE[0], 44):
        glow = _tint((206, 196, 150), rng.uniform(0.55, 1.15))
        draw.rectangle((x + 3, 14, x + 40, end - 12), fill=glow)
        for _ in range(5):
            left, top = x + rng.uniform(4, 30), rng.uniform(24, end - 34)
            red, green, blue = (int(v) for v in rng.uniform(40, 210, 3))
            draw.rectangle((left, top, left + 8, top + 18), fill=(red, green, blue))


def _draw_floor(draw: ImageDraw.ImageDraw, rng: np.random.Generator, kind: str, start: int) -> None:
    width, height = SCENE
    base = _tint(_FLOORS[kind], rng.uniform(0.85, 1.12))
    _rows(draw, start, height, (_tint(base, 0.92), _tint(base, 1.08)))
    if kind in ("grass", "sand"):
        _blotches(draw, rng, (start, height), base)
    elif kind == "asphalt":
        y = start + int(rng.integers(6, 30))
        draw.rectangle((0, y, width, y + 4), fill=(196, 194, 180))
    else:
        joint = _tint(base, 0.76)
        for step in range(7):
            y = start + int((height - start) * (step / 6.5) ** 1.7)
            draw.line((0, y, width, y), fill=joint)
        for x in range(-width, 2 * width, 34):
            draw.line((x, start, (x - width // 2) * 1.5 + width // 2, height), fill=joint)
