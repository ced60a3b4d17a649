"""Files that change while a member runs, files that cannot be used, and what is about to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from kvstore.certificates import Issued, Usage, authority, issue, revocation_list
from kvstore.settings import TlsSettings
from kvstore.tls import credentials as module
from kvstore.tls.credentials import Credentials, open_side
from kvstore.tls.material import Policy
from kvstore.tls.sides import TlsError
from tests.tls.pki import IN_A_WHILE, LONG_AGO, Pki

SECONDS = 10.0
POLICY = Policy((), "TLS1.2")


@pytest.fixture
def folder(tmp_path: Path, pki: Pki) -> Path:
    """Files of its own for each test, since they are changed."""
    put(tmp_path, issue(pki.ca, "first", ["localhost"], Usage.SERVER))
    (tmp_path / "ca.crt").write_bytes(pki.ca.certificate_pem)
    (tmp_path / "crl").write_bytes(revocation_list(pki.ca, [1]))
    return tmp_path


def put(folder: Path, issued: Issued) -> None:
    (folder / "crt").write_bytes(issued.certificate_pem)
    (folder / "key").write_bytes(issued.key_pem)


def settings(folder: Path) -> TlsSettings:
    return TlsSettings(
        cert_file=folder / "crt", key_file=folder / "key", trusted_ca_file=folder / "ca.crt", crl_file=folder / "crl"
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  a file that changed is no event
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def watched(folder: Path, monkeypatch: pytest.MonkeyPatch, side: str = "client") -> AsyncIterator[Credentials]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    held = Credentials(side, settings(folder), POLICY)
    task = asyncio.get_running_loop().create_task(held.watch())
    try:
        yield held
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def names(held: Credentials) -> list[str]:
    return [expiry.name for expiry in held.expiries]


@pytest.mark.parametrize(
    ("usage", "hosts", "why"),
    [
        (Usage.PEER, ["localhost"], ""),
        (Usage.PEER, [], "the certificate is not made for members: it names no host"),
        (Usage.SERVER, ["localhost"], "the certificate is not made for clients (extended key usage)"),
    ],
)
def test_a_member_whose_certificate_the_others_will_refuse_says_so(
    folder: Path, pki: Pki, caplog: pytest.LogCaptureFixture, usage: Usage, hosts: list[str], why: str
) -> None:
    put(folder, issue(pki.ca, "peer", hosts, usage))
    open_side("peer", settings(folder), POLICY, folder, iter(()))
    told = [record.__dict__["fields"]["why"] for record in caplog.records if record.levelno == logging.WARNING]
    assert [line[: len(why)] for line in told] == ([why] if why else [])
    caplog.clear()
    open_side("peer", replace(settings(folder), allow_any_usage=True), POLICY, folder, iter(()))
    assert caplog.records == []


async def test_a_changed_certificate_is_taken(folder: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(folder, monkeypatch) as held:
        before = held.material
        put(folder, issue(pki.ca, "second", ["localhost"], Usage.SERVER))
        await until(lambda: "CN=second" in names(held))
        assert held.material.listening is not before.listening  # so that no session of before is resumed


async def test_a_link_that_leads_elsewhere_is_a_change(folder: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts a secret: one link to a folder is exchanged."""
    for number in ("1", "2"):
        (folder / number).mkdir()
        put(folder / number, issue(pki.ca, f"number {number}", [], Usage.SERVER))
    (folder / "now").symlink_to("1")
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    where = replace(settings(folder), cert_file=folder / "now" / "crt", key_file=folder / "now" / "key")
    held = Credentials("client", where, POLICY)
    task = asyncio.get_running_loop().create_task(held.watch())
    (folder / "next").symlink_to("2")
    (folder / "next").rename(folder / "now")
    await until(lambda: "CN=number 2" in names(held))
    task.cancel()


def unreadable(folder: Path) -> None:
    (folder / "crt").unlink()


def nonsense(folder: Path) -> None:
    (folder / "crt").write_text("nonsense")


def empty(folder: Path) -> None:
    (folder / "ca.crt").write_bytes(b"")


def half(folder: Path) -> None:
    (folder / "crt").write_bytes((folder / "crt").read_bytes()[:100])


def broken_list(folder: Path) -> None:
    (folder / "crl").write_text("nonsense")


BROKEN: dict[Callable[[Path], None], str] = {
    unreadable: "crt: No such file or directory",
    nonsense: "crt: holds no certificate that can be read (PEM)",
    empty: "ca.crt: holds no certificate that can be read (PEM)",
    half: "crt: holds no certificate that can be read (PEM)",
    broken_list: "crl: holds no list of revoked certificates that can be read (PEM or DER)",
}


