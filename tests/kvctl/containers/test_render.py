"""`render` with real files, checks and reloads; and changes, across a killed leader."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.kvctl.containers.running import end, here, nobody, read, run, says, started, until, without_leader


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_filled_checked_placed_and_reloaded(url: str, tmp_path: Path) -> None:
    template, dest, log = tmp_path / "t.j2", tmp_path / "dest", tmp_path / "log"
    says("set", "/r/port", "80", url=url)
    template.write_text('port {{ get("/r/port") }}\n')
    check = f"cat {{{{.src}}}} >> {log}; ls -A {tmp_path} | wc -l >> {log}"
    arguments = ("render", "--check", check, f"{template}:{dest}:echo reloaded: >> {log}")
    assert says(*arguments, url=url) == ""
    assert dest.read_text() == "port 80\n"
    assert mode(dest) == 0o644
    assert read(log) == "port 80\n3\nreloaded:\n"  # the template, the log, and the new file before it was placed
    assert says(*arguments, url=url) == ""
    assert read(log).count("reloaded") == 1  # nothing has changed
    dest.chmod(0o600)
    says("set", "/r/port", "81", url=url)
    assert says(*arguments, url=url) == ""
    assert (dest.read_text(), mode(dest)) == ("port 81\n", 0o600)  # as it was
    assert says(*arguments[:1], "--mode", "0640", f"{template}:{dest}", url=url) == ""
    assert mode(dest) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dest", "log", "t.j2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner(url: str, tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text("x")
    dest = tmp_path / "dest"
    assert says("render", "--owner", "nobody", "--group", "7", f"{tmp_path}/t.j2:{dest}", url=url) == ""
    assert dest.stat().st_gid == 7
    owner = dest.stat().st_uid
    assert owner != 0
    (tmp_path / "t.j2").write_text("y")
    assert says("render", f"{tmp_path}/t.j2:{dest}", url=url) == ""
    assert (dest.stat().st_uid, dest.read_text()) == (owner, "y")  # it stays theirs


def test_a_failed_check_leaves_the_file_alone(url: str, tmp_path: Path) -> None:
    template, dest, log = tmp_path / "t.j2", tmp_path / "dest", tmp_path / "log"
    template.write_text("new")
    dest.write_text("old")
    before = dest.stat().st_ino
    done = run("render", "--check", "grep -q old {{.src}}", f"{template}:{dest}:touch {log}", url=url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"kvctl: {dest} is as it was: the check of the new file failed: exit status 1\n"
    assert (dest.read_text(), dest.stat().st_ino) == ("old", before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dest", "t.j2"]


def test_a_missing_key_is_named_and_other_files_are_filled(url: str, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text('a\n{{ get("/r/none") }}')
    (tmp_path / "good").write_text("good")
    done = run("render", f"{tmp_path}/bad:{tmp_path}/1", f"{tmp_path}/good:{tmp_path}/2", url=url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"kvctl: {tmp_path}/bad:2: the key /r/none does not exist\n"
    assert not (tmp_path / "1").exists()
    assert read(tmp_path / "2") == "good"


def test_a_link_stays_one_and_a_failed_reload_is_said(url: str, tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text("new")
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    done = run("render", f"{tmp_path}/t.j2:{tmp_path}/link:exit 3", url=url)
    assert done.returncode == 1
    assert done.stderr == f"kvctl: {tmp_path}/link is new, but its reload failed: exit status 3\n"
    assert (tmp_path / "link").is_symlink()
    assert read(tmp_path / "real") == "new"


def test_confds_folder(url: str, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    says("set", "/app/db/host", "h", url=url)
    (tmp_path / "templates" / "a.j2").write_text('{{ get("/db/host") }}')
    resource = tmp_path / "conf.d" / "a.toml"
    good = f"""
