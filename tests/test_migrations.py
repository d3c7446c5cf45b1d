"""Upgrades of the pool from every earlier revision, with rows in every table; upgrades that are killed half-way.

tests/revisions/NNNN.sql are pools that the releases of that revision made, see scripts/dump_revision.py.
"""

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import IntegrityError

from maskloop_backend.readiness import readiness
from maskloop_learner.pool.database import DatabaseError, create_pool_engine, migrate, release, revisions
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import usable_labels
from maskloop_learner.pool.schema import Base, Event, Project, Round
from maskloop_learner.settings import Settings

DUMPS = Path(__file__).parent / "revisions"
EARLIER = revisions()[:-1]
Table = dict[tuple[Any, ...], dict[str, Any]]
CHANGED = {
    # What upgrades are there to change: forms of JSON, fields that were filled in, rounds that were open twice.
    "projects": {"control", "prompts"},
    "tasks": {"part"},
    "labels": {"known"},
    "batches": {"items"},
    "rounds": {"state", "reason"},
}


def build(settings: Settings, revision: str) -> Path:
    """The pool of an earlier release in the settings' home; returns its database."""
    dump = DUMPS / f"{revision}.sql"
    assert dump.exists(), (
        f"make tests/revisions/{revision}.sql in a tree where {revision} is the newest revision: "
        f"python scripts/dump_revision.py > tests/revisions/{revision}.sql"
    )
    path = settings.home / "maskloop.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text())
    return path


def content(path: Path) -> dict[str, Table]:
    """Table -> primary key -> row, as the database has them."""
    found: dict[str, Table] = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            keys = [row["name"] for row in connection.execute(f"PRAGMA table_info({name})") if row["pk"]]
            rows = [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
            found[name] = {tuple(row[key] for key in keys): row for row in rows}
    return found


def check_upgraded(settings: Settings, before: dict[str, Table]) -> None:
    """Nothing is lost, nothing dangles, the schema is today's, and the code can read all of it."""
    pool = Pool.open(settings)
    after = content(settings.home / "maskloop.db")
    for name, rows in before.items():
        if name == "alembic_version":
            continue
        assert set(rows) <= set(after[name]), f"rows of {name} are lost"
        for key, row in rows.items():
            kept = {column for column in row if column in after[name][key]} - CHANGED.get(name, set())
            assert {c: after[name][key][c] for c in kept} == {c: row[c] for c in kept}, (name, key)
    with pool.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
        assert connection.exec_driver_sql("PRAGMA integrity_check").fetchall() == [("ok",)]
    with pool.read() as session:
        for mapper in Base.registry.mappers:
            assert len(session.scalars(select(mapper.class_)).all()) == len(after[mapper.class_.__tablename__])
        first, second = session.scalars(select(Project).order_by(Project.id))
        found = readiness(session, first, settings)
        assert (found.images_ready, found.labels, found.model, found.served) == (2, 1, 1, first.served_version)
        # Of a label that says nothing of it, earlier upgrades noted what could be drawn at its time.
        known = ["Tumor", "Cyst"] if min(before["alembic_version"]) < ("0004",) else None
        assert [row.known for row in usable_labels(session, first.id)] == [known]
        assert [control["data_key"] for control in first.control["controls"]] == ["image"]
        assert readiness(session, second, settings).labels == 0
    with pytest.raises(IntegrityError, match="append-only"), pool.write() as session:
        session.execute(text("DELETE FROM events"))
    pool.close()


@pytest.mark.parametrize("revision", EARLIER)
def test_a_pool_of_an_earlier_release_is_upgraded_whole(settings: Settings, revision: str) -> None:
    """From every revision there ever was; the log says what happened, once."""
    path = build(settings, revision)
    before = content(path)
    empty = [name for name, rows in before.items() if not rows]
    assert not empty, f"nothing is tested of the tables {empty}"
    check_upgraded(settings, before)
    Pool.open(settings).close()
    with Pool.open(settings).read() as session:
        (told,) = session.scalars(select(Event.data).where(Event.kind == "pool.migrated"))
    assert told == {"from": revision, "to": revisions()[-1], "release": release()}


def upgrade_in_child(settings: Settings, *, kill_at: int) -> int:
    """Upgrade in a forked process that SIGKILL ends after so many statements; returns how many it made, 0: killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        engine = create_pool_engine(settings.resolved_database_url)
        made = [0]

        @event.listens_for(engine, "after_cursor_execute")
        def count(*_: object) -> None:
            made[0] += 1
            if made[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        migrate(engine)
        os.write(writer, str(made[0]).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as said:
        return int(said.read() or 0) if os.WIFEXITED(status) else 0


@pytest.mark.parametrize("revision", EARLIER)
def test_an_upgrade_that_is_killed_is_made_by_the_next_start(settings: Settings, revision: str) -> None:
    """Whatever statement was the last one, the pool is still the earlier one, whole."""
    path = build(settings, revision)
    before = content(path)
    whole = Settings(home=settings.home / "whole")
    build(whole, revision)
    statements = upgrade_in_child(whole, kill_at=-1)
    assert statements > 20
    for kill_at in (statements // 2, statements):
        assert upgrade_in_child(settings, kill_at=kill_at) == 0
        assert content(path) == before
    check_upgraded(settings, before)


def test_a_newer_pool_is_refused_by_name(settings: Settings) -> None:
    """A release that was put back says which one to install, instead of failing at the first strange column."""
    pool = Pool.open(settings)
    with pool.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=r"revision '9999'.*a newer release of Maskloop has upgraded it"):
        Pool.open(settings)
    with pool.write() as session:
        session.add(Event(kind="pool.migrated", data={"from": "0005", "to": "9999", "release": "7.1.0"}))
    with pytest.raises(DatabaseError, match=r"Maskloop 7\.1\.0 has upgraded it.*maskloop restore"):
        Pool.open(settings)
    pool.close()


def test_rounds_that_were_open_twice_are_settled(settings: Settings) -> None:
    """Earlier releases kept one round open by reading alone; the first one stays."""
    path = build(settings, "0004")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO rounds SELECT 9, project_id, snapshot_id, cause, 'queued', 0, 0, NULL, NULL, "
            "'{}', NULL, NULL, NULL, created_at FROM rounds WHERE id = 2"
        )
    with Pool.open(settings).read() as session:
        assert [row.state for row in session.scalars(select(Round).order_by(Round.id))] == [
            "promoted",
            "running",
            "cancelled",
        ]
        assert session.scalar(select(func.count(Round.id)).where(Round.state == "running")) == 1


def test_every_dump_has_the_revision_that_it_is_named_after() -> None:
    """A dump of another tree would test nothing. The newest revision's may be there before it is an earlier one."""
    dumps = sorted(DUMPS.glob("*.sql"))
    assert set(EARLIER) <= {path.stem for path in dumps} <= set(revisions())
    for path in dumps:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(path.read_text())
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(path.stem,)]
            (control,) = connection.execute("SELECT control FROM projects WHERE id = 1").fetchone()
        assert ("controls" in json.loads(control)) is (path.stem >= "0003")
