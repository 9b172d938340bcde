"""The vendored viewer of the API's description."""

from __future__ import annotations

import hashlib
from importlib.resources import files

FOLDER = files("services.http_gateway") / "viewer"


def test_the_vendored_files_are_those_of_the_package() -> None:
    lines = [line.split() for line in (FOLDER / "SHA256SUMS").read_text().splitlines()]

    assert {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for _, name in lines} == {
        name: checksum for checksum, name in lines
    }
    assert {"swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE"} <= {name for _, name in lines}


def test_the_page_has_no_inline_script_or_style() -> None:
    page = (FOLDER / "index.html").read_text()

    assert page.count("<script") == page.count("></script>") == 2
    assert "style=" not in page
    assert "<style" not in page
    assert " on" not in page
