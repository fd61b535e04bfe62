"""Where actors' snapshots are kept: PostgresSnapshots in the server's database, MemorySnapshots in a twin for tests."""
