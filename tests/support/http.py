"""HTTP clients of the tests: none speaks TLS, so none spends its start on reading certificates."""

from __future__ import annotations

import ssl
from functools import partial

import httpx2

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

http_client = partial(httpx2.AsyncClient, verify=NO_TLS)
blocking_http_client = partial(httpx2.Client, verify=NO_TLS)
