"""Where settings come from: flag, environment, file, default; and what each wrong one is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.limits import Limits
from kvstore.settings import LIMIT_FLAGS, InitialMember, Settings, SettingsError, TlsSettings, Url
from kvstored import flags
from kvstored.ignored import IGNORED, REFUSED
from kvstored.settings import gather


def settings(*arguments: str, **environment: str) -> Settings:
    return gather(flags.parse(arguments).values, environment).settings


def warnings(*arguments: str, **environment: str) -> tuple[str, ...]:
    return gather(flags.parse(arguments).values, environment).warnings


def refusal(*arguments: str, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(*arguments, **environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "etcd.yml"


def test_nothing_given_gives_the_defaults_that_help_prints() -> None:
    found = settings()
    assert found == Settings()
    printed = {flag.name: flag.default for flag in flags.FLAGS}
    for name in ("heartbeat-interval", "election-timeout"):
        assert printed[name] == str(getattr(found, name.replace("-", "_") + "_ms"))
    for name in ("snapshot-count", "max-snapshots", "max-wals", "event-history"):
        assert printed[name] == str(getattr(found, name.replace("-", "_")))
    for name, field in LIMIT_FLAGS.items():
        assert int(printed[name]) == getattr(found.limits, field)
    for name in ("name", "initial-cluster-state", "initial-cluster-token", "log-level", "log-format"):
        assert printed[name] == getattr(found, name.replace("-", "_"))
    for name in ("listen-peer-urls", "listen-client-urls", "initial-advertise-peer-urls", "advertise-client-urls"):
        assert printed[name] == ",".join(map(str, getattr(found, name.replace("-", "_"))))
    assert found.cors == (printed["cors"],)


def test_a_flag_beats_the_environment_which_beats_the_file(config: Path) -> None:
    config.write_text("name: file\nsnapshot-count: 1\nmax-wals: 1\n")
    found = settings("--config-file", str(config), "--name=flag", ETCD_NAME="env", ETCD_SNAPSHOT_COUNT="2")
    assert (found.name, found.snapshot_count, found.max_wals, found.max_snapshots) == ("flag", 2, 1, 5)


def test_the_file_may_be_named_by_the_environment(config: Path) -> None:
    config.write_text("name: file\n")
    assert settings(ETCD_CONFIG_FILE=str(config)).name == "file"


def test_an_empty_variable_is_none() -> None:
    assert settings(ETCD_NAME="", ETCD_SNAPSHOT_COUNT="", ETCD_CONFIG_FILE="") == Settings()


def test_every_setting_can_be_given() -> None:
    limits = {flag: number for number, flag in enumerate(LIMIT_FLAGS, 100)} | {"max-log-bytes": 10_000}
    found = settings(
        *("--name=n1", "--data-dir=d", "--wal-dir=w", "--snapshot-count=7", "--heartbeat-interval=10"),
        *("--election-timeout=60", "--max-snapshots=0", "--max-wals=3", "--cors=http://a.b, https://c:8"),
        *(f"--{name}={number}" for name, number in limits.items()),
        *("--event-history=11", "--event-history-bytes=12"),
        *("--log-level=warn", "--log-format=json"),
        *("--listen-peer-urls=http://127.0.0.1:1,http://[::1]:2", "--initial-advertise-peer-urls=http://a:1"),
        *("--listen-client-urls=http://0.0.0.0:3", "--advertise-client-urls=http://a:3,http://b:3"),
        *("--initial-cluster=n2=http://b:1,n1=http://a:1", "--initial-cluster-state=existing"),
        *("--initial-cluster-token=t", "--strict-reconfig-check=false"),
    )
    assert found == Settings(
        name="n1",
        data_dir=Path("d"),
        wal_dir=Path("w"),
        snapshot_count=7,
        heartbeat_interval_ms=10,
        election_timeout_ms=60,
        max_snapshots=0,
        max_wals=3,
        cors=("http://a.b", "https://c:8"),
        limits=Limits(**{LIMIT_FLAGS[name]: number for name, number in limits.items()}),
        event_history=11,
        event_history_bytes=12,
        strict_reconfig_check=False,
        log_level="warn",
        log_format="json",
        listen_peer_urls=(Url("http", "127.0.0.1", 1), Url("http", "::1", 2)),
        initial_advertise_peer_urls=(Url("http", "a", 1),),
        listen_client_urls=(Url("http", "0.0.0.0", 3),),
        advertise_client_urls=(Url("http", "a", 3), Url("http", "b", 3)),
        initial_cluster=(
            InitialMember("n1", (Url("http", "a", 1),)),
            InitialMember("n2", (Url("http", "b", 1),)),
        ),
        initial_cluster_state="existing",
        initial_cluster_token="t",
    )


def test_the_data_folder_is_named_after_the_member() -> None:
    assert settings("--name=n1").data_dir == Path("n1.kvstore")
    assert settings("--name=n1", "--data-dir=").data_dir == Path("n1.kvstore")


def test_the_default_cluster_is_this_member_alone() -> None:
    found = settings("--name=n1", "--initial-advertise-peer-urls=http://b:2,http://a:1")
    assert found.initial_cluster == (InitialMember("n1", (Url("http", "a", 1), Url("http", "b", 2))),)
    assert found == settings(
        "--name=n1",
        "--initial-advertise-peer-urls=http://b:2,http://a:1",
        "--initial-cluster=n1=http://a:1,n1=http://b:2",
    )


def test_debug_is_a_level() -> None:
    assert settings("--debug").log_level == "debug"
    assert settings("--debug=false").log_level == "info"
    assert settings("--debug", "--log-level=error").log_level == "debug"
    assert settings("--log-level=panic").log_level == settings("--log-level=fatal").log_level == "error"


# --- the file ----------------------------------------------------------------------------------------------------


def test_a_file_as_etcd_ships_it(config: Path) -> None:
    config.write_text(
        """
