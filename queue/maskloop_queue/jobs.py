"""The jobs: the only functions a worker runs, and the job class that refuses every other."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, cast

from rq import Retry
from rq.exceptions import NoSuchJobError
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job

from maskloop_queue.running import running

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)


class JobRefused(RuntimeError):
    """A job names a function that is not on the whitelist, or carries what only a forged job would."""


def score_image(version_id: str, image_digest: str, deadline: float | None = None, prompts: str = "") -> None:
    """Predict one image with a prediction version into the pool; dropped when `deadline` (Unix time) has passed."""
    if deadline is not None and time.time() > deadline:
        log.info("dropped: nobody waits any more for image %s under %s", image_digest[:12], version_id)
        return
    from maskloop_queue import scoring
    from maskloop_queue.damage import handled

    place = running()

    def work() -> None:
        with handled(place.pool, place.settings):
            keep_maps = place.settings.keep_maps
            scoring.score(place.pool, place.predictors, version_id, image_digest, prompts, keep_maps=keep_maps)

    place.outlast(work)


def rank_image(version_id: str, image_digest: str, prompts: str = "") -> None:
    """Say where a prediction version places an image, before its mask is drawn."""
    from maskloop_queue import ranking
    from maskloop_queue.damage import handled

    place = running()

    def work() -> None:
        with handled(place.pool, place.settings):
            ranking.rank(place.pool, place.predictors, version_id, image_digest, prompts)

    place.outlast(work)


def embed_image(image_digest: str, backbone: str) -> None:
    """Say where an image lies among the others, for projects that have no model to predict it with."""
    from maskloop_queue import embedding

    place = running()
    place.outlast(lambda: embedding.embed(place.pool, place.predictors, backbone, image_digest))


def train_round(round_id: int) -> Retry | None:
    """Work on a training round until it has ended; put back at the front of the queue when the worker must stop."""
    from maskloop_queue import rounds

    place = running()

    def work() -> None:
        try:
            rounds.run(place.pool, round_id, place.settings, place.report, place.should_stop_training, place.give_way)
        except rounds.RoundBusy as busy:
            log.info("round %d is left alone until %s: %s", round_id, busy.until, busy)

    return resumable(work, name=f"round {round_id}")


def resumable(work: Callable[[], None], *, name: str) -> Retry | None:
    """Do `work`; when it ended because the worker stops, return RQ's order to go on with the job at the next start."""
    try:
        work()
    except Exception as error:
        if not running().should_stop():
            raise
        log.warning("%s is interrupted (%s) and goes on later", name, error, exc_info=True)
    # That the work was done all the same is seen at the next start, from the pool.
    return Retry(max=1_000_000, enqueue_at_front=True) if running().should_stop() else None


JOBS: dict[str, Callable[..., Any]] = {
    "maskloop_queue.jobs.score_image": score_image,
    "maskloop_queue.jobs.rank_image": rank_image,
    "maskloop_queue.jobs.embed_image": embed_image,
    "maskloop_queue.jobs.train_round": train_round,
}


class Executions(ExecutionRegistry):
    """A job's executions, without those that died: RQ 3.0.0 takes a finished job for failed, and runs it again,
    when the record of an earlier, killed execution has expired before its entry here has."""

    def get_executions(self, start: int = 0, end: int = -1) -> list[Execution]:
        """Those whose record is there and whole."""
        found = []
        for execution_id in self.get_execution_ids(start, end):
            try:
                found.append(Execution.fetch(execution_id, self.job_id, self.connection))
            except (ValueError, KeyError):
                continue
        return found


class MaskloopJob(Job):
    """A job that names one of `JOBS`. Nothing else that Redis holds is ever imported, called or sent anywhere."""

    @classmethod
    def create(cls, func: Any, *args: Any, **kwargs: Any) -> Self:
        """As RQ's. JobRefused unless `func` is on the whitelist."""
        job = cast(Self, super().create(func, *args, **kwargs))
        job.func  # noqa: B018 - the property checks
        return job

    @property
    def func(self) -> Callable[..., Any]:
        """The function to run. JobRefused when it is not on the whitelist."""
        name = self.func_name
        if self.instance is not None or name not in JOBS:
            raise JobRefused(f"job {self.id!r} names {name!r}, which is not a job of Maskloop: it was not run")
        return JOBS[name]

    @property
    def execution_registry(self) -> Executions:
        """The executions of this job that are known to run."""
        return Executions(self.id, connection=self.connection)

    def perform(self) -> Any:
        """Run the function. A job that raises is not tried again by the queue; one whose worker died is."""
        try:
            return super().perform()
        except BaseException:
            self.retries_left = 0
            raise

    def restore(self, raw_data: dict[Any, Any]) -> None:
        """Read what Redis holds. Callbacks and webhooks are dropped: we set none, and they name code and addresses."""
        try:
            super().restore(raw_data)
        except NoSuchJobError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("job %s in Redis is damaged and was dropped: %s", self.id, error)
            raise NoSuchJobError(f"job {self.id!r} is damaged: {error}") from error
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        self.repeats_left = None


def fetch(conn: "Redis", job_id: str) -> MaskloopJob | None:
    """The job of this id, or None when Redis holds none that can be read."""
    try:
        return cast(MaskloopJob, MaskloopJob.fetch(job_id, connection=conn, serializer="json"))
    except NoSuchJobError:
        return None
