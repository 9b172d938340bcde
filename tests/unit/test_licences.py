"""The licence, and the notices for third-party files."""

from __future__ import annotations

import re
import tomllib

from tests.support.paths import ROOT, VECTORS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTICE = (ROOT / "NOTICE").read_text()


def test_the_package_and_the_image_have_the_licence() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    final = dockerfile.rpartition("FROM ")[2]

    assert "Apache License" in (ROOT / "LICENSE").read_text().splitlines()[0]
    assert PROJECT["license"] == "Apache-2.0"
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in final
    assert re.search(r"^COPY .*LICENSE NOTICE", dockerfile.partition("FROM ")[2].partition("FROM ")[0], re.MULTILINE)
    assert re.search(r"^COPY .*LICENSE .*NOTICE", final, re.MULTILINE)
    assert {"!LICENSE", "!NOTICE"} <= set((ROOT / ".dockerignore").read_text().splitlines())


def test_the_package_carries_the_licence_of_everything_that_is_vendored() -> None:
    found = {
        str(file.relative_to(ROOT))
        for folder in ("libs", "services", "deploy")
        for file in (ROOT / folder).rglob("*")
        if re.search(r"LICEN[CS]E|NOTICE", file.name)
    }

    assert found
    assert set(PROJECT["license-files"]) == {"LICENSE", "NOTICE"} | found


def test_the_notice_names_every_folder_that_holds_the_work_of_others() -> None:
    vendored = [
        file.parent.relative_to(ROOT) for top in ("libs", "services") for file in (ROOT / top).rglob("*LICENSE*")
    ]
    vectors = [file.parent.relative_to(ROOT) for file in VECTORS.rglob("LICENSE")]

    assert [str(folder) for folder in (*vendored, *vectors) if str(folder) not in NOTICE] == []


def test_the_notice_names_the_version_of_the_viewer() -> None:
    version = (ROOT / "services/http_gateway/viewer/VERSION").read_text().split("@")[1].split()[0]

    assert f"Swagger UI {version}" in NOTICE
