"""What the operator sets of the archive.

In: flags, environment, `wafer.toml`. Out: a frozen `Config`. Called by: `command`, `run_once`'s callers, the read API.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from wafermonitor.instrumentation.folders import data_home
from wafermonitor.instrumentation.settings import ServiceConfig


class Config(ServiceConfig, component="archive"):
    """Where days go, and when. Keys come from the environment or from files, never from a command line."""

    aliases: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "bucket": ("S3_BUCKET",),
        "endpoint": ("S3_ENDPOINT",),
        "access_key": ("S3_ACCESS_KEY",),
        "secret_key": ("S3_SECRET_KEY",),
        "interval_hours": ("ARCHIVE_INTERVAL_HOURS",),
    }

    enabled: bool = Field(default=True, description="whether days are archived at all; without, nothing is ever dropped")
    folder: Path = Field(
        default_factory=lambda: data_home() / "archive", description="folder of the archive, where no bucket is named"
    )
    bucket: str | None = Field(default=None, description="bucket of an S3-compatible store, with a prefix behind a slash")
    endpoint: str | None = Field(default=None, description="address of the store, such as http://minio:9000; empty: AWS")
    region: str | None = Field(default=None, description="region of the bucket; empty: us-east-1, or what AWS says")
    access_key: SecretStr | None = Field(default=None, description="key of the store; empty: as AWS's own tools find theirs")
    secret_key: SecretStr | None = Field(default=None, description="its secret")
    secret_key_file: Path | None = Field(default=None, description="file that holds the secret, instead of secret_key")
    after_hours: float = Field(default=72.0, ge=1, description="a day is archived when it has been over for this long")
    hot_hours: float = Field(
        default=72.0,
        ge=1,
        description="spans, log records and metrics leave the store when their day has been over for this long; "
        "where rows are compressed (TimescaleDB Community) 2160 unless it is set",
    )
    hot_run_days: int = Field(
        default=730, ge=1, description="runs leave the store when their month has been over for this long"
    )
    keep_years: float = Field(default=10.0, gt=0, description="files are deleted when their day is older")
    interval_hours: float = Field(default=24.0, gt=0, description="pause between two rounds of archiving")
    grace_hours: float = Field(default=24.0, ge=0, description="a file that was compacted away stays this long for readers")
    max_files: int = Field(
        default=2_000, ge=1, description="most files that one question reads before it is refused as too wide"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.hot_hours < self.after_hours:
            raise ValueError(f"hot_hours {self.hot_hours:g} is below after_hours {self.after_hours:g}: a day is archived first")
        if (self.access_key is None) != (self.secret is None):
            raise ValueError("access_key and secret_key (or secret_key_file) belong together")
        return self

    @property
    def secret(self) -> str | None:
        """The secret itself, from the setting or its file."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
        return None if self.secret_key_file is None else self.secret_key_file.read_text(encoding="utf-8").strip()

    @property
    def location(self) -> str:
        """Where files go, in words."""
        return f"s3://{self.bucket}" if self.bucket else str(self.folder)
