"""Both lanes on bytes that atheris thinks of, led by the branches of the Python lane.

Run by `python -m tests.receiver.native.fuzz FOLDER -max_total_time=600`.
The folder keeps what was found interesting. A difference or a crash ends it and leaves the bytes behind.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["wafermonitor.receiver.transcode", "wafermonitor.runs"]):
    from tests.receiver.native.compared import assert_agree, request
    from tests.receiver.native.generated import START_NS, Generator
    from wafermonitor.receiver.transcode import native
    from wafermonitor.receiver.transcode.protocol import Signal

SIGNALS = list(Signal)
SEEDS = 90
_loaded = native.load()
if _loaded is None:
    raise SystemExit("receiver/native is not built here")
decode = _loaded


def one(data: bytes) -> None:
    """The first byte chooses the signal, and whether the request is there twice."""
    if not data:
        return
    body = request(SIGNALS[data[0] % 3], data[1:], START_NS)
    assert_agree([body] * (1 + data[0] // 128), decode, [(0, 1)])


def write_seeds(folder: Path) -> None:
    """Something to begin with, in an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(SEEDS):
        body = Generator(seed, 0.05).request(SIGNALS[seed % 3], 1 + seed % 4)
        (folder / f"seed-{seed}").write_bytes(bytes([seed % 3 + (129 if seed % 5 == 0 else 0)]) + body)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
