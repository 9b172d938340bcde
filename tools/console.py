"""Build the console: `make console`, which first installs what this needs into `clients/console/node_modules`.

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


def build(into: Path = BUILT) -> None:
    """Build the console's files into the folder. Raises `subprocess.CalledProcessError`."""
    (SOURCE / "openapi.json").write_text(json.dumps(describe([])))
    for script in (["types"], ["check"], ["test"], ["build", "--", "--outDir", str(into), "--emptyOutDir"]):
        subprocess.run(["npm", "run", "--silent", *script], cwd=SOURCE, check=True, stdout=sys.stderr)  # noqa: S603, S607


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
