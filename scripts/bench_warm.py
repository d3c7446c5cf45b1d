"""What models over one frozen base cost: memory of one and of several, a cold load, and a switch between warm ones.

    python scripts/bench_warm.py --backbone clip-vit-b16 --models 4

Random weights in the forms that real ones have; nothing is fetched.
"""

import argparse
import gc
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("learner", "queue", "backend")]

from maskloop_learner.model.backbones import find_backbone  # noqa: E402
from maskloop_learner.model.bases import Bases  # noqa: E402
from maskloop_learner.model.checkpoint import save_weights  # noqa: E402
from maskloop_learner.model.medclipseg import MedCLIPSeg  # noqa: E402
from maskloop_learner.model.start import build_start  # noqa: E402
from maskloop_learner.pool.pool import Pool  # noqa: E402
from maskloop_learner.predict.predictor import Predictor  # noqa: E402
from maskloop_learner.settings import Settings  # noqa: E402
from maskloop_queue.warm import Predictors  # noqa: E402


def make_weights(home: Path, backbone: str, count: int) -> list[str]:
    """Digests of so many models over one base, each with adapters of its own."""
    settings = Settings(home=home)
    pool, spec, bases = Pool.open(settings), find_backbone(backbone), Bases(settings.bases_folder)
    if spec.source is not None:
        towers = {name: p.detach() for name, p in MedCLIPSeg(spec).clip.named_parameters() if name != "logit_scale"}
        bases.add(spec, towers, source="random")
    digests = []
    for seed in range(count):
        model = build_start(spec, seed=seed, start="pretrained", bases=bases)
        with torch.no_grad():
            for adapter in model.pvl_adapters.parameters():
                adapter.mul_(1 + seed / 1000)
        digests.append(pool.store.put("weights", save_weights(model, meta={})))
    pool.close()
    return digests


def resident() -> float:
    """This process's memory in MB."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def ask(predictor: Predictor, backbone: str) -> float:
    """Seconds of one pass on one image."""
    side = find_backbone(backbone).image_size
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    started = time.perf_counter()
    predictor.predict(
        image,
        prompts={"a": "a tumor"},
        samples=1,
        method="mean-value",
        threshold=0.5,
        min_speck_area=0,
        max_hole_area=0,
        version="v",
        image_digest="i",
    )
    return time.perf_counter() - started


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="clip-vit-b16")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--alone", action="store_true", help="every model with towers of its own, for comparison")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        # In another process: what the making leaves behind is not to be measured.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
            digests = maker.submit(make_weights, settings.home, args.backbone, args.models).result()
        pool = Pool.open(settings)
        before, bases = resident(), Bases(settings.bases_folder)
        warm = Predictors(device="cpu", bases=bases, megabytes=100_000)
        kept = []
        for number, digest in enumerate(digests, 1):
            # Of CPU, not of the clock: others may use the machine too.
            started = time.process_time()
            if args.alone:
                found = Predictor(weights=pool.store.get("weights", digest), device="cpu", bases=bases)
                found.model.towers()
                kept.append(found)
            else:
                found = warm.get(pool, digest)
            loaded = time.process_time() - started
            first, second = ask(found, args.backbone), ask(found, args.backbone)
            print(
                f"model {number}: loaded in {1000 * loaded:.0f} ms of CPU, first pass {1000 * first:.0f} ms, "
                f"second {1000 * second:.0f} ms; resident {resident() - before:.0f} MB more than before"
            )
        if args.alone:
            return
        print(f"all tensors: {warm.held_bytes() / 1e6:.0f} MB")
        started = time.perf_counter()
        for k in range(1000):
            warm.get(pool, digests[k % len(digests)])
        print(f"a switch between warm models: {time.perf_counter() - started:.6f} ms")
        pool.close()


if __name__ == "__main__":
    main()
