"""Answers stay quick while a training runs: open-loop load of 20 requests a second on 16 connections for a minute."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from demo_fixture import Demo, wait_for

from maskloop_learner.pool.pool import Pool
from maskloop_queue.triggers import active_round, request_training

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_answers_stay_quick_while_a_training_runs(demo: Demo) -> None:
    """/predict of pre-scored tasks p95 < 100 ms, /health p99 < 250 ms, webhook p99 < 250 ms; nothing fails."""
    pool, project = demo.pool, demo.project()
    with demo.client() as client:
        tasks = sorted(client.all_tasks(demo.ls_id))
    done = threading.Event()
    busy: list[bool] = []

    def keep_training() -> None:
        while not done.wait(0.5):
            with pool.read() as session:
                active = active_round(session, project.id)
            busy.append(active is not None and active.state == "running")
            if active is None:
                request_training(pool, project.id, cause="cli")

    trainer = threading.Thread(target=keep_training)
    trainer.start()
    try:
        wait_for("the training to run", lambda: busy and busy[-1], 120)
        busy.clear()
        command = [sys.executable, str(ROOT / "scripts" / "load.py"), "--url", f"http://127.0.0.1:{demo.port}"]
        command += ["--home", str(demo.home), "--project", str(demo.ls_id), "--tasks", ",".join(map(str, tasks))]
        command += ["--rate", "20", "--connections", "16", "--seconds", str(SECONDS), "--json"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        done.set()
        trainer.join()
    share = sum(busy) / len(busy)
    print(f"a training ran for {share:.0%} of the time\n{ended.stdout}")
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert share > 0.5
    assert sum(row["requests"] for row in figures.values()) == 20 * SECONDS
    assert figures["/predict"]["p95"] < 100
    assert figures["/health"]["p99"] < 250
    assert figures["/webhook"]["p99"] < 250
    wait_for("the last training to end", lambda: not active(pool, project.id), 300)


def active(pool: Pool, project_id: int) -> bool:
    """Whether a round is queued or at work."""
    with pool.read() as session:
        return active_round(session, project_id) is not None
