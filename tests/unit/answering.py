"""A server on this machine that sends any bytes, however wrong, at any pace."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

Answer = bytes | Callable[[socket.socket], object]


class RawServer:
    """Answers a request for /NAME… with the bytes of that name, or lets a function write to the connection.

    visits: the paths that were asked for.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers, self.visits = dict(answers), list[str]()
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.stopped = threading.Event()

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.listening.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            request = b""
            while b"\r\n\r\n" not in request:
                if not (part := connection.recv(2**16)):
                    return
                request += part
            path = request.split()[1].decode()
            self.visits.append(path)
            name = path.lstrip("/").split("/")[0].split("?")[0].split(".")[0]
            answer = self.answers.get(name, header(status="404 Not Found"))
            if isinstance(answer, bytes):
                connection.sendall(answer)
            else:
                answer(connection)
            connection.shutdown(socket.SHUT_WR)


def drip(*pieces: bytes, again: bytes = b"", pause_s: float = 0.05) -> Callable[[socket.socket], None]:
    """Writes the pieces with pauses between them, and then another one for ever."""

    def write(connection: socket.socket) -> None:
        for piece in itertools.chain(pieces, itertools.repeat(again) if again else ()):
            connection.sendall(piece)
            time.sleep(pause_s)

    return write


def header(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def reset(connection: socket.socket) -> None:
    """Breaks the connection off instead of closing it."""
    connection.sendall(header("Content-Length: 100") + b"x" * 10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
