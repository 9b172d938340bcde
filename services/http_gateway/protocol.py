"""uvicorn's HTTP protocol, with a problem document for what is no HTTP request at all."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aidevos.contracts.errors import MEDIA_TYPE, Failure
from aidevos.observability import metrics, request_ids


class ProblemProtocol(HttpToolsProtocol):
    def send_400_response(self, msg: str) -> None:
        metrics.FAILURES.labels("http", "bad-request").inc()
        document = Failure("bad-request", "this is no valid HTTP/1.1 request").encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            f"content-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(document)}\r\n"
            f"x-request-id: {request_ids.choose(None)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + document)
        self.transport.close()
