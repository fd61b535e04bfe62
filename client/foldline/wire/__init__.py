"""The wire types: what travels between client, agent and server, as pydantic models. The server imports them, never the reverse.

Requests forbid unknown fields (a typo is an error); answers ignore them (a newer server may say more).
"""
