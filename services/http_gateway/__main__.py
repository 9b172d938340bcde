"""`python -m services.http_gateway`: the HTTP door of the fleet."""

import sys

from aidevos.settings import SettingsError, load

from .bootstrap import serve

if __name__ == "__main__":
    try:
        serve(load())
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
