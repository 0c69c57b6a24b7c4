"""A local server that speaks the Messages API with streaming, and fails in scripted ways. For tests only.

    with MessagesServer([Say(tool("submit_change", {...})), Fault(429, retry_after="7")]) as server:
        ...  # ANTHROPIC_BASE_URL=server.url
    server.requests[0].body["messages"]

It runs in threads of its own, so that it serves tests of any kind, and other processes. It prints nothing; a mistake in
a script is raised where the server is left.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Block = dict[str, Any]


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def thinking(words: str, signature: str = "c2lnbmVk") -> Block:
    return {"type": "thinking", "thinking": words, "signature": signature}


def tool(name: str, given: Any, call: str = "toolu_1") -> Block:
    """A tool call; a `given` that is a text is sent as it is, JSON or not."""
    return {"type": "tool_use", "id": call, "name": name, "input": given}


class Say:
    """Stream a message. `stop_reason` follows from the blocks where it is not given; `usage` are token counts."""

    def __init__(self, *blocks: Block, stop_reason: str | None = None, usage: Mapping[str, int] | None = None) -> None:
        called = any(block["type"] == "tool_use" for block in blocks)
        self.blocks = blocks
        self.stop_reason = stop_reason or ("tool_use" if called else "end_turn")
        self.usage = {"input_tokens": 100, "output_tokens": 50} | dict(usage or {})


@dataclass(frozen=True)
class Fault:
    """Answer with an error status."""

    status: int
    kind: str = "api_error"
    message: str = "scripted"
    retry_after: str | None = None


@dataclass(frozen=True)
class StreamFault:
    """Begin a message, then send an error event; the status is 200."""

    kind: str = "overloaded_error"
    message: str = "scripted"


@dataclass(frozen=True)
class Stall:
    """Begin a message, then say nothing until the server is closed."""


@dataclass(frozen=True)
class Cut:
    """Begin a message, then close the connection: a chunked body breaks off, a close-delimited one just ends."""

    chunked: bool = True


@dataclass(frozen=True)
class Raw:
    """A body as it stands, with status 200."""

    body: str
    content_type: str = "text/event-stream"


Step = Say | Fault | StreamFault | Stall | Cut | Raw


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class MessagesServer:
    """Answers each POST to /v1/messages with the next step of its script, or with what `script(request)` returns."""

    def __init__(
        self, script: Iterable[Step] | Callable[[Request], Step] = (), models: Sequence[str] = ("claude-opus-5-5",)
    ) -> None:
        self.requests: list[Request] = []
        """All requests to /v1/messages, in the order in which they came."""
        self._models = models
        self._script = script if callable(script) else None
        self._steps = iter(()) if callable(script) else iter(script)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        if self._http.errors:
            raise self._http.errors[0]

    def step(self, request: Request) -> Step:
        with self._lock:
            self.requests.append(request)
            if self._script is None:
                return next(self._steps, Fault(500, "api_error", "the script has ended"))
        return self._script(request)

    def wait_closing(self) -> None:
        self._closing.wait(60)

    def model_list(self) -> dict[str, Any]:
        rows = [{"type": "model", "id": name, "display_name": name} for name in self._models]
        return {"data": rows, "has_more": False, "first_id": None, "last_id": None}


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a connection that finds the queue full tries again a second later

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.errors: list[BaseException] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may leave whenever they like; what else goes wrong is kept."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.errors.append(error)


def _handler(server: MessagesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        messages = server

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each small write waits for the client's delayed acknowledgement
    messages: MessagesServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.split("?")[0] == "/v1/models":
            self._whole(200, json.dumps(self.messages.model_list()), {})
        else:
            self._error(Fault(404, "not_found_error", "no such page"))

    def do_POST(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        length = int(headers.get("content-length", 0))
        data = self.rfile.read(length)
        if not length or len(data) < length:
            raise ConnectionAbortedError("the client left before it had said everything")
        body = json.loads(data)
        step = self.messages.step(Request("POST", self.path, headers, body))
        self._perform(step, str(body.get("model")))

    def _perform(self, step: Step, model: str) -> None:
        match step:
            case Fault():
                self._error(step)
            case Raw():
                self._whole(200, step.body, {"content-type": step.content_type})
            case Say():
                self._begin(chunked=True)
                self._events(_message(model, step))
                self.wfile.write(b"0\r\n\r\n")
            case StreamFault():
                self._begin(chunked=True)
                self._events(_message(model, Say(text("a beginning")))[:3])
                error = {"type": "error", "error": {"type": step.kind, "message": step.message}}
                self._events([error])
                self.wfile.write(b"0\r\n\r\n")
            case Stall() | Cut():
                self._begin(chunked=not isinstance(step, Cut) or step.chunked)
                self._events(_message(model, Say(text("a beginning")))[:3])
                if isinstance(step, Stall):
                    self.messages.wait_closing()
                self.close_connection = True

    def _error(self, step: Fault) -> None:
        error = {"type": "error", "error": {"type": step.kind, "message": step.message}}
        self._whole(step.status, json.dumps(error), {"retry-after": step.retry_after} if step.retry_after else {})

    def _whole(self, status: int, body: str, headers: Mapping[str, str]) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in ({"content-type": "application/json"} | dict(headers)).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _begin(self, *, chunked: bool) -> None:
        self._chunked = chunked
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header(*(("transfer-encoding", "chunked") if chunked else ("connection", "close")))
        self.end_headers()

    def _events(self, events: Sequence[Block]) -> None:
        for event in events:
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
            self.wfile.flush()


def _message(model: str, say: Say) -> list[Block]:
    """The events of one message."""
    usage = dict(say.usage)
    started = usage | {"output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": []}
    events: list[Block] = [
        {"type": "message_start", "message": message | {"stop_reason": None, "stop_sequence": None, "usage": started}}
    ]
    for index, block in enumerate(say.blocks):
        events.extend(_block(index, block))
    delta = {"stop_reason": say.stop_reason, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}})
    return [*events, {"type": "message_stop"}]


def _block(index: int, block: Block) -> list[Block]:
    """The events of one content block, its content in two deltas."""
    match block["type"]:
        case "text":
            empty, kind, key, content = block | {"text": ""}, "text_delta", "text", block["text"]
        case "thinking":
            empty, kind, key = {"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta", "thinking"
            content = block["thinking"]
        case _:
            empty, kind, key = block | {"input": {}}, "input_json_delta", "partial_json"
            content = block["input"] if isinstance(block["input"], str) else json.dumps(block["input"])
    half = len(content) // 2
    deltas: list[Block] = [{"type": kind, key: part} for part in (content[:half], content[half:])]
    if block["type"] == "thinking":
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    return [
        {"type": "content_block_start", "index": index, "content_block": empty},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]
