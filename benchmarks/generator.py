"""`python -m benchmarks.generator`: sends spans from a process of its own.

In: one JSON line, a `Load`; then a line that says go. Out: a line when ready, a line with the time of the start, and the log of
answers as a file. Called by: `load`.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

from benchmarks import corpus
from benchmarks.load import Load
from benchmarks.supply import Compressed, Fresh, Log, Pace, Sender, Supply, http_head


def main() -> None:
    """One load."""
    load = Load.from_json(sys.stdin.readline())
    supply = prepare(load)
    log = Log()
    sender = sender_of(load)
    gc.freeze()
    gc.disable()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    began_ns = time.monotonic_ns()
    print(json.dumps({"began_ns": began_ns}), flush=True)
    until_ns = began_ns + int((load.warm_up_s + load.seconds) * 1e9)
    sender.run(supply, Pace(load.rate, began_ns), log, until_ns, load.grace_s)
    log.save(Path(load.log))


def sender_of(load: Load) -> Sender:
    """Who sends it; connected, where that has to be done before the clock starts."""
    if load.transport == "copy":
        from benchmarks.copy_sender import CopySender

        return CopySender(load.address, load.in_flight)
    if load.transport == "grpc":
        from benchmarks.grpc_sender import GrpcSender

        return GrpcSender(load.address, load.channels, load.in_flight)
    from benchmarks.http_sender import HttpSender

    return HttpSender(load.address, load.in_flight)


def prepare(load: Load) -> Supply:
    """The requests of a load."""
    if load.transport == "copy":
        return Fresh(corpus.copy_sheet(Path(load.rows).read_bytes(), load.batch), load.first, load.limit)
    if load.gzip:
        sheet = corpus.sheet(load.size, load.batch, load.runs)
        return Compressed(sheet, load.first, load.limit or 100)
    gap_ns = load.gap_ns or 1_000
    if load.transport == "grpc":
        sheet = corpus.sheet(load.size, load.batch, load.runs, gap_ns=gap_ns, searched=load.searched)
        return Fresh(sheet, load.first, load.limit, load.gap_ns)
    media, encoding = ("application/json", "json") if load.transport == "json" else ("application/x-protobuf", "protobuf")
    sheet = corpus.sheet(
        load.size,
        load.batch,
        load.runs,
        encoding=encoding,
        head=lambda length: http_head(length, media, route=load.route),
        gap_ns=gap_ns,
        searched=load.searched,
    )
    return Fresh(sheet, load.first, load.limit, load.gap_ns)


if __name__ == "__main__":
    main()
