"""Draws a street scene: a small picture in which a person can recognise every visible cue.

`draw` is a pure function of the scene. Things that carry no information (which side the shop stands
on, positions, paint, passers-by, exposure, noise) vary with the scene's seed. May know nothing of
texts or models."""

from __future__ import annotations

import numpy as np
from PIL import Image

from geoagent_rl.tiny import scene_objects as objects
from geoagent_rl.tiny.scene_objects import SIZE, SOIL, Brush
from geoagent_rl.tiny.scene_world import Scene

SKY = {"blue": ((84, 150, 226), (190, 220, 246)), "grey": ((150, 156, 166), (198, 202, 208))}
SKY |= {"hazy": ((214, 190, 142), (240, 228, 196))}


def draw(scene: Scene) -> Image.Image:
    """Return the picture of a scene: RGB, SIZE x SIZE."""
    rng = np.random.default_rng(scene.seed)
    image = Image.fromarray(_sky(scene, rng))
    brush = Brush(image, rng)
    horizon = 66 + brush.jitter(3)
    brush.mirror = bool(
        rng.random() < 0.5
    )  # which side the shop is on; the driving side is not mirrored
    cues = dict(scene.seen(tuple(name for name, _ in scene.place.cues)))
    objects.terrain(brush, cues.get("terrain"), horizon)
    objects.landmark(brush, cues.get("landmark"), 62 + brush.jitter(6), horizon + 2)
    objects.houses(brush, cues.get("roof"), horizon + 6)
    brush.box(0, horizon + 6, SIZE, SIZE, SOIL.get(cues.get("soil", ""), (140, 138, 132)))
    objects.road(brush, cues.get("line"), horizon + 6)
    objects.shop(brush, cues.get("front"), cues.get("script"), horizon)
    objects.plant(brush, cues.get("plant"), 20 + brush.jitter(4), 128 + brush.jitter(4))
    objects.pole(brush, cues.get("pole"), 42 + brush.jitter(3), 120 + brush.jitter(3))
    objects.sign(brush, cues.get("sign"), 120 + brush.jitter(3), 122 + brush.jitter(3))
    objects.traffic(brush, cues)
    for _ in range(int(rng.integers(0, 3))):
        objects.passer_by(brush)
    return _expose(image, rng)


def _sky(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    light = scene.place.cue("light") if "light" in scene.visible else ""
    top, low = SKY.get(light, ((176, 190, 206), (214, 220, 226)))
    ramp = np.linspace(0, 1, SIZE)[:, None, None]
    sky = np.asarray(top) * (1 - ramp) + np.asarray(low) * ramp
    return (
        np.broadcast_to(np.clip(sky + rng.normal(0, 5), 0, 255), (SIZE, SIZE, 3))
        .astype(np.uint8)
        .copy()
    )


def _expose(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exposure, colour cast and sensor noise."""
    pixels = np.asarray(image, np.float32) * (rng.uniform(0.82, 1.15) * rng.uniform(0.95, 1.05, 3))
    pixels += rng.standard_normal(pixels.shape, np.float32) * rng.uniform(4, 12)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
