"""Users and their tokens."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, cast

from foldline.resources.collection import Collection, set_fields

if TYPE_CHECKING:
    from foldline.wire.workspaces import Token, TokenCreated, User, UserCreated


class Users(Collection):
    """The installation's users (administrators only)."""

    async def create(self, name: str, *, mail: str | None = None, admin: bool = False) -> UserCreated:
        """Makes a user; the answer holds the first token, shown this once."""
        body = {**set_fields(name=name, mail=mail), "admin": admin}
        return cast("UserCreated", await self._send("POST", "workspaces.UserCreated", "users", body=body))

    async def list(self) -> builtins.list[User]:
        return await self._all("workspaces.User", "users")

    async def disable(self, user: str) -> None:
        """No token of the user works any more."""
        await self._do("POST", "users", user, "disable")

    async def enable(self, user: str) -> None:
        await self._do("POST", "users", user, "enable")

    async def delete(self, user: str) -> None:
        """The user's name and mail are erased; the log keeps the opaque id."""
        await self._do("DELETE", "users", user)


class Tokens(Collection):
    """Tokens of a user: one's own, or anybody's for an administrator."""

    async def create(self, *, user: str = "me", label: str | None = None, expires_seconds: float | None = None) -> TokenCreated:
        """Makes a token; `secret` is shown this once."""
        body = set_fields(label=label, expires_seconds=expires_seconds)
        return cast("TokenCreated", await self._send("POST", "workspaces.TokenCreated", "users", user, "tokens", body=body))

    async def list(self, *, user: str = "me") -> list[Token]:
        return await self._whole("workspaces.Token", "users", user, "tokens")

    async def revoke(self, token: str, *, user: str = "me") -> None:
        await self._do("DELETE", "users", user, "tokens", token)
