"""Tests for :mod:`mportrouter.subagent`, and for the dialects' tags."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..dialects.known import DIALECTS
from ..interfaces import Look
from ..subagent import Prompt, Tag, find, in_content, out_of_content

TAG = "<CCR-SUBAGENT-MODEL>cerebras,zai-glm-4.7</CCR-SUBAGENT-MODEL>"
NAMED = Tag("cerebras", "zai-glm-4.7")
PATHS = {"gemini": b"/v1beta/models/gemini-2.5-flash:generateContent"}


def spelled(text: str, how: str) -> str:
    """A JSON string in one of the ways that encoders write it."""
    written = json.dumps(text, ensure_ascii=how != "utf-8")
    if how == "go":
        written = written.replace("<", "\\u003c").replace(">", "\\u003e")
    elif how == "php":
        written = written.replace("/", "\\/")
    elif how == "upper":
        written = written.replace("<", "\\u003C").replace(">", "\\u003E").replace("/", "\\u002F")
    return written


class FindTests(SynchronousTestCase):
    """A tag in a text."""

    def test_anywhere(self) -> None:
        """It may stand anywhere; white space around the names does not count."""
        for text in (
            TAG,
            f"a\n\n{TAG}\n\nb",
            "<CCR-SUBAGENT-MODEL> cerebras ,\n zai-glm-4.7 </CCR-SUBAGENT-MODEL>",
        ):
            self.assertEqual(find(text), NAMED)

    def test_none(self) -> None:
        """What is not whole, or spelled otherwise, is none."""
        for text in (
            "",
            "CCR-SUBAGENT-MODEL",
            "<CCR-SUBAGENT-MODEL>a,b",
            "a,b</CCR-SUBAGENT-MODEL>",
            "<ccr-subagent-model>a,b</ccr-subagent-model>",
            "<CCR-SUBAGENT-MODEL>a,<b</CCR-SUBAGENT-MODEL>",
        ):
            self.assertIsNone(find(text), text)

    def test_first_counts(self) -> None:
        """Of several the first counts, also after an end that nothing closes."""
        self.assertEqual(find(f"<CCR-SUBAGENT-MODEL>x {TAG} <CCR-SUBAGENT-MODEL>c,d</CCR-SUBAGENT-MODEL>"), NAMED)

    def test_incomplete(self) -> None:
        """A tag without a model is still one; a model's name may hold commas and slashes."""
        self.assertEqual(find("<CCR-SUBAGENT-MODEL>groq</CCR-SUBAGENT-MODEL>"), Tag("groq", ""))
        self.assertEqual(find("<CCR-SUBAGENT-MODEL>o,a/b,c</CCR-SUBAGENT-MODEL>"), Tag("o", "a/b,c"))


class BytesTests(SynchronousTestCase):
    """A tag in JSON."""

    def test_spellings(self) -> None:
        """However an encoder writes brackets and slashes, the tag is found and nothing but the tag goes."""
        for how in ("ascii", "utf-8", "go", "php", "upper"):
            for before, after in (("", " b"), ("a\\", "b"), ("a\\\\", "\\b"), ('"ü\n', "</x>\ud83d"), ("<", ">")):
                whole = spelled(before + TAG + after, how).encode("utf-8", "surrogatepass")
                if how == "utf-8" and "\ud83d" in after:
                    continue  # no UTF-8
                self.assertEqual(in_content(whole), NAMED, whole)
                wanted = spelled(before + after, how).encode("utf-8", "surrogatepass")
                self.assertEqual(out_of_content(whole), wanted)

    def test_backslash_letters(self) -> None:
        """A backslash and the letters ``u003c`` are no bracket."""
        text = rb'"\\u003cCCR-SUBAGENT-MODEL\u003ea,b\u003c/CCR-SUBAGENT-MODEL\u003e"'
        self.assertIsNone(in_content(text))
        self.assertEqual(out_of_content(text), text)
        self.assertIsNone(find(json.loads(text)))

    def test_escaped_names(self) -> None:
        """Names are read as JSON reads them."""
        text = rb'"<CCR-SUBAGENT-MODEL>gr\u006fq,\n\"x\"\u002f1</CCR-SUBAGENT-MODEL>"'
        self.assertEqual(in_content(text), Tag("groq", '"x"/1'))

    @given(
        st.lists(
            st.sampled_from(
                [TAG, "<", ">", "/", "\\", "u003c", "CCR-SUBAGENT-MODEL", "</CCR-SUBAGENT-MODEL>", " ", "a,b", '"', "é"]
            ),
            max_size=12,
        ),
        st.sampled_from(["ascii", "utf-8", "go", "php", "upper"]),
    )
    @hypothesis_settings(max_examples=500, deadline=None)
    def test_agree(self, pieces: list[str], how: str) -> None:
        """Text and bytes agree on every tag, and what is left reads as the text without them."""
        text = "".join(pieces)
        whole = spelled(text, how).encode()
        self.assertEqual(in_content(whole), find(text))
        left, wanted = out_of_content(whole), text
        places = []
        position = 0
        while (tag := find(wanted[position:])) is not None:
            end = wanted.index("</CCR-SUBAGENT-MODEL>", wanted.index(f"{tag.provider}", position))
            start = wanted.rindex("<CCR-SUBAGENT-MODEL>", position, end)
            places.append((start, end + len("</CCR-SUBAGENT-MODEL>")))
            position = places[-1][1]
        for start, end in reversed(places):
            wanted = wanted[:start] + wanted[end:]
        if places and not wanted.strip():
            self.assertIsNone(left)
        else:
            assert left is not None
            self.assertEqual(json.loads(left), wanted)

    def test_no_blow_up(self) -> None:
        """Megabytes of ends that nothing closes are read quickly."""
        for text in ("<CCR-SUBAGENT-MODEL>" * 100_000, "<CCR-SUBAGENT-MODEL>" + "a" * 2_000_000, "\\" * 2_000_000):
            whole = json.dumps(text + "CCR-SUBAGENT-MODEL>").encode()
            began = time.process_time()
            self.assertIsNone(in_content(whole))
            self.assertLess(time.process_time() - began, 2.0)

    def test_deep(self) -> None:
        """What is nested deeper than any system prompt is left alone."""
        whole = b"[" * 50 + json.dumps(TAG).encode() + b"]" * 50
        self.assertIsNone(in_content(whole))
        self.assertEqual(out_of_content(whole), whole)

    def test_unreadable(self) -> None:
        """In a body that nobody can read there is no tag."""
        for body in (TAG.encode(), b"{" + TAG.encode(), b'{"system":"%b","system":"x"}' % TAG.encode(), b"[1]" * 3):
            self.assertIsNone(Prompt(("system",)).tag(body))
            self.assertIs(Prompt(("system",)).without_tag(body), body)


