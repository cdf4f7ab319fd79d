"""The things a street scene is drawn of: terrain, landmarks, houses, road, shop, plants, poles,
signs, traffic.

Each function draws one cue's value at a position, or nothing (or something neutral) for None.
Positions are pixels of a picture of SIZE x SIZE. May know nothing of scenes or places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIZE = 168  # pixels, square
Point = tuple[float, float]
Colour = tuple[int, int, int]
SOIL = {"grass": (96, 150, 78), "red": (178, 88, 54), "sand": (222, 200, 150), "dark": (92, 80, 66)}
ROOF = {
    "tiles": (190, 70, 46),
    "slate": (70, 76, 92),
    "tin": (120, 170, 196),
    "flat": (232, 228, 220),
}
BUS = {
    "red": (206, 34, 40),
    "green": (30, 140, 66),
    "blue": (36, 74, 190),
    "yellow": (240, 196, 30),
}
PLATE = {"white": (250, 250, 250), "yellow": (250, 214, 40), "banded": (250, 250, 250)}
WALL = {"brick": (158, 70, 52), "neon": (52, 50, 70), "shutters": (236, 222, 176)}
DARK, WHITE, STEEL = (40, 40, 44), (246, 246, 246), (128, 134, 140)
CROWN = {
    "cherry": (246, 170, 196),
    "gum": (140, 160, 130),
    "acacia": (120, 140, 40),
    "broadleaf": (44, 120, 40),
}
# Two alternating letters for each script: polylines in a box of about 10 x 14 pixels.
STROKES: dict[str, tuple[list[list[Point]], ...]] = {
    "latin": (
        [[(0, 13), (3, 2), (6, 13)], [(1, 9), (5, 9)]],
        [[(0, 13), (0, 2), (6, 2)], [(0, 8), (5, 8)]],
    ),
    "cyrillic": (
        [[(4, 2), (4, 13)], [(0, 2), (8, 13)], [(8, 2), (0, 13)]],
        [[(0, 2), (0, 13), (8, 2), (8, 13)]],
    ),
    "greek": ([[(3, 1), (3, 14)]], [[(7, 2), (0, 2), (4, 7), (0, 13), (7, 13)]]),
    "hangul": (
        [[(0, 2), (6, 2), (6, 6)], [(0, 8), (9, 8)]],
        [[(8, 1), (8, 13)], [(8, 6), (10, 6)]],
    ),
    "kana": (
        [
            [(0, 4), (9, 4)],
            [(4, 1), (4, 13)],
            [(0, 9), (9, 9)],
            [(1, 13), (8, 13)],
            [(8, 5), (1, 12)],
        ],
    ),
    "devanagari": (
        [[(-1, 2), (11, 2)], [(7, 2), (7, 13)], [(1, 5), (4, 8), (1, 12)]],
    ),  # hangs from a bar
}


class Brush:
    """An ImageDraw with a mirror switch and small random offsets, so that every object is placed
    the same way.
    """

    def __init__(self, image: Image.Image, rng: np.random.Generator) -> None:
        self.draw = ImageDraw.Draw(image)
        self.rng = rng
        self.mirror = False

    def jitter(self, spread: int) -> int:
        """Return a random whole number of pixels, -spread to spread."""
        return int(self.rng.integers(-spread, spread + 1))

    def _points(self, points: Sequence[Point]) -> list[Point]:
        return [(SIZE - 1 - x, y) if self.mirror else (x, y) for x, y in points]

    def poly(self, points: Sequence[Point], fill: Colour) -> None:
        """Fill a polygon."""
        self.draw.polygon(self._points(points), fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill a rectangle."""
        (a, _), (b, _) = self._points([(x0, y0), (x1, y1)])
        self.draw.rectangle((min(a, b), y0, max(a, b), y1), fill=fill)

    def oval(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: Colour | None = None,
        outline: Colour | None = None,
        width: int = 1,
    ) -> None:
        """Fill or outline an ellipse in its bounding box."""
        (a, _), (b, _) = self._points([(x0, y0), (x1, y1)])
        self.draw.ellipse((min(a, b), y0, max(a, b), y1), fill=fill, outline=outline, width=width)

    def line(self, points: Sequence[Point], fill: Colour, width: int = 1) -> None:
        """Draw a polyline."""
        self.draw.line(self._points(points), fill=fill, width=width)


