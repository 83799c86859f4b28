"""The archive in a bucket of a real S3 server: the same promises, and the documents that guard it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from tests.servers import s3
from tests.servers.fixtures import running
from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, told
from wafermonitor.storage.archive.archiver import Archiver, run_once
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.merged import MergedReader
from wafermonitor.storage.archive.protocol import Place, Signal, day_of
from wafermonitor.storage.archive.reader import Files
from wafermonitor.storage.archive.shelf import Bucket, _border, open_shelf
from wafermonitor.storage.errors import ArchiveDamaged, StorageUnavailable
from wafermonitor.storage.protocol import SpanQuery
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.reader import Reader
from wafermonitor.storage.timescale.writer import Writer

pytestmark = [pytest.mark.postgres, pytest.mark.servers]
DOCUMENTS = Path(__file__).resolve().parents[3] / "docs" / "archive"


@pytest.fixture(scope="module")
def server():
    yield from running(s3)


def settings(server, bucket="archive/fab-1", **given):
    keys = {"access_key": s3.ACCESS, "secret_key": s3.SECRET}
    return Config.load(bucket=bucket, endpoint=server.endpoint, hot_hours=72, **keys, **given)


@pytest.fixture
async def filled(pool):
    await history.fill(pool)
    return pool


async def exact(pool, shelf, batches):
    found, wanted = await history.everything(pool, shelf), told(batches)
    for signal in Signal:
        assert len(found[signal]) == len(wanted[signal])
        assert set(found[signal]) == wanted[signal]


async def test_days_go_to_a_bucket_late_rows_follow_and_files_are_merged_and_deleted(filled, server):
    server.bucket("archive")
    config = settings(server, "archive/merged")
    shelf, days = open_shelf(config), Days(filled)
    done = await run_once(days, shelf, config, now_ns=NOW)
    assert (done.failed, done.rows) == ((), 16 * history.ROWS)
    await exact(filled, shelf, history.history())
    late = history.batch("f1", OLD[0], 5_000, 4)
    await Writer(filled).write([late, history.history()[0]])
    await run_once(days, shelf, config, now_ns=NOW)
    await exact(filled, shelf, [*history.history(), late])

    place = Place(Signal.SPANS, "f1", day_of(OLD[0]))
    await Archiver(days, shelf, config, NOW).compact(place)
    again = await run_once(days, shelf, settings(server, "archive/merged", grace_hours=0), now_ns=NOW)
    assert again.removed == 2
    await exact(filled, shelf, [*history.history(), late])
    folder = f"signal=spans/site=f1/date={place.day}"
    assert len(shelf.names(folder)) == 1
    for entry in (await days.manifest()).entries:
        await Archiver(days, shelf, config, NOW).verify(entry)


async def test_questions_are_answered_from_the_bucket(filled, server):
    server.bucket("archive")
    config = settings(server, "archive/asked")
    await run_once(Days(filled), open_shelf(config), config, now_ns=NOW)
    reader = MergedReader(Reader(filled), Days(filled), Files(open_shelf(config)))
    spans = (await reader.spans(SpanQuery(site="f1", limit=1000))).items
    assert set(spans) == {one for item in history.history() for one in item.spans if one.resource.site == "f1"}


async def test_a_server_that_is_gone_loses_nothing_and_the_next_round_goes_on(filled, server):
    server.bucket("archive")
    config = settings(server, "archive/gone")
    shelf, days = open_shelf(config), Days(filled)

    def pull_the_plug(step, where, rows):
        if step == "verified" and where.startswith("signal=logs"):
            server.kill()

    done = await run_once(days, shelf, config, now_ns=NOW, on_step=pull_the_plug)
    assert done.failed
    server.restart()
    await exact(filled, shelf, history.history())
    healed = await run_once(days, shelf, config, now_ns=NOW)
    assert healed.failed == ()
    await exact(filled, shelf, history.history())


async def test_wrong_keys_and_a_bucket_that_is_not_there_say_so_without_names(filled, server):
    for config in (settings(server, "nowhere"), settings(server).model_copy(update={"access_key": None, "bucket": "nowhere"})):
        with pytest.raises(StorageUnavailable) as failed:
            await run_once(Days(filled), open_shelf(config), config, now_ns=NOW)
        assert "nowhere" not in str(failed.value)
    with pytest.raises((ArchiveDamaged, StorageUnavailable)):
        open_shelf(settings(server, "nowhere")).open("x")
    assert (await Days(filled).manifest()).entries == ()


def as_xml(name, value):
    """AWS's JSON documents as the protocol has them."""
    if isinstance(value, dict):
        return f"<{name}>{''.join(as_xml(key, inner) for key, inner in value.items())}</{name}>"
    if isinstance(value, list):
        return "".join(as_xml(name.removesuffix("s"), inner) for inner in value)
    return f"<{name}>{escape(str(value))}</{name}>"


