"""The SQLite file of served subclasses in the home folder: what they set, events to fit, and how those ended."""

from functools import lru_cache
from pathlib import Path

from sqlalchemy import Column, Engine, Float, Integer, MetaData, String, Table, Text

from maskloop_learner.pool.database import create_pool_engine

FILE = "ml-base.db"

metadata = MetaData()
values = Table(
    "ml_values",
    metadata,
    Column("model", String, primary_key=True),
    Column("project", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    Column("changes", Integer, nullable=False, default=1),
    Column("updated_at", Float, nullable=False),
)
events = Table(
    "ml_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False, index=True),
    Column("project", String, nullable=False),
    Column("event", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("label_config", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("received_at", Float, nullable=False),
    sqlite_autoincrement=True,
)
outcomes = Table(
    "ml_outcomes",
    metadata,
    Column("model", String, primary_key=True),
    Column("fitted", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("last_error", Text),
)


@lru_cache(maxsize=8)
def open_tables(home: Path) -> Engine:
    """The engine over home/ml-base.db, made when missing; any number of processes may open it at once."""
    engine = create_pool_engine(f"sqlite:///{home / FILE}")
    # Taken as a writer, so that of two processes only one makes the tables.
    with engine.connect().execution_options(maskloop_write=True) as connection, connection.begin():
        metadata.create_all(connection)
    return engine
