"""Names in answers: opaque user ids become people's names, the ids of new things become words."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

from adapters.http.services import Services

_ADJECTIVES = """
amber ample arctic ashen azure bold brave breezy brisk bronze calm candid clever cobalt coral cosmic crisp curious dapper deft
eager early earnest fair fleet fond fresh frosty gentle gilded glad golden grand happy hazel honest icy ivory jade jolly keen kind
lively lucid lunar mellow merry mighty misty nimble noble olive patient placid polar proud quick quiet rapid rosy rustic sage
silver sleek solar steady still sunny swift tidy tranquil upbeat velvet vivid warm wise witty young zesty
"""
ADJECTIVES = tuple(_ADJECTIVES.split())
_NOUNS = """
acorn alder ant badger bay beaver birch bison brook canyon cedar cliff cloud comet cove crane creek delta dove dune eagle elm
ember falcon fern finch fjord forest fox glade grove gull harbor hare hawk heron hill ibis island jay lagoon lake lark leaf lynx
maple marsh meadow moon moose newt oak orca otter owl peak pebble pine plover pond puffin quail rain raven reef ridge river robin
seal shore sparrow spruce star stone stream swan tern thrush tide trout valley vole wave willow wolf wren
"""
NOUNS = tuple(_NOUNS.split())



def run_name(hexdigits: str) -> str:
    """`<adjective>-<noun>-<4 base32>` out of a text of hex digits."""
    raw = bytes.fromhex(hexdigits[:16])
    tail = base64.b32encode(raw[4:8]).decode().lower()[:4]
    return f"{ADJECTIVES[int.from_bytes(raw[:2], 'big') % len(ADJECTIVES)]}-{NOUNS[int.from_bytes(raw[2:4], 'big') % len(NOUNS)]}-{tail}"


async def people_behind(services: Services, actors: Iterable[str]) -> Mapping[str, str]:
    """Actor id -> name, for the actors that are people whom somebody still knows by name."""
    users = {actor.removeprefix("user/") for actor in actors if actor.startswith("user/")}
    if not users:
        return {}
    known = await services.people.names(users)
    return {f"user/{user}": name for user, name in known.items()}
