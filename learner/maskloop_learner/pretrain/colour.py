"""Phantoms in colour: skin under the dermatoscope, bowel in the endoscope, stained tissue and glowing cells."""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from maskloop_learner.pretrain.shapes import Canvas, Field, Mask, Scene, blob, fade, smooth, spot

Colour = NDArray[np.floating[Any]]
"""[3] or [H, W, 3], 0..1"""


def make_skin(canvas: Canvas, rng: Generator) -> Scene:
    """Skin with a mole, hairs, and the dark ring of the instrument."""
    tone = pick_colour(rng, (0.6, 0.4, 0.32), (0.95, 0.78, 0.72))
    image = paint(canvas, tone, 1 + rng.uniform(0.02, 0.07) * smooth(canvas, rng, rng.uniform(3, 20)))
    centre = spot(canvas, rng, 0.35)
    malign = rng.random() < 0.4
    depth = blob(
        canvas, rng, centre=centre, radius=float(np.exp(rng.uniform(np.log(0.08), np.log(0.4)))),
        aspect=rng.uniform(0.75, 1.35), angle=rng.uniform(0, 3), lobes=rng.uniform(0.05, 0.25 if malign else 0.1),
        spikes=rng.uniform(0, 0.08 if malign else 0.03),
    )  # fmt: skip
    depth += rng.uniform(0, 0.12) * smooth(canvas, rng, 9)
    pigment = tone * pick_colour(rng, (0.35, 0.25, 0.2), (0.85, 0.75, 0.75))
    shade = 1 + rng.uniform(0.03, 0.2) * smooth(canvas, rng, rng.uniform(5, 25))
    lay(image, paint(canvas, pigment, shade), fade(depth, rng.uniform(0.04, 0.3)))
    if malign:
        darker = smooth(canvas, rng, 5) - rng.uniform(0, 0.8)
        lay(image, paint(canvas, pigment * rng.uniform(0.3, 0.7), shade), fade(darker, 0.3) * fade(depth, 0.1))
    hairs = canvas.empty()
    if rng.random() < 0.4:
        hairs = draw_hairs(canvas, rng)
        lay(image, paint(canvas, tone * rng.uniform(0.1, 0.4), 1.0), hairs.astype(np.float32) * rng.uniform(0.6, 1.0))
    parts = {"skin lesion": depth > 0}
    if hairs.mean() > 0.01:
        parts["hair"] = hairs
    seen = ring(canvas, rng)
    return Scene(develop(rng, image * seen[:, :, None]), {k: v & (seen > 0.5) for k, v in parts.items()})


def make_bowel(canvas: Canvas, rng: Generator) -> Scene:
    """Red folds about a dark lumen, glare, and often a polyp that the lamp shades."""
    tone = pick_colour(rng, (0.55, 0.2, 0.15), (0.95, 0.55, 0.45))
    hollow = spot(canvas, rng, 0.1)
    away = np.hypot(canvas.y - np.float32(hollow[0]), canvas.x - np.float32(hollow[1]))
    folds = np.sin(away * rng.uniform(12, 35) + 1.5 * smooth(canvas, rng, 3))
    light = 0.75 + 0.12 * folds + 0.1 * smooth(canvas, rng, 6) + 0.3 * (away - 0.4)
    lumen = rng.uniform(0.08, 0.2) - away + 0.02 * smooth(canvas, rng, 5)
    image = paint(canvas, tone, np.clip(light, 0.15, 1.25))
    parts: dict[str, Mask] = {"polyp": canvas.empty()}
    if rng.random() < 0.7:
        lay(image, paint(canvas, tone * 0.25, 1.0), fade(lumen, 0.06))
        parts["lumen"] = lumen > 0
    if rng.random() < 0.85:
        depth = blob(
            canvas, rng, centre=spot(canvas, rng, 0.22), radius=float(np.exp(rng.uniform(np.log(0.06), np.log(0.3)))),
            aspect=rng.uniform(0.7, 1.5), angle=rng.uniform(0, 3), lobes=rng.uniform(0.02, 0.15),
        )  # fmt: skip
        height = np.sqrt(np.clip(depth, 0, 1)) + 0.04 * smooth(canvas, rng, 14)
        slope_y, slope_x = np.gradient(height)
        turn = rng.uniform(0, 2 * np.pi)
        relief = (np.cos(turn) * slope_y + np.sin(turn) * slope_x) * canvas.unit * rng.uniform(0.02, 0.06)
        tint = pick_colour(rng, (0.9, 0.75, 0.7), (1.2, 1.25, 1.2))
        body = paint(canvas, tone * tint, np.clip(rng.uniform(0.85, 1.15) + relief, 0.2, 1.5))
        image *= 1 - rng.uniform(0, 0.4) * fade(0.12 - np.abs(depth + 0.1), 0.1)[:, :, None]  # its cast shadow
        lay(image, body, fade(depth, rng.uniform(0.04, 0.12)))
        parts["polyp"] = depth > 0
    shine = smooth(canvas, rng, rng.uniform(10, 22)) - rng.uniform(2.0, 3.2)
    lay(image, np.ones(3, dtype=np.float32), fade(shine, 0.15))
    if (shine > 0).mean() > 0.006:
        parts["highlights"] = shine > 0
    seen = ring(canvas, rng)
    parts = {name: mask & (seen > 0.5) for name, mask in parts.items()}
    if "lumen" in parts:
        parts["lumen"] = parts["lumen"] & ~parts["polyp"]
    return Scene(develop(rng, image * seen[:, :, None]), parts)


