"""The cache: whole or not at all, told from anything else, private; and used only when nobody answers."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from kvctl.containers.cache import Cache, CacheError
from tests.cluster import Cluster
from tests.kvctl.containers.running import end, line, nobody, published, run, says, started, until


def test_it_comes_back_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    old_umask = os.umask(0)
    try:
        Cache(str(path)).save({"a": ["ü\0", None]})
    finally:
        os.umask(old_umask)
    assert Cache(str(path)).load() == {"a": ["ü\0", None]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = Cache(str(path))
    cache.save([1])
    before = path.stat().st_ino
    cache.save([1])
    assert path.stat().st_ino == before
    cache.save([2])
    assert path.stat().st_ino != before


def test_every_torn_or_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    Cache(str(path)).save({"answers": [["/a", "all", None]]})
    good = path.read_bytes()
    for place in range(len(good)):
        for bad in (good[:place], good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]):
            path.write_bytes(bad)
            with pytest.raises(CacheError, match=r"damaged|no cache of kvctl's|version"):
                Cache(str(path)).load()


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="none does not exist yet"):
        Cache(str(tmp_path / "none")).load()
    with pytest.raises(CacheError, match="cannot be read: Is a directory"):
        Cache(str(tmp_path)).load()
    with pytest.raises(CacheError, match="cannot be written: No such file or directory"):
        Cache(str(tmp_path / "none" / "cache")).save(1)
    other = tmp_path / "newer"
    other.write_bytes(b"kvctl-cache 2 " + hashlib.sha256(b"1").hexdigest().encode() + b"\n1")
    with pytest.raises(CacheError, match="of a version that is not known here"):
        Cache(str(other)).load()


def test_a_start_without_the_cluster(url: str, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    says("set", "/cached/port", "80", url=url)
    arguments = ("--prefix", "/cached", "--cache", cache)
    assert says("env", *arguments, url=url) == "port=80\n"
    with nobody() as off:
        done = run("env", *arguments, url=off)
        assert (done.returncode, done.stdout) == (0, "port=80\n")
        assert done.stderr.startswith("kvctl: the cluster is out of reach: ")
        assert done.stderr.endswith(f"{cache} is used, the last good answer\n")
        assert done.stderr.count("\n") == 1
        other = run("env", "--prefix", "/other", "--cache", cache, url=off)
        assert (other.returncode, other.stdout) == (2, "")
        assert other.stderr.endswith(f"the cache {cache} does not hold /other\n")
        none = run("exec", *arguments[:2], "--cache", cache + "2", "--", "true", url=off)
        assert (none.returncode, none.stderr.count("\n")) == (125, 1)
        assert none.stderr.endswith("2 does not exist yet\n")
    assert run("env", "--prefix", "/cached", url=off).returncode == 2


def test_an_error_is_no_outage(url: str, tmp_path: Path) -> None:
    """Who is answered with a refusal, or by the wrong certificate, must know."""
    cache = str(tmp_path / "cache")
    assert run("env", "--prefix", "/cached", "--cache", cache, url=url).returncode == 0
    one = url.partition(",")[0].replace("http:", "https:")
    done = run("--no-sync", "env", "--prefix", "/cached", "--cache", cache, url=one)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert "tls: first record does not look like a TLS handshake" in done.stderr


def test_a_command_from_the_cache_follows_the_cluster_once_it_is_there(url: str, tmp_path: Path) -> None:
    """The endpoint comes to life after the start: a proxy would do it, a forwarded port is one."""
    cache = str(tmp_path / "cache")
    says("set", "/late/v", "old", url=url)
    says("env", "--prefix", "/late", "--cache", cache, url=url)
    says("set", "/late/v", "new", url=url)
    with Cluster.of(1, tmp_path / "member") as late:
        published(late)
        says("set", "/late/v", "new", url=late.members[0].client_url)
        late.members[0].kill()
        command = ("--restart", "--debounce", "10ms", "--cache", cache, "--", "sh", "-c", "echo $v; exec sleep 60")
        with started("exec", "--prefix", "/late", *command, url=late.members[0].client_url) as process:
            assert line(process) == "old"
            late.restart("n1")
            assert line(process) == "new"
            process.terminate()
            assert end(process)[0] == 143
        until(lambda: b"new" in Path(cache).read_bytes(), "the cache has the new value")
