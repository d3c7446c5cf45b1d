"""docker-compose.yml: whole, consistent with the code and with Label Studio, and without a password in it."""

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
import typer
import yaml
from postgres_fixture import Postgres
from sqlalchemy import make_url
from typer.main import get_command

from maskloop_backend.cli import app
from maskloop_learner.settings import Settings
from maskloop_queue.connection import connect
from maskloop_queue.processes import BEAT_VARIABLE

ROOT = Path(__file__).parents[1]
OURS = {"web", "sync", "gpu", "training"}
LABEL_STUDIO = os.environ.get("MASKLOOP_TEST_LABEL_STUDIO", "")


class Loader(yaml.SafeLoader):
    """YAML with compose's own tag for what an override takes away."""


Loader.add_constructor("!reset", lambda loader, node: None)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, anchors resolved."""
    found: dict[str, Any] = yaml.load((ROOT / "docker-compose.yml").read_text(), Loader)
    return found


@pytest.fixture
def maker() -> ModuleType:
    """scripts/make_secrets.py as a module."""
    spec = importlib.util.spec_from_file_location("make_secrets", ROOT / "scripts" / "make_secrets.py")
    if spec is None or spec.loader is None:
        raise RuntimeError("scripts/make_secrets.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_process_is_a_service_with_a_health_check(compose: dict[str, Any]) -> None:
    """Restarted, watched, with bounded logs and time to end."""
    services = compose["services"]
    assert set(services) == {*OURS, "valkey", "postgres", "labelstudio"}
    for name, service in services.items():
        assert {"image", "build"} & set(service), name
        assert service["restart"] == "unless-stopped", name
        assert service["init"] is True, name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert service["stop_grace_period"], name if name in OURS else ""
    for name in ("gpu", "training"):
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]


def test_what_services_name_is_there(compose: dict[str, Any]) -> None:
    """Other services, volumes, networks, secrets and mounted files; and nothing is declared that nobody uses."""
    used: dict[str, set[str]] = {"volumes": set(), "networks": set(), "secrets": set()}
    for name, service in compose["services"].items():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert "healthcheck" in compose["services"][other]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_file(), source
                assert volume.endswith(":ro")
            else:
                used["volumes"].add(source)
        used["networks"].update(service["networks"])
        used["secrets"].update(service.get("secrets", []))
        text = yaml.safe_dump(service)
        assert set(re.findall(r"/run/secrets/(\w+)", text)) <= set(service.get("secrets", [])), name
    for kind, names in used.items():
        assert names == set(compose[kind]), kind


def test_nothing_is_open_and_no_password_is_in_it(compose: dict[str, Any], maker: ModuleType, tmp_path: Path) -> None:
    """Ports are this machine's; passwords come by file, each made by scripts/make_secrets.py."""
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), f"{name} opens {port} to the network"
        for variable in service.get("environment", {}):
            assert "PASSWORD" not in variable or variable.endswith("_FILE"), variable
    made = maker.contents(tmp_path)
    assert {name: secret["file"] for name, secret in compose["secrets"].items()} == {
        name: f"./secrets/{name}" for name in made
    }
    assert "secrets" in (ROOT / ".gitignore").read_text()
    assert "secrets" in (ROOT / ".dockerignore").read_text()


def test_commands_and_settings_are_the_codes(compose: dict[str, Any]) -> None:
    """Each command parses, and each variable is a setting, or names a setting's file."""
    command = get_command(app)
    for name in OURS:
        service = compose["services"][name]
        for words in (service["command"], service["healthcheck"]["test"][2:]):
            with typer.Context(command, info_name="maskloop") as context:
                found, sub, rest = command.resolve_command(context, list(words))  # type: ignore[attr-defined]
                sub.make_context(found, rest, parent=context)
        for variable in service["environment"]:
            setting = variable.removeprefix("MASKLOOP_").removesuffix("_FILE").lower()
            assert setting in Settings.model_fields or variable == BEAT_VARIABLE, variable
        assert (BEAT_VARIABLE in service["environment"]) == (name != "web")
        assert name in service["healthcheck"]["test"]
        assert service["volumes"] == ["maskloop:/data"]
    assert "MASKLOOP_HOME=/data" in (ROOT / "Dockerfile").read_text()


