"""Phantoms of MRI: heads with folded grey matter, ventricles and lesions, and hearts in short axis."""

import numpy as np
from numpy.random import Generator

from maskloop_learner.pretrain.shapes import Canvas, Field, Mask, Scene, blob, fade, fill, grey, smooth

# Air, fluid, grey matter, white matter, skull and skin, lesion: lowest and highest brightness.
BRIGHTNESS = {
    "T1 MRI": ((0, 0.03), (0.08, 0.25), (0.45, 0.6), (0.66, 0.85), (0.5, 1.0), (0.25, 0.5)),
    "T2 MRI": ((0, 0.03), (0.8, 1.0), (0.5, 0.65), (0.32, 0.48), (0.3, 0.8), (0.65, 0.95)),
    "FLAIR MRI": ((0, 0.03), (0.05, 0.2), (0.5, 0.62), (0.38, 0.5), (0.3, 0.8), (0.7, 1.0)),
}


def make_head(canvas: Canvas, rng: Generator, *, kind: str) -> Scene:
    """A slice of a head, with or without its skull; no lesion, a tumor, or many small lesions.

    `kind` is a key of BRIGHTNESS.
    """
    air, fluid, cortex, white, bone, ill = (float(rng.uniform(*bounds)) for bounds in BRIGHTNESS[kind])
    aspect, radius = rng.uniform(0.68, 1.15), rng.uniform(0.32, 0.46)
    centre = (canvas.bottom / 2 + rng.normal(0, 0.03), canvas.right / 2 + rng.normal(0, 0.03))
    head = blob(canvas, rng, centre=centre, radius=radius, aspect=aspect, lobes=0.04)
    image = np.full((canvas.height, canvas.width), air, dtype=np.float32)
    parts: dict[str, Mask] = {}
    rim = 0.0
    if rng.random() < 0.5:
        rim = rng.uniform(0.1, 0.17)
        fill(image, bone, fade(head, 0.02))
        fill(image, air, fade(head - rim * 0.4, 0.02))
        parts["skull"] = (head > 0) & (head < rim)
    inner = head - np.float32(rim)
    fill(image, fluid, fade(inner, 0.015))
    # Grey matter is a band of even thickness along a folded border; sulci are folds that reach the surface.
    folds = smooth(canvas, rng, rng.uniform(9, 15))
    course = inner - rng.uniform(0.03, 0.06) + rng.uniform(0.03, 0.06) * folds
    thickness = rng.uniform(0.08, 0.15)
    wm = course - thickness - 0.04 * np.abs(smooth(canvas, rng, 11))
    deep = fade(0.14 - np.abs(inner - rng.uniform(0.55, 0.7)), 0.03) * (smooth(canvas, rng, 5) > 0.7)
    fill(image, cortex, fade(course, 0.02))
    fill(image, white, fade(wm, 0.02))
    fill(image, cortex, deep)
    gm_mask = ((course > 0) & (wm <= 0)) | ((deep > 0.5) & (wm > 0))
    wm_mask = (wm > 0) & (deep <= 0.5)
    hollow = draw_ventricles(canvas, rng, centre, radius)
    fill(image, fluid, fade(hollow, 0.1))
    empty = hollow > 0
    lesions = draw_lesions(canvas, rng, image, inner, ill)
    gone = empty | lesions.get("brain tumor", empty)
    parts |= {"white matter": wm_mask & ~gone, "grey matter": gm_mask & ~gone, "brain": (course > 0) | (inner > 0.12)}
    if empty.mean() > 0.004:
        parts["ventricles"] = empty & ~lesions["brain tumor"]
    parts |= lesions
    return Scene(scan(canvas, rng, image, air), parts)


def draw_ventricles(canvas: Canvas, rng: Generator, centre: tuple[float, float], radius: float) -> Field:
    """Depth in the two ventricles, which mirror each other; nowhere positive in some slices."""
    size = radius * rng.uniform(0.12, 0.32)
    if rng.random() < 0.2:
        return np.full((canvas.height, canvas.width), -1, dtype=np.float32)
    apart, tilt, aspect = size * rng.uniform(0.45, 0.9), rng.uniform(-0.5, 0.5), rng.uniform(0.25, 0.6)
    halves = [
        blob(
            canvas, rng, centre=(centre[0], centre[1] + side * apart), radius=size, aspect=aspect, angle=side * tilt,
            lobes=0.1,
        )
        for side in (-1, 1)
    ]  # fmt: skip
    both: Field = np.maximum(*halves)
    return both


