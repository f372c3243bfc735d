"""The synthetic cameras: the scene behind the people, and what the lens does to the colors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .pedestrian_drawing import CANVAS, Pose, draw_person
from .pedestrian_people import SUMMER, WINTER, Color, Fashion, Person

IMAGE = (CANVAS[0] // 2, CANVAS[1] // 2)
CAMERAS = 6  # fast-reid's reader of Market-1501 asserts cameras 1 to 6
_SCENE = (224, 192)


@dataclass(frozen=True)
class Style:
    """What the cameras of one domain have in common; pairs are ranges to sample from.

    Attributes:
        walls: names of the scenes' upper parts, used in turn.
        floors: names of their lower parts, used in turn.
        cast: standard deviation of the color matrix around the identity.
        brightness: factor on all colors.
        gamma: exponent on colors in [0, 1].
        contrast: factor around mid gray.
        shrink: factor of lost resolution.
        blur: radius of the lens blur in pixels.
        noise: standard deviation of the sensor noise, of 255.
        vignette: how much darker the corners are.
        size: height of an average person relative to the image.
        jitter: standard deviation of the detector's box, relative to the image.
        occlusion: share of images in which something hides part of the person.
        flicker: standard deviation of the brightness from image to image.
    """

    fashion: Fashion
    walls: tuple[str, ...]
    floors: tuple[str, ...]
    cast: float
    brightness: tuple[float, float]
    gamma: tuple[float, float]
    contrast: tuple[float, float]
    shrink: tuple[float, float]
    blur: tuple[float, float]
    noise: tuple[float, float]
    vignette: tuple[float, float]
    size: tuple[float, float]
    jitter: float
    occlusion: float
    flicker: float


STYLES: dict[str, Style] = {
    "source": Style(
        fashion=SUMMER,
        walls=("plaster", "hedge", "sky", "plaster", "hedge", "sky"),
        floors=("grass", "pavement", "sand", "pavement", "grass", "pavement"),
        cast=0.05,
        brightness=(0.95, 1.12),
        gamma=(0.9, 1.1),
        contrast=(0.95, 1.1),
        shrink=(1.0, 1.3),
        blur=(0.0, 0.3),
        noise=(2.0, 5.0),
        vignette=(0.0, 0.15),
        size=(0.86, 0.93),
        jitter=0.02,
        occlusion=0.1,
        flicker=0.04,
    ),
    "target": Style(
        fashion=WINTER,
        walls=("brick", "shop", "shutter", "corridor", "shop", "brick"),
        floors=("asphalt", "tiles", "asphalt", "tiles", "pavement", "tiles"),
        cast=0.11,
        brightness=(0.7, 1.05),
        gamma=(0.8, 1.25),
        contrast=(0.8, 1.1),
        shrink=(1.2, 1.8),
        blur=(0.2, 0.6),
        noise=(4.0, 9.0),
        vignette=(0.1, 0.4),
        size=(0.8, 0.9),
        jitter=0.025,
        occlusion=0.1,
        flicker=0.05,
    ),
}


@dataclass(frozen=True)
class Camera:
    """One camera: all images taken by it share these values."""

    scene: Image.Image
    horizon: int
    matrix: np.ndarray
    brightness: float
    curve: np.ndarray
    shrink: float
    blur: float
    noise: float
    vignette: np.ndarray
    light: float
    turn: float
    size: float


def _rows(draw: ImageDraw.ImageDraw, top: int, bottom: int, ends: tuple[Color, Color]) -> None:
    """Fill the rows from `top` to `bottom` with a vertical gradient."""
    for y in range(top, bottom):
        share = (y - top) / max(1, bottom - top - 1)
        color = tuple(int(a + (b - a) * share) for a, b in zip(*ends, strict=True))
        draw.line((0, y, _SCENE[0], y), fill=color)


def _tint(color: Color, factor: float) -> Color:
    red, green, blue = (max(0, min(255, int(part * factor))) for part in color)
    return red, green, blue


def _blotches(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, area: tuple[int, int], color: Color
) -> None:
    """Leaves, grass or gravel: small ellipses around one color."""
    for _ in range(900):
        x, y = rng.uniform(0, _SCENE[0]), rng.uniform(*area)
        w, h = rng.uniform(1, 5, 2)
        draw.ellipse((x, y, x + w, y + h), fill=_tint(color, rng.uniform(0.65, 1.3)))


def _wall(draw: ImageDraw.ImageDraw, rng: np.random.Generator, kind: str, end: int) -> None:
    """The part of the scene above row `end`."""
    width = _SCENE[0]
    base: Color = {
        "plaster": (206, 190, 164),
        "hedge": (70, 112, 60),
        "sky": (176, 204, 228),
        "brick": (128, 74, 60),
        "shop": (78, 84, 92),
        "shutter": (138, 142, 146),
        "corridor": (186, 182, 168),
    }[kind]
    base = _tint(base, rng.uniform(0.85, 1.12))
    _rows(draw, 0, end, (_tint(base, 1.08), _tint(base, 0.9)))
    if kind == "hedge":
        _blotches(draw, rng, (0, end), base)
    elif kind == "plaster":
        for x in range(int(rng.integers(40)), width, 56):
            draw.rectangle((x, 16, x + 24, 52), fill=_tint(base, 0.62))
    elif kind == "sky":
        for x in range(0, width, 30):
            top = end - int(rng.integers(15, 70))
            draw.rectangle((x, top, x + 29, end), fill=_tint((168, 156, 150), rng.uniform(0.8, 1.15)))
    elif kind == "brick":
        for row, y in enumerate(range(0, end, 7)):
            draw.line((0, y, width, y), fill=_tint(base, 1.3))
            for x in range((row % 2) * 8, width, 16):
                draw.line((x, y, x, y + 7), fill=_tint(base, 1.3))
    elif kind == "shop":
        for x in range(0, width, 44):
            glow = _tint((206, 196, 150), rng.uniform(0.55, 1.15))
            draw.rectangle((x + 3, 14, x + 40, end - 12), fill=glow)
            for _ in range(5):
                left, top = x + rng.uniform(4, 30), rng.uniform(24, end - 34)
                goods = tuple(int(v) for v in rng.uniform(40, 210, 3))
                draw.rectangle((left, top, left + 8, top + 18), fill=goods)
    else:
        step = 5 if kind == "shutter" else 37
        for offset in range(0, max(width, end), step):
            lines = (0, offset, width, offset) if kind == "shutter" else (offset, 0, offset, end)
            draw.line(lines, fill=_tint(base, 0.72), width=2)


def _floor(draw: ImageDraw.ImageDraw, rng: np.random.Generator, kind: str, start: int) -> None:
    """The part of the scene below row `start`."""
    width, height = _SCENE
    base: Color = {
        "grass": (96, 138, 66),
        "pavement": (164, 160, 154),
        "sand": (206, 186, 140),
        "asphalt": (84, 84, 88),
        "tiles": (140, 134, 128),
    }[kind]
    base = _tint(base, rng.uniform(0.85, 1.12))
    _rows(draw, start, height, (_tint(base, 0.92), _tint(base, 1.08)))
    if kind in ("grass", "sand"):
        _blotches(draw, rng, (start, height), base)
    elif kind == "asphalt":
        y = start + int(rng.integers(6, 30))
        draw.rectangle((0, y, width, y + 4), fill=(196, 194, 180))
    else:
        for step in range(7):
            y = start + int((height - start) * (step / 6.5) ** 1.7)
            draw.line((0, y, width, y), fill=_tint(base, 0.76))
        for x in range(-width, 2 * width, 34):
            draw.line((x, start, (x - width // 2) * 1.5 + width // 2, height), fill=_tint(base, 0.76))


def _response(gamma: float, contrast: float) -> np.ndarray:
    """Recorded color, in [0, 255] or a little beyond, of 1024 levels of light."""
    light = np.linspace(0, 1, 1024, dtype=np.float32)
    return ((light**gamma - 0.5) * contrast + 0.5) * 255


def make_camera(rng: np.random.Generator, style: Style, number: int) -> Camera:
    """Camera `number` (from 0) of a domain, with values sampled from the domain's style."""
    scene = Image.new("RGB", _SCENE)
    horizon = int(rng.uniform(0.5, 0.66) * _SCENE[1])
    draw = ImageDraw.Draw(scene)
    _wall(draw, rng, style.walls[number], horizon)
    _floor(draw, rng, style.floors[number], horizon)
    matrix = np.eye(3) + rng.normal(0, style.cast / 2, (3, 3))
    matrix = np.diag(1 + rng.normal(0, style.cast, 3)) @ matrix
    y, x = np.mgrid[-1 : 1 : IMAGE[1] * 1j, -1 : 1 : IMAGE[0] * 1j]
    corners = 1 - rng.uniform(*style.vignette) * np.clip(x**2 + y**2, 0, 2) / 2
    return Camera(
        scene=scene.filter(ImageFilter.GaussianBlur(0.8)),
        horizon=horizon,
        matrix=matrix.astype(np.float32),
        brightness=float(rng.uniform(*style.brightness)),
        curve=_response(rng.uniform(*style.gamma), rng.uniform(*style.contrast)),
        shrink=float(rng.uniform(*style.shrink)),
        blur=float(rng.uniform(*style.blur)),
        noise=float(rng.uniform(*style.noise)),
        vignette=corners[..., None].astype(np.float32),
        light=float(rng.uniform(-0.3, 0.3)),
        turn=float(rng.uniform(0, 2 * math.pi)),
        size=float(rng.uniform(*style.size)),
    )


