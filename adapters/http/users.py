"""People and their tokens. A token's text is shown once; only its hash is recorded."""

from __future__ import annotations

from datetime import timedelta

from starlette.responses import Response

from adapters.http.access import API, user_named
from adapters.http.call import Call
from adapters.http.routing import Route
from adapters.http.tokens import sha256_of, user_token
from core import users as core_users
from core.errors import AlreadyExists, Conflict, Invalid, NotFound
from core.ids import SYSTEM, Stream
from core.users import CreateToken, CreateUser, DeleteUser, DisableUser, EnableUser, RevokeToken
from foldline.wire.shapes import Page
from foldline.wire.workspaces import Token, TokenCreate, TokenCreated, User, UserCreate, UserCreated
from projections import users as rows


async def create(call: Call) -> Response:
    """The person's row first, then the events: a row without a user is invisible, and repeated requests find it again."""
    wanted = await call.body(UserCreate)
    user = f"u-{call.derive('user-id')[:16]}"
    if wanted.name.startswith("u-") or wanted.name == "me":
        raise Invalid("A user's name does not begin with `u-` and is not `me`; those are ids.", field="name")
    known = await call.services.people.find(wanted.name)
    if known is not None and known.user != user:
        if not isinstance(await call.services.executor.state(SYSTEM, Stream(f"user/{known.user}")), core_users.NoUser):
            raise AlreadyExists("user", wanted.name)
        await call.services.people.erase(known.user)  # left by a request that never got as far as its event
    await call.services.people.put(user, wanted.name, wanted.mail)
    await call.execute(CreateUser(user=user, admin=wanted.admin), workspace=SYSTEM)
    token = await _make_token(call, user, TokenCreate(label="first"), part="first-token")
    return call.answer(UserCreated(
        id=user, name=wanted.name, mail=wanted.mail, admin=wanted.admin, enabled=True, created_at=call.services.clock.now(),
        token=token.secret,
    ))


async def listing(call: Call) -> Response:
    await call.wait("users")
    found = await rows.page(call.services.pool, limit=call.limit, cursor=call.cursor)
    people = {row.user_id: await call.services.people.get(row.user_id) for row in found.items}
    items = [
        User(
            id=row.user_id, name=person.name if person else None, mail=person.mail if person else None, admin=row.admin,
            enabled=row.enabled, created_at=row.created_at,
        )
        for row in found.items for person in (people[row.user_id],)
    ]
    return call.page(items, found.next)


async def disable(call: Call) -> Response:
    await call.execute(DisableUser(user=await _other(call)), workspace=SYSTEM)
    return call.done()


async def enable(call: Call) -> Response:
    await call.execute(EnableUser(user=await _named(call)), workspace=SYSTEM)
    return call.done()


async def delete(call: Call) -> Response:
    """The name and the mail are erased after the event is durable; a repeated request erases again."""
    user = await _other(call)
    await call.execute(DeleteUser(user=user), workspace=SYSTEM)
    await call.services.people.erase(user)
    return call.done()


async def create_token(call: Call) -> Response:
    wanted = await call.body(TokenCreate)
    return call.answer(await _make_token(call, await _named(call), wanted, part=None))


async def tokens(call: Call) -> Response:
    user = await _named(call)
    await call.wait("users")
    row = await rows.get(call.services.pool, user)
    if row is None:
        raise NotFound("user", call.path["user"])
    items = [
        Token(id=one.token, user=user, label=one.label, created_at=one.created_at, expires_at=one.expires_at) for one in row.tokens.values()
    ]
    return call.page(items, None)


async def revoke_token(call: Call) -> Response:
    user, token = await _named(call), call.path["token"]
    state = await call.services.executor.state(SYSTEM, Stream(f"user/{user}"))
    done = await call.execute(RevokeToken(user=user, token=token), workspace=SYSTEM)
    if not done.recorded and not (isinstance(state, core_users.Known) and token in state.tokens):
        raise NotFound("token", token)
    return call.done()


async def _named(call: Call) -> str:
    user = await user_named(call.services, call.path["user"], call.user)
    if user is None or isinstance(await call.services.executor.state(SYSTEM, Stream(f"user/{user}")), core_users.NoUser):
        raise NotFound("user", call.path["user"])
    return user


async def _other(call: Call) -> str:
    """Somebody else: so there is always an administrator left."""
    user = await _named(call)
    if user == call.user.user:
        raise Conflict("Nobody disables or deletes their own account; another administrator can.", user=user)
    return user


async def _make_token(call: Call, user: str, wanted: TokenCreate, part: str | None) -> TokenCreated:
    """The secret is a MAC over this command, so that a repeated request gets the same token, and nobody else can make it."""
    now = call.services.clock.now()
    seed = call.derive(f"user-token:{user}:{part}")
    token, secret = f"t-{seed[:10]}", call.derive(f"user-token-secret:{user}:{part}")
    whole = user_token(user, token, secret)
    expires_at = None if wanted.expires_seconds is None else now + timedelta(seconds=wanted.expires_seconds)
    command = CreateToken(user=user, token=token, sha256=sha256_of(whole), label=wanted.label, expires_at=expires_at)
    await call.execute(command, workspace=SYSTEM, part=part)
    return TokenCreated(id=token, user=user, label=wanted.label, created_at=now, expires_at=expires_at, secret=whole)


_USER = f"{API}/users/{{user}}"
ROUTES = (
    Route(method="POST", path=f"{API}/users", handler=create, summary="Let a person in", body=UserCreate, answer=UserCreated, status=201),
    Route(method="GET", path=f"{API}/users", handler=listing, summary="People", answer=Page[User], query=("limit", "cursor")),
    Route(method="POST", path=f"{_USER}/disable", handler=disable, summary="Make the person's tokens worthless", status=204),
    Route(method="POST", path=f"{_USER}/enable", handler=enable, summary="Let the person in again", status=204),
    Route(method="DELETE", path=_USER, handler=delete, summary="Forget the person: name and mail are erased", status=204),
    Route(method="POST", path=f"{_USER}/tokens", handler=create_token, summary="Make a token; its text is shown once",
          body=TokenCreate, answer=TokenCreated, status=201),
    Route(method="GET", path=f"{_USER}/tokens", handler=tokens, summary="Tokens that are not revoked", answer=Page[Token]),
    Route(method="DELETE", path=f"{_USER}/tokens/{{token}}", handler=revoke_token, summary="Revoke a token, at once", status=204),
)
