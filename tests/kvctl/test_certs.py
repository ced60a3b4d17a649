"""`kvctl certs`: what it makes, that nothing is overwritten, and that OpenSSL finds all of it good."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kvctl.main import main
from kvstore.certificates import Issued, Usage, common_name, hosts_of, issued_by, load, usage_of
from tests.kvctl.process import says


class Certs:
    """`kvctl certs` on one folder, in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, command: str, *words: str, status: int = 0) -> str:
        """What it says, on either stream."""
        interrupt = signal.getsignal(signal.SIGINT)
        assert main(["certs", command, "--dir", str(self.folder), *words]) == status
        signal.signal(signal.SIGINT, interrupt)
        out, err = self._capsys.readouterr()
        assert (out == "") == bool(status)
        return str(out + err)

    def read(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / f"{name}.crt").read_bytes())


@pytest.fixture
def certs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Certs:
    made = Certs(tmp_path / "certs", capsys)
    made("init")
    return made


def test_what_is_made_is_for_its_owner_alone(certs: Certs) -> None:
    certs("server")
    certs("client", "alice")
    files = sorted(certs.folder.iterdir())
    names = ["ca.crl", "ca.crt", "ca.key", "client-alice.crt", "client-alice.key"]
    names += ["peer-ca.crl", "peer-ca.crt", "peer-ca.key", "server.crt", "server.key"]
    assert [path.name for path in files] == names
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(certs.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("command", "file", "name", "usage", "hosts"),
    [
        (("server",), "server", "server", Usage.SERVER, None),
        (
            ("server", "--name", "n1", "10.0.0.1", "a.example"),
            "server-n1",
            "n1",
            Usage.SERVER,
            ["a.example", "10.0.0.1"],
        ),
        (("peer",), "peer", "peer", Usage.PEER, None),
        (("peer", "--name=n1", "::1"), "peer-n1", "n1", Usage.PEER, ["::1"]),
        (("client", "alice"), "client-alice", "alice", Usage.CLIENT, []),
    ],
)
def test_names_hosts_and_usages(
    certs: Certs, command: tuple[str, ...], file: str, name: str, usage: Usage, hosts: list[str] | None
) -> None:
    said = certs(*command)
    made = certs.read(file)
    everywhere = ["localhost", socket.gethostname(), "127.0.0.1", "::1"]
    assert (common_name(made), usage_of(made)) == (name, usage)
    assert hosts_of(made) == (list(dict.fromkeys(everywhere)) if hosts is None else hosts)
    assert f"use={usage.name.lower()} name={name} hosts={','.join(hosts_of(made)) or '-'} ends=" in said
    assert certs("show").count("\n") == 5  # it, the authorities, and their lists
    issuer = certs.read("peer-ca" if usage is Usage.PEER else "ca")
    assert issued_by(made, issuer)
    assert common_name(issuer) == ("kvstored authority for peers" if usage is Usage.PEER else "kvstored authority")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_finds_them_good(certs: Certs) -> None:
    certs("server")
    certs("client", "alice")
    for file, purpose in (("server", "sslserver"), ("client-alice", "sslclient")):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(certs.folder / "ca.crt")]
        done = subprocess.run(
            [*command, str(certs.folder / f"{file}.crt")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_nothing_is_overwritten_unless_told(certs: Certs) -> None:
    certs("client", "alice")
    for command, file in ((("init",), "ca"), (("client", "alice"), "client-alice"), (("peer",), "peer")):
        if file == "peer":
            certs(*command)
        before = certs.read(file)
        path = certs.folder / f"{file}.crt"
        assert certs(*command, status=1) == f"Error:  {path} exists; --force overwrites it\n"
        assert certs.read(file) == before
        certs(command[0], "--force", *command[1:])
        assert certs.read(file) != before


def test_renewed_are_those_that_are_named_or_about_to_end(certs: Certs) -> None:
    certs("server", "--name", "n1", "--days", "10", "10.0.0.1")
    certs("client", "alice")
    soon, later = certs.read("server-n1"), certs.read("client-alice")
    assert "server-n1.crt" in certs("renew")
    renewed = certs.read("server-n1")
    assert (common_name(renewed), hosts_of(renewed), usage_of(renewed)) == ("n1", ["10.0.0.1"], Usage.SERVER)
    assert renewed.public_key() != soon.public_key()
    assert renewed.not_valid_after_utc - soon.not_valid_after_utc < timedelta(days=1)  # for as long as before
    assert certs.read("client-alice") == later
    certs("renew", "--days", "90", "server-n1")
    assert certs.read("server-n1").not_valid_after_utc - datetime.now(UTC) > timedelta(days=89)
    assert certs("renew") == "none ends within 30 days\n"
    assert "ca.crt is no certificate of a server, client or peer" in certs("renew", "ca", status=1)


def test_revoked_ones_are_refused_by_their_list(certs: Certs) -> None:
    certs("client", "alice")
    certs("client", "bob")
    certs("revoke", "client-alice")
    certs("revoke", "client-bob")
    listed = x509.load_pem_x509_crl((certs.folder / "ca.crl").read_bytes())
    serials = {certs.read(f"client-{name}").serial_number for name in ("alice", "bob")}
    assert {one.serial_number for one in listed} == serials
    public = certs.read("ca").public_key()
    assert listed.is_signature_valid(public)  # type: ignore[arg-type]


def test_each_authority_lists_those_that_it_issued(certs: Certs) -> None:
    certs("client", "alice")
    certs("peer")
    said = certs("revoke", "peer", "client-alice")
    assert "peer-ca.crl: 1 revoked (--peer-crl-file)" in said
    assert "/ca.crl: 1 revoked (--client-crl-file)" in said
    for file, revoked in (("ca", "client-alice"), ("peer-ca", "peer")):
        listed = x509.load_pem_x509_crl((certs.folder / f"{file}.crl").read_bytes())
        assert [one.serial_number for one in listed] == [certs.read(revoked).serial_number]
        assert listed.is_signature_valid(certs.read(file).public_key())  # type: ignore[arg-type]
    assert certs("show").count("revoked=yes") == 2
    certs("renew", "peer", "client-alice")
    assert issued_by(certs.read("peer"), certs.read("peer-ca"))
    assert issued_by(certs.read("client-alice"), certs.read("ca"))
    assert "revoked=yes" not in certs("show")


def test_a_folder_with_one_authority_goes_on(certs: Certs) -> None:
    """As the release before made it: `ca` issues, renews and revokes everything."""
    for path in certs.folder.glob("peer-ca.*"):
        path.unlink()
    certs("peer", "--days", "10")
    assert issued_by(certs.read("peer"), certs.read("ca"))
    assert "peer.crt" in certs("renew")
    assert "ca.crl: 1 revoked (--client-crl-file, --peer-crl-file)" in certs("revoke", "peer")
    assert certs("show").count("\n") == 3
    assert certs("init", status=1) == f"Error:  {certs.folder}/ca.crt exists; --force overwrites it\n"
    assert not (certs.folder / "peer-ca.crt").exists()


def test_a_certificate_of_another_authority_is_renewed_by_ours_and_not_revoked(certs: Certs) -> None:
    certs("peer")
    certs("client", "alice")
    certs("init", "--force")
    assert "client-alice.crt was issued by no authority in" in certs("revoke", "client-alice", status=1)
    certs("renew", "peer", "client-alice")
    assert issued_by(certs.read("peer"), certs.read("peer-ca"))
    assert issued_by(certs.read("client-alice"), certs.read("ca"))


def test_a_long_name_is_cut_for_the_second_authority(certs: Certs) -> None:
    certs("init", "--force", "--name", "x" * 64)
    assert common_name(certs.read("ca")) == "x" * 64
    assert common_name(certs.read("peer-ca")) == "x" * 54 + " for peers"


def test_the_authority_itself_is_not_revoked(certs: Certs) -> None:
    """Or nobody would be let in any more."""
    before = (certs.folder / "ca.crl").read_bytes()
    shutil.copy(certs.folder / "ca.crt", certs.folder / "copy.crt")
    for name in ("ca", "ca.crt", "copy", "peer-ca"):
        assert "is the authority's own" in certs("revoke", name, status=1)
    assert (certs.folder / "ca.crl").read_bytes() == before


def test_what_is_revoked_is_shown(certs: Certs) -> None:
    certs("client", "alice")
    certs("client", "bob")
    assert "revoked=" in certs("show", str(certs.folder / "ca.crl"))
    assert "revoked=yes" not in certs("show")
    certs("revoke", "client-alice")
    authority, listed, _, none, alice, bob = certs("show").splitlines()
    serial = f"{certs.read('client-alice').serial_number:x}"
    assert " use=list name=kvstored authority ends=" in listed
    assert listed.endswith(f" revoked={serial}")
    assert alice.endswith(f" serial={serial} revoked=yes")
    assert none.endswith(" revoked=-")
    assert "revoked=" not in bob
    assert "revoked=" not in authority


def test_all_that_can_be_read_is_shown(certs: Certs, capsys: pytest.CaptureFixture[str]) -> None:
    certs("client", "alice")
    (certs.folder / "a.crt").write_text("nonsense")
    (certs.folder / "ca.crl").write_text("nonsense")
    interrupt = signal.getsignal(signal.SIGINT)
    assert main(["certs", "show", "--dir", str(certs.folder)]) == 1
    signal.signal(signal.SIGINT, interrupt)
    out, err = capsys.readouterr()
    assert [line.partition(": ")[0] for line in out.splitlines()] == [
        str(certs.folder / name) for name in ("ca.crt", "peer-ca.crt", "peer-ca.crl", "client-alice.crt")
    ]
    assert err.splitlines() == [
        f"Error:  {certs.folder}/ca.crl holds no list of revoked certificates that can be read (PEM or DER)",
        f"Error:  {certs.folder}/a.crt holds no certificate that can be read (PEM)",
    ]


def test_every_certificate_and_list_of_a_file_is_shown(certs: Certs) -> None:
    both = certs.folder / "both.crt"
    both.write_bytes((certs.folder / "ca.crt").read_bytes() * 2)
    assert certs("show", str(both)).count("use=authority") == 2
    lists = both.with_suffix(".crl")
    lists.write_bytes((certs.folder / "ca.crl").read_bytes() * 2)
    assert certs("show", str(lists)).count("use=list") == 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("server", "a b"), "'a b' is neither a host name nor an address"),
        (("server", "--name", "n9", "999.1.1.1"), "'999.1.1.1' is neither a host name nor an address"),
        (("server", "10.0.0.1:2379"), "'10.0.0.1:2379' is neither a host name nor an address"),
        (("server", "--name", "../x"), "'../x' cannot be the name of a file"),
        (("client",), "provide the name of one user"),
        (("client", "a", "b"), "provide the name of one user"),
        (("client", "x" * 65), "a name has 1 to 64 characters"),
        (("peer", "--name", "ca"), "peer-ca.crt is an authority's; choose another name"),
        (("peer", "--name", "ca", "--force"), "peer-ca.crt is an authority's; choose another name"),
        (("renew", "peer-ca"), "peer-ca.crt is no certificate of a server, client or peer"),
        (("client", "--days", "0", "a"), "--days must be at least 1"),
        (("client", "--days", "99999999999", "a"), "99999999999 days are too many"),
        (("init", "x"), "no arguments accepted"),
        (("renew", "none"), "none.crt: No such file or directory"),
        (("revoke",), "provide the names of certificates"),
        (("revoke", "none"), "none.crt: No such file or directory"),
        (("show", "/dev/null"), "/dev/null holds no certificate that can be read (PEM)"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(certs: Certs, command: tuple[str, ...], message: str) -> None:
    said = certs(*command, status=1)
    assert message in said
    assert said.startswith("Error:  ")
    assert said.count("\n") == 1


def test_without_an_authority_it_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = Certs(tmp_path, capsys)("server", status=1)
    assert said == f"Error:  there is no {tmp_path}/ca.crt; make it by: kvctl certs init\n"


def test_a_damaged_authority_is_told(certs: Certs) -> None:
    (certs.folder / "ca.key").write_text("nonsense")
    files = f"{certs.folder}/ca.crt and {certs.folder}/ca.key"
    assert certs("server", status=1) == f"Error:  {files}: the key cannot be read (PEM, without a password)\n"
    (certs.folder / "ca.key").unlink()
    assert "ca.key: No such file or directory" in certs("server", status=1)
    certs("init", "--force")
    (certs.folder / "ca.crt").write_text("nonsense")
    assert certs("server", status=1) == f"Error:  {files}: the certificate cannot be read (PEM)\n"


def test_an_authority_made_by_others_needs_no_identifier(certs: Certs) -> None:
    held = load((certs.folder / "ca.crt").read_bytes(), (certs.folder / "ca.key").read_bytes())
    plain = x509.CertificateBuilder(
        held.certificate.subject,
        held.certificate.subject,
        held.key.public_key(),
        1,
        held.certificate.not_valid_before_utc,
        held.certificate.not_valid_after_utc,
    )
    (certs.folder / "ca.crt").write_bytes(Issued(plain.sign(held.key, hashes.SHA256()), held.key).certificate_pem)
    certs("client", "alice")
    certs("revoke", "client-alice")


def test_the_command_itself(tmp_path: Path) -> None:
    said = says("certs", "init", "--dir", str(tmp_path / "certs"))
    assert said.startswith(f"{tmp_path}/certs/ca.crt: trust this one")
    context = ssl.create_default_context(cafile=tmp_path / "certs" / "ca.crt")
    assert len(context.get_ca_certs()) == 1
