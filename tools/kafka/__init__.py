"""One Apache Kafka broker for tests, the demo and the bench: its jars, its settings, its process."""
