"""Which server and which models are asked: read from the environment and the configuration. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from autoresearch.errors import ConfigError, UsageError
from autoresearch.reply import one_line

ANTHROPIC_URL = "https://api.anthropic.com"

_NO_KEY = (
    "no key for the model: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN), or ANTHROPIC_BASE_URL for a local server, "
    "or choose another --proposer (mutate, command, replay:FILE)"
)
_DUMMY_KEY = "none"
"""For servers that want no key: the SDK insists on one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks the Messages API, and the key for it."""

    url: str
    key: str = field(repr=False)

    @property
    def anthropic(self) -> bool:
        """Whether it is Anthropic's own."""
        return _is_anthropic(self.url)

    def redact(self, text: str) -> str:
        """`text` without keys."""
        if self.key != _DUMMY_KEY and len(self.key) >= 8:
            text = text.replace(self.key, "[key]")
        return re.sub(r"sk-ant-[\w-]{8,}", "[key]", text)


def available(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a key, or a server that is not Anthropic's."""
    return bool(_key(environ)) or not _is_anthropic(_url(environ))


def endpoint(environ: Mapping[str, str]) -> Endpoint:
    """The server that the environment names.

    Raises:
        UsageError: no key and no other server; a URL or a key that cannot be one.
    """
    url, key = _url(environ), _key(environ)
    if not available(environ):
        raise UsageError(_NO_KEY)
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"ANTHROPIC_BASE_URL is {url!r}; it must be like http://127.0.0.1:8080")
    if not (key.isascii() and key.isprintable()):
        raise UsageError("the key in ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN holds characters that no key has")
    return Endpoint(url, key or _DUMMY_KEY)


def weights(models: Sequence[str]) -> dict[str, float]:
    """Weights by model from NAME and NAME=WEIGHT.

    Raises:
        ConfigError: a weight is not a positive number, or a name is missing.
    """
    found: dict[str, float] = {}
    for given in models:
        name, _, weight = given.rpartition("=") if "=" in given else (given, "", "1")
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        if not name.strip() or not (0 < number < math.inf):
            raise ConfigError("configuration", "model", f"{given!r} is not NAME or NAME=WEIGHT with a weight above 0")
        found[name.strip()] = found.get(name.strip(), 0.0) + number
    return found


def only(names: Sequence[str], url: str) -> str:
    """The one model that a server lists.

    Raises:
        UsageError: it lists none, or several.
    """
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(f"{url} lists no model; name one with --model")
    shown = ", ".join(one_line(name, 80) for name in names[:20]) + (", ..." if len(names) > 20 else "")
    raise UsageError(f"{url} has several models; name one with --model: {shown}")


def _key(environ: Mapping[str, str]) -> str:
    return environ.get("ANTHROPIC_API_KEY", "").strip() or environ.get("ANTHROPIC_AUTH_TOKEN", "").strip()


def _url(environ: Mapping[str, str]) -> str:
    return environ.get("ANTHROPIC_BASE_URL", "").strip() or ANTHROPIC_URL


def _is_anthropic(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host == "anthropic.com" or host.endswith(".anthropic.com")
