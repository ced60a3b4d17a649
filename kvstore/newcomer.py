"""A member that founded a cluster of its own by mistake, where one runs already: `existing` was forgotten.

Its peers are of another cluster, so it can never have a leader, and its folder is good for nothing. Recognised by what
its own log shows and by the word of so many peers that the others are no majority with it: no single one can stop a
member that could still come to something. Knows no sockets and no disk.
"""

from __future__ import annotations

from collections.abc import Collection

from kvstore import logs

log = logs.get("server")


class Newcomer:
    """Judges the word of peers that belong to another cluster, while the log holds nothing but its beginning."""

    def __init__(self, member: int, folder: str) -> None:
        self._member = member
        self._folder = folder

    def refused(self, peer: int, voters: Collection[int], is_untouched: bool, foreign: Collection[int]) -> str:
        """`peer` says that it is of another cluster. Return why this member must stop, or nothing.

        `foreign` are the peers whose latest answer to our hello was the same; a later welcome takes a peer out.
        `voters` are the voters of our own configuration. `is_untouched`: our log holds only the first start's record of
        `--initial-cluster`, and no leader was ever heard.
        """
        if not is_untouched or peer not in voters or self._member not in voters:
            return ""
        if len(set(voters) - set(foreign)) > len(voters) // 2:
            log.error(
                "a member of another cluster is at a URL of --initial-cluster; if that is a wrong URL, correct it; if"
                " this member was to join the cluster that runs there, delete this folder, which never held anything,"
                " and use --initial-cluster-state existing",
                member=f"{peer:x}",
                folder=self._folder,
            )
            return ""
        return (
            "a cluster runs already at the URLs of --initial-cluster, and this member has founded one of its own;"
            f" delete {self._folder}, which never held anything of the running cluster, add the member there"
            " (POST /v2/members), and start it with --initial-cluster-state existing"
        )
