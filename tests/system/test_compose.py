"""docker-compose.yml: read by a validating parser of the Compose specification, and each setting is one that the server knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from adapters.settings import read_settings

COMPOSE = Path(__file__).resolve().parents[2] / "docker-compose.yml"


def test_the_compose_file_follows_the_specification() -> None:
    assert set(PyCompose.from_yaml(COMPOSE.read_text()).service_names()) == {"kafka", "postgres", "server", "agent"}


def test_the_validating_parser_refuses_a_key_that_compose_does_not_know() -> None:
    with pytest.raises(ValueError, match="imagee"):
        PyCompose.from_yaml(COMPOSE.read_text().replace("image: postgres:18", "imagee: postgres:18"))


def test_every_setting_of_the_composed_server_is_known_and_allowed() -> None:
    environment = yaml.safe_load(COMPOSE.read_text())["services"]["server"]["environment"]
    settings = read_settings(environment)
    assert settings.log == "kafka"
    assert settings.kafka_single_broker
    assert settings.tls_certificate is not None


def test_every_secret_is_a_file_that_the_instructions_make() -> None:
    text = COMPOSE.read_text()
    instructions = text[: text.index("name: foldline")]
    for secret in yaml.safe_load(text)["secrets"].values():
        assert Path(secret["file"]).name in instructions
