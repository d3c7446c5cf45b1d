"""Phantoms of CT and X-ray: organs of the belly, lungs with nodules and infections, chests from the front."""

import numpy as np
from numpy.random import Generator

from maskloop_learner.pretrain.shapes import Canvas, Field, Mask, Scene, blob, fade, fill, grey, smooth, wave


def make_abdomen(canvas: Canvas, rng: Generator) -> Scene:
    """A body with fat, liver, spleen, kidneys, spine and aorta; often a tumor in the liver."""
    centre = (canvas.bottom / 2, canvas.right / 2)
    body = blob(canvas, rng, centre=centre, radius=rng.uniform(0.38, 0.46), aspect=rng.uniform(1.1, 1.45), lobes=0.03)
    fat, tissue = rng.uniform(0.12, 0.3), rng.uniform(0.4, 0.55)
    image = np.zeros((canvas.height, canvas.width), dtype=np.float32)
    fill(image, fat, fade(body, 0.02))
    wall = body - np.float32(rng.uniform(0.08, 0.2))
    fill(image, tissue, fade(wall, 0.02))
    inside = wall - np.float32(0.06)
    fill(image, fat + rng.uniform(0.1, 0.2) * (smooth(canvas, rng, 9) > 0.2), fade(inside, 0.03))
    parts: dict[str, Mask] = {"body": body > 0}
    side = rng.choice((-1, 1))  # which way round the picture is
    spots = (
        ("liver", (-0.05, -0.2), (0.15, 0.24), (0.9, 1.5), 0.14, 0.12),
        ("spleen", (0.03, 0.27), (0.07, 0.12), (0.5, 0.8), 0.1, 0.1),
        ("kidneys", (0.12, 0.14), (0.06, 0.1), (0.6, 0.9), 0.08, 0.22),
        ("kidneys", (0.12, -0.16), (0.06, 0.1), (0.6, 0.9), 0.08, 0.22),
        ("aorta", (0.06, 0.03), (0.02, 0.04), (0.9, 1.1), 0.0, 0.28),
        ("spine", (0.17, 0.0), (0.06, 0.09), (0.9, 1.2), 0.1, 0.45),
    )  # fmt: skip
    brightness = {"kidneys": rng.uniform(0.1, 0.3), "aorta": rng.uniform(0.0, 0.4), "spine": rng.uniform(0.25, 0.5)}
    for name, (down, right), radii, aspects, lobes, most in spots:
        y, x = rng.normal((down, side * right), 0.025)
        depth = blob(
            canvas, rng, centre=(centre[0] + y, centre[1] + x), radius=rng.uniform(*radii),
            aspect=rng.uniform(*aspects), angle=rng.normal(0, 0.2), lobes=lobes,
        )  # fmt: skip
        depth = np.minimum(depth, inside * 4)
        level = tissue + brightness.get(name, rng.uniform(0.02, most))
        fill(image, level + 0.015 * smooth(canvas, rng, 12), fade(depth, 0.06))
        for other in parts.keys() - {"body"}:
            parts[other] = parts[other] & (depth <= 0)
        parts[name] = parts.get(name, canvas.empty()) | (depth > 0)
    for _ in range(rng.integers(0, 4)):  # gas and bowel
        bowel = blob(canvas, rng, centre=(centre[0] + rng.normal(-0.08, 0.1), centre[1] + rng.normal(0, 0.12)),
                     radius=rng.uniform(0.03, 0.08), lobes=0.2)  # fmt: skip
        bowel = np.where(parts["liver"], -1, np.minimum(bowel, inside * 4)).astype(np.float32)
        fill(image, rng.choice((0.0, tissue + 0.05)), fade(bowel, 0.05))
        parts = {name: mask & ((bowel <= 0) | (name == "body")) for name, mask in parts.items()}
    parts["liver tumor"] = canvas.empty()
    if rng.random() < 0.65 and parts["liver"].any():
        change = rng.choice((-1, -1, 1)) * rng.uniform(0.06, 0.2)
        parts["liver tumor"] = draw_nodules(canvas, rng, image, parts["liver"], change, (0.02, 0.09))
    return Scene(expose(canvas, rng, image), parts)


def make_chest(canvas: Canvas, rng: Generator) -> Scene:
    """A CT slice of dark lungs with vessels; a nodule, an infection or neither."""
    centre = (canvas.bottom / 2, canvas.right / 2)
    body = blob(canvas, rng, centre=centre, radius=rng.uniform(0.36, 0.46), aspect=rng.uniform(1.2, 1.5), lobes=0.03)
    image = rng.uniform(0.0, 0.08) + np.zeros((canvas.height, canvas.width), dtype=np.float32)
    tissue = rng.uniform(0.5, 0.8)
    fill(image, tissue * rng.uniform(0.7, 0.95), fade(body, 0.02))
    fill(image, tissue, fade(body - np.float32(0.12), 0.02))
    lung = draw_lungs(canvas, rng, centre, rng.uniform(0.2, 0.25))
    fill(image, rng.uniform(0.05, 0.2), fade(lung, 0.04))
    image += np.where(lung > 0, 0.35 * np.maximum(smooth(canvas, rng, rng.uniform(14, 26)) - 1.7, 0), 0)
    spine = blob(canvas, rng, centre=(centre[0] + 0.2, centre[1]), radius=0.07, lobes=0.1)
    fill(image, min(1.0, tissue + 0.25), fade(spine, 0.06))
    lungs = (lung > 0) & (spine <= 0)
    parts = {"lungs": lungs, "spine": spine > 0, "body": body > 0}
    parts |= draw_ills(canvas, rng, image, lungs, tissue)
    return Scene(expose(canvas, rng, image), parts)