def test_label_studio_reaches_web_and_nothing_behind_it(compose: dict[str, Any]) -> None:
    """Whoever makes webhooks in it chooses addresses: its guard stays on, and queue and workers are elsewhere."""
    services = compose["services"]
    studio = services["labelstudio"]
    assert studio["environment"]["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    assert studio["environment"]["SSRF_PROTECTION_ENABLED"] == "true"
    banned = studio["environment"]["USER_ADDITIONAL_BANNED_SUBNETS"].split(",")
    assert {"169.254.0.0/16", "127.0.0.0/8"} <= set(banned)
    reached = {name for name, other in services.items() if set(other["networks"]) & set(studio["networks"])}
    assert reached == {"labelstudio", "web", "sync", "postgres"}
    public = make_url(services["web"]["environment"]["MASKLOOP_PUBLIC_URL"])
    assert (public.host, public.port) == ("web", Settings.model_fields["port"].default)


@pytest.mark.slow
def test_label_studio_knows_its_variables(compose: dict[str, Any]) -> None:
    """By the source of the one that is installed for the tests; its container's own variable is not in there."""
    if not LABEL_STUDIO:
        pytest.skip("no Label Studio is installed; `make test-slow` installs one")
    (package,) = Path(LABEL_STUDIO).parents[1].glob("lib/python3*/site-packages/label_studio")
    source = "".join(path.read_text() for path in (package / "core" / "settings").glob("*.py"))
    known = set(re.findall(r"get_(?:bool_)?env(?:_list)?\(\s*'(\w+)'", source))
    asked = set(compose["services"]["labelstudio"]["environment"]) - {"ENV_INJECT_SOURCES"}
    assert asked <= known


def test_the_override_takes_the_gpu_away() -> None:
    """From all services that reserve one, and changes nothing else."""
    override = yaml.load((ROOT / "docker-compose.cpu.yml").read_text(), Loader)
    assert override == {"services": {"gpu": {"deploy": None}, "training": {"deploy": None}}}


def test_the_image_runs_as_a_user_of_its_own() -> None:
    """From the versions that were tested, with what several hosts need, and a health check."""
    text = (ROOT / "Dockerfile").read_text()
    assert "-c constraints.txt '.[postgres,s3]'" in text
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)
    assert re.search(r'^HEALTHCHECK .*"maskloop", "healthcheck", "web"', text, re.MULTILINE)


def test_secrets_are_made_once(maker: ModuleType, tmp_path: Path) -> None:
    """A second run changes none; addresses hold the passwords that their servers are given."""
    folder = tmp_path / "secrets"
    maker.main(folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o077 == 0
    maker.main(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert make_url(before["database_url"]).password == before["maskloop_password"]
    assert before["labelstudio_password"] in before["labelstudio_env"]
    settings = Settings(home=tmp_path, redis_url=before["redis_url"])
    password = connect(settings).connection_pool.connection_kwargs["password"]
    assert f"requirepass {password}\n" in before["valkey_conf"]
    (folder / "redis_url").unlink()
    maker.main(folder)
    assert (folder / "redis_url").read_text() == before["redis_url"]


@pytest.mark.slow
def test_the_script_makes_both_databases(postgres: Postgres, maker: ModuleType, tmp_path: Path) -> None:
    """Run against a real server: each user opens its own database and not the other's."""
    folder = tmp_path / "secrets"
    maker.main(folder)
    env = {
        "PATH": f"{postgres.programs}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGPASSWORD": make_url(postgres.url("postgres")).password or "",
        "POSTGRES_USER": "root_of_tests",
        "SECRETS": str(folder),
    }
    # The tests' own superuser has the name that the script gives to Maskloop's.
    postgres.execute(f"CREATE ROLE root_of_tests SUPERUSER LOGIN PASSWORD '{env['PGPASSWORD']}'")
    script = (
        (ROOT / "deploy" / "postgres-init.sh").read_text().replace("in maskloop labelstudio", "in labelstudio other")
    )
    (folder / "other_password").write_text("o'ther")
    subprocess.run(["sh", "-c", script], env=env, check=True, capture_output=True, text=True)
    address = f"host=127.0.0.1 port={postgres.port}"
    password = (folder / "labelstudio_password").read_text()
    with psycopg.connect(f"{address} dbname=labelstudio user=labelstudio password={password}") as connection:
        connection.execute("CREATE TABLE kept (id int)")
    with psycopg.connect(f"{address} dbname=other user=other password=o\\'ther") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("other",)
    with pytest.raises(psycopg.OperationalError, match="CONNECT"):
        psycopg.connect(f"{address} dbname=other user=labelstudio password={password}")
    for name in ("labelstudio", "other"):
        postgres.drop(postgres.url(name))
        postgres.execute(f"DROP ROLE {name}")
    postgres.execute("DROP ROLE root_of_tests")