def sample_pose(rng: np.random.Generator, camera: Camera, jitter: float) -> Pose:
    """How somebody walks past `camera`: mostly along its path, in either direction."""
    turn = camera.turn + math.pi * (rng.random() < 0.35) + rng.normal(0, 0.5)
    width, height = CANVAS
    size = height * camera.size * (1 + rng.normal(0, 1.2 * jitter))
    middle = width * (0.5 + rng.normal(0, 1.5 * jitter))
    # The detector's box is centered on the person; now and then it cuts off the feet.
    feet = height / 2 + size / 2 + height * (rng.normal(0, jitter) + 0.1 * (rng.random() < 0.06))
    return Pose(
        turn=turn,
        phase=rng.uniform(0, 2 * math.pi),
        stride=rng.uniform(0.15, 0.5),
        feet=complex(middle, feet),
        size=size,
        tilt=rng.normal(0, 0.025),
    )


def _occlude(canvas: Image.Image, rng: np.random.Generator, camera: Camera, other: Person) -> None:
    """Put something in front of the person: another one, a pole or a box."""
    width, height = CANVAS
    draw = ImageDraw.Draw(canvas)
    gray = int(rng.integers(40, 180))
    choice = rng.random()
    if choice < 0.4:
        pose = sample_pose(rng, camera, 0.02)
        aside = width * rng.uniform(0.36, 0.5) * rng.choice([-1, 1])
        shifted = Pose(pose.turn, pose.phase, pose.stride, pose.feet + aside, pose.size)
        draw_person(canvas, other, shifted)
    elif choice < 0.7:
        x = rng.uniform(0.15, 0.85) * width
        draw.rectangle((x, 0, x + rng.uniform(6, 14), height), fill=(gray, gray, gray, 255))
    else:
        x, y = rng.uniform(-0.2, 0.6) * width, rng.uniform(0.68, 0.85) * height
        color = (gray, int(gray * 0.9), int(gray * 0.75), 255)
        draw.rectangle((x, y, x + rng.uniform(50, 90), height), fill=color)


