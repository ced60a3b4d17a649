"""`/v2/keys`: what a KeyRequest does to the store, and the answer it gets.

`operation_of`, `answer_of`, `read` and `watch` are plain functions, so that any connection may use them with
callbacks; `serve_keys` puts them together for one that awaits.
"""

from __future__ import annotations

from kvstore.http.backend import Backend, Unavailable
from kvstore.http.errors import INVALID_FORM, ApiError, api_error
from kvstore.http.reply import Answer
from kvstore.http.request import BodyError, Request
from kvstore.http.v2.answers import answer_error, answer_event, answer_view, success_head
from kvstore.http.v2.parameters import KeyRequest, parse_key_request, wants_body
from kvstore.http.v2.watches import Watch
from kvstore.store.errors import StoreError
from kvstore.store.events import Event
from kvstore.store.operations import (
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Operation,
    Set,
    Update,
)


def operation_of(request: KeyRequest) -> Operation:
    """The write that a PUT, POST or DELETE stands for (API.md section 3)."""
    if request.method == "PUT":
        return _put(request)
    if request.method == "POST":
        return CreateInOrder(request.key, request.value, request.is_dir, request.ttl)
    assert request.method == "DELETE"
    if request.previous_value or request.previous_index:
        return CompareAndDelete(request.key, request.previous_value or None, request.previous_index)
    return Delete(request.key, request.is_dir, request.recursive)


def _put(request: KeyRequest) -> Operation:
    key, value, ttl, refresh = request.key, request.value, request.ttl, request.refresh
    if request.previous_exists is False:  # beats the conditions
        return Create(key, value, request.is_dir, ttl)
    if request.previous_value or request.previous_index:
        return CompareAndSwap(key, value, request.previous_value or None, request.previous_index, ttl, refresh)
    if request.previous_exists:
        return Update(key, value, ttl, refresh)
    return Set(key, value, request.is_dir, ttl, refresh)


def head_now(backend: Backend, index: int) -> bytes:
    """Header lines of a success at `index` of the store."""
    return success_head(backend.cluster_id, index, backend.raft_index, backend.raft_term)


def answer_of(event: Event, request: KeyRequest, backend: Backend) -> Answer:
    """The answer to a write that took place."""
    return answer_event(event, head_now(backend, event.index), request.no_value_on_success)


def answer_failure(error: ApiError | StoreError | Unavailable, backend: Backend) -> Answer:
    if not isinstance(error, ApiError):
        error = api_error(error)
    return answer_error(error, backend.cluster_id)


def read(request: KeyRequest, backend: Backend) -> Answer:
    """GET or HEAD from this member's own state. Raises StoreError."""
    store = backend.store
    view = store.get(request.key, request.recursive, request.sorted, backend.now())
    return answer_view(view, head_now(backend, store.index))


def watch(request: KeyRequest, backend: Backend, backlog: int) -> Watch:
    """Begin a watch on this member's own state. Raises StoreError (HistoryCleared)."""
    store = backend.store
    started = Watch(head_now(backend, store.index), request.stream, backlog)
    started.register(store, request.key, request.recursive, request.wait_index)
    return started


async def serve_keys(request: Request, backend: Backend, max_body: int, backlog: int) -> Answer | Watch:
    """One request to the key space, from parsing to the answer or the watch that answers it."""
    try:
        body = b""
        if wants_body(request.method, request.content_type):
            body = await request.body(max_body)
        asked = parse_key_request(request.method, request.path, request.query, body)
        if asked.method in ("GET", "HEAD"):
            if asked.quorum and asked.method == "GET":
                await backend.read_barrier()  # with wait=true too: etcd then reads and does not wait
            elif asked.wait:
                return watch(asked, backend, backlog)
            return read(asked, backend)
        return answer_of(await backend.execute(operation_of(asked)), asked, backend)
    except (ApiError, StoreError, Unavailable) as error:
        return answer_failure(error, backend)
    except BodyError as error:
        return answer_failure(ApiError(INVALID_FORM, error.cause), backend)
