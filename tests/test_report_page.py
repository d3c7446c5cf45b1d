"""The dashboard's link "Report": the file that the command writes, for everybody who is logged in."""

import re

import httpx
import pytest
from dashboard_fixture import make_site
from sqlalchemy import update
from web_fixture import serving

from maskloop_backend.credentials import add_reader
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label
from maskloop_learner.settings import Settings


def test_the_dashboard_gives_the_report(pool: Pool, settings: Settings) -> None:
    """As a file to keep; to a reader too, and to nobody else."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    make_site(pool, 6)
    with pool.write() as session:
        session.execute(update(Label).values(author="ada@clinic.test"))
    with serving(pool, settings) as client:
        answer = client.get("/report?project=7")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        kept = answer.headers["content-disposition"]
        assert re.fullmatch(r'attachment; filename="maskloop-report-7-\d{4}-\d\d-\d\d\.html"', kept)
        assert answer.headers["cache-control"] == "no-store"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert "<h1>Breast ultrasound</h1>" in answer.text
        assert "ada@clinic.test" in answer.text
        assert "ada@clinic.test" not in client.get("/report?project=7&anonymous=1").text
        site = str(client.base_url).rstrip("/")
        assert httpx.get(f"{site}/report").status_code == 401
        assert 'href="/report?project=7"' in client.get("/", headers={"Accept": "text/html"}).text
        assert 'href="/report?project=7"' in client.get("/images", headers={"Accept": "text/html"}).text
        # Last: from now on the passwords are those of the file.
        assert httpx.get(f"{site}/report", auth=("reader", add_reader(settings.home))).status_code == 200


@pytest.mark.parametrize(
    ("query", "status", "what"),
    [("?project=99", 404, "there is no such project"), ("?anonymous=maybe", 400, "`anonymous` is not what it must be")],
)
def test_a_wrong_address_is_explained(pool: Pool, settings: Settings, query: str, status: int, what: str) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    make_site(pool, 6)
    with serving(pool, settings) as client:
        answer = client.get(f"/report{query}")
        assert answer.status_code == status
        assert answer.json()["error"]["what"] == what


def test_without_a_project_there_is_no_report(pool: Pool, settings: Settings) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    with serving(pool, settings) as client:
        answer = client.get("/report")
        assert answer.status_code == 404
        assert "maskloop connect" in answer.json()["error"]["fix"]
