"""Gathers settings: a flag beats the environment, the environment beats the file, the file beats the default.

Knows where each value came from, so that a refusal names the place to correct. What makes a good value is said in
`kvstore.settings`. Reads one file, the one of `--config-file`, and looks whether the data folder has a member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kvstore.limits import Limits
from kvstore.settings import (
    LIMIT_FLAGS,
    Settings,
    SettingsError,
    TlsSettings,
    parse_entries,
    parse_initial_cluster,
    parse_urls,
)
from kvstored.flags import FLAGS, KNOWN, parse_boolean, parse_number, suggestion, variable
from kvstored.ignored import IGNORED, REFUSED

#: Sections of etcd's configuration file; their keys are flags without this prefix.
_SECTIONS = {"client-transport-security": "", "peer-transport-security": "peer-"}
#: Set by etcd's own images; says nothing to this server, and needs no warning.
_UNSUPPORTED_ARCH = "ETCD_UNSUPPORTED_ARCH"
_PREFIX = variable("")


class Value(NamedTuple):
    """A value as text, and where it was written ("--name", "ETCD_NAME", "etcd.yml: name")."""

    text: str
    origin: str


class Gathered(NamedTuple):
    """The settings, and one line for each thing that an operator should know about them."""

    settings: Settings
    warnings: tuple[str, ...]


def gather(given: Mapping[str, str], environment: Mapping[str, str]) -> Gathered:
    """Settings from the command line's flags and the environment. Raises SettingsError, one line."""
    values: dict[str, Value] = {}
    path = given.get("config-file", environment.get(variable("config-file"), ""))
    if path:
        values.update(_read_file(path))
    values.update(_read_environment(environment))
    values.update((name, Value(text, f"--{name}")) for name, text in given.items())
    _refuse(values)
    warnings = [*_unknown_variables(environment), *_warn(values)]
    try:
        settings = _settings(values)
        if not _has_member(settings):
            settings.check_first_start()
        return Gathered(settings, (*warnings, *settings.warnings))
    except SettingsError as error:
        raise SettingsError(str(error) + _place(str(error), values)) from None


def _has_member(settings: Settings) -> bool:
    """Whether the data folder has a member, whose log then counts and not what is told for its first start."""
    from kvstore.storage.files import OSFiles
    from kvstore.storage.folder import has_member

    try:
        return has_member(OSFiles(), str(settings.data_dir), str(settings.wal_dir or ""))
    except OSError:
        return True  # the server will say what is wrong with it


def _settings(values: Mapping[str, Value]) -> Settings:
    fields: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    for name, (field, convert) in _FIELDS.items():
        if name in values and (values[name].text or name not in _EMPTY_IS_DEFAULT):
            part, dot, within = field.partition(".")
            (parts[part] if dot else fields)[within or field] = convert(name, values[name])
    fields.update((part, _PARTS[part](**given)) for part, given in parts.items())
    if "listen_client_urls" in fields and "advertise_client_urls" not in fields:
        raise SettingsError("--advertise-client-urls is required when --listen-client-urls is set")
    if "debug" in values and parse_boolean(values["debug"].origin, values["debug"].text):
        fields["log_level"] = "debug"
    fields.setdefault("data_dir", Path(f"{fields.get('name', 'default')}.kvstore"))
    return Settings(**fields)


def _text(_name: str, value: Value) -> str:
    return value.text


def _path(_name: str, value: Value) -> Path:
    if "\0" in value.text:
        raise SettingsError(f"{value.origin}: a path cannot hold a NUL")
    return Path(value.text)


def _number(_name: str, value: Value) -> int:
    return parse_number(value.origin, value.text)


def _switch(_name: str, value: Value) -> bool:
    return parse_boolean(value.origin, value.text)


def _urls(name: str, value: Value) -> object:
    return parse_urls(name, value.text)


def _cluster(_name: str, value: Value) -> object:
    return parse_initial_cluster(value.text)


def _list(_name: str, value: Value) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.text.split(","))


def _level(_name: str, value: Value) -> str:
    return "error" if value.text in ("panic", "fatal") else value.text  # etcd's levels above error


