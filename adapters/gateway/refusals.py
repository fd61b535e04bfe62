"""What the gateway answers by itself: always problem+json, in the words of the API's other refusals."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_UNREACHABLE_FLAGS = ["UH", "UF", "UO", "UC", "UR", "URX", "LR", "NC", "UPE"]


def refusal(status: int, detail: str, *headers: tuple[str, str]) -> Json:
    """A rule's target that answers at once. Envoy's local replies wrap `detail` (see `local_replies`)."""
    answer: Json = {"direct_response": {"status": status, "body": {"inline_string": detail}}}
    if headers:
        answer["response_headers_to_add"] = [_added(name, value) for name, value in headers]
    return answer


def local_replies() -> Json:
    """How Envoy words what it says itself; the first mapper that fits counts. What a worker answers is left as it is."""
    unreachable = {"response_flag_filter": {"flags": _UNREACHABLE_FLAGS}}
    return {
        "mappers": [
            _mapper(_status(403), "unauthenticated", "Unauthorized",
                    "No valid key; send `Authorization: Bearer KEY` with one of the endpoint's keys.",
                    status=401, header=("www-authenticate", "Bearer")),
            _mapper(_status(413), "too_large", "Content Too Large", "The request's body is over the gateway's limit."),
            _mapper(_status(504), "scoring_timeout", "Gateway Timeout", "The deployment did not answer in time."),
            _mapper({"and_filter": {"filters": [_status(503), unreachable]}}, "unavailable", "Service Unavailable",
                    "The deployment's replica broke off or cannot be reached; try again.", header=("retry-after", "1")),
            _mapper(_status(503), "unavailable", "Service Unavailable", "%LOCAL_REPLY_BODY%", header=("retry-after", "1")),
            _mapper(_status(404), "not_found", "Not Found", "%LOCAL_REPLY_BODY%"),
            _mapper(_status(405), "method_not_allowed", "Method Not Allowed", "%LOCAL_REPLY_BODY%"),
            _mapper(_status(408), "request_timeout", "Request Timeout", "The request did not come in whole in time."),
            _mapper(_status(431), "headers_too_large", "Request Header Fields Too Large",
                    "The request's headers are over the gateway's limit."),
        ],
        "body_format": _body("bad_request", "Refused", "The gateway cannot take this request."),
    }


def _mapper(
    accepts: Json, code: str, title: str, detail: str, *, status: int | None = None, header: tuple[str, str] | None = None,
) -> Json:
    mapper: Json = {"filter": accepts, "body_format_override": _body(code, title, detail)}
    if status is not None:
        mapper["status_code"] = status
    if header is not None:
        mapper["headers_to_add"] = [_added(*header)]
    return mapper


def _body(code: str, title: str, detail: str) -> Json:
    return {
        "json_format": {
            "type": "about:blank", "title": title, "status": "%RESPONSE_CODE%", "code": code, "detail": detail,
            "request_id": "%REQ(X-REQUEST-ID)%", "cause": "%RESPONSE_FLAGS%",
        },
        "content_type": "application/problem+json",
    }


def _status(code: int) -> Json:
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": code, "runtime_key": f"foldline.status_{code}"}}}}


def _added(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
