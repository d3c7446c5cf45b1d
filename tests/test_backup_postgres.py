"""Backup and restore of a pool on a real PostgreSQL server."""

from pathlib import Path

import pytest
from pool_fixture import add_label, add_model, add_project, add_task
from postgres_fixture import PASSWORD, Postgres
from sqlalchemy import func, select
from test_backup import check_whole

from maskloop_backend.backup.content import BackupError
from maskloop_backend.backup.restoring import restore
from maskloop_backend.backup.saving import save
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Label, Project
from maskloop_learner.settings import Settings

pytestmark = pytest.mark.slow


def test_a_pool_on_postgresql_comes_back(postgres: Postgres, empty_database: str, tmp_path: Path) -> None:
    """Dump and blobs are of one moment: what is written after the dump's snapshot is in neither."""
    settings = Settings(home=tmp_path / "home", database_url=empty_database)
    pool = Pool.open(settings)
    project = add_project(pool)
    for number in range(1, 4):
        add_label(pool, add_task(pool, project, number))
    add_model(pool, project)

    def write_on(done: int, of: int) -> None:
        add_label(pool, add_task(pool, project, 100 + done))

    done = save(settings, tmp_path / "backup", on_progress=write_on)
    assert (done.blobs, done.missing) == (3 + 1 + 1, [])
    assert [path.suffix for path in (tmp_path / "backup").glob("database-*")] == [".dump"]
    address = postgres.create()
    new = Settings(home=tmp_path / "new", database_url=address)
    found = restore(tmp_path / "backup", new)
    assert found.projects == [(7, "http://127.0.0.1:1")]
    again = Pool.open(new)
    assert check_whole(again) == 5
    with again.read() as session:
        assert session.scalar(select(func.count(Label.id))) == 3
        assert session.scalars(select(Project.checked_at)).one() is None
        assert session.scalars(select(Event.kind)).all() == ["pool.restored"]
    third = Settings(home=tmp_path / "third", database_url=address)
    with pytest.raises(BackupError, match="is not empty") as refused:
        restore(tmp_path / "backup", third)
    assert PASSWORD not in str(refused.value)
    with pytest.raises(BackupError, match="holds a postgresql database, the settings name sqlite"):
        restore(tmp_path / "backup", Settings(home=tmp_path / "fourth"))
    again.close()
    pool.close()
    postgres.drop(address)
