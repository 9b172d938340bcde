"""`python -m services.http_gateway`: the HTTP door of the fleet."""

from .bootstrap import main

if __name__ == "__main__":
    main()
