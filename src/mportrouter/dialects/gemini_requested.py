"""Writes what stands beside the turns of a Gemini request: tools, their choice, and how the answer shall be made."""

from __future__ import annotations

from typing import Any

from ..conversation import Conversation, Sampling, Tool, ToolChoice
from ..interfaces import Inexpressible, Target
from ..reasoning_controls import asked
from ..schemas import clean
from ..settings import Capabilities
from ..tool_names import ToolNames

#: Tools that the provider runs, as the dialect calls them.
_SERVERS = {"web_search": "googleSearch", "code_execution": "codeExecution", "web_fetch": "urlContext"}
#: Stop sequences that the API takes.
_STOPS = 5
#: How the other dialects spell what has another name there, by neutral name.
_WORDS = {
    "anthropic": {"stop": "stop_sequences", "output": "output_config.format", "parallel": "disable_parallel_tool_use"},
    "openai-chat": {"stop": "stop", "output": "response_format", "choices": "n"},
    "openai-responses": {"output": "text.format", "verbosity": "text.verbosity", "limit": "max_output_tokens"},
    "gemini": {
        "stop": "stopSequences", "output": "responseMimeType", "choices": "candidateCount", "limit": "maxOutputTokens",
        "top_p": "topP", "top_k": "topK", "presence_penalty": "presencePenalty",
        "frequency_penalty": "frequencyPenalty", "logprobs": "responseLogprobs", "top_logprobs": "logprobs",
    },
}  # fmt: skip
_COMMON = {"parallel": "parallel_tool_calls", "choices": "n", "limit": "max_tokens", "output": "response_format"}


def options(conversation: Conversation, target: Target, names: ToolNames, notes: dict[str, None]) -> dict[str, Any]:
    """
    The members of the request beside its turns and instructions.

    :param notes: what was left out is added here.
    :raises Inexpressible: naming what cannot be said.
    """
    return _Options(conversation, target.capabilities, names, notes).write()


