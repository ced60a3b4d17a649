"""Go's flag syntax, the texts that are made from the table, and that no flag of etcd 3.4's is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.settings import SettingsError
from kvstored import flags
from kvstored.ignored import IGNORED, REFUSED

# What `etcd --help` of 3.4.23 lists, and three that it hides.
ETCD_FLAGS = re.findall(
    r"\S+",
    """
name data-dir wal-dir snapshot-count heartbeat-interval election-timeout initial-election-tick-advance
listen-peer-urls listen-client-urls max-snapshots max-wals quota-backend-bytes backend-batch-interval
backend-batch-limit max-txn-ops max-request-bytes max-concurrent-streams grpc-keepalive-min-time
grpc-keepalive-interval grpc-keepalive-timeout initial-advertise-peer-urls initial-cluster initial-cluster-state
initial-cluster-token advertise-client-urls discovery discovery-fallback discovery-proxy discovery-srv
discovery-srv-name strict-reconfig-check pre-vote auto-compaction-retention auto-compaction-mode enable-v2 cert-file
key-file client-cert-auth client-crl-file client-cert-allowed-hostname trusted-ca-file auto-tls peer-cert-file
peer-key-file peer-client-cert-auth peer-trusted-ca-file peer-cert-allowed-cn peer-cert-allowed-hostname
peer-auto-tls peer-crl-file cipher-suites cors host-whitelist auth-token bcrypt-cost auth-token-ttl enable-pprof
metrics listen-metrics-urls logger log-outputs log-level proxy proxy-failure-wait proxy-refresh-interval
proxy-dial-timeout proxy-write-timeout proxy-read-timeout experimental-initial-corrupt-check
experimental-corrupt-check-time experimental-enable-v2v3 experimental-backend-bbolt-freelist-type
experimental-enable-lease-checkpoint experimental-compaction-batch-limit
experimental-peer-skip-client-san-verification experimental-watch-progress-notify-interval
experimental-warning-apply-duration force-new-cluster debug log-package-levels config-file
log-output unsafe-no-fsync snapshot
""",
)
ETCD_BOOLEANS = re.findall(
    r"\S+",
    """
initial-election-tick-advance strict-reconfig-check pre-vote enable-v2 client-cert-auth auto-tls
peer-client-cert-auth peer-auto-tls enable-pprof experimental-initial-corrupt-check
experimental-enable-lease-checkpoint experimental-peer-skip-client-san-verification force-new-cluster debug
unsafe-no-fsync snapshot
""",
)


@pytest.mark.parametrize("name", ETCD_FLAGS)
def test_each_flag_of_etcd_is_known_and_boolean_where_etcd_has_it_so(name: str) -> None:
    assert flags.KNOWN[name] is (name in ETCD_BOOLEANS)


def test_no_flag_is_in_two_tables() -> None:
    names = [flag.name for flag in (*flags.FLAGS, *IGNORED, *REFUSED)]
    assert len(names) == len(set(names)) == len(flags.KNOWN)


@pytest.mark.parametrize(
    "arguments",
    [["--name", "n1"], ["-name", "n1"], ["--name=n1"], ["-name=n1"], ["--name", "n0", "-name=n1"]],
)
def test_all_spellings_of_a_flag(arguments: list[str]) -> None:
    assert flags.parse(arguments) == ({"name": "n1"}, ())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--debug"], {"debug": "true"}),
        (["--debug=false"], {"debug": "false"}),
        (["-debug", "--name", "-x"], {"debug": "true", "name": "-x"}),  # a value may begin with a dash
        (["--initial-cluster=n1=http://a:1"], {"initial-cluster": "n1=http://a:1"}),
        (["--name="], {"name": ""}),
        (["--name", ""], {"name": ""}),
        (["--name", "a", "--name", "b", "--name=c"], {"name": "c"}),  # the last counts
    ],
)
def test_values(arguments: list[str], expected: dict[str, str]) -> None:
    assert flags.parse(arguments) == (expected, ())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--debug", "true"], ("true",)),
        (["--debug", "--", "--name", "x"], ("--name", "x")),
        (["x", "--debug"], ("x", "--debug")),
        (["-"], ("-",)),
        ([""], ("",)),
    ],
)
def test_the_first_word_ends_the_flags(arguments: list[str], words: tuple[str, ...]) -> None:
    assert flags.parse(arguments).words == words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nosuchthing"], "unknown flag --nosuchthing"),
        (["--dat-dir=x"], "unknown flag --dat-dir (did you mean --data-dir?)"),
        (["-initial_cluster", "x"], "unknown flag --initial_cluster (did you mean --initial-cluster?)"),
        (["--name"], "--name needs a value"),
        (["---name", "x"], "bad flag syntax: '---name'"),
        (["--=x"], "bad flag syntax: '--=x'"),
    ],
)
def test_refusals(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        flags.parse(arguments)
    assert str(refusal.value) == message


@given(st.lists(st.text(alphabet="-=adebugnm x\n", max_size=8), max_size=6))
def test_any_arguments_give_known_flags_or_one_line(arguments: list[str]) -> None:
    try:
        values, words = flags.parse(arguments)
    except SettingsError as refusal:
        values, words = {}, ()
        line = str(refusal)
    else:
        line = "-"
    assert line.isprintable()
    assert line
    assert set(values) <= {*flags.KNOWN, "help", "h", "version"}
    assert list(words) == arguments[len(arguments) - len(words) :]


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_go_true(text: str) -> None:
    assert flags.parse_boolean("--debug", text)


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_go_false(text: str) -> None:
    assert not flags.parse_boolean("--debug", text)


@pytest.mark.parametrize("text", ["", "yes", "tRUE", "2"])
def test_not_a_boolean(text: str) -> None:
    with pytest.raises(SettingsError, match=f"^--debug: '{text}' is neither true nor false$"):
        flags.parse_boolean("--debug", text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("-1", -1), ("+5", 5), ("9" * 18, 10**18 - 1)])
def test_numbers(text: str, number: int) -> None:
    assert flags.parse_number("--max-wals", text) == number


@pytest.mark.parametrize("text", ["", "-", "1s", "1.5", "0x10", " 1", "1_000", "٣", "--1", "9" * 19])
def test_not_a_number(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is not a whole number$"):
        flags.parse_number("--max-wals", text)


def test_help_names_each_flag_with_its_default_and_variable() -> None:
    usage = flags.usage()
    for flag in flags.FLAGS:
        variable = "ETCD_" + flag.name.upper().replace("-", "_")
        assert f"  --{flag.name} '{flag.default}'    {variable}\n    {flag.text}" in usage
    for name in flags.KNOWN:
        assert re.search(rf"--{name}\b(?!-)", usage), name
    assert max(map(len, usage.splitlines())) <= 120


def test_the_page_about_flags_is_in_step() -> None:
    page = Path(__file__).parents[2] / "docs" / "flags.md"
    assert page.read_text() == flags.markdown(), "run: .venv/bin/python -m kvstored.flags > docs/flags.md"
