"""Who walks through the synthetic domains: the looks that tell one identity from another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]

COLORS: dict[str, Color] = {
    "black": (34, 34, 38),
    "charcoal": (72, 74, 80),
    "gray": (128, 128, 130),
    "silver": (182, 184, 186),
    "white": (234, 234, 230),
    "navy": (34, 46, 92),
    "blue": (46, 92, 182),
    "sky": (132, 180, 222),
    "teal": (26, 128, 130),
    "green": (44, 122, 62),
    "olive": (104, 106, 54),
    "yellow": (226, 192, 56),
    "orange": (222, 122, 42),
    "red": (190, 36, 42),
    "maroon": (110, 28, 44),
    "pink": (228, 148, 172),
    "purple": (112, 62, 146),
    "beige": (208, 188, 152),
    "brown": (112, 76, 50),
}
_CLOTH = (224, 288)  # wider and higher than any piece of clothes on the canvas
SKINS: tuple[Color, ...] = ((240, 204, 178), (220, 172, 138), (176, 124, 90), (108, 72, 52))
HAIRS: dict[str, Color] = {
    "black": (28, 24, 24),
    "brown": (86, 56, 34),
    "blond": (206, 168, 96),
    "red": (150, 70, 32),
    "gray": (168, 166, 164),
}


@dataclass(frozen=True)
class Person:
    """What one identity looks like, in every image of it.

    Attributes:
        hair_length: "bald", "short" or "long".
        upper_kind: "t-shirt", "jacket" (open in front over `accent`) or "coat" (to the thighs).
        lower_kind: "trousers", "shorts" or "skirt".
        accent: the pattern's color, and that of what an open jacket or coat shows.
        pattern: "plain", "stripes" (lying), "bars" (standing), "checks", "dots" or "logo" (on the
            chest of a T-shirt, on the back of a jacket or coat).
        pattern_size: the pattern's period in pixels of the drawing canvas.
        bag: "none", "backpack", "shoulder bag" or "handbag".
        height: body height relative to the average.
        width: body width relative to the average.
    """

    skin: Color
    hair: Color
    hair_length: str
    upper_kind: str
    upper: Color
    accent: Color
    pattern: str
    pattern_size: int
    lower_kind: str
    lower: Color
    shoes: Color
    bag: str
    bag_color: Color
    height: float
    width: float

    def differences(self, other: Person) -> int:
        """How many of the traits that survive a small blurred image differ."""
        traits = ("hair", "hair_length", "upper_kind", "upper", "pattern", "lower_kind", "lower")
        count = sum(getattr(self, trait) != getattr(other, trait) for trait in traits)
        count += self.pattern != "plain" and self.accent != other.accent
        return count + ((self.bag, self.bag_color) != (other.bag, other.bag_color))


@dataclass(frozen=True)
class Fashion:
    """How often people of one domain wear what; every field maps a choice to its frequency."""

    upper: dict[str, float]
    lower: dict[str, float]
    upper_kind: dict[str, float]
    lower_kind: dict[str, float]
    pattern: dict[str, float]
    bag: dict[str, float]


# Summer in the source, winter in the target: the same things, in other proportions.
SUMMER = Fashion(
    upper=dict.fromkeys(("white", "sky", "red", "yellow", "green", "orange", "pink", "teal"), 3.0)
    | dict.fromkeys(("blue", "purple", "silver", "beige", "black", "olive"), 1.5),
    lower={
        "beige": 3,
        "sky": 2,
        "blue": 3,
        "white": 2,
        "olive": 2,
        "black": 2,
        "gray": 1,
        "red": 1,
    },
    upper_kind={"t-shirt": 8, "jacket": 1.5, "coat": 0.5},
    lower_kind={"trousers": 4, "shorts": 4, "skirt": 2},
    pattern={"plain": 3, "stripes": 2, "bars": 1, "checks": 1, "dots": 2, "logo": 2},
    bag={"none": 4, "backpack": 3, "shoulder bag": 2, "handbag": 2},
)
WINTER = Fashion(
    upper=dict.fromkeys(("black", "navy", "gray", "maroon", "olive", "brown", "teal"), 3.0)
    | dict.fromkeys(("red", "beige", "purple", "blue", "white", "green", "orange", "sky"), 1.8),
    lower={"navy": 2, "black": 3, "gray": 2, "brown": 2, "beige": 2, "olive": 2, "maroon": 1.5}
    | {"blue": 2, "white": 1},
    upper_kind={"t-shirt": 2, "jacket": 5, "coat": 4},
    lower_kind={"trousers": 8, "shorts": 0.7, "skirt": 2},
    pattern={"plain": 4, "stripes": 2, "bars": 1.5, "checks": 2.5, "dots": 1, "logo": 1.5},
    bag={"none": 3, "backpack": 3, "shoulder bag": 3, "handbag": 3},
)


def _pick(rng: np.random.Generator, frequencies: dict[str, float]) -> str:
    weights = np.array(list(frequencies.values()), dtype=float)
    return list(frequencies)[rng.choice(len(weights), p=weights / weights.sum())]


def _contrasting(rng: np.random.Generator, base: Color) -> Color:
    """A color that stays visible beside `base` after blur and noise."""
    others = [
        c for c in COLORS.values() if sum(abs(a - b) for a, b in zip(c, base, strict=True)) > 170
    ]
    return others[rng.integers(len(others))]


def _dress(rng: np.random.Generator, fashion: Fashion) -> Person:
    upper = COLORS[_pick(rng, fashion.upper)]
    skin = SKINS[rng.integers(len(SKINS))]
    hair = HAIRS[_pick(rng, {"black": 4.0, "brown": 4.0, "blond": 2.0, "red": 1.0, "gray": 1.0})]
    hair_length = _pick(rng, {"bald": 1.0, "short": 5.0, "long": 5.0})
    bag = _pick(rng, fashion.bag)
    bag_color = list(COLORS.values())[rng.integers(len(COLORS))]
    return Person(
        skin=skin,
        # What nobody can see must not count as a difference between two people.
        hair=skin if hair_length == "bald" else hair,
        hair_length=hair_length,
        upper_kind=_pick(rng, fashion.upper_kind),
        upper=upper,
        accent=_contrasting(rng, upper),
        pattern=_pick(rng, fashion.pattern),
        pattern_size=int(rng.integers(16, 29)),
        lower_kind=_pick(rng, fashion.lower_kind),
        lower=COLORS[_pick(rng, fashion.lower)],
        shoes=COLORS[_pick(rng, {"black": 4.0, "white": 3.0, "brown": 2.0, "red": 1.0})],
        bag=bag,
        bag_color=COLORS["black"] if bag == "none" else bag_color,
        height=float(rng.uniform(0.9, 1.06)),
        width=float(rng.uniform(0.88, 1.2)),
    )


def _look_alike(rng: np.random.Generator, person: Person, model: Person) -> Person:
    """`person` in the colors, or in one of the colors, of somebody who was there before."""
    shared = rng.random()
    if shared < 0.3:
        return replace(person, upper=model.upper, lower=model.lower, accent=model.accent)
    if shared < 0.65:
        return replace(person, upper=model.upper, upper_kind=model.upper_kind, accent=model.accent)
    return replace(person, lower=model.lower, lower_kind=model.lower_kind)


def sample_people(
    rng: np.random.Generator, fashion: Fashion, count: int, look_alike: float = 0.5
) -> list[Person]:
    """`count` people, each pair of whom differs in at least two visible traits.

    Args:
        rng: the only source of chance.
        fashion: what people of the domain wear.
        count: the number of people.
        look_alike: share of people who copy clothes of an earlier one, which keeps a single
            color from telling who somebody is.
    """
    people: list[Person] = []
    while len(people) < count:
        person = _dress(rng, fashion)
        if people and rng.random() < look_alike:
            person = _look_alike(rng, person, people[rng.integers(len(people))])
        if all(person.differences(other) >= 2 for other in people):
            people.append(person)
    return people


@lru_cache(maxsize=512)
def weave(color: Color, accent: Color, pattern: str, size: int) -> Image.Image:
    """A sheet of cloth of `pattern` in `accent` on `color`, `size` pixels from line to line."""
    sheet = Image.new("RGBA", _CLOTH, (*color, 255))
    draw = ImageDraw.Draw(sheet)
    width, height = _CLOTH
    ink = (*accent, 255)
    if pattern in ("stripes", "checks"):
        for y in range(0, height, size):
            draw.rectangle((0, y, width, y + size * 0.45), fill=ink)
    if pattern in ("bars", "checks"):
        for x in range(0, width, size):
            draw.rectangle((x, 0, x + size * 0.4, height), fill=ink)
    if pattern == "dots":
        for row, y in enumerate(range(0, height, size)):
            for x in range((row % 2) * size // 2, width, size):
                draw.ellipse((x, y, x + size * 0.55, y + size * 0.55), fill=ink)
    return sheet
