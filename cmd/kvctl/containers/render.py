"""`render`: templates filled with keys, once or whenever a key that they read changes."""

from __future__ import annotations

from kvctl.command import BAD_ARGUMENTS, Command, Context, Failure
from kvctl.containers.child import until_signalled
from kvctl.containers.destination import MAX_COMMAND_SECONDS, NotPlaced, place
from kvctl.containers.resource import Resource, resources
from kvctl.containers.shell import run
from kvctl.containers.source import Source, Subject
from kvctl.containers.template import NotRead, Template, TemplateError
from kvctl.containers.tree import clean
from kvctl.containers.words import CACHE, PATIENCE, warn
from kvctl.flags import SECONDS, TEXT, Flag

PAUSE_SECONDS = 0.5


class _Target:
    """One template and its file."""

    def __init__(self, context: Context, source: Source, resource: Resource) -> None:
        self.used: frozenset[Subject] = frozenset()
        self._context = context
        self._source = source
        self._resource = resource
        self._template = Template(resource.src, resource.prefix, context.environment)
        self._reload_is_due = False

    @property
    def subjects(self) -> list[Subject]:
        """Read in one go, rather than one by one as the template meets them."""
        return [Subject(clean(f"{self._resource.prefix}/{key}"), "all") for key in self._resource.keys]

    async def renew(self) -> bool:
        """Whether the file now is what it should be, and what depends on it knows. Raises Failure, ClientError."""
        try:
            text = await self._fill()
            if await place(self._resource, text.encode("utf-8", "surrogateescape")):
                self._reload_is_due = True
        except (TemplateError, NotPlaced) as error:
            warn(self._context, str(error))
            return False
        reload = self._resource.reload if self._reload_is_due else ""
        if reload and (failed := await run(reload, MAX_COMMAND_SECONDS, is_shown=True)):
            warn(self._context, f"{self._resource.dest} is new, but its reload failed: {failed}")
            return False
        self._reload_is_due = False
        return True

    async def _fill(self) -> str:
        while True:
            try:
                text, self.used = self._template.fill(self._source.answers)
            except NotRead as need:
                self.used |= {need.subject}
                await self._source.load([need.subject], self._context.flags.seconds("wait"))
            else:
                return text


async def _render(context: Context) -> int:
    if context.command_line:
        raise Failure("render runs no command; a RELOAD is part of SRC:DEST:RELOAD")
    if context.flags.switch("once") and context.flags.switch("watch"):
        raise Failure("--once and --watch exclude each other")
    found = resources(context)
    return await until_signalled(_work(context, found))


async def _work(context: Context, found: list[Resource]) -> int:
    async with await Source.open(context) as source:
        targets = [_Target(context, source, resource) for resource in found]
        await source.load((subject for target in targets for subject in target.subjects), context.flags.seconds("wait"))
        good = [await target.renew() for target in targets]
        source.save()
        if context.flags.switch("watch"):
            async for changed in source.changes(max(context.flags.seconds("debounce"), 0.0)):
                for target in targets:
                    if target.used & changed:
                        await target.renew()
                source.save()
        return 0 if all(good) else BAD_ARGUMENTS


RENDER = Command(
    _render,
    usage="SRC:DEST[:RELOAD]...",
    flags=(
        Flag("once", "fill the templates and end, which is the default; status 1 when one of them failed"),
        Flag("watch, w", "fill them again whenever a key that they read changes"),
        Flag("confdir", "read template resources from here: conf.d/*.toml and templates/, as confd's", TEXT),
        Flag("check", "a command for sh that must accept the new file, which is {{.src}} in it", TEXT),
        Flag("owner", "of the files, as a name or a number (default: as they are)", TEXT),
        Flag("group", "of the files, as a name or a number (default: as they are)", TEXT),
        Flag("mode", "of the files, as 0644 (default: as they are)", TEXT),
        Flag("prefix, p", "goes in front of all keys", TEXT),
        Flag("debounce", "with --watch: go once no change came for so long", SECONDS, PAUSE_SECONDS, "500ms"),
        CACHE,
        PATIENCE,
    ),
    description="""Templates are Jinja2's, with get, gets, ls, lsdir, exists, env and json. RELOAD runs for sh when the
   file has changed. A key that is missing, or a check that fails, leaves the file alone.""",
    example="kvctl render --watch --check 'nginx -t -c {{.src}}' web.conf.j2:/etc/nginx/nginx.conf:'nginx -s reload'",
    is_ours=True,
)
