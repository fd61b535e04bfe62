"""`foldline login`, `logout`, `whoami`. A token never has to stand on a command line, where histories and process lists keep it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from foldline import configuration
from foldline.answers import light, plain
from foldline.cli.options import COMMON, Common
from foldline.cli.output import show
from foldline.cli.session import PATIENCE_SECONDS, note, server
from foldline.problems import BadInput

TOKEN_BYTES_MAX = 4096


async def login(
    url: str,
    *,
    token_file: Annotated[
        Path | None, Parameter(allow_leading_hyphen=True, help="A file that holds the token; - is standard input.")
    ] = None,
    token: Annotated[str | None, Parameter(help="The token itself. Histories keep it: prefer the prompt or --token-file.")] = None,
    ca_file: Annotated[Path | None, Parameter(help="The authority of the server's certificate.")] = None,
    workspace: Annotated[str | None, Parameter(name=["--workspace", "-w"], help="The workspace to work in.")] = None,
) -> None:
    """Log in to a server: the token is asked for, or read from --token-file or standard input, tried, and kept for this user alone."""
    from foldline.client import Client

    address = configuration.normal_url(url)
    if address.startswith("http://") and not _loopback(address):
        note(f"warning: {address} is not encrypted; anybody on the way can read the token.")
    secret = read_token(token, token_file, prompt=f"Token for {address}: ")
    authority = str(ca_file.resolve()) if ca_file is not None else None
    target = configuration.Target(address, secret, ca_file=authority)
    async with Client(target, decode=light, patience_seconds=configuration.patience_seconds(PATIENCE_SECONDS)) as client:
        me = await client.me()
        known = [found.name for found in await client.workspaces.list()]
    kept = configuration.load()
    kept.url = address
    mine = kept.server(address)
    mine["token"] = secret
    if authority is not None:
        mine["ca_file"] = authority
    if workspace is not None or len(known) == 1:
        mine["workspace"] = workspace or known[0]
    kept.save()
    where = f", workspace {mine['workspace']}" if "workspace" in mine else ""
    note(f"Logged in to {address} as {me.name or me.id}{where}. Kept in {kept.path}.")


async def logout(url: str | None = None) -> None:
    """Forget the token of a server (the configured one unless told). The token itself goes on working: see `foldline token revoke`."""
    kept = configuration.load()
    address = configuration.normal_url(url) if url else kept.url
    if not address or "token" not in kept.servers.get(address, {}):
        raise BadInput("You are not logged in there.", code="not_logged_in")
    kept.servers[address].pop("token")
    kept.save()
    note(f"The token for {address} is forgotten.")


async def whoami(*, common: Common = COMMON) -> None:
    """Who the token belongs to."""
    async with server() as client:
        me = plain(await client.me())
        show({**me, "url": client.connection.target.url, "workspace": client.connection.target.workspace}, common)


def read_token(given: str | None, file: Path | None, *, prompt: str) -> str:
    """A token from the argument, a file, standard input, or a hidden prompt. Raises: BadInput."""
    if given is not None:
        text = given
    elif file is not None and str(file) != "-":
        try:
            text = file.read_text()[:TOKEN_BYTES_MAX]
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror}.", code="no_file") from None
    elif file is not None or not sys.stdin.isatty():
        text = sys.stdin.read(TOKEN_BYTES_MAX)
    else:
        from getpass import getpass

        text = getpass(prompt, stream=sys.stderr)
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise BadInput("That is no token: one line of letters and digits was expected.", code="bad_token")
    return token


def _loopback(url: str) -> bool:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
