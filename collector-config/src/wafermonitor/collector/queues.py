"""Rules of what leaves and enters a Collector: what was accepted must wait on disk until it is delivered.

In: `Files`. Out: findings; none of them stops a Collector, each may cost data. Called by: `lint.check`.

An exporter is reached in one of three ways: directly from the fan-out, then it needs a persistent queue of its own; through a
loopback spool (an OTLP exporter with such a queue, and an OTLP receiver of the same file), then it must have none, so that its
errors reach the spool; or as a level of `failover`, then it must neither queue nor retry, or the next level is never tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from wafermonitor.collector import documented
from wafermonitor.collector.config import loopback
from wafermonitor.collector.documents import Document, block, kind
from wafermonitor.collector.findings import Files, Finding

FAN_OUT: Final = "forward/backends"
MESSAGE_MIB: Final = 64
"""What a spool's receiver must take: a batch of the queue before it is at most 3 MB, a single request may be larger."""
_FOREVER: Final = ("0", "0s")
_OTLP: Final = ("otlp_grpc", "otlp_http")
_IN_MEMORY: Final = ("batch", "groupbyattrs", "groupbytrace", "tail_sampling", "interval")
"""Processors that answer for data which they hold until later."""


def rules(files: Files) -> Iterator[Finding]:
    """All of them."""
    yield from _room(files)
    for document in files.added:
        spools = set(_spools(document))
        for name in spools:
            yield from _spool(document, name)
        for pipeline, lists in document.pipelines.items():
            yield from _held(document, pipeline, lists)
            receivers = [name for name in lists["receivers"] if name in files.whole.parts("receivers")]
            if receivers and not set(receivers) & spools:
                yield from _incoming(document, pipeline, lists)
                continue
            yield from _outgoing(files, document, pipeline, spooled=bool(receivers))


def _room(files: Files) -> Iterator[Finding]:
    """Queues that are smaller than what they gather for a batch: no Collector starts with one."""
    for name, settings in files.whole.parts("exporters").items():
        queue = block(settings, "sending_queue")
        least, size = block(queue, "batch").get("min_size"), queue.get("queue_size")
        if isinstance(least, int) and isinstance(size, int) and least > size:
            text = f"{size} is less than batch::min_size, {least}: make the queue larger"
            yield Finding(files.owner("exporters", name).path, f"exporters::{name}::sending_queue::queue_size", text)


def _held(document: Document, pipeline: str, lists: dict[str, list[str]]) -> Iterator[Finding]:
    """What was accepted, is not yet in a queue on disk, and is gone when the Collector is killed."""
    for name in lists["processors"]:
        if kind(name) in _IN_MEMORY:
            text = f"{name} holds accepted data in memory: a kill loses them"
            text += "; write sending_queue::batch at the exporter" if kind(name) == "batch" else ""
            yield Finding(document.path, f"pipelines::{pipeline}::processors", text, wrong=False)


def _outgoing(files: Files, document: Document, pipeline: str, *, spooled: bool) -> Iterator[Finding]:
    lists = document.pipelines[pipeline]
    member = any(kind(name) == "failover" for name in lists["receivers"])
    for name in lists["exporters"]:
        settings = files.whole.parts("exporters").get(name)
        where = f"exporters::{name}"
        if settings is None:
            if kind(name) == "failover":
                yield from _failover(files, document, name, spooled=spooled)
            continue
        if member:
            texts = _member(name, settings)
        elif spooled:
            texts = _behind(name, settings)
        else:
            texts = _direct(name, settings)
        for text in texts:
            yield Finding(files.owner("exporters", name).path, where, text, wrong=False)


def _direct(name: str, settings: dict[str, Any]) -> Iterator[str]:
    """An exporter right behind the fan-out."""
    how = documented.queue(kind(name))
    if how == "spool":
        yield "keeps nothing while its far end is away: put it behind a loopback spool, as backends/file.yaml does"
    if how != "own":
        return
    queue = block(settings, "sending_queue")
    if queue.get("enabled") is False or not queue.get("storage"):
        yield "its queue is in memory: write sending_queue::storage: file_storage"
    elif queue.get("sizer") != "bytes" or not queue.get("queue_size"):
        yield "the size of its queue is not bytes: write sending_queue::sizer: bytes and queue_size"
    elif isinstance(queue.get("batch"), dict) and queue["batch"].get("sizer") != "bytes":
        yield "batches by items may be larger than the far end takes: write sending_queue::batch::sizer: bytes and max_size"
    retry = block(settings, "retry_on_failure")
    if retry.get("enabled") is False or str(retry.get("max_elapsed_time")) not in _FOREVER:
        yield "gives up after 5 minutes: write retry_on_failure::max_elapsed_time: 0"


