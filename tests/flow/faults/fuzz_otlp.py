"""What decodes a request, on bytes that atheris thinks of: gzip, protobuf and JSON, all signals.

Run by `python -m tests.flow.faults.fuzz_otlp FOLDER -max_total_time=1800`.
Anything but rows or a refusal of the receiver's own is a finding, which ends it and leaves the bytes behind; so is a row that
PostgreSQL would not take. The folder keeps what was found interesting.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["wafermonitor.receiver", "wafermonitor.runs"]):
    from tests.flow.faults.corpus import Corpus, decoded
    from tests.receiver.otlp import START_NS, as_json
    from wafermonitor.receiver.admission import gunzip
    from wafermonitor.receiver.errors import ReceiverRejected
    from wafermonitor.receiver.transcode import json as json_lane
    from wafermonitor.receiver.transcode import python as protobuf_lane
    from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal

SIGNALS = list(Signal)
LANES = {Encoding.PROTOBUF: protobuf_lane.Lane(), Encoding.JSON: json_lane.Lane()}
ENCODINGS = list(LANES)
LIMIT_BYTES = 1 << 20


def one(data: bytes) -> None:
    """The first byte says which signal, which encoding, and whether it is packed."""
    if not data:
        return
    signal, encoding = SIGNALS[data[0] % 3], ENCODINGS[data[0] // 3 % 2]
    try:
        body = gunzip(data[1:], LIMIT_BYTES) if data[0] // 6 % 2 else data[1:]
        assert len(body) <= LIMIT_BYTES
        batch = LANES[encoding].transcode(Request(signal, encoding, body, START_NS)).batch
    except ReceiverRejected:
        return
    for row in (*batch.spans, *batch.logs):
        storable(row.attributes)
    for span in batch.spans:
        storable(span.events or "[]")
        storable(span.links or "[]")
        assert span.duration_ns >= 0
    for letter in batch.dead:
        assert letter.reason


def storable(text: str) -> None:
    """What jsonb takes: no NUL, no lone surrogate, finite numbers."""
    text.encode()
    value = json.dumps(json.loads(text), allow_nan=False)
    assert "\\u0000" not in value.replace("\\\\", "")


def write_seeds(folder: Path) -> None:
    """Something to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = Corpus("fuzz")
    for number in range(12):
        sent = corpus.request(number)
        kind = [signal.value for signal in SIGNALS].index(sent.signal)
        for form, body in enumerate((sent.body, as_json(decoded(sent)))):
            (folder / f"seed-{number}-{form}").write_bytes(bytes([kind + 3 * form]) + body)
            (folder / f"seed-{number}-{form}-gzip").write_bytes(bytes([kind + 3 * form + 6]) + gzip.compress(body))


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
