"""Whole items of the OpenAI Responses dialect, told in a stream as if they had grown there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Event = Callable[[str, dict[str, Any]], bytes]
"""Makes one event of its name and members."""


def early(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item as it is announced, before anything of it came."""
    kind = item.get("type")
    if kind == "reasoning":
        return {name: value for name, value in item.items() if name in ("id", "type")} | {"summary": []}
    found = dict(item)
    if "status" in item:
        found["status"] = "in_progress"
    if kind == "message":
        found["content"] = []
    elif kind == "function_call":
        found["arguments"] = ""
    elif kind == "custom_tool_call":
        found["input"] = ""
    return found


def told(place: Mapping[str, Any], item: Mapping[str, Any], event: Event) -> bytes:
    """
    The events between announcement and end.

    :param place: item_id and output_index.
    """
    kind = item.get("type")
    if kind == "message":
        return b"".join(
            _content({**place, "content_index": index}, content, event)
            for index, content in enumerate(_objects(item.get("content")))
        )
    if kind == "reasoning":
        return b"".join(
            _summary({**place, "summary_index": index}, summary, event)
            for index, summary in enumerate(_objects(item.get("summary")))
        )
    if kind in ("function_call", "custom_tool_call"):
        name, spelt = ("arguments", "function_call_arguments")
        if kind == "custom_tool_call":
            name, spelt = ("input", "custom_tool_call_input")
        text = item.get(name) or ""
        out = event(f"response.{spelt}.delta", {**place, "delta": text})
        return out + event(f"response.{spelt}.done", {**place, "name": item.get("name"), name: text})
    return b""


def _content(place: dict[str, Any], content: dict[str, Any], event: Event) -> bytes:
    name = "refusal" if content.get("type") == "refusal" else "text"
    text = content.get(name)
    if not isinstance(text, str):
        return b""
    spelt = "refusal"
    more: dict[str, Any] = {}
    empty = {**content, name: ""}
    if name == "text":
        spelt, more["logprobs"], empty["annotations"] = "output_text", [], []
    out = event("response.content_part.added", {**place, "part": empty})
    if text:
        out += event(f"response.{spelt}.delta", {**place, "delta": text, **more})
    for number, annotation in enumerate(_objects(content.get("annotations"))):
        note = {**place, "annotation_index": number, "annotation": annotation}
        out += event("response.output_text.annotation.added", note)
    out += event(f"response.{spelt}.done", {**place, name: text, **more})
    return out + event("response.content_part.done", {**place, "part": content})


def _summary(place: dict[str, Any], summary: dict[str, Any], event: Event) -> bytes:
    text = summary.get("text") or ""
    out = event("response.reasoning_summary_part.added", {**place, "part": {"type": "summary_text", "text": ""}})
    if text:
        out += event("response.reasoning_summary_text.delta", {**place, "delta": text})
    out += event("response.reasoning_summary_text.done", {**place, "text": text})
    return out + event("response.reasoning_summary_part.done", {**place, "part": summary})


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
