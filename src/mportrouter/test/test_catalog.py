"""The catalogue's rows."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from .. import catalog
from ..config_columns import by_model
from ..config_words import base_url, pin
from ..errors import Kind
from ..pricing import PriceBook
from ..routing.table import ModelMap, glob
from ..settings import Capabilities

#: Columns that only a translated request asks.
TRANSLATION = {
    field.name
    for field in attrs.fields(Capabilities)[[field.name for field in attrs.fields(Capabilities)].index("max_output") :]
}


class RowsTests(SynchronousTestCase):
    """What is shipped."""

    def test_names(self) -> None:
        """Each provider has a row, with the dialects it speaks; one takes everything from the file."""
        spoken = {name: tuple(row.dialects) for name, row in catalog.load().items()}
        chat, responses = "openai-chat", "openai-responses"
        self.assertEqual(
            spoken,
            {
                "anthropic": ("anthropic",),
                "minimax": ("anthropic", chat),
                "deepseek": ("anthropic", chat),
                "moonshot": ("anthropic", chat),
                "kimi-code": ("anthropic", chat),
                "cerebras": (chat,),
                "groq": (chat, responses),
                "openai": (chat, responses),
                "openrouter": (chat, responses, "anthropic"),
                "gemini": ("gemini",),
                "ollama": (chat, responses, "anthropic"),
                "lmstudio": (chat, responses, "anthropic"),
                "vllm": (chat, responses, "anthropic"),
                "codex": (responses,),
                "custom": catalog.DIALECTS,
            },
        )

    def test_loaded_once(self) -> None:
        """The rows are read once."""
        self.assertIs(catalog.load(), catalog.load())

    def test_unknown(self) -> None:
        """A provider that is not there is a KeyError."""
        self.assertRaises(KeyError, catalog.provider, "nobody")

    def test_anthropic_honours_its_own_dialect(self) -> None:
        """Nothing of a request to Anthropic is edited: the columns that such a request asks are at their defaults."""
        whole = catalog.provider("anthropic").capabilities
        for field in attrs.fields(Capabilities):
            if field.name not in TRANSLATION:
                self.assertEqual(getattr(whole, field.name), field.default, field.name)
        # But that older models take no system messages inside the conversation.
        for pattern, columns in catalog.provider("anthropic").dialects["anthropic"].model_capabilities:
            edits = set(columns) - TRANSLATION - {"mid_system", "tool_choice_force", "structured_output"}
            self.assertEqual(edits, set(), pattern)

    def test_own_signatures(self) -> None:
        """No two providers accept each other's signatures on reasoning, in whatever dialect."""
        for name, row in catalog.load().items():
            for spoken in row.dialects.values():
                self.assertEqual(spoken.capabilities.thinking_signature, name)
                self.assertEqual(spoken.capabilities.billing_header, name in ("anthropic", "custom") and (
                    spoken is row.dialects["anthropic"]))

    def test_local_servers(self) -> None:
        """Servers on the own machine are asked without a key, on loopback, with time to load a model."""
        for name in ("ollama", "lmstudio", "vllm"):
            row = catalog.provider(name)
            for spoken in row.dialects.values():
                self.assertEqual(spoken.auth_style, "none")
                self.assertTrue(spoken.base_url.startswith("http://127.0.0.1:"))
            self.assertGreater(row.timeouts.first_content or 0, 100)

    def test_codex(self) -> None:
        """The ChatGPT backend streams, keeps nothing, and gets none of the members that it refuses."""
        row = catalog.provider("codex")
        columns = row.capabilities
        self.assertEqual((row.auth, columns.stream_only, columns.stateless_only), ("codex", True, True))
        self.assertEqual(columns.generate_path, "/responses")
        refused = {"max_output_tokens", "metadata", "temperature", "user", "stream_options", "previous_response_id"}
        self.assertLessEqual(refused, set(columns.strip_fields))

    def test_clean_up(self) -> None:
        """Each of the shipped tiers' providers is spared what it refuses, and none its own thinking."""
        for name, thinking, marks in (
            ("deepseek", "sanitise", ("cache_control",)),
            ("kimi-code", "preserve", ("cache_control",)),
            ("minimax", "preserve", ()),
        ):
            columns = catalog.provider(name).dialects["anthropic"].capabilities
            self.assertEqual((columns.thinking_blocks, columns.strip_block_fields), (thinking, marks), name)
            self.assertIn("reasoning_effort", columns.strip_fields)
            self.assertEqual(columns.strip_events, ())

    def test_minimax_differences(self) -> None:
        """What MiniMax ignores or refuses is in its columns."""
        row = catalog.provider("minimax")
        capabilities = row.capabilities
        self.assertEqual(row.base_urls["anthropic"], "https://api.minimax.io/anthropic")
        self.assertEqual(row.dialects["anthropic"].auth_style, "bearer")
        self.assertEqual(capabilities.stop_sequences, "ignored")
        self.assertEqual(capabilities.tool_choice_force, "ignored")
        self.assertEqual(capabilities.parallel_off, "ignored")
        self.assertEqual(capabilities.documents, "refused")
        self.assertFalse(capabilities.mid_system)
        self.assertFalse(capabilities.billing_header)
        self.assertEqual(capabilities.thinking_signature, "minimax")
        self.assertIn("context_management", capabilities.strip_fields)
        self.assertIn("block_binding", capabilities.strip_thinking_fields)
        self.assertNotIn("cache_control", capabilities.strip_tool_fields)
        chat = row.dialects["openai-chat"].capabilities
        self.assertEqual(chat.stop_sequences, "ignored")
        self.assertEqual((chat.strip_fields, chat.always_true), ((), ("reasoning_split",)))
        self.assertEqual((chat.reasoning_field, chat.reasoning_echo), ("reasoning_content", "required"))

    def test_urls_and_pins_are_well_formed(self) -> None:
        """Base URLs have no trailing slash and no /v1; pins are base64, two at least where they act."""
        for row in catalog.load().values():
            for url in row.base_urls.values():
                self.assertEqual(base_url(url), url)
            for digest in row.pins.sha256:
                self.assertEqual(pin(digest), digest)
            if row.pins.mode != "off":
                self.assertGreaterEqual(len(set(row.pins.sha256)), 2)
                self.assertEqual(row.pins.mode, "report-only")

    def test_error_codes_are_kinds(self) -> None:
        """Numbers of errors lead to failures that exist."""
        codes = catalog.provider("minimax").error_codes
        self.assertEqual(Kind(codes[1008]), Kind.MONEY)
        self.assertEqual(Kind(codes[1002]), Kind.RATE)
        self.assertEqual(Kind(codes[2013]), Kind.BAD_REQUEST)
        self.assertEqual(Kind(codes[1004]), Kind.AUTH)

    def test_frozen(self) -> None:
        """A row cannot be changed, nor its mappings."""
        row = catalog.provider("minimax")
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, row, "name", "x")
        self.assertFalse(hasattr(row.dialects, "update"))