def draw_lesions(canvas: Canvas, rng: Generator, image: Field, inner: Field, ill: float) -> dict[str, Mask]:
    """Put nothing, a tumor or small lesions into the brain; all their masks."""
    found = {"brain tumor": canvas.empty(), "white matter lesions": canvas.empty()}
    what = rng.choice(("none", "tumor", "small"), p=(0.35, 0.45, 0.2))
    places = np.argwhere(inner > 0.3) / canvas.unit
    if what == "tumor":
        centre = places[rng.integers(len(places))]
        depth = blob(
            canvas, rng, centre=(centre[0], centre[1]), radius=rng.uniform(0.05, 0.15), aspect=rng.uniform(0.7, 1.4),
            lobes=rng.uniform(0.05, 0.2), spikes=rng.uniform(0, 0.08),
        )  # fmt: skip
        weight = fade(depth, rng.uniform(0.05, 0.25)) * (inner > 0)
        fill(image, ill + 0.06 * smooth(canvas, rng, 10), weight)
        found["brain tumor"] = (depth > 0) & (inner > 0)
        if rng.random() < 0.5:
            bright = rng.uniform(0.8, 1.0) if rng.random() < 0.7 else ill * 0.5
            core = depth - rng.uniform(0.3, 0.5)
            fill(image, bright, fade(core, 0.08))
            if rng.random() < 0.5:
                fill(image, ill * 0.5, fade(core - 0.25, 0.08))
            found["tumor core"] = core > 0
    if what == "small":
        for _ in range(rng.integers(3, 14)):
            centre = places[rng.integers(len(places))]
            depth = blob(canvas, rng, centre=(centre[0], centre[1]), radius=rng.uniform(0.012, 0.04), lobes=0.1)
            fill(image, ill, fade(depth, 0.3))
            found["white matter lesions"] |= depth > 0
    return found


def make_heart(canvas: Canvas, rng: Generator) -> Scene:
    """The ring of the left ventricle's wall about bright blood, the right ventricle beside it, lungs and fat."""
    image = rng.uniform(0.25, 0.45) + rng.uniform(0.05, 0.12) * smooth(canvas, rng, 5)
    lung = smooth(canvas, rng, 2.2) + rng.uniform(-0.4, 0.4)
    fill(image, rng.uniform(0.03, 0.12), fade(lung, 0.15))
    centre = (rng.uniform(0.35, 0.65) * canvas.bottom, rng.uniform(0.35, 0.65) * canvas.right)
    radius, blood = rng.uniform(0.1, 0.2), rng.uniform(0.7, 1.0)
    outer = blob(canvas, rng, centre=centre, radius=radius, aspect=rng.uniform(0.85, 1.15), lobes=0.04)
    cavity = outer - np.float32(rng.uniform(0.25, 0.5))
    turn = rng.uniform(-0.6, 0.6)
    away = radius * rng.uniform(1.2, 1.5)
    at = (centre[0] - away * np.sin(turn), centre[1] - away * np.cos(turn))
    right = blob(canvas, rng, centre=at, radius=radius * rng.uniform(0.8, 1.2), aspect=0.7, angle=turn, lobes=0.1)
    fill(image, blood * rng.uniform(0.85, 1.0), fade(right, 0.05))
    fill(image, rng.uniform(0.12, 0.35), fade(outer, 0.05))
    fill(image, blood + 0.04 * smooth(canvas, rng, 8), fade(cavity, 0.06))
    parts = {
        "left ventricle": cavity > 0,
        "myocardium": (outer > 0) & (cavity <= 0),
        "right ventricle": (right > 0) & (outer <= 0),
    }
    return Scene(scan(canvas, rng, image, 0.02), parts)


def scan(canvas: Canvas, rng: Generator, image: Field, air: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Coil shading and Rician noise."""
    shaded = image * np.exp(rng.uniform(0, 0.15) * smooth(canvas, rng, 1.2))
    level = rng.uniform(0.005, 0.06)
    noise = rng.standard_normal((2, canvas.height, canvas.width), dtype=np.float32) * np.float32(level)
    return grey(np.hypot(shaded + noise[0], noise[1]).astype(np.float32))
