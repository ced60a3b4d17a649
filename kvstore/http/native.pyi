from kvstore.http.heads import Head
from kvstore.http.v2.parameters import KeyRequest
from kvstore.store.events import Event, NodeView

def take(
    rest: bytes,
    at: int,
    heads: dict[bytes, Head],
    queries: dict[bytes, tuple[bytes, tuple[object, ...]]],
    max_head: int,
    max_body: int,
    max_key: int,
    max_components: int,
) -> tuple[int, KeyRequest] | None: ...
def compose_event(
    event: Event, head: bytes, created_head: bytes, raft_index: int, raft_term: int, date: bytes
) -> bytes | None: ...
def compose_view(
    view: NodeView, head: bytes, index: int, raft_index: int, raft_term: int, date: bytes
) -> bytes | None: ...

class Sends:
    def __init__(self, piece: bytes, files: list[int]) -> None: ...
    def run(self) -> None: ...
    def unsent(self) -> list[tuple[int, int]]: ...
