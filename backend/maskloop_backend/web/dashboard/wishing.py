"""How a batch is wished for on the page: the fields of its form."""

import math
from collections.abc import Mapping

from maskloop_backend.web.dashboard.boards import SCORES
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.planning import Asked
from maskloop_learner.select.options import ChoosingError, Options
from maskloop_learner.select.order import MOST_MEMBERS
from maskloop_learner.select.strategies import DEFAULT, STRATEGIES

SIZE, SHARE = 40, 10
"""What stands in the form at first: images, and per cent by lot."""
LARGEST = (1 << 31) - 1


def read_asked(fields: Mapping[str, str]) -> Asked:
    """The form's wish; fields that are empty are as on the command line. Raises WebError 400, naming what is wrong."""
    strategy = fields.get("strategy") or DEFAULT
    if strategy not in STRATEGIES:
        raise _wrong("strategy", strategy, "one of " + ", ".join(STRATEGIES))
    score = fields.get("score") or None
    if score is not None and score not in SCORES:
        raise _wrong("score", score, "one of " + ", ".join(SCORES))
    share = _read("random_share", fields, most=100)
    beta = _read("beta", fields, most=math.inf)
    try:
        options = Options(
            random_share=(SHARE if share is None else share) / 100,
            group_cap=_whole("group_cap", fields),
            keep_duplicates=fields.get("keep_duplicates", "") != "",
            beta=beta,
            score=score,
        )
    except ChoosingError as error:
        raise WebError(400, str(error), fix="Change it in the form.") from error
    size = _whole("size", fields, most=MOST_MEMBERS)
    seed = _whole("seed", fields, least=0)
    return Asked(size=SIZE if size is None else size, strategy=strategy, seed=seed, options=options)


def _whole(name: str, fields: Mapping[str, str], *, least: int = 1, most: int = LARGEST) -> int | None:
    value = _read(name, fields, least=least, most=most)
    if value is not None and value != int(value):
        raise _wrong(name, fields[name], f"a whole number from {least} to {most}")
    return None if value is None else int(value)


def _read(name: str, fields: Mapping[str, str], *, least: float = 0, most: float) -> float | None:
    text = fields.get(name, "").strip()
    if not text:
        return None
    wanted = f"a number from {least:g} to {most:g}"
    try:
        value = float(text)
    except ValueError as error:
        raise _wrong(name, text, wanted) from error
    if not least <= value <= most:  # NaN is not
        raise _wrong(name, text, wanted)
    return value


def _wrong(name: str, value: str, wanted: str) -> WebError:
    return WebError(400, f"`{name}` is not what it must be", value, fix=f"Give {wanted}.")
