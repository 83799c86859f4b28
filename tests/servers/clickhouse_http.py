"""ClickHouse's own engine (chDB) behind as much of its HTTP interface as a driver needs; a program of its own.

In: a folder for the data, and a port (0: a free one). Out: a line with the port, then answers until standard input ends. Called
by: `clickhouse.start`; a process has one engine, one folder, and 300 MB for it.
"""

from __future__ import annotations

import re
import sys
import threading
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

FOLDER, PORT = sys.argv[1], int(sys.argv[2])
OURS = {"database", "query", "query_id", "session_id", "default_format", "client_protocol_version", "wait_end_of_query"}
INSERT = re.compile(rb"\s*(insert\s.*?)\sformat\s+(\w+)[ \t]*(?:\n|\Z)", re.IGNORECASE | re.DOTALL)
LONGEST_FIELD = 128 * 1024  # http_max_field_value_size of a server that nobody changed
REVISION = 54454  # since then a block in the format Native says more about itself
WIDTHS = {
    "UInt8": 1, "Bool": 1, "UInt16": 2, "UInt32": 4, "Int32": 4, "DateTime": 4, "UInt64": 8, "Int64": 8, "Float64": 8,
}  # fmt: skip
FORMAT = re.compile(r"\sformat\s+(\w+)\s*\Z", re.IGNORECASE)
here = threading.local()
first = chdb.connect(FOLDER)


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, with a handle of its own to the engine."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.answer(body)

    def answer(self, body: bytes) -> None:
        address = urlsplit(self.path)
        given = dict(parse_qsl(address.query, keep_blank_values=True))
        if address.path == "/ping":
            return self.say(200, b"Ok.\n")
        if self.headers.get_content_type() == "multipart/form-data":  # parameters that are too long for an address
            given, body = given | self.fields(body), b""
        if any(len(value.encode()) > LONGEST_FIELD for name, value in given.items() if name != "query"):
            return self.say(400, b"Code: 1000. Field value too long", ("X-ClickHouse-Exception-Code", "1000"))
        try:
            return self.say(200, self.run(given, body))
        except Exception as error:  # noqa: BLE001 - as a server: whatever it is, the client is told
            code = re.search(r"Code: (\d+)", str(error))
            return self.say(500, str(error).encode(), ("X-ClickHouse-Exception-Code", code[1] if code else "0"))

    def fields(self, body: bytes) -> dict[str, str]:
        """The parts of a form."""
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        form = message_from_bytes(head + body, policy=HTTP)
        return {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True).decode()
            for part in form.iter_parts()
        }

    def run(self, given: dict[str, str], body: bytes) -> bytes:
        handle = self.engine(given)
        text = given.get("query", "").encode() + (b"\n" if "query" in given else b"") + body
        if insert := INSERT.match(text):
            with handle.send_insert(insert[1].decode(), insert[2].decode()) as rows:
                rows.append(text[insert.end() :])
                rows.finish()
            return b""
        sql = text.decode().strip().removesuffix(";")
        wanted = FORMAT.search(sql)
        form = wanted[1] if wanted else given.get("default_format", "TabSeparated")
        params = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
        answer = handle.query(sql[: wanted.start()] if wanted else sql, form, params=params)
        whole = bytes(answer.bytes() or b"")
        return later(whole) if form == "Native" and int(given.get("client_protocol_version", 0)) >= REVISION else whole

    def engine(self, given: dict[str, str]) -> Any:
        """This connection's handle, with the database and the settings of this request."""
        if not hasattr(here, "handle"):
            here.handle, here.state = chdb.connect(FOLDER), None
        settings = {name: value for name, value in given.items() if name not in OURS and not name.startswith("param_")}
        state = (given.get("database", ""), tuple(sorted(settings.items())))
        if state != here.state:
            if state[0]:
                here.handle.query(f"USE `{state[0]}`")
            if settings:
                here.handle.query("SET " + ", ".join(f"{name} = '{value}'" for name, value in settings.items()))
            here.state = state
        return here.handle

    def say(self, code: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(code)
        for name, value in (("Content-Length", str(len(body))), ("X-ClickHouse-Timezone", "UTC"), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def later(blocks: bytes) -> bytes:
    """Native of the first revision as clients of REVISION expect it: block info before, a 0 after each column's type."""
    place, made = 0, bytearray()

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = blocks[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def text() -> str:
        nonlocal place
        size = number()
        place += size
        return blocks[place - size : place].decode()

    while place < len(blocks):
        begin = place
        columns, rows = number(), number()
        made += b"\x01\x00\x02\xff\xff\xff\xff\x00" + blocks[begin:place]
        for _ in range(columns):
            begin = place
            text()
            kind = text()
            made += blocks[begin:place] + b"\x00"
            begin = place
            if kind == "String":
                for _ in range(rows):
                    text()
            else:
                place += WIDTHS[kind.partition("(")[0]] * rows
            made += blocks[begin:place]
    return bytes(made)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


server = Server(("127.0.0.1", PORT), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
server.shutdown()
first.close()
