"""
The form of a request of Responses: its members, which of them may be null, and the kinds of its items and tools.

Source: the vendor's API description and the types of its client.
"""

from __future__ import annotations

from typing import Any

from .demo_openai import BREAKPOINT, COMMON, EFFORTS, NAME, VERBOSITY
from .demo_shapes import Each, Either, Flag, Free, Kinds, Members, Number, Shape, Words


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_STATUS = Words(among=("in_progress", "completed", "incomplete"), null=True)
_PHASE = Words(among=("commentary", "final_answer"), null=True)
_ANY = Free(anything=True)
_OPEN = Members({}, open=True)
#: What Codex notes beside each item when it knows its provider to be OpenAI.
_NOTES: dict[str, Shape] = {"internal_chat_message_metadata_passthrough": Free(null=True)}
_CALL_ID = Words(1, 64)
_TOOL_NAME = Words(1, 128, NAME)
_DETAIL = Words(among=("low", "high", "auto", "original"), null=True)
_TEXT = Members({"text": Words(), "prompt_cache_breakpoint": BREAKPOINT}, ("text",))
_IMAGE = Members(
    {
        "image_url": Words(null=True),
        "file_id": Words(null=True),
        "detail": _DETAIL,
        "prompt_cache_breakpoint": BREAKPOINT,
    }
)
_FILE = Members(
    {
        "file_data": Words(null=True),
        "file_id": Words(null=True),
        "file_url": Words(null=True),
        "filename": Words(null=True),
        "detail": _DETAIL,
        "prompt_cache_breakpoint": BREAKPOINT,
    }
)
_AUDIO = Members({"input_audio": Members({"data": Words(), "format": Words(among=("wav", "mp3"))}, ("data", "format"))})
_GIVEN = {"input_text": _TEXT, "input_image": _IMAGE, "input_file": _FILE}
_SPOKEN = {
    "output_text": Members(
        {"text": Words(), "annotations": Each(Free()), "logprobs": Each(Free(), null=True)}, ("text",)
    ),
    "refusal": Members({"refusal": Words()}, ("refusal",)),
}
_OUTPUT = Either(Words(most=10_485_760), Each(Kinds(_GIVEN)))
_SAID = Each(Kinds({"summary_text": Members({"text": Words()}, ("text",))}))


def _message(parts: dict[str, Members]) -> Members:
    known: dict[str, Shape] = {
        **_NOTES,
        "id": Words(null=True),
        "status": _STATUS,
        "phase": _PHASE,
        "content": Either(Words(), Each(Kinds(parts))),
    }
    return Members(known, ("content",))


_MESSAGE = Kinds(
    {
        "user": _message({**_GIVEN, "input_audio": _AUDIO}),
        "system": _message(_GIVEN),
        "developer": _message(_GIVEN),
        "assistant": _message(_SPOKEN),
    },
    name="role",
)


class _MessageItem(Members):
    """A message, whose role says what it may hold."""

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        _MESSAGE.check(value, where, strict)


