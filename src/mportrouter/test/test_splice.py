"""Tests for :mod:`mportrouter.splice`."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import splice

_texts = st.text(st.characters(exclude_categories=()), max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)
_objects = st.dictionaries(_texts, _values, max_size=6)
_styles = st.sampled_from(
    [
        {"separators": (",", ":")},
        {},
        {"indent": 2},
        {"separators": (" ,\r\n", "\t: ")},
    ]
)


def _surrogates(value: Any) -> bool:
    return any(0xD800 <= ord(c) < 0xE000 for c in json.dumps(value, ensure_ascii=False))


def _encode(value: Any, style: dict[str, Any], ascii_only: bool) -> bytes:
    text = json.dumps(value, ensure_ascii=ascii_only or _surrogates(value), **style)
    return text.encode()


class MembersTests(SynchronousTestCase):
    """Where the members of an object stand."""

    @settings(deadline=None)
    @given(_objects, _styles, st.booleans(), st.sampled_from([b"", b" \n", b"\t\r\n"]))
    def test_offsets(self, value: dict[str, Any], style: dict[str, Any], ascii_only: bool, margin: bytes) -> None:
        """Each member's offsets cut out its name and its value, in order, in any style of white space."""
        body = margin + _encode(value, style, ascii_only) + margin
        spans = splice.members(body)
        self.assertEqual(list(spans), list(value))
        for name, member in spans.items():
            self.assertEqual(json.loads(body[member.value : member.end]), value[name])
            self.assertTrue(body[member.start : member.value].startswith(b'"'))
            self.assertIn(b":", body[member.start : member.value])

    @settings(deadline=None)
    @given(_objects, _styles, st.booleans())
    def test_values(self, value: dict[str, Any], style: dict[str, Any], ascii_only: bool) -> None:
        """The fast road gives the same members or none; compact texts with plain ASCII names take it."""
        body = _encode(value, style, ascii_only)
        found = splice.values(body)
        if found is not None:
            self.assertEqual(splice.offsets(found), splice.members(body))
            self.assertEqual({name: json.loads(bytes(raw)) for name, raw in found.items()}, value)
        elif value and style == {"separators": (",", ":")}:
            self.assertFalse(all(json.dumps(name) == f'"{name}"' for name in value) and not _surrogates(value))

    def test_values_never_hide_a_second_name(self) -> None:
        """A text with a name twice never takes the fast road, nor does one that is no object."""
        for body in (
            b'{"a":1,"a":1}',
            b'{"a":1,"a":12345}',
            b'{"a":12345,"a":1}',
            b'{"a":1,"\\u0061":1}',
            b'{"ab":1,"b":2,"ab":3}',
            b"{}",
            b"[1]",
            b"",
            b'{"a":' * 5000,
            b'{"a":"\xff"}x',
        ):
            self.assertIs(splice.values(body), None, body[:40])

    def test_duplicates(self) -> None:
        """A name that stands twice is refused, however it is spelt and wherever its first occurrence hides."""
        for body in (
            b'{"model":"a","model":"b"}',
            b'{"model":"a","model":"a"}',
            b'{"model":"a","mod\\u0065l":"b"}',
            b'{"mod\\u0065l":"a","model":"b"}',
            b'{ "model" : 1, "model" : 12 }',
            b'{"model":12,"x":1,"model":1}',
            b'{"m":"aaaa","x":[],"m":"\\"x\\":[]"}',
            b'{"m":1,"model":"cheap","m":{"model":"dear"}}',
            b'{"a":NaN,"model":"a","model":"b"}',
            b'{"a":1,"b":2,"a":1}',
        ):
            with self.assertRaises(splice.Malformed, msg=repr(body)) as caught:
                splice.members(body)
            self.assertIn("twice", str(caught.exception))

    def test_nested_duplicates(self) -> None:
        """Names that are repeated further inside are nobody's business."""
        body = b'{"model":"a","tools":[{"model":1,"model":2}],"x":{"model":3}}'
        self.assertEqual(list(splice.members(body)), ["model", "tools", "x"])

    def test_not_an_object(self) -> None:
        """Other JSON values are named as such."""
        for body in (b"[]", b'"a"', b"1", b"null", b"true", b"  [1]  ", b"NaN", b"[NaN]"):
            with self.assertRaises(splice.Malformed) as caught:
                splice.members(body)
            self.assertIn("not an object", str(caught.exception))

    def test_malformed(self) -> None:
        """Malformed JSON is refused with its line and column."""
        for body in (
            b"",
            b"{",
            b"{}x",
            b'{"a":1,}',
            b'{"a" 1}',
            b'{"a":1 "b":2}',
            b'{"a":tru}',
            b'{a:1}',
            b'{"a":"x\ny"}',
            b'{"a":"\\x"}',
            b'{"a":NaN} {}',
            b'{"a":NaN,}',
            b'{"a":NaN "b":1}',
            b'{"a"',
            b'{"a":NaN,"b" 1}',
        ):
            with self.assertRaises(splice.Malformed, msg=repr(body)) as caught:
                splice.members(body)
            self.assertRegex(str(caught.exception), r"line \d+, column \d+", repr(body))
        with self.assertRaises(splice.Malformed) as caught:
            splice.members(b'{"a": 1,\n "b": tru}')
        self.assertIn("line 2, column 7", str(caught.exception))

    def test_encodings(self) -> None:
        """A byte order mark, bytes that are not UTF-8 and UTF-16 are refused in words."""
        with self.assertRaisesRegex(splice.Malformed, "byte order mark"):
            splice.members(b'\xef\xbb\xbf{"a":1}')
        with self.assertRaisesRegex(splice.Malformed, "UTF-8"):
            splice.members(b'{"a":NaN,"b":"\xff"}')
        with self.assertRaises(splice.Malformed):
            splice.members('{"a":1}'.encode("utf-16"))

    def test_what_msgspec_refuses(self) -> None:
        """Lone surrogates, NaN and enormous numbers are found as well, with byte offsets."""
        body = '{"é":"ü","a":"\\ud83d","n":[NaN,-Infinity],"big":%s,"f":1e999,"z":"ä"}'.encode() % (b"9" * 5000)
        spans = splice.members(body)
        self.assertEqual(list(spans), ["é", "a", "n", "big", "f", "z"])
        self.assertEqual(body[spans["a"].value : spans["a"].end], b'"\\ud83d"')
        self.assertEqual(body[spans["n"].value : spans["n"].end], b"[NaN,-Infinity]")
        self.assertEqual(body[spans["z"].value : spans["z"].end], '"ä"'.encode())
        self.assertEqual(splice.members(b'{"\\ud800":1}'), {"\ud800": splice.Member(1, 10, 11)})

    def test_too_deep(self) -> None:
        """A text nested a hundred thousand deep is refused and does not end the interpreter."""
        for inside in (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000):
            for body in (b'{"a":%b}' % inside, b'{"n":NaN,"a":%b}' % inside):
                with self.assertRaisesRegex(splice.Malformed, "deep"):
                    splice.members(body)
        with self.assertRaisesRegex(splice.Malformed, "deep"):
            splice.elements(b"[" * 100_000 + b"]" * 100_000)

    def test_linear(self) -> None:
        """A large body with many members takes time in proportion to its size."""

        def seconds(count: int) -> float:
            body = json.dumps({f"member {i}": "x" * 50 for i in range(count)}).encode()
            best = 9.0
            for _ in range(3):
                begun = time.thread_time()
                splice.members(body)
                best = min(best, time.thread_time() - begun)
            return best

        self.assertLess(seconds(40_000), 40 * seconds(4_000) + 0.05)


