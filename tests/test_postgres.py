"""The pool on a real PostgreSQL server: its schema from every revision, its transactions, its errors and outages."""

import importlib.util
import signal
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pool_fixture import add_model, add_project
from postgres_fixture import PASSWORD, Postgres
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from maskloop_learner.pool import postgres as product
from maskloop_learner.pool.database import MIGRATIONS, DatabaseDown, DatabaseError, create_pool_engine, migrate
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Base, Champion, Event, Model, Project, Task
from maskloop_learner.pool.sole import SYNC, Turn, TurnLost
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ChampionConflict, ensure_version, set_champion

slow = pytest.mark.slow
NOBODY = f"postgresql://maskloop:{PASSWORD}@127.0.0.1:9/pool"


@pytest.fixture
def on_server(tmp_path: Path, postgres_url: str) -> Settings:
    """Settings of an empty, migrated pool on the server."""
    return Settings(home=tmp_path / "home", database_url=postgres_url)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """The message names host and setting, never the password."""
    with pytest.raises(DatabaseDown, match=r"127\.0\.0\.1:9.*MASKLOOP_DATABASE_URL") as caught:
        Pool.open(Settings(home=tmp_path, database_url=NOBODY))
    assert PASSWORD not in str(caught.value)
    assert "maskloop:***@" in str(caught.value)


def test_a_process_waits_for_a_server_that_is_starting(tmp_path: Path) -> None:
    """And shows life meanwhile."""
    beats: list[float] = []
    with pytest.raises(DatabaseDown):
        Pool.open(
            Settings(home=tmp_path, database_url=NOBODY),
            patience=1.5,
            waiting=lambda: beats.append(time.monotonic()),
        )
    assert len(beats) == 2


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatabaseError, match=r"pip install 'maskloop\[postgres\]'"):
        create_pool_engine(NOBODY)


