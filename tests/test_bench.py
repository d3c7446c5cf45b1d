"""`maskloop bench`: every mode is measured, agrees with the plain passes, and the numbers fit together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from maskloop_learner.bench.prediction import bench_prediction, predict, predict_naively
from maskloop_learner.bench.subject import make_subject
from maskloop_learner.bench.timing import measure_products, median_ratio, time_in_turn
from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.memory import keep_freed_memory
from maskloop_learner.model.precision import choose_dtype, cpu_has_bf16

ROOT = Path(__file__).parents[1]


def run_bench(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "maskloop_backend", "bench", "--json", "--threads", "1", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_ways_are_timed_in_turn_after_an_untimed_turn() -> None:
    order: list[str] = []
    found = time_in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2)
    assert order == ["a", "b"] * 3
    assert [len(x) for x in found.values()] == [2, 2]
    assert median_ratio([4.0, 9.0, 6.0], [2.0, 3.0, 2.0]) == 3.0


def test_modes_agree_with_the_plain_passes() -> None:
    subject, other = make_subject(BACKBONES["nano"]), make_subject(BACKBONES["nano"])
    with torch.inference_mode():
        truth = predict_naively(subject, 12)
        assert float((predict(subject, 12) - truth).abs().max()) < 1e-5
    ticks: list[int] = []
    modes = bench_prediction(subject, other, samples=12, repeats=2, tick=lambda: ticks.append(1))
    assert list(modes) == ["naive", "exact", "bf16", "rank"]
    assert modes["naive"]["max_abs_prob_diff"] == 0
    assert modes["naive"]["speedup"] == 1
    assert 0 < modes["exact"]["max_abs_prob_diff"] < 1e-5
    assert 1e-5 < modes["bf16"]["max_abs_prob_diff"] < 0.1
    assert modes["rank"]["ms"] < modes["exact"]["ms"]
    assert all(row["ms"] > 0 for row in modes.values())
    assert len(ticks) >= 9


@pytest.mark.slow
def test_command_prints_every_figure() -> None:
    found = run_bench("--backbone", "nano", "--samples", "3", "--repeats", "1", "--batch", "2")
    assert found["threads"] == 1
    assert found["samples"] == 3
    assert found["products_gflops"]["fp32"] > 1
    assert set(found["modes"]) == {"naive", "exact", "bf16", "rank"}
    for row in found["modes"].values():
        assert {"ms", "speedup", "max_abs_prob_diff"} <= row.keys()
    assert set(found["training"]) == {"naive", "ours", "bf16"}
    for row in found["training"].values():
        assert row["ms_per_image"] > 0
        assert row["peak_rss_mb"] > 100
    assert found["backbones"][0]["backbone"] == "nano"


def test_an_unknown_backbone_is_one_line() -> None:
    command = [sys.executable, "-m", "maskloop_backend", "bench", "--backbone", "huge"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "'huge'" in done.stderr
    assert "clip-vit-b16" in done.stderr
    assert "Traceback" not in done.stderr


def test_bf16_is_chosen_only_where_the_hardware_has_it() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("fp32", cpu) == torch.float32
    assert choose_dtype("bf16", cpu) == torch.bfloat16
    assert choose_dtype("auto", cpu) == (torch.bfloat16 if cpu_has_bf16() else torch.float32)
    if not cpu_has_bf16():
        pytest.skip("this CPU has no bfloat16 products to compare with")
    assert measure_products(torch.bfloat16) > measure_products(torch.float32)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
@pytest.mark.slow
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    """A tensor of 64 MB made again and again costs no new pages once the memory is kept."""
    code = (
        "import resource, sys, torch\n"
        "from maskloop_learner.model.memory import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': assert keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for size in (3 << 20, 8 << 20, 16 << 20):\n"
        "    for _ in range(3): torch.ones(size)\n"
        "    before = faults()\n"
        "    for _ in range(5): torch.ones(size)\n"
        "    print(faults() - before)\n"
    )
    counts = []
    for how in ("keep", "give"):
        command = [sys.executable, "-c", code, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        # Of the last size: the first ones make room.
        counts.append(int(done.stdout.split()[-1]))
    assert keep_freed_memory()
    assert counts[0] < counts[1] / 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_published_backbone_is_several_times_faster() -> None:
    """ViT-B/16: the same probabilities in less time, and a mean-value pass for ranking."""
    spec = BACKBONES["clip-vit-b16"]
    modes = bench_prediction(make_subject(spec), make_subject(spec), samples=6, repeats=2, tick=lambda: None)
    print(
        {
            name: {key: round(float(row[key]), 6) for key in ("ms", "speedup", "max_abs_prob_diff")}
            for name, row in modes.items()
        }
    )
    assert modes["exact"]["max_abs_prob_diff"] < 1e-5
    # 7 passes against 6 samples: the floor holds on a machine that does other work meanwhile.
    assert modes["exact"]["speedup"] > 1.1
    assert modes["rank"]["speedup"] > 8
