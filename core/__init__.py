"""The domain, pure: it returns data and touches nothing outside itself.

Map, in the order to read it:
    ids          names, ids and positions
    events       Event, Recorded: what happened, and its envelope
    envelope     how an event becomes bytes, a sequence and a link of the hash chain (for ever)
    errors       refusals: types with fields and a stable `code`
    decider      Handler, Decision: states + command -> events per stream
    ports        the seams: EventLog, Shards, Measurements, Blobs, Vault, Nodes, Serving, Clock
    execute      load, decide, append: the only way in which a decision reaches the log
    catalogue    stored name <-> event class; command class -> handler
    upcasters    older JSON shape -> newest

    workspaces users computes nodes environments experiments runs models endpoints
                 one kind of stream each, in the order events, state, evolve, commands, decide
    placement scaling
                 policies: pure functions whose inputs are recorded
"""
