"""Records that no writer of ours would write, put straight into a store: what a newer server, or damage, leaves behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from adapters.following import Entry
from adapters.memory.log import MemoryStore
from core.envelope import Head, Sealed, link, unseal
from core.ids import Position, WorkspaceId


def following(records: Iterable[tuple[int, Mapping[str, str], bytes]], workspace: WorkspaceId, name: str, value: bytes) -> Sealed:
    """The next record of the workspace, in the stream of its last one: a whole envelope around an event `name` with this value."""
    last = [attributes for _, attributes, _ in records if attributes["partitionkey"] == workspace][-1]
    sequence = int(last["sequence"]) + 1
    attributes = {
        **last, "id": f"{workspace}/{sequence}", "type": f"foldline.{name}", "sequence": str(sequence),
        "streamversion": str(int(last["streamversion"]) + 1), "commandid": f"{sequence:064x}", "requesthash": "0" * 64,
    }
    return Sealed({**attributes, "chain": link(last["chain"], sequence, attributes, value)}, value)


def plant_in_memory(store: MemoryStore, number: int, sealed: Sealed) -> None:
    """Appends the record to a shard of the memory twin's store."""
    shard = store.shards[number]
    recorded = unseal(sealed.attributes, sealed.value, Position(store.log_id, number, shard.tail.end))
    key = recorded.workspace, recorded.stream
    shard.records.append(sealed)
    shard.tail.extend([Entry(shard.tail.end, shard.tail.end, recorded, 0)])
    shard.streams.setdefault(key, []).append(recorded)
    shard.versions[key] = recorded.version
    shard.heads[recorded.workspace] = Head(recorded.sequence, recorded.chain, sealed.attributes["time"])
    store.bell.ring()
