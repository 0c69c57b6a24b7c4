"""What an error of the model's server means for a run. Pure: the caller unpacks the SDK's errors."""

from __future__ import annotations

import math
import re

from autoresearch.errors import ProposalDeferred, ProposerLost
from autoresearch.reply import one_line

MAX_RETRY_AFTER_SECONDS = 600.0
MAX_MESSAGE_CHARS = 300

_LATER = frozenset({408, 409, 425, 429, 499})
_THIS_REQUEST = frozenset({400, 413, 422})
_TOO_LARGE = re.compile(r"too (long|large)|context[ _-]?(size|length|window|limit)|maximum context", re.IGNORECASE)
_NO_CREDIT = re.compile(r"credit balance|billing", re.IGNORECASE)
_EFFORT = re.compile(r"output_config|effort", re.IGNORECASE)


class RequestRefused(Exception):
    """Raised where the server does not take a request as it is (400, 413, 422)."""

    def __init__(self, why: str, status: int) -> None:
        self.why, self.status = one_line(why, MAX_MESSAGE_CHARS), status
        super().__init__(self.why)

    @property
    def too_large(self) -> bool:
        return self.status == 413 or bool(_TOO_LARGE.search(self.why))

    @property
    def about_effort(self) -> bool:
        return bool(_EFFORT.search(self.why))


def fault(status: int, kind: str, message: str, retry_after: str | None, model: str) -> Exception:
    """What to raise for an error status, or for an error event within a stream (status 200, `kind` says which)."""
    said = one_line(message, MAX_MESSAGE_CHARS)
    if _NO_CREDIT.search(f"{kind} {said}") or status == 402:
        return ProposerLost(f"the model's server wants payment ({said}); add credit, then `autoresearch resume`")
    if status in (401, 403) or kind in ("authentication_error", "permission_error"):
        return ProposerLost(
            f"the model's server refuses the key ({said}); set ANTHROPIC_API_KEY, then `autoresearch resume`"
        )
    if status in _THIS_REQUEST or kind == "invalid_request_error":
        return RequestRefused(said, status)
    if status == 404 or kind == "not_found_error":
        return ProposerLost(
            f"the model's server does not know model {model} ({said}); name another with --model, or check the URL"
        )
    if status in _LATER or (status >= 500 and status != 501) or status < 300:
        return ProposalDeferred(f"the model's server: {_words(status, kind)}: {said}", retry_seconds(retry_after))
    return ProposerLost(f"the model's server answers {status} ({said}); check ANTHROPIC_BASE_URL")


def retry_seconds(header: str | None) -> float | None:
    """The seconds of a `retry-after` header, bounded; None where there is none, or a date."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None


def _words(status: int, kind: str) -> str:
    known = kind.removesuffix("_error").replace("_", " ") if kind else "error"
    return known if status < 300 else f"{status} {known}"