class _Options:
    def __init__(
        self, conversation: Conversation, capabilities: Capabilities, names: ToolNames, notes: dict[str, None]
    ) -> None:
        self._conversation = conversation
        self._capabilities = capabilities
        self._names = names
        self._notes = notes
        self._words = {**_COMMON, **_WORDS.get(conversation.dialect, {})}

    def write(self) -> dict[str, Any]:
        conversation, notes = self._conversation, self._notes
        body: dict[str, Any] = {}
        functions, servers, allowed = self._tools()
        tools: list[dict[str, Any]] = [{"functionDeclarations": functions}] if functions else []
        tools += servers
        if tools:
            body["tools"] = tools
        calling = self._calling(functions, allowed)
        how: dict[str, Any] = {"functionCallingConfig": calling} if calling else {}
        if functions and servers:
            how["includeServerSideToolInvocations"] = True  # the API refuses both kinds together without it
        if how:
            body["toolConfig"] = how
        config = self._config(bool(functions))
        if config:
            body["generationConfig"] = config
        identity = self._capabilities.identity_fields
        if conversation.service_tier is not None and conversation.service_tier != "auto":
            if "service_tier" in identity:
                body["serviceTier"] = conversation.service_tier
            else:
                notes["service_tier"] = None
        if conversation.metadata:
            if conversation.dialect == "gemini" and "metadata" in identity:
                body["labels"] = dict(conversation.metadata)
            else:
                notes["metadata"] = None
        if conversation.verbosity is not None:
            notes[self._word("verbosity")] = None
        notes.update(dict.fromkeys(conversation.unread))
        return body

    def _word(self, name: str) -> str:
        """A member as the client spells it."""
        return self._words.get(name, name)

    # ------------------------------------------------------------------------------------------- tools

    def _tools(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], tuple[str, ...] | None]:
        """Functions, tools that the provider runs, and the names that may be called (``None``: every one)."""
        conversation, capabilities, notes = self._conversation, self._capabilities, self._notes
        choice = conversation.tool_choice
        allowed: tuple[str, ...] | None = None
        if choice is not None and choice.allowed is not None:
            allowed = tuple(self._names.wire(name) for name in choice.allowed)
        functions: list[dict[str, Any]] = []
        for tool in self._names.tools:
            if allowed and choice is not None and choice.mode == "auto" and tool.name not in allowed:
                continue  # there is no list for a free choice
            functions.append(self._function(tool))
        servers: list[dict[str, Any]] = []
        for tool in conversation.tools:
            if tool.kind != "server":
                continue
            name = _SERVERS.get(tool.server)
            fits = name is not None and tool.server in capabilities.server_tool_kinds
            if fits and (capabilities.server_tools_with_functions or not functions):
                assert name is not None
                if {name: {}} not in servers:
                    servers.append({name: {}})
                notes.update((f"tools.{tool.name}.{option}"[:80], None) for option in tool.options)
                continue
            if not functions and len(conversation.tools) == 1:
                raise Inexpressible(f"the only tool, {tool.name[:64]}, is one that this provider does not run")
            if choice is not None and choice.mode == "one" and choice.name == tool.name:
                raise Inexpressible(f"tool_choice asks for {tool.name[:64]}, which this provider does not run")
            notes[f"tools.{tool.name[:64]}"] = None
        return functions, servers, allowed

    def _function(self, tool: Tool) -> dict[str, Any]:
        written: dict[str, Any] = {"name": tool.name}
        if tool.description:
            written["description"] = tool.description
        profile = self._profile()
        schema = clean(tool.schema, profile)
        if schema is not None:
            written["parametersJsonSchema" if profile == "gemini_json_schema" else "parameters"] = schema
        if tool.strict:
            self._notes["tools[].strict"] = None
        return written

    def _profile(self) -> str:
        return self._capabilities.schema_profile or "gemini_schema"

    def _calling(self, functions: list[dict[str, Any]], allowed: tuple[str, ...] | None) -> dict[str, Any]:
        conversation, notes = self._conversation, self._notes
        if conversation.parallel is False and functions:
            notes[self._word("parallel")] = None
        choice = conversation.tool_choice
        if choice is None:
            return {}
        if not functions:
            if choice.mode == "one" and not any(tool.name == choice.name for tool in conversation.tools):
                raise Inexpressible(f"tool_choice asks for {choice.name[:64]}, which is not offered")
            if choice.mode in ("one", "required"):
                if not self._conversation.tools:
                    raise Inexpressible("tool_choice forces a tool, and none is offered")
                notes["tool_choice"] = None
            return {}
        if allowed is not None and not allowed:
            return {"mode": "NONE"}  # a list that allows nothing
        return self._mode(choice, allowed)

    def _mode(self, choice: ToolChoice, allowed: tuple[str, ...] | None) -> dict[str, Any]:
        if choice.mode == "none":
            return {"mode": "NONE"}
        if choice.mode == "auto":
            return {"mode": "AUTO"}
        if self._capabilities.tool_choice_force == "refused":
            raise Inexpressible("tool_choice forces a tool, which this provider refuses")
        if choice.mode == "one":
            if not any(tool.name == choice.name and tool.kind != "server" for tool in self._conversation.tools):
                raise Inexpressible(f"tool_choice asks for {choice.name[:64]}, which is not offered")
            return {"mode": "ANY", "allowedFunctionNames": [self._names.wire(choice.name)]}
        return {"mode": "ANY", "allowedFunctionNames": list(allowed)} if allowed else {"mode": "ANY"}

    # ------------------------------------------------------------------------------------------- the answer

    def _config(self, functions: bool) -> dict[str, Any]:
        config: dict[str, Any] = {}
        self._sampling(self._conversation.sampling, config)
        limit = self._conversation.max_output
        most = self._capabilities.max_output
        if limit is not None and limit > 0:
            if most is not None and limit > most:
                self._notes[f"{self._word('limit')}={most}"] = None
                limit = most
            config["maxOutputTokens"] = limit
        thinking = self._thinking(config.get("maxOutputTokens"))
        if thinking:
            config["thinkingConfig"] = thinking
        self._format(functions, config)
        return config

    def _sampling(self, sampling: Sampling, config: dict[str, Any]) -> None:
        refused, notes = self._capabilities.sampling_refused, self._notes
        if sampling.choices is not None and sampling.choices > 1:
            raise Inexpressible(f"`{self._word('choices')}` asks for {sampling.choices} answers; one is given")
        if sampling.temperature is not None:
            most = self._capabilities.temperature_max
            if "temperature" in refused:
                notes["temperature"] = None
            elif sampling.temperature > most:
                config["temperature"] = most
                notes[f"temperature={most:g}"] = None
            else:
                config["temperature"] = sampling.temperature
        for name, column, wire in (
            ("top_p", "top_p", "topP"),
            ("top_k", "top_k", "topK"),
            ("seed", "seed", "seed"),
            ("presence_penalty", "penalties", "presencePenalty"),
            ("frequency_penalty", "penalties", "frequencyPenalty"),
            ("logprobs", "logprobs", "responseLogprobs"),
            ("top_logprobs", "logprobs", "logprobs"),
        ):
            value = getattr(sampling, name)
            if value is None:
                continue
            if column in refused:
                notes[self._word(name)] = None
            else:
                config[wire] = value
        if sampling.logprobs and "logprobs" not in refused:
            notes[f"{self._word('logprobs')} (not in the answer)"] = None
        if sampling.logit_bias:
            notes["logit_bias"] = None
        stops = [each for each in sampling.stop if each]
        if stops:
            most_stops = min(self._capabilities.stop_max or _STOPS, _STOPS)
            if len(stops) > most_stops:
                notes[f"{self._word('stop')} (the first {most_stops})"] = None
            config["stopSequences"] = stops[:most_stops]

    def _thinking(self, max_output: int | None) -> dict[str, Any]:
        """How much to think: a budget or a level, never both, which the API refuses."""
        control = self._conversation.reasoning
        found = asked(control, self._capabilities, max_output)
        if found is None or control is None:
            return {}
        self._notes.update(dict.fromkeys(found.notes))
        kind = self._capabilities.reasoning_kind
        if kind == "none":
            return {}
        thinking: dict[str, Any] = {}
        if kind == "budget":
            if found.adaptive:
                thinking["thinkingBudget"] = -1
            elif found.budget is not None:
                thinking["thinkingBudget"] = found.budget
            elif found.off:
                thinking["thinkingBudget"] = 0
        elif found.effort is not None and found.effort != "none":
            thinking["thinkingLevel"] = found.effort.upper()
        if found.off:
            return thinking
        if found.show == "summarised" or (found.show is None and control.mode in ("on", "adaptive")):
            thinking["includeThoughts"] = True
        return thinking

    def _format(self, functions: bool, config: dict[str, Any]) -> None:
        output, capabilities, notes = self._conversation.output, self._capabilities, self._notes
        if output is None:
            return
        word = self._word("output")
        if capabilities.output_format == "none" or capabilities.structured_output == "refused":
            raise Inexpressible(f"`{word}`: this model binds its answer to no format")
        if functions and not capabilities.json_with_tools:
            notes[f"{word} (not together with tools)"] = None
            return
        config["responseMimeType"] = "application/json"
        if output.kind != "json_schema" or output.schema is None:
            return
        if capabilities.output_format == "json":
            notes[f"{word} (any JSON object)"] = None
            return
        profile = self._profile()
        schema = clean(output.schema, profile)
        if schema is not None:
            config["responseJsonSchema" if profile == "gemini_json_schema" else "responseSchema"] = schema
