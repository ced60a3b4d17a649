"""`completion`: scripts that let bash, zsh and fish complete commands and flags.

They are made of the table of commands and know nothing of the cluster: pressing a key asks no server. A flag's value
is left to the shell, which offers names of files.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from kvctl.command import Command, Context, Failure, Subcommand
from kvctl.flags import HELP, SWITCH, Flag
from kvctl.table import GLOBAL, TABLE, VERSION_FLAG


class Place(NamedTuple):
    """Where on a command line one can be: behind `path`, with what may follow."""

    path: str
    words: tuple[tuple[str, str], ...]  # commands and their summaries
    flags: tuple[Flag, ...]

    @property
    def spellings(self) -> list[str]:
        return [_dashed(name) for flag in self.flags for name in flag.spellings]

    @property
    def valued(self) -> list[str]:
        """The flags that take a value."""
        return [_dashed(name) for flag in self.flags if flag.kind != SWITCH for name in flag.spellings]


def places() -> Iterator[Place]:
    commands = [(entry.name, entry.summary) for entry in TABLE]
    help_command = ("help", "Shows a list of commands or help for one command")
    yield Place("", (*commands, help_command), (*GLOBAL, HELP, VERSION_FLAG))
    yield Place("help", tuple(commands), ())
    for entry in TABLE:
        command = entry.load()
        yield Place(entry.name, _names(command.subcommands), (*command.flags, HELP))
        for sub in command.subcommands:
            yield Place(f"{entry.name} {sub.name}", (), (*sub.command.flags, HELP))


def _names(subcommands: Iterable[Subcommand]) -> tuple[tuple[str, str], ...]:
    return tuple((sub.name, sub.summary) for sub in subcommands)


def _dashed(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"


# How all three find their place: words that are no flags and no flag's value, the first one and, where the first one
# has subcommands, the second.
_BASH = """# bash completion for kvctl: source <(kvctl completion bash)
_kvctl_look_up() { # of the place $1: sets words, flags and valued
  words= flags= valued=
  case "$1" in
@CASES@
  esac
}

