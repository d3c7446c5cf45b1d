"""Who gets into the dashboard and what they may do: log-in, sessions, roles, tokens, and what pages may load."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from command_fixture import Command
from pool_fixture import add_project, add_task
from web_fixture import CREDENTIALS, no_token, serving

from maskloop_backend.credentials import Credentials, add_reader, load_credentials, remove_reader
from maskloop_backend.web.app import create_app
from maskloop_backend.web.limits import MOST, WINDOW, Guesses
from maskloop_backend.web.metrics import PATHS
from maskloop_backend.web.sessions import COOKIE, SECONDS, Sessions
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings

WEB = Path(__file__).parents[1] / "backend/maskloop_backend/web"
PAGE = {"Accept": "text/html"}
LONG = "a password of more characters than anybody guesses"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of one dashboard for all tests that change nobody's password; its Redis is down."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), redis_url="redis://127.0.0.1:1/0")
    with serving(Pool.open(settings), settings) as client:
        yield str(client.base_url).rstrip("/")


def enter(site: str, password: str, *, onward: str = "/") -> tuple[httpx.Client, httpx.Response]:
    """A browser after it sent the log-in page."""
    client = httpx.Client(base_url=site, headers=PAGE, timeout=30)
    page = client.get("/login", params={"next": onward})
    token = re.search(r'name="token" value="([^"]+)"', page.text)
    assert token is not None
    answer = client.post("/login", data={"password": password, "token": token[1], "next": onward})
    return client, answer


def token_of(page: httpx.Response) -> str:
    """What every write from this session must carry."""
    found = re.search(r"""hx-headers='{"X-CSRF-Token": "([^"]+)"}'""", page.text)
    assert found is not None
    return found[1]


def test_a_browser_is_sent_to_the_log_in_and_back(site: str) -> None:
    with httpx.Client(base_url=site, headers=PAGE) as client:
        sent = client.get("/images?state=all")
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Fimages%3Fstate%3Dall")
    client, answer = enter(site, CREDENTIALS.password, onward="/images?state=all")
    assert (answer.status_code, answer.headers["location"]) == (303, "/images?state=all")
    assert client.get("/images?state=all").status_code == 200
    cookie = next(value for value in answer.headers.get_list("set-cookie") if value.startswith(COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie, "it is not https here"
    client.close()


def test_a_wrong_password_says_so_and_lets_nobody_in(site: str) -> None:
    client, answer = enter(site, "wrong")
    assert answer.status_code == 401
    assert "neither the project lead" in answer.text
    assert client.get("/").status_code == 303
    client.close()


@pytest.mark.parametrize("onward", ["https://evil.test/", "//evil.test", "/\\evil.test", "javascript:alert(1)", ""])
def test_a_log_in_goes_on_to_this_server_only(site: str, onward: str) -> None:
    client, answer = enter(site, CREDENTIALS.password, onward=onward)
    assert answer.headers["location"] == "/"
    client.close()


def test_a_log_in_of_another_page_is_refused(site: str) -> None:
    """Without the cookie that goes with the form, with another's, or from another site."""
    with httpx.Client(base_url=site, headers=PAGE) as client:
        fields = {"password": CREDENTIALS.password, "token": Sessions(CREDENTIALS).login_token()}
        assert client.post("/login", data=fields).status_code == 403
        token = re.search(r'name="token" value="([^"]+)"', client.get("/login").text)
        assert token is not None
        foreign = {"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}
        sent = {"password": CREDENTIALS.password, "token": token[1]}
        assert client.post("/login", data=sent, headers=foreign).status_code == 403
        assert COOKIE not in client.cookies


def test_every_write_is_refused_without_its_sessions_token(pool: Pool, settings: Settings, site: str) -> None:
    """All routes that change anything, those of pages to come as well."""
    app = create_app(pool, settings=settings, credentials=CREDENTIALS, headers_for=no_token)
    writes = [
        (method.upper(), re.sub(r"{[^}]+}", "1", path))
        for path, methods in app.openapi()["paths"].items()
        for method in set(methods) - {"get", "head", "options"}
        if path not in PATHS
    ]
    writes += [("POST", "/anything/at/all"), ("PUT", "/images"), ("DELETE", "/images/1"), ("PATCH", "/")]
    assert ("POST", "/logout") in writes
    client, _ = enter(site, CREDENTIALS.password)
    good = token_of(client.get("/"))
    for method, path in writes:
        if path == "/login":
            continue  # it has a token of its own, see above
        for headers in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": good[:-1]}):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 403, (method, path)
            assert "token" in answer.text
    foreign = {"X-CSRF-Token": good, "Sec-Fetch-Site": "cross-site"}
    assert client.post("/logout", headers=foreign).status_code == 403
    assert client.post("/nowhere", headers={"X-CSRF-Token": good}).status_code in (404, 405), "with it all is well"
    client.close()


def test_logging_out_takes_the_token_of_a_form(site: str) -> None:
    client, _ = enter(site, CREDENTIALS.password)
    token = token_of(client.get("/"))
    answer = client.post("/logout", data={"csrf_token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert client.get("/").status_code == 303
    client.close()


def test_another_sites_page_cannot_use_a_browsers_basic_password(site: str) -> None:
    """Browsers send it by themselves; programmes say nothing of where they come from."""
    auth = (CREDENTIALS.username, CREDENTIALS.password)
    foreign = {"Origin": "https://evil.test"}
    body = {"action": "TASKS_CREATED", "project": {"id": 1}}
    assert httpx.post(f"{site}/webhook", auth=auth, headers=foreign, json=body).status_code == 403
    assert httpx.post(f"{site}/webhook", auth=auth, json=body).status_code == 200


def test_a_session_is_no_way_to_label_studios_endpoints(site: str) -> None:
    client, _ = enter(site, CREDENTIALS.password)
    token = token_of(client.get("/"))
    assert client.post("/webhook", headers={"X-CSRF-Token": token}, json={}).status_code == 401
    client.close()


def test_a_reader_sees_all_and_changes_nothing(pool: Pool, settings: Settings) -> None:
    """Made while the dashboard runs; its session ends with its password."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    add_task(pool, add_project(pool), 1)
    with serving(pool, settings) as client:
        check_reader(settings, str(client.base_url).rstrip("/"))


def check_reader(settings: Settings, site: str) -> None:
    """From its first log-in to its end."""
    password = add_reader(settings.home)
    lead = load_credentials(settings.home).password
    client, answer = enter(site, password)
    assert answer.status_code == 303
    page = client.get("/images")
    assert page.status_code == 200
    assert "read only" in page.text
    refused = client.post("/anything", headers={"X-CSRF-Token": token_of(page)})
    assert refused.status_code == 403
    assert "logged in to look only" in refused.text
    assert httpx.get(f"{site}/api/images", auth=("reader", password)).status_code == 200
    assert httpx.post(f"{site}/webhook", auth=("reader", password), json={}).status_code == 403
    assert remove_reader(settings.home)
    assert client.get("/images").status_code == 303
    client.close()
    client, answer = enter(site, lead)
    assert answer.status_code == 303, "the file's password counts as it is now"
    client.close()


def test_sessions_expire_and_are_nobodys_to_make() -> None:
    ours, others = Sessions(Credentials("a", LONG, key="k", reader="r")), Sessions(Credentials("a", LONG, key="l"))
    cookie = ours.begin("lead", now=1000)
    who = ours.read(cookie, now=1001)
    assert who is not None
    assert (who.role, who.may_write, who.renew) == ("lead", True, False)
    half = ours.read(cookie, now=1000 + SECONDS * 0.6)
    assert half is not None
    assert half.renew
    assert half.csrf == who.csrf != ""
    assert ours.read(cookie, now=1000 + SECONDS) is None
    assert others.read(cookie, now=1001) is None
    assert [ours.read(text, now=1001) for text in ("", ".", "x.y", cookie[:-1], "A" + cookie)] == [None] * 5
    changed = Sessions(Credentials("a", LONG + "!", key="k", reader="r"))
    assert changed.read(cookie, now=1001) is None, "another password ends it"
    reader = ours.begin("reader", now=1000)
    assert Sessions(Credentials("a", LONG, key="k")).read(reader, now=1001) is None
    with pytest.raises(ValueError, match="dashboard-user"):
        others.begin("reader")


def test_guesses_are_counted_by_address_and_forgotten() -> None:
    moment = 0.0
    guesses = Guesses(clock=lambda: moment)
    for _ in range(MOST):
        assert guesses.wait("a") == 0
        guesses.note("a")
    assert guesses.wait("a") == WINDOW
    assert guesses.wait("b") == 0
    moment = WINDOW
    assert guesses.wait("a") == 0


def test_who_guesses_must_wait_and_a_long_password_still_counts(pool: Pool, settings: Settings) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    app = create_app(pool, settings=settings, credentials=Credentials("m", LONG), headers_for=no_token)

    async def try_all() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://dashboard") as client:
            wrong = [client.get("/versions", auth=("m", str(number))) for number in range(MOST)]
            codes = [answer.status_code for answer in await asyncio.gather(*wrong)]
            codes.append((await client.get("/versions", auth=("m", "one more"))).status_code)
            codes.append((await client.get("/versions", auth=("m", LONG))).status_code)
            return codes

    assert asyncio.run(try_all()) == [401] * MOST + [429, 200]


@pytest.mark.parametrize("path", ["/", "/images", "/login", "/nowhere"])
def test_pages_load_and_run_nothing_but_our_own_files(site: str, path: str) -> None:
    """By policy, and in what they name."""
    client, _ = enter(site, CREDENTIALS.password)
    if path == "/login":
        client.cookies.clear()
    page = client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert "<style" not in page.text
    assert not re.search(r"\s(style|on[a-z]+)=", page.text)
    scripts = re.findall(r"<script([^>]*)>", page.text)
    assert scripts
    assert all('src="/static/' in script for script in scripts)
    for address in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', page.text):
        assert address.startswith("/static/")
        assert client.get(address).status_code == 200
    client.close()


def test_no_template_or_style_names_another_server() -> None:
    """What is loaded is in the package; links to Label Studio come from the pool."""
    files = [*WEB.glob("templates/*.html"), *WEB.glob("static/*.css"), *WEB.glob("static/dashboard.js")]
    assert len(files) > 10
    for file in files:
        assert not re.search(r"(?:https?:)?//[a-z0-9]", file.read_text().replace("// ", "")), file.name
        assert "@import" not in file.read_text()


def test_static_files_are_kept_for_ever_and_nothing_else_is_served(site: str) -> None:
    page = httpx.get(f"{site}/login")
    address = re.search(r'href="(/static/[^"]+\.css)"', page.text)
    assert address is not None
    assert "immutable" in httpx.get(site + address[1]).headers["cache-control"]
    assert httpx.get(f"{site}/static/old/dashboard.css").headers["cache-control"] == "no-cache"
    for path in ("/static/x/nothing.css", "/static/x/..%2fapp.py", "/static/x/%2e%2e", "/static/app.py"):
        assert httpx.get(site + path).status_code == 404


def test_the_readers_password_is_made_in_a_shell(command: Command, settings: Settings) -> None:
    code, out, _ = command("dashboard-user", "--read-only")
    reader = load_credentials(settings.home).reader
    assert code == 0
    assert reader is not None
    assert f"Password: {reader}" in out
    assert f"/login#token={reader}" in out
    assert command("dashboard-user")[0] == 1
    assert command("dashboard-user", "--remove")[1].startswith("The reader is gone")
    assert load_credentials(settings.home).reader is None
