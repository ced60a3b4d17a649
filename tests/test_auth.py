"""Users and roles as state: patterns against a dumb model, refused changes, commands bound to a revision."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import auth as state
from kvstore import wire
from kvstore.apply import StateMachine
from kvstore.auth import GUEST, ROOT, Auth, AuthChanged, AuthError, DirectoryNotAllowed, Role, User, covers
from kvstore.membership import Membership
from kvstore.store.errors import KeyNotFound, StoreError
from kvstore.store.operations import Expire, Set, Update
from kvstore.store.store import Store
from kvstore.wire import (
    Checked,
    CreateRole,
    CreateUser,
    DeleteRole,
    DeleteUser,
    Guarded,
    Publish,
    PutUser,
    SwitchAuth,
    UpdateRole,
    UpdateUser,
)

NOW = 1_800_000_000 * 10**9
HASH = b"$2b$04$" + b"." * 53
KEYS = st.lists(st.sampled_from([b"a", b"ab", b"_h", b"*"]), max_size=3).map(lambda parts: b"/" + b"/".join(parts))
PATTERNS = st.one_of(KEYS, KEYS.map(lambda key: key + b"*"), KEYS.map(lambda key: key + b"/*"), st.just(b""))


def auth_with(*commands: state.AuthCommand) -> Auth:
    auth = Auth()
    for command in commands:
        auth.apply(command)
    return auth


def set_key(key: bytes = b"/a") -> Set:
    return Set(key, b"1", False, None, False)


class TestPatterns:
    @given(st.lists(PATTERNS, max_size=3).map(tuple), KEYS)
    def test_one_key_is_covered_as_a_regular_expression_would(self, patterns: tuple[bytes, ...], key: bytes) -> None:
        def expression(pattern: bytes) -> bytes:
            return re.escape(pattern[:-1]) + b".*" if pattern.endswith(b"*") else re.escape(pattern)

        expected = any(pattern and re.fullmatch(expression(pattern), key, re.DOTALL) for pattern in patterns)
        assert covers(patterns, key, subtree=False) == bool(expected)

    @given(st.lists(PATTERNS, max_size=3).map(tuple), KEYS, KEYS)
    def test_a_subtree_is_covered_only_with_everything_that_starts_so(
        self, patterns: tuple[bytes, ...], key: bytes, rest: bytes
    ) -> None:
        if covers(patterns, key, subtree=True):
            assert covers(patterns, key, subtree=False)
            assert covers(patterns, key + rest, subtree=True)

    @pytest.mark.parametrize(
        ("pattern", "key", "expected"),
        [
            (b"/foo", b"/foo", True),
            (b"/foo", b"/foobar", False),
            (b"/foo", b"/foo/bar", False),
            (b"/foo/*", b"/foo", False),
            (b"/foo/*", b"/foobar", False),
            (b"/foo/*", b"/foo/bar", True),
            (b"/foo*", b"/foobar", True),  # what etcd promises: a text, not a path
            (b"/*", b"/_hidden/a", True),
            (b"/*", b"", False),
            (b"*", b"", True),
            (b"", b"", False),
            (b"/f*o", b"/foo", False),
        ],
    )
    def test_examples(self, pattern: bytes, key: bytes, expected: bool) -> None:
        assert covers((pattern,), key, subtree=False) is expected

    def test_any_role_will_do_and_one_that_is_not_there_is_skipped(self) -> None:
        auth = auth_with(CreateRole(b"r", (b"/a",), None), CreateRole(b"w", None, (b"/b",)))
        user = User(b"u", HASH, (b"gone", b"r", b"w"))
        assert auth.allows(user, b"/a", write=False, subtree=False)
        assert auth.allows(user, b"/b", write=True, subtree=False)
        assert not auth.allows(user, b"/a", write=True, subtree=False)
        assert not auth.allows(user, b"/b", write=False, subtree=False)

    def test_guests_have_the_role_guest_and_nothing_else(self) -> None:
        auth = auth_with(CreateRole(b"r", (b"/*",), None))
        assert not auth.allows(None, b"/a", write=False, subtree=False)
        auth.apply(CreateRole(GUEST, (b"/a",), None))
        assert auth.allows(None, b"/a", write=False, subtree=False)
        assert not auth.allows(User(b"u", HASH, None), b"/a", write=False, subtree=False)

    def test_the_role_root_needs_no_pattern(self) -> None:
        assert Auth().allows(User(b"u", HASH, (ROOT,)), b"", write=True, subtree=True)


class TestChanges:
    """What the recordings under tests/conformance do not show already: order, and that a refusal changes nothing."""

    @pytest.mark.parametrize(
        ("command", "refusal"),
        [
            (CreateUser(b"alice", HASH, (b"r",)), state.UserExists),
            (PutUser(b"bob", None), state.PasswordMissing),
            (PutUser(b"root", None), state.UserUnchanged),
            (UpdateUser(b"bob", HASH, (b"r",), ()), state.UnknownUser),
            (UpdateUser(b"alice", HASH, (b"x", b"x"), ()), state.RoleHeld),
            (UpdateUser(b"alice", HASH, (b"x",), (b"y",)), state.RoleNotHeld),
            (DeleteUser(b"bob"), state.UnknownUser),
            (DeleteUser(b"root"), state.RootUserNeeded),
            (CreateRole(b"r", None, None), state.RoleExists),
            (CreateRole(b"root", None, None), state.RootRoleFixed),
            (UpdateRole(b"root", (b"/a",), (), (), ()), state.RootRoleFixed),
            (UpdateRole(b"x", (b"/a",), (), (), ()), state.UnknownRole),
            (UpdateRole(b"r", (b"/a",), (b"/w", b"/w"), (), ()), state.PatternHeld),
            (UpdateRole(b"r", (), (), (b"/nothing",), ()), state.RoleUnchanged),
            (DeleteRole(b"root"), state.RootRoleFixed),
            (DeleteRole(b"x"), state.UnknownRole),
            (SwitchAuth(True), state.AlreadySwitched),
        ],
        ids=str,
    )
    def test_a_refusal_changes_nothing(self, command: state.AuthCommand, refusal: type[AuthError]) -> None:
        auth = auth_with(
            CreateUser(b"root", HASH, None),
            CreateUser(b"alice", HASH, (b"r",)),
            CreateRole(b"r", (b"/r",), (b"/v",)),
            UpdateRole(b"r", (b"/s",), (), (), ()),
            SwitchAuth(True),
        )
        heard: list[int] = []
        auth.observe(lambda: heard.append(auth.revision))
        before = auth.freeze()
        with pytest.raises(refusal):
            auth.apply(command)
        assert auth.freeze() == before
        assert heard == []

    def test_without_root_nobody_could_switch_it_off(self) -> None:
        with pytest.raises(state.NoRootUser):
            Auth().apply(SwitchAuth(True))

    def test_root_keeps_its_role_whatever_is_revoked(self) -> None:
        auth = auth_with(CreateUser(ROOT, HASH, None), UpdateUser(ROOT, None, (b"r",), (ROOT,)))
        user = auth.user(ROOT)
        assert user is not None
        assert user.roles == (b"r", ROOT)
        assert auth.is_root(user)

    def test_a_guest_role_of_ones_own_is_kept_when_auth_is_switched_on(self) -> None:
        mine = CreateRole(GUEST, (b"/mine",), None)
        auth = auth_with(mine, CreateUser(ROOT, HASH, None), SwitchAuth(True))
        assert auth.role(GUEST) == Role(*mine)

    def test_every_change_is_told_and_counted(self) -> None:
        auth = auth_with(CreateRole(b"r", None, None))
        heard: list[int] = []
        stop = auth.observe(lambda: heard.append(auth.revision))
        auth.apply(DeleteRole(b"r"))
        stop()
        auth.apply(CreateRole(b"r", None, None))
        assert heard == [2]
        assert auth.revision == 3

    @pytest.mark.parametrize(
        "value",
        [User(b"u", HASH, None), CreateUser(b"u", HASH, ()), PutUser(b"u", HASH), UpdateUser(b"u", HASH, (), ())],
    )
    def test_nothing_shows_a_hash(self, value: object) -> None:
        guarded = Guarded(1, False, value) if not isinstance(value, User) else value  # type: ignore[arg-type]
        for text in (repr(value), str(value), f"{value}", repr(guarded)):
            assert "$2b" not in text


class TestStateMachine:
    """Whatever a member checked before: what counts is who may do what at the command's place in the log."""

    @pytest.fixture
    def machine(self) -> StateMachine:
        machine = StateMachine(Store(), Membership())
        machine.apply(CreateUser(ROOT, HASH, None), 0)
        return machine

    @pytest.mark.parametrize("command", [set_key(), CreateRole(b"r", None, None), SwitchAuth(False)], ids=repr)
    def test_what_was_allowed_before_auth_was_switched_on_has_to_ask_again(
        self, machine: StateMachine, command: Checked
    ) -> None:
        machine.apply(SwitchAuth(True), 0)
        before = (machine.store.index, machine.auth.freeze())
        with pytest.raises(AuthChanged):
            machine.apply(command, 0)
        assert (machine.store.index, machine.auth.freeze()) == before

    @pytest.mark.parametrize("command", [set_key(), CreateRole(b"r", None, None)], ids=repr)
    @pytest.mark.parametrize("age", [-1, 1])
    def test_what_was_allowed_by_other_users_and_roles_has_to_ask_again(
        self, machine: StateMachine, command: Checked, age: int
    ) -> None:
        machine.apply(SwitchAuth(True), 0)
        revision = machine.auth.revision
        with pytest.raises(AuthChanged):
            machine.apply(Guarded(revision + age, False, command), 0)
        machine.apply(Guarded(revision, False, command), 0)
        assert machine.store.index + machine.auth.revision == revision + 1

    def test_what_was_allowed_while_auth_was_on_has_to_ask_again_when_it_is_off(self, machine: StateMachine) -> None:
        with pytest.raises(AuthChanged):
            machine.apply(Guarded(machine.auth.revision, False, set_key()), 0)

    def test_members_speak_for_themselves(self, machine: StateMachine) -> None:
        machine.apply(Set(b"/old", b"", False, 1, False), NOW)
        machine.apply(SwitchAuth(True), 0)
        machine.apply(Expire(), NOW + 2 * 10**9)
        with pytest.raises(KeyNotFound):
            machine.store.get(b"/old", False, False, 0)
        with pytest.raises(Exception, match="no such member"):
            machine.apply(Publish(7, "n", ()), 0)

    def test_a_ttl_that_was_allowed_for_a_file_is_none_for_a_directory(self, machine: StateMachine) -> None:
        machine.apply(set_key(b"/d/x"), 0)
        machine.apply(set_key(b"/f"), 0)
        machine.apply(SwitchAuth(True), 0)
        revision = machine.auth.revision
        with pytest.raises(DirectoryNotAllowed):
            machine.apply(Guarded(revision, True, Update(b"/d", b"", 1, False)), 0)
        assert machine.store.next_deadline is None
        machine.apply(Guarded(revision, False, Update(b"/d", b"", 1, False)), 0)
        machine.apply(Guarded(revision, True, Update(b"/f", b"", 1, True)), 0)
        with pytest.raises(StoreError):
            machine.apply(Guarded(revision, True, Update(b"/none", b"", 1, True)), 0)

    def test_a_snapshot_holds_users_and_roles(self, machine: StateMachine) -> None:
        machine.apply(CreateRole(b"r", None, (b"/a", b"/b*")), 0)
        machine.apply(CreateUser(b"u", HASH, (b"r", b"gone")), 0)
        machine.apply(SwitchAuth(True), 0)
        chunks = list(machine.freeze().chunks())
        restored = StateMachine.restore(chunks, 10)
        assert restored.auth.freeze() == machine.auth.freeze()
        assert restored.auth.user(b"u") == User(b"u", HASH, (b"r", b"gone"))
        assert restored.auth.role(b"r") == Role(b"r", None, (b"/a", b"/b*"))
        assert list(restored.freeze().chunks()) == chunks

    def test_who_lost_a_grant_hears_nothing_of_what_a_leaders_snapshot_brings(self, machine: StateMachine) -> None:
        """Users and roles come first, so that a watch ends before the store makes up for what it missed."""
        later = StateMachine.restore(list(machine.freeze().chunks()), 10)
        later.apply(set_key(), 0)
        later.apply(SwitchAuth(True), 0)
        heard: list[str] = []
        machine.auth.observe(lambda: heard.append(f"auth {machine.auth.enabled}"))
        machine.store.watch(b"/a", False, True, 0, lambda event: heard.append("event"))
        machine.adopt(later)
        assert heard == ["auth True", "event"]

    def test_a_frozen_view_does_not_change(self, machine: StateMachine) -> None:
        frozen = machine.freeze()
        machine.apply(SwitchAuth(True), 0)
        assert not StateMachine.restore(frozen.chunks(), 10).auth.enabled


