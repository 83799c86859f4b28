"""What the operator sets of the store.

In: flags, environment, `wafer.toml`. Out: a frozen `Config`. Called by: `connect`, `command`, the receiver and the read API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from wafermonitor.instrumentation.folders import data_home
from wafermonitor.instrumentation.settings import ServiceConfig

ARRIVALS_S = 120.0
"""Longer than a Collector takes to send again what was stored while the answer was lost, a restart of the receiver included.
Not much longer: a program that says the same line again without a time says something new."""
MEMORY = "memory://"
"""The address of a store that lives and dies with its process."""
CLICKHOUSE = ("clickhouse", "clickhouses", "chdb")
"""Schemes of addresses of the ClickHouse engine: HTTP, HTTPS, and in this process."""


class Config(ServiceConfig, component="storage"):
    """Where rows are kept. Without `dsn` an embedded PostgreSQL is started below `data_dir`, or joined when it runs already."""

    aliases: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "dsn": ("DATABASE_URL",),
        "alerting_dsn": ("WAFER_ALERTING_DSN",),
        "pool_min_size": ("DB_POOL_MIN_SIZE",),
        "pool_max_size": ("DB_POOL_MAX_SIZE",),
    }

    dsn: SecretStr | None = Field(
        default=None,
        description=(
            "postgresql://user:password@host:port/database of a server, clickhouse://user:password@host:8123/database "
            "(clickhouses:// for HTTPS, chdb:///folder for ClickHouse's engine in the process), or memory://; "
            "empty: embedded PostgreSQL"
        ),
    )
    alerting_dsn: SecretStr | None = Field(
        default=None,
        description=(
            "postgresql://… that keeps expectations, alerts and silences where dsn names ClickHouse, which cannot; "
            "every other store keeps them itself"
        ),
    )
    pg_bin: Path | None = Field(
        default=None,
        description="folder with the programs of a PostgreSQL 15 or newer for the embedded server; empty: the wheel's",
    )
    data_dir: Path = Field(default_factory=data_home, description="folder of the embedded server's data, password and log")
    pool_min_size: int = Field(default=1, ge=0, description="connections kept open")
    pool_max_size: int = Field(default=10, ge=1, description="most connections open at once")
    command_timeout_s: float = Field(
        default=60.0, gt=0, description="longest wait for the database's answer to one statement, upgrades excepted"
    )
    start_timeout_s: float = Field(
        default=300.0, gt=0, description="longest wait for the embedded server, which may have to recover first"
    )
    hot_days: int = Field(default=3, ge=0, description="days before today whose partitions are kept ready for late rows")
    remember_arrivals_s: float = Field(
        default=ARRIVALS_S,
        ge=0,
        description="how long the first arrival of an item without a time of its own is known; sent again it keeps that time",
    )
    clickhouse_raw_days: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="days after which ClickHouse drops spans, log records and points, which it does not archive; none: never",
    )
    clickhouse_run_days: int | None = Field(
        default=None, ge=1, description="days after its last message after which ClickHouse drops a run; none: never"
    )
    maintain_interval_s: float = Field(default=60.0, gt=0, description="pause between two rounds of maintenance")
    rollup_interval_s: float = Field(
        default=2.0,
        gt=0,
        description="pause until what changed is added to the rollups; longer where that takes long, 3 s at most",
    )

    @field_validator("dsn")
    @classmethod
    def _known_engine(cls, value: SecretStr | None) -> SecretStr | None:
        """Accept `postgres://` and SQLAlchemy's `postgresql+driver://`, which older settings hold; empty is none."""
        text = _address(value)
        if not text:
            return None
        if text != MEMORY and not text.startswith(("postgresql://", *(f"{scheme}://" for scheme in CLICKHOUSE))):
            raise ValueError("must start with postgresql://, clickhouse://, clickhouses:// or chdb:///, or be memory://")
        return SecretStr(text)

    @field_validator("alerting_dsn")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        text = _address(value)
        if text and not text.startswith("postgresql://"):
            raise ValueError("must start with postgresql://")
        return SecretStr(text) if text else None

    @property
    def engine(self) -> str:
        """Which engine `dsn` names: memory, clickhouse or timescale."""
        text = self.dsn.get_secret_value() if self.dsn is not None else ""
        if text == MEMORY:
            return "memory"
        return "clickhouse" if text.partition("://")[0] in CLICKHOUSE else "timescale"

    @property
    def in_process(self) -> bool:
        """Whether the store is ClickHouse's engine inside this process."""
        return self.dsn is not None and self.dsn.get_secret_value().startswith("chdb:")

    @field_validator("pg_bin", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _sizes_in_order(self) -> Self:
        if self.pool_min_size > self.pool_max_size:
            raise ValueError(f"pool_min_size {self.pool_min_size} is above pool_max_size {self.pool_max_size}")
        return self


def _address(value: SecretStr | None) -> str:
    """As one driver of PostgreSQL writes it, empty where there is none."""
    text = value.get_secret_value().strip() if value is not None else ""
    return re.sub(r"\Apostgres(ql)?(\+\w+)?://", "postgresql://", text)
