"""Browser sessions: pages that are logged in with cookies."""

from __future__ import annotations

from typing import NamedTuple

import httpx2

from tests.support.people import PASSWORD

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


class Browser(NamedTuple):
    """A page of the gateway's origin after a login, with its CSRF token."""

    http: httpx2.AsyncClient
    login: httpx2.Response

    @property
    def own(self) -> dict[str, str]:
        return {**SAME_ORIGIN, "X-CSRF-Token": self.login.json()["csrf_token"]}

    async def change_name(self, headers: dict[str, str]) -> int:
        answer = await self.http.put("/users/me", json={"full_name": "Ada"}, headers=headers)
        return answer.status_code


async def login(client: httpx2.AsyncClient, person: dict[str, str], **headers: str) -> httpx2.Response:
    body = {"username": person["username"], "password": PASSWORD}
    return await client.post("/auth/login?cookie=true", json=body, headers=headers)
