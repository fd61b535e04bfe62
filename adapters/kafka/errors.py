"""What stops the Kafka log. Each message is a sentence for the person who runs the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError

from core.errors import Unavailable

BROKERS_AWAY = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError, OSError, TimeoutError)
"""What passes by itself once the brokers are back."""


class KafkaSetupError(Exception):
    """The brokers, their topics or their rights are not as they must be; the server does not start, or stops."""


class TopicMismatch(KafkaSetupError):
    """A topic has another setting, count or identity than this installation needs."""


class NotReadable(KafkaSetupError):
    """READ on a topic is not granted: to aiokafka that looks like a quiet topic."""

    def __init__(self, topic: str, username: str | None) -> None:
        who = f"user {username!r}" if username else "this client"
        super().__init__(f"The topic {topic} has records that {who} cannot read: grant it READ on the topic (an ACL), then start again.")
        self.topic, self.username = topic, username


class CheckpointMoved(Exception):
    """Somebody else wrote the index of this shard: it is opened anew."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"the index of shard {shard} was written by another server")
        self.shard = shard


class RecordLost(Exception):
    """The index names an offset where the log has no record."""


@contextmanager
def unavailable() -> Iterator[None]:
    """Turns the failures of the brokers into Unavailable."""
    try:
        yield
    except (KafkaError, RecordLost, OSError, TimeoutError) as error:
        raise Unavailable("The log cannot be read at the moment; try again.") from error