class EditTests(SynchronousTestCase):
    """Members replaced, added and left out."""

    @settings(deadline=None)
    @given(
        _objects,
        _styles,
        st.booleans(),
        st.dictionaries(_texts, _values, max_size=3),
        st.data(),
    )
    def test_edit(
        self, value: dict[str, Any], style: dict[str, Any], ascii_only: bool, new: dict[str, Any], draw: st.DataObject
    ) -> None:
        """Parsing an edited body gives the edited value, and untouched members keep their bytes."""
        names = list(value)
        drop = draw.draw(st.sets(st.sampled_from(names))) if names else set()
        replaced = dict.fromkeys(draw.draw(st.sets(st.sampled_from(names))), 0) if names else {}
        replace = {**new, **replaced}
        for name in drop:
            replace.pop(name, None)
        body = b" " + _encode(value, style, ascii_only) + b"\n"
        edited = splice.edit(body, {name: splice.dumps(inner) for name, inner in replace.items()}, drop)
        wanted = {name: inner for name, inner in {**value, **replace}.items() if name not in drop}
        self.assertEqual(json.loads(edited), wanted)
        self.assertEqual(list(json.loads(edited)), list(wanted))
        before, after = splice.members(body), splice.members(edited)
        for name in value:
            if name not in drop and name not in replace:
                old, now = before[name], after[name]
                self.assertEqual(body[old.start : old.end], edited[now.start : now.end])
        self.assertEqual(edited[:2], body[:2])
        self.assertEqual(edited[-2:], body[-2:])

    def test_bytes(self) -> None:
        """White space around members that stay is kept; a member that goes takes one comma with it."""
        body = b'{ "a" : 1 ,\n"b":2,  "c":3 }'
        self.assertEqual(splice.edit(body, {"b": b"[]"}), b'{ "a" : 1 ,\n"b":[],  "c":3 }')
        self.assertEqual(splice.edit(body, None, ["a"]), b'{ "b":2,  "c":3 }')
        self.assertEqual(splice.edit(body, None, ["b"]), b'{ "a" : 1,  "c":3 }')
        self.assertEqual(splice.edit(body, None, ["c"]), b'{ "a" : 1 ,\n"b":2 }')
        self.assertEqual(splice.edit(body, None, ["a", "b", "c", "d"]), b"{  }")
        self.assertEqual(splice.edit(body, {"d": b"4"}, ["a", "b", "c"]), b'{ "d":4 }')
        self.assertEqual(splice.edit(body, {"d": b"4"}, ["c"]), b'{ "a" : 1 ,\n"b":2,"d":4 }')
        self.assertEqual(splice.edit(b"{}", {"d": b"4"}), b'{"d":4}')
        self.assertEqual(splice.edit(b"{ }", {}), b"{ }")

    def test_escaped_name(self) -> None:
        """A member is found under its name however that is spelt."""
        self.assertEqual(splice.edit(b'{"mod\\u0065l":"a","x":1}', {"model": b'"b"'}), b'{"mod\\u0065l":"b","x":1}')

    def test_refused_by_msgspec(self) -> None:
        """Bodies with lone surrogates and NaN are edited as exactly."""
        body = '{"model":"a","é":"\\udc00 é","n":NaN,"x":1}'.encode()
        wanted = '{"model":"b","é":"\\udc00 é","n":NaN}'.encode()
        self.assertEqual(splice.edit(body, {"model": b'"b"'}, ["x"]), wanted)


