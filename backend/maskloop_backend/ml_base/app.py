"""Puts a subclass behind Label Studio's ML-backend protocol."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from maskloop_backend.credentials import Credentials
from maskloop_backend.ml_base.auth import Guard
from maskloop_backend.ml_base.base import LabelStudioMLBase
from maskloop_backend.ml_base.endpoints import Served, make_router
from maskloop_backend.ml_base.events import Events
from maskloop_backend.ml_base.figures import Figures
from maskloop_backend.ml_base.fitting import Fits
from maskloop_backend.ml_base.instances import Instances
from maskloop_backend.ml_base.state import State
from maskloop_backend.web.errors import install_handlers
from maskloop_backend.web.threads import Threads
from maskloop_learner.settings import get_settings

THREADS = 4


def make_app(
    model_class: type[LabelStudioMLBase],
    *,
    credentials: Credentials | None = None,
    threads: int = THREADS,
    fit_threads: int = THREADS,
) -> FastAPI:
    """The application that serves `model_class`; state lives in the home folder of the settings.

    `credentials`: what HTTP Basic must carry, None for no check. `threads`: requests to `predict` at the same time.
    `fit_threads`: projects in `fit` at the same time.
    """
    if not (isinstance(model_class, type) and issubclass(model_class, LabelStudioMLBase)):
        raise TypeError(
            f"{model_class!r} is no subclass of maskloop_backend.ml_base.LabelStudioMLBase; change its import line to "
            "`from maskloop_backend.ml_base import LabelStudioMLBase`"
        )
    home, name = get_settings().home, model_class.__name__
    state, events = State(home, name), Events(home, name)
    served = Served(
        model_class,
        Instances(model_class, state),
        state,
        events,
        Fits(model_class, events, home=home, threads=fit_threads),
        Figures(events),
        predicting=Threads(threads, "predict"),
        short=Threads(4, "short"),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        served.fits.start()
        yield
        served.fits.stop()
        served.predicting.close()
        served.short.close()

    app = FastAPI(title=name, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(make_router(served))
    install_handlers(app)
    if credentials is not None:
        app.add_middleware(Guard, credentials=credentials)
    return app
