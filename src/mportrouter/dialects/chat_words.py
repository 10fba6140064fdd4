"""How the client's dialect spells what a note or an error names."""

from __future__ import annotations

#: By neutral name; what is not here is spelt so in every dialect.
_WORDS: dict[str, dict[str, str]] = {
    "anthropic": {
        "limit": "max_tokens", "stop": "stop_sequences", "output": "output_config.format", "user": "metadata.user_id",
        "parallel": "tool_choice.disable_parallel_tool_use", "reasoning": "thinking", "image": "image",
        "document": "document", "audio": "audio", "choices": "n", "verbosity": "verbosity",
    },
    "openai-chat": {
        "limit": "max_completion_tokens", "stop": "stop", "output": "response_format", "user": "safety_identifier",
        "parallel": "parallel_tool_calls", "reasoning": "reasoning_effort", "image": "image_url", "document": "file",
        "audio": "input_audio", "choices": "n", "verbosity": "verbosity",
    },
    "openai-responses": {
        "limit": "max_output_tokens", "stop": "stop", "output": "text.format", "user": "safety_identifier",
        "parallel": "parallel_tool_calls", "reasoning": "reasoning", "image": "input_image", "document": "input_file",
        "audio": "input_audio", "choices": "n", "verbosity": "text.verbosity",
    },
    "gemini": {
        "limit": "maxOutputTokens", "stop": "stopSequences", "output": "responseMimeType", "user": "labels",
        "parallel": "parallel_tool_calls", "reasoning": "thinkingConfig", "image": "inlineData",
        "document": "inlineData", "audio": "inlineData", "choices": "candidateCount", "verbosity": "verbosity",
        "tool_choice": "functionCallingConfig", "top_p": "topP", "top_k": "topK", "presence_penalty": "presencePenalty",
        "frequency_penalty": "frequencyPenalty", "logprobs": "responseLogprobs", "top_logprobs": "logprobs",
        "service_tier": "serviceTier", "metadata": "labels",
    },
}  # fmt: skip


def spelt(dialect: str, name: str) -> str:
    """
    :param dialect: the client's.
    :param name: neutral.
    """
    return _WORDS.get(dialect, _WORDS["openai-chat"]).get(name, name)
