"""`env`: keys as a file of environment variables, and the flags that `exec` shares with it."""

from __future__ import annotations

from kvctl.command import Command, Context, Failure
from kvctl.containers.quoting import FORMATS, lines
from kvctl.containers.source import Source, Subject
from kvctl.containers.tree import clean
from kvctl.containers.variables import Naming, Unfit, Variables, variables
from kvctl.containers.words import CACHE, PATIENCE, PREFIX, warn
from kvctl.flags import TEXT, Flag

NAMING = (
    Flag("upcase", "names in capital letters"),
    Flag("sanitize", "underscores for all in a name that is no letter, digit or underscore"),
)


def subjects(context: Context) -> list[Subject]:
    """One for each --prefix. Raises Failure."""
    prefixes = context.flags.many("prefix")
    if not prefixes:
        raise Failure("--prefix is needed: the directory whose keys become variables")
    return [Subject(clean(prefix), "all") for prefix in prefixes]


def read(context: Context, source: Source) -> Variables:
    """Out of what `source` has loaded. Raises Unfit."""
    naming = Naming(context.flags.switch("upcase"), context.flags.switch("sanitize"))
    prefixes = []
    for subject in subjects(context):
        answer = source.answers[subject]
        if answer is None:
            warn(context, f"{subject.key} does not exist, and gives no variables")
        prefixes.append((subject.key, () if answer is None else tuple(answer.files())))
    found = variables(prefixes, naming)
    for loser, winner in found.hidden:
        warn(context, f"{loser} and {winner} are the same variable; the second one is used")
    return found


async def _env(context: Context) -> None:
    form = context.flags.text("format")
    if form not in FORMATS:
        raise Failure(f"--format must be one of {', '.join(FORMATS)}")
    wanted = subjects(context)
    async with await Source.open(context) as source:
        await source.load(wanted, context.flags.seconds("wait"))
        source.save()
    try:
        found = read(context, source)
        for line in lines(form, found.values, found.keys):
            context.say(line)
    except Unfit as error:
        raise Failure(str(error)) from None


ENV = Command(
    _env,
    usage=" ",
    flags=(
        PREFIX,
        *NAMING,
        Flag(
            "format, f", "dotenv, export (lines for a shell) or systemd (an EnvironmentFile)", TEXT, "dotenv", "dotenv"
        ),
        CACHE,
        PATIENCE,
    ),
    example="kvctl env --prefix /services/web --upcase --sanitize --format systemd > /run/web.env",
    is_ours=True,
)