@pytest.mark.parametrize("url", ["mysql://maskloop:secret@host/pool", "host secret no url", "postgresq://a:secret@b/c"])
def test_another_database_is_refused(url: str) -> None:
    """Without a word of what may be a password."""
    with pytest.raises(DatabaseError, match=r"must look like postgresql://") as caught:
        create_pool_engine(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg"])
def test_every_way_to_write_the_url_means_the_same_driver(scheme: str) -> None:
    """Hosting services write postgres://, other programs name other drivers; options in the URL are kept."""
    engine = create_pool_engine(f"{scheme}://user:pass@host/pool?sslmode=require")
    assert engine.url.drivername == "postgresql+psycopg"
    assert engine.url.query == {"sslmode": "require"}


@slow
def test_every_revision_becomes_todays_schema(postgres: Postgres) -> None:
    """Whatever release made the database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    revisions = [str(found.revision) for found in ScriptDirectory.from_config(config).walk_revisions()]
    assert len(revisions) >= 5
    for revision in revisions:
        url = postgres.create()
        engine = create_pool_engine(url)
        migrate(engine, revision=revision)
        migrate(engine)
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == [], revision
        engine.dispose()
        postgres.drop(url)


@slow
def test_processes_that_migrate_at_once_agree(empty_database: str) -> None:
    """One does it, the others find it done."""
    engines = [create_pool_engine(empty_database) for _ in range(4)]
    failures: list[BaseException] = []

    def go(number: int) -> None:
        try:
            migrate(engines[number])
        except DBAPIError as error:
            failures.append(error)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    for engine in engines:
        engine.dispose()


@slow
def test_a_database_of_a_newer_release_is_refused(on_server: Settings) -> None:
    """A host that was not updated says so, instead of writing what it does not understand."""
    pool = Pool.open(on_server)
    with pool.engine.begin() as connection:
        before = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(
            DatabaseError, match=r"newer release of Maskloop has upgraded it.*on this machine"
        ) as caught:
            Pool.open(on_server)
        assert PASSWORD not in str(caught.value)
    finally:
        with pool.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :before"), {"before": before})
    pool.close()


@slow
def test_a_reader_changes_nothing_and_waits_for_no_writer(on_server: Settings) -> None:
    """It sees the state of its first question while a writer holds the lock."""
    pool = Pool.open(on_server)
    add_project(pool)
    with pool.write() as writer, pool.read() as reader:
        writer.execute(update(Project).values(title="new"))
        assert reader.scalars(select(Project.title)).one() == "test"
        with pytest.raises(DBAPIError, match="read-only"):
            reader.execute(update(Project).values(title="by a reader"))
    pool.close()


@slow
def test_two_who_decide_about_one_champion(on_server: Settings) -> None:
    """The second finds the fence moved: compare-and-set holds between hosts."""
    pool = Pool.open(on_server)
    project_id = add_project(pool)
    model_id = add_model(pool, project_id)
    with pool.write() as session:
        project, model = session.get_one(Project, project_id), session.get_one(Model, model_id)
        version = ensure_version(session, project, model, on_server)
        set_champion(session, project_id=project_id, model_id=model_id, version_id=version, fence=0, by="first")
    start, outcomes = threading.Barrier(4), []

    def decide(number: int) -> None:
        mine = Pool.open(on_server)
        start.wait(30)
        try:
            with mine.write() as session:
                name = f"host {number}"
                set_champion(session, project_id=project_id, model_id=model_id, version_id=version, fence=1, by=name)
            outcomes.append(name)
        except ChampionConflict:
            outcomes.append("conflict")
        mine.close()

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes)[:3] == ["conflict"] * 3
    with pool.read() as session:
        champion = session.get_one(Champion, project_id)
        assert (champion.fence, champion.changed_by) == (2, sorted(outcomes)[3])
        assert session.scalar(select(func.count(Event.id)).where(Event.kind == "champion.changed")) == 2
    pool.close()


@slow
def test_a_writer_that_hangs_is_ended(on_server: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host may be gone: the others wait for a bounded time, and nothing of it is kept."""
    monkeypatch.setattr(product, "_BEGIN_WRITING", product._BEGIN_WRITING.replace("'60s'", "'1s'"))
    pool = Pool.open(on_server)
    add_project(pool)
    with pytest.raises(DBAPIError), pool.write() as hanging:
        hanging.execute(update(Project).values(title="half"))
        with pool.write() as other:
            assert other.scalars(select(Project.title)).one() == "test"
        hanging.execute(update(Project).values(title="whole"))
    with pool.read() as session:
        assert session.scalars(select(Project.title)).one() == "test"
    pool.close()


@slow
def test_texts_that_no_database_holds_are_made_ones_that_it_does(on_server: Settings) -> None:
    """Zero characters and halves of surrogate pairs come out of JSON; they must not stop a project."""
    pool = Pool.open(on_server)
    project_id = add_project(pool)
    odd = "zero \x00 half \ud83d end"
    with pool.write() as session:
        session.get_one(Project, project_id).title = odd
        session.add(Task(project_id=project_id, ls_id=1, part="image", url=odd, data={"image": odd, odd: 1}, error=odd))
        record(session, "odd", subject=odd, data={"said": odd})
    with pool.read() as session:
        task = session.scalars(select(Task)).one()
        assert task.url == "zero \ufffd half \ufffd end"
        assert task.data["image"] == odd  # JSON escapes it
        assert session.get_one(Project, project_id).title == task.url
    pool.close()


@slow
def test_a_server_that_is_killed_and_comes_back(on_server: Settings, postgres: Postgres) -> None:
    """What was committed is there; the pool connects anew by itself."""
    pool = Pool.open(on_server)
    add_project(pool)
    with pytest.raises(OperationalError), pool.write() as session:
        session.execute(update(Project).values(title="half"))
        postgres.stop(signal.SIGKILL)
        session.execute(update(Project).values(title="whole"))
    with pytest.raises(OperationalError), pool.read() as session:
        session.scalars(select(Project)).all()
    postgres.start()
    with pool.read() as session:
        assert session.scalars(select(Project.title)).one() == "test"
    pool.close()


@slow
def test_one_process_has_its_turn(on_server: Settings, postgres: Postgres) -> None:
    """The other waits; it takes over when the first gives it back, and when the database loses the first."""
    first, second = Pool.open(on_server), Pool.open(on_server)
    with Turn(first.engine, SYNC) as mine, Turn(second.engine, SYNC) as other:
        assert mine.take()
        assert not other.take()
        mine.check()
        mine.give()
        assert other.take()
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        assert mine.take()
        with pytest.raises(TurnLost, match="connection to the database was lost"):
            other.check()
        with pytest.raises(TurnLost, match="no turn"):
            other.check()
        mine.check()
    first.close()
    second.close()


def test_a_pool_on_sqlite_needs_no_turn(pool: Pool) -> None:
    """A file lock of its host does the same."""
    with Turn(pool.engine, SYNC) as turn:
        assert turn.take()
        turn.check()
