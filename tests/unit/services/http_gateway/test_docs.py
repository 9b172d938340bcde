"""The pages that the gateway serves under `/docs`."""

from __future__ import annotations

import re

from aidevos.contracts.errors import CODES, Failure
from services.http_gateway.docs import errors_page


def test_the_type_of_a_problem_leads_to_its_entry_in_the_catalogue() -> None:
    anchors = re.findall(r'id="([^"]+)"', errors_page())

    assert [f"/docs/errors#{anchor}" for anchor in anchors] == [Failure(code, "").problem.type for code in CODES]


def test_the_type_of_a_code_of_an_object_is_a_uri_reference() -> None:
    assert Failure("out of stock", "", status=409).problem.type == "/docs/errors#out%20of%20stock"


def test_the_catalogue_marks_code_and_escapes_the_rest() -> None:
    assert "<code>If-None-Match: *</code>" in errors_page()
    assert "`" not in errors_page()
    assert "doesn&#x27;t" in errors_page()
