"""Puts the web process together: one FastAPI application over one pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from maskloop_backend.credentials import Credentials
from maskloop_backend.heatmaps import HeatMaps
from maskloop_backend.intake import HeadersFor
from maskloop_backend.web.auth import Guard
from maskloop_backend.web.dashboard.desk import Desk
from maskloop_backend.web.dashboard.pages import PAGES, make_dashboard
from maskloop_backend.web.dashboard.shell import answer
from maskloop_backend.web.errors import install_handlers
from maskloop_backend.web.hints import Hints
from maskloop_backend.web.limits import Guesses
from maskloop_backend.web.maps import make_maps
from maskloop_backend.web.metrics import Measured, Metrics
from maskloop_backend.web.predict import Predictor
from maskloop_backend.web.protocol import Services, make_router
from maskloop_backend.web.threads import Threads
from maskloop_backend.web.users import Users
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings
from maskloop_queue.connection import connect

PATIENCE = 0.5
"""Seconds for which a lost Redis is tried again: a person waits."""


def create_app(pool: Pool, *, settings: Settings, credentials: Credentials, headers_for: HeadersFor) -> FastAPI:
    """The application. `headers_for` gives the headers with Label Studio's token. Redis may be down.

    `app.state.services` are its parts; setting `services.predictor.stopping` ends waiting /predict requests.
    """
    connection = connect(settings, patience=PATIENCE)
    predictor = Predictor(pool, connection, settings=settings, headers_for=headers_for)
    services = Services(
        pool, predictor, Hints(pool, connection), Metrics(pool, connection, settings), Threads(4, "web")
    )
    users, guesses = Users(credentials, settings.home), Guesses()
    desk = Desk(
        pool=pool,
        settings=settings,
        users=users,
        guesses=guesses,
        entries=tuple(page.ENTRY for page in PAGES),
        threads=Threads(3, "dashboard"),
        pictures=Threads(2, "pictures"),
        connection=connection,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services.hints.start()
        desk.start()
        yield
        desk.close()
        predictor.stopping.set()
        await services.hints.stop()
        predictor.close()
        services.threads.close()

    app = FastAPI(
        title="Maskloop", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.services = services
    app.include_router(make_router(services))
    app.include_router(make_dashboard(desk))
    app.include_router(make_maps(pool, desk.pictures, HeatMaps(credentials.signing_key("maps"), "")))
    install_handlers(app, answer)
    app.add_middleware(Guard, users=users, guesses=guesses)
    app.add_middleware(Measured, metrics=services.metrics)  # outermost: 401s count too
    return app
