"""Workloads, each printing one JSON line: what was measured, the machine's noise beside it."""
