"""Build the console: `python -m tools.console`, or `make console`; needs Node.js 20 and npm.

It writes the types of the API for TypeScript from this code's own description, checks and tests the console's code, and
builds the files in `services/http_gateway/console/`, which are kept in the repository.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from services.http_gateway.description.openapi import describe

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "clients" / "console"
BUILT = ROOT / "services" / "http_gateway" / "console"


def build(into: Path = BUILT, *, source: Path = SOURCE) -> None:
    """Build the console's files into the folder. Raises `subprocess.CalledProcessError`."""
    (source / "openapi.json").write_text(json.dumps(describe([])))
    _npm(source, "ci", "--no-audit", "--no-fund", "--loglevel=error")
    for script in (["types"], ["check"], ["test"], ["build", "--", "--outDir", str(into), "--emptyOutDir"]):
        _npm(source, "run", "--silent", *script)


def _npm(folder: Path, *arguments: str) -> None:
    subprocess.run(["npm", *arguments], cwd=folder, check=True, stdout=sys.stderr)  # noqa: S603, S607


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=BUILT, help="the folder of the built files")
    try:
        build(parser.parse_args().into.absolute())
    except FileNotFoundError:
        raise SystemExit("npm was not found: install Node.js 20 or newer") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from None


if __name__ == "__main__":
    main()
