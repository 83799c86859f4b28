"""A job that writes to its backends itself: a real MariaDB, then a real S3, then files, then its spool, and back again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pymysql
import pytest

from tests.servers import mariadb, s3
from tests.servers.collector import until
from tests.servers.fixtures import running

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("mariadb"), pytest.mark.timeout(300)]

BUCKET = "direct"
PROGRAM = """
import sys, time
import wafermonitor.instrumentation as wafer
for line in sys.stdin:
    began = time.monotonic()
    with wafer.job(line.strip()):
        pass
    print(time.monotonic() - began, flush=True)
"""


class Site:
    """Two servers, a folder, a spool, and one long-lived program whose jobs go there in this order."""

    def __init__(self, database: mariadb.Server, store: s3.Server, folder: Path) -> None:
        self.database, self.store = database, store
        self.files, self.spool = folder / "files", folder / "spool"
        self.files.mkdir()
        self._settings = folder / "sdk.json"

    def settings(self) -> dict[str, Any]:
        """The configuration file, with nothing secret in it."""
        host = {"address": self.database.address, "database": mariadb.DATABASE, "user": mariadb.USER}
        keys = {"access_key": "${env:DIRECT_S3_KEY}", "secret_key": "${env:DIRECT_S3_SECRET}"}
        return {
            "mode": "direct",
            "app": {"name": "wafer-processing", "version": "1.0.0", "site_id": "fab1"},
            "direct_backends": [
                {"type": "mysql", **host, "password": "${env:DIRECT_MYSQL_PASSWORD}", "timeout_s": 2, "wait_s": 1.5},
                {"type": "s3", "bucket": BUCKET, "endpoint": self.store.endpoint, **keys, "timeout_s": 2, "wait_s": 30},
                {"type": "filesystem", "path": str(self.files), "format": "jsonl", "wait_s": 30},
            ],
        }

    def program(self, **changes: str) -> subprocess.Popen[str]:
        """Runs a job for each line it is given, and says how long it took."""
        self._settings.write_text(json.dumps(self.settings()))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WAFER_", "TRACE"))}
        environ = clean | {
            "WAFER_SDK_CONFIG": str(self._settings),
            "WAFER_SPOOL_DIR": str(self.spool),
            "DIRECT_MYSQL_PASSWORD": mariadb.PASSWORD,
            "DIRECT_S3_KEY": s3.ACCESS,
            "DIRECT_S3_SECRET": s3.SECRET,
        }
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.Popen(
            command, env=environ | changes, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def in_mysql(self) -> set[str]:
        try:
            return {row["name"] for row in self.database.ask("SELECT name, site, service FROM otel_spans")}
        except pymysql.err.ProgrammingError:
            return set()  # the tables come with the first request

    def in_s3(self) -> set[str]:
        client = boto3.client(
            "s3",
            endpoint_url=self.store.endpoint,
            region_name=s3.REGION,
            aws_access_key_id=s3.ACCESS,
            aws_secret_access_key=s3.SECRET,
        )
        found: set[str] = set()
        for one in client.list_objects_v2(Bucket=BUCKET, Prefix="signal=spans/").get("Contents", ()):
            body = client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read()
            found |= set(pq.read_table(pa.BufferReader(body))["name"].to_pylist())
        return found

    def in_files(self) -> set[str]:
        return names(self.files.glob("signal=traces/**/*.jsonl"))

    def in_spool(self) -> set[str]:
        return names(self.spool.glob("traces/*.jsonl"))


def names(paths: Any) -> set[str]:
    """Names of the spans in files of OTLP/JSON lines."""
    return {
        span["name"]
        for path in paths
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    }


@pytest.fixture(scope="module")
def database() -> Iterator[mariadb.Server]:
    yield from running(mariadb)


@pytest.fixture(scope="module")
def store() -> Iterator[s3.Server]:
    yield from running(s3)


@pytest.fixture
def site(database: mariadb.Server, store: s3.Server, tmp_path: Path) -> Site:
    store.bucket(BUCKET)
    return Site(database, store, tmp_path)


def job(program: subprocess.Popen[str], name: str) -> float:
    """Run one job in the program; how long it took, in seconds."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(f"{name}\n")
    program.stdin.flush()
    return float(program.stdout.readline())


def ended(program: subprocess.Popen[str]) -> str:
    """End the program; what it said on stderr."""
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 0, errors
    return errors


def test_each_backend_that_fails_is_replaced_by_the_next_and_nothing_is_lost(site: Site) -> None:
    # A budget that lets each job wait for its place: what is asked is where things are, not when.
    program = site.program(WAFER_INSTRUMENTATION_BLOCKING_S="60")
    try:
        job(program, "one")
        assert "one" in site.in_mysql()
        os.kill(site.database.pid, signal.SIGSTOP)
        job(program, "two")
        assert "two" in site.in_s3()
        site.store.kill()
        job(program, "three")
        assert "three" in site.in_files()
        site.files.rename(site.files.with_name("unmounted"))
        job(program, "four")
        assert "four" in site.in_spool()
        site.files.with_name("unmounted").rename(site.files)
        os.kill(site.database.pid, signal.SIGCONT)
        site.store.restart()

        def back_to_the_first() -> bool:
            job(program, "five")
            return "five" in site.in_mysql()

        until(back_to_the_first, "the first backend is asked again")
        until(lambda: "four" in site.in_mysql() | site.in_s3() | site.in_files(), "the spool is sent")
    finally:
        os.kill(site.database.pid, signal.SIGCONT)
        errors = ended(program)
    assert mariadb.PASSWORD not in errors
    assert s3.SECRET not in errors


def test_a_job_waits_no_longer_than_its_budget_for_servers_that_hang(site: Site) -> None:
    program = site.program()
    try:
        job(program, "the first one, which loads OpenTelemetry")
        os.kill(site.database.pid, signal.SIGSTOP)
        waited_s = job(program, "hung")
    finally:
        os.kill(site.database.pid, signal.SIGCONT)
        ended(program)
    assert waited_s < 1.5, "0.3 s, and the rest for a loaded machine; without a budget it waits for the database, 1.5 s"
    assert "hung" in site.in_spool() | site.in_mysql() | site.in_s3() | site.in_files()
