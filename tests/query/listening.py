"""Reads a stream of the hub the way a browser does.

In: a hub. Out: its events one by one.  Called by: the tests of streams.
"""

from __future__ import annotations

import asyncio
import json

from wafermonitor.query.stream import Selection

EVERYTHING = Selection(frozenset(), frozenset(), frozenset())


class Listener:
    """Reads one stream the way a browser does."""

    def __init__(self, stream):
        self._stream = stream
        self._text = ""
        self.id = None
        self.comments = 0

    async def next(self):
        """(kind, data) of the next event; blocks of only an id or a comment are passed over."""
        async with asyncio.timeout(5):
            while True:
                while "\n\n" not in self._text:
                    self._text += await anext(self._stream.events)
                block, _, self._text = self._text.partition("\n\n")
                fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
                self.comments += block.startswith(":")
                self.id = fields.get("id", self.id)
                if "data" in fields:
                    return fields["event"], json.loads(fields["data"])

    async def run(self):
        kind, data = await self.next()
        assert kind == "run"
        return data

    async def alert(self):
        kind, data = await self.next()
        assert kind == "alert"
        return data

    async def until(self, condition):
        while True:
            data = await self.run()
            if condition(data):
                return data

    def rest(self):
        return self._stream.events

    def close(self):
        self._stream.close()


async def listen(hub, last_event_id=None, selection=EVERYTHING):
    listener = Listener(await hub.open(last_event_id, selection))
    kind, hello = await listener.next()
    assert kind == "hello"
    return listener, hello