_CALL: dict[str, Shape] = {
    **_NOTES,
    "id": Words(null=True),
    "call_id": _CALL_ID,
    "name": _TOOL_NAME,
    "status": _STATUS,
    "namespace": Words(null=True),
    "caller": Free(null=True),
    "async": Flag(),
}
_ANSWER: dict[str, Shape] = {
    **_NOTES,
    "id": Words(null=True),
    "call_id": _CALL_ID,
    "output": _OUTPUT,
    "status": _STATUS,
    "caller": Free(null=True),
}
HOSTED = _words(
    "web_search_call file_search_call code_interpreter_call image_generation_call computer_call computer_call_output "
    "mcp_call mcp_list_tools mcp_approval_request mcp_approval_response local_shell_call local_shell_call_output "
    "shell_call shell_call_output apply_patch_call apply_patch_call_output tool_search_call tool_search_output program "
    "program_output configuration_update compaction compaction_trigger item_reference"
)
_NAMED: dict[str, Shape] = {"name": _TOOL_NAME, "description": Words(null=True)}
_CALLERS: dict[str, Shape] = {
    "allowed_callers": Each(Words(), null=True),
    "async": Flag(),
    "defer_loading": Flag(),
}
_FUNCTION = Members(
    {
        **_NAMED,
        **_CALLERS,
        "parameters": Free(null=True),
        "strict": Flag(),
        "output_schema": Free(null=True),
    },
    ("name", "parameters"),
)
_CUSTOM = Members(
    {
        **_NAMED,
        **_CALLERS,
        "format": Kinds(
            {
                "text": Members({}),
                "grammar": Members(
                    {"syntax": Words(among=("lark", "regex")), "definition": Words()}, ("syntax", "definition")
                ),
            }
        ),
    },
    ("name",),
)
_SEARCH = Members(
    {
        "external_web_access": Flag(),
        "filters": Members(
            {"allowed_domains": Each(Words(), null=True), "blocked_domains": Each(Words(), null=True)}, null=True
        ),
        "search_context_size": Words(among=("low", "medium", "high"), null=True),
        "user_location": Members(
            {
                "type": Words(among=("approximate",)),
                **dict.fromkeys(("city", "region", "country", "timezone"), Words(null=True)),
            },
            null=True,
        ),
        "search_content_types": Each(Words()),
        "indexed_web_access": Flag(),
    }
)
_OTHER_TOOLS = _words(
    "file_search computer computer_use_preview mcp code_interpreter programmatic_tool_calling image_generation "
    "local_shell shell tool_search apply_patch"
)
_TOOLS = {
    "function": _FUNCTION,
    "custom": _CUSTOM,
    "namespace": Members(
        {**_NAMED, "tools": Each(Kinds({"function": _FUNCTION, "custom": _CUSTOM}))}, ("name", "description", "tools")
    ),
    **dict.fromkeys(
        ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"), _SEARCH
    ),
    **dict.fromkeys(_OTHER_TOOLS, _OPEN),
}
_ITEM = Kinds(
    {
        "message": _MessageItem({}),
        "function_call": Members({**_CALL, "arguments": Words()}, ("call_id", "name", "arguments")),
        "function_call_output": Members(
            {**_ANSWER, "name": Words(null=True), "namespace": Words(null=True)}, ("call_id", "output")
        ),
        "custom_tool_call": Members({**_CALL, "input": Words()}, ("call_id", "name", "input")),
        "custom_tool_call_output": Members(_ANSWER, ("call_id", "output")),
        "reasoning": Members(
            {
                **_NOTES,
                "id": Words(),
                "summary": _SAID,
                "content": Each(_ANY, null=True),
                "encrypted_content": Words(null=True),
                "status": _STATUS,
            },
            ("summary",),
        ),
        "additional_tools": Members(
            {**_NOTES, "id": Words(null=True), "role": Words(among=("developer",)), "tools": Each(Kinds(_TOOLS))},
            ("role", "tools"),
        ),
        **dict.fromkeys(HOSTED, _OPEN),
    },
    absent="message",
)
_NAMED_TOOL = Members({"name": Words(1, 128)}, ("name",))
_CHOSEN = {
    "function": Members({"name": Words(1, 128), "namespace": Words(null=True)}, ("name",)),
    "custom": _NAMED_TOOL,
    "mcp": Members({"server_label": Words(), "name": Words(null=True)}, ("server_label",)),
    **{
        kind: Members({})
        for kind in (*_TOOLS, "web_search_preview", "computer_use")
        if kind not in ("function", "custom", "mcp", "namespace")
    },
}
_CHOICE = Either(
    Words(among=("none", "auto", "required")),
    object=Kinds(
        {
            **_CHOSEN,
            "allowed_tools": Members(
                {"mode": Words(among=("auto", "required")), "tools": Each(Kinds(_CHOSEN), 1)}, ("mode", "tools")
            ),
        }
    ),
)
_FORMAT = Kinds(
    {
        "text": Members({}),
        "json_object": Members({}),
        "json_schema": Members(
            {
                "name": Words(1, 64, NAME),
                "schema": Free(),
                "strict": Flag(),
                "description": Words(null=True),
            },
            ("name", "schema"),
        ),
    }
)
_SUMMARY = Words(among=("auto", "concise", "detailed"), null=True)
_INCLUDES = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
_KNOWN: dict[str, Shape] = {
    **COMMON,
    "parallel_tool_calls": Flag(),
    "input": Either(Words(1), Each(_ITEM)),
    "instructions": Words(null=True),
    "max_output_tokens": Number(16, whole=True),
    "max_tool_calls": Number(1, whole=True),
    "truncation": Words(among=("auto", "disabled"), null=True),
    "tools": Each(Kinds(_TOOLS)),
    "tool_choice": _CHOICE,
    "reasoning": Members(
        {
            "effort": Words(among=EFFORTS, null=True),
            "summary": _SUMMARY,
            "generate_summary": _SUMMARY,
            "context": Words(among=("auto", "current_turn", "all_turns"), null=True),
            "mode": Words(null=True),
        },
        null=True,
    ),
    "text": Members({"format": _FORMAT, "verbosity": VERBOSITY}),
    "include": Each(Words(among=_INCLUDES), null=True),
    "previous_response_id": Words(null=True),
    "conversation": Either(Words(), object=Free(), null=True),
    "prompt": Free(null=True),
    "background": Flag(),
    "context_management": Each(Free(), null=True),
    "stream_options": Members({"include_obfuscation": Flag()}, null=True),
    "service_tier": Words(among=("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"), null=True),
    "access_programs": Free(),
    "image": Free(),
    "client_metadata": Free(null=True),
}
_COUNTED = _words(
    "conversation input instructions model parallel_tool_calls personality previous_response_id reasoning text "
    "tool_choice tools truncation"
)
#: A request, and one that asks for its tokens.
BODY = Members(_KNOWN)
COUNT = Members({**{name: _KNOWN[name] for name in _COUNTED if name in _KNOWN}, "personality": Words()})
