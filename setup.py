"""What of kvstore is compiled; all else about the package is in pyproject.toml.

All of it is optional: where there is no C compiler, Python runs the same, slower. docs/adr/0018 and 0023 say why these.
"""

import sys
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

#: Written for the compiler, with another way in Python beside each of them.
NATIVE = [
    "kvstore.native",
    "kvstore.storage.native",
    "kvstore.http.native",
    "kvstore.http.sockets_native",
    "kvstore.http.texts_native",
]

#: Plain Python that each request passes through, compiled from the very source that runs without.
HOT = [
    "kvstore/http/express.py",
    "kvstore/http/lane.py",
    "kvstore/http/v2/watches.py",
    "kvstore/node.py",
    "kvstore/proposals.py",
    "kvstore/compaction.py",
    "kvstore/apply.py",
    "kvstore/disk.py",
    "kvstore/transport.py",
    "kvstore/streams.py",
    "kvstore/raft/core.py",
    "kvstore/raft/state.py",
    "kvstore/raft/log.py",
    "kvstore/raft/progress.py",
    "kvstore/raft/quorum.py",
    "kvstore/raft/proposals.py",
    "kvstore/raft/replication.py",
    "kvstore/raft/following.py",
    "kvstore/raft/reads.py",
    "kvstore/storage/wal.py",
    "kvstore/storage/segment.py",
    "kvstore/store/store.py",
    "kvstore/store/tree.py",
    "kvstore/store/nodes.py",
    "kvstore/store/history.py",
    "kvstore/store/counts.py",
    "kvstore/store/watchers.py",
]

#: Types are `make check`'s to judge; what the package depends on is not there while it is built.
TYPES = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]

#: Commands that build nothing, so that mypyc need not read the sources for them.
METADATA_ONLY = {"egg_info", "dist_info", "sdist"}


class OptionalExtensions(build_ext):
    """Build as many extensions as this machine can.

    mypyc makes one library, and for each module a shim that loads it. If any of them fails, remove them all: a shim
    without its library cannot be imported, and hides the source beside it.

    If no extension could be built, the wheel is pure: `py3-none-any` instead of this Python and this platform.
    setuptools alone would go by the extensions that were asked for.
    """

    def build_extensions(self) -> None:
        super().build_extensions()
        built = [Path(self.get_ext_fullpath(extension.name)) for extension in hot]
        if not all(file.exists() for file in built):
            for file in built:
                file.unlink(missing_ok=True)
        if not any(Path(self.get_ext_fullpath(extension.name)).exists() for extension in self.extensions):
            self.distribution.ext_modules = []
            if wheel := self.distribution.get_command_obj("bdist_wheel", create=False):
                wheel.root_is_pure = True


native = [Extension(name, [name.replace(".", "/") + ".pyx"], extra_compile_args=["-O3"]) for name in NATIVE]
is_build = METADATA_ONLY.isdisjoint(sys.argv)
try:
    hot = mypycify([*TYPES, *HOT], opt_level="3", group_name="kvstore.hot") if is_build else []
except SystemExit:  # mypy, perhaps a later one than ours, has said what it does not like
    hot = []
for extension in hot:  # mypyc has every warning be an error, and each compiler has warnings of its own
    extension.extra_compile_args = [*extension.extra_compile_args, "-Wno-error"]
for extension in native + hot:
    extension.optional = True
setup(ext_modules=native + hot, cmdclass={"build_ext": OptionalExtensions})
