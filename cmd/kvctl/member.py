"""`member list|add|remove|update`."""

from __future__ import annotations

from kvctl.command import Command, Context, Failure, Subcommand
from kvctl.printing import go_quoted
from kvstore.client import ClientError
from kvstore.client.endpoint import parse
from kvstore.client.members import Members


async def _list(context: Context) -> None:
    if context.words:
        raise Failure("No arguments accepted")
    async with await context.connect() as client:
        members = Members(client)
        try:
            everybody = await members.all()
        except ClientError as error:
            raise Failure(str(error)) from None
        try:
            leader = await members.leader()
        except ClientError as error:
            raise Failure(f"Failed to get leader:  {error}") from None
    for member in everybody:
        peers = ",".join(member.peer_urls)
        if not member.name:
            context.say(f"{member.id}[unstarted]: peerURLs={peers}")
            continue
        leads = "true" if member.id == leader.id else "false"
        clients = ",".join(member.client_urls)
        context.say(f"{member.id}: name={member.name} peerURLs={peers} clientURLs={clients} isLeader={leads}")


async def _add(context: Context) -> None:
    if len(context.words) != 2:
        raise Failure("Provide a name and a single member peerURL")
    name, url = context.words
    async with await context.connect() as client:
        members = Members(client)
        try:
            added = await members.add(*_peer_urls([url]))
            context.say(f"Added member named {name} with ID {added.id} to cluster")
            everybody = await members.all()
        except ClientError as error:
            raise Failure(str(error)) from None
    cluster = ",".join(
        f"{name if member.id == added.id else member.name}={peer}" for member in everybody for peer in member.peer_urls
    )
    context.say(f"\nETCD_NAME={_quoted(name)}\nETCD_INITIAL_CLUSTER={_quoted(cluster)}")
    context.say('ETCD_INITIAL_CLUSTER_STATE="existing"')


async def _remove(context: Context) -> None:
    if len(context.words) != 1:
        raise Failure("Provide a single member ID")
    (wanted,) = context.words
    async with await context.connect() as client:
        members = Members(client)
        try:
            everybody = await members.all()
        except ClientError as error:
            raise Failure(f"Error while verifying ID against known members: {error}") from None
        for member in everybody:
            if member.name == wanted:
                context.complain(
                    f"Found a member named {member.name}; if this is correct, please use its ID, eg:\n"
                    f"\tkvctl member remove {member.id}\n"
                    "For more details, read the documentation at https://github.com/etcd-io/etcd/blob/master/"
                    "Documentation/runtime-configuration.md#remove-a-member\n"
                )
        if all(member.id != wanted for member in everybody):
            raise Failure(f"Couldn't find a member in the cluster with an ID of {wanted}.")
        try:
            await members.remove(wanted)
        except ClientError as error:
            text = f"Received an error trying to remove member {wanted}: {error}"
            raise Failure(text, end="") from None  # etcdctl forgot it
    context.say(f"Removed member {wanted} from cluster")


async def _update(context: Context) -> None:
    if len(context.words) != 2:
        raise Failure(
            "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)"
        )
    member, urls = context.words
    async with await context.connect() as client:
        try:
            await Members(client).update(member, _peer_urls(urls.split(",")))
        except ClientError as error:
            raise Failure(str(error)) from None
    context.say(f"Updated member with ID {member} in cluster")


def _peer_urls(urls: list[str]) -> list[str]:
    """In order, as etcdctl sends them. Raises Failure with its words for a URL that no member can have."""
    for url in urls:
        scheme, colon, rest = url.strip().partition("://")
        if not colon or scheme not in ("http", "https", "unix", "unixs"):
            raise Failure(f"URL scheme must be http, https, unix, or unixs: {url.strip()}")
        authority, slash, path = rest.partition("/")
        parse(url.strip())
        if not authority.rpartition(":")[1] or authority.endswith("]"):
            raise Failure(f'URL address does not have the form "host:port": {url.strip()}')
        if slash + path:
            raise Failure(f"URL must not contain a path: {url.strip()}")
    return sorted(url.strip() for url in urls)


def _quoted(text: str) -> str:
    return go_quoted(text.encode(errors="surrogateescape"))


MEMBER = Command(
    example="kvctl member list",
    subcommands=(
        Subcommand(
            "list", "enumerate existing cluster members", Command(_list, usage=" ", example="kvctl member list")
        ),
        Subcommand(
            "add",
            "add a new member to the etcd cluster",
            Command(_add, usage="<name> <peerURL>", example="kvctl member add n4 http://10.0.0.4:2380"),
        ),
        Subcommand(
            "remove",
            "remove an existing member from the etcd cluster",
            Command(_remove, usage="<memberID>", example="kvctl member remove 8e9e05c52164694d"),
        ),
        Subcommand(
            "update",
            "update an existing member in the etcd cluster",
            Command(
                _update,
                usage="<memberID> <peerURLs>",
                example="kvctl member update 8e9e05c52164694d http://10.0.0.9:2380",
            ),
        ),
    ),
)
