"""Backup and restore: while others write, into a folder and a tar file, killed at any point, and damaged."""

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import stat
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_fixture import Command
from pool_fixture import add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import func, select, text

from maskloop_backend.backup.content import LAST_BACKUP, BackupError, Manifest, blob_name
from maskloop_backend.backup.restoring import check, restore
from maskloop_backend.backup.saving import save
from maskloop_backend.credentials import load_credentials
from maskloop_backend.labelstudio.tokens import load_token, save_token
from maskloop_backend.supervisor import HomeBusy, hold_home
from maskloop_learner.pool.database import DatabaseError
from maskloop_learner.pool.holds import is_held
from maskloop_learner.pool.pool import UNFINISHED, Pool
from maskloop_learner.pool.references import KINDS, find_rows_references
from maskloop_learner.pool.schema import Cursor, Event, Image, Model, Project, Round, Snapshot, Task, utcnow
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings

URL = "http://labels.example.org"
TOKEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home: images, labels, a model, a snapshot and a running round in its pool, and credentials beside it."""
    settings = Settings(home=tmp_path_factory.mktemp("template") / "home")
    pool = Pool.open(settings)
    project = add_project(pool)
    for number in range(1, 6):
        add_label(pool, add_task(pool, project, number))
    add_model(pool, project)
    snapshot = freeze_snapshot(pool, project, share=0.2)
    with pool.write() as session:
        row = session.get_one(Project, project)
        row.synced_at = row.checked_at = utcnow()
        row.sync_error = "Label Studio was away"
        session.add(Round(project_id=project, snapshot_id=snapshot, cause="cli", state="running", holder="a process"))
    load_credentials(settings.home)
    save_token(settings.home, URL, TOKEN)
    (settings.home / "imports").mkdir()
    (settings.home / "imports" / "1.json").write_text("{}")
    pool.close()
    return settings.home


@pytest.fixture
def full(settings: Settings, template: Path) -> Pool:
    """The pool of a home like the template."""
    shutil.copytree(template, settings.home)
    return Pool.open(settings)


def other(settings: Settings, name: str = "other") -> Settings:
    """Settings of another machine: a home folder that is not there yet."""
    return Settings(home=settings.home.parent / name)


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in a database."""
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


def check_whole(pool: Pool) -> int:
    """Every blob that a row names is there and whole; returns how many."""
    count = 0
    with pool.read() as session:
        for kind, digests in find_rows_references(session).items():
            for digest in digests:
                pool.store.get(kind, digest)
                count += 1
    return count


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; returns the signal that ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def die() -> None:
    """As a machine does that loses its power."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(step: int, done: int, of: int) -> None:
    """Progress that ends the process."""
    if done == step:
        die()


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_what_is_backed_up_comes_back(full: Pool, settings: Settings, tmp_path: Path, name: str) -> None:
    """Rows, blobs, credentials and journals, for the owner's eyes only; sync compares all with Label Studio anew."""
    done = save(settings, tmp_path / name)
    assert done.blobs == done.copied == 5 + 1 + 1 + 1, "images, the one mask, weights, manifest"
    assert (done.missing, done.credentials) == ([], True)
    assert not is_held(full)
    written = [path for path in (tmp_path / name).rglob("*") if path.is_file() and path.name != "lock"]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (tmp_path / name, *written)} == {0}
    before = rows(settings.home / "maskloop.db")
    shutil.move(settings.home, tmp_path / "gone")
    new = other(settings)
    found = restore(tmp_path / name, new)
    after = rows(new.home / "maskloop.db")
    same = set(before) - {"projects", "rounds", "events", "cursors"}
    assert {table: after[table] for table in same} == {table: before[table] for table in same}
    pool = Pool.open(new)
    assert check_whole(pool) == 8
    with pool.read() as session:
        project = session.scalars(select(Project)).one()
        assert (project.synced_at, project.checked_at, project.sync_error) == (None, None, None)
        assert [(row.state, row.holder) for row in session.scalars(select(Round))] == [("running", None)]
        kinds = session.scalars(select(Event.kind).order_by(Event.id)).all()
        assert kinds == ["snapshot.frozen", "pool.restored"]
    assert (found.projects, found.credentials) == ([(7, "http://127.0.0.1:1")], True)
    assert load_credentials(new.home) == load_credentials(tmp_path / "gone")
    assert load_token(new.home, URL) == TOKEN
    assert (new.home / "imports" / "1.json").read_text() == "{}"
    modes = {stat.S_IMODE((new.home / name).stat().st_mode) for name in ("credentials.json", "labelstudio.json")}
    assert modes == {0o600}
    kept = {path.name for path in new.home.iterdir()} - {"maskloop.db-wal", "maskloop.db-shm"}
    assert kept == {"credentials.json", "imports", "labelstudio.json", "maskloop.db", "maskloop.lock", "store"}
    pool.close()


