"""Guards of the house: floors, the name `queue`, and processes that must stay free of torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["maskloop_learner", "maskloop_queue", "maskloop_backend"]
FOLDERS = {"maskloop_learner": "learner", "maskloop_queue": "queue", "maskloop_backend": "backend"}


def imports_of(path: Path) -> set[str]:
    """Top-level names that a module imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_run_downwards_only(floor: str) -> None:
    """The learner knows nothing of the queue, and neither knows of the backend."""
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    files = list((ROOT / FOLDERS[floor] / floor).rglob("*.py"))
    assert files
    wrong = {str(path.relative_to(ROOT)): imports_of(path) & above for path in files if imports_of(path) & above}
    assert wrong == {}


@pytest.mark.parametrize(
    "folder",
    [
        "predict/scores.py",
        "predict/aggregate.py",
        "predict/ranks.py",
        "predict/agreement.py",
        "predict/version.py",
        "train/bootstrap.py",
        "train/gate.py",
        "train/slices.py",
        "train/calibration.py",
        "train/metrics.py",
        "evaluate/bias.py",
        "evaluate/corrections.py",
        "evaluate/exact.py",
        "evaluate/spread.py",
        "select/admission.py",
        "select/chance.py",
        "select/choosing.py",
        "select/claspe.py",
        "select/clusters.py",
        "select/diverse.py",
        "select/power.py",
        "select/reasons.py",
        "select/remarks.py",
        "select/typiclust.py",
        "select/uncertainty.py",
        "select/curves.py",
        "select/oracle.py",
        "select/quality.py",
        "select/verdicts.py",
        "select/chart.py",
        "select/layout.py",
    ],
)
def test_pure_maths_knows_no_web_queue_or_database(folder: str) -> None:
    """Maths can be read and reused alone."""
    found = imports_of(ROOT / "learner/maskloop_learner" / folder)
    assert not found & {"fastapi", "httpx", "redis", "rq", "sqlalchemy", "fsspec"}


def test_queue_folder_does_not_shadow_the_standard_library() -> None:
    """`import queue` from the checkout's root is Python's own module."""
    assert not (ROOT / "queue/__init__.py").exists()
    assert not (ROOT / "queue.py").exists()
    code = "import queue; queue.Queue(); print(queue.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT) not in done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "maskloop_backend.web.app",
        "maskloop_backend.cli",
        "maskloop_backend.sync.loop",
        "maskloop_queue.workers",
        "maskloop_queue.jobs",
        "maskloop_learner.pool.pool",
        "maskloop_learner.pool.candidates",
        "maskloop_learner.select.choosing",
        "maskloop_learner.select.simulation",
    ],
)
def test_torch_is_not_imported(module: str) -> None:
    """The web process, sync, the command line and the training worker's parent do not load torch."""
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
