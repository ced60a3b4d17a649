"""`semaphore` with real commands and members: never more than the limit, across a killed leader."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.cluster import Cluster
from tests.kvctl.containers.running import end, here, line, nobody, read, run, says, started, until, without_leader


def test_at_most_so_many_across_a_killed_leader(cluster: Cluster, url: str, tmp_path: Path) -> None:
    inside, log = tmp_path / "inside", tmp_path / "log"
    inside.mkdir()
    script = f"touch {inside}/$$; ls {inside} | wc -l >> {log}; sleep 0.3; rm {inside}/$$"
    command = ("semaphore", "fleet", "--limit", "2", "--ttl", "6", "--", "sh", "-c", script)
    with ExitStack() as stack:
        machines = [stack.enter_context(started(*command, url=url)) for _ in range(6)]
        until(lambda: "2" in read(log), "two are in")
        with without_leader(cluster):
            assert [end(process)[0] for process in machines] == [0] * 6
    assert max(map(int, read(log).split())) == 2
    assert len(read(log).split()) == 6
    assert says("ls", "/semaphores/fleet", url=url) == ""


def test_another_limit_is_an_error(url: str) -> None:
    script = "echo $KVCTL_SEMAPHORE_LIMIT; exec sleep 60"
    with started("semaphore", "pair", "--limit", "2", "--", "sh", "-c", script, url=url) as process:
        assert line(process) == "2"
        done = run("semaphore", "pair", "--limit", "3", "--", "echo", "never", url=url)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1)
        assert "goes by another limit for /semaphores/pair: 2, not 3" in done.stderr
        assert says("ls", "/semaphores/pair", url=url).count("\n") == 1
        process.terminate()
        assert end(process)[0] == 143


def test_a_place_that_was_taken_away_ends_the_command(url: str) -> None:
    script = "echo $KVCTL_SEMAPHORE_KEY; exec sleep 60"
    with started("semaphore", "gone", "--limit", "2", "--ttl", "2", "--", "sh", "-c", script, url=url) as process:
        says("rm", line(process), url=url)
        status, said = end(process)
    assert (status, said.count("\n")) == (123, 1)
    assert said.startswith("kvctl: the semaphore gone is lost, and the command is ended: ")


def test_wrong_arguments(url: str, tmp_path: Path) -> None:
    done = here("semaphore", "a", "--", "true", url=url)
    assert (done.returncode, done.stderr) == (125, "kvctl: --limit is needed: how many may go at once, 1 or more\n")
    with nobody() as off:
        done = here("semaphore", "a", "--limit", "1", "--cache", str(tmp_path / "cache"), "--", "true", url=off)
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    assert done.stderr.endswith("; the semaphore a is never taken from a cache\n")
