"""HTTP clients for tests. They don't load certificates when they start, because tests don't use TLS here."""

from __future__ import annotations

import ssl
from functools import partial

import httpx2

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

http_client = partial(httpx2.AsyncClient, verify=NO_TLS)
blocking_http_client = partial(httpx2.Client, verify=NO_TLS)
