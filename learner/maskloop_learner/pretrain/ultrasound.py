"""Phantoms of ultrasound: layers of tissue, speckle, masses, and what sound does below them."""

import numpy as np
from numpy.random import Generator

from maskloop_learner.pretrain.shapes import Canvas, Field, Mask, Scene, blob, fade, fill, grey, smooth, speckle, wave

RANGE = 60.0
"""Decibels between black and white on the screen."""


def make_breast(canvas: Canvas, rng: Generator) -> Scene:
    """Skin, fat, gland and muscle; no, one or two masses; fat lobules and shadows that are none."""
    echo, parts = draw_layers(canvas, rng)
    draw_lobules(canvas, rng, echo, parts["fat"])
    solid, cysts, kind = canvas.empty(), canvas.empty(), ""
    shade = np.zeros_like(echo)
    count = rng.choice(3, p=(0.12, 0.76, 0.12))
    for _ in range(count):
        mask, below, name = draw_mass(canvas, rng, echo)
        solid |= mask & (name != "cyst")
        cysts = (cysts & ~mask) | (mask & (name == "cyst"))
        kind = name
        shade += below
    parts["breast lesion"] = solid | cysts
    parts["cyst"] = cysts
    if count == 1 and kind != "cyst":
        parts[f"{kind} lesion"] = solid
    dark = shade < -8
    if dark.mean() > 0.02:
        parts["shadow"] = dark & ~parts["breast lesion"]
    echo += shade
    seen = draw_dropouts(canvas, rng, echo)
    parts = {name: mask & seen for name, mask in parts.items()}
    return Scene(show(canvas, rng, echo, seen), parts)


def make_thyroid(canvas: Canvas, rng: Generator) -> Scene:
    """Muscle over a bright gland beside a dark artery; often a nodule in the gland."""
    echo = np.full((canvas.height, canvas.width), rng.uniform(-22, -14), dtype=np.float32)
    echo += 3 * smooth(canvas, rng, 9, 3)
    middle = (rng.uniform(0.4, 0.6) * canvas.bottom, rng.uniform(0.4, 0.6) * canvas.right)
    gland = blob(canvas, rng, centre=middle, radius=rng.uniform(0.25, 0.34), aspect=rng.uniform(1.2, 2.0), lobes=0.07)
    fill(echo, rng.uniform(-10, -5) + 1.5 * smooth(canvas, rng, 8), fade(gland, 0.04))
    side = rng.choice((-1, 1))
    at = (middle[0] + rng.uniform(0, 0.1), middle[1] + side * rng.uniform(0.38, 0.48))
    artery = blob(canvas, rng, centre=at, radius=rng.uniform(0.07, 0.12), aspect=rng.uniform(0.9, 1.3))
    fill(echo, -45.0, fade(artery, 0.08))
    parts = {"thyroid": gland > 0, "vessel": artery > 0, "thyroid nodule": canvas.empty()}
    if rng.random() < 0.75:
        spread = rng.uniform(-0.12, 0.12, 2)
        nodule = blob(
            canvas, rng, centre=(middle[0] + spread[0], middle[1] + spread[1]), radius=rng.uniform(0.06, 0.17),
            aspect=rng.uniform(0.8, 1.4), lobes=rng.uniform(0, 0.12),
        )  # fmt: skip
        level = rng.uniform(-24, -13) if rng.random() < 0.8 else rng.uniform(-4, -1)
        fill(echo, level + 2 * smooth(canvas, rng, 14), fade(nodule, 0.08))
        fill(echo, -28.0, 0.5 * fade(0.06 - np.abs(nodule), 0.05))
        parts["thyroid nodule"] = nodule > 0
    seen = draw_dropouts(canvas, rng, echo)
    return Scene(show(canvas, rng, echo, seen), {k: v & seen for k, v in parts.items()})