def _expose(
    image: np.ndarray, rng: np.random.Generator, camera: Camera, flicker: float
) -> np.ndarray:
    """The sensor: colors in [0, 255] as this camera records them."""
    pixels = (image.reshape(-1, 3) @ camera.matrix.T).reshape(image.shape)
    pixels *= camera.vignette * (camera.brightness * (1 + rng.normal(0, flicker)) * 4)
    # A table of the curve, because a power per pixel takes as long as drawing the person.
    pixels = camera.curve[np.clip(pixels, 0, 1023).astype(np.intp)]
    pixels += rng.standard_normal(image.shape, dtype=np.float32) * camera.noise
    return np.clip(pixels, 0, 255).astype(np.uint8)


def photograph(
    person: Person | None, camera: Camera, style: Style, rng: np.random.Generator, other: Person
) -> Image.Image:
    """One image of `person` (None: a false detection without anybody) under `camera`.

    Args:
        other: who may step in front of the person.
    """
    width, height = IMAGE
    left = int(rng.integers(_SCENE[0] - width))
    top = int(np.clip(camera.horizon - height * 0.55 + rng.normal(0, 6), 0, _SCENE[1] - height))
    scene = camera.scene.crop((left, top, left + width, top + height))
    canvas = Image.new("RGBA", CANVAS)
    if person is not None:
        draw_person(canvas, person, sample_pose(rng, camera, style.jitter))
    if person is None or rng.random() < style.occlusion:
        _occlude(canvas, rng, camera, other)
    figure = canvas.reduce(2)
    folds = rng.uniform(0.86, 1.14, (9, 5)).astype(np.float32)
    folds *= 1 + camera.light * np.linspace(-1, 1, 5, dtype=np.float32)
    shading = Image.fromarray(folds).resize(IMAGE, Image.Resampling.BILINEAR)
    lit = np.asarray(figure.convert("RGB"), np.float32) * np.asarray(shading)[..., None]
    figure_rgb = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    scene.paste(figure_rgb, (0, 0), figure.getchannel("A"))
    if camera.blur > 0.1:
        scene = scene.filter(ImageFilter.GaussianBlur(camera.blur))
    small = (round(width / camera.shrink), round(height / camera.shrink))
    scene = scene.resize(small, Image.Resampling.BILINEAR).resize(IMAGE, Image.Resampling.BILINEAR)
    return Image.fromarray(_expose(np.asarray(scene, np.float32), rng, camera, style.flicker))