def make_radiograph(canvas: Canvas, rng: Generator) -> Scene:
    """A chest from the front: dark lungs, ribs across them, heart and diaphragm; sometimes an opacity or a nodule."""
    centre = (canvas.bottom * rng.uniform(0.42, 0.52), canvas.right / 2 + rng.normal(0, 0.03))
    base = rng.uniform(0.5, 0.75)
    image = base + 0.06 * smooth(canvas, rng, 3)
    image += rng.uniform(0.05, 0.2) * np.exp(-(((canvas.x - np.float32(centre[1])) / 0.06) ** 2))
    lung = draw_lungs(canvas, rng, centre, rng.uniform(0.22, 0.3), upright=True)
    floor = centre[0] + rng.uniform(0.2, 0.3) + 0.03 * wave(canvas, rng, 3)
    lung = np.minimum(lung, (floor - canvas.y) * 4).astype(np.float32)
    beat = (centre[0] + rng.uniform(0.12, 0.2), centre[1] + rng.choice((-1, 1, 1)) * rng.uniform(0.03, 0.08))
    heart = blob(canvas, rng, centre=beat, radius=rng.uniform(0.1, 0.17), aspect=rng.uniform(0.9, 1.5), lobes=0.06)
    fill(image, rng.uniform(0.1, 0.3) + 0.03 * smooth(canvas, rng, 4), fade(lung, 0.1))
    fill(image, base + 0.08, fade(heart, 0.12))
    bow = np.abs(canvas.x - np.float32(centre[1])) ** 2 * rng.uniform(0.6, 1.5)
    ribs = np.sin((canvas.y + bow) * rng.uniform(50, 75) + rng.uniform(0, 6))
    image += rng.uniform(0.02, 0.07) * np.where(heart > 0, 0, np.maximum(ribs, 0)).astype(np.float32)
    lungs = (lung > 0) & (heart <= 0)
    parts = {"lungs": lungs, "heart": heart > 0}
    parts |= draw_ills(canvas, rng, image, lungs, base)
    return Scene(expose(canvas, rng, image), parts)


def draw_lungs(
    canvas: Canvas, rng: Generator, centre: tuple[float, float], radius: float, *, upright: bool = False
) -> Field:
    """Depth in two lungs beside the middle."""
    apart, aspect = radius * rng.uniform(0.85, 1.0), rng.uniform(0.5, 0.65) if upright else rng.uniform(0.6, 0.8)
    tilt = rng.uniform(0, 0.2)
    halves = [
        blob(
            canvas, rng, centre=(centre[0] + rng.normal(0, 0.015), centre[1] + side * apart),
            radius=radius * rng.uniform(0.9, 1.1), aspect=aspect, angle=side * tilt, lobes=0.08,
        )
        for side in (-1, 1)
    ]  # fmt: skip
    both: Field = np.maximum(*halves)
    return both


def draw_ills(canvas: Canvas, rng: Generator, image: Field, lungs: Mask, tissue: float) -> dict[str, Mask]:
    """Put a nodule, an infection or nothing into the lungs; both masks."""
    found = {"lung nodule": canvas.empty(), "infection": canvas.empty()}
    what = rng.choice(("none", "nodule", "infection"), p=(0.35, 0.3, 0.35))
    if what == "nodule" and lungs.any():
        found["lung nodule"] = draw_nodules(canvas, rng, image, lungs, tissue * rng.uniform(0.3, 0.8), (0.02, 0.06))
    if what == "infection":
        patchy = smooth(canvas, rng, rng.uniform(3, 6)) - rng.uniform(0.3, 1.0)
        weight = fade(patchy, 0.25) * lungs
        image += rng.uniform(0.15, 0.45) * tissue * weight * (1 + 0.2 * smooth(canvas, rng, 18))
        found["infection"] = (patchy > 0) & lungs
    return found


def draw_nodules(
    canvas: Canvas, rng: Generator, image: Field, organ: Mask, change: float, radii: tuple[float, float]
) -> Mask:
    """Put one to three round findings into an organ, brighter or darker by `change`; their mask."""
    places = np.argwhere(organ) / canvas.unit
    found = canvas.empty()
    for _ in range(rng.choice((1, 2, 3), p=(0.7, 0.2, 0.1))):
        centre = places[rng.integers(len(places))]
        depth = blob(
            canvas, rng, centre=(centre[0], centre[1]), radius=rng.uniform(*radii), aspect=rng.uniform(0.75, 1.3),
            lobes=rng.uniform(0, 0.15), spikes=rng.uniform(0, 0.06),
        )  # fmt: skip
        inside = organ & ~found
        image += change * fade(depth, rng.uniform(0.05, 0.25)) * inside
        found |= (depth > 0) & inside
    return found


def expose(canvas: Canvas, rng: Generator, image: Field) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Quantum noise, finer or coarser."""
    grain = rng.uniform(0.005, 0.035)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < 0.5:
        noise = smooth(canvas, rng, canvas.unit / 2.5)
    return grey(image + np.float32(grain) * noise)