@pytest.mark.parametrize("breaks", BROKEN)
async def test_a_broken_replacement_is_refused_once_and_the_old_one_goes_on(
    breaks: Callable[[Path], None],
    folder: Path,
    pki: Pki,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watched(folder, monkeypatch) as held:
        before = held.material
        breaks(folder)
        await until(lambda: bool(errors(caplog)))
        assert held.material is before
        assert errors(caplog)[0].endswith(BROKEN[breaks])
        (folder / "crl").write_bytes(revocation_list(pki.ca, [2]))
        (folder / "ca.crt").write_bytes(pki.ca.certificate_pem)
        put(folder, issue(pki.ca, "whole again", [], Usage.SERVER))
        await until(lambda: "CN=whole again" in names(held))
        assert len(errors(caplog)) == 1


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one for one in caplog.records if one.levelno == logging.ERROR]
    return [str(one.__dict__["fields"]["why"]) for one in found]


class Unfit(NamedTuple):
    """A certificate that is whole, and that nobody would accept."""

    side: str
    usage: Usage
    start: datetime | None
    why: str


UNFIT = {
    "expired": Unfit("client", Usage.SERVER, LONG_AGO, "crt: the certificate has expired"),
    "not yet valid": Unfit("client", Usage.SERVER, IN_A_WHILE, "crt: the certificate is not yet valid"),
    "a client's": Unfit("client", Usage.CLIENT, None, "crt: the certificate is not made for servers"),
    "a client's for members": Unfit("peer", Usage.CLIENT, None, "crt: the certificate is not made for servers"),
    "a server's for members": Unfit("peer", Usage.SERVER, None, "crt: the certificate is not made for clients"),
}


