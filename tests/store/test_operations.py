"""docs/api-v2.md, *Writing*: what each operation answers, changes and refuses."""

from __future__ import annotations

import pytest

from kvstore.store.errors import (
    CompareFailed,
    DirectoryNotEmpty,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    RootReadOnly,
    StoreError,
)
from kvstore.store.events import Event
from kvstore.store.operations import (
    OPERATIONS,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Operation,
    Set,
    Update,
)
from kvstore.store.store import Store
from tests.store.steps import (
    NOW,
    create,
    cut,
    delete,
    directory,
    file,
    gone,
    make_dir,
    post,
    put,
    refresh,
    run,
    swap,
    tree,
    update,
)

ORDERED_4 = b"/q/00000000000000000004"

# Before each: /f is a file (index 1), /d/f a file in a directory (2), /e an empty directory (3).
BEFORE = (put(b"/f"), put(b"/d/f"), make_dir(b"/e"))

ANSWERS: list[tuple[str, Operation, Event]] = [
    (
        "set: a new file has no previous node",
        put(b"/n", b"x"),
        Event("set", file(b"/n", b"x", 4, 4), None, 4, False),
    ),
    (
        "set: a replaced file is a new node",
        put(b"/f", b"x"),
        Event("set", file(b"/f", b"x", 4, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "set: a new directory",
        make_dir(b"/n"),
        Event("set", directory(b"/n", 4, 4), None, 4, False),
    ),
    (
        "set: a new directory ignores the value",
        Set(b"/n", b"x", True, None, False),
        Event("set", directory(b"/n", 4, 4), None, 4, False),
    ),
    (
        "set: a directory replaces a file",
        make_dir(b"/f"),
        Event("set", directory(b"/f", 4, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "create: a new file",
        create(b"/n", b"x"),
        Event("create", file(b"/n", b"x", 4, 4), None, 4, False),
    ),
    (
        "create: a new directory",
        Create(b"/n/m", b"", True, None),
        Event("create", directory(b"/n/m", 4, 4), None, 4, False),
    ),
    (
        "create in order: the name is the new index",
        post(b"/q", b"x"),
        Event("create", file(ORDERED_4, b"x", 4, 4), None, 4, False),
    ),
    (
        "create in order: in the root",
        post(b"/", b"x"),
        Event("create", file(b"/00000000000000000004", b"x", 4, 4), None, 4, False),
    ),
    (
        "create in order: a directory",
        CreateInOrder(b"/q", b"x", True, None),
        Event("create", directory(ORDERED_4, 4, 4), None, 4, False),
    ),
    (
        "update: keeps createdIndex",
        update(b"/f", b"x"),
        Event("update", file(b"/f", b"x", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "update: no value blanks it",
        update(b"/f", b""),
        Event("update", file(b"/f", b"", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "update: of a directory answers with the new index",
        update(b"/d", b""),
        Event("update", directory(b"/d", 2, 4), directory(b"/d", 2, 2), 4, False),
    ),
    (
        "swap: by value keeps createdIndex",
        swap(b"/f", b"x", previous=b"v"),
        Event("compareAndSwap", file(b"/f", b"x", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "swap: by index",
        swap(b"/f", b"", index=1),
        Event("compareAndSwap", file(b"/f", b"", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "swap: by both",
        swap(b"/f", b"x", previous=b"v", index=1),
        Event("compareAndSwap", file(b"/f", b"x", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "swap: an empty value and index 0 are no conditions",
        swap(b"/f", b"x", previous=b"", index=0),
        Event("compareAndSwap", file(b"/f", b"x", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "delete: a file",
        delete(b"/f"),
        Event("delete", gone(b"/f", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "delete: dir and recursive do no harm to a file",
        delete(b"/f", is_dir=True, recursive=True),
        Event("delete", gone(b"/f", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "delete: an empty directory",
        delete(b"/e", is_dir=True),
        Event("delete", gone(b"/e", 3, 4, is_dir=True), directory(b"/e", 3, 3), 4, False),
    ),
    (
        "delete: recursive implies dir; the previous node is not listed",
        delete(b"/d", recursive=True),
        Event("delete", gone(b"/d", 2, 4, is_dir=True), directory(b"/d", 2, 2), 4, False),
    ),
    (
        "compare and delete: by value",
        cut(b"/f", previous=b"v"),
        Event("compareAndDelete", gone(b"/f", 1, 4), file(b"/f", b"v", 1, 1), 4, False),
    ),
    (
        "compare and delete: by index",
        cut(b"/d/f", index=2),
        Event("compareAndDelete", gone(b"/d/f", 2, 4), file(b"/d/f", b"v", 2, 2), 4, False),
    ),
]


@pytest.mark.parametrize(("operation", "event"), [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS])
def test_answer(operation: Operation, event: Event) -> None:
    store = Store()
    run(store, *BEFORE)
    assert run(store, operation) == event
    assert store.index == 4
    if event.node.value is not None:
        assert store.get(event.node.key, False, False, NOW) == event.node


REFUSALS: list[tuple[str, Operation, type[StoreError], dict[str, object]]] = [
    ("set: file onto a directory", put(b"/d"), NotAFile, {"key": b"/d"}),
    ("set: directory onto a directory", make_dir(b"/e"), NotAFile, {"key": b"/e"}),
    ("set: below a file", put(b"/d/f/x/y"), NotADirectory, {"key": b"/d/f"}),
    ("set: the root", put(b"/"), RootReadOnly, {}),
    ("set: the root as a directory", make_dir(b"/"), RootReadOnly, {}),
    ("refresh: the root", refresh(b"/"), RootReadOnly, {}),
    ("refresh: a missing key", refresh(b"/d/x/y"), KeyNotFound, {"key": b"/d/x"}),
    ("refresh: below a file", refresh(b"/f/x"), NotADirectory, {"key": b"/f"}),
    ("refresh: a directory", refresh(b"/d"), NotAFile, {"key": b"/d"}),
    ("create: a file that exists", create(b"/f"), KeyExists, {"key": b"/f"}),
    ("create: a directory that exists", create(b"/d"), KeyExists, {"key": b"/d"}),
    ("create: the root", create(b"/"), RootReadOnly, {}),
    ("create: below a file", create(b"/f/x/y"), NotADirectory, {"key": b"/f"}),
    ("create in order: on a file", post(b"/f"), NotADirectory, {"key": b"/f"}),
    ("create in order: below a file", post(b"/f/x"), NotADirectory, {"key": b"/f"}),
    ("update: missing", update(b"/x/y"), KeyNotFound, {"key": b"/x"}),
    ("update: below a file", update(b"/f/y"), NotADirectory, {"key": b"/f"}),
    ("update: the value of a directory", update(b"/d", b"x"), NotAFile, {"key": b"/d"}),
    ("update: the root", update(b"/", b""), RootReadOnly, {}),
    ("swap: missing", swap(b"/x", index=1), KeyNotFound, {"key": b"/x"}),
    ("swap: a directory", swap(b"/d", index=2), NotAFile, {"key": b"/d"}),
    ("swap: the root", swap(b"/", index=1), RootReadOnly, {}),
    (
        "swap: wrong value",
        swap(b"/f", previous=b"w"),
        CompareFailed,
        {"key": b"/f", "values": (b"w", b"v"), "indices": None},
    ),
    ("swap: wrong index", swap(b"/f", index=9), CompareFailed, {"values": None, "indices": (9, 1)}),
    (
        "swap: right value, wrong index",
        swap(b"/f", previous=b"v", index=9),
        CompareFailed,
        {"values": None, "indices": (9, 1)},
    ),
    (
        "swap: both wrong",
        swap(b"/f", previous=b"w", index=9),
        CompareFailed,
        {"values": (b"w", b"v"), "indices": (9, 1)},
    ),
    ("delete: missing", delete(b"/d/x/y"), KeyNotFound, {"key": b"/d/x"}),
    ("delete: below a file", delete(b"/f/y"), NotADirectory, {"key": b"/f"}),
    ("delete: a directory as a file", delete(b"/e"), NotAFile, {"key": b"/e"}),
    ("delete: a full directory", delete(b"/d", is_dir=True), DirectoryNotEmpty, {"key": b"/d"}),
    ("delete: a full directory as a file", delete(b"/d"), NotAFile, {"key": b"/d"}),
    ("delete: the root", delete(b"/", is_dir=True, recursive=True), RootReadOnly, {}),
    ("compare and delete: missing", cut(b"/x/y", index=1), KeyNotFound, {"key": b"/x"}),
    ("compare and delete: a directory", cut(b"/d", index=2), NotAFile, {"key": b"/d"}),
    ("compare and delete: the root", cut(b"/", index=1), NotAFile, {"key": b"/"}),
    (
        "compare and delete: both wrong",
        cut(b"/f", previous=b"w", index=9),
        CompareFailed,
        {"values": (b"w", b"v"), "indices": (9, 1)},
    ),
]


@pytest.mark.parametrize(("operation", "error", "fields"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_refusal(operation: Operation, error: type[StoreError], fields: dict[str, object]) -> None:
    store = Store()
    run(store, *BEFORE)
    before = list(store.freeze().chunks())
    with pytest.raises(error) as caught:
        run(store, operation)
    assert {name: getattr(caught.value, name) for name in fields} == fields
    assert caught.value.index == 3
    assert list(store.freeze().chunks()) == before, "a refused operation changes nothing"


def test_parents_carry_the_index_of_the_write_and_are_no_events() -> None:
    store = Store()
    run(store, put(b"/x"), put(b"/a/b/c"))
    assert tree(store) == directory(
        b"/",
        0,
        0,
        directory(b"/a", 2, 2, directory(b"/a/b", 2, 2, file(b"/a/b/c", b"v", 2, 2))),
        file(b"/x", b"v", 1, 1),
    )
    assert store.index == 2


def test_a_directory_that_was_updated_shows_its_old_index_to_readers() -> None:
    store = Store()
    run(store, make_dir(b"/d"), update(b"/d", b""))
    assert store.get(b"/d", False, False, NOW) == directory(b"/d", 1, 1, listed=True)
    assert store.index == 2


def test_a_name_that_is_taken_blocks_creation_in_order_for_good() -> None:
    store = Store()
    run(store, put(b"/q/00000000000000000002"))
    for _ in range(2):
        with pytest.raises(KeyExists) as caught:
            run(store, post(b"/q"))
        assert caught.value.key == b"/q/00000000000000000002"
    assert store.index == 1


def test_a_file_that_became_a_directory_takes_children() -> None:
    store = Store()
    run(store, put(b"/f"), make_dir(b"/f"), put(b"/f/x"))
    assert tree(store) == directory(b"/", 0, 0, directory(b"/f", 2, 2, file(b"/f/x", b"v", 3, 3)))


def test_refresh_with_dir_replaces_the_file_by_a_directory() -> None:
    store = Store()
    run(store, put(b"/f"))
    event = run(store, Set(b"/f", b"", True, None, True))
    assert event == Event("set", directory(b"/f", 2, 2), file(b"/f", b"v", 1, 1), 2, True)


def test_refresh_keeps_the_value() -> None:
    store = Store()
    run(store, put(b"/f", b"kept"))
    for operation, created in (
        (Set(b"/f", b"", False, None, True), 2),
        (Update(b"/f", b"", None, True), 2),
        (CompareAndSwap(b"/f", b"", b"kept", 0, None, True), 2),
    ):
        event = run(store, operation)
        assert event is not None
        assert event.is_refresh
        assert event.node == file(b"/f", b"kept", created, store.index)


@pytest.mark.parametrize("key", [b"/x", b"/d/x", b"/x/y/z", b"/d/f/x"])
def test_get_names_the_first_missing_component_or_the_file_in_the_way(key: bytes) -> None:
    store = Store()
    run(store, *BEFORE)
    expected = {
        b"/x": (KeyNotFound, b"/x"),
        b"/d/x": (KeyNotFound, b"/d/x"),
        b"/x/y/z": (KeyNotFound, b"/x"),
        b"/d/f/x": (NotADirectory, b"/d/f"),
    }[key]
    with pytest.raises((KeyNotFound, NotADirectory)) as caught:
        store.get(key, False, False, NOW)
    assert (type(caught.value), caught.value.key) == expected


def test_listing() -> None:
    store = Store()
    run(store, put(b"/b/z"), put(b"/b/a/x"), put(b"/b/\xff"), put(b"/a"), put(b"/_h/f"), put(b"/b/_h"))
    a = directory(b"/b/a", 2, 2, file(b"/b/a/x", b"v", 2, 2))
    others = (file(b"/b/z", b"v", 1, 1), file(b"/b/\xff", b"v", 3, 3))
    assert store.get(b"/b", True, True, NOW) == directory(b"/b", 1, 1, a, *others)
    assert store.get(b"/b", False, True, NOW) == directory(b"/b", 1, 1, directory(b"/b/a", 2, 2), *others)
    unsorted = store.get(b"/b", False, False, NOW)
    assert unsorted.nodes is not None
    assert {node.key for node in unsorted.nodes} == {b"/b/a", b"/b/z", b"/b/\xff"}
    root = store.get(b"/", False, True, NOW)
    assert root == directory(b"/", 0, 0, file(b"/a", b"v", 4, 4), directory(b"/b", 1, 1))


def test_hidden_nodes_answer_by_name_and_keep_their_directory_from_being_empty() -> None:
    store = Store()
    run(store, put(b"/d/_h/f"), put(b"/d/_h/_g"))
    assert store.get(b"/d", True, False, NOW) == directory(b"/d", 1, 1, listed=True)
    assert store.get(b"/d/_h", False, False, NOW) == directory(b"/d/_h", 1, 1, file(b"/d/_h/f", b"v", 1, 1))
    assert store.get(b"/d/_h/_g", False, False, NOW) == file(b"/d/_h/_g", b"v", 2, 2)
    with pytest.raises(DirectoryNotEmpty):
        run(store, delete(b"/d", is_dir=True))


def test_a_removed_directory_takes_all_with_it() -> None:
    store = Store()
    run(store, put(b"/d/a/b/c"), put(b"/d/_h"), put(b"/dd"), delete(b"/d", recursive=True))
    assert tree(store) == directory(b"/", 0, 0, file(b"/dd", b"v", 3, 3))
    run(store, put(b"/d/a"))
    assert store.get(b"/d", True, True, NOW) == directory(b"/d", 5, 5, file(b"/d/a", b"v", 5, 5))


def test_a_tree_deeper_than_the_interpreter_recurses() -> None:
    store = Store()
    key = b"/a" * 3_000
    run(store, put(key))
    node = tree(store)
    for _ in range(3_000):
        assert node.nodes is not None
        (node,) = node.nodes
    assert node == file(key, b"v", 1, 1)
    run(store, delete(b"/a", recursive=True))
    assert tree(store) == directory(b"/", 0, 0, listed=True)


def test_the_tags_of_operations_are_for_ever() -> None:
    names = [operation.__name__ for operation in OPERATIONS]
    assert names[:8] == [
        "Set",
        "Create",
        "CreateInOrder",
        "Update",
        "CompareAndSwap",
        "Delete",
        "CompareAndDelete",
        "Expire",
    ]
