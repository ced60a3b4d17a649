"""`/v2/keys`: what a KeyRequest does to the store, and the answer it gets.

`operation_of`, `answer_of`, `read` and `watch` are plain functions, so that any connection may use them with
callbacks; `serve_keys` puts them together for one that awaits.
"""

from __future__ import annotations

from functools import partial

from kvstore.auth import AuthChanged
from kvstore.http.backend import Backend, TooManyRequests, Unavailable
from kvstore.http.errors import INVALID_FORM, UNAUTHORIZED, ApiError, api_error
from kvstore.http.guard import TRY_LATER, Denied, Guard, Permit, Scope
from kvstore.http.load import Load
from kvstore.http.reply import Answer
from kvstore.http.request import BodyError, Request
from kvstore.http.v2.answers import answer_error, answer_event, answer_view, shows_no_value, success_head
from kvstore.http.v2.large import (
    LARGE_BYTES,
    answer_large_event,
    answer_large_failure,
    answer_large_view,
    is_large,
    is_large_event,
    may_be_large,
)
from kvstore.http.v2.listings import Listings
from kvstore.http.v2.long_listings import SHORT_BYTES, SHORT_NODES, LongListing
from kvstore.http.v2.parameters import WITH_BODY, KeyRequest, key_of, parse_key_request, wants_body
from kvstore.http.v2.streamed import Answered
from kvstore.http.v2.watches import Watch
from kvstore.passwords import TooManyChecks
from kvstore.store.errors import CompareFailed, StoreError
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

_new = tuple.__new__  # a NamedTuple made this way costs half


def operation_of(request: KeyRequest) -> Operation:
    """The write that a PUT, POST or DELETE stands for (docs/api-v2.md, *Writing*)."""
    # At once, for each look at a field by its name costs as much as the whole of this line.
    method, key, value, previous_value, previous_index, previous_exists, ttl, refresh, is_dir, recursive, *_ = request
    has_condition = previous_value or previous_index
    if method == "PUT":
        if previous_exists is False:  # beats the conditions
            return Create(key, value, is_dir, ttl)
        if has_condition:
            return CompareAndSwap(key, value, previous_value or None, previous_index, ttl, refresh)
        if previous_exists:
            return Update(key, value, ttl, refresh)
        return _new(Set, (key, value, is_dir, ttl, refresh))
    if method == "POST":
        return CreateInOrder(key, value, is_dir, ttl)
    assert method == "DELETE"
    if has_condition:
        return CompareAndDelete(key, previous_value or None, previous_index)
    return Delete(key, is_dir, recursive)


def head_now(backend: Backend, index: int) -> bytes:
    """Header lines of a success at `index` of the store."""
    return success_head(backend.cluster_id, index, backend.raft_index, backend.raft_term)


def refuse_without_room(request: KeyRequest, backend: Backend, load: Load) -> None:
    """Raises TooManyRequests for a write that may have a large answer, while clients leave too much unread: once it
    has taken place, it has to be answered."""
    if not load.may_answer and may_be_large(request, backend):
        raise TooManyRequests


def answer_of(event: Event, request: KeyRequest, backend: Backend, load: Load) -> Answered:
    """The answer to a write that took place."""
    head = head_now(backend, event.index)
    if is_large_event(event) and not shows_no_value(event, request.no_value_on_success):
        return answer_large_event(event, head, backend, load)
    return answer_event(event, head, request.no_value_on_success)


def answer_failure(error: ApiError | StoreError | Unavailable, backend: Backend) -> Answer:
    if not isinstance(error, ApiError):
        error = api_error(error)
    return answer_error(error, backend.cluster_id)


def answer_refusal(error: ApiError | StoreError | Unavailable, backend: Backend, load: Load) -> Answered:
    """As `answer_failure`; a failed comparison names both values."""
    if isinstance(error, CompareFailed) and error.values is not None and any(map(is_large, error.values)):
        return answer_large_failure(error, error.values, backend, load)
    return answer_failure(error, backend)


def read(
    request: KeyRequest, backend: Backend, load: Load, permit: Permit | None = None, listings: Listings | None = None
) -> Answered:
    """GET or HEAD from this member's own state; `listings` may keep the body of a long listing.

    Raises StoreError, TooManyRequests where clients leave too much of their answers unread, and Denied for a file in a
    directory's place.
    """
    if not load.may_answer:
        raise TooManyRequests
    store = backend.store
    view = store.get_within(request.key, request.recursive, request.sorted, backend.now(), SHORT_NODES, SHORT_BYTES)
    if view is None:
        if request.method == "HEAD":
            return Answer(200, head_now(backend, store.shown_index), b"")
        otherwise = partial(_instead_of_listing, request, backend, load, permit)
        return LongListing(request, backend, load.long_answers, partial(head_now, backend), otherwise, listings)
    if permit is not None and not permit.scope == Scope.ALL and not view.is_dir:
        raise Denied
    head = head_now(backend, store.shown_index)
    if not is_large(view.value):
        return answer_view(view, head)
    if request.method == "HEAD":
        return Answer(200, head, b"")
    return answer_large_view(view, head, backend, load)