@pytest.mark.parametrize("kind", UNFIT)
async def test_a_replacement_that_nobody_would_accept_is_refused_once(
    kind: str, folder: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unfit = UNFIT[kind]
    put(folder, issue(pki.ca, "first", ["localhost"], Usage.PEER))
    async with watched(folder, monkeypatch, unfit.side) as held:
        before = held.material
        put(folder, issue(pki.ca, "unfit", ["localhost"], unfit.usage, days=30, start=unfit.start))
        await until(lambda: bool(errors(caplog)))
        assert held.material is before
        assert unfit.why in errors(caplog)[0]
        put(folder, issue(pki.ca, "fit", ["localhost"], Usage.PEER))
        await until(lambda: "CN=fit" in names(held))
        assert len(errors(caplog)) == 1


async def test_a_certificate_that_was_refused_for_its_date_is_taken_once_it_is_valid(
    folder: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(folder, monkeypatch) as held:
        put(folder, issue(pki.ca, "later", ["localhost"], Usage.SERVER, start=IN_A_WHILE))
        await until(lambda: bool(errors(caplog)))
        monkeypatch.setattr(module, "_now", lambda: IN_A_WHILE)
        await until(lambda: "CN=later" in names(held))
        assert len(errors(caplog)) == 1


async def test_what_is_no_worse_than_the_old_one_is_taken(
    folder: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, issue(pki.ca, "old", ["localhost"], Usage.SERVER, start=LONG_AGO, days=10))
    async with watched(folder, monkeypatch) as held:
        put(folder, issue(pki.ca, "a client's", ["localhost"], Usage.CLIENT))
        await until(lambda: "CN=a client's" in names(held))


def test_a_server_on_the_side_of_members_need_be_no_client_where_none_is_asked_for(folder: Path, pki: Pki) -> None:
    where = replace(settings(folder), trusted_ca_file=None, crl_file=None)
    assert not where.asks_for_certificates
    assert Credentials("peer", where, POLICY).flaw(datetime.now(UTC)) == ""


async def test_a_key_that_does_not_belong_to_the_certificate(
    folder: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(folder, monkeypatch) as held:
        before = held.material
        (folder / "key").write_bytes(issue(pki.ca, "another", [], Usage.SERVER).key_pem)
        await until(lambda: bool(errors(caplog)))
        assert errors(caplog)[0].endswith("the key does not belong to the certificate")
        assert held.material is before


async def test_a_replacement_in_two_steps_is_not_taken_for_a_broken_one(
    folder: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The certificate is new and the key still the old one when a look is taken; the next look finds both."""
    issued = issue(pki.ca, "second", [], Usage.SERVER)
    held = Credentials("client", settings(folder), POLICY)
    (folder / "crt").write_bytes(issued.certificate_pem)
    held._seen, loaded = held._look()
    assert loaded is None
    (folder / "key").write_bytes(issued.key_pem)
    held._seen, loaded = held._look()
    assert loaded is None
    held._seen, loaded = held._look()
    assert loaded is not None
    assert not isinstance(loaded, TlsError)


def test_a_key_with_a_password_is_refused_without_a_question(folder: Path, pki: Pki) -> None:
    secret = BestAvailableEncryption(b"secret")
    key = issue(pki.ca, "x", [], Usage.SERVER).key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    (folder / "key").write_bytes(key)
    with pytest.raises(TlsError, match="key is encrypted"):
        Credentials("client", settings(folder), POLICY)


def test_a_list_with_the_signature_of_another_is_refused(folder: Path, pki: Pki) -> None:
    """Of the same name, or it would be somebody else's list, which does no harm."""
    forger = Issued(pki.ca.certificate, pki.stranger.key)
    (folder / "crl").write_bytes(revocation_list(forger, [1]))
    with pytest.raises(TlsError, match="has not that authority's signature"):
        Credentials("client", settings(folder), POLICY)


def test_a_list_by_an_older_authority_of_the_same_name_does_no_harm(folder: Path, pki: Pki) -> None:
    """It is still there while authorities are rolled."""
    newer = authority("the authority")
    assert newer.certificate.subject == pki.ca.certificate.subject
    put(folder, issue(newer, "first", [], Usage.SERVER))
    (folder / "ca.crt").write_bytes(newer.certificate_pem)
    (folder / "crl").write_bytes(revocation_list(pki.ca, [1]) + revocation_list(newer, [2]))
    listed = Credentials("client", settings(folder), POLICY).material.revoked
    assert {serial for _, serial in listed} == {1, 2}


def test_several_lists_in_one_file_and_one_in_der(folder: Path, pki: Pki) -> None:
    both = revocation_list(pki.ca, [1, 2]) + revocation_list(pki.stranger, [3])
    (folder / "crl").write_bytes(both)
    listed = Credentials("client", settings(folder), POLICY).material.revoked
    assert {serial for _, serial in listed} == {1, 2, 3}


def test_no_cipher_suite_that_openssl_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.tls.material.openssl_names", lambda suites: "NONE-SUCH")
    with pytest.raises(TlsError, match="OpenSSL has none of the cipher suites A,B"):
        Credentials("client", settings(folder), Policy(("A", "B"), "TLS1.2"))


def test_what_ends_soon_is_told_at_30_and_at_7_days(folder: Path, pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    put(folder, issue(pki.ca, "soon", [], Usage.SERVER, days=40))
    held = Credentials("client", settings(folder), POLICY)
    now = datetime.now(UTC)
    told = []
    for day in (0, 9, 11, 20, 32, 34, 39, 41):
        caplog.clear()
        held._warn(now + timedelta(days=day))
        told.append([record.getMessage() for record in caplog.records])
    soon = ["a certificate expires soon"]
    assert told == [[], [], soon, [], [], soon, [], ["a certificate has expired"]]


def test_a_certificate_that_has_expired_is_told_at_the_start(
    folder: Path, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    put(folder, issue(pki.ca, "old", [], Usage.SERVER, start=LONG_AGO, days=10))
    Credentials("client", settings(folder), POLICY)._warn(datetime.now(UTC))
    assert [record.getMessage() for record in caplog.records] == ["a certificate has expired"]


def test_a_self_signed_certificate_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    auto = TlsSettings(auto=True)
    first = open_side("client", auto, POLICY, tmp_path / "tls", iter(["localhost"]))
    again = open_side("client", auto, POLICY, tmp_path / "tls", iter(["localhost"]))
    assert serial(first) == serial(again)
    assert [stat.S_IMODE(path.stat().st_mode) for path in sorted((tmp_path / "tls").iterdir())] == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    made = serial(first)
    (tmp_path / "tls" / "client.key").write_bytes(b"half of one")
    third = open_side("client", auto, POLICY, tmp_path / "tls", iter(["localhost"]))
    assert serial(third) != made


def serial(held: Credentials) -> int:
    assert held.settings.cert_file is not None
    return x509.load_pem_x509_certificate(held.settings.cert_file.read_bytes()).serial_number


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TlsError, match="no self-signed certificate can be made"):
        open_side("client", TlsSettings(auto=True), POLICY, tmp_path / "file" / "tls", iter(["localhost"]))
    assert os.listdir(tmp_path) == ["file"]