class ReadTests(SynchronousTestCase):
    """A row that is wrong is not taken in silence."""

    def test_unknown_column(self) -> None:
        """A column that does not exist is named."""
        error = self.assertRaises(ValueError, catalog.read, "x: {colour: blue}")
        self.assertIn("colour", str(error))

    def test_unknown_capability(self) -> None:
        """So is a capability."""
        error = self.assertRaises(ValueError, catalog.read, "x: {capabilities: {flying: honoured}}")
        self.assertIn("flying", str(error))

    def test_wrong_values(self) -> None:
        """So is a value that its column does not take, in a row, a dialect or a pattern of models."""
        for columns, culprit in (
            ("{stop_sequences: maybe}", "stop_sequences"),
            ("{mid_system: 1}", "mid_system"),
            ("{max_output: many}", "max_output"),
            ("{temperature_max: 1}", "temperature_max"),
            ("{sampling_refused: [heat]}", "heat"),
            ("{strip_fields: metadata}", "strip_fields"),
            ("{max_tokens_field: null}", "max_tokens_field"),
        ):
            for row in (
                f"{{capabilities: {columns}}}",
                f"{{dialects: {{gemini: {{capabilities: {columns}}}}}}}",
                f"{{model_capabilities: {{'a*': {columns}}}}}",
            ):
                error = self.assertRaises(ValueError, catalog.read, f"x: {row}")
                self.assertIn(culprit, str(error))
                self.assertIn("'x'", str(error))

    def test_dialects(self) -> None:
        """A dialect that does not exist, has no base URL, or columns of its own that are none, is a mistake."""
        for row in (
            "{base_urls: {latin: 'https://a'}}",
            "{dialects: {latin: {}}}",
            "{base_urls: {gemini: 'https://a'}, dialects: {anthropic: {}}}",
            "{dialects: {gemini: {timeouts: {}}}}",
        ):
            self.assertRaises(ValueError, catalog.read, f"x: {row}")

    def test_layers(self) -> None:
        """A dialect's columns stand over the row's one by one; its patterns stand before the row's."""
        (row,) = catalog.read(
            "x:\n"
            "  base_urls: {openai-chat: https://a, anthropic: https://b}\n"
            "  probe: /p\n"
            "  capabilities: {images: refused, stop_max: 4}\n"
            "  model_capabilities: {'a*': {stop_max: 1}, 'b*': {stop_max: 2}}\n"
            "  dialects:\n"
            "    anthropic:\n"
            "      auth_style: bearer\n"
            "      capabilities: {stop_max: null}\n"
            "      model_capabilities: {'b*': {images: honoured}, 'c*': {}}\n"
        ).values()
        chat, other = row.dialects["openai-chat"], row.dialects["anthropic"]
        self.assertEqual((row.dialect, row.capabilities), ("openai-chat", chat.capabilities))
        self.assertEqual((chat.capabilities.images, chat.capabilities.stop_max), ("refused", 4))
        self.assertEqual((other.capabilities.images, other.capabilities.stop_max), ("refused", None))
        self.assertEqual((chat.auth_style, other.auth_style, other.probe), ("x-api-key", "bearer", "/p"))
        self.assertEqual([pattern for pattern, _ in other.model_capabilities], ["b*", "c*", "a*"])
        self.assertEqual(dict(other.model_capabilities)["b*"], {"images": "honoured"})

    def test_unknown_kind(self) -> None:
        """So is a failure."""
        self.assertRaises(ValueError, catalog.read, "x: {error_codes: {1: tired}}")


