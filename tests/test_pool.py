"""The pool: transactions of several processes, the store's promises, the append-only log."""

import json
import multiprocessing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError

from maskloop_learner.pool.database import DatabaseError, create_pool_engine, file_system_of, migrate
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Base, Event, Label, Project
from maskloop_learner.pool.store import Store, StoreError
from maskloop_learner.settings import Settings


def test_migrations_build_the_schema(pool: Pool) -> None:
    """The tables that migrations make are those that the code declares."""
    with pool.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrating_again_changes_nothing(pool: Pool) -> None:
    """Every process migrates at its start."""
    with pool.write() as session:
        session.add(Project(ls_url="http://x", ls_id=1))
    migrate(pool.engine)
    with pool.read() as session:
        assert session.scalar(select(func.count(Project.id))) == 1


def test_the_log_is_append_only(pool: Pool) -> None:
    """The database refuses to rewrite history."""
    with pool.write() as session:
        record(session, "test", subject="a", data={"n": 1})
    for statement in (update(Event).values(kind="other"), delete(Event)):
        with pytest.raises(DBAPIError, match="append-only"), pool.write() as session:
            session.execute(statement)
    with pool.read() as session:
        assert session.scalars(select(Event.kind)).all() == ["test"]


def test_an_error_rolls_everything_back(pool: Pool) -> None:
    """A write is whole or not at all."""
    with pytest.raises(RuntimeError, match="in the middle"), pool.write() as session:
        session.add(Project(ls_url="http://x", ls_id=1))
        session.flush()
        raise RuntimeError("in the middle")
    with pool.read() as session:
        assert session.scalar(select(func.count(Project.id))) == 0


def _count_up(settings: Settings, times: int) -> None:
    pool = Pool.open(settings)
    for _ in range(times):
        with pool.write() as session:
            project = session.scalars(select(Project)).one()
            project.ls_id += 1
    pool.close()


