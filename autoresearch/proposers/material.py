"""Reads what a prompt shows: the files in scope from a commit, guidance and context from the checkout."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace

import anyio

from autoresearch.config import RunConfig
from autoresearch.errors import UsageError
from autoresearch.prompt import Material, choose_whole
from autoresearch.protocols import FileEntry, Tree
from autoresearch.scope import Scope

MAX_CONTEXT_BYTES = 200_000
"""Read of one context file or of the guidance; the prompt shows less."""
MAX_BESIDE_BYTES = 8_000
"""Files beside the scope that are larger are not shown unasked."""
MAX_BESIDE = 12
GUIDANCE = "program.md"

_README = re.compile(r"readme(\.(md|rst|txt|adoc))?", re.IGNORECASE)
_DULL = re.compile(r"(^|/)(\.|licen[cs]e|copying|authors|notice|changelog|contributing|code_of_conduct)", re.IGNORECASE)


class MaterialReader:
    """Reads material for prompts; what does not change during a run is read once.

    `root` is the user's checkout, `prefix` the folder in it where the run was started. Safe to call concurrently.
    """

    def __init__(self, config: RunConfig, scope: Scope, root: str, prefix: str = "") -> None:
        self._config, self._scope = config, scope
        self._root, self._prefix = anyio.Path(root), prefix
        self._named: Material | None = None
        """Guidance and `--context`, from the checkout."""
        self._beside: dict[str, str] | None = None
        """README and small files beside the scope, from the first tree; no trial can change them."""
        self._in_scope: dict[str, bool] = {}
        self._last: tuple[str, int, Material] | None = None
        """By commit and budget: workers mostly start from the same parent."""

    async def prepare(self) -> None:
        """Read the guidance and the context files that the user named.

        Raises:
            UsageError: one of them cannot be read.
        """
        name = self._config.program or GUIDANCE
        guidance = await self._from_checkout(name, "--program" if self._config.program else None)
        context = {path: await self._from_checkout(path, "--context") or "" for path in self._config.context}
        self._named = Material(context=context, guidance=guidance or "", guidance_name=name)

    async def read(self, tree: Tree, budget_tokens: int) -> Material:
        """What a prompt of that budget can show of `tree`.

        Raises:
            UsageError: a file that the user named cannot be read.
        """
        if self._last is not None and self._last[:2] == (tree.commit, budget_tokens):
            return self._last[2]
        if self._named is None:
            await self.prepare()
        named = self._named or Material()
        entries = await tree.files()
        if self._beside is None:
            self._beside = await self._read_beside(tree, entries)
        inside = [entry for entry in entries if self._covers(entry.path)]
        files: dict[str, str] = {}
        for path in choose_whole(inside, self._scope.literal, budget_tokens):
            data = await tree.read(path)
            if data is not None and not _binary(data):
                files[path] = data.decode("utf-8", "surrogateescape")
        listing = tuple(entry for entry in inside if entry.path not in files)
        beside = {path: text for path, text in self._beside.items() if path not in named.context}
        material = replace(
            named, files=files, listing=listing, literal=self._scope.literal, context={**named.context, **beside}
        )
        self._last = (tree.commit, budget_tokens, material)
        return material

    def _covers(self, path: str) -> bool:
        if path not in self._in_scope:
            self._in_scope[path] = self._scope.why_not(path) is None
        return self._in_scope[path]

    async def _from_checkout(self, path: str, flag: str | None) -> str | None:
        """A file's text, relative to the start folder or the root; without a flag it may be missing (None)."""
        for file in (self._root / self._prefix / path, self._root / path):
            try:
                if await file.is_file():
                    async with await file.open("rb") as opened:
                        data = await opened.read(MAX_CONTEXT_BYTES)
                    return data.decode("utf-8", "replace")
            except (OSError, ValueError) as error:
                if flag:
                    raise UsageError(f"{flag} {path}: cannot be read: {error}") from None
        if flag:
            raise UsageError(f"{flag} {path}: there is no such file in {self._root / self._prefix}")
        return None

    async def _read_beside(self, tree: Tree, entries: Sequence[FileEntry]) -> dict[str, str]:
        """README, then small text files in the folders that hold the scope; with `--context` README alone."""
        readme = [entry for entry in entries if _README.fullmatch(entry.path) and not self._covers(entry.path)][:1]
        beside = [] if self._config.context else [entry for entry in entries if self._is_beside(entry)]
        texts = {}
        for entry in [*readme, *beside[:MAX_BESIDE]]:
            data = await tree.read(entry.path)
            if data is not None and not _binary(data):
                texts[entry.path] = data[:MAX_CONTEXT_BYTES].decode("utf-8", "replace")
        return texts

    def _is_beside(self, entry: FileEntry) -> bool:
        scope, path = self._scope, entry.path
        folders = {posixpath.dirname(named) for named in (*scope.literal, *scope.folders)}
        if posixpath.dirname(path) not in folders or entry.size > MAX_BESIDE_BYTES or _DULL.search(path):
            return False
        return not self._covers(path) and not _README.fullmatch(path) and not scope.protected.match_file(path)


def _binary(data: bytes) -> bool:
    return b"\0" in data[:8000]
