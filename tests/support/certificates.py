"""Certificates for servers and their clients, made for one test."""

from __future__ import annotations

from pathlib import Path

import trustme


class Authority:
    """A certificate authority with its own certificate in `file`, and one each for `localhost` and for a client.

    The `server` and `client` files also hold the private keys.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.file = folder / "authority.pem"
        self.server = folder / "server.pem"
        self.client = folder / "client.pem"
        authority.cert_pem.write_to_path(self.file)
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(self.server)
        authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(self.client)

    def settings(self) -> dict[str, str]:
        """Return the settings of a process that trusts the authority and presents its certificate."""
        return {"tls_ca": str(self.file), "tls_certificate": str(self.client)}