class ModelNameTests(SynchronousTestCase):
    """Which model an upstream is asked for."""

    def _name(self, provider: str, requested: str) -> str:
        return ModelMap(next(iter(catalog.provider(provider).dialects.values())).models).target(requested)

    def test_minimax(self) -> None:
        """MiniMax is asked for MiniMax models only."""
        for requested in ("claude-opus-5-5", "claude-haiku-4-5-20251001", "gpt-6-sol", "sonnet", "minimax-m3"):
            self.assertEqual(self._name("minimax", requested), "MiniMax-M3")
        for requested in ("MiniMax-M2.7", "MiniMax-M4"):
            self.assertEqual(self._name("minimax", requested), requested)

    def test_anthropic(self) -> None:
        """Claude's names pass as they came, names of others become a Claude model that has a price."""
        self.assertEqual(self._name("anthropic", "claude-opus-5-5"), "claude-opus-5-5")
        self.assertEqual(self._name("anthropic", "claude-not-yet-known"), "claude-not-yet-known")
        for requested in ("MiniMax-M3", "minimax-m2.5", "gpt-6-sol", "kimi-k3"):
            name = self._name("anthropic", requested)
            self.assertTrue(name.startswith("claude-"), name)
            self.assertIsNotNone(PriceBook.load().context("anthropic", name))

    def test_no_match(self) -> None:
        """A typing error goes to the provider as it came, which judges it."""
        self.assertEqual(self._name("anthropic", "cluade-opus"), "cluade-opus")

    def test_others(self) -> None:
        """Each provider is asked for its own models, whatever a client of another says."""
        for provider, own, foreign in (
            ("openai", "gpt-6-sol", "claude-sonnet-5-5"),
            ("gemini", "gemini-3.8-flash", "claude-haiku-4-5"),
            ("groq", "openai/gpt-oss-20b", "claude-opus-5"),
            ("cerebras", "qwen-3.8-27b", "gpt-6-sol"),
            ("deepseek", "deepseek-v4-pro", "gpt-6-sol"),
            ("moonshot", "kimi-k3", "claude-opus-5"),
            ("codex", "gpt-6.1-sol", "claude-opus-5"),
        ):
            self.assertEqual(self._name(provider, own), own)
            self.assertNotEqual(self._name(provider, foreign), foreign)