# This is the configuration file for the etcd server.
name: 'n1'
data-dir:
snapshot-count: 10000
listen-peer-urls: http://localhost:2380
max-wals: 5
cors:
initial-cluster-state: 'new'
strict-reconfig-check: false
discovery:
proxy: 'off'
client-transport-security:
  cert-file:
  client-cert-auth: false
  auto-tls: false
peer-transport-security:
  key-file:
  client-cert-auth: false
debug: false
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-retention: "1"
"""
    )
    found = gather({"config-file": str(config)}, {})
    assert found.settings == Settings(
        name="n1", data_dir=Path("n1.kvstore"), snapshot_count=10_000, strict_reconfig_check=False
    )
    assert [warning.partition(" has no effect")[0] for warning in found.warnings] == [
        f"{config}: auto-compaction-retention",
        f"{config}: log-outputs",
    ]


def test_lists_in_the_file(config: Path) -> None:
    config.write_text("listen-peer-urls:\n- http://127.0.0.1:1\n- http://127.0.0.1:2\n")
    found = settings("--config-file", str(config))
    assert found.listen_peer_urls == (Url("http", "127.0.0.1", 1), Url("http", "127.0.0.1", 2))


def test_an_empty_file_sets_nothing(config: Path) -> None:
    config.write_text("# nothing\n")
    assert settings("--config-file", str(config)) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: x", "{path}: unknown key 'nmae' (did you mean name?)"),
        ("5: x", "{path}: unknown key 5"),
        ("config-file: x", "{path}: unknown key 'config-file' (did you mean config-file?)"),
        ("- a", "--config-file '{path}' must hold keys and values, like `name: n1`"),
        ("name: {a: 1}", "{path}: name: must be one value or a list of values"),
        ("max-wals: many", "{path}: max-wals: 'many' is not a whole number"),
        ("max-wals: -1", "--max-wals must not be negative (is -1); 0 keeps all (set by {path}: max-wals)"),
        ("a: b\n c: d", "--config-file '{path}', line 2: mapping values are not allowed here"),
        ("name: \x00", "--config-file '{path}' is no YAML: special characters are not allowed at 6"),
        ("client-transport-security: {client-cert-auth: x}", "{path}: client-cert-auth: 'x' is neither true nor false"),
        (
            "peer-transport-security: {cert-file: x}",
            "--peer-cert-file and --peer-key-file must be given together (set by {path}: cert-file)",
        ),
        ("peer-transport-security: {cert-fil: x}", "{path}: unknown key 'cert-fil' (did you mean peer-cert-file?)"),
        ("client-transport-security: 5", "{path}: unknown key 'client-transport-security'"),
    ],
)
def test_a_wrong_file(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    assert refusal("--config-file", str(config)) == message.format(path=config)


def test_tls_from_a_file_as_etcd_has_it(config: Path) -> None:
    config.write_text(
        """
