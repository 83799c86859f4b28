"""Compare both lanes on many generated items: `python -m tests.receiver.native.agree --spans 1000000`.

Says how many items, rejected ones and refused requests were compared; ends with the first difference, if there is one.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

from tests.receiver.native.compared import assert_agree, python_outcome, request
from tests.receiver.native.generated import START_NS, Generator
from wafermonitor.receiver.transcode import native
from wafermonitor.receiver.transcode.protocol import Request, Signal

ODDITIES = (0.0, 0.003, 0.03, 0.1)
REQUESTS = 4
ITEMS = 50


def group(seed: int, *, broken: bool) -> list[Request]:
    """A few requests, as the pipeline would group them; half of the groups have other signals among them."""
    generator = Generator(seed, ODDITIES[seed % len(ODDITIES)], broken=0.2 if broken else 0.0)
    signals = list(Signal)
    wanted = [Signal.TRACES] * REQUESTS if seed % 2 else [signals[(seed // 2 + index) % 3] for index in range(REQUESTS)]
    bodies = [generator.request(signal, generator.random.randrange(ITEMS * 2)) for signal in wanted]
    if broken and seed % 5 == 0:
        bodies[-1] = generator.mutated(bodies[-1])
    return [
        request(signal, body, START_NS + 10**12 + place)
        for place, (signal, body) in enumerate(zip(wanted, bodies, strict=True))
    ]


def delivered_again(requests: list[Request]) -> list[Request]:
    """The same requests later; of the items without a time of their own every second one is known from before."""
    timeless: list[bytes] = []
    for outcome in map(python_outcome, requests):
        timeless += () if isinstance(outcome, str) else outcome.timeless
    arrivals = {digest: START_NS + place for place, digest in enumerate(sorted(set(timeless))) if place % 2 == 0}
    return [one._replace(received_ns=one.received_ns + 10**12, arrivals=arrivals) for one in requests]


def main() -> None:
    """Compare until so many spans agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    decode = native.load()
    if decode is None:
        raise SystemExit("receiver/native is not built here")
    seen: Counter[str] = Counter()
    seed, began_s = options.seed, time.monotonic()
    while seen["spans"] < options.spans:
        batches = assert_agree(group(seed, broken=seed % 3 == 0), decode, [(0, 1), (1, 3)])
        seen["requests"] += REQUESTS
        for batch in batches:
            seen["spans"] += len(batch.spans)
            seen["log records"] += len(batch.logs)
            seen["points"] += len(batch.points)
            seen["run records"] += len(batch.runs)
            seen["rejected"] += len(batch.dead)
        seed += 1
        if seed % 1000 == 0:
            print(f"seed {seed}: {dict(seen)} agree, {time.monotonic() - began_s:.0f} s", flush=True)
    print(f"both lanes agree: {dict(seen)}, seeds {options.seed} to {seed - 1}")


if __name__ == "__main__":
    main()
