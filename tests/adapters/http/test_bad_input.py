"""Bad input gets a 4xx problem with a stable code, changes nothing, and a good request afterwards gets its normal answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.adapters.http.live_server import LiveServer, problem, sha256
from tests.adapters.http.world import JOB, PROTOCOL, World

W = "/workspaces/ours"
JSON = {"Content-Type": "application/json"}
DIGEST = "a" * 64


@dataclass(frozen=True, slots=True)
class Case:
    """One bad request. `json` is sent as JSON, `content` as it is with the headers given."""

    name: str
    method: str
    path: str
    status: int
    code: str
    json: Any = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    who: str = "owner"


def body(name: str, content: bytes, status: int, code: str, path: str = f"{W}/computes", **headers: str) -> Case:
    return Case(name, "POST", path, status, code, content=content, headers={**JSON, **{k.replace("_", "-"): v for k, v in headers.items()}})


def post(name: str, path: str, sent: Any, status: int = 422, code: str = "invalid_body") -> Case:
    return Case(name, "POST", path, status, code, json=sent)


def get(name: str, path: str, status: int, code: str) -> Case:
    return Case(name, "GET", path, status, code)


def file(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "sha256": DIGEST, "bytes": 1, **more}


def manifest(name: str, *paths: str, code: str = "bad_path") -> Case:
    return post(f"manifest: {name}", f"{W}/snapshots", {"files": [file(path) for path in paths]}, code=code)


def job(label: str, code: str = "invalid_body", status: int = 422, **more: Any) -> Case:
    return post(f"job: {label}", f"{W}/jobs", {**JOB, **more}, status, code)


def requirement(text: str) -> Case:
    return job(f"requirement {text[:30]}", "bad_requirement", environment={"packages": [text]})


def named(name: str, code: str = "invalid_body", status: int = 422) -> Case:
    return post(f"name {name[:12]!r} of {len(name)}", f"{W}/computes", {"name": name}, status, code)


def write(name: str, status: int, code: str, **headers: str) -> Case:
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    return Case(name, "POST", f"{W}/computes", status, code, json={"name": "fine"}, headers=given)


def agent(name: str, what: str, status: int, code: str, sent: Any = None, content: bytes | None = None, **headers: str) -> Case:
    given = {**PROTOCOL, **(JSON if content is not None else {}), **{k.replace("_", "-"): v for k, v in headers.items()}}
    return Case(f"agent: {name}", "POST", f"/agent/{what}", status, code, json=sent, content=content, headers=given, who="node")


def points(**more: Any) -> dict[str, Any]:
    return {"attempt": 1, "source": "1/points", "sequence": 1, "keys": ["a"], "key": [0], "step": [0], "time_ms": [1], "value": [0.5],
        **more}


TYPES = [
    post("wrong type of a number", f"{W}/computes", {"name": "c", "max_instances": "2"}),
    post("a number that is too large", f"{W}/computes", {"name": "c", "max_instances": 10**9}),
    post("a negative number", f"{W}/computes", {"name": "c", "min_instances": -1}),
    post("min over max", f"{W}/computes", {"name": "c", "min_instances": 3, "max_instances": 2}, code="invalid"),
    post("unknown field", f"{W}/computes", {"name": "c", "nmae": 1}),
    post("missing field", f"{W}/computes", {}),
    post("a list where an object belongs", f"{W}/computes", []),
    post("null where a name belongs", f"{W}/computes", {"name": None}),
    post("unknown field, nested", f"{W}/jobs", {**JOB, "environment": {"packages": [], "evil": {"a": 1}}}),
    post("2^31 as a version", f"{W}/models", {"name": "m", "manifest": DIGEST, "version": 2**31}),
    post("2^53+1 as a version", f"{W}/models", {"name": "m", "manifest": DIGEST, "version": 2**53 + 1}),
    post("2^63 as a version", f"{W}/models", {"name": "m", "manifest": DIGEST, "version": 2**63}),
    post("2^64 as a version", f"{W}/models", {"name": "m", "manifest": DIGEST, "version": 2**64}),
    post("a float as a version", f"{W}/models", {"name": "m", "manifest": DIGEST, "version": 1.5}),
    post("true as a version", f"{W}/models", {"name": "m", "manifest": DIGEST, "version": True}),
    post("neither manifest nor run", f"{W}/models", {"name": "m"}, code="invalid"),
    post("manifest and run", f"{W}/models", {"name": "m", "manifest": DIGEST, "run": "r"}, code="invalid"),
    post("upper-case digest", f"{W}/models", {"name": "m", "manifest": "A" * 64}),
    post("unknown role", f"{W}/environments", {"name": "e", "spec": {"python": "three"}}),
    Case("role that does not exist", "PUT", f"{W}/members/me", 422, "invalid_body", json={"role": "god"}),
    post("traffic over 100", f"{W}/online-endpoints", {"name": "e", "auth_mode": "none"}),
    Case("shares that do not add up", "PATCH", f"{W}/online-endpoints/score", 422, "invalid", json={"traffic": {"blue": 99}}),
    Case("a share over 100", "PATCH", f"{W}/online-endpoints/score", 422, "invalid_body", json={"traffic": {"blue": 101}}),
]
SPELLING = [
    body("no body", b"", 400, "body_missing"),
    body("not JSON", b"{", 400, "not_json"),
    body("two JSON values", b'{"name":"c"} {}', 400, "not_json"),
    body("a key twice", b'{"name":"c","name":"d"}', 400, "duplicate_key"),
    body("a nested key twice", b'{"name":"c","x":[{"a":1,"a":2}]}', 400, "duplicate_key"),
    body("bare NaN", b'{"name":"c","idle_time_before_scale_down":NaN}', 422, "not_finite"),
    body("bare Infinity", b'{"name":"c","idle_time_before_scale_down":-Infinity}', 422, "not_finite"),
    body("1e999", b'{"name":"c","idle_time_before_scale_down":1e999}', 422, "number_out_of_range"),
    body("1e200000", b'{"name":"c","idle_time_before_scale_down":1e200000}', 422, "number_out_of_range"),
    body("4,000 digits", b'{"name":"c","max_instances":' + b"9" * 4000 + b"}", 422, "number_out_of_range"),
    body("5,000 digits", b'{"name":"c","max_instances":' + b"9" * 5000 + b"}", 422, "number_out_of_range"),
    body("a float of 100,000 digits", b'{"name":"c","max_instances":0.' + b"1" * 100_000 + b"}", 422, "number_out_of_range"),
    body("nesting of 65", b'{"name":' + b"[" * 65 + b"]" * 65 + b"}", 400, "too_deep"),
    body("nesting of 1,000", b"[" * 1000 + b"]" * 1000, 400, "too_deep"),
    body("nesting of 100,000", b'{"a":' * 100_000, 400, "too_deep"),
    body("UTF-16", '{"name":"c"}'.encode("utf-16"), 400, "not_utf8"),
    body("UTF-16 without a mark", '{"name":"c"}'.encode("utf-16-le"), 400, "not_utf8"),
    body("byte order mark", b'\xef\xbb\xbf{"name":"c"}', 400, "not_utf8"),
    body("invalid UTF-8", b'{"name":"\xff\xfe"}', 400, "not_utf8"),
    body("overlong UTF-8", b'{"name":"\xc0\xae"}', 400, "not_utf8"),
    body("a surrogate in UTF-8", b'{"name":"\xed\xa0\x80"}', 400, "not_utf8"),
    body("a lone surrogate", b'{"name":"c","description":"\\ud800"}', 400, "lone_surrogate"),
    body("a NUL", b'{"command":"a\\u0000b","experiment_name":"e","environment":{"packages":[]}}', 422, "nul_character", f"{W}/jobs"),
    body("a NUL in a tag", b'{"name":"c","tags":{"a":"\\u0000"}}', 422, "nul_character", f"{W}/online-endpoints"),
    body("a lone surrogate in a key", b'{"\\udc00":1}', 400, "lone_surrogate"),
    body("a raw NUL", b'{"name":"a\x00b"}', 400, "not_utf8"),
    body("1 MiB and more", b'{"name":"' + b"a" * (1 << 20) + b'"}', 413, "too_large"),
]
NAMES = [
    named(""), named(" "), named("\u200b"), named("\u202eevil"), named("../x"), named("a/b"), named("a\\b"), named("a..b"), named(".a"),
    named("a."), named("a\x00b"), named("a\nb"), named("a b"), named("a" * 256), named("x" * 10_000), named("{{7*7}} "), named("-x"),
    named("naïve"), named("local", "invalid"), named("serverless", "invalid"), named("<img src=x onerror=alert(1)>"),
    job("a display name of zero-width characters", display_name="\u200b\u200d"), job("an empty display name", display_name=""),
    job("a display name of 251 characters", display_name="x" * 251), job("a control character in a tag", tags={"a\x07": "b"}),
    job("a run name with a slash", name="a/b"), job("a run name of 256", name="a" * 256),
]
JOBS = [
    job("an unknown input", "invalid", command="echo ${{inputs.x}}"),
    job("an unknown output", "invalid", command="echo ${{ outputs.model }}", inputs={"model": 1}),
    job("an unknown expression", "invalid", command="echo ${{search_space.x}}"),
    job("an empty command", command=""),
    job("an unknown environment", "not_found", 404, environment={"name": "nope"}),
    job("an unknown version", "not_found", 404, environment={"name": "env", "version": "99"}),
    job("an unknown compute", "not_found", 404, compute="nope"),
    job("an unknown parent", "not_found", 404, parent="nope"),
    job("an unknown snapshot", "not_found", 404, snapshot=DIGEST),
    job("too many slots", "invalid", slots=9),
    job("a variable with a bad name", environment_variables={"A=B": "x"}),
    job("git without a commit", git={"dirty": True, "commit": "--upload-pack=id"}),
    requirement("-r /etc/passwd"), requirement("--index-url http://evil"), requirement("file:///x"), requirement("evil @ file:///x"),
    requirement("git+https://x/y"), requirement("../x"), requirement("/etc/x"), requirement("a\nb"), requirement("x==1 --hash=sha256:1"),
    requirement("https://x/y.whl"), requirement("x; import os"),
]
PATHS = [
    manifest("absolute", "/etc/passwd"), manifest("climbing", "../x"), manifest("climbing inside", "a/../../x"), manifest("a dot", "./a"),
    manifest("an empty part", "a//b"), manifest("trailing slash", "a/"), manifest("only dots", ".."), manifest("a backslash", "a\\b"),
    manifest("a NUL", "a\x00b"), manifest("a newline", "a\nb"), manifest("a C1 control", "a\u0085b"), manifest("a part of 256 bytes",
    "a" * 256),
    manifest("a part of 256 bytes in UTF-8", "é" * 128), manifest("over 4,096 bytes", "/".join(["é" * 120] * 18)),
    manifest("10,000 parts", "/".join(["a"] * 10_000)), manifest("empty", ""),
    manifest("twice", "a", "a"), manifest("a file that is a folder", "a", "a/b"), manifest("the reverse", "b/c/d", "b/c"),
    manifest("an address", "file:///etc/passwd"), manifest("a chain", "simplecache::file"), manifest("a home", "~/x"),
    post("manifest: a missing file", f"{W}/snapshots", {"files": [file("a")]}, code="missing_blobs"),
    post("manifest: a negative size", f"{W}/snapshots", {"files": [file("a", bytes=-1)]}),
    get("download: climbing", f"{W}/jobs/ENDED/outputs/file?path=../../etc/passwd", 422, "bad_path"),
    get("download: escaped", f"{W}/jobs/ENDED/outputs/file?path=%2e%2e%2f%2e%2e%2fetc%2fpasswd", 422, "bad_path"),
    get("download: escaped twice", f"{W}/jobs/ENDED/outputs/file?path=%252E%252E%252Fetc%252fpasswd", 404, "not_found"),
    get("download: full-width", f"{W}/jobs/ENDED/outputs/file?path=%EF%BC%8E%EF%BC%8E%2Fetc", 404, "not_found"),
    get("download: overlong", f"{W}/jobs/ENDED/outputs/file?path=%c0%ae%c0%ae/", 400, "bad_query"),
    get("download: NUL", f"{W}/jobs/ENDED/outputs/file?path=a%00b", 400, "bad_query"),
    get("download: no path", f"{W}/jobs/ENDED/outputs/file", 422, "bad_path"),
    get("download: not there", f"{W}/jobs/ENDED/outputs/file?path=.env", 404, "not_found"),
    get("log: climbing", f"{W}/jobs/ENDED/log?name=../../../../../etc/passwd", 422, "bad_path"),
    get("model file: absolute", f"{W}/models/digits/versions/1/files/content?path=/etc/passwd", 422, "bad_path"),
    Case("upload: climbing", "PUT", f"{W}/jobs/ENDED/outputs/file?path=../x", 422, "bad_path", content=b"x"),
    Case("upload: a file that is a folder", "PUT", f"{W}/jobs/ENDED/outputs/file?path=outputs/b.txt/c", 409, "path_taken", content=b"x"),
    Case("upload: a folder that is a file", "PUT", f"{W}/jobs/ENDED/outputs/file?path=outputs", 409, "path_taken", content=b"x"),
    Case("blob: another digest", "PUT", f"{W}/blobs/{DIGEST}", 422, "invalid", content=b"not that"),
    Case("blob: no digest", "PUT", f"{W}/blobs/{'A' * 64}", 400, "bad_digest", content=b"x"),
    get("snapshot: no digest", f"{W}/snapshots/zzz", 404, "not_found"),
    get("model version: zero", f"{W}/models/digits/versions/0", 404, "not_found"),
    get("model version: words", f"{W}/models/digits/versions/one", 404, "not_found"),
    get("model version: 2^63", f"{W}/models/digits/versions/{2**63}", 404, "not_found"),
]
QUERIES = [
    get("limit 0", f"{W}/jobs?limit=0", 422, "invalid"), get("limit -1", f"{W}/jobs?limit=-1", 422, "invalid"),
    get("limit 1e9", f"{W}/jobs?limit=1e9", 422, "invalid"), get("limit 1001", f"{W}/jobs?limit=1001", 422, "invalid"),
    get("limit of 4,000 digits", f"{W}/jobs?limit={'9' * 4000}", 422, "invalid"),
    get("a field twice", f"{W}/jobs?limit=1&limit=2", 400, "bad_query"), get("an unknown field", f"{W}/jobs?workspace=theirs", 422,
    "invalid"),
    get("invalid UTF-8 in the query", f"{W}/jobs?experiment=%ff", 400, "bad_query"), get("a surrogate", f"{W}/jobs?experiment=%ed%a0%80",
    400, "bad_query"),
    get("an unknown status", f"{W}/jobs?status=dead", 422, "invalid"), get("a flag that is none", f"{W}/jobs?archived=1", 422, "invalid"),
    get("a tag without a key", f"{W}/jobs?tag==b", 422, "invalid"), get("a made-up cursor", f"{W}/jobs?cursor=WzFd", 400, "bad_cursor"),
    get("a cursor that is no base64", f"{W}/jobs?cursor=!!", 400, "bad_cursor"),
    get("a time that is none", f"{W}/journal?since=yesterday", 422, "invalid"),
    get("a time before there was one", f"{W}/journal?since=0001-01-01T00:00:00%2B23:59", 422, "invalid"),
    get("a time after the last", f"{W}/journal?until=9999-12-31T23:59:59-23:59", 422, "invalid"),
    get("a time without a zone", f"{W}/journal?since=2026-01-01T00:00:00", 422, "invalid"),
    get("buckets 0", f"{W}/jobs/ENDED/metrics/curve?key=a&buckets=0", 422, "invalid"),
    get("no key", f"{W}/jobs/ENDED/metrics/curve", 422, "invalid"), get("an unknown metric", f"{W}/jobs/ENDED/metrics/curve?key=a", 404,
    "not_found"),
    get("a query of 20 KB", f"{W}/jobs?experiment={'x' * 20_000}", 400, "query_too_long"),
    get("offset -1", f"{W}/jobs/ENDED/log?offset=-1", 422, "invalid"),
    get("offset 2^63", f"{W}/jobs/ENDED/log?offset={2**63}", 422, "invalid"),
    get("events from the future", f"{W}/events?after=1000000", 400, "bad_last_event_id"),
    get("events from -1", f"{W}/events?after=-1", 422, "invalid"), get("events from 2^63", f"{W}/events?after={2**63}", 422, "invalid"),
    get("a user's token in the query", f"{W}/jobs?access_token=x", 422, "invalid"),
]
HEADERS = [
    write("empty Idempotency-Key", 400, "bad_idempotency_key", Idempotency_Key=""),
    write("10 KB of Idempotency-Key", 400, "bad_idempotency_key", Idempotency_Key="k" * 10_000),
    write("a space in Idempotency-Key", 400, "bad_idempotency_key", Idempotency_Key="a b"),
    Case("If-Match that is no version", "PATCH", f"{W}/computes/cpu", 400, "bad_if_match", json={}, headers={"If-Match": "abc"}),
    Case("If-Match of 2^63", "PATCH", f"{W}/computes/cpu", 400, "bad_if_match", json={}, headers={"If-Match": f'"{2**63}"'}),
    Case("If-Match of another version", "PATCH", f"{W}/computes/cpu", 409, "version_conflict", json={"max_instances": 5},
         headers={"If-Match": '"99"'}),
    write("another site", 403, "cross_site", Origin="http://evil.example"), write("Origin null", 403, "cross_site", Origin="null"),
    write("Origin of another scheme", 403, "cross_site", Origin="https://127.0.0.1"),
    write("Origin with our name in it", 403, "cross_site", Origin="http://127.0.0.1.evil.example"),
    write("Sec-Fetch-Site", 403, "cross_site", Sec_Fetch_Site="cross-site"),
    write("Sec-Fetch-Site of a neighbour", 403, "cross_site", Sec_Fetch_Site="same-site", User_Agent="curl/8"),
    Case("DELETE from another site", "DELETE", f"{W}/computes/cpu", 403, "cross_site", headers={"Origin": "http://evil"}),
    Case("PATCH from another site", "PATCH", f"{W}/computes/cpu", 403, "cross_site", headers={"Sec-Fetch-Site": "cross-site"}, json={}),
    body("gzip", b"\x1f\x8b", 415, "content_encoding", Content_Encoding="gzip"),
    body("zstd", b"x", 415, "content_encoding", Content_Encoding="zstd"),
    body("two codings", b"x", 415, "content_encoding", Content_Encoding="identity, br"),
    Case("a form", "POST", f"{W}/computes", 415, "media_type", content=b"name=c",
        headers={"Content-Type": "application/x-www-form-urlencoded"}),
    Case("multipart", "POST", f"{W}/computes", 415, "media_type", content=b"x",
        headers={"Content-Type": "multipart/form-data; boundary=x"}),
    Case("pickle", "POST", f"{W}/computes", 415, "media_type", content=b"x", headers={"Content-Type": "application/python-pickle"}),
    Case("no content type", "POST", f"{W}/computes", 415, "media_type", content=b"{}"),
    Case("charset utf-7", "POST", f"{W}/computes", 415, "media_type", content=b"{}",
        headers={"Content-Type": "application/json; charset=utf-7"}),
    Case("a foreign Host", "GET", f"{W}/jobs", 421, "wrong_host", headers={"Host": "evil.example"}),
    Case("a Host that resolves to us", "GET", f"{W}/jobs", 421, "wrong_host", headers={"Host": "127.0.0.1.nip.io"}),
    Case("a position of another log", "GET", f"{W}/jobs", 409, "other_log", headers={"Foldline-Position": "other:0:1"}),
    Case("a position that is none", "GET", f"{W}/jobs", 400, "bad_position", headers={"Foldline-Position": "x"}),
    Case("a position of 10 KB", "GET", f"{W}/jobs", 400, "bad_position", headers={"Foldline-Position": "x" * 10_000}),
    Case("a Last-Event-ID that is none", "GET", f"{W}/events", 400, "bad_last_event_id", headers={"Last-Event-ID": "-1"}),
    Case("a log's Last-Event-ID that is none", "GET", f"{W}/jobs/ENDED/log", 400, "bad_last_event_id",
         headers={"Last-Event-ID": "x", "Accept": "text/event-stream"}),
    Case("40 KB of headers", "GET", f"{W}/jobs", 431, "headers_too_large", headers={"X-Long": "x" * 40_000}),
]
AGENT = [
    Case("agent: no protocol", "POST", "/agent/hello", 426, "unsupported_protocol", json={}, who="node"),
    Case("agent: a protocol to come", "POST", "/agent/hello", 426, "unsupported_protocol", json={}, headers={"Foldline-Protocol": "2"},
        who="node"),
    agent("stale attempt", "runs/RUN/exited", 409, "stale_attempt", {"attempt": 7, "exit_code": 0}),
    agent("another node's run", "runs/THEIRS/exited", 404, "not_found", {"attempt": 1, "exit_code": 0}),
    agent("a run that ended", "runs/ENDED/exited", 409, "stale_attempt", {"attempt": 1, "exit_code": 0}),
    agent("an unknown outcome", "runs/RUN/ended", 422, "invalid_body", {"attempt": 1, "outcome": "fine", "reason": "succeeded",
        "message": ""}),
    agent("outputs that are not there", "runs/RUN/ended", 404, "not_found", {
        "attempt": 1, "outcome": "completed", "reason": "succeeded", "message": "", "outputs": DIGEST,
    }),
    agent("points of a stale attempt", "runs/RUN/points", 409, "stale_attempt", points(attempt=9)),
    agent("columns of different lengths", "runs/RUN/points", 422, "invalid_body", points(step=[])),
    agent("an index too high", "runs/RUN/points", 422, "invalid_body", points(key=[1])),
    agent("a negative index", "runs/RUN/points", 422, "invalid_body", points(key=[-1])),
    agent("sequence 0", "runs/RUN/points", 422, "invalid_body", points(sequence=0)),
    agent("a step of 2^63", "runs/RUN/points", 422, "invalid_body", points(step=[2**63])),
    agent("an unknown word for a value", "runs/RUN/points", 422, "invalid_body", points(value=["nan"])),
    agent("bare NaN in a metric", "runs/RUN/points", 400, "not_json", content=json.dumps(points(value=[float("nan")])).encode()),
    agent("1e999 in a metric", "runs/RUN/points", 422, "number_out_of_range", content=json.dumps(points()).replace("0.5",
        "1e999").encode()),
    agent("a metric of 251 characters", "runs/RUN/points", 422, "invalid_body", points(keys=["k" * 251])),
    agent("a control character in a metric", "runs/RUN/points", 422, "invalid_body", points(keys=["a\nb"])),
    agent("an unknown column", "runs/RUN/points", 422, "invalid_body", points(colour=[1])),
    agent("20,001 points", "runs/RUN/points", 422, "invalid_body", points(**dict.fromkeys(("key", "step", "time_ms", "value"),
        [0] * 20_001))),
    agent("a log without an offset", "runs/RUN/log?attempt=1&source=s&sequence=1&name=a", 422, "invalid", content=b"x"),
    agent("a log that climbs", "runs/RUN/log?attempt=1&source=s&sequence=1&offset=0&name=../../x", 422, "bad_path", content=b"x"),
    agent("a log over 1 MiB", "runs/RUN/log?attempt=1&source=s&sequence=1&offset=0&name=a", 413, "too_large",
        content=b"x" * ((1 << 20) + 1)),
    agent("waiting for ever", "work", 422, "invalid_body", {"attempts": [], "wait_seconds": 1e9}),
    agent("65 attempts", "work", 422, "invalid_body", {"attempts": [{"run": "r", "attempt": 1, "phase": "running"}] * 65,
        "wait_seconds": 0}),
    agent("a parameter of 251 characters", "runs/RUN/parameters?attempt=1", 422, "invalid_body", {"parameters": {"k" * 251: "v"}}),
]
CASES = [*TYPES, *SPELLING, *NAMES, *JOBS, *PATHS, *QUERIES, *HEADERS, *AGENT]


def test_there_are_at_least_sixty_cases_with_names_of_their_own() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name.encode("ascii", "backslashreplace").decode() for case in CASES])
def test_bad_input_is_refused_and_changes_nothing(server: LiveServer, world: World, case: Case) -> None:
    ours = world.ours
    path = case.path.replace("THEIRS", world.theirs.run).replace("ENDED", ours.ended).replace("RUN", ours.run)
    before = server.events()
    sent: dict[str, Any] = {"headers": case.headers}
    if case.content is not None:
        sent["content"] = case.content
    elif case.json is not None:
        sent["json"] = case.json
    with world.client(ours.node_token if case.who == "node" else ours.owner) as client:
        refused = client.request(case.method, path, **sent)
        assert refused.status_code == case.status, f"{refused.status_code} {refused.text[:500]}"
        told = problem(refused)
        assert told["code"] == case.code, told
        assert "/work" not in refused.text
        assert "Traceback" not in refused.text
        assert server.events() == before
        assert client.get("/me").status_code == 200
    if case.code not in ("wrong_host", "headers_too_large"):
        with world.client(None) as nobody:
            assert nobody.request(case.method, path, **sent).status_code == 401


def test_a_good_request_after_all_of_it_gets_its_normal_answer(world: World) -> None:
    with world.client(world.ours.owner) as client:
        assert client.get(f"{W}/jobs/{world.ours.ended}").json()["status"] == "completed"
        content = b"still works"
        assert client.put(f"{W}/blobs/{sha256(content)}", content=content).status_code == 201
