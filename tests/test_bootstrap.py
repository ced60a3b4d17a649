"""Which folders a member starts from, and which it refuses: flags against what the folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from kvstore.bootstrap import Opened, StartError, open_member
from kvstore.raft.types import Change, ChangeKind, Entry, EntryKind, HardState, SnapshotMeta
from kvstore.settings import Settings, Url, parse_initial_cluster, parse_urls
from kvstore.storage.folder import DataFolder, default_wal_folder
from kvstore.storage.founding import founding_file
from kvstore.storage.replay import segment_names
from kvstore.storage.scan import scan
from kvstore.store.operations import Set
from kvstore.wire import MembershipChange, UpdateMember, pack_change, pack_command, stamp
from tests.sim.disk import SimFiles
from tests.storage.logs import SMALL

HOME = "/home"
FIRST = "n1=http://a:1,n2=http://b:1,n3=http://c:1"
MOVED = "n1=https://a:2,n2=https://b:2,n3=https://c:2"
OTHER = "n1=http://x:1,n2=http://y:1"
CONFIGURATION = int(EntryKind.CONFIGURATION)


def flags(
    cluster: str = "", token: str = "etcd-cluster", name: str = "n1", urls: str = "", state: str = "new"
) -> Settings:
    """What `--initial-...` flags give; without `cluster`, none of them is given but for the token."""
    members = parse_initial_cluster(cluster) if cluster else ()
    own = next((member.peer_urls for member in members if member.name == name), (Url("http", "localhost", 2380),))
    if urls:
        own = parse_urls("initial-advertise-peer-urls", urls)
    return Settings(
        name=name,
        initial_cluster=members,
        initial_cluster_token=token,
        initial_advertise_peer_urls=own,
        initial_cluster_state=state,
    )


def start(files: SimFiles, settings: Settings) -> Opened:
    """Open the folder; the process that had it open is gone."""
    files.stop()
    return open_member(settings, files, DataFolder.open(files, HOME), segment_bytes=SMALL)


def founded(cluster: str = FIRST, token: str = "prod-1") -> SimFiles:
    files = SimFiles(Random(1))
    start(files, flags(cluster, token))
    return files


def move_all(files: SimFiles, settings: Settings, with_snapshot: bool) -> None:
    """All members get the URLs of MOVED, and perhaps a snapshot has them."""
    opened = start(files, settings)
    members = {member.name: member for member in opened.machine.membership.members.values()}
    entries = [Entry(2, 2, 0, b"")]
    for index, member in enumerate(parse_initial_cluster(MOVED), 3):
        command = UpdateMember(members[member.name].id, tuple(map(str, member.peer_urls)))
        (payload,) = stamp(10, [pack_command(index, command)])
        entries.append(Entry(index, 2, 0, payload))
        opened.machine.apply(command, 10)
    opened.wal.append(HardState(2, 0, 5), entries)
    if with_snapshot:
        meta = SnapshotMeta(5, 2, opened.configuration)
        opened.snapshots.save(meta, opened.machine.freeze().chunks())
        opened.wal.mark_snapshot(meta)


@pytest.mark.parametrize("with_snapshot", [False, True])
@pytest.mark.parametrize(
    "today",
    [
        flags(FIRST, "prod-1"),
        flags(MOVED, "prod-1"),
        flags(MOVED),
        flags(),
        flags("n1=https://a:2,n2=https://b:2", "prod-1"),
        flags(MOVED, "prod-1", urls="http://elsewhere:1"),
        flags("n2=https://b:2", "prod-1", urls="https://a:2"),
        flags(MOVED, "prod-1", state="existing"),
    ],
)
def test_a_folder_starts_whatever_the_initial_flags_say_of_its_cluster_today(
    today: Settings, with_snapshot: bool
) -> None:
    files = founded()
    move_all(files, flags(FIRST, "prod-1"), with_snapshot)
    first = start(files, today).identity
    assert start(files, today).identity == first


def test_a_folder_of_another_cluster_is_refused_by_what_it_was_founded_with() -> None:
    files = founded(FIRST, "prod-1")
    for token in ("prod-2", "prod-3"):
        with pytest.raises(StartError, match=rf"which was founded with another .* than '{token}'"):
            start(files, flags(OTHER, token))
        with pytest.raises(StartError, match="which was founded with another"):
            start(files, flags(FIRST, token))  # the same hosts, another cluster
    start(files, flags(OTHER, "prod-1"))  # moved as a whole, perhaps
    start(files, flags(OTHER))  # without a token


def test_a_joiner_keeps_what_it_joined_with() -> None:
    files = SimFiles(Random(1))
    other = start(founded("n2=http://b:1,n1=http://a:1"), flags("n2=http://b:1,n1=http://a:1"))
    cluster, members = other.identity.cluster_id, list(other.machine.membership.members.values())
    settings = flags("n2=http://b:1,n1=http://a:1", "prod-1", state="existing")
    folder = DataFolder.open(files, HOME)
    open_member(settings, files, folder, ask=lambda url: (cluster, members), segment_bytes=SMALL)
    start(files, settings)
    start(files, replace(settings, initial_cluster_state="new"))
    with pytest.raises(StartError, match="founded with another"):
        start(files, flags(OTHER, "prod-2"))


def test_a_joiner_that_was_not_told_the_token_may_be_told_later() -> None:
    files = SimFiles(Random(1))
    other = start(founded("n2=http://b:1,n1=http://a:1"), flags("n2=http://b:1,n1=http://a:1"))
    cluster, members = other.identity.cluster_id, list(other.machine.membership.members.values())
    settings = flags("n2=http://b:1,n1=http://a:1", state="existing")
    folder = DataFolder.open(files, HOME)
    open_member(settings, files, folder, ask=lambda url: (cluster, members), segment_bytes=SMALL)
    start(files, replace(settings, initial_cluster_token="prod-1"))


def test_a_folder_of_a_release_without_a_founding_is_not_refused_by_guess() -> None:
    files = founded()
    files.remove(founding_file(HOME))
    start(files, flags(OTHER, "prod-2"))


def test_a_founding_that_rotted_stops_no_member() -> None:
    files = founded()
    files.content(founding_file(HOME))[30] ^= 1
    start(files, flags(OTHER, "prod-2"))


def test_another_members_folder_is_refused_by_its_name() -> None:
    with pytest.raises(StartError, match=r"belongs to member 'n1' .*not to 'n2'"):
        start(founded(), flags(FIRST, "prod-1", name="n2"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (flags("n2=http://b:1", urls="http://a:1"), "has no member named 'n1'"),
        (flags(FIRST, urls="http://z:1"), "must include n1=http://z:1"),
        (flags(",".join(f"n{number}=http://a:{number}" for number in range(1, 9))), "names 8 members"),
    ],
)
def test_the_initial_cluster_must_fit_at_the_first_start_alone(settings: Settings, message: str) -> None:
    files = SimFiles(Random(1))
    with pytest.raises(StartError, match=message):
        start(files, settings)
    assert files.list(f"{HOME}/member/wal") == []
    start(founded(token=settings.initial_cluster_token), settings)


# --- a lost tail ---------------------------------------------------------------------------------------------------


def lost_tail(cluster: str, changes: Sequence[Entry]) -> SimFiles:
    """A folder of n1 with `changes` after its first snapshot, whose last acknowledged batch the disk lost."""
    files = founded(cluster)
    opened = start(files, flags(cluster, "prod-1"))
    term, index = 2, 2
    opened.wal.append(HardState(term, 0, 1), [Entry(2, term, 0, b"")])
    for change in changes:
        index += 1
        opened.wal.append(HardState(term, 0, index), [Entry(index, term, CONFIGURATION, change.payload)])
    for _ in range(2):
        index += 1
        (payload,) = stamp(10, [pack_command(index, Set(b"/a", b"v" * 900, False, None, False))])
        opened.wal.append(HardState(term, 0, index - 1), [Entry(index, term, 0, payload)])
    opened.wal.settle()
    opened.wal.close()
    folder = default_wal_folder(HOME)
    name = segment_names(files, folder)[-1]
    lost = scan(files, folder, name).records[-2]
    content = files.content(f"{folder}/{name}")
    content[lost.offset :] = bytes(len(content) - lost.offset)
    return files


def change(kind: ChangeKind, member: int, *urls: str) -> Entry:
    made = MembershipChange(5, (Change(kind, member),), member, "", urls)
    return Entry(0, 0, CONFIGURATION, pack_change(made))


LEAVE_JOINT = Entry(0, 0, CONFIGURATION, b"")


def test_a_member_that_was_alone_at_its_snapshot_and_has_others_now_starts_and_waits_for_them() -> None:
    files = lost_tail("n1=http://a:1", [change(ChangeKind.ADD_VOTER, 77, "http://b:1"), LEAVE_JOINT])
    assert start(files, flags("n1=http://a:1", "prod-1")).promised is not None


def test_a_member_that_had_others_at_its_snapshot_and_is_alone_now_says_that_nobody_has_its_entries() -> None:
    files = founded("n1=http://a:1,n2=http://b:1")
    (other,) = (
        member.id for member in start(files, flags()).machine.membership.members.values() if member.name == "n2"
    )
    files = lost_tail("n1=http://a:1,n2=http://b:1", [change(ChangeKind.REMOVE, other), LEAVE_JOINT])
    with pytest.raises(StartError, match="this member is alone"):
        start(files, flags("n1=http://a:1", "prod-1"))


def test_a_member_that_is_and_was_alone_says_that_nobody_has_its_entries() -> None:
    with pytest.raises(StartError, match="this member is alone"):
        start(lost_tail("n1=http://a:1", []), flags("n1=http://a:1", "prod-1"))
