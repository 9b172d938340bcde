"""Build the client for TypeScript: `make client`, which first installs what this needs into `node_modules`.

It writes the types of the API from this code's own description, checks the client's code, and builds the npm package's
files in `clients/typescript/dist/`. The gateway serves one of them, `services/http_gateway/client.js`, which is kept in
the repository.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from aidevos.cli.openapi import offline
from aidevos.cli.typescript import render
from services.http_gateway.description.openapi import describe

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "clients" / "typescript"
SERVED = ROOT / "services" / "http_gateway" / "client.js"
FILM = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}


def check() -> None:
    """Write the types of the API and of a fleet, and check the client's code and the use of its types.

    Raises `subprocess.CalledProcessError`.
    """
    (SOURCE / "openapi.json").write_text(json.dumps(describe([])))
    fleet = render(json.loads(offline()), json.loads(offline("asyncapi")), {"films": FILM}, "http://127.0.0.1:8080")
    (SOURCE / "test" / "fleet.ts").write_text(fleet)
    _run("types")
    _run("check")


def bundle(into: Path = SOURCE / "dist") -> None:
    """Build the client's modules into the folder. Raises `subprocess.CalledProcessError`."""
    _run("bundle", "--", f"--outdir={into}")


def build() -> None:
    """Check the client and build all its files. Raises `subprocess.CalledProcessError`."""
    check()
    _run("declare")
    bundle()
    shutil.copyfile(SOURCE / "dist" / "index.js", SERVED)


def _run(*script: str) -> None:
    subprocess.run(["npm", "run", "--silent", *script], cwd=SOURCE, check=True, stdout=sys.stderr)  # noqa: S603, S607


if __name__ == "__main__":
    try:
        build()
    except FileNotFoundError:
        raise SystemExit("npm was not found: install Node.js 20 or newer") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from None
