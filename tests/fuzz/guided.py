"""`make fuzz-guided`: one target under atheris, which watches which branches an input takes and goes after new ones.

Begins with the target's own seeds and tokens. An input that breaks it is printed and kept in the folder that is named.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kvstore", "aiohttp", "msgpack"]):
    from tests.fuzz.mutate import LONGEST
    from tests.fuzz.run import SECONDS
    from tests.fuzz.targets import TARGETS

MEMORY_MIB = 1024


def main() -> None:
    targets = {target.name: target for target in TARGETS}
    parser = argparse.ArgumentParser(prog="make fuzz-guided ARGS=...", description=__doc__)
    parser.add_argument("target", choices=targets, nargs="?", default="message")
    target = targets[parser.parse_args().target]
    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = ["".join(f"\\x{octet:02x}" for octet in token) for token in target.tokens if len(token) <= 64]
    (folder / "tokens").write_text("".join(f'"{word}"\n' for word in words))
    print(f"{target.name} for {seconds} s; what breaks it is kept in {folder}", flush=True)
    logging.disable(logging.WARNING)
    options = (
        *(f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={int(SECONDS) + 1}"),
        *(f"-rss_limit_mb={MEMORY_MIB}", f"-dict={folder / 'tokens'}", f"-artifact_prefix={folder}/"),
        "-print_final_stats=1",
    )
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.take)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
