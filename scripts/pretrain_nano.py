"""Train nano's first weights on computed phantoms and write them where the package ships them.

    python scripts/pretrain_nano.py --workers 1

Needs no image and no network. May be stopped and started again: it goes on from its checkpoint.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "learner"))

import torch  # noqa: E402
from safetensors.torch import load  # noqa: E402

from maskloop_learner.model.backbones import NANO  # noqa: E402
from maskloop_learner.model.medclipseg import MedCLIPSeg  # noqa: E402
from maskloop_learner.model.shipped import FOLDER, pack_weights, ship_weights, start_from  # noqa: E402
from maskloop_learner.pretrain.phantoms import MAKERS  # noqa: E402
from maskloop_learner.pretrain.recipe import RATES, RECIPE, pretrain  # noqa: E402
from maskloop_learner.pretrain.stream import GROUPS, IMAGES, PROMPTS  # noqa: E402
from maskloop_learner.pretrain.trial import measure_phantoms  # noqa: E402


def show_progress(step: int, loss: float, eta: float) -> None:
    """One line."""
    print(f"step {step}: loss {loss:.4f}, {eta / 60:.1f} min to go", flush=True)


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2200, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, phantoms and chance (default: 0)")
    parser.add_argument("--workers", type=int, default=0, help="processes that make phantoms ahead (default: none)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; another number rounds otherwise")
    parser.add_argument("--checkpoint", type=Path, default=Path(tempfile.gettempdir()) / "maskloop-nano.pt")
    parser.add_argument("--held-out", type=int, default=40, help="new phantoms per modality to measure on")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the result (default: in the package)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    started, cpu = time.monotonic(), os.times()
    model = pretrain(
        seed=chosen.seed,
        steps=chosen.steps,
        workers=chosen.workers,
        checkpoint=chosen.checkpoint,
        checkpoint_steps=50,
        on_progress=show_progress,
    )
    seconds, now = time.monotonic() - started, os.times()
    data = pack_weights(model)
    # What is measured is what is shipped: rounded to half precision.
    shipped = start_from(MedCLIPSeg(NANO), load(data)).eval()
    trained = measure_phantoms(shipped, seed=0, count=chosen.held_out)
    random = measure_phantoms(MedCLIPSeg(NANO, seed=chosen.seed).eval(), seed=0, count=chosen.held_out)
    manifest = {
        "name": "nano",
        "recipe": RECIPE,
        "command": f"python scripts/pretrain_nano.py --steps {chosen.steps} --seed {chosen.seed}",
        "data": f"computed phantoms of {len(MAKERS)} modalities; no image of a patient, no pretrained weights",
        "modalities": list(MAKERS),
        "seed": chosen.seed,
        "steps": chosen.steps,
        "rows_per_step": GROUPS * IMAGES * PROMPTS,
        "learning_rates": list(RATES),
        "seconds": round(seconds),
        "cpu_seconds": round(sum(now[:4]) - sum(cpu[:4])),
        "threads": chosen.threads,
        "workers": chosen.workers,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "licence": "Apache-2.0",
        "held_out_phantoms": {
            "per_modality": chosen.held_out,
            "dice": {name: round(value, 3) for name, value in trained.items()},
            "dice_of_random_weights": {name: round(value, 3) for name, value in random.items()},
        },
    }
    ship_weights(data, manifest, folder=chosen.out)
    print(f"{chosen.out}: {len(data) / 1e6:.1f} MB after {seconds / 60:.1f} min")
    for name, value in trained.items():
        print(f"{name:18} Dice {value:.3f} (random weights {random[name]:.3f})")


if __name__ == "__main__":
    main()
