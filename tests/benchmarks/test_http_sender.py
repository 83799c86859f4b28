"""The HTTP sender against a server that answers in every way a real one may."""

import socketserver
import threading
import time

import numpy as np
import pytest

from benchmarks.http_sender import HttpSender
from benchmarks.supply import Answer, Log, Pace

pytestmark = pytest.mark.slow

BODY = b"x" * 300_000


class Scripted(socketserver.StreamRequestHandler):
    """Answers each request with the next of the server's answers; None closes the connection instead."""

    def handle(self):
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            assert self.rfile.read(length) == BODY
            answer = self.server.answers.pop(0)
            if answer is None:
                return
            for part in answer:
                self.wfile.write(part)
                self.wfile.flush()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Scripted) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Few:
    def __init__(self, count):
        head = f"POST / HTTP/1.1\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
        self._left = [(number, head + BODY) for number in range(count)]

    def next(self):
        return self._left.pop(0) if self._left else None


def sent(server, count, tmp_path, rate=None):
    log = Log()
    began_ns = time.monotonic_ns()
    sender = HttpSender(f"127.0.0.1:{server.server_address[1]}", 1)
    sender.run(Few(count), Pace(rate, began_ns), log, began_ns + 10_000_000_000, 5)
    log.save(tmp_path / "log.npy")
    return np.load(tmp_path / "log.npy"), began_ns


def test_every_answer_is_told_apart(server, tmp_path):
    server.answers = [
        [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"],
        [b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 5\r\n\r\n12", b"345"],
        [b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\ncontent-length: 0\r\n\r\n"],
        [b"HTTP/1.1 429 Busy\r\ncontent-length: 0\r\n\r\n"],
        [b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n"],
        None,
        [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"],
    ]
    lines, _ = sent(server, 7, tmp_path)
    acked, refused, bare, rejected, lost = Answer
    assert lines[:, 0].tolist() == list(range(7))
    assert lines[:, 3].tolist() == [acked, acked, refused, bare, rejected, lost, acked]


def test_an_open_loop_keeps_to_its_schedule(server, tmp_path):
    server.answers = [[b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]] * 5
    lines, began_ns = sent(server, 5, tmp_path, rate=50)
    assert [round((due_ns - began_ns) / 1e6) for due_ns in lines[:, 1]] == [0, 20, 40, 60, 80]
    assert (lines[:, 2] >= lines[:, 1]).all()
