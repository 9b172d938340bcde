"""The gateway's own pages: single HTML files that load nothing else, except the client if they import it."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from .http.responses import HttpResponse


def load_page(name: str, forms: str = "'none'") -> HttpResponse:
    """Return the page in this file, in which `@@form.js` stands for the text of that file.

    It may run its own script and style and call its own origin. A module may also import from there. Its forms may be
    sent to `forms`, sources in the syntax of CSP.
    """
    content = re.sub(rb"@@(\S+)\n", lambda found: _read(found[1].decode()), _read(name))
    script, style = (
        base64.b64encode(hashlib.sha256(found[1]).digest()).decode()
        for tag in (b"script", b"style")
        if (found := re.search(b"<%b(?: type=module)?>(.*?)</%b>" % (tag, tag), content, re.DOTALL))
    )
    imported = " 'self'" if b"<script type=module>" in content else ""
    policy = (
        f"default-src 'none'; script-src 'sha256-{script}'{imported}; style-src 'sha256-{style}'; connect-src 'self'; "
        f"base-uri 'none'; form-action {forms}; frame-ancestors 'none'"
    )
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode()),
        (b"cache-control", b"no-store"),
    )
    return HttpResponse(200, content, headers)


def _read(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()