class ModelCapabilityTests(SynchronousTestCase):
    """What differs by model."""

    def _columns(self, provider: str, model: str, dialect: str = "") -> Capabilities:
        row = catalog.provider(provider)
        spoken = row.dialects[dialect or row.dialect]
        resolved = by_model(spoken.capabilities, {}, (), spoken.model_capabilities)
        for pattern, columns in resolved:
            if glob(pattern).match(model):
                return columns
        return spoken.capabilities

    def test_claude(self) -> None:
        """Claude by generation: how thinking is asked for, what is refused, how much it answers."""
        for model, kind, off, forced, prefill, sampling, output in (
            ("claude-fable-5-2", "adaptive", False, "refused", False, False, 128000),
            ("claude-fable-5-1-20260801", "adaptive", False, "refused", False, False, 128000),
            ("claude-fable-5-20260301", "adaptive", False, "honoured", False, False, 128000),
            ("claude-mythos-5", "adaptive", False, "honoured", False, False, 128000),
            ("claude-opus-5-5", "adaptive", False, "refused", False, False, 128000),
            ("claude-sonnet-5-5-20261001", "adaptive", False, "refused", False, False, 128000),
            ("claude-opus-5", "adaptive", True, "honoured", False, False, 128000),
            ("claude-haiku-5-5", "adaptive", True, "honoured", False, False, 128000),
            ("claude-opus-4-8", "adaptive", True, "honoured", False, False, 128000),
            ("claude-sonnet-4-6", "adaptive", True, "honoured", False, True, 128000),
            ("claude-sonnet-4-5-20250929", "budget", True, "honoured", True, True, 64000),
            ("claude-haiku-4-5", "budget", True, "honoured", True, True, 64000),
            ("claude-opus-4-1-20250805", "budget", True, "honoured", True, True, 32000),
            ("claude-not-yet-known", "adaptive", True, "honoured", False, False, 128000),
        ):
            columns = self._columns("anthropic", model)
            self.assertEqual(
                (columns.reasoning_kind, columns.reasoning_off, columns.tool_choice_force, columns.prefill),
                (kind, off, forced, prefill),
                model,
            )
            self.assertEqual(columns.sampling_refused == (), sampling, model)
            self.assertEqual(columns.max_output, output, model)

    def test_openai(self) -> None:
        """Reasoning models refuse sampling and stops, the others reasoning."""
        for model in ("gpt-6.1-terra", "gpt-5", "gpt-5.4-mini", "o3", "o4-mini", "gpt-not-yet-known"):
            columns = self._columns("openai", model)
            self.assertEqual((columns.reasoning_kind, columns.max_tokens_field), ("effort", "max_completion_tokens"))
            self.assertIn("temperature", columns.sampling_refused)
        self.assertEqual(self._columns("openai", "gpt-5").reasoning_levels[0], "minimal")
        for model, off in (("gpt-5", False), ("gpt-5.1", True), ("gpt-6-sol", True), ("o3", False)):
            columns = self._columns("openai", model)
            self.assertEqual((columns.reasoning_off, "none" in columns.reasoning_levels), (off, off), model)
        for model in ("gpt-4o", "gpt-4.1-mini", "chatgpt-4o-latest", "gpt-5.1-chat-latest", "gpt-3.5-turbo"):
            for dialect in ("openai-chat", "openai-responses"):
                columns = self._columns("openai", model, dialect)
                self.assertEqual(columns.reasoning_kind, "none", (model, dialect))
                self.assertNotIn("temperature", columns.sampling_refused)
            self.assertEqual(self._columns("openai", model).stop_sequences, "honoured")
        self.assertEqual(self._columns("openai", "gpt-4o", "openai-responses").stop_sequences, "refused")

    def test_gemini(self) -> None:
        """Levels and needed signatures since Gemini 3, budgets and optional ones before."""
        for model in ("gemini-3-flash-preview", "gemini-3.1-pro-preview", "gemini-4-argon"):
            columns = self._columns("gemini", model)
            self.assertEqual((columns.reasoning_kind, columns.thought_signature), ("level", "required"))
        for model, least, off in (
            ("gemini-2.5-pro", 128, False),
            ("gemini-2.5-flash", 1, True),
            ("gemini-2.5-flash-lite-preview-09-2025", 512, True),
        ):
            columns = self._columns("gemini", model)
            self.assertEqual((columns.reasoning_kind, columns.thought_signature), ("budget", "optional"))
            self.assertEqual((columns.reasoning_budget[0], columns.reasoning_off), (least, off))
        self.assertIn("top_p", self._columns("gemini", "gemini-3.8-flash").sampling_refused)
        self.assertEqual(self._columns("gemini", "gemini-2.0-flash").schema_profile, "gemini_schema")

    def test_pictures(self) -> None:
        """Which models see."""
        for provider, model, images in (
            ("minimax", "MiniMax-M3", "honoured"),
            ("minimax", "MiniMax-M2.7", "refused"),
            ("deepseek", "deepseek-v4-pro", "refused"),
            ("deepseek", "deepseek-flash", "honoured"),
            ("groq", "openai/gpt-oss-120b", "refused"),
            ("groq", "qwen/qwen3.8-27b", "honoured"),
            ("cerebras", "gpt-oss-120b", "refused"),
            ("cerebras", "qwen-3.8-27b", "honoured"),
        ):
            self.assertEqual(self._columns(provider, model).images, images, model)

    def test_every_row_resolves(self) -> None:
        """Every pattern of every dialect gives columns."""
        for row in catalog.load().values():
            for spoken in row.dialects.values():
                resolved = by_model(spoken.capabilities, {}, (), spoken.model_capabilities)
                self.assertEqual(len(resolved), len(spoken.model_capabilities))