TEXTS = st.lists(st.binary(max_size=5), max_size=3).map(tuple)
LISTED = st.none() | TEXTS
COMMANDS: st.SearchStrategy[Checked] = st.one_of(
    st.builds(CreateUser, st.binary(), st.binary(), LISTED),
    st.builds(PutUser, st.binary(), st.none() | st.binary()),
    st.builds(UpdateUser, st.binary(), st.none() | st.binary(), TEXTS, TEXTS),
    st.builds(DeleteUser, st.binary()),
    st.builds(CreateRole, st.binary(), LISTED, LISTED),
    st.builds(UpdateRole, st.binary(), TEXTS, TEXTS, TEXTS, TEXTS),
    st.builds(DeleteRole, st.binary()),
    st.builds(SwitchAuth, st.booleans()),
    st.just(set_key()),
)


class TestWire:
    @given(COMMANDS, st.booleans())
    def test_a_command_comes_back(self, command: Checked, guarded: bool) -> None:
        sent = Guarded(7, True, command) if guarded else command
        (payload,) = wire.stamp(5, [wire.pack_command(3, sent)])
        logged = wire.unpack_command(payload)
        assert (logged.time, logged.request, logged.command) == (5, 3, sent)
        assert type(logged.command) is type(sent)
        if isinstance(logged.command, Guarded):
            assert type(logged.command.command) is type(command)

    @pytest.mark.parametrize(
        "fields",
        [
            (70, 1),
            (70, 1, 1, False, 71),
            (70, 1, -1, False, 78, (True,)),
            (70, 1, 1, 0, 78, (True,)),
            (70, 1, 1, False, 99, (True,)),
            (70, 1, 1, False, 70, (1, False, 78, (True,))),  # one guard is enough
            (70, 1, 1, False, 64, (1, "n", ())),  # no client asks for it
            (70, 1, 1, False, 78, (1,)),
            (72, 1, b"u", "text"),
        ],
        ids=repr,
    )
    def test_what_is_bent_is_refused(self, fields: tuple[object, ...]) -> None:
        (payload,) = wire.stamp(5, [wire.pack(fields)])
        with pytest.raises(wire.WireError):
            wire.unpack_command(payload)
