"""`maskloop report` writes its file whole, and never in the place of something else."""

import json
from pathlib import Path

import pytest
from command_fixture import Command
from pool_fixture import add_project, add_task

from maskloop_backend.report.writing import is_report
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project


def test_a_report_is_written_beside_you(
    pool: Pool, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named after project and day; a second one takes its place, and nothing else is left."""
    add_task(pool, add_project(pool), 1)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for _ in range(2):
        code, out, err = command("report")
        assert (code, err) == (0, "")
        [file] = folder.iterdir()
        assert file.name.startswith("maskloop-report-7-20")
        assert str(file) in out
        assert is_report(file)


def test_a_foreign_file_stays_unless_forced(pool: Pool, command: Command, tmp_path: Path) -> None:
    add_project(pool)
    file = tmp_path / "minutes.html"
    file.write_text("<html>ours</html>")
    code, _, err = command("report", "7", "--out", str(file))
    assert code == 1
    assert f"{str(file)!r} is there already and is no report of Maskloop" in err
    assert "--force" in err
    assert file.read_text() == "<html>ours</html>"
    code, out, _ = command("report", "7", "--out", str(file), "--force", "--json")
    assert code == 0
    assert json.loads(out) == {"project": 7, "file": str(file), "bytes": file.stat().st_size}
    assert is_report(file)


@pytest.mark.parametrize(("name", "what"), [("", "is a folder"), ("minutes.html/report.html", "cannot be written")])
def test_where_no_file_can_be_is_said(pool: Pool, command: Command, tmp_path: Path, name: str, what: str) -> None:
    """And no part of a file is left."""
    add_project(pool)
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "minutes.html").write_text("ours")
    code, _, err = command("report", "--out", str(folder / name), "--force")
    assert code == 1
    assert what in err
    assert "--out" in err
    assert [each.name for each in folder.iterdir()] == ["minutes.html"]


def test_which_project_is_meant_is_asked(pool: Pool, command: Command, tmp_path: Path) -> None:
    out = str(tmp_path / "report.html")
    code, _, err = command("report", "--out", out)
    assert code == 1
    assert "no project is connected yet" in err
    add_project(pool)
    add_project(pool, ls_id=8)
    with pool.write() as session:
        session.query(Project).filter(Project.ls_id == 8).one().title = "the other"
    code, _, err = command("report", "--out", out)
    assert code == 1
    assert "several projects are connected, name one: 7 (test), 8 (the other)" in err
    assert command("report", "nine", "--out", out)[0] == 1
    assert not Path(out).exists()
    assert command("report", "the other", "--out", out)[0] == 0
    assert "<h1>the other</h1>" in Path(out).read_text()
