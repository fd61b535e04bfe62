"""The tool that starts a broker says what is missing, and keeps what a restart needs to itself."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tools.kafka import jars
from tools.kafka.configuration import properties, remembered
from tools.kafka.jars import BrokerUnavailable


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BrokerUnavailable, match="apt-get install openjdk-17-jre-headless maven"):
        jars.java()


def test_without_maven_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jars, "STORE", tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BrokerUnavailable, match="apt-get install openjdk-17-jre-headless maven"):
        jars.ensure_jars()


def test_an_old_java_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerUnavailable, match="Java 17 or newer"):
        jars.java()


def test_a_folder_keeps_its_ports_and_passwords_unseen_by_others(tmp_path: Path) -> None:
    data = tmp_path / "kafka"
    first = remembered(data, sasl=True, port=None)
    assert remembered(data, sasl=False, port=None) == first
    assert stat.S_IMODE((data / "node.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert len(set(first.passwords.values())) == 4


def test_every_listener_is_on_loopback_and_authenticated(tmp_path: Path) -> None:
    node = remembered(tmp_path / "kafka", sasl=True, port=None)
    lines = dict(line.split("=", 1) for line in properties(tmp_path / "kafka", node).splitlines())
    assert lines["listeners"] == f"CLIENT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}"
    assert lines["listener.security.protocol.map"] == "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"
    assert lines["super.users"] == "User:admin"
    assert lines["allow.everyone.if.no.acl.found"] == "false"
    assert lines["auto.create.topics.enable"] == "false"
