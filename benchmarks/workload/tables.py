"""The table that the statements read, in every database of the benchmark."""

from __future__ import annotations

import os

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine

ROWS = 1000
# PostgreSQL drivers of SQLAlchemy, by the name of their workload.
DRIVERS = {"psycopg2": "psycopg2", "psycopg": "psycopg", "psycopg async": "psycopg", "asyncpg": "asyncpg"}

metadata = MetaData()
items = Table(
    "items", metadata, Column("id", Integer, primary_key=True), Column("name", String(50)), Column("val", Integer)
)


def sqlite_url() -> str:
    """The SQLite database of this run."""
    return f"sqlite:///{os.environ['BENCH_SQLITE']}"


def postgres_url(driver: str) -> str:
    """The PostgreSQL server of this run, for one driver of :data:`DRIVERS`."""
    return os.environ["BENCH_POSTGRES"].replace("postgresql:", f"postgresql+{DRIVERS[driver]}:", 1)


def fill(engine: Engine) -> None:
    """Create the table with :data:`ROWS` rows."""
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(items.insert(), [{"id": i, "name": f"item {i}", "val": i * 7} for i in range(ROWS)])
    engine.dispose()


if __name__ == "__main__":
    fill(create_engine(sqlite_url()))
    if os.environ.get("BENCH_POSTGRES"):
        fill(create_engine(postgres_url("psycopg2")))