def test_processes_do_not_lose_each_others_writes(pool: Pool, settings: Settings) -> None:
    """Read-modify-write of four processes at once adds up: writers take the lock before they read."""
    with pool.write() as session:
        session.add(Project(ls_url="http://x", ls_id=0))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count_up, args=(settings, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with pool.read() as session:
        assert session.scalars(select(Project.ls_id)).one() == 100


def test_sqlite_is_refused_where_its_locks_do_not_hold() -> None:
    """Network file systems lose writes; memory is not shared."""
    mounts = "/dev/vda / ext4 rw 0 0\nserver:/x /mnt/share nfs4 rw 0 0\n//s/y /mnt/share/win cifs rw 0 0\n"
    assert file_system_of(Path("/mnt/share/a.db"), mounts) == "nfs4"
    assert file_system_of(Path("/mnt/share/win/a.db"), mounts) == "cifs"
    assert file_system_of(Path("/mnt/shared/a.db"), mounts) == "ext4"
    with pytest.raises(DatabaseError, match="several processes"):
        create_pool_engine("sqlite://")


def test_store_keeps_bytes_by_digest(tmp_path: Path) -> None:
    """The same bytes have one place; altered or missing blobs are refused by name."""
    store = Store((tmp_path / "store").as_uri())
    digest = store.put("masks", b"some bytes")
    assert store.put("masks", b"some bytes") == digest
    assert store.get("masks", digest) == b"some bytes"
    assert not store.exists("images", digest)
    path = next((tmp_path / "store").rglob(digest))
    path.write_bytes(b"same bytes")
    with pytest.raises(StoreError, match=f"{digest}.*altered"):
        store.get("masks", digest)
    path.unlink()
    with pytest.raises(StoreError, match=f"{digest}.*missing"):
        store.get("masks", digest)
    with pytest.raises(StoreError, match="64 lower-case hex"):
        store.get("masks", "../../etc/passwd")


def test_store_mends_a_torn_blob(tmp_path: Path) -> None:
    """A file cut short or altered by a crash of the disk is replaced when its bytes are put again."""
    store = Store((tmp_path / "store").as_uri())
    digest = store.put("weights", b"0123456789")
    for torn in (b"0123", b"012345678X"):
        next((tmp_path / "store").rglob(digest)).write_bytes(torn)
        assert store.put("weights", b"0123456789") == digest
        assert store.get("weights", digest) == b"0123456789"


def test_store_sweeps_what_dead_writers_left(tmp_path: Path) -> None:
    """Temporary files of this living process stay; those of dead ones go."""
    import os

    store = Store((tmp_path / "store").as_uri())
    digest = store.put("masks", b"x")
    folder = next((tmp_path / "store").rglob(digest)).parent
    (folder / f"{digest}.tmp-999999999-aa").write_bytes(b"half")
    (folder / f"{digest}.tmp-{os.getpid()}-bb").write_bytes(b"half")
    assert store.sweep() == 1
    assert sorted(p.name for p in folder.iterdir()) == [digest, f"{digest}.tmp-{os.getpid()}-bb"]


def test_store_works_on_any_file_system() -> None:
    """An fsspec URL that is no folder."""
    store = Store("memory://maskloop-test")
    digest = store.put("images", b"abc")
    assert store.get("images", digest) == b"abc"


def test_a_folder_lists_and_removes_blobs(tmp_path: Path) -> None:
    """The same on a disk, without what a writer has not finished."""
    store = Store((tmp_path / "store").as_uri())
    assert list(store.list_blobs("masks")) == []
    digest = store.put("masks", b"abc")
    (tmp_path / "store" / "masks" / digest[:2] / f"{digest}.tmp-1-aa").write_bytes(b"ha")
    assert list(store.list_blobs("masks")) == list(store.list_blobs("masks", digest[0])) == [digest]
    assert store.size("masks", digest) == 3
    assert store.delete("masks", digest)
    assert not store.delete("masks", digest)
    assert list(store.list_blobs("masks")) == []


def test_any_other_file_system_lists_and_removes_blobs() -> None:
    """By an fsspec URL."""
    store = Store(f"memory://{uuid4().hex}")
    assert list(store.list_blobs("masks")) == []
    digest = store.put("masks", b"abc")
    assert list(store.list_blobs("masks")) == list(store.list_blobs("masks", digest[:2])) == [digest]
    assert store.size("masks", digest) == 3
    assert store.delete("masks", digest)
    assert not store.delete("masks", digest)
    assert not store.exists("masks", digest)
    with pytest.raises(StoreError, match=r"MASKLOOP_STORE_URL 'nothing://x' cannot be opened"):
        Store("nothing://x")


def test_labels_of_earlier_releases_know_the_labels_of_their_time(empty_settings: Settings) -> None:
    """A label that is added later was not looked for on them."""
    settings = empty_settings
    engine = create_pool_engine(settings.resolved_database_url)
    migrate(engine, revision="0003")
    rows: dict[str, dict[str, Any]] = {
        "projects": {"id": 1, "ls_url": "u", "ls_id": 1, "title": "", "label_config": "", "prompts": "{}"}
        | {"control": json.dumps({"controls": [], "labels": ["Tumor"]})},
        "tasks": {"id": 1, "project_id": 1, "ls_id": 1, "url": "", "data": "{}", "state": "new", "attempts": 0},
        "labels": {"id": 1, "task_id": 1, "ls_annotation_id": 1, "version": 1, "current": True, "cancelled": False}
        | {"deleted": False, "masks": "{}", "ls_updated_at": "2026-01-01 00:00:00"},
    }
    with engine.connect().execution_options(maskloop_write=True) as connection, connection.begin():
        for table, values in rows.items():
            values |= {"created_at": "2026-01-01 00:00:00"}
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"), values)
    engine.dispose()
    with Pool.open(settings).read() as session:
        assert session.scalars(select(Label.known)).one() == ["Tumor"]
