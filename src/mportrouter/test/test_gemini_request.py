"""Tests for :mod:`mportrouter.dialects.gemini_look`, ``gemini_request`` and ``gemini_turn``."""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Opaque
from ..dialects import gemini_signatures
from ..dialects.gemini import GeminiDialect
from ..dialects.gemini_look import GeminiLook
from ..envelope import seal, seal_base64
from ..errors import Kind, RouterError
from ..interfaces import Look, Prepared, Target
from ..settings import Capabilities

GENERATE = b"/v1beta/models/g:generateContent"
STREAM = b"/v1beta/models/g:streamGenerateContent"
COUNT = b"/v1beta/models/g:countTokens"
FOREIGN = seal_base64(Opaque("openai", "gpt", "encrypted", "o1"))
OWN = seal_base64(Opaque("gemini", "g", "thought", "AAEC"))
DUMMY = gemini_signatures.DUMMY
USER = {"role": "user", "parts": [{"text": "hi"}]}
CALL = {"functionCall": {"name": "f", "args": {"a": 1}}}
RESULT = {"functionResponse": {"name": "f", "response": {"output": "x"}}}


def look(body: Any, path: bytes = GENERATE, query: bytes = b"") -> GeminiLook:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = GeminiDialect().look(raw, path, query)
    assert isinstance(found, GeminiLook)
    return found


def prepare(body: Any, path: bytes = GENERATE, query: bytes = b"", model: str = "g", **columns: Any) -> Prepared:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    columns.setdefault("thinking_signature", "gemini")
    target = Target("gemini", model, Capabilities(**columns))
    return GeminiDialect().prepare(raw, GeminiDialect().look(raw, path, query), target)


def contents(*parts: Any, **columns: Any) -> list[dict[str, Any]]:
    """What becomes of parts of the model's."""
    body = {"contents": [USER, {"role": "model", "parts": list(parts)}, USER]}
    return json.loads(prepare(body, **columns).body)["contents"]


