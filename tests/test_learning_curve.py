"""Labels buy better masks: the demo's frozen slices, round by round, three seeds, the default step budget."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEAST_DICE = 0.70


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_dice_grows_with_the_labels() -> None:
    """White and grey matter end at 0.70 or more and above the first round, for every seed."""
    script = [sys.executable, str(ROOT / "scripts" / "learning_curve.py"), "--seeds", "3", "--rounds", "3", "--json"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)
    for row in rows:
        print(row)
    for seed in range(3):
        first, *_, last = [row["dice"] for row in rows if row["seed"] == seed]
        for label in ("White matter", "Grey matter"):
            assert last[label] >= LEAST_DICE, (seed, label, last)
            assert last[label] > first[label], (seed, label, first, last)