_kvctl() {
  local current=${COMP_WORDS[COMP_CWORD]} place= words flags valued i word before=
  _kvctl_look_up ""
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == -- ]]; then
      return
    elif [[ $word == -* ]]; then
      if [[ " $valued " == *" $word "* ]]; then
        before=$word
        [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
        ((i++))
      fi
    elif [[ -n $words ]]; then
      place="${place:+$place }$word"
      _kvctl_look_up "$place"
    fi
  done
  if ((i > COMP_CWORD)); then # in the value of a flag
    [[ $before == -o || $before == --output ]] && COMPREPLY=($(compgen -W "simple extended json" -- "$current"))
    return
  fi
  [[ $current == -* ]] && words=$flags
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _kvctl kvctl
"""

_ZSH = """#compdef kvctl
# zsh completion for kvctl: source <(kvctl completion zsh), or this as the file _kvctl in a folder of $fpath
_kvctl_look_up() { # of the place $1: sets offered, flags and valued
  offered=() flags=() valued=()
  case "$1" in
@CASES@
  esac
}

_kvctl() {
  local place= i word before=
  local -a offered flags valued
  _kvctl_look_up ""
  for ((i = 2; i < CURRENT; i++)); do
    word=${words[i]}
    if [[ $word == -- ]]; then
      _default
      return
    elif [[ $word == -* ]]; then
      if ((${valued[(Ie)$word]})); then
        before=$word
        ((i++))
      fi
    elif ((${#offered})); then
      place="${place:+$place }$word"
      _kvctl_look_up "$place"
    fi
  done
  if ((i > CURRENT)); then # in the value of a flag
    if [[ $before == -o || $before == --output ]]; then
      compadd simple extended json
    else
      _default
    fi
  elif [[ ${words[CURRENT]} == -* ]]; then
    _describe -o flag flags
  elif ((${#offered})); then
    _describe command offered
  else
    _default
  fi
}
if [[ $funcstack[1] == _kvctl ]]; then
  _kvctl "$@"
elif (($+functions[compdef])); then
  compdef _kvctl kvctl
fi
"""

_FISH = """# fish completion for kvctl: kvctl completion fish | source
function __kvctl_look_up # of the place $argv[1]: sets __kvctl_words and __kvctl_valued
    set -g __kvctl_words
    set -g __kvctl_valued
    switch "$argv[1]"
@CASES@
    end
end

function __kvctl_is_at
    set -l words (commandline -opc)
    set -l place ""
    set -l i 2
    __kvctl_look_up ""
    while test $i -le (count $words)
        set -l word $words[$i]
        if test "$word" = --
            return 1
        else if string match -q -- "-*" $word
            contains -- $word $__kvctl_valued; and set i (math $i + 1)
        else if test -n "$__kvctl_words"
            set place (string trim -- "$place $word")
            __kvctl_look_up "$place"
        end
        set i (math $i + 1)
    end
    test "$place" = "$argv[1]"
end
@LINES@
"""


def _bash() -> str:
    cases = (
        f'    "{place.path}")\n'
        f"      words={shlex.quote(' '.join(name for name, _ in place.words))}\n"
        f"      flags={shlex.quote(' '.join(place.spellings))}\n"
        f"      valued={shlex.quote(' '.join(place.valued))} ;;"
        for place in places()
    )
    return _BASH.replace("@CASES@", "\n".join(cases))


def _zsh() -> str:
    def described(pairs: Iterable[tuple[str, str]]) -> str:
        return " ".join(shlex.quote(f"{name}:{text}") for name, text in pairs)

    cases = (
        f'    "{place.path}")\n'
        f"      offered=({described(place.words)})\n"
        f"      flags=({described((_dashed(name), flag.text) for flag in place.flags for name in flag.spellings)})\n"
        f"      valued=({' '.join(place.valued)}) ;;"
        for place in places()
    )
    return _ZSH.replace("@CASES@", "\n".join(cases))


def _fish() -> str:
    cases = []
    lines = []
    for place in places():
        cases += [f'        case "{place.path}"', f"            set -g __kvctl_words {_of(place.words)}".rstrip()]
        cases.append(f"            set -g __kvctl_valued {' '.join(place.valued)}".rstrip())
        condition = f'__kvctl_is_at "{place.path}"'
        at = f"complete -c kvctl -n {_fish_quoted(condition)}"
        lines += [f"{at} -f -a {name} -d {_fish_quoted(text)}" for name, text in place.words]
        lines += [f"{at} {_fish_flag(flag)}" for flag in place.flags]
    return _FISH.replace("@CASES@", "\n".join(cases)).replace("@LINES@", "\n".join(lines))


def _of(words: Iterable[tuple[str, str]]) -> str:
    return " ".join(name for name, _ in words)


def _fish_flag(flag: Flag) -> str:
    names = (f"-s {name}" if len(name) == 1 else f"-l {name}" for name in flag.spellings)
    value = "" if flag.kind == SWITCH else " -r"
    choices = " -f -a 'simple extended json'" if flag.name == "output" else ""
    return f"{' '.join(names)}{value}{choices} -d {_fish_quoted(flag.text)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SHELLS: Mapping[str, Callable[[], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def _completion(context: Context) -> None:
    make = _SHELLS.get(context.words[0]) if len(context.words) == 1 else None
    if make is None:
        raise Failure("Provide one of bash, zsh and fish")
    context.say(make().rstrip("\n"))


COMPLETION = Command(
    _completion,
    usage="bash|zsh|fish",
    description="""Prints a script for the shell. It completes commands, flags and their values' files, and asks no
   server. bash reads it out of ~/.bashrc, zsh out of ~/.zshrc (behind compinit), fish out of its configuration.""",
    example="""source <(kvctl completion bash)
kvctl completion fish | source""",
)
