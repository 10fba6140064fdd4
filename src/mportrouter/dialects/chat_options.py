"""What stands beside the messages of a Chat request: tools, their choice, and how the answer shall be made."""

from __future__ import annotations

import hashlib
from typing import Any

from ..conversation import Conversation, OutputFormat, Sampling, Tool, ToolChoice
from ..interfaces import Inexpressible, Target
from ..reasoning_controls import Asked
from ..schemas import clean, obeys_strict
from ..tool_names import ToolNames
from .chat_words import spelt

#: Characters of ``safety_identifier``.
_USER_LIMIT = 64
_TIERS = {"standard_only": "default"}
#: Sampling members by the name under which a column refuses them.
_GROUPS = {"presence_penalty": "penalties", "frequency_penalty": "penalties", "top_logprobs": "logprobs"}


class Options:
    """
    :param notes: what was left out is added here.
    """

    def __init__(self, conversation: Conversation, target: Target, names: ToolNames, notes: dict[str, None]) -> None:
        self._conversation = conversation
        self._capabilities = target.capabilities
        self._names = names
        self._notes = notes

    def _word(self, name: str) -> str:
        return spelt(self._conversation.dialect, name)

    # ------------------------------------------------------------------------------------------- tools

    def tools(self, body: dict[str, Any]) -> None:
        """
        Write the tools, their choice, and whether several may be called at once.

        :raises Inexpressible: where a tool that must be called cannot be offered.
        """
        conversation, capabilities = self._conversation, self._capabilities
        choice = conversation.tool_choice
        functions = [self._function(tool) for tool in self._names.tools]
        searches = self._searches(body, choice, bool(functions))
        if choice is not None and choice.allowed:
            allowed = {self._names.wire(name) for name in choice.allowed}
            functions = [each for each in functions if each["function"]["name"] in allowed]
        if not functions:
            if choice is not None and choice.mode in ("required", "one") and not searches:
                word = self._word("tool_choice")
                raise Inexpressible(f"`{word}` asks for a tool, and this upstream can be offered none")
            return
        body["tools"] = functions
        if choice is not None:
            self._choice(body, choice, {each["function"]["name"] for each in functions})
        if conversation.parallel is not None:
            if capabilities.parallel_flag:
                body["parallel_tool_calls"] = conversation.parallel
            elif not conversation.parallel:
                self._notes[self._word("parallel")] = None

    def _function(self, tool: Tool) -> dict[str, Any]:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        if tool.schema is not None:
            schema = clean(tool.schema, self._capabilities.schema_profile or "openai")
            if schema is not None:
                function["parameters"] = schema
        # Not strict is what the dialect takes for granted, and what servers without the member are.
        if tool.strict:
            obeys = tool.schema is None or (isinstance(tool.schema, dict) and obeys_strict(tool.schema))
            if not obeys or "strict" in self._capabilities.strip_tool_fields:
                self._notes["tools[].strict"] = None
            else:
                function["strict"] = True
                if tool.schema is not None:
                    # What is strict is taken as it stands, or not at all.
                    function["parameters"] = tool.schema
        return {"type": "function", "function": function}

    def _searches(self, body: dict[str, Any], choice: ToolChoice | None, functions: bool) -> bool:
        """Offer what the provider runs itself; whether it has any of it."""
        capabilities = self._capabilities
        servers = [tool for tool in self._conversation.tools if tool.kind == "server"]
        found = False
        for tool in servers:
            fits = tool.server == "web_search" and "web_search" in capabilities.server_tool_kinds
            if fits and (capabilities.server_tools_with_functions or not functions):
                body["web_search_options"] = self._search(tool)
                found = True
                continue
            if choice is not None and choice.mode == "one" and choice.name == tool.name:
                raise Inexpressible(
                    f"`{self._word('tool_choice')}` asks for {tool.name[:64]}, which this upstream does not run"
                )
            self._notes[f"tools.{tool.name[:64]}"] = None
        if servers and not found and not functions:
            names = ", ".join(tool.name[:64] for tool in servers)
            # An answer from memory is none.
            raise Inexpressible(
                f"the only tools, {names}, are run by their provider, and this upstream has none like them"
            )
        return found

    def _search(self, tool: Tool) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for name, value in tool.options.items():
            if name == "context_size":
                written["search_context_size"] = value
            elif name == "user_location":
                written["user_location"] = {"type": "approximate", "approximate": dict(value)}
            else:
                self._notes[f"tools.{tool.name[:64]}.{name}"] = None
        return written

    def _choice(self, body: dict[str, Any], choice: ToolChoice, offered: set[str]) -> None:
        mode = choice.mode
        if choice.allowed is not None and not choice.allowed:
            mode = "none"
        if mode in ("required", "one") and self._capabilities.tool_choice_force == "refused":
            raise Inexpressible(f"`{self._word('tool_choice')}`: this upstream forces no tool")
        if mode != "one":
            body["tool_choice"] = mode
            return
        name = self._names.wire(choice.name)
        if name not in offered:
            raise Inexpressible(f"`{self._word('tool_choice')}` asks for {choice.name[:64]}, which is not offered")
        body["tool_choice"] = {"type": "function", "function": {"name": name}}

    # ------------------------------------------------------------------------------------------- the answer

    def limit(self, body: dict[str, Any]) -> None:
        """Write how long the answer may be."""
        wanted, most = self._conversation.max_output, self._capabilities.max_output
        if not wanted:
            return
        if most is not None and wanted > most:
            self._notes[f"{self._word('limit')}={most}"] = None
            wanted = most
        body[self._capabilities.max_tokens_field] = wanted

    def sampling(self, body: dict[str, Any]) -> None:
        """
        Write how tokens are drawn.

        :raises Inexpressible: for several answers at once.
        """
        sampling, capabilities = self._conversation.sampling, self._capabilities
        if sampling == _UNSAID:
            return
        if sampling.choices is not None and sampling.choices > 1:
            raise Inexpressible(f"`{self._word('choices')}`: several answers at once cannot be translated")
        temperature = sampling.temperature
        if temperature is not None and temperature > capabilities.temperature_max:
            temperature = capabilities.temperature_max
            if "temperature" not in capabilities.sampling_refused:
                self._notes[f"temperature={temperature:g}"] = None
        for name, value in (
            ("temperature", temperature),
            ("top_p", sampling.top_p),
            ("top_k", sampling.top_k),
            ("seed", sampling.seed),
            ("presence_penalty", sampling.presence_penalty),
            ("frequency_penalty", sampling.frequency_penalty),
        ):
            if value is None:
                continue
            if _GROUPS.get(name, name) in capabilities.sampling_refused:
                self._notes[self._word(name)] = None
            else:
                body[name] = value
        # Their numbers are tokens of one model, and an answer that is translated does not bring any back.
        for name, asked in (
            ("logit_bias", sampling.logit_bias),
            ("logprobs", sampling.logprobs),
            ("top_logprobs", sampling.top_logprobs),
        ):
            if asked:
                self._notes[self._word(name)] = None
        self._stop(body, [each for each in sampling.stop if each])

    def _stop(self, body: dict[str, Any], stop: list[str]) -> None:
        capabilities, word = self._capabilities, self._word("stop")
        if not stop:
            return
        if capabilities.stop_sequences == "refused" or capabilities.stop_max == 0:
            self._notes[word] = None
            return
        if capabilities.stop_max is not None and len(stop) > capabilities.stop_max:
            self._notes[f"{word} (the first {capabilities.stop_max} of {len(stop)})"] = None
            stop = stop[: capabilities.stop_max]
        body["stop"] = stop

    def reasoning(self, body: dict[str, Any], asked: Asked | None) -> None:
        """Write how much the model shall think, in the member that the upstream has for it."""
        if asked is None:
            return
        self._notes.update(dict.fromkeys(asked.notes))
        member = self._capabilities.reasoning_member
        on = not asked.off and (asked.effort is not None or asked.budget is not None or asked.adaptive)
        effort = asked.effort
        if member == "reasoning_effort":
            if effort is not None:
                body[member] = effort
        elif member == "reasoning":
            told: dict[str, Any] = {}
            if asked.off:
                told["enabled"] = False
            elif asked.budget is not None and not asked.adaptive:
                told["max_tokens"] = asked.budget
            elif effort is not None:
                told["effort"] = effort
            elif on:
                told["enabled"] = True
            if asked.show == "omitted":
                told["exclude"] = True
            if told:
                body[member] = told
        elif member == "thinking":
            if asked.off or on:
                body[member] = {"type": "disabled" if asked.off else "enabled"}
                if asked.budget is not None and not asked.off and not asked.adaptive:
                    body[member]["budget_tokens"] = asked.budget
            if effort is not None and not asked.off:
                body["reasoning_effort"] = effort
        elif member == "enable_thinking" and (asked.off or on):
            body[member] = on
            if asked.budget is not None and on and not asked.adaptive:
                body["thinking_budget"] = asked.budget

    def output(self, body: dict[str, Any]) -> str:
        """
        Write the form of the answer.

        :returns: what has to be said in words beside it.
        :raises Inexpressible: where the upstream knows no such form.
        """
        output, capabilities = self._conversation.output, self._capabilities
        if output is None:
            return ""
        word, best = self._word("output"), capabilities.output_format
        if best == "none" or capabilities.structured_output == "refused":
            raise Inexpressible(f"`{word}`: this upstream does not bind its answers to a form")
        if "tools" in body and not capabilities.json_with_tools:
            raise Inexpressible(f"`{word}`: this upstream takes no tools beside it")
        if output.kind == "json_schema" and best == "json_schema":
            body["response_format"] = {"type": "json_schema", "json_schema": self._schema(output)}
            return ""
        body["response_format"] = {"type": "json_object"}
        if output.kind == "json_schema" and output.schema is not None:
            self._notes[f"{word} (its schema told in words)"] = None
            return _WITH_SCHEMA
        # The API refuses the form where nobody speaks of it.
        return _AS_JSON

    def _schema(self, output: OutputFormat) -> dict[str, Any]:
        written: dict[str, Any] = {"name": output.name or "response"}
        if output.description:
            written["description"] = output.description
        profile = self._capabilities.schema_profile or "openai"
        schema = clean(output.schema, profile) if output.schema is not None else None
        if schema is not None:
            written["schema"] = schema
        strict = output.strict
        if strict is None:
            strict = schema is not None and obeys_strict(schema)
        written["strict"] = strict
        return written

    def identity(self, body: dict[str, Any]) -> None:
        """Write who asks, and what has to do with the account."""
        conversation, known = self._conversation, self._capabilities.identity_fields
        if conversation.user is not None:
            for name in ("safety_identifier", "user"):
                if name in known:
                    body[name] = _short(conversation.user)
                    break
        for name, value in (
            ("metadata", conversation.metadata),
            ("service_tier", conversation.service_tier),
            ("verbosity", conversation.verbosity),
        ):
            if value is None:
                continue
            if name in known:
                body[name] = _TIERS.get(value, value) if isinstance(value, str) else dict(value)
            elif value != "auto" and value:
                self._notes[self._word(name)] = None
        if conversation.cache_key is not None and self._capabilities.cache_key:
            body["prompt_cache_key"] = _short(conversation.cache_key)


_UNSAID = Sampling()
_AS_JSON = "Answer with one JSON object and nothing else."
_WITH_SCHEMA = "Answer with one JSON object and nothing else. It must fit this JSON Schema:\n"


def _short(user: str) -> str:
    """An id within the limit; a longer one, which may hold an account's particulars, as its digest."""
    if len(user) <= _USER_LIMIT:
        return user
    return hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=_USER_LIMIT // 2).hexdigest()
