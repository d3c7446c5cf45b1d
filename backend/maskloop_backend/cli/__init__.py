"""The `maskloop` command: one module per group of subcommands, errors as one clear line each."""

import logging
import sys
from typing import Any

import typer
from pydantic import ValidationError
from redis import RedisError
from sqlalchemy.exc import OperationalError

from maskloop_backend.cli import (
    batches,
    bench,
    dashboard_user,
    demo,
    evaluating,
    groups,
    label_config,
    models,
    pausing,
    processes,
    projects,
    prompts,
    ranking,
    reporting,
    serving,
    simulating,
    status,
    transfer,
    upkeep,
)
from maskloop_backend.cli.errors import EXPECTED
from maskloop_learner.settings import SECRET, SettingsError

app = typer.Typer(
    name="maskloop",
    help="Pre-drawn masks, uncertainty-ranked images and a model that retrains itself, for Label Studio.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
MODULES = (
    processes,
    demo,
    projects,
    groups,
    label_config,
    prompts,
    ranking,
    batches,
    models,
    pausing,
    evaluating,
    simulating,
    bench,
    transfer,
    serving,
    reporting,
    status,
    upkeep,
    dashboard_user,
)
for module in MODULES:
    module.register(app)


USAGE: type[Any] = typer.BadParameter.__mro__[2]
"""What every wrong call raises: click's exception, which Typer now brings as a copy of its own."""


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit code 1, a wrong call exit code 2."""
    try:
        # Without its standalone mode, Typer returns the code of typer.Exit instead of ending the process.
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except USAGE as error:
        error.show()
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            given = "" if name.lower() in SECRET else f", got {problem['input']!r}"
            _say(f"setting MASKLOOP_{name}: {problem['msg']}{given}")
        sys.exit(2)
    except SettingsError as error:
        _say(str(error))
        sys.exit(2)
    except RedisError as error:
        _say(f"Redis cannot be used: {error}; is `maskloop up` running, or MASKLOOP_REDIS_URL right?")
        sys.exit(1)
    except OperationalError as error:
        _say(f"the pool's database cannot be used: {error.orig}; see MASKLOOP_DATABASE_URL and MASKLOOP_HOME")
        sys.exit(1)
    except EXPECTED as error:
        logging.getLogger(__name__).debug("the command failed", exc_info=True)
        _say(str(error))
        sys.exit(1)


def _say(message: str) -> None:
    print(f"maskloop: {message}", file=sys.stderr)