async def test_under_the_object_lock_of_the_document_no_archived_object_can_be_destroyed(filled, server):
    server.bucket("kept", locked=True)
    document = json.loads((DOCUMENTS / "object-lock.json").read_text())
    status, said = server.ask("PUT", "kept", "object-lock", as_xml("ObjectLockConfiguration", document).encode())
    assert status == 200, said
    config = settings(server, "kept")
    shelf, days = open_shelf(config), Days(filled)
    assert (await run_once(days, shelf, config, now_ns=NOW)).failed == ()
    versions = server.ask("GET", "kept", "versions")[1].decode()
    version = versions.partition("<VersionId>")[2].partition("</VersionId>")[0]
    victim = versions.partition("<Key>")[2].partition("</Key>")[0]
    status, said = server.ask("DELETE", f"kept/{victim}", f"versionId={version}")
    assert status == 403, said
    await exact(filled, shelf, history.history())


async def test_under_an_object_lock_files_that_were_merged_are_hidden_and_their_bytes_stay(filled, server):
    server.bucket("locked", locked=True)
    document = json.loads((DOCUMENTS / "object-lock.json").read_text())
    assert server.ask("PUT", "locked", "object-lock", as_xml("ObjectLockConfiguration", document).encode())[0] == 200
    config = settings(server, "locked", grace_hours=0)
    shelf, days = open_shelf(config), Days(filled)
    late = history.batch("f1", OLD[0], 5_000, 4)
    await run_once(days, shelf, config, now_ns=NOW)
    await Writer(filled).write([late])
    await run_once(days, shelf, config, now_ns=NOW)
    place = Place(Signal.SPANS, "f1", day_of(OLD[0]))
    old = [entry.path for entry in (await days.manifest()).entries if entry.place == place]
    made = await Archiver(days, shelf, config, NOW).compact(place)
    done = await run_once(days, shelf, config, now_ns=NOW)
    assert (done.removed, done.failed) == (2, ())
    assert shelf.names(made.path.rpartition("/")[0]) == [made.path]
    await exact(filled, shelf, [*history.history(), late])
    # Nobody can destroy what was merged before its time is over: every version is still there.
    versions = server.ask("GET", "locked", "versions")[1].decode()
    for path in old:
        kept = [part for part in versions.split("<Version>")[1:] if f"<Key>{path}</Key>" in part.replace("%3D", "=")]
        version = kept[0].partition("<VersionId>")[2].partition("</VersionId>")[0]
        assert server.ask("DELETE", f"locked/{path}", f"versionId={version}")[0] == 403
    assert (await run_once(days, shelf, config, now_ns=NOW)).removed == 0


class Refused(Bucket):
    """The bucket of a key that may not delete."""

    def remove(self, path):
        with _border("delete from the archive"):
            raise PermissionError(13, "Access Denied")


async def test_a_bucket_that_refuses_to_delete_is_told_of_and_asked_again(filled, server):
    server.bucket("archive")
    config = settings(server, "archive/refused", grace_hours=0)
    shelf, days = open_shelf(config), Days(filled)
    await run_once(days, shelf, config, now_ns=NOW)
    await Writer(filled).write([history.batch("f1", OLD[0], 5_000, 4)])
    await run_once(days, shelf, config, now_ns=NOW)
    await Archiver(days, shelf, config, NOW).compact(Place(Signal.SPANS, "f1", day_of(OLD[0])))
    refused = Refused(shelf._root, shelf._system)
    done = await run_once(days, refused, config, now_ns=NOW)
    assert done.removed == 0
    assert len(done.failed) == 2
    assert all("access is denied" in line for line in done.failed)
    again = await run_once(days, shelf, config, now_ns=NOW)
    assert (again.removed, again.failed) == (2, ())


def test_the_lifecycle_of_the_document_keeps_files_for_as_long_as_the_archiver_does(server):
    document = json.loads((DOCUMENTS / "lifecycle.json").read_text())
    (rule,) = document["Rules"]
    assert rule["Expiration"]["Days"] >= Config.load().keep_years * 365.25
    assert json.loads((DOCUMENTS / "object-lock.json").read_text())["Rule"]["DefaultRetention"]["Years"] == 10
    server.bucket("aged")
    status, said = server.ask("PUT", "aged", "lifecycle", as_xml("LifecycleConfiguration", document).encode())
    # versitygw has no lifecycle rules, and says so; a server that has them takes the document.
    assert status in {200, 501}, said
