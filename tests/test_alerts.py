"""Alerts: to a real web server and a real command, each once, none forgotten, and never in the way of `sync`."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command_fixture import Command as CommandLine
from pool_fixture import add_project
from sqlalchemy import func, select

from maskloop_backend.alerts import Alert, AlertError, Command, Webhook, find_targets
from maskloop_backend.sync import alerting
from maskloop_backend.sync.alarms import Alarms, Trouble
from maskloop_backend.sync.alerting import Alerter
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Cursor, Event, utcnow
from maskloop_learner.settings import Settings, get_settings


class Inbox:
    """What arrived at a chat system, which may be down or slow."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status, self.seconds = 200, 0.0
        self.url = ""

    @property
    def texts(self) -> list[str]:
        """The messages."""
        return [str(body["text"]) for body in self.got]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """A web server that takes alerts."""
    box = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            time.sleep(box.seconds)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if box.status == 200:
                box.got.append(body)
            self.send_response(box.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    box.url = f"http://127.0.0.1:{server.server_port}/hooks/s3cret-token"
    yield box
    server.shutdown()
    server.server_close()


def run(alerter: Alerter, steps: int = 2) -> None:
    """Let an alerter work until nothing is under way."""
    for _ in range(steps):
        alerter.step()
        if alerter._thread is not None:
            alerter._thread.join(20)
    alerter.step()


def fail_round(pool: Pool, project: int, number: int, *, retry_at: str = "", reason: str = "NaN in the loss") -> None:
    """Note a training that failed."""
    with pool.write() as session:
        record(
            session,
            "round.failed",
            project_id=project,
            subject=str(number),
            data={"reason": reason, "retry_at": retry_at},
        )


def test_a_training_that_failed_for_good_is_told_once(pool: Pool, inbox: Inbox) -> None:
    """What happened before the target was set up is past; a failure that is tried again by itself is none."""
    project = add_project(pool)
    fail_round(pool, project, 1)
    alerter = Alerter(pool=pool, target=Webhook(inbox.url))
    run(alerter)
    assert inbox.got == []
    fail_round(pool, project, 2, retry_at="2026-01-01 10:00")
    fail_round(pool, project, 3)
    with pool.write() as session:
        record(session, "round.promoted", project_id=project, subject="4")
    run(alerter)
    run(alerter)
    run(Alerter(pool=pool, target=Webhook(inbox.url)))
    assert inbox.texts == ["Maskloop: project 7 (test), training round 3 failed for good: NaN in the loss"]
    (body,) = inbox.got
    assert (body["kind"], body["subject"], body["project"]) == ("round.failed", "3", 7)
    assert body["data"]["reason"] == "NaN in the loss"


def test_a_target_that_is_down_gets_its_alerts_later(
    pool: Pool, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In order, none twice; the log names the host and not the secret in the address."""
    monkeypatch.setattr(alerting, "FIRST_PAUSE", 0.05)
    project = add_project(pool)
    alerter = Alerter(pool=pool, target=Webhook(inbox.url))
    run(alerter)
    inbox.status = 503
    for number in (1, 2, 3):
        fail_round(pool, project, number)
    run(alerter)
    assert inbox.got == []
    time.sleep(0.1)
    inbox.status = 200
    again = Alerter(pool=pool, target=Webhook(inbox.url))
    run(again)
    assert [body["subject"] for body in inbox.got] == ["1", "2", "3"]
    assert "url 127.0.0.1 answered with status 503" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_loop_does_not_wait_for_a_slow_target(pool: Pool, inbox: Inbox) -> None:
    """A step only begins a delivery."""
    project = add_project(pool)
    alerter = Alerter(pool=pool, target=Webhook(inbox.url))
    run(alerter)
    inbox.seconds = 2.0
    fail_round(pool, project, 1)
    started = time.monotonic()
    alerter.step()
    alerter.step()
    assert time.monotonic() - started < 1.0
    assert alerter._thread is not None
    alerter._thread.join(10)
    alerter.step()
    assert len(inbox.got) == 1


def test_alike_alerts_are_one_an_hour(pool: Pool, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one says how many there were; another subject is another alert; what is a day old is not sent."""
    project = add_project(pool)
    alerter = Alerter(pool=pool, target=Webhook(inbox.url))
    run(alerter)
    for _ in range(4):
        fail_round(pool, project, 1)
    fail_round(pool, project, 2)
    with pool.write() as session:
        session.add(Event(kind="round.failed", subject="3", at=utcnow() - timedelta(days=2)))
    run(alerter)
    assert [body["subject"] for body in inbox.got] == ["1", "2"]
    monkeypatch.setattr(alerting, "QUIET", 0.0)
    fail_round(pool, project, 1)
    run(alerter)
    assert inbox.texts[-1].endswith("NaN in the loss (3 more like it before)")


def test_a_command_gets_the_text_and_no_shell(pool: Pool, tmp_path: Path) -> None:
    """On its standard input, whatever stands in it; a failure is told with its last words."""
    script = tmp_path / "mailer.py"
    script.write_text("import sys; open(sys.argv[1], 'a').write(sys.stdin.read())")
    settings = Settings(alert_command=f"'{sys.executable}' '{script}' '{tmp_path}/in box'")
    (target,) = find_targets(settings)
    nasty = f"round 1 failed: $(touch {tmp_path}/owned); `ls`"
    target.send(Alert(nasty, "round.failed"))
    assert (tmp_path / "in box").read_text() == f"{nasty}\n"
    assert not (tmp_path / "owned").exists()
    project = add_project(pool)
    alerter = Alerter(pool=pool, target=target)
    run(alerter)
    fail_round(pool, project, 9)
    run(alerter)
    assert "training round 9 failed for good" in (tmp_path / "in box").read_text()
    with pytest.raises(AlertError, match=r"command python.* ended with status 3: no such user"):
        Command([sys.executable, "-c", "import sys; print('no such user', file=sys.stderr); sys.exit(3)"]).send(
            Alert("x", "test")
        )
    with pytest.raises(AlertError, match="command mailx-that-is-not-there failed: No such file"):
        Command(["mailx-that-is-not-there"]).send(Alert("x", "test"))


def test_settings_that_name_no_target_are_refused(settings: Settings, pool: Pool) -> None:
    """By name; `sync` goes on without alerts."""
    with pytest.raises(AlertError, match="MASKLOOP_ALERT_URL must be an address"):
        find_targets(Settings(alert_url="slack"))
    with pytest.raises(AlertError, match="MASKLOOP_ALERT_COMMAND cannot be split"):
        find_targets(Settings(alert_command="mail 'ops"))
    assert find_targets(Settings()) == []
    assert Alerter.of(pool, Settings(alert_url="slack")) == []


@contextmanager
def told(pool: Pool, *kinds: str) -> Iterator[None]:
    """Exactly these events are recorded within."""
    with pool.read() as session:
        before = session.scalar(select(func.max(Event.id))) or 0
    yield
    with pool.read() as session:
        assert tuple(session.scalars(select(Event.kind).where(Event.id > before).order_by(Event.id))) == kinds


def test_a_trouble_is_an_alarm_only_when_it_lasts(pool: Pool) -> None:
    """One event at its beginning and one at its end, also when `sync` was started again in between."""
    project = add_project(pool)
    patient = Alarms(pool=pool, minutes=60)
    trouble = Trouble("the token is not valid", project)
    with told(pool):
        patient.watch("sync.stuck", "7", trouble)
        patient.watch("sync.stuck", "7", None)
        patient.watch("sync.stuck", "7", trouble)
    hasty = Alarms(pool=pool, minutes=0)
    with told(pool, "sync.stuck"):
        hasty.watch("sync.stuck", "7", trouble)
        hasty.watch("sync.stuck", "7", trouble)
        Alarms(pool=pool, minutes=0).watch("sync.stuck", "7", trouble)
    with told(pool, "sync.stuck.over"):
        started_again = Alarms(pool=pool, minutes=60)
        started_again.watch("sync.stuck", "7", None)
        started_again.watch("sync.stuck", "7", None)
    with pool.read() as session:
        event = session.scalars(select(Event).where(Event.kind == "sync.stuck")).one()
        assert (event.project_id, event.subject, event.data["reason"]) == (project, "7", "the token is not valid")
        assert session.scalars(select(Cursor)).all() == []


def test_every_alarm_has_its_words(pool: Pool) -> None:
    """And a text for its end, with the minutes it lasted."""
    for kind, words in alerting.SAID.items():
        data = {"reason": "it is broken", "seconds": 610, "made_at": "2026-01-05"}
        alert = alerting.alert_of(Event(kind=kind, subject="it", data=data, at=utcnow()), None)
        assert alert.text.startswith("Maskloop: ")
        assert "{" not in alert.text
        if "minutes" in words:
            assert "10 minutes" in alert.text


def test_a_test_alert_says_what_arrived(
    inbox: Inbox, settings: Settings, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 0 only when every target took it; with none set up the settings are named."""
    code, _, err = command("alert-test")
    assert code == 1
    assert "set MASKLOOP_ALERT_URL or MASKLOOP_ALERT_COMMAND" in err
    monkeypatch.setenv("MASKLOOP_ALERT_URL", inbox.url)
    get_settings.cache_clear()
    code, out, _ = command("alert-test")
    assert (code, out) == (0, "url 127.0.0.1: ok\n")
    assert inbox.texts == ["Maskloop: this is a test; alerts arrive."]
    inbox.status = 404
    code, out, _ = command("alert-test")
    assert (code, out) == (1, "url 127.0.0.1: url 127.0.0.1 answered with status 404\n")