class DialectTests(SynchronousTestCase):
    """Where the dialects have their system prompts."""

    def look(self, name: str, body: bytes) -> Look:
        return DIALECTS[name].look(body, PATHS.get(name, b""), b"")

    def cut(self, name: str, body: bytes, tag: Tag | None = NAMED) -> bytes:
        """The body without its tags, the tag being what is wanted, the result the same each time."""
        dialect, look = DIALECTS[name], self.look(name, body)
        self.assertEqual(dialect.tag(body, look), tag)
        left = dialect.without_tag(body, look)
        again = bytes(bytearray(body))
        self.assertEqual(dialect.without_tag(again, self.look(name, again)), left)
        if tag is None:
            self.assertIs(left, body)
        else:
            self.assertIsNone(dialect.tag(left, self.look(name, left)))
        return left

    def pair(self, name: str, whole: str, left: str) -> None:
        self.assertEqual(self.cut(name, whole.encode()), left.encode())

    def test_everywhere(self) -> None:
        """In each dialect the tag alone goes, and white space and order of the JSON stay."""
        for name, whole in {
            "anthropic": '{ "model":"m", "max_tokens": 5,\n "system": "A@\\n\\nB", "messages":[ {"role":"user"} ] }',
            "openai-chat": '{"model":"m", "messages": [\n{"role":"system", "content": "A@\\n\\nB"},{"role":"user"} ] }',
            "openai-responses": '{"model":"m","instructions" : "A@B", "input" :"x"}',
            "gemini": '{"system_instruction": {"parts":[ {"text": "A@B"}] }, "contents":[{"parts":[{"text":"x"}]}]}',
        }.items():
            self.pair(name, whole.replace("@", TAG), whole.replace("@", ""))

    def test_blocks(self) -> None:
        """A block that was nothing but a tag goes whole, others keep their bytes and cache marks."""
        blocks = (
            '[{"type":"text","text":"@"} , {"type": "text","text":"You are","cache_control":{"type":"ephemeral"}},'
            '{"type":"text","text":"a@b"}]'
        )
        left = '[{"type": "text","text":"You are","cache_control":{"type":"ephemeral"}},{"type":"text","text":"ab"}]'
        body = '{"model":"m","max_tokens":5,"system":%s,"messages":[]}'
        self.pair("anthropic", body % blocks.replace("@", TAG), body % left)
        blocks = '[{"type":"text","text":"a"}, {"type":"text","text":" @\\n"}  ]'
        self.pair("anthropic", body % blocks.replace("@", TAG), body % '[{"type":"text","text":"a"}  ]')

    def test_nothing_left(self) -> None:
        """A prompt that was nothing but a tag is no prompt; instructions stay there, empty."""
        for name, whole, left in (
            ("anthropic", '{"model":"m","system":"@","messages":[]}', '{"model":"m","messages":[]}'),
            (
                "anthropic",
                '{"model":"m","system":[{"type":"text","text":"@"}],"messages":[]}',
                '{"model":"m","messages":[]}',
            ),
            (
                "openai-chat",
                '{"model":"m","messages":[{"role":"system","content":"@"}, {"role":"user","content":"x"}]}',
                '{"model":"m","messages":[{"role":"user","content":"x"}]}',
            ),
            (
                "openai-responses",
                '{"model":"m","instructions":"@","input":"x"}',
                '{"model":"m","instructions":"","input":"x"}',
            ),
            ("gemini", '{"systemInstruction":{"parts":{"text":"@"}},"contents":[]}', '{"contents":[]}'),
        ):
            self.pair(name, whole.replace("@", TAG), left)

    def test_roles(self) -> None:
        """In Chat every message of system or developer is searched, text or parts; no other is."""
        body = (
            '{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"a@"}]},'
            '{"role":"user","content":"#"},{"role":"system","content":"b@","name":"n"}]}'
        ).replace("#", TAG)
        self.pair("openai-chat", body.replace("@", TAG), body.replace("@", ""))

    def test_leading_items(self) -> None:
        """In Responses the instructions come first, then items before all others; later ones are left alone."""
        item = '{"role":"developer","content":[{"type":"input_text","text":"b%s"}]}'
        body = '{"model":"m","input":[%s,{"role":"user","content":"x"},%s],"instructions":"%s"}'
        other = "<CCR-SUBAGENT-MODEL>a,b</CCR-SUBAGENT-MODEL>"
        whole = (body % (item, item, "i%s")) % (other, other, TAG)
        self.pair("openai-responses", whole, (body % (item, item, "i%s")) % ("", other, ""))

    def test_only_the_system_prompt(self) -> None:
        """A tag in what a person said, in a tool's result or in a tool's description is text."""
        for name, body in {
            "anthropic": '{"model":"m","system":"s","tools":[{"name":"t","description":"@","input_schema":{}}],'
            '"messages":[{"role":"user","content":"@"},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t",'
            '"content":"@"}]}]}',
            "openai-chat": '{"model":"m","messages":[{"role":"user","content":"@"},{"role":"tool","tool_call_id":"t",'
            '"content":"@"},{"role":"assistant","content":"@"}]}',
            "openai-responses": '{"model":"m","input":[{"role":"user","content":"@"},'
            '{"type":"function_call_output","call_id":"c","output":"@"},{"role":"system","content":"@"}]}',
            "gemini": '{"contents":[{"role":"user","parts":[{"text":"@"}]}]}',
        }.items():
            self.cut(name, body.replace("@", TAG).encode(), None)
        self.cut("openai-responses", b'{"model":"m","input":"%b"}' % TAG.encode(), None)

    def test_strange_shapes(self) -> None:
        """Members of another shape than the dialect's are no system prompt, and no error."""
        for value in ("null", "5", f'[5,"{TAG}",null]', f'{{"x":"{TAG}"}}', f'[{{"text":5,"x":"{TAG}"}}]'):
            for name, member in (("anthropic", "system"), ("openai-responses", "instructions")):
                body = f'{{"model":"m","{member}":{value},"messages":[],"input":[]}}'.encode()
                dialect, look = DIALECTS[name], self.look(name, body)
                if dialect.tag(body, look) is None:
                    self.assertIs(dialect.without_tag(body, look), body)

    def test_surrogates(self) -> None:
        """A body that only the standard library reads is edited too."""
        self.pair(
            "anthropic",
            '{"model":"m","messages":[{"role":"user","content":"\\ud800"}],"system":"é\\ud800@"}'.replace("@", TAG),
            '{"model":"m","messages":[{"role":"user","content":"\\ud800"}],"system":"é\\ud800"}',
        )

    @given(
        st.lists(st.tuples(st.booleans(), st.text(max_size=8), st.booleans()), max_size=5),
        st.booleans(),
        st.sampled_from([None, 2]),
    )
    @hypothesis_settings(max_examples=200, deadline=None)
    def test_blocks_left(self, blocks: list[tuple[bool, str, bool]], ascii: bool, indent: int | None) -> None:
        """Whatever blocks there are, those with something to say stay in order, without tags."""
        system = [{"type": "text", "text": text + (TAG if tagged else "")} for tagged, text, _ in blocks]
        wanted: list[Any] = [{"type": "text", "text": text} for tagged, text, _ in blocks if not tagged or text.strip()]
        body: dict[str, Any] = {"model": "m", "system": system, "messages": []}
        text = json.dumps(body, ensure_ascii=ascii, indent=indent)
        left = json.loads(self.cut("anthropic", text.encode(), NAMED if any(t for t, _, _ in blocks) else None))
        self.assertEqual(left.get("system", []), wanted)
        self.assertEqual(left["messages"], [])