listen-client-urls: https://127.0.0.1:1,http://127.0.0.1:2
advertise-client-urls: https://127.0.0.1:1
client-transport-security: {cert-file: a.crt, key-file: a.key, trusted-ca-file: ca.crt, client-cert-auth: true}
peer-transport-security: {auto-tls: true, trusted-ca-file: p.crt, crl-file: p.crl}
cipher-suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
"""
    )
    found = settings("--config-file", str(config), ETCD_TLS_MIN_VERSION="TLS1.3")
    assert found.client_tls == TlsSettings(
        cert_file=Path("a.crt"), key_file=Path("a.key"), trusted_ca_file=Path("ca.crt"), client_cert_auth=True
    )
    assert found.peer_tls == TlsSettings(auto=True, trusted_ca_file=Path("p.crt"), crl_file=Path("p.crl"))
    assert found.cipher_suites == ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256")
    assert found.tls_min_version == "TLS1.3"
    assert "http://127.0.0.1:2 is served without TLS, so nobody there shows a certificate" in warnings(
        "--config-file", str(config)
    )


def test_a_file_that_is_not_there(config: Path) -> None:
    expected = f"--config-file '{config}' cannot be read: No such file or directory"
    assert refusal("--config-file", str(config)) == expected


def test_a_file_in_another_encoding(config: Path) -> None:
    config.write_bytes(b"name: \xff\xfe\xfa")
    assert refusal("--config-file", str(config)) == f"--config-file '{config}' is no YAML: invalid start byte at 6"


# --- flags of etcd's that do not exist here -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [flag.name for flag in IGNORED])
def test_a_flag_without_meaning_gives_one_warning(name: str) -> None:
    why = next(flag.why for flag in IGNORED if flag.name == name)
    assert warnings(f"--{name}=1") == (f"--{name} has no effect: {why}",)
    variable = flags.variable(name)
    assert warnings(**{variable: "1"}) == (f"{variable} has no effect: {why}",)


@pytest.mark.parametrize("name", [flag.name for flag in REFUSED])
def test_a_flag_that_must_not_be_ignored_stops_the_start(name: str) -> None:
    flag = next(flag for flag in REFUSED if flag.name == name)
    assert refusal(f"--{name}=true") == f"--{name}: {flag.why}"
    assert refusal(**{flags.variable(name): "true"}) == f"{flags.variable(name)}: {flag.why}"
    for harmless in flag.harmless:
        assert settings(f"--{name}={harmless}") == Settings()


def test_an_unknown_variable_is_a_warning() -> None:
    assert warnings(ETCD_SERVICE_HOST="10.0.0.1", ETCDCTL_API="2", ETCD_UNSUPPORTED_ARCH="arm64") == (
        "unknown environment variable ETCD_SERVICE_HOST",
    )
    assert warnings(ETCD_INITAL_CLUSTER="x") == (
        "unknown environment variable ETCD_INITAL_CLUSTER (did you mean ETCD_INITIAL_CLUSTER?)",
    )


# --- refusals name the place ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (
            ["--listen-client-urls=http://127.0.0.1:1"],
            {},
            "--advertise-client-urls is required when --listen-client-urls is set",
        ),
        (["--max-wals=x"], {}, "--max-wals: 'x' is not a whole number"),
        ([], {"ETCD_MAX_WALS": "x"}, "ETCD_MAX_WALS: 'x' is not a whole number"),
        ([], {"ETCD_DEBUG": "maybe"}, "ETCD_DEBUG: 'maybe' is neither true nor false"),
        (["--data-dir=a\0b"], {}, "--data-dir: a path cannot hold a NUL"),
        (
            [],
            {"ETCD_ELECTION_TIMEOUT": "400"},
            "--election-timeout (400 ms) must be at least 5 times --heartbeat-interval (100 ms)"
            " (set by ETCD_ELECTION_TIMEOUT)",
        ),
        (
            ["--name=n1"],
            {"ETCD_INITIAL_CLUSTER": "n2=http://a:1"},
            "--initial-cluster has no member named 'n1' (this is --name) (set by ETCD_INITIAL_CLUSTER)",
        ),
    ],
)
def test_where_to_correct(arguments: list[str], environment: dict[str, str], message: str) -> None:
    assert refusal(*arguments, **environment) == message