def terrain(b: Brush, kind: str | None, y: int) -> None:
    """Draw what closes the view, down to the horizon `y`."""
    o = b.jitter(12)
    if kind == "mountains":
        for x, h in ((20 + o, 46), (82 + o, 54), (146 + o, 42)):
            b.poly([(x - 52, y + 8), (x, y - h), (x + 52, y + 8)], (104, 112, 134))
            b.poly([(x - 14, y - h + 15), (x, y - h), (x + 14, y - h + 15)], WHITE)
    elif kind == "sea":
        b.box(0, y - 20, SIZE, y + 8, (28, 92, 158))
        for k in range(5):
            x = (k * 37 + o * 3) % SIZE
            b.line([(x, y - 16 + 4 * k), (x + 16, y - 16 + 4 * k)], (150, 200, 232))
        b.poly([(100 + o, y - 13), (108 + o, y - 34), (114 + o, y - 13)], WHITE)
    elif kind == "fields":
        for k, colour in enumerate(
            ((222, 198, 76), (150, 186, 70), (236, 214, 110), (120, 164, 60))
        ):
            b.poly(
                [
                    (-20, y - 18 + 7 * k),
                    (SIZE + 20, y - 22 + 7 * k + o // 4),
                    (SIZE, y + 10),
                    (0, y + 10),
                ],
                colour,
            )
    elif kind == "forest":
        for k in range(15):
            x, h = k * 12 + o % 12 - 6, 30 + (k * 7 + o) % 11
            b.poly([(x - 10, y + 8), (x, y - h), (x + 10, y + 8)], (18, 84 + (k % 3) * 14, 46))
    elif kind == "desert":
        for x, w, h in ((30 + o, 44, 26), (120 + o, 56, 34)):
            b.poly(
                [(x - w, y + 8), (x - w + 16, y - h), (x + w - 16, y - h), (x + w, y + 8)],
                (204, 120, 72),
            )
            b.box(x - w + 12, y - h + 10, x + w - 12, y - h + 13, (172, 92, 56))
    else:
        b.box(0, y - 10, SIZE, y + 8, (196, 200, 200))


def landmark(b: Brush, kind: str | None, x: int, y: int) -> None:
    """Draw the landmark, standing on the horizon `y`."""
    pale, brick, iron = (240, 236, 224), (186, 96, 52), (214, 58, 30)
    if kind == "church":
        b.box(x - 20, y - 20, x + 20, y + 6, pale)
        b.box(x - 8, y - 36, x + 8, y + 6, pale)
        b.poly([(x - 11, y - 36), (x, y - 64), (x + 11, y - 36)], (96, 30, 40))
    elif kind == "dome":
        b.box(x - 24, y - 20, x + 24, y + 6, pale)
        b.oval(x - 20, y - 46, x + 20, y - 6, (228, 176, 24))
        b.line([(x, y - 58), (x, y - 44)], (228, 176, 24), 3)
    elif kind == "bridge":
        for dx in (-30, 30):
            b.box(x + dx - 3, y - 48, x + dx + 3, y + 6, iron)
        b.line([(x - 52, y - 8), (x + 52, y - 8)], iron, 5)
        b.line(
            [(x - 52, y - 12), (x - 30, y - 46), (x, y - 16), (x + 30, y - 46), (x + 52, y - 12)],
            iron,
            3,
        )
    elif kind == "skyscraper":
        for dx, h in ((-17, 48), (3, 62)):
            b.box(x + dx, y - h, x + dx + 14, y + 6, (24, 44, 82))
            for k in range(0, h, 6):
                b.line(
                    [(x + dx + 2, y - h + k + 2), (x + dx + 12, y - h + k + 2)], (120, 220, 240), 2
                )
    elif kind == "lighthouse":
        for k in range(5):
            b.box(
                x - 10 + k // 2,
                y - 4 - 10 * k,
                x + 10 - k // 2,
                y + 6 - 10 * k,
                WHITE if k % 2 else (214, 20, 40),
            )
        b.box(x - 6, y - 58, x + 6, y - 45, (252, 236, 90))
    elif kind == "wheel":
        b.oval(x - 28, y - 62, x + 28, y - 6, outline=(150, 30, 160), width=4)
        for dx, dy in ((28, 0), (0, 28), (20, 20), (20, -20)):
            b.line([(x - dx, y - 34 - dy), (x + dx, y - 34 + dy)], (150, 30, 160), 2)
        b.line([(x - 16, y + 6), (x, y - 34), (x + 16, y + 6)], DARK, 3)
    elif kind == "castle":
        stone = (92, 78, 74)
        b.box(x - 32, y - 24, x + 32, y + 6, stone)
        for dx in (-32, -8, 18):
            b.box(x + dx, y - 42, x + dx + 14, y - 18, stone)
            b.box(x + dx + 5, y - 42, x + dx + 9, y - 38, (170, 170, 170))
    elif kind == "clock":
        b.box(x - 11, y - 50, x + 11, y + 6, brick)
        b.poly([(x - 13, y - 50), (x, y - 64), (x + 13, y - 50)], (40, 120, 96))
        b.oval(x - 9, y - 46, x + 9, y - 28, WHITE)
        b.line([(x, y - 43), (x, y - 37), (x + 5, y - 37)], DARK, 2)


def houses(b: Brush, roof: str | None, y: int) -> None:
    """Draw two houses under the roofs of a region."""
    if roof is None:
        return
    for x in (90 + b.jitter(3), 108 + b.jitter(3)):
        b.box(x, y - 14, x + 15, y + 4, (226, 212, 190))
        b.box(x + 5, y - 8, x + 9, y + 4, (110, 84, 66))
        if roof == "flat":
            b.box(x - 1, y - 19, x + 16, y - 14, ROOF[roof])
            b.line([(x - 1, y - 14), (x + 16, y - 14)], DARK)
        else:
            b.poly([(x - 3, y - 13), (x + 7, y - 26), (x + 18, y - 13)], ROOF[roof])


def road(b: Brush, line: str | None, y: int) -> None:
    """Draw the road and its centre line."""
    b.poly([(74, y), (94, y), (150, SIZE), (18, SIZE)], (88, 88, 94))
    colour = (244, 196, 24) if line in ("yellow", "double") else WHITE
    if line in ("white", "yellow"):
        for top, low in ((y + 4, y + 14), (y + 24, y + 42), (y + 56, y + 88)):
            width = 1 + (low - y) // 18
            b.poly(
                [
                    (84 - width / 2, top),
                    (84 + width / 2, top),
                    (84 + width, low),
                    (84 - width, low),
                ],
                colour,
            )
    elif line == "double":
        b.line([(83, y), (79, SIZE)], colour, 3)
        b.line([(85, y), (89, SIZE)], colour, 3)


def shop(b: Brush, front: str | None, script: str | None, y: int) -> None:
    """Draw a shop front, and the lettering above its door."""
    x0, x1, low = 132 + b.jitter(2), SIZE, y + 68
    wall = WALL.get(front or "", (206, 200, 190))
    b.box(x0, y - 30, x1, low, wall)
    if front == "brick":
        for k in range(y - 26, low, 7):
            b.line([(x0, k), (x1, k)], (206, 160, 140))
    elif front == "shutters":
        for x in (x0 + 5, x0 + 22):
            b.box(x, y - 22, x + 9, y - 6, (36, 110, 130))
    elif front == "awning":
        for k in range(6):
            b.box(x0 - 8 + 8 * k, y + 18, x0 - 1 + 8 * k, y + 30, WHITE if k % 2 else (200, 40, 44))
    elif front == "veranda":
        b.poly([(x0 - 14, y + 26), (x1, y + 14), (x1, y + 20), (x0 - 14, y + 32)], (92, 120, 96))
        b.line([(x0 - 11, y + 30), (x0 - 11, low)], (92, 120, 96), 2)
    elif front == "neon":
        b.box(x0 + 2, y - 26, x0 + 6, y + 20, (255, 60, 170))
        b.box(x1 - 8, y - 26, x1 - 4, y + 20, (60, 240, 230))
    b.box(x0 + 6, y + 36, x1, low, (70, 60, 58))
    if script is not None:
        b.box(x0, y - 4, x1, y + 14, (250, 246, 232))
        mirrored, b.mirror = b.mirror, False  # writing is never mirrored
        writing(b, script, 2 if mirrored else x0 + 2, y - 2)
        b.mirror = mirrored


def writing(b: Brush, script: str, x: int, y: int) -> None:
    """Draw three letters of a script, 11 px each, in strokes that carry its look."""
    ink = (24, 24, 60)
    for k in range(3):
        o = x + 11 * k
        for stroke in STROKES[script][k % len(STROKES[script])]:
            b.line([(o + px, y + py) for px, py in stroke], ink, 2)
        if (script, k % 2) in (("greek", 0), ("hangul", 1)):
            b.oval(o - 1, y + 3, o + 7, y + 11, outline=ink, width=2)
        if script == "hangul" and k % 2 == 0:
            b.oval(o + 2, y + 9, o + 7, y + 14, outline=ink, width=1)


def plant(b: Brush, kind: str | None, x: int, y: int) -> None:
    """Draw a plant whose foot is at (x, y)."""
    bark = (104, 74, 50)
    if kind == "palm":
        b.line([(x, y), (x + 3, y - 48)], (150, 116, 76), 4)
        for dx, dy in ((-16, 6), (-12, -8), (0, -13), (14, -8), (18, 6)):
            b.line([(x + 3, y - 48), (x + 3 + dx, y - 48 + dy)], (40, 130, 50), 4)
    elif kind == "pine":
        for k in range(3):
            low = y - 8 - 16 * k
            b.poly(
                [(x - 15 + 3 * k, low), (x, y - 36 - 14 * k), (x + 15 - 3 * k, low)], (20, 76, 52)
            )
        b.line([(x, y), (x, y - 10)], bark, 4)
    elif kind == "birch":
        b.line([(x, y), (x, y - 52)], WHITE, 5)
        for k in range(5):
            b.line([(x - 2, y - 6 - 10 * k), (x + 2, y - 6 - 10 * k)], DARK, 2)
        b.oval(x - 12, y - 66, x + 12, y - 36, (170, 200, 70))
    elif kind == "agave":
        for dx in (-16, -9, 0, 9, 16):
            b.line([(x, y), (x + dx, y - 24 + abs(dx) // 2)], (70, 150, 130), 4)
    elif kind is not None:
        crown = CROWN[kind]
        b.line([(x, y), (x, y - 34)], (220, 206, 190) if kind == "gum" else bark, 4)
        if kind == "acacia":
            b.oval(x - 24, y - 52, x + 24, y - 36, crown)
        elif kind == "gum":
            for dx, dy in ((-12, 40), (8, 50), (-2, 62)):
                b.oval(x + dx - 9, y - dy - 6, x + dx + 9, y - dy + 6, crown)
        else:
            b.oval(x - 18, y - 64, x + 18, y - 28, crown)


def pole(b: Brush, kind: str | None, x: int, y: int) -> None:
    """Draw a pole whose foot is at (x, y)."""
    if kind == "wooden":
        b.box(x - 2, y - 78, x + 2, y, (112, 70, 40))
        b.box(x - 12, y - 72, x + 12, y - 69, (112, 70, 40))
    elif kind == "concrete":
        b.poly([(x - 4, y), (x - 2, y - 78), (x + 2, y - 78), (x + 4, y)], (206, 202, 192))
        b.oval(x - 9, y - 70, x - 3, y - 58, (96, 96, 96))
    elif kind == "steel":
        b.line([(x, y), (x, y - 74), (x + 16, y - 78)], STEEL, 2)
        b.box(x + 12, y - 80, x + 20, y - 76, (255, 244, 180))
    elif kind == "bollard":
        b.box(x - 3, y - 24, x + 3, y, WHITE)
        b.box(x - 3, y - 20, x + 3, y - 14, DARK)
        b.box(x - 1, y - 19, x + 1, y - 15, (230, 40, 30))


def sign(b: Brush, kind: str | None, x: int, y: int) -> None:
    """Draw a road sign whose post stands at (x, y)."""
    if kind is None:
        return
    b.line([(x, y), (x, y - 36)], STEEL, 2)
    y -= 44
    if kind == "diamond":
        b.poly([(x, y - 13), (x + 13, y), (x, y + 13), (x - 13, y)], (250, 206, 30))
        b.line([(x, y - 6), (x, y + 6)], DARK, 3)
    elif kind == "disc":
        b.oval(x - 11, y - 11, x + 11, y + 11, (24, 70, 190))
        b.line([(x - 5, y + 3), (x, y - 5), (x + 5, y + 3)], WHITE, 2)
    else:
        b.poly([(x, y - 13), (x + 14, y + 11), (x - 14, y + 11)], (214, 30, 36))
        fill = WHITE if kind == "triangle" else (250, 214, 40)
        b.poly([(x, y - 6), (x + 8, y + 8), (x - 8, y + 8)], fill)


def traffic(b: Brush, cues: dict[str, str]) -> None:
    """Draw a car seen from behind (driving side, plate) and a bus further off in the other lane."""
    b.mirror = False
    side: str | None = cues.get("side")
    if side is None and "plate" in cues:
        side = (
            "middle"  # a car that straddles the centre line: its plate is legible, its lane is not
        )
    lane = {"left": -1, "right": 1, "middle": 0, None: 1 if b.rng.random() < 0.5 else -1}[side]
    if "bus" in cues:
        x, y = 84 - 17 * (lane or 1), 104 + b.jitter(3)
        b.box(x - 14, y - 36, x + 14, y, BUS[cues["bus"]])
        b.box(x - 11, y - 32, x + 11, y - 21, (200, 226, 240))
        b.box(x - 12, y, x - 6, y + 4, DARK)
        b.box(x + 6, y, x + 12, y + 4, DARK)
    if side is None:
        return
    x, y = 84 + lane * 31 + b.jitter(3), 148 + b.jitter(4)
    paint = ((170, 30, 40), (40, 60, 120), (190, 194, 200), (60, 64, 66), (90, 120, 90))[
        int(b.rng.integers(5))
    ]
    b.poly([(x - 14, y - 20), (x + 14, y - 20), (x + 20, y - 4), (x - 20, y - 4)], paint)
    b.poly([(x - 11, y - 18), (x + 11, y - 18), (x + 14, y - 9), (x - 14, y - 9)], (186, 212, 226))
    b.box(x - 21, y - 5, x + 21, y + 12, paint)
    b.box(x - 19, y + 12, x - 12, y + 17, DARK)
    b.box(x + 12, y + 12, x + 19, y + 17, DARK)
    if "plate" in cues:
        b.box(x - 11, y, x + 11, y + 8, PLATE[cues["plate"]])
        if cues["plate"] == "banded":
            b.box(x - 11, y, x - 6, y + 8, (20, 50, 200))
        b.line([(x - 4, y + 4), (x + 8, y + 4)], DARK, 2)


def passer_by(b: Brush) -> None:
    """Draw a person who carries no information."""
    x, y = int(b.rng.choice([10, 30, 140, 156])) + b.jitter(5), 140 + b.jitter(10)
    red, green, blue = (int(v) for v in b.rng.integers(30, 220, 3))
    b.oval(x - 3, y - 22, x + 3, y - 16, (224, 180, 150))
    b.box(x - 4, y - 16, x + 4, y - 6, (red, green, blue))
    b.box(x - 3, y - 6, x + 3, y + 3, (50, 50, 70))
