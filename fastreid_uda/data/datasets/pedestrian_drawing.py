"""Draws one pedestrian: a walking figure seen from any side, on a transparent canvas.

Points are complex numbers, x + y j, in body heights: the crown is at 0, the soles are at 1j. One
complex multiplication then scales and rotates a point onto the canvas.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .pedestrian_people import Color, Person, weave

CANVAS = (128, 256)  # width and height; twice the image, so that its edges are smooth
_CIRCLE = [cmath.rect(1.0, 2 * math.pi * k / 14) for k in range(14)]
_BREASTBONE = 0.17j
_CLOTH_ORIGIN = (112, 48)  # the pixel of the cloth that lies on the breastbone


@dataclass(frozen=True)
class Pose:
    """How a person stands in one image.

    Attributes:
        turn: radians; 0 walks towards the camera, pi away from it, pi / 2 to the right.
        phase: radians within the stride.
        stride: largest angle of the legs, in radians.
        feet: where the soles are, in canvas pixels, x + y j.
        size: canvas pixels from crown to sole.
        tilt: rotation of the whole figure in radians.
    """

    turn: float
    phase: float
    stride: float
    feet: complex
    size: float
    tilt: float = 0.0

    @property
    def front(self) -> float:
        """1 seen from the front, -1 from behind, 0 from the side."""
        return math.cos(self.turn)

    @property
    def side(self) -> float:
        """1 walking to the right, -1 to the left, 0 along the line of sight."""
        return math.sin(self.turn)


class _Pen:
    """Draws shapes that are given in body coordinates."""

    def __init__(self, canvas: Image.Image, person: Person, pose: Pose) -> None:
        self.canvas = canvas
        self.draw = ImageDraw.Draw(canvas)
        self.turn = cmath.rect(pose.size * person.height, pose.tilt)
        self.feet = pose.feet
        self.cloth = weave(person.upper, person.accent, person.pattern, person.pattern_size)

    def place(self, point: complex) -> tuple[float, float]:
        placed = (point - 1j) * self.turn + self.feet
        return placed.real, placed.imag

    def shape(self, points: Sequence[complex], color: Color) -> None:
        self.draw.polygon([self.place(p) for p in points], fill=(*color, 255))

    def clothes(self, points: Sequence[complex]) -> None:
        """Fill with the pattern of the upper clothes, which moves with the body."""
        placed = [self.place(p) for p in points]
        left, top = (int(min(p[k] for p in placed)) for k in (0, 1))
        right, bottom = (int(max(p[k] for p in placed)) + 1 for k in (0, 1))
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in placed], fill=255)
        x, y = self.place(_BREASTBONE)
        dx, dy = _CLOTH_ORIGIN[0] - int(x), _CLOTH_ORIGIN[1] - int(y)
        patch = self.cloth.crop((left + dx, top + dy, right + dx, bottom + dy))
        self.canvas.paste(patch, (left, top), mask)

    def oval(self, center: complex, rx: float, ry: float, color: Color) -> None:
        self.shape([center + complex(rx * p.real, ry * p.imag) for p in _CIRCLE], color)

    def trapezoid(
        self, top: complex, bottom: complex, halves: tuple[float, float], color: Color
    ) -> None:
        """Fill between two level edges, given by their middles and half widths."""
        upper, lower = halves
        self.shape([top - upper, top + upper, bottom + lower, bottom - lower], color)

    def limb(self, joints: Sequence[complex], widths: Sequence[float], color: Color) -> None:
        for a, b, start, end in zip(joints, joints[1:], widths, widths[1:], strict=False):
            across = 1j * (b - a) / (abs(b - a) or 1.0)
            outline = [a + start * across, b + end * across, b - end * across, a - start * across]
            self.shape(outline, color)
            self.oval(b, end, end, color)


def _shade(color: Color, factor: float) -> Color:
    red, green, blue = (min(255, int(part * factor)) for part in color)
    return red, green, blue


def _leg(pen: _Pen, person: Person, pose: Pose, lateral: int, light: float) -> None:
    angle = lateral * pose.stride * math.sin(pose.phase)
    lift = 0.035 * max(0.0, lateral * math.cos(pose.phase)) * abs(pose.front)
    hip = lateral * 0.05 * person.width * pose.front + 0.5j
    foot = hip + complex(0.46 * math.sin(angle) * pose.side, 0.46 * math.cos(angle) - lift)
    bend = 0.04 * (1.2 if angle * lateral < 0 else 0.4)
    knee = (hip + foot) / 2 + bend * pose.side
    trousers, skin = _shade(person.lower, light), _shade(person.skin, light)
    thick = 0.052 * person.width
    toe = foot + complex(0.05 * pose.side, 0.018)
    pen.limb([foot + 0.01j, toe], [0.022, 0.022], _shade(person.shoes, light))
    if person.lower_kind == "trousers":
        pen.limb([hip, knee, foot], [thick, thick * 0.82, thick * 0.62], trousers)
    else:
        pen.limb([hip, knee, foot], [thick * 0.8, thick * 0.62, thick * 0.4], skin)
        if person.lower_kind == "shorts":
            hem = hip + (knee - hip) * 0.85
            pen.limb([hip, hem], [thick * 1.05, thick * 1.1], trousers)


def _arm(pen: _Pen, person: Person, pose: Pose, lateral: int, light: float) -> complex:
    """Draw one arm and return where its hand is."""
    angle = -0.8 * lateral * pose.stride * math.sin(pose.phase)
    shoulder = lateral * 0.1 * person.width * pose.front + 0.2j
    out = lateral * 0.03 * pose.front
    elbow = shoulder + complex(0.16 * math.sin(angle) * pose.side + out, 0.16 * math.cos(angle))
    bent = angle + 0.3
    hand = elbow + complex(0.14 * math.sin(bent) * pose.side + out * 0.3, 0.14 * math.cos(bent))
    sleeve, skin = _shade(person.upper, light * 0.93), _shade(person.skin, light)
    thick = 0.034 * person.width
    if person.upper_kind == "t-shirt":
        pen.limb([shoulder, elbow, hand], [thick * 0.8, thick * 0.75, thick * 0.6], skin)
        pen.limb([shoulder, shoulder + (elbow - shoulder) * 0.75], [thick, thick * 1.1], sleeve)
    else:
        pen.oval(hand, 0.022, 0.026, skin)
        wide = thick * (1.25 if person.upper_kind == "coat" else 1.1)
        pen.limb([shoulder, elbow, hand - 0.02j], [wide, wide, wide * 0.85], sleeve)
    return hand


def _torso(pen: _Pen, person: Person, pose: Pose) -> None:
    breadth = person.width * math.hypot(pose.front, 0.66 * pose.side)
    shoulder, hip = 0.118 * breadth, 0.092 * breadth
    if person.lower_kind == "skirt":
        pen.trapezoid(0.46j, 0.7j, (hip, 0.13 * breadth), person.lower)
    else:
        pen.trapezoid(0.44j, 0.55j, (hip, hip), person.lower)
    end = {"t-shirt": 0.5, "jacket": 0.52, "coat": 0.69}[person.upper_kind]
    flare = hip * (1.25 if person.upper_kind == "coat" else 1.05)
    neck = 0.045 * breadth
    left = [-neck + 0.148j, -shoulder + 0.185j, -hip * 0.97 + 0.38j, -flare + end * 1j]
    right = [complex(-p.real, p.imag) for p in reversed(left)]
    pen.limb([0.1j, 0.17j], [0.03, 0.034], person.skin)
    pen.clothes([*left, *right])
    if abs(pose.front) > 0.35:
        _chest_or_back(pen, person, pose, hip, end)


def _chest_or_back(pen: _Pen, person: Person, pose: Pose, hip: float, end: float) -> None:
    """What the upper clothes show on one side only."""
    middle = 0.05 * pose.side
    is_open = person.upper_kind != "t-shirt"
    if is_open and pose.front > 0:
        gap = 0.22 * hip if person.upper_kind == "coat" else 0.42 * hip
        pen.trapezoid(middle + 0.16j, middle + end * 1j, (gap, 1.2 * gap), person.accent)
    elif person.pattern == "logo" and is_open == (pose.front < 0):
        half = 0.62 * hip
        pen.trapezoid(middle + 0.24j, middle + 0.36j, (half, half), person.accent)


def _head(pen: _Pen, person: Person, pose: Pose) -> None:
    center, forward = 0.07j, 0.014 * pose.side
    if person.hair_length == "long" and pose.front > 0:
        for lateral in (-1, 1):
            strand = 0.042 * lateral * pose.front - 1.6 * forward
            pen.limb([strand + 0.06j, strand * 1.15 + 0.2j], [0.02, 0.017], person.hair)
    if person.hair_length != "bald":
        pen.oval(center - forward - 0.006j, 0.053, 0.07, person.hair)
    visible = max(0.0, pose.front + 0.55)  # the face turns out of sight gradually
    if person.hair_length == "bald":
        pen.oval(center, 0.048, 0.066, person.skin)
    elif visible > 0:
        pen.oval(center + forward + 0.014j, 0.03 + 0.014 * min(1.0, visible), 0.052, person.skin)
    if person.hair_length == "long" and pose.front <= 0:
        pen.oval(0.115j - forward, 0.055, 0.1, person.hair)


def _bag(pen: _Pen, person: Person, pose: Pose, hand: complex) -> None:
    """Draw the bag after the body, where the body does not hide it."""
    breadth = person.width * math.hypot(pose.front, 0.66 * pose.side)
    dark = _shade(person.bag_color, 0.7)
    if person.bag == "backpack":
        if pose.front < -0.3:
            half = 0.085 * breadth
            pen.oval(0.3j, half, 0.115, dark)
            pen.oval(0.3j, half * 0.86, 0.1, person.bag_color)
        elif pose.front > 0.3:
            for lateral in (-1, 1):
                strap = [0.07 * breadth * lateral + 0.165j, 0.075 * breadth * lateral + 0.36j]
                pen.limb(strap, [0.014, 0.014], person.bag_color)
    elif person.bag == "shoulder bag":
        at = 0.1 * person.width * pose.front + 0.06 * pose.side + 0.47j
        pen.limb([-0.07 * person.width * pose.front + 0.17j, at - 0.05j], [0.011, 0.011], dark)
        pen.trapezoid(at - 0.05j, at + 0.06j, (0.065, 0.07), person.bag_color)
    elif person.bag == "handbag":
        at = hand + 0.06j
        pen.limb([hand, at], [0.012, 0.03], dark)
        pen.trapezoid(at, at + 0.1j, (0.05, 0.06), person.bag_color)


def draw_person(canvas: Image.Image, person: Person, pose: Pose) -> None:
    """Draw `person` onto an RGBA canvas, from the far limbs to the near ones."""
    pen = _Pen(canvas, person, pose)
    x, y = pen.place(1.015j)
    reach = 0.16 * pose.size
    pen.draw.ellipse((x - reach, y - reach / 5, x + reach, y + reach / 5), fill=(12, 12, 16, 95))
    near = 1 if pose.side >= 0 else -1
    hidden_hand = _arm(pen, person, pose, -near, 0.8)
    if person.bag == "backpack" and abs(pose.front) < 0.75:
        behind = -0.1 * pose.side + 0.3j
        pen.oval(behind, 0.075, 0.115, person.bag_color)
    _leg(pen, person, pose, -near, 0.82)
    _leg(pen, person, pose, near, 1.0)
    _torso(pen, person, pose)
    _head(pen, person, pose)
    hand = hidden_hand
    if person.bag != "backpack":
        hand = _arm(pen, person, pose, near, 1.0)
    _bag(pen, person, pose, hand)
    if person.bag == "backpack":
        _arm(pen, person, pose, near, 1.0)


def contact_sheet(rows: Sequence[Sequence[Image.Image]], gap: int = 2) -> Image.Image:
    """Images of one size side by side, one row per entry of `rows`."""
    width, height = rows[0][0].size
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + gap), len(rows) * (height + gap)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * (width + gap), y * (height + gap)))
    return sheet