def test_the_next_backup_into_a_folder_copies_only_what_is_new(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """And drops what is needed no more, so that the folder does not grow for ever."""
    target = tmp_path / "backup"
    first = save(settings, target)
    with full.read() as session:
        project = session.scalars(select(Project.id)).one()
    add_task(full, project, 99)
    with full.write() as session:
        model = session.scalars(select(Model)).one()
        model.pruned_at = utcnow()
    second = save(settings, target)
    assert (first.copied, second.copied, second.blobs) == (8, 1, 8)
    manifest = check(target)
    names = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert names == manifest.names | {"manifest.json", "lock"}
    with full.read() as session:
        cursor = session.get_one(Cursor, LAST_BACKUP)
        assert abs(cursor.position - time.time()) < 60
        assert session.scalar(select(func.count(Event.id)).where(Event.kind == "backup.made")) == 2


def _write_on(settings: Settings, started: Any, stop: Any) -> None:
    pool, number = Pool.open(settings), 1000
    with pool.read() as session:
        project = session.scalars(select(Project.id)).one()
    while not stop.is_set():
        number += 1
        add_label(pool, add_task(pool, project, number, data=png_bytes(number)), label=f"label {number}")
        if number == 1003:
            started.set()
    pool.close()


def test_a_backup_is_of_one_moment_while_others_write(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """Another process adds tasks, images and labels all the time: each label of the copy has its task and its mask."""
    context = multiprocessing.get_context("fork")
    started, stop = context.Event(), context.Event()
    writer = context.Process(target=_write_on, args=(settings, started, stop))
    writer.start()
    try:
        assert started.wait(60)
        save(settings, tmp_path / "backup")
    finally:
        stop.set()
        writer.join(60)
    assert writer.exitcode == 0
    new = other(settings)
    restore(tmp_path / "backup", new)
    pool = Pool.open(new)
    assert check_whole(pool) >= 8 + 3
    with pool.read() as session, full.read() as live:
        count = session.scalar(select(func.count(Task.id))) or 0
        assert 5 + 3 <= count <= (live.scalar(select(func.count(Task.id))) or 0)
        assert session.execute(text("PRAGMA foreign_key_check")).all() == []
    pool.close()


@pytest.mark.parametrize("name", ["backup", pytest.param("backup.tar", marks=pytest.mark.slow)])
def test_a_backup_that_is_killed_leaves_the_one_before(
    full: Pool, settings: Settings, tmp_path: Path, name: str
) -> None:
    """At whatever slice of the store or file; the next one takes up what is there, after looking at it again."""
    target = tmp_path / name
    save(settings, target)
    with full.read() as session:
        project = session.scalars(select(Project.id)).one()
    add_task(full, project, 50)
    for at in (9, 16):
        killed = in_child(partial(save, settings, target, on_progress=partial(die_at, at)))
        assert killed == signal.SIGKILL
        assert is_held(full)
        # A space: fsspec takes the escapes of a URL for part of a folder's name.
        restore(target, other(settings, f"after {at}"))
        pool = Pool.open(other(settings, f"after {at}"))
        with pool.read() as session:
            assert session.scalar(select(func.count(Task.id))) == 5
        assert check_whole(pool) == 8
        pool.close()
    if name == "backup":
        torn = target / blob_name("images", next(full.store.list_blobs("images")))
        torn.write_bytes(b"torn")
    assert save(settings, target).blobs == 9
    assert check(target).blob_count == 9
    left = {path.name.split("-")[0] for path in [*tmp_path.iterdir(), *target.glob("*")]}
    assert not left & {"scratch", ".backup.tar.scratch", "unfinished"}


def test_a_restore_that_is_killed_leaves_nothing_that_starts(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """While it checks, copies or moves files into place; the next restore begins anew and is whole."""
    save(settings, tmp_path / "b.tar")
    new = other(settings)

    def kill_while_moving(move: int) -> None:
        replace, left = os.replace, [move]

        def counted(source: Any, to: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                die()
            replace(source, to)

        os.replace = counted  # type: ignore[assignment]
        restore(tmp_path / "b.tar", new)

    steps = (partial(restore, tmp_path / "b.tar", new, on_progress=partial(die_at, step)) for step in (3, 14, 20))
    moves = (partial(kill_while_moving, move) for move in (2, 4, 6))
    works: list[Callable[[], object]] = [*steps, *moves]
    for work in works:
        assert in_child(work) == signal.SIGKILL
        with pytest.raises(DatabaseError, match=r"restore into .* was interrupted"):
            Pool.open(new)
    restore(tmp_path / "b.tar", new)
    pool = Pool.open(new)
    assert check_whole(pool) == 8
    assert not list(new.home.glob("*restore*"))
    pool.close()


def test_a_home_that_is_in_use_is_never_overwritten(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """Nor one where something lies; what lies there is named and stays."""
    save(settings, tmp_path / "backup")
    before = rows(settings.home / "maskloop.db")
    with pytest.raises(BackupError, match=r"is not empty \(credentials.json, .*never overwrites"):
        restore(tmp_path / "backup", settings)
    assert rows(settings.home / "maskloop.db") == before
    assert not (settings.home / UNFINISHED).exists()
    new = other(settings)
    with hold_home(new.home), pytest.raises(HomeBusy):
        restore(tmp_path / "backup", new)


def _alter(target: Path) -> None:
    path = next((target / "store" / "images").rglob("?" * 64))
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _lose(target: Path) -> None:
    next((target / "store" / "masks").rglob("?" * 64)).unlink()


def _alter_database(target: Path) -> None:
    path = next(target.glob("database-*.db"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _cut(target: Path) -> None:
    (target / "manifest.json").unlink()


def _leave(target: Path) -> None:
    content = json.loads((target / "manifest.json").read_bytes())
    content["files"]["home/../../evil"] = {"sha256": "0" * 64, "size": 1}
    (target / "manifest.json").write_text(json.dumps(content))


def _from_the_future(target: Path) -> None:
    content = json.loads((target / "manifest.json").read_bytes())
    content |= {"revision": "9999", "release": "7.1.0"}
    (target / "manifest.json").write_text(json.dumps(content))


DAMAGES: dict[str, Callable[[Path], None]] = {
    r"store/images/../.*was altered since the backup was made": _alter,
    r"is not whole: 1 files of it are missing, such as store/masks/": _lose,
    r"database-.*was altered": _alter_database,
    r"has no manifest.json: it is no backup, or one that was cut short": _cut,
    r"names 'home/../../evil', which is no file of a backup": _leave,
    r"revision '9999', which this release .* does not know; restore it with Maskloop 7\.1\.0": _from_the_future,
}


def test_a_damaged_backup_is_refused_before_anything_is_written(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """By name, and the home stays empty for the next one."""
    save(settings, tmp_path / "backup")
    new = other(settings)
    for message, damage in DAMAGES.items():
        target = tmp_path / damage.__name__
        shutil.copytree(tmp_path / "backup", target)
        damage(target)
        with pytest.raises(BackupError, match=message):
            restore(target, new)
        assert {path.name for path in new.home.glob("*")} <= {"maskloop.lock", UNFINISHED}
    restore(tmp_path / "backup", new)


def test_a_tar_that_was_cut_short_is_refused(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """As a full disk or a broken copy leaves it; so is a file that is no tar."""
    save(settings, tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[: len(data) // 2])
    with pytest.raises(BackupError, match=r"a\.tar"):
        restore(tmp_path / "a.tar", other(settings))
    (tmp_path / "b.tar").write_bytes(b"something else")
    with pytest.raises(BackupError, match=r"b\.tar cannot be read"):
        check(tmp_path / "b.tar")
    with pytest.raises(BackupError, match=r"c\.tar does not exist"):
        check(tmp_path / "c.tar")


def test_blobs_that_the_store_has_lost_do_not_stop_a_backup(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """They are named; all the rest is saved. A damaged manifest and a damaged image count as lost."""
    store = Path(full.store.url.removeprefix("file://"))
    with full.read() as session:
        manifest = session.scalars(select(Snapshot.digest)).one()
        first, second, *_ = session.scalars(select(Image.digest).order_by(Image.digest))
    next(store.rglob(manifest)).write_bytes(b"altered")
    next(store.rglob(first)).write_bytes(b"altered")
    next(store.rglob(second)).unlink()
    done = save(settings, tmp_path / "backup")
    assert sorted(done.missing) == sorted([f"manifests/{manifest}", f"images/{first}", f"images/{second}"])
    assert done.blobs == 5
    restore(tmp_path / "backup", other(settings))


def test_places_that_cannot_hold_a_backup_are_refused(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """A folder with other things, the home itself, a disk that cannot be written."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(BackupError, match="holds other things than a backup"):
        save(settings, tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with pytest.raises(BackupError, match="would be lost with it"):
        save(settings, settings.home / "backup")
    with pytest.raises(BackupError, match="the backup was not made"):
        save(settings, Path("/proc/backup"))


def test_blobs_go_to_a_store_elsewhere_and_come_from_there(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """The store's URL may be another one after the restore."""
    save(settings, tmp_path / "a.tar")
    new = Settings(home=tmp_path / "new", store_url=f"memory://backup-{os.getpid()}")
    restore(tmp_path / "a.tar", new)
    pool = Pool.open(new)
    assert check_whole(pool) == 8
    assert not (new.home / "store").exists()
    again = save(new, tmp_path / "b")
    assert again.blobs == 8
    restore(tmp_path / "b", other(settings))
    assert check_whole(Pool.open(other(settings))) == 8


def test_the_database_must_be_of_the_same_kind(full: Pool, settings: Settings, tmp_path: Path) -> None:
    """Said with the cure, before anything is touched."""
    save(settings, tmp_path / "a.tar")
    new = Settings(home=tmp_path / "new", database_url="postgresql+psycopg://u:secret@127.0.0.1:1/x")
    with pytest.raises(BackupError, match="holds a sqlite database, the settings name postgresql; unset"):
        restore(tmp_path / "a.tar", new)


def test_the_commands_say_what_they_did(
    full: Pool, settings: Settings, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a person and for a script; without credentials the way to new ones is told."""
    from maskloop_learner.settings import get_settings

    code, out, err = command("backup", str(tmp_path / "b"), "--no-credentials")
    assert (code, err) == (0, "")
    assert "8 blobs, 8 of them new" in out
    assert "without password and tokens" in out
    code, out, _ = command("backup", str(tmp_path / "b"), "--json")
    assert json.loads(out)["copied"] == 0
    assert command("restore", "--check", str(tmp_path / "b"))[0] == 0
    code, _, err = command("restore", str(tmp_path / "b"))
    assert code == 1
    assert err.startswith("maskloop: the home folder")
    command("backup", str(tmp_path / "c.tar"), "--no-credentials")
    monkeypatch.setenv("MASKLOOP_HOME", str(tmp_path / "new"))
    get_settings.cache_clear()
    monkeypatch.setattr("sys.argv", ["maskloop", "restore", str(tmp_path / "c.tar")])
    from maskloop_backend.cli import main

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    with tarfile.open(tmp_path / "c.tar") as tar:
        assert not [name for name in tar.getnames() if "credentials" in name or "labelstudio" in name]
    assert not (tmp_path / "new" / "credentials.json").exists()


def test_manifests_are_read_as_they_were_written() -> None:
    """All fields."""
    manifest = Manifest("1.0", "0005", "sqlite", "2026-01-01")
    for kind in KINDS:
        manifest.blobs[kind].append("ab" * 32)
    assert Manifest.from_bytes(manifest.to_bytes(), where="here") == manifest
    assert manifest.blob_count == len(KINDS)
    with pytest.raises(BackupError, match=r"here has format 2, this release reads 1"):
        Manifest.from_bytes(manifest.to_bytes().replace(b'"format": 1', b'"format": 2'), where="here")
    with pytest.raises(BackupError, match=r"here: its manifest\.json is damaged"):
        Manifest.from_bytes(b"[]", where="here")