def _instead_of_listing(
    request: KeyRequest, backend: Backend, load: Load, permit: Permit | None, is_late: bool
) -> Answered | None:
    """The answer to a request for a long listing, if something else than that has become right while it waited."""
    if is_late:
        return answer_failure(TooManyRequests("too many long listings"), backend)
    if permit is not None and not permit.holds(backend.auth):
        return _denied(backend)
    if backend.store.is_directory(request.key):
        return None
    try:
        return read(request, backend, load, permit)
    except (StoreError, TooManyRequests) as error:
        return answer_failure(error, backend)
    except Denied:
        return _denied(backend)


def _denied(backend: Backend) -> Answer:
    return answer_failure(ApiError(UNAUTHORIZED, b"Insufficient credentials"), backend)


def list_or_read(request: KeyRequest, backend: Backend, load: Load, listings: Listings) -> Answered:
    """`read` by whoever may read everything; a directory's body may come out of `listings`. Raises as `read` does."""
    store = backend.store
    if not store.is_directory(request.key):
        return read(request, backend, load)
    body = listings.get(request, store.index)
    if body is None or not load.may_answer:
        answer = read(request, backend, load, listings=listings)
        if isinstance(answer, Answer):
            listings.keep(request, store.index, answer.body)
        return answer
    store.counts.got(request.recursive)
    return Answer(200, head_now(backend, store.shown_index), body)


def watch(request: KeyRequest, backend: Backend, load: Load, permit: Permit) -> Watch:
    """Begin a watch on this member's own state. Raises StoreError (HistoryCleared), and TooManyRequests."""
    store = backend.store
    limits = load.limits
    if store.watcher_count >= limits.watchers:
        raise TooManyRequests("too many watchers")
    started = Watch(
        head_now(backend, store.shown_index), request.stream, limits.watch_backlog, permit, backend.auth.enabled
    )
    started.register(store, request.key, request.recursive, request.wait_index)
    return started


async def serve_keys(request: Request, backend: Backend, guard: Guard, load: Load) -> Answered | Watch:
    """One request to the key space, from parsing to the answer or the watch that answers it."""
    try:
        asked = await _parse(request, backend, guard, load)
        if asked.method in ("GET", "HEAD"):
            return await _look(request, asked, backend, guard, load)
        refuse_without_room(asked, backend, load)
        return answer_of(await _write(request, asked, backend, guard), asked, backend, load)
    except (ApiError, StoreError, Unavailable) as error:
        return answer_refusal(error, backend, load)
    except Denied:
        return _denied(backend)
    except TooManyChecks:
        return TRY_LATER
    except BodyError as error:
        return answer_failure(ApiError(INVALID_FORM, error.cause), backend)


async def _parse(request: Request, backend: Backend, guard: Guard, load: Load) -> KeyRequest:
    """What a request asks. Raises as `parse_key_request` and `Guard.permit` do.

    A long body is neither waited for nor parsed where the path alone is refused: parameters can only ask for more. With
    a short one, mistakes in it are reported first, as in etcd.
    """
    method, path, limits = request.method, request.path, load.limits
    key = key_of(method, path, limits)
    if method in WITH_BODY and backend.auth.enabled and not request.has_short_body:
        await guard.permit(request, KeyRequest(method, key))
    if not wants_body(method, request.content_type):
        return parse_key_request(method, path, request.query, b"", limits)
    body = await request.body(limits.request_bytes)
    if len(body) <= LARGE_BYTES:  # a longer one is parsed beside the event loop
        return parse_key_request(method, path, request.query, body, limits)
    job = partial(parse_key_request, method, path, request.query, body, limits)
    asked = await load.form_threads.run(body, job)
    request.release_body()
    return asked


async def _write(request: Request, asked: KeyRequest, backend: Backend, guard: Guard) -> Event:
    operation = operation_of(asked)
    if not backend.auth.enabled:
        try:
            event: Event = await backend.execute(operation)
            return event
        except AuthChanged:  # it was switched on before this came to its place in the log
            pass
    return await guard.execute(request, asked, operation)


async def _look(request: Request, asked: KeyRequest, backend: Backend, guard: Guard, load: Load) -> Answered | Watch:
    """GET and HEAD. Nothing is awaited between a permission and what it permits."""
    auth = backend.auth
    if asked.quorum and asked.method == "GET":
        if auth.enabled:  # who may not read need not wait
            await guard.permit(request, asked)
        await backend.read_barrier()  # with wait=true too: etcd then reads and does not wait
    elif asked.wait:
        return watch(asked, backend, load, await guard.permit(request, asked))
    return read(asked, backend, load, await guard.permit(request, asked))
