from tests.adapters.serving.fixtures import environment_cache, kit, opened  # noqa: F401  # fixtures