def draw_layers(canvas: Canvas, rng: Generator) -> tuple[Field, dict[str, Mask]]:
    """Echo strength in decibels below white, and the layers."""
    depth = canvas.y / np.float32(canvas.bottom)
    bounds = np.cumsum(rng.uniform((0.02, 0.06, 0.22, 0.12), (0.07, 0.24, 0.55, 0.3)))
    skin, fat, gland, muscle = (
        depth < bound + amplitude * wave(canvas, rng, cells)
        for bound, amplitude, cells in zip(bounds, (0.004, 0.03, 0.03, 0.02), (2, 4, 3, 2), strict=True)
    )
    levels = rng.uniform((-9, -24, -14, -26, -36), (-3, -14, -6, -16, -22))
    echo = np.full((canvas.height, canvas.width), levels[4], dtype=np.float32)
    for layer, level in ((muscle, levels[3]), (gland, levels[2]), (fat, levels[1]), (skin, levels[0])):
        echo[layer] = level
    # Gland has ducts and strands, muscle and fat bright sheets along the skin.
    echo += rng.uniform(1, 5) * smooth(canvas, rng, rng.uniform(6, 14), rng.uniform(3, 9))
    echo += rng.uniform(0, 4) * smooth(canvas, rng, rng.uniform(2, 6), rng.uniform(1, 4))
    echo += rng.uniform(0, 3) * smooth(canvas, rng, rng.uniform(20, 35), rng.uniform(8, 20))
    sheets = smooth(canvas, rng, rng.uniform(10, 18), rng.uniform(1.5, 4))
    echo += np.where(gland & ~fat, 0, rng.uniform(3, 9)) * np.maximum(sheets - 0.8, 0).astype(np.float32)
    blur = spline_blur(echo, canvas)
    return blur, {
        "skin": skin,
        "fat": fat & ~skin,
        "gland": gland & ~fat & ~skin,
        "muscle": muscle & ~gland & ~fat & ~skin,
    }


def spline_blur(echo: Field, canvas: Canvas) -> Field:
    """The mean over about 3 pixels up and down: layers do not meet in a line of one pixel."""
    padded = np.pad(echo, ((1, 1), (0, 0)), mode="edge")
    blurred: Field = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return blurred


def draw_lobules(canvas: Canvas, rng: Generator, echo: Field, fat: Mask) -> None:
    """Fat lobules: darker ovals with a bright rim, in the fat and between the gland; no findings."""
    for _ in range(rng.integers(0, 6)):
        deep = rng.uniform(0.05, 0.3) if rng.random() < 0.7 else rng.uniform(0.3, 0.7)
        lobule = blob(
            canvas, rng, centre=(deep * canvas.bottom, rng.uniform(0, 1) * canvas.right),
            radius=rng.uniform(0.04, 0.13), aspect=rng.uniform(1.3, 3.2), angle=rng.uniform(-0.3, 0.3), lobes=0.06,
        )  # fmt: skip
        echo -= rng.uniform(2, 6) * fade(lobule, 0.15)
        echo += rng.uniform(2, 7) * fade(0.08 - np.abs(lobule), 0.08)


def draw_mass(canvas: Canvas, rng: Generator, echo: Field) -> tuple[Mask, Field, str]:
    """Put a mass into the echo; its mask, the decibels it adds below itself, and benign, malignant or cyst."""
    kind = str(rng.choice(("benign", "malignant", "cyst"), p=(0.42, 0.38, 0.2)))
    centre = (rng.uniform(0.2, 0.68) * canvas.bottom, rng.uniform(0.12, 0.88) * canvas.right)
    radius = float(np.exp(rng.uniform(np.log(0.05), np.log(0.28))))
    if kind == "malignant":
        shape = {"aspect": rng.uniform(0.65, 1.6), "lobes": rng.uniform(0.08, 0.28), "spikes": rng.uniform(0.02, 0.16)}
    else:
        shape = {"aspect": rng.uniform(0.95, 2.4), "lobes": rng.uniform(0.01, 0.12), "spikes": rng.uniform(0, 0.02)}
    depth = blob(canvas, rng, centre=centre, radius=radius, angle=rng.normal(0, 0.25), **shape)
    softness = rng.uniform(0.03, 0.25) if kind == "malignant" else rng.uniform(0.02, 0.12)
    weight = fade(depth, softness)
    if kind == "malignant" and rng.random() < 0.5:
        echo += rng.uniform(2, 7) * fade(0.25 - np.abs(depth + 0.2), 0.15)
    around = float((echo * weight).sum() / max(float(weight.sum()), 1e-3))
    drop = {"benign": rng.uniform(5, 16), "malignant": rng.uniform(6, 20), "cyst": rng.uniform(20, 40)}[kind]
    inner = 0.5 if kind == "cyst" else rng.uniform(0.5, 3.5)
    level = around - drop + inner * smooth(canvas, rng, rng.uniform(8, 20))
    if kind != "cyst" and rng.random() < 0.2:  # a part of it is fluid, or a half is brighter
        level -= rng.uniform(4, 14) * fade(smooth(canvas, rng, 5) - 0.5, 0.4)
    fill(echo, level.astype(np.float32), weight)
    if kind != "malignant" and rng.random() < 0.5:
        echo += rng.uniform(2, 9) * fade(0.05 - np.abs(depth), 0.05)  # a capsule
    if kind == "malignant" and rng.random() < 0.3:
        echo += rng.uniform(8, 20) * (smooth(canvas, rng, 45) > 2.4) * (depth > 0.2)  # calcifications
    return depth > 0, shade_below(canvas, rng, depth, kind), kind


