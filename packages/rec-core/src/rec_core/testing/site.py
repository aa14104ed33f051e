"""A web server on this machine whose pages behave and misbehave as a test wants."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class Page:
    """What is at one path.

    etag, modified  named in the answer where given; they also decide on a conditional range request
    ranges          whether a part of the body can be asked for
    length          whether the answer says how long it is
    status          answer with this error instead
    moved_to        answer with a redirect to this path instead
    cuts            lengths after which the next answers break off, one by one
    stalls          lengths after which the next answers stop and wait until the site closes, one by one
    silent          accept the connection and say nothing until the site closes
    """

    body: bytes = b""
    etag: str | None = None
    modified: str | None = None
    ranges: bool = True
    length: bool = True
    status: int | None = None
    moved_to: str | None = None
    cuts: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    silent: bool = False

    def part(self, span: str | None, condition: str | None) -> int | None:
        """Where the asked part begins (Range, If-Range); None for the whole, -1 for a part that cannot be."""
        asked = re.fullmatch(r"bytes=(\d+)-", span or "")
        if asked is None or not self.ranges or condition not in (None, self.etag, self.modified):
            return None
        return int(asked[1]) if int(asked[1]) < len(self.body) else -1


@dataclass(frozen=True)
class Asked:
    """A request: the path, and the conditional range where one was asked for."""

    path: str
    range: str | None = None
    if_range: str | None = None


class Site:
    """The server; ``pages`` may change at any time, ``asked`` lists the requests in their order."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        site = self
        self.pages = dict(pages)
        self.asked: list[Asked] = []
        self.stalled = threading.Event()
        self._closing = threading.Event()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(Asked(self.path, self.headers.get("Range"), self.headers.get("If-Range")))
                page = site.pages.get(self.path, Page(status=404))
                if page.silent:
                    site.stalled.set()
                    site._closing.wait(60)
                    self.close_connection = True
                elif page.status is not None:
                    self.send_error(page.status)
                elif page.moved_to is not None:
                    self.send_response(302)
                    self.send_header("Location", page.moved_to)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.answer(page)

            def answer(self, page: Page) -> None:
                begin = page.part(self.headers.get("Range"), self.headers.get("If-Range"))
                if begin == -1:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(page.body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = page.body[begin or 0 :]
                self.send_response(200 if begin is None else 206)
                if begin is not None:
                    self.send_header("Content-Range", f"bytes {begin}-{len(page.body) - 1}/{len(page.body)}")
                for name, value in (("ETag", page.etag), ("Last-Modified", page.modified)):
                    if value is not None:
                        self.send_header(name, value)
                if page.length:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.close_connection = True
                if page.cuts:
                    body = body[: page.cuts.pop(0)]
                if page.stalls:
                    self.wfile.write(body[: page.stalls.pop(0)])
                    self.wfile.flush()
                    site.stalled.set()
                    site._closing.wait(60)
                    return
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away in the middle is part of many tests."""

        self._server = Server(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
