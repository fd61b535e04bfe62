"""Which server, whose token, which workspace; files that only their user can read."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from foldline.configuration import Configuration, load, normal_url, patience_seconds, resolve
from foldline.positions import InFile
from foldline.problems import BadInput

HERE, THERE = "http://127.0.0.1:8321", "https://ml.example.org"


def environ(tmp_path: Path, **variables: str) -> dict[str, str]:
    return {"FOLDLINE_CONFIG": str(tmp_path / "conf" / "config.json"), **variables}


def kept(tmp_path: Path) -> Configuration:
    configuration = load(environ(tmp_path))
    configuration.url = HERE
    configuration.servers = {HERE: {"token": "here", "workspace": "lab"}, THERE: {"token": "there", "ca_file": "/ca.pem"}}
    configuration.save()
    return configuration


def test_what_is_saved_is_found_again_and_only_its_user_can_read_it(tmp_path: Path) -> None:
    path = kept(tmp_path).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    found = resolve(environ=environ(tmp_path))
    assert (found.url, found.token, found.workspace) == (HERE, "here", "lab")


def test_arguments_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    kept(tmp_path)
    variables = environ(tmp_path, FOLDLINE_WORKSPACE="other", FOLDLINE_TOKEN="fresh")
    assert resolve(environ=variables).workspace == "other"
    assert resolve(environ=variables).token == "fresh"
    found = resolve(workspace="mine", token="given", environ=variables)
    assert (found.workspace, found.token) == ("mine", "given")


def test_a_token_never_goes_to_another_server(tmp_path: Path) -> None:
    kept(tmp_path)
    assert resolve("http://elsewhere.example", environ=environ(tmp_path)).token is None
    assert resolve(environ=environ(tmp_path, FOLDLINE_URL="http://elsewhere.example")).token is None
    both = environ(tmp_path, FOLDLINE_URL="http://elsewhere.example", FOLDLINE_TOKEN="theirs")
    assert resolve(environ=both).token == "theirs"
    assert resolve(THERE, environ=both).token == "there"
    assert resolve(THERE, environ=both).ca_file == "/ca.pem"


def test_no_server_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="foldline login"):
        resolve(environ=environ(tmp_path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no valid JSON"),
        ("[]", "does not hold"),
        ('{"servers": []}', "does not hold"),
        ('{"urll": "x"}', "unknown key 'urll'"),
        ('{"url": 3}', "must be text"),
        ('{"servers": {"http://h": {"tokenn": "x"}}}', "unknown key 'tokenn'"),
        ('{"servers": {"http://h": {"token": 3}}}', "no text"),
        ('{"servers": {"nonsense": {}}}', "no server address"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = kept(tmp_path).path
    path.write_text(text)
    with pytest.raises(BadInput, match=words):
        load(environ(tmp_path))


def test_a_file_that_others_may_change_is_refused(tmp_path: Path) -> None:
    path = kept(tmp_path).path
    path.chmod(0o666)
    with pytest.raises(BadInput, match="changed by others"):
        load(environ(tmp_path))


def test_a_file_that_others_may_read_is_closed(tmp_path: Path) -> None:
    path = kept(tmp_path).path
    path.chmod(0o644)
    load(environ(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_in_the_file_s_place_is_refused(tmp_path: Path) -> None:
    path = kept(tmp_path).path
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(BadInput, match="plain file"):
        load(environ(tmp_path))


@pytest.mark.parametrize(
    ("url", "normal"),
    [("http://H:1/", "http://h:1"), ("HTTPS://a.B/x/", "https://a.b/x"), (" http://[::1]:80 ", "http://[::1]:80")],
)
def test_addresses_are_normal(url: str, normal: str) -> None:
    assert normal_url(url) == normal


@pytest.mark.parametrize(
    "url", ["", "h:1", "ftp://h", "http://", "http://u:p@h", "http://h/?x", "http://h/#x", "http://a b", "http://h\\x"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(BadInput):
        normal_url(url)


def test_positions_outlive_the_process_per_server(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "config.json"
    InFile(path, HERE).keep("lab", "log:0:1")
    InFile(path, THERE).keep("lab", "other:0:7")
    InFile(path, HERE).keep("", "log:3:2")
    assert InFile(path, HERE).last("lab") == "log:0:1"
    assert InFile(path, HERE).last("new") == "log:3:2"
    assert InFile(path, THERE).last("lab") == "other:0:7"
    assert stat.S_IMODE((tmp_path / "conf" / "config.state.json").stat().st_mode) == 0o600
    InFile(path, HERE).forget()
    assert InFile(path, HERE).last("lab") is None
    assert InFile(path, THERE).last("lab") == "other:0:7"


def test_a_spoiled_state_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    state = tmp_path / "config.state.json"
    for spoiled in ("{", "[]", json.dumps({HERE: 3}), json.dumps({HERE: {"lab": 3}})):
        state.write_text(spoiled)
        assert InFile(path, HERE).last("lab") is None


def test_patience_is_a_number(tmp_path: Path) -> None:
    assert patience_seconds(7, {}) == 7
    assert patience_seconds(7, {"FOLDLINE_PATIENCE_SECONDS": "0.5"}) == 0.5
    with pytest.raises(BadInput):
        patience_seconds(7, {"FOLDLINE_PATIENCE_SECONDS": "long"})
