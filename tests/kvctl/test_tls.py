"""Certificates that are right, wrong and missing: the words are etcdctl's where it has some."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kvstore.client import Client, Keys, Tls, Unreachable
from kvstore.client.tls import reason
from tests.kvctl.fake import Fake, answer, node
from tests.kvctl.process import KVCTL, surroundings

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


class Files(NamedTuple):
    ca: str
    cert: str
    key: str
    other_ca: str
    expired: str
    elsewhere: str
    for_servers: str


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def signed(folder: Path, name: str, ca: str, san: str, *dates: str) -> str:
    """A certificate for folder/key.pem, signed by `ca`."""
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={san}\n")
    path = folder / f"{name}.pem"
    openssl("req", "-new", "-key", str(folder / "key.pem"), "-subj", f"/CN={name}", "-out", str(folder / f"{name}.csr"))
    openssl(
        *("x509", "-req", "-in", str(folder / f"{name}.csr"), "-CA", ca, "-CAkey", str(folder / "ca-key.pem")),
        *("-CAcreateserial", "-extfile", str(extensions), "-out", str(path), *dates),
    )
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    ca, other = str(folder / "ca.pem"), str(folder / "other.pem")
    openssl("req", "-x509", *curve, "-subj", "/CN=ca", "-keyout", str(folder / "ca-key.pem"), "-out", ca)
    openssl("req", "-x509", *curve, "-subj", "/CN=other", "-keyout", str(folder / "other-key.pem"), "-out", other)
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(folder / "key.pem"))
    return Files(
        ca,
        signed(folder, "good", ca, "IP:127.0.0.1", "-days", "2"),
        str(folder / "key.pem"),
        other,
        signed(folder, "expired", ca, "IP:127.0.0.1", "-days", "-1"),
        signed(folder, "elsewhere", ca, "DNS:example.com", "-days", "2"),
        signed(folder, "for_servers", ca, "IP:127.0.0.1\nextendedKeyUsage=serverAuth", "-days", "2"),
    )


def server(files: Files, cert: str, *, wants_client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, files.key)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.ca)
    return context


async def ask(program: tuple[str, ...], *arguments: str) -> tuple[int, str, str]:
    child = await asyncio.create_subprocess_exec(
        *program, *arguments, env=surroundings(ETCDCTL_API="2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def both(*arguments: str) -> tuple[int, str, str]:
    """kvctl's outcome, which is etcdctl's as well where that is installed."""
    ours = await ask(KVCTL, *arguments)
    if shutil.which("etcdctl"):
        assert ours == await ask(("etcdctl",), *arguments)
    return ours


def failed(why: str) -> tuple[int, str, str]:
    text = f"error #0: {why}\n\n"
    return 4, "", f"Error:  client: etcd cluster is unavailable or misconfigured; {text}{text}"


GOOD = answer(200, node("1"))


async def test_the_right_authority(files: Files) -> None:
    async with Fake(GOOD).serving(server(files, files.cert)) as fake:
        get = ("--no-sync", "--endpoints", fake.url, "get", "/a")
        assert await both("--ca-file", files.ca, *get) == (0, "1\n", "")
        unknown = "x509: certificate signed by unknown authority"
        assert (await ask(KVCTL, *get)) == failed(unknown)
        assert (await ask(KVCTL, "--ca-file", files.other_ca, *get)) == failed(unknown)


async def test_a_server_that_is_not_trusted_hears_why(files: Files) -> None:
    """So that its log has a line."""

    def shake_hands(listener: socket.socket) -> str:
        accepted, _ = listener.accept()
        accepted.settimeout(30)
        with accepted, pytest.raises(ssl.SSLError) as caught:
            server(files, files.cert).wrap_socket(accepted, server_side=True)
        return str(caught.value.reason)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        heard = asyncio.create_task(asyncio.to_thread(shake_hands, listener))
        async with Client([f"https://127.0.0.1:{listener.getsockname()[1]}"], tls=Tls(files.other_ca)) as client:
            with pytest.raises(Unreachable, match="x509: certificate signed by unknown authority"):
                await Keys(client).get("/a")
        assert await heard == "TLSV1_ALERT_UNKNOWN_CA"


async def test_a_certificate_of_our_own(files: Files) -> None:
    async with Fake(GOOD).serving(server(files, files.cert, wants_client=True)) as fake:
        own = ("--ca-file", files.ca, "--cert-file", files.cert, "--key-file", files.key)
        assert await both(*own, "--no-sync", "--endpoints", fake.url, "get", "/a") == (0, "1\n", "")


@contextlib.asynccontextmanager
async def strict(files: Files) -> AsyncIterator[str]:
    """A server that wants a good certificate. openssl tells the client why; asyncio just closes."""
    command = (
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-www",
        "-Verify",
        "1",
        "-verify_return_error",
        "-CAfile",
        files.ca,
    )
    child = await asyncio.create_subprocess_exec(
        *("openssl", *command, "-cert", files.cert, "-key", files.key),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(30):
            while not (line := await child.stdout.readline()).startswith(b"ACCEPT"):
                assert line
        yield f"https://{line.decode().split()[1]}"
    finally:
        child.kill()
        await child.wait()


async def test_without_the_certificate_that_the_server_wants(files: Files) -> None:
    async with strict(files) as url:
        start = ("--ca-file", files.ca, "--endpoints", url)
        why = "remote error: tls: certificate required"
        assert await both(*start, "get", "/a") == failed(why)
        assert await both(*start, "--no-sync", "get", "/a") == failed(why)
        assert await both(*start, "--no-sync", "rm", "/a") == (4, "", f"Error:  {why}\n")  # certainly not done


async def test_with_a_certificate_that_the_server_refuses(files: Files) -> None:
    async with strict(files) as url:
        for cert, words in (
            (files.for_servers, "unsupported certificate"),
            (files.expired, "expired certificate"),
        ):
            own = ("--ca-file", files.ca, "--cert-file", cert, "--key-file", files.key)
            assert await both(*own, "--no-sync", "--endpoints", url, "get", "/a") == failed(
                f"remote error: tls: {words}"
            )


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "revoked certificate"),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "unknown certificate"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "protocol version not supported"),
        ("TLSV1_ALERT_UNKNOWN_CA", "unknown certificate authority"),
    ],
)
def test_the_alert_of_another_server_is_told_in_gos_words(alert: str, words: str) -> None:
    problem = ssl.SSLError(1, alert)
    problem.reason = alert
    assert reason(problem, "host") == f"remote error: tls: {words}"


async def test_a_certificate_that_is_no_good(files: Files) -> None:
    for cert, words in (
        (files.expired, "has expired or is not yet valid"),
        (files.elsewhere, "is not valid for 127.0.0.1"),
    ):
        async with Fake(GOOD).serving(server(files, cert)) as fake:
            status, _, err = await ask(KVCTL, "--no-sync", "--ca-file", files.ca, "--endpoints", fake.url, "get", "/a")
        assert (status, f"error #0: x509: certificate {words}\n" in err) == (4, True)


async def test_tls_with_one_side_alone(files: Files) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as plain:
        secure = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}"
        assert await both("--no-sync", "--ca-file", files.ca, "--endpoints", secure, "get", "/a") == failed(
            "tls: first record does not look like a TLS handshake"
        )


@pytest.mark.parametrize("kind", ["ca", "cert", "key"])
async def test_files_that_hold_something_else(kind: str, files: Files, tmp_path: Path) -> None:
    """etcdctl passes a CA file without certificates over in silence; here it is named."""
    other = tmp_path / "other"
    other.write_text("nothing")
    given = {"ca": files.ca, "cert": files.cert, "key": files.key, kind: str(other)}
    flags = [word for name, path in given.items() for word in (f"--{name}-file", path)]
    status, out, err = await ask(KVCTL, *flags, "--endpoints", "https://127.0.0.1:1", "get", "/a")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert str(other) in err


async def test_files_that_cannot_be_read(files: Files, tmp_path: Path) -> None:
    assert await both("--ca-file", str(tmp_path), "get", "/a") == (1, "", f"read {tmp_path}: is a directory\n")
    none = str(tmp_path / "none")
    words = f"open {none}: no such file or directory\n"
    assert await both("--cert-file", none, "--key-file", files.key, "get", "/a") == (1, "", words)
