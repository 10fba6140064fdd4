"""The official Gemini client, answered by given bytes without any socket, for the tests of what is written for it."""

from __future__ import annotations

from typing import Any

from google import genai
from google.genai import types

try:  # what the client's versions stand on
    import httpx2 as httpx
except ImportError:
    import httpx


def client(content_type: bytes, body: bytes, status: int = 200, seen: list[Any] | None = None) -> genai.Client:
    """:param seen: gets the requests that it made."""

    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, headers=[(b"content-type", content_type)], content=body)

    options = types.HttpOptions(
        base_url="http://127.0.0.1:1", httpx_client=httpx.Client(transport=httpx.MockTransport(answer))
    )
    return genai.Client(api_key="x", vertexai=False, http_options=options)


def whole(body: bytes, status: int = 200) -> types.GenerateContentResponse:
    """What it makes of an answer that is not streamed."""
    return client(b"application/json", body, status).models.generate_content(model="m", contents="x")


def streamed(body: bytes) -> list[types.GenerateContentResponse]:
    """What it makes of a stream."""
    with client(b"text/event-stream", body) as asking:
        return list(asking.models.generate_content_stream(model="m", contents="x"))
