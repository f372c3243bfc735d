"""The synthetic cameras: the scene behind the people, and what the lens does to the colors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .pedestrian_drawing import CANVAS, Pose, draw_person
from .pedestrian_people import SUMMER, WINTER, Fashion, Person
from .pedestrian_scenes import SCENE, draw_scene

IMAGE = (CANVAS[0] // 2, CANVAS[1] // 2)
CAMERAS = 6  # fast-reid's reader of Market-1501 asserts cameras 1 to 6


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
        cast=0.09,
        brightness=(0.75, 1.08),
        gamma=(0.8, 1.25),
        contrast=(0.8, 1.1),
        shrink=(1.2, 1.7),
        blur=(0.2, 0.6),
        noise=(4.0, 8.0),
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
    noise: np.ndarray
    vignette: np.ndarray
    light: float
    turn: float
    size: float


def _response(gamma: float, contrast: float) -> np.ndarray:
    """Recorded color, in [0, 255] or a little beyond, of 1024 levels of light."""
    light = np.linspace(0, 1, 1024, dtype=np.float32)
    return ((light**gamma - 0.5) * contrast + 0.5) * 255


def make_camera(rng: np.random.Generator, style: Style, number: int) -> Camera:
    """Camera `number` (from 0) of a domain, with values sampled from the domain's style."""
    horizon = int(rng.uniform(0.5, 0.66) * SCENE[1])
    matrix = np.eye(3) + rng.normal(0, style.cast / 2, (3, 3))
    matrix = np.diag(1 + rng.normal(0, style.cast, 3)) @ matrix
    y, x = np.mgrid[-1 : 1 : IMAGE[1] * 1j, -1 : 1 : IMAGE[0] * 1j]
    corners = 1 - rng.uniform(*style.vignette) * np.clip(x**2 + y**2, 0, 2) / 2
    return Camera(
        scene=draw_scene(rng, style.walls[number], style.floors[number], horizon),
        horizon=horizon,
        matrix=matrix.astype(np.float32),
        brightness=float(rng.uniform(*style.brightness)),
        curve=_response(rng.uniform(*style.gamma), rng.uniform(*style.contrast)),
        shrink=float(rng.uniform(*style.shrink)),
        blur=float(rng.uniform(*style.blur)),
        noise=rng.standard_normal((2 * IMAGE[1], 2 * IMAGE[0], 3), dtype=np.float32)
        * np.float32(rng.uniform(*style.noise)),
        vignette=np.repeat(corners[..., None], 3, axis=2).astype(np.float32),
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
    # Another piece of one sheet of noise each time: fresh noise would take half of the time.
    y, x = rng.integers(IMAGE[1]), rng.integers(IMAGE[0])
    pixels += camera.noise[y : y + IMAGE[1], x : x + IMAGE[0]]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def photograph(
    person: Person | None, camera: Camera, style: Style, rng: np.random.Generator, other: Person
) -> Image.Image:
    """One image of `person` (None: a false detection), in front of whom `other` may step."""
    width, height = IMAGE
    left = int(rng.integers(SCENE[0] - width))
    top = int(np.clip(camera.horizon - height * 0.55 + rng.normal(0, 6), 0, SCENE[1] - height))
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
        scene = scene.filter(ImageFilter.BoxBlur(camera.blur))
    small = (round(width / camera.shrink), round(height / camera.shrink))
    scene = scene.resize(small, Image.Resampling.BILINEAR).resize(IMAGE, Image.Resampling.BILINEAR)
    return Image.fromarray(_expose(np.asarray(scene, np.float32), rng, camera, style.flicker))