class ElementsTests(SynchronousTestCase):
    """The elements of an array."""

    @settings(deadline=None)
    @given(st.lists(_values, max_size=6), _styles, st.booleans())
    def test_elements(self, value: list[Any], style: dict[str, Any], ascii_only: bool) -> None:
        """Each element comes with its own bytes."""
        found = splice.elements(b" " + _encode(value, style, ascii_only) + b" ")
        self.assertEqual([json.loads(element) for element in found], value)

    def test_exact(self) -> None:
        """Inner white space, escapes and odd numbers are kept."""
        wanted = [b'{ "a":1 }', b'"\\u0041"', b"1.50", b"[ ]"]
        self.assertEqual(splice.elements(b"[" + b" , ".join(wanted) + b"]"), wanted)
        self.assertEqual(splice.elements(b"[NaN, " + b" , ".join(wanted) + b"]"), [b"NaN", *wanted])

    def test_refused(self) -> None:
        """What is no array, or malformed, is refused."""
        for text, words in (
            (b"{}", "not an array"),
            (b"NaN", "not an array"),
            (b"[1,]", "malformed"),
            (b"[NaN 1]", "malformed"),
            (b"[NaN] 1", "malformed"),
            (b"", "malformed"),
        ):
            with self.assertRaisesRegex(splice.Malformed, words):
                splice.elements(text)


class LoadsTests(SynchronousTestCase):
    """Values by whichever parser takes them."""

    def test_loads(self) -> None:
        """Lone surrogates, NaN and numbers of any length are read; garbage and depth are refused in words."""
        self.assertEqual(splice.loads(b'"\\ud800"'), "\ud800")
        self.assertNotEqual(splice.loads(b"NaN"), splice.loads(b"NaN"))
        self.assertEqual(splice.loads(b"[%b]" % (b"1" * 5000)), ["1" * 5000])
        for text, words in ((b"{", "malformed"), (b'"\xff"', "UTF-8"), (b"[" * 100_000, "deep")):
            with self.assertRaisesRegex(splice.Malformed, words):
                splice.loads(text)

    @settings(deadline=None)
    @given(_values)
    def test_dumps(self, value: Any) -> None:
        """What is written is read as the same."""
        self.assertEqual(splice.loads(splice.dumps(value)), value)
