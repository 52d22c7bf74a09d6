"""A local HTTP server that answers from a script, for what a healthy OpenSearch never answers."""

import gzip
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from neuralrank.settings import Settings


@dataclass
class Script:
    """Answers in order, each a status and a JSON body (a string: plain text); the last repeats."""

    answers: list[tuple[int, Any]]
    url: str = ""
    # Method, path with query, and body of what was asked.
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(opensearch_url=self.url)


@contextmanager
def answering(
    *answers: tuple[int, Any], certificate: tuple[Path, Path] | None = None
) -> Iterator[Script]:
    """
    Args:
        certificate: PEM files of a certificate and its key: then by TLS.
    """
    script = Script(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            script.asked.append((self.command, self.path, body.decode()))
            status, value = script.answers[min(len(script.asked), len(script.answers)) - 1]
            plain = isinstance(value, str)
            payload = value.encode() if plain else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain" if plain else "application/json")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(payload)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    script.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
