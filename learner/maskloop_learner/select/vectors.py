"""Where the pool's images lie among each other, as in a project: embedded once, by the backbone's frozen tower."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.evaluate.cells import write_atomically
from maskloop_learner.model.backbones import find_backbone
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.device import find_device
from maskloop_learner.model.shared import Shelf
from maskloop_learner.predict.embedder import Embedder
from maskloop_learner.select.plan import Plan

Vectors = NDArray[np.float32]


def read_vectors(plan: Plan, *, tick: Callable[[], None] = lambda: None) -> dict[int, Vectors]:
    """Place -> [D] of length 1, of every image of the pool; computed and kept in the plan's folder the first time.

    `tick` is called between two images and may raise. Raises BackboneError as `Embedder`.
    """
    # Of these images and this backbone: what else may be in the file's place is of another simulation.
    path = plan.folder / f"vectors-{plan.digest()}.npy"
    if not path.exists():
        shelf = Shelf(Bases(plan.bases), device=find_device(plan.device))
        embedder = Embedder.over(shelf, find_backbone(plan.learning["backbone"]))
        found = []
        for place in plan.ground.pool:
            found.append(embedder.embed(plan.subjects[place].open()[0]))
            tick()
        buffer = io.BytesIO()
        np.save(buffer, np.stack(found).astype(np.float32))
        write_atomically(path, buffer.getvalue())
    return dict(zip(plan.ground.pool, np.load(path), strict=True))