def shade_below(canvas: Canvas, rng: Generator, depth: Field, kind: str) -> Field:
    """Decibels gained or lost below a mass, by how much of it the sound passed."""
    passed = np.cumsum(np.maximum(depth, 0) > 0, axis=0, dtype=np.float32) / canvas.unit
    below = passed * (depth < 0)
    strength = {"benign": rng.normal(5, 14), "malignant": rng.normal(-35, 35), "cyst": rng.uniform(20, 70)}[kind]
    shade: Field = np.clip(below * strength, -26, 14)
    kernel = np.ones(5, dtype=np.float32) / 5
    for row in range(shade.shape[0]):
        if shade[row].any():
            shade[row] = np.convolve(shade[row], kernel, mode="same")
    return shade


def draw_dropouts(canvas: Canvas, rng: Generator, echo: Field) -> Mask:
    """Loss with depth, shadows from the skin down, gain bands; and which pixels the probe saw."""
    depth = canvas.y / np.float32(canvas.bottom)
    echo -= rng.uniform(0, 14) * np.maximum(depth - rng.uniform(0, 0.6), 0)
    echo += rng.uniform(0, 2.5) * np.interp(depth, np.linspace(0, 1, 8), rng.standard_normal(8)).astype(np.float32)
    if rng.random() < 0.4:
        columns = np.maximum(wave(canvas, rng, int(rng.integers(4, 12))) - rng.uniform(0.8, 1.6), 0)
        echo -= rng.uniform(4, 20) * columns * np.minimum(depth * 3, 1)
    seen = ~canvas.empty()
    side = (canvas.x / np.float32(canvas.right) - 0.5) * 2
    if rng.random() < 0.15:  # a curved probe: a fan
        seen &= np.abs(side) < rng.uniform(0.55, 0.8) + depth * rng.uniform(0.3, 0.6)
        seen &= depth > rng.uniform(0.02, 0.08) * (1 - side**2)
    for edge, share in ((depth, 0.2), (1 - depth, 0.35), (side / 2 + 0.5, 0.15), (0.5 - side / 2, 0.15)):
        if rng.random() < share:
            seen &= edge > rng.uniform(0.01, 0.1)
    return seen


def show(canvas: Canvas, rng: Generator, echo: Field, seen: Mask) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What the screen shows: speckle, compressed to grey levels, black outside the fan, sometimes writing."""
    fine = rng.uniform(40, 100)
    grain = speckle(canvas, rng, fine, fine * rng.uniform(0.4, 0.9), looks=int(rng.integers(1, 5)))
    noisy = echo + rng.uniform(0.4, 1.0) * grain
    image: Field = 1 + (noisy + rng.uniform(-8, 6)) / np.float32(rng.uniform(0.7, 1.1) * RANGE)
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.9, 1.7))
    image = np.where(seen, image, np.float32(rng.uniform(0, 0.05))).astype(np.float32)
    if rng.random() < 0.15:  # callipers and scale marks, as screenshots have them
        for _ in range(rng.integers(2, 7)):
            row, column = rng.integers(2, canvas.height - 3), rng.integers(2, canvas.width - 3)
            image[row, column - 2 : column + 3] = 0.9
            image[row - 2 : row + 3, column] = 0.9
    return grey(image)
