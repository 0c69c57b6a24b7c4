"""Which files a shell command writes its output to, read from the command line alone."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

_REDIRECT = re.compile(r"(?:&>>|&>|>>|>\||>&|>)$")
_PUNCTUATION = re.compile(r"[();<>|&]+$")


def redirected_files(command: str) -> tuple[str, ...]:
    """Files that `command` redirects or tees into, in order, each once; relative to the folder it starts in.

    Knows `>`, `>>`, `2>`, `&>`, `>|`, `>&`, `tee` and a `cd` on the way. A name that only the shell can know (a
    variable, a glob), a descriptor and what lies under /dev are left out, and so is all of a command that is cut off.
    """
    try:
        words = _words(command)
    except ValueError:
        return ()
    found: list[str] = []
    folder, teeing = PurePosixPath(), False
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        target = ""
        if _PUNCTUATION.fullmatch(word):
            teeing = teeing and _REDIRECT.search(word) is not None
        elif _REDIRECT.search(before) and _PUNCTUATION.fullmatch(before):
            target = word
        elif word == "cd" and not teeing and _plain(after):
            folder = folder / after
        elif word == "tee":
            teeing = True
        elif teeing and not word.startswith("-"):
            target = word
        if _plain(target):
            found.append(str(folder / target))
    return tuple(dict.fromkeys(found))


def _words(command: str) -> list[str]:
    lines = command.replace("\\\n", " ").replace("\n", " ; ")
    lexer = shlex.shlex(lines, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    return list(lexer)


def _plain(name: str) -> bool:
    if not name or name.isdigit() or name == "-" or name.startswith(("/dev/", "~")):
        return False
    return not set(name) & set("$`*?[{") and not _PUNCTUATION.fullmatch(name)