def make_tissue(canvas: Canvas, rng: Generator) -> Scene:
    """Pink tissue with purple nuclei, some of them around the white lumens of glands."""
    pink = pick_colour(rng, (0.8, 0.5, 0.65), (0.97, 0.8, 0.9))
    purple = pick_colour(rng, (0.25, 0.1, 0.35), (0.55, 0.4, 0.65))
    image = paint(canvas, pink, 1 + 0.06 * smooth(canvas, rng, 18))
    parts: dict[str, Mask] = {}
    near = None
    if rng.random() < 0.5:
        near = smooth(canvas, rng, rng.uniform(3, 5)) - rng.uniform(0.4, 0.9)
        lay(image, paint(canvas, pink * 0.85, 1.0), fade(near, 0.1))
        lay(image, np.full(3, 0.95, dtype=np.float32), fade(near - rng.uniform(0.5, 0.9), 0.1))
        parts["glands"] = near > 0
    nuclei = draw_cells(canvas, rng, around=near)
    lay(image, paint(canvas, purple, 1 + 0.15 * smooth(canvas, rng, 30)), fade(nuclei, 0.2))
    parts["nuclei"] = nuclei > 0
    return Scene(develop(rng, image), parts)


def make_cells(canvas: Canvas, rng: Generator) -> Scene:
    """Bright nuclei on black, in white or one colour."""
    tint = np.ones(3, dtype=np.float32) if rng.random() < 0.5 else pick_colour(rng, (0.1, 0.1, 0.1), (0.5, 0.9, 1.0))
    nuclei = draw_cells(canvas, rng, around=None)
    glow = (
        0.05
        + 0.03 * smooth(canvas, rng, 4)
        + rng.uniform(0.4, 0.9) * fade(nuclei, 0.3) * (1 + 0.25 * smooth(canvas, rng, 12))
    )
    return Scene(develop(rng, paint(canvas, tint, glow)), {"nuclei": nuclei > 0})


def draw_cells(canvas: Canvas, rng: Generator, *, around: Field | None) -> Field:
    """Depth in many small ovals; those that would lie in a gland's lumen are left out."""
    depth = np.full((canvas.height, canvas.width), -1, dtype=np.float32)
    radius = rng.uniform(0.025, 0.07)
    for _ in range(int(rng.uniform(0.1, 0.3) / radius**2 / 3)):
        centre = spot(canvas, rng, 0.0)
        row, column = (min(int(c * canvas.unit), n - 1) for c, n in zip(centre, depth.shape, strict=True))
        if around is not None and around[row, column] > 0.4:
            continue
        # A cell reaches no further than its own neighbourhood: the rest of the image is not looked at.
        reach = int(radius * canvas.unit * 2) + 2
        rows, columns = slice(max(0, row - reach), row + reach), slice(max(0, column - reach), column + reach)
        size, aspect, turn = radius * rng.uniform(0.6, 1.2), rng.uniform(0.6, 1.6), rng.uniform(0, 3)
        y, x = canvas.y[rows] - np.float32(centre[0]), canvas.x[:, columns] - np.float32(centre[1])
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        cell = 1 - np.sqrt((u / (size * aspect**0.5)) ** 2 + (v / (size / aspect**0.5)) ** 2)
        depth[rows, columns] = np.maximum(depth[rows, columns], cell)
    return depth


def draw_hairs(canvas: Canvas, rng: Generator) -> Mask:
    """Thin dark curves, most of them in one direction."""
    hairs = canvas.empty()
    main = rng.uniform(0, np.pi)
    for _ in range(rng.integers(3, 16)):
        y, x = canvas.y - np.float32(rng.uniform(0, canvas.bottom)), canvas.x - np.float32(rng.uniform(0, canvas.right))
        turn = main + rng.normal(0, 0.4)
        along, off = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        bent = off + rng.normal(0, 0.4) * along**2
        hairs |= (np.abs(bent) < rng.uniform(0.003, 0.009)) & (np.abs(along) < rng.uniform(0.15, 0.6))
    return hairs


def ring(canvas: Canvas, rng: Generator) -> Field:
    """1 where the instrument sees, 0 in black corners; the light falls off towards them."""
    y, x = canvas.y / np.float32(canvas.bottom) * 2 - 1, canvas.x / np.float32(canvas.right) * 2 - 1
    away = np.sqrt(y * y + x * x)
    seen = 1 - rng.uniform(0, 0.25) * away**2
    if rng.random() < 0.4:
        seen = seen * fade(rng.uniform(0.95, 1.3) - away, 0.02)
    return np.asarray(seen, dtype=np.float32)


def pick_colour(rng: Generator, low: tuple[float, ...], high: tuple[float, ...]) -> Colour:
    """A colour between two, its channels about equally far along."""
    share = np.clip(rng.uniform() + rng.normal(0, 0.12, 3), 0, 1)
    colour: Colour = (np.asarray(low) + share * (np.asarray(high) - np.asarray(low))).astype(np.float32)
    return colour


def paint(canvas: Canvas, colour: Colour, light: Field | float) -> Colour:
    """[H, W, 3] of one colour under a light."""
    sheet = np.ones((canvas.height, canvas.width), dtype=np.float32) * light
    painted: Colour = (sheet[:, :, None] * colour).astype(np.float32)
    return painted


def lay(image: Colour, over: Colour, weight: Field) -> None:
    """Lay a colour over the image where weight is 1, in place."""
    image += (over - image) * weight[:, :, None]


def develop(rng: Generator, image: Colour) -> NDArray[np.uint8]:
    """White balance and the camera's noise."""
    balance = np.exp(rng.normal(0, 0.05, 3)).astype(np.float32)
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32)[:, :, None] * np.float32(rng.uniform(0.002, 0.02))
    seen: NDArray[np.uint8] = (np.clip(image * balance + noise, 0, 1) * 255).astype(np.uint8)
    return seen
