"""An interpreter for the scenario files in testdata/: a cluster told line by line what happens, and what to expect.

One file holds one scenario. `#` begins a comment. The first lines set the stage:

    members 1 2 3                 voters; `learners 4`, `strangers 5` (running, but not yet members), `set NAME VALUE`
    disk 1 terms 1 1 2 term=3     what member 1 has on disk before it starts (also vote=, commit=)
    start                         all start; nothing has been said yet

and then, with everything standing still in between:

    campaign 1 | tick 1 30 | tick all 5 | propose 1 x y | change 1 +4 -1 | read 1 7 | transfer 1 2 | hint 2 1
    unreachable 1 3               a hint as well: what 1 has sent to 3 is probably lost
    reachable 1 3                 a hint, too: what 1 sends to 3 arrives from now on
    settle                        deliver all messages and what comes of them
    deliver 1->2 [KIND]           deliver only what is under way from 1 to 2, and not what comes of it
    lose 1->2 [KIND] | lose       drop what is under way
    repeat 1->2 [KIND]            the network will deliver these once more
    cut 1->2 | cut 3 | heal       from now on everything is lost there; a number means both ways with everyone
    slow 1 | sync 1 | fast 1      member 1's disk takes until `sync`; then its write under way is durable
    crash 1 | restart 1           with what its disk holds
    damage 1 3                    while down: its disk loses every entry after index 3, and knows that it did
    compact 1 KEEP                snapshot at its applied index
    pass 50                       50 ticks for all, the network fast

    expect 1 role=leader term=2 vote=1 leader=1 commit=3 applied=3 last=3 lost=no
    terms 1 = 1 1 2               the terms of its log, from the first entry held
    payloads 1 = x y              what it applied in this life, empty entries left out
    voters 1 = 1 2 3 | joint 1 = 1 2 | learners 1 = 4 ...  (its configuration; `joint` is the outgoing half)
    reads 1 = 7@3                 the reads answered so far, context@index
    refused 1 = TAIL_FULL         the refusals so far
    queued 1->2 = AppendRequest(prev=3,n=2)   what is under way, in order; without brackets the kind alone
    progress 1 2 = REPLICATE match=3 next=4
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvstore.raft.config import Config
from kvstore.raft.errors import ProposalRefused
from kvstore.raft.types import AppendRequest, Entry, HardState, Message, Refusal

from .cluster import Cluster, Disk

_DEFAULTS = {"election_ticks": 10, "heartbeat_ticks": 1, "stagger_ticks": 2}


class Scenario:
    def __init__(self, path: Path, planted: frozenset[str] = frozenset()) -> None:
        self._path = path
        self._planted = planted
        self._voters: list[int] = []
        self._learners: list[int] = []
        self._strangers: list[int] = []
        self._settings: dict[str, int] = dict(_DEFAULTS)
        self._disks: dict[int, Disk] = {}
        self._promised: dict[int, tuple[int, int]] = {}
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "the scenario has not said `start`"
        return self._cluster

    def run(self) -> None:
        for number, line in enumerate(self._path.read_text().splitlines(), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            command: Callable[[list[str]], None] = getattr(self, f"_do_{words[0]}")
            try:
                command(words[1:])
            except Exception as error:
                error.add_note(f"{self._path.name}:{number}: {line.strip()}")
                raise

    # --- the stage ---------------------------------------------------------------------------------------------

    def _do_members(self, words: list[str]) -> None:
        self._voters = [int(word) for word in words]

    def _do_strangers(self, words: list[str]) -> None:
        self._strangers = [int(word) for word in words]

    def _do_set(self, words: list[str]) -> None:
        self._settings[words[0]] = int(words[1])

    def _do_disk(self, words: list[str]) -> None:
        terms = [int(word) for word in words[2:] if "=" not in word]
        state = {name: int(value) for name, _, value in (word.partition("=") for word in words if "=" in word)}
        state.setdefault("term", max(terms, default=0))
        # The same index and term are the same entry everywhere (log matching), so the payload says just that.
        entries = [Entry(index, term, 0, f"{index}.{term}".encode()) for index, term in enumerate(terms, 1)]
        self._disks[int(words[0])] = Disk(HardState(**state), None, entries)

    def _do_start(self, words: list[str]) -> None:
        config = replace(Config(planted=self._planted), **self._settings)  # type: ignore[arg-type]
        self._cluster = Cluster(
            self._voters, learners=self._learners, strangers=self._strangers, config=config, disks=self._disks
        )
        self._cluster.pump()

    def _do_learners(self, words: list[str]) -> None:
        if self._cluster is None:
            self._learners = [int(word) for word in words]
        else:
            self._expect_members(words, self.cluster[int(words[0])].configuration.learners)

    # --- what happens ------------------------------------------------------------------------------------------

    def _do_campaign(self, words: list[str]) -> None:
        self.cluster[int(words[0])].campaign()
        self.cluster.pump()

    def _do_tick(self, words: list[str]) -> None:
        everyone = [member.member_id for member in self.cluster.up]
        self.cluster.tick(everyone if words[0] == "all" else [int(words[0])], int(words[1]))

    def _do_pass(self, words: list[str]) -> None:
        self.cluster.pass_time(int(words[0]))

    def _proposing(self, member_id: int, propose: Callable[[], object]) -> None:
        try:
            propose()
        except ProposalRefused as refused:
            self.cluster.members[member_id].refusals.append(str(int(refused.reason)))
        self.cluster.pump()

    def _do_propose(self, words: list[str]) -> None:
        member = int(words[0])
        self._proposing(member, lambda: self.cluster[member].propose([word.encode() for word in words[1:]]))

    def _do_change(self, words: list[str]) -> None:
        member = int(words[0])
        payload = " ".join(words[1:]).encode()
        self._proposing(member, lambda: self.cluster[member].propose_configuration(payload))

    def _do_read(self, words: list[str]) -> None:
        assert self.cluster.read(int(words[0]), int(words[1])), "it knows no leader"
        self.cluster.pump()

    def _do_transfer(self, words: list[str]) -> None:
        target = int(words[1]) if len(words) > 1 else 0
        assert self.cluster[int(words[0])].transfer_leadership(target) != 0, "no such target"
        self.cluster.pump()

    def _do_hint(self, words: list[str]) -> None:
        self.cluster[int(words[0])].leader_unreachable(int(words[1]))

    def _do_unreachable(self, words: list[str]) -> None:
        self.cluster[int(words[0])].member_unreachable(int(words[1]))
        self.cluster.pump()

    def _do_reachable(self, words: list[str]) -> None:
        self.cluster[int(words[0])].voter_reachable(int(words[1]))
        self.cluster.pump()

    def _do_settle(self, words: list[str]) -> None:
        self.cluster.settle()

    def _do_deliver(self, words: list[str]) -> None:
        assert self.cluster.deliver_where(_wanted(words)) > 0, "there is no such message"

    def _do_lose(self, words: list[str]) -> None:
        wanted = _wanted(words) if words else lambda message: True
        lost = [message for message in self.cluster.network if wanted(message)]
        assert lost, "there is no such message"
        self.cluster.network = [message for message in self.cluster.network if message not in lost]
        for message in lost:
            self.cluster.lose(message)

    def _do_repeat(self, words: list[str]) -> None:
        copies = list(filter(_wanted(words), self.cluster.network))
        assert copies, "there is no such message"
        self.cluster.network.extend(copies)

    def _do_cut(self, words: list[str]) -> None:
        for word in words:
            if "->" in word:
                self.cluster.cuts.add(_link(word))
            else:
                for other in self.cluster.members:
                    self.cluster.cuts |= {(int(word), other), (other, int(word))}

    def _do_heal(self, words: list[str]) -> None:
        self.cluster.cuts.clear()

    def _do_slow(self, words: list[str]) -> None:
        self.cluster.members[int(words[0])].slow_disk = True

    def _do_fast(self, words: list[str]) -> None:
        self.cluster.members[int(words[0])].slow_disk = False
        self._do_sync(words)

    def _do_sync(self, words: list[str]) -> None:
        self.cluster.members[int(words[0])].sync()
        self.cluster.pump()

    def _do_crash(self, words: list[str]) -> None:
        self.cluster.members[int(words[0])].crash()

    def _do_restart(self, words: list[str]) -> None:
        member = int(words[0])
        self.cluster.members[member].start(self._promised.pop(member, None))
        self.cluster.pump()

    def _do_damage(self, words: list[str]) -> None:
        member = self.cluster.members[int(words[0])]
        assert member.core is None, "damage is done while it is down"
        self._promised[member.member_id] = member.disk.cut(int(words[1]))

    def _do_compact(self, words: list[str]) -> None:
        self.cluster.members[int(words[0])].compact(int(words[1]))
        self.cluster.pump()

    # --- what to expect ----------------------------------------------------------------------------------------

    def _do_expect(self, words: list[str]) -> None:
        raft = self.cluster[int(words[0])]
        seen = {
            "role": raft.role.name.lower().replace("_", "-"),
            "term": raft.term,
            "vote": raft.vote,
            "leader": raft.leader,
            "commit": raft.commit,
            "applied": raft.applied,
            "last": raft.last_index,
            "durable": raft.log.durable,
            "lost": "yes" if raft.lost_promise else "no",
        }
        wanted = dict(word.split("=") for word in words[1:])
        assert {name: str(seen[name]) for name in wanted} == wanted

    def _do_terms(self, words: list[str]) -> None:
        log = self.cluster[int(words[0])].log
        held = [str(entry.term) for entry in log.slice(log.first_index, log.last_index, 1 << 40)]
        assert held == words[2:]

    def _do_payloads(self, words: list[str]) -> None:
        applied = self.cluster.members[int(words[0])].applied
        assert [entry.payload.decode() for entry in applied if entry.payload] == words[2:]

    def _expect_members(self, words: list[str], members: frozenset[int]) -> None:
        assert members == {int(word) for word in words[2:]}

    def _do_voters(self, words: list[str]) -> None:
        self._expect_members(words, self.cluster[int(words[0])].configuration.voters)

    def _do_joint(self, words: list[str]) -> None:
        self._expect_members(words, self.cluster[int(words[0])].configuration.outgoing)

    def _do_reads(self, words: list[str]) -> None:
        reads = self.cluster.members[int(words[0])].reads
        assert [f"{read.context}@{read.index}" for read in reads] == words[2:]

    def _do_refused(self, words: list[str]) -> None:
        refusals = self.cluster.members[int(words[0])].refusals
        names = [Refusal(int(reason)).name if reason.isdigit() else reason for reason in refusals]
        assert names == words[2:]

    def _do_queued(self, words: list[str]) -> None:
        queued = list(filter(_wanted(words[:1]), self.cluster.network))
        described = [_describe(message, "(" in word) for message, word in zip(queued, words[2:], strict=False)]
        described += [_describe(message, True) for message in queued[len(described) :]]
        assert described == words[2:]

    def _do_progress(self, words: list[str]) -> None:
        progress = self.cluster[int(words[0])].progress[int(words[1])]
        seen = [progress.state.name, f"match={progress.match}", f"next={progress.next}"]
        assert seen[: len(words) - 3] == words[3:]


def _link(word: str) -> tuple[int, int]:
    sender, _, to = word.partition("->")
    return int(sender), int(to)


def _wanted(words: list[str]) -> Callable[[Message], bool]:
    sender, to = _link(words[0])
    kind = words[1] if len(words) > 1 else None

    def wanted(message: Message) -> bool:
        return (message.sender, message.to) == (sender, to) and kind in (None, type(message).__name__)

    return wanted


def _describe(message: Any, in_full: bool) -> str:
    name = type(message).__name__
    if in_full and isinstance(message, AppendRequest):
        return f"{name}(prev={message.prev_index},n={len(message.entries)})"
    return name
