"""The serving pool beside the server.

    pool        the port `core.ports.Serving`: replicas by id, epochs, logs
    replica     one replica's life: prepared, started, probed, watched, stopped
    launching   the sandbox, the variables and the supervising process of a worker
    content     models and code on disk, by digest
    folders     where everything lies, and what is written down for the next server
    probe       asks a worker whether it is there
    outliving   processes that outlive the server (the gateway's Envoy is one too)
"""

from adapters.serving.pool import ServingPool

__all__ = ["ServingPool"]