[template]
src = "a.j2"
dest = "{tmp_path}/dest"
prefix = "/app"
keys = ["/db"]
mode = "0600"
uid = {os.geteuid()}
gid = {os.getegid()}
check_cmd = "test -s {{{{.src}}}}"
reload_cmd = "touch {tmp_path}/reloaded"
"""
    resource.write_text(good)
    assert says("render", "--confdir", str(tmp_path), url=url) == ""
    assert (read(tmp_path / "dest"), mode(tmp_path / "dest")) == ("h", 0o600)
    assert (tmp_path / "reloaded").exists()
    for text, said in [
        ("[template", "Expected ']' at the end of a table declaration"),
        ("x = 1", " has no [template]"),
        (good + "srcs = 1", ": srcs is not known; there are src, dest"),
        (good.replace('"/app"', "1"), ": prefix has a value of the wrong kind: 1"),
        (good.replace('"0600"', '"rw"'), ": 'rw' is no mode, as 0644 is one"),
        (good + 'owner = "no-such-user"', ": there is no user no-such-user"),
        (good.replace('src = "a.j2"', ""), ": src is missing"),
    ]:
        resource.write_text(text)
        done = here("render", "--confdir", str(tmp_path), url=url)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith(f"kvctl: {resource}")
        assert said in done.stderr


def test_changes_across_a_killed_leader(cluster: Cluster, url: str, tmp_path: Path) -> None:
    template, dest, log = tmp_path / "t.j2", tmp_path / "dest", tmp_path / "log"
    template.write_text('{% for p in gets("/w/all") %}{{ p.value }} {% endfor %}{{ get("/w/one", "-") }}')
    other = tmp_path / "other.j2"
    other.write_text('{{ get("/w/other") }}')
    says("set", "/w/all/a", "1", url=url)
    words = (f"{template}:{dest}:echo again >> {log}", f"{other}:{tmp_path}/2:echo other >> {log}")
    with started("render", "--watch", "--debounce", "20ms", *words, url=url) as process:
        until(lambda: read(dest) == "1 -", "it is filled at the start")
        says("set", "/w/one", "x", url=url)
        until(lambda: read(dest) == "1 x", "a key that did not exist counts")
        with without_leader(cluster):
            until(lambda: run("set", "/w/all/b", "2", url=url).returncode == 0, "there is a new leader")
            until(lambda: read(dest) == "1 2 x", "the change arrived")
        says("set", "/w/other", "here", url=url)
        until(lambda: read(tmp_path / "2") == "here", "the other one has its key")
        until(lambda: "other" in read(log), "and was reloaded")
        says("rm", "--recursive", "/w/all", url=url)
        assert process.stderr is not None
        assert process.stderr.readline().decode() == f"kvctl: {other}:1: the key /w/other does not exist\n"
        assert process.stderr.readline().decode() == f"kvctl: {template}:1: the directory /w/all does not exist\n"
        process.terminate()
        assert end(process) == (143, "")
    assert read(dest) == "1 2 x"  # left alone
    assert read(log) == "again\n" * 3 + "other\n"  # each for its own keys


def test_the_cache(url: str, tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text('{{ get("/c/a") }}{{ ls("/c") }}{{ exists("/c/no") }}')
    says("set", "/c/a", "1", url=url)
    arguments = ("render", "--cache", f"{tmp_path}/cache", f"{tmp_path}/t.j2:{tmp_path}/dest")
    says(*arguments, url=url)
    (tmp_path / "dest").unlink()
    with nobody() as off:
        done = run(*arguments, url=off)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert read(tmp_path / "dest") == "1['a']False"


def test_wrong_arguments(url: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("x")
    for arguments, said in [
        ((), "SRC:DEST[:RELOAD] or --confdir is needed"),
        (("a",), "'a' is not SRC:DEST[:RELOAD]"),
        (("--once", "--watch", "a:b"), "--once and --watch exclude each other"),
        (("--mode", "9", "a:b"), "the command line: '9' is no mode, as 0644 is one"),
        (("--confdir", f"{tmp_path}/none"), f"{tmp_path}/none/conf.d cannot be read: No such file or directory"),
        ((f"{tmp_path}/none:b",), f"{tmp_path}/none: No such file or directory"),
        ((f"{tmp_path}/t:{tmp_path}",), f"{tmp_path} is no file"),
        (
            (f"{tmp_path}/t:{tmp_path}/no/dest",),
            f"{tmp_path}/no/dest cannot be replaced and is as it was: No such file or directory",
        ),
    ]:
        done = here("render", *arguments, url=url)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"kvctl: {said}\n")