def _behind(name: str, settings: dict[str, Any]) -> Iterator[str]:
    """An exporter behind a loopback spool."""
    if kind(name) in _OTLP:
        yield "behind a spool the 429 and 500 of its far end come back as permanent and data are dropped: it has its own queue"
    elif documented.has("exporters", kind(name), "sending_queue") and _on(settings, "sending_queue", default=True):
        yield "its own queue would answer for a far end that has nothing yet: write sending_queue: {enabled: false}"


def _member(name: str, settings: dict[str, Any]) -> Iterator[str]:
    """An exporter that is one level of failover."""
    for key in ("sending_queue", "retry_on_failure"):
        if documented.has("exporters", kind(name), key) and _on(settings, key, default=True):
            yield f"is a level of failover, and would hide that it fails: write {key}: {{enabled: false}}"


def _failover(files: Files, document: Document, name: str, *, spooled: bool) -> Iterator[Finding]:
    where = f"connectors::{name}"
    if not spooled:
        text = "drops data when every level fails: put it behind a loopback spool, as backends/failover.yaml does"
        yield Finding(document.path, where, text, wrong=False)
    if _on(files.whole.parts("connectors").get(name, {}), "sending_queue", default=True):
        yield Finding(document.path, where, "its own queue has no retry: write sending_queue: {enabled: false}", wrong=False)


def _on(settings: dict[str, Any], key: str, *, default: bool) -> bool:
    """Whether the block `key` is switched on; a block without `enabled` is."""
    block = settings.get(key)
    return default if not isinstance(block, dict) else block.get("enabled") is not False


def _spools(document: Document) -> Iterator[str]:
    """Receivers of the file that an exporter of the same file sends to."""
    ends = {
        str(settings.get("endpoint")) for name, settings in document.parts("exporters").items() if kind(name) == "otlp_grpc"
    }
    for name, settings in document.parts("receivers").items():
        if kind(name) == "otlp" and str(_grpc(settings).get("endpoint")) in ends:
            yield name


def _spool(document: Document, name: str) -> Iterator[Finding]:
    where = f"receivers::{name}"
    grpc = _grpc(document.parts("receivers")[name])
    if not name.endswith("_spool"):
        yield Finding(document.path, where, "is a spool: call it otlp/…_spool", wrong=False)
    if not loopback(str(grpc.get("endpoint"))):
        yield Finding(document.path, where, "a spool listens on loopback, or anybody may write to it", wrong=False)
    size = grpc.get("max_recv_msg_size_mib")
    if not isinstance(size, int) or size < MESSAGE_MIB:
        text = f"refuses more than 4 MiB for good: write max_recv_msg_size_mib: {MESSAGE_MIB}"
        yield Finding(document.path, where, text, wrong=False)


def _grpc(settings: dict[str, Any]) -> dict[str, Any]:
    return block(block(settings, "protocols"), "grpc")


def _incoming(document: Document, pipeline: str, lists: dict[str, Any]) -> Iterator[Finding]:
    """What other receivers bring goes the way of what OTLP brings."""
    where = f"pipelines::{pipeline}"
    processors = lists["processors"]
    if processors[:2] != ["memory_limiter", "resource/site"]:
        text = "begin with the processors memory_limiter, resource/site: else nothing limits it, and it has no site"
        yield Finding(document.path, where, text, wrong=False)
    if not pipeline.startswith("metrics/") and "redaction/secrets" not in processors:
        yield Finding(document.path, where, "add the processor redaction/secrets: else passwords pass", wrong=False)
    if lists["exporters"] != [FAN_OUT]:
        yield Finding(document.path, where, f"end in {FAN_OUT}: else it reaches only some backends", wrong=False)
