"""The two base shapes, and the types of fields that occur everywhere."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_-])?$"


def _visible(text: str) -> str:
    """Text that a person can see: not empty, no control characters, no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("contains a lone surrogate; send valid Unicode") from None
    if any((ord(char) < 32 and char not in "\n\t") or ord(char) == 127 for char in text):
        raise ValueError("contains a control character")
    if not any(char.isprintable() and not char.isspace() and char not in "\u200b\u200c\u200d\u2060\ufeff" for char in text):
        raise ValueError("has nothing that can be seen")
    return text


def _no_dots(text: str) -> str:
    if ".." in text:
        raise ValueError("must not contain '..'")
    return text


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=255), AfterValidator(_no_dots)]
Text = Annotated[str, StringConstraints(max_length=250), AfterValidator(_visible)]
LongText = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_visible)]
TagValue = Annotated[str, StringConstraints(max_length=5_000)]
Tags = Annotated[dict[Text, TagValue], Field(max_length=100)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
VariableValue = Annotated[str, StringConstraints(max_length=32_768)]
EnvironmentVariables = Annotated[dict[VariableName, VariableValue], Field(max_length=500)]

Item = TypeVar("Item")


class Request(BaseModel):
    """What a caller sends: strict, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Answer(BaseModel):
    """What the server says: unknown fields are left alone."""

    model_config = ConfigDict(extra="ignore")


class Page(Answer, Generic[Item]):
    """One page of a list. `next` is the cursor of the next page, absent on the last."""

    items: list[Item]
    next: str | None = None


class Problem(Answer):
    """RFC 9457 problem+json. `code` is stable; `detail` is a sentence that says what to do."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    fields: dict[str, object] = {}
    request_id: str | None = None
