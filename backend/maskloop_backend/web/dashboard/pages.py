"""All pages of the dashboard, in the order of its navigation. A new page is a module here and a line below."""

from fastapi import APIRouter

from maskloop_backend.web.dashboard import (
    annotators,
    batches,
    images,
    login,
    models,
    pictures,
    projects,
    reports,
    static,
    work,
)
from maskloop_backend.web.dashboard.desk import Desk, Page

PAGES: tuple[Page, ...] = (projects, images, batches, models, work, annotators)


def make_dashboard(desk: Desk) -> APIRouter:
    """The routes of all pages, of the log-in, of pictures, of the report and of the static files."""
    router = APIRouter()
    for page in PAGES:
        router.include_router(page.make_router(desk))
    for part in (login, pictures, reports, static):
        router.include_router(part.make_router(desk))
    return router
