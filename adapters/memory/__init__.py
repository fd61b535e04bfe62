"""Twins in memory that pass the contract suites: for unit tests and simulations. Nothing here outlives its process."""
