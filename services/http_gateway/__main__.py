"""`python -m services.http_gateway`: the fleet's HTTP entry point."""

from .bootstrap import main

if __name__ == "__main__":
    main()
