"""What is told nowhere else of kills: requests while the web process is away, and the end of the supervisor itself.

All other processes are killed in test_recovery.py.
"""

import signal
import threading
from collections.abc import Iterator

import httpx
import psutil
import pytest
from demo_fixture import Demo, wait_for
from sqlalchemy import func, select

from maskloop_backend.credentials import load_credentials
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_learner.pool.schema import Event, Prediction

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RESTART = 45.0
"""Seconds for a killed process to be back: a pause, Python's imports, and a loaded machine."""


@pytest.fixture(scope="module")
def admin(demo: Demo) -> Iterator[LabelStudio]:
    """The demo's user; annotations and prompts are in the end as they were, so that other tests find their tasks."""
    with demo.client() as client:
        before, prompt = annotations(demo, client), demo.project().prompts["White matter"]
        yield client
        for annotation in annotations(demo, client) - before:
            client.delete_annotation(annotation)
        if demo.project().prompts["White matter"] != prompt:
            change_prompt(demo, prompt)
        demo.settle()


def annotations(demo: Demo, client: LabelStudio) -> set[int]:
    """Ids of all annotations."""
    return {head.id for task in client.changed_tasks(demo.ls_id, None).tasks for head in task.annotations}


def say(what: str, seconds: float) -> None:
    """Print a figure for the record."""
    print(f"\n{what}: {seconds:.1f} s")


def process(demo: Demo, words: str) -> psutil.Process:
    """The supervised process whose command line has these words."""
    assert demo.process is not None
    own = [p for p in demo.find_processes(words) if p.ppid() == demo.process.pid]
    if len(own) != 1:
        raise RuntimeError(f"{len(own)} processes have {words!r}: {own}")
    return own[0]


def kill(*victims: psutil.Process) -> None:
    """SIGKILL, and wait for the end."""
    for victim in victims:
        victim.kill()
    _, alive = psutil.wait_procs(victims, timeout=10)
    assert not alive


def back(demo: Demo, words: str, old: psutil.Process) -> float:
    """Wait for another process in place of `old`; return the seconds."""

    def is_back() -> bool:
        return any(p.pid != old.pid for p in demo.find_processes(words))

    return wait_for(f"another {words!r}", is_back, RESTART, demo.check_alive)


def submit_one(demo: Demo, client: LabelStudio) -> int:
    """Submit the least uncertain free task; `Demo.unsettled` compares all annotations with the pool's labels."""
    busy = client.busy_tasks(demo.ls_id)
    task = next(row.ls_id for row in reversed(demo.ranking()) if row.ls_id not in busy)
    return demo.answer(client, task).task


def check_published_once(demo: Demo) -> None:
    """Every round has one outcome, and champions have changed one by one."""
    with demo.pool.read() as session:
        events = session.scalars(select(Event).order_by(Event.id)).all()
    outcomes = [e.subject for e in events if e.kind in ("round.promoted", "round.rejected")]
    assert len(outcomes) == len(set(outcomes)) == len(demo.rounds())
    fences = [e.data["fence"] for e in events if e.kind == "champion.changed"]
    assert fences == list(range(1, len(fences) + 1))
    promoted = [e.subject for e in events if e.kind == "round.promoted"]
    by_rounds = [e.data["by"] for e in events if e.kind == "champion.changed" and e.data["by"].startswith("round")]
    assert by_rounds == [f"round {subject}" for subject in promoted]


def is_alive(victim: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    return victim.is_running() and victim.status() != psutil.STATUS_ZOMBIE


def predicted(demo: Demo, version: str) -> int:
    """Images that the pool has predictions of."""
    with demo.pool.read() as session:
        return session.scalar(select(func.count(Prediction.id)).where(Prediction.version_id == version)) or 0


def change_prompt(demo: Demo, text: str) -> str:
    """Another prompt is another version, so that everything is predicted and pushed anew; returns that version."""
    before = demo.version()
    words = ("--url", demo.url, "--project", str(demo.ls_id), "--prompt", f"White matter={text}")
    done = demo.command("connect", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for("the new version", lambda: demo.version() != before, 30.0)
    return demo.version()


def test_web_dies_during_requests(demo: Demo, admin: LabelStudio) -> None:
    """Requests fail while it is away and are answered afterwards; a label submitted meanwhile is not lost."""
    demo.settle()
    rows = [{"id": row.ls_id, "data": {"image": row.url}} for row in demo.ranking()[:4]]
    project = f"{demo.ls_id}.1"
    headers = {"Authorization": load_credentials(demo.home).header}
    outcomes: list[bool] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{demo.port}", headers=headers, timeout=10) as http:
            while not stop.is_set():
                try:
                    answer = http.post("/predict", json={"tasks": rows, "project": project, "params": {}})
                except httpx.TransportError:
                    outcomes.append(False)
                    stop.wait(0.1)
                else:
                    answer.raise_for_status()
                    outcomes.append(all(result["result"] for result in answer.json()["results"]))
                stop.wait(0.02)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_for("twenty answers", lambda: sum(outcomes) >= 20, 60.0)
        victim = process(demo, "maskloop_backend web")
        kill(victim)
        submit_one(demo, admin)
        wait_for("a request to fail", lambda: not all(outcomes), 10.0)
        back(demo, "maskloop_backend web", victim)
        say("requests are answered again", wait_for("answers again", lambda: all(outcomes[-5:]), RESTART))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    demo.settle()


def descendants(demo: Demo) -> list[psutil.Process]:
    """All processes below the supervisor."""
    assert demo.process is not None
    return psutil.Process(demo.process.pid).children(recursive=True)


def alive(victims: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    return [victim for victim in victims if is_alive(victim)]


def test_supervisor_dies_and_leaves_nothing_behind(demo: Demo, admin: LabelStudio) -> None:
    """All its processes end with it, in the middle of their work, and the next start goes on."""
    demo.settle()
    submit_one(demo, admin)
    version = change_prompt(demo, "bright tissue of the brain")
    wait_for("work to be under way", lambda: predicted(demo, version) >= 1, 60.0)
    assert demo.process is not None
    children = descendants(demo)
    assert len(children) >= 6
    demo.process.kill()
    demo.process.wait(10)
    say("all processes have ended after the supervisor's", wait_for("their end", lambda: not alive(children), 15.0))
    say("start after the supervisor's death", demo.start())
    demo.settle()
    check_published_once(demo)


def test_ctrl_c_ends_all_and_the_second_start_is_quick(demo: Demo, admin: LabelStudio) -> None:
    """Under ten seconds to stop, with no process left; the start after it finds everything as it was."""
    demo.settle()
    assert demo.process is not None
    children = descendants(demo)
    took = demo.stop()
    say("Ctrl-C", took)
    assert took < 10.0
    assert not alive(children)
    assert demo.process.returncode in (0, -signal.SIGINT, 130)
    say("second start", demo.start())
    demo.settle()
    healthy = wait_for("a healthy doctor", lambda: demo.command("doctor").returncode == 0, 30.0)
    say("healthy after the second start", healthy)
