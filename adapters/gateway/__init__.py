"""The gateway: Envoy in front of all endpoints, told what to serve by files that it watches.

    config    what Envoy is told, as pure functions of the routes
    admin     a few questions over Envoy's admin socket
    tls       where it may listen, and the certificate it shows
    process   the Envoy process: started, adopted after a restart of ours, started again when it dies
    envoy     the port `core.ports.Gateway` on top of them
"""

from adapters.gateway.envoy import EnvoyGateway
from adapters.gateway.process import GatewayUser

__all__ = ["EnvoyGateway", "GatewayUser"]
