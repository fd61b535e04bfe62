"""The HTTP API. `app.build_app(services)` makes the ASGI app; `server.HttpServer` runs it.

services      what the app is given                     access      ONE table: route x who may
routing       paths -> handlers, the request pipeline   tokens      who is calling
problems      refusal -> HTTP status, the only place    limits      what is refused before a handler sees it
strict_json   JSON without surprises                    idempotency Idempotency-Key -> command id
positions     read-your-writes                          paging      cursors
live, sse     followers of events and logs              zips        folders as archives
and one file per noun: the handlers and their ROUTES.
"""