class LookTests(SynchronousTestCase):
    """What a look tells."""

    def test_address(self) -> None:
        """Model, kind and form of the answer come from path and query."""
        seen = look({"contents": []}, STREAM, b"alt=sse")
        self.assertEqual((seen.model, seen.stream, seen.rewrite), ("g", True, False))
        self.assertEqual((look({}, STREAM).stream, look({}, STREAM).rewrite), (True, True))
        self.assertEqual((look({}).stream, look({}).rewrite), (False, False))
        self.assertEqual((look({}, COUNT).stream, look({}, COUNT).rewrite), (False, False))
        self.assertEqual(look(b'{"contents":[]}').size, 15)

    def test_needs(self) -> None:
        """What the answer depends on is found in either spelling."""
        for body, needs in (
            ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}]}, {"images"}),
            ({"contents": [{"parts": [{"inline_data": {"mime_type": "application/pdf"}}]}]}, {"documents"}),
            ({"contents": [{"parts": [{"fileData": {"fileUri": "x"}}]}]}, {"images"}),
            ({"contents": [{"parts": {"inlineData": {"mimeType": "image/png"}}}]}, {"images"}),
            (
                {
                    "contents": [
                        {"parts": [{"functionResponse": {"parts": [{"inlineData": {"mimeType": "image/png"}}]}}]}
                    ]
                },
                {"images"},
            ),
            ({"tools": [{"googleSearch": {}}]}, {"server_tools"}),
            ({"tools": [{"function_declarations": []}]}, set()),
            ({"tools": {"functionDeclarations": [], "codeExecution": None}}, set()),
            ({"tool_config": {"function_calling_config": {"mode": "any"}}}, {"tool_choice_force"}),
            ({"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}, set()),
            ({"generation_config": {"stop_sequences": ["x"]}}, {"stop_sequences"}),
            ({"generationConfig": {"stopSequences": []}}, set()),
            ({"generationConfig": {"responseMimeType": "application/json"}}, {"structured_output"}),
            ({"generationConfig": {"responseMimeType": "text/plain"}}, set()),
            ({"generationConfig": {"responseJsonSchema": {"type": "object"}}}, {"structured_output"}),
            ({"generationConfig": None, "tools": None, "contents": None, "toolConfig": 3}, set()),
        ):
            self.assertEqual(look(body).needs, frozenset(needs), body)

    def test_limit(self) -> None:
        """The limit on the answer is told where it is a number."""
        for config, limit in (
            ({"maxOutputTokens": 5}, 5),
            ({"max_output_tokens": 6}, 6),
            ({"maxOutputTokens": "x"}, None),
            ({}, None),
        ):
            self.assertEqual(look({"generationConfig": config}).max_output, limit)

    def test_refused(self) -> None:
        """Bodies that cannot be routed are refused with words."""
        for body in (
            b"",
            b"[]",
            b"{",
            b'{"contents":[],"contents":[]}',
            b'{"a":"\xff"}',
            b"\xef\xbb\xbf{}",
            b"[" * 9999,
        ):
            with self.assertRaises(RouterError) as raised:
                look(body)
            self.assertEqual(raised.exception.kind, Kind.BAD_REQUEST, body[:20])
            self.assertTrue(raised.exception.message)

    def test_odd_shapes(self) -> None:
        """Turns of odd shapes are the provider's to judge; what can be seen in them is."""
        seen = look({"contents": [3, None, "x", {"parts": "x"}, {"parts": [3, {"thoughtSignature": FOREIGN}]}]})
        self.assertEqual(dict(seen.marks), {"wrapped": [4]})
        self.assertEqual(dict(look({"contents": {"parts": {"functionCall": {}}}}).marks), {"unsigned": [0]})
        self.assertEqual(dict(look({"contents": [{"parts": [{"functionCall": None, "text": "x"}]}]}).marks), {})

    def test_counting(self) -> None:
        """A request inside ``generateContentRequest`` is looked into."""
        for name in ("generateContentRequest", "generate_content_request"):
            seen = look({name: {"model": "models/g", "tools": [{"googleSearch": {}}]}}, COUNT)
            self.assertEqual(seen.needs, {"server_tools"})
            self.assertIsNotNone(seen.inner)


class PrepareTests(SynchronousTestCase):
    """The body for another upstream of the dialect."""

    def test_untouched(self) -> None:
        """Where nothing must change the very bytes go, whatever they look like; path and query are the upstream's."""
        raw = b'{ "contents" : [{"role":"model","parts":[{"text":"a","thoughtSignature":"AAEC"}]}], "odd" : 1.0 }'
        prepared = prepare(raw, STREAM, b"key=secret&alt=json", "h")
        self.assertIs(prepared.body, raw)
        self.assertEqual((prepared.path, prepared.query), (b"/v1beta/models/h:streamGenerateContent", b"alt=sse"))
        prepared = prepare(raw, b"/v1/models/g:generateContent", b"key=secret")
        self.assertEqual((prepared.path, prepared.query), (b"/v1beta/models/g:generateContent", b""))

    def test_plain_look(self) -> None:
        """A look that came from elsewhere tells the kind of answer too."""
        raw = b'{"contents":[]}'
        target = Target("gemini", "h", Capabilities(thinking_signature="gemini"))
        prepared = GeminiDialect().prepare(raw, Look("g", True, frozenset(), None, 0), target)
        self.assertEqual((prepared.body, prepared.path), (raw, b"/v1beta/models/h:streamGenerateContent"))

    def test_model(self) -> None:
        """A model in the body follows the one in the path."""
        body = json.loads(prepare({"model": "models/g", "contents": []}, model="h").body)
        self.assertEqual(body["model"], "models/h")

    def test_strip(self) -> None:
        """Members that must not reach an upstream are taken out in either spelling, and told."""
        for name in ("safetySettings", "safety_settings"):
            prepared = prepare({"contents": [], name: []}, strip_fields=("safetySettings", "contents"))
            self.assertEqual(json.loads(prepared.body), {"contents": []})
            self.assertEqual(prepared.dropped, (name,))

    def test_envelopes(self) -> None:
        """The provider's own signature is unwrapped, a foreign one taken off, its thought and empty parts left out."""
        self.assertEqual(
            contents({**CALL, "thoughtSignature": OWN})[1]["parts"], [{**CALL, "thoughtSignature": "AAEC"}]
        )
        self.assertEqual(contents({**CALL, "thought_signature": FOREIGN})[1]["parts"], [CALL])
        thought = {"text": "hm", "thought": True, "thoughtSignature": FOREIGN}
        empty = {"text": "", "thoughtSignature": FOREIGN}
        self.assertEqual(
            contents(thought, {"text": "a", "thoughtSignature": FOREIGN}, empty)[1]["parts"], [{"text": "a"}]
        )
        self.assertEqual(contents(empty), [USER, USER])
        prepared = prepare({"contents": [USER, {"role": "model", "parts": [empty]}]})
        self.assertEqual(prepared.dropped, ("thoughtSignature of openai",))
        only = prepare({"contents": [{"role": "model", "parts": [empty]}]})
        self.assertEqual(json.loads(only.body)["contents"], [{"role": "user", "parts": [{"text": "..."}]}])

    def test_spellings_of_base64(self) -> None:
        """Clients decode and encode signatures: both alphabets are read, with and without padding."""
        sealed = base64.b64decode(OWN)
        self.assertEqual(sealed.decode(), seal(Opaque("gemini", "g", "thought", "AAEC")))
        for text in (OWN, OWN.rstrip("="), base64.urlsafe_b64encode(sealed).decode()):
            self.assertEqual(
                contents({"text": "a", "thoughtSignature": text})[1]["parts"][0]["thoughtSignature"], "AAEC"
            )
        damaged = OWN[:20] + "!" + OWN[21:]
        self.assertNotIn("thoughtSignature", contents({"text": "a", "thoughtSignature": damaged})[1]["parts"][0])

    def test_native(self) -> None:
        """Signatures of the dialect's own provider go to nobody else."""
        part = {**CALL, "thoughtSignature": "AAEC"}
        self.assertEqual(contents(part)[1]["parts"], [part])
        self.assertEqual(contents(part, thinking_signature="other")[1]["parts"], [CALL])

    def test_required(self) -> None:
        """Where signatures must be, the first call of each step without one gets the documented stand-in."""
        signed = {**CALL, "thoughtSignature": "AAEC"}
        dummy = {**CALL, "thoughtSignature": DUMMY}
        self.assertEqual(contents(CALL, CALL, thought_signature="required")[1]["parts"], [dummy, CALL])
        self.assertEqual(contents(signed, CALL, thought_signature="required")[1]["parts"], [signed, CALL])
        self.assertEqual(
            contents({**CALL, "thoughtSignature": FOREIGN}, thought_signature="required")[1]["parts"], [dummy]
        )
        self.assertEqual(contents(CALL, thought_signature="optional")[1]["parts"], [CALL])
        snake = {"function_call": CALL["functionCall"]}
        self.assertEqual(
            contents(snake, thought_signature="required")[1]["parts"], [{**snake, "thoughtSignature": DUMMY}]
        )

    def test_append_only(self) -> None:
        """The same history gives the same bytes, whatever follows."""
        history = [USER, {"role": "model", "parts": [CALL]}, {"role": "user", "parts": [RESULT]}]
        short = prepare({"contents": history}, thought_signature="required").body
        longer = prepare(
            {"contents": [*history, {"role": "model", "parts": [{"text": "a"}]}, USER]}, thought_signature="required"
        ).body
        self.assertTrue(longer.startswith(short[:-3]))

    def test_count(self) -> None:
        """A request to count goes to the counter, also where the request stands inside."""
        prepared = prepare({"contents": [USER]}, COUNT, model="h")
        self.assertEqual((prepared.path, prepared.query), (b"/v1beta/models/h:countTokens", b""))
        body = {
            "generateContentRequest": {
                "model": "models/g",
                "contents": [{"parts": [{"text": "", "thoughtSignature": FOREIGN}]}],
            }
        }
        inner = json.loads(prepare(body, COUNT, model="h").body)["generateContentRequest"]
        self.assertEqual(inner, {"model": "models/h", "contents": [{"role": "user", "parts": [{"text": "..."}]}]})
        raw = json.dumps({"generateContentRequest": {"contents": [USER]}}).encode()
        self.assertIs(prepare(raw, COUNT).body, raw)


class TurnTests(SynchronousTestCase):
    """What the person said."""

    def said(self, *turns: Any, **more: Any) -> Any:
        body = json.dumps({"contents": list(turns), **more}).encode()
        return GeminiDialect().last_user_text(body), GeminiDialect().routing_text(body)

    def test_last(self) -> None:
        """The last turn's text counts where it is a person's."""
        for turn, text in (
            (USER, "hi"),
            ({"parts": [{"text": "a"}, {"text": "b"}]}, "a\nb"),
            ({"parts": {"text": "a"}}, "a"),
            ({"role": "user", "parts": [{"text": "<system-reminder>x</system-reminder>a"}]}, "a"),
            ({"role": "user", "parts": [RESULT]}, None),
            ({"role": "user", "parts": [{"text": "a"}, {"inlineData": {}}]}, None),
            ({"role": "model", "parts": [{"text": "a"}]}, None),
            ({"role": "user", "parts": [3]}, None),
            (3, None),
        ):
            self.assertEqual(self.said(turn)[0], text, turn)
        for body in (b"{}", b"", b"[]", b'{"contents":3}'):
            self.assertIsNone(GeminiDialect().last_user_text(body), body)
            self.assertEqual(GeminiDialect().routing_text(body).text, "")

    def test_routing(self) -> None:
        """The turn's key stays through the tool loop and changes with the next words; tools and sizes are told."""
        tools = [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}, {"googleSearch": {}}]
        system = {"parts": [{"text": "s"}]}
        _, first = self.said(USER, tools=tools, systemInstruction=system)
        loop = [{"role": "model", "parts": [CALL]}, {"role": "user", "parts": [RESULT]}]
        _, second = self.said(USER, *loop, tools=tools, system_instruction=system)
        self.assertEqual((first.text, first.tool_count, first.message_count, first.goes_on), ("hi", 3, 1, False))
        self.assertEqual(
            (second.turn_key, second.goes_on, second.system_size), (first.turn_key, True, first.system_size)
        )
        _, third = self.said(USER, *loop, USER)
        self.assertNotEqual(third.turn_key, first.turn_key)
        self.assertFalse(third.goes_on)
        self.assertTrue(self.said({"parts": [{"text": "a"}, {"fileData": {}}]})[1].images)