_FIELDS: Mapping[str, tuple[str, Callable[[str, Value], object]]] = {
    "name": ("name", _text),
    "data-dir": ("data_dir", _path),
    "wal-dir": ("wal_dir", _path),
    "listen-client-urls": ("listen_client_urls", _urls),
    "advertise-client-urls": ("advertise_client_urls", _urls),
    "listen-peer-urls": ("listen_peer_urls", _urls),
    "initial-advertise-peer-urls": ("initial_advertise_peer_urls", _urls),
    "initial-cluster": ("initial_cluster", _cluster),
    "initial-cluster-state": ("initial_cluster_state", _text),
    "initial-cluster-token": ("initial_cluster_token", _text),
    "heartbeat-interval": ("heartbeat_interval_ms", _number),
    "election-timeout": ("election_timeout_ms", _number),
    "snapshot-count": ("snapshot_count", _number),
    "max-snapshots": ("max_snapshots", _number),
    "max-wals": ("max_wals", _number),
    "event-history": ("event_history", _number),
    "event-history-bytes": ("event_history_bytes", _number),
    "max-level": ("max_level", _number),
    "skip-entry": ("skip_entries", lambda _, value: parse_entries(value.origin, value.text)),
    "strict-reconfig-check": ("strict_reconfig_check", _switch),
    **{flag: (f"limits.{field}", _number) for flag, field in LIMIT_FLAGS.items()},
    "bcrypt-cost": ("bcrypt_cost", _number),
    "cors": ("cors", _list),
    "cert-file": ("client_tls.cert_file", _path),
    "key-file": ("client_tls.key_file", _path),
    "trusted-ca-file": ("client_tls.trusted_ca_file", _path),
    "client-cert-auth": ("client_tls.client_cert_auth", _switch),
    "client-crl-file": ("client_tls.crl_file", _path),
    "client-cert-allowed-hostname": ("client_tls.allowed_hostname", _text),
    "auto-tls": ("client_tls.auto", _switch),
    "peer-cert-file": ("peer_tls.cert_file", _path),
    "peer-key-file": ("peer_tls.key_file", _path),
    "peer-trusted-ca-file": ("peer_tls.trusted_ca_file", _path),
    "peer-client-cert-auth": ("peer_tls.client_cert_auth", _switch),
    "peer-crl-file": ("peer_tls.crl_file", _path),
    "peer-cert-allowed-cn": ("peer_tls.allowed_cn", _text),
    "peer-cert-allowed-hostname": ("peer_tls.allowed_hostname", _text),
    "peer-auto-tls": ("peer_tls.auto", _switch),
    "experimental-peer-skip-client-san-verification": ("peer_tls.skip_address_check", _switch),
    "peer-cert-allow-any-usage": ("peer_tls.allow_any_usage", _switch),
    "cipher-suites": ("cipher_suites", _list),
    "tls-min-version": ("tls_min_version", _text),
    "host-whitelist": ("host_whitelist", _list),
    "log-level": ("log_level", _level),
    "log-format": ("log_format", _text),
}
#: Settings that are values of their own.
_PARTS: Mapping[str, Callable[..., object]] = {"client_tls": TlsSettings, "peer_tls": TlsSettings, "limits": Limits}
_EMPTY_IS_DEFAULT = frozenset(
    {
        *(
            "data-dir",
            "wal-dir",
            "skip-entry",
            "initial-cluster",
            "cors",
            "host-whitelist",
            "cipher-suites",
            "tls-min-version",
        ),
        *("cert-file", "key-file", "trusted-ca-file", "client-crl-file"),
        *("peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-crl-file"),
    }
)


def _read_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Value]]:
    """An empty variable is none (etcd's rule)."""
    for name in KNOWN:
        if text := environment.get(variable(name)):
            yield name, Value(text, variable(name))


def _read_file(path: str) -> Iterator[tuple[str, Value]]:
    import yaml  # most are started without a file, and it takes its time to load

    try:
        document = yaml.safe_load(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"--config-file {path!r} cannot be read: {reason}") from None
    except yaml.reader.ReaderError as error:
        raise SettingsError(f"--config-file {path!r} is no YAML: {error.reason} at {error.position}") from None
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"--config-file {path!r}{where}: {error.problem}") from None
    if document is None:
        return
    if not isinstance(document, dict):
        raise SettingsError(f"--config-file {path!r} must hold keys and values, like `name: n1`")
    yield from _keys(path, document)


def _keys(path: str, document: Mapping[Any, Any], prefix: str | None = None) -> Iterator[tuple[str, Value]]:
    for key, content in document.items():
        origin = f"{path}: {key}"
        if prefix is None and key in _SECTIONS and isinstance(content, dict | None):
            yield from _keys(path, content or {}, _SECTIONS[key])
            continue
        name = f"{prefix or ''}{key}"
        if name not in KNOWN or name == "config-file":
            raise SettingsError(f"{path}: unknown key {key!r}{suggestion(name, KNOWN)}")
        if content is not None:  # a key without a value is not set
            yield name, Value(_scalar(origin, content), origin)


def _scalar(origin: str, content: object) -> str:
    """YAML's value as the text that the flag would have."""
    if isinstance(content, list):
        return ",".join(_scalar(origin, part) for part in content)
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, str | int | float):
        return str(content)
    raise SettingsError(f"{origin}: must be one value or a list of values")


def _refuse(values: Mapping[str, Value]) -> None:
    for flag in REFUSED:
        value = values.get(flag.name)
        if value is not None and value.text not in flag.harmless:
            raise SettingsError(f"{value.origin}: {flag.why}")


def _warn(values: Mapping[str, Value]) -> Iterator[str]:
    for flag in IGNORED:
        if flag.name in values:
            yield f"{values[flag.name].origin} has no effect: {flag.why}"


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Only a warning, as in etcd: Kubernetes sets ETCD_SERVICE_HOST and its like in every pod."""
    known = {variable(name).removeprefix(_PREFIX) for name in KNOWN}
    for name in sorted(environment):
        end = name.removeprefix(_PREFIX)
        if name != end and end not in known and name != _UNSUPPORTED_ARCH:
            yield f"unknown environment variable {name}{suggestion(end, known, _PREFIX)}"


def _place(message: str, values: Mapping[str, Value]) -> str:
    """Names the variable or file behind the flags that a message speaks of."""
    mentioned = [flag.name for flag in FLAGS if f"--{flag.name} " in message or f"--{flag.name}:" in message]
    origins = [values[name].origin for name in mentioned if name in values]
    elsewhere = [origin for origin in origins if not origin.startswith("--")]
    return f" (set by {' and '.join(elsewhere)})" if elsewhere else ""
