"""Providers of nodes. `local`: agents on the server's own machine, in sessions of their own, which outlive the server."""
