"""What an answer of the OpenAI Responses dialect repeats of its request: clients' types insist on most of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What is repeated as it came, with what stands there where nothing came.
_REPEATED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def echo(members: Mapping[str, Any]) -> dict[str, Any]:
    """:param members: the top level of the client's request; empty for an answer of the router's own."""
    found: dict[str, Any] = {}
    for name, default in _REPEATED.items():
        value = members.get(name)
        found[name] = default if value is None else value
    reasoning = members.get("reasoning")
    asked = reasoning if isinstance(reasoning, dict) else {}
    found["reasoning"] = {**asked, "effort": asked.get("effort"), "summary": asked.get("summary")}
    text = members.get("text")
    found["text"] = {"format": {"type": "text"}, **(text if isinstance(text, dict) else {})}
    tools = members.get("tools")
    found["tools"] = [_tool(tool) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    tier = members.get("service_tier")
    found["service_tier"] = tier if isinstance(tier, str) and tier != "auto" else "default"
    # Nothing is kept here, whatever was asked for.
    found |= {"background": False, "previous_response_id": None, "store": False}
    found |= {"frequency_penalty": 0.0, "presence_penalty": 0.0}
    return found


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}
