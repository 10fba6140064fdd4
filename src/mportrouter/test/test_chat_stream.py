"""Tests for :mod:`mportrouter.dialects.chat_stream` and what it is made of: every variant of a Chat stream."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..conversation import Foreign, Opaque
from ..dialects.chat_stream import ChatStream
from ..errors import Kind
from ..events import Cite, Close, Delta, End, Event, Finish, Hidden, Open, Other, Sign, Start, Tally
from ..interfaces import IEventReader
from ..records import Usage
from .chats import DONE, USAGE, called, choice, chunk, encode, failure, fragment, said, stream, target, texts

ROLE = said({"role": "assistant", "content": ""})
STOP = said({}, "stop")
START = Start("chatcmpl-1", "m-1")
UNSIGNED = Opaque("groq", "m", "text", "")


class TextTests(SynchronousTestCase):
    """Text, reasoning and refusals."""

    def test_plain(self) -> None:
        """A plain stream is a start, one text, its end, its usage and the end of all."""
        self.assertTrue(verifyObject(IEventReader, ChatStream(target())))
        events = stream(ROLE, said({"content": "He"}), said({"content": "y"}), STOP, chunk(usage=USAGE), DONE)
        self.assertEqual(
            events,
            [
                START, Open(0, "text"), Delta(0, "He"), Delta(0, "y"), Close(0), Finish("end"),
                Tally(Usage(input=20, output=10)), End(),
            ],
        )  # fmt: skip

    def test_empty(self) -> None:
        """Empty deltas open nothing, and an answer of nothing that stopped is a good one."""
        empty = said({"content": "", "reasoning_content": "", "refusal": None, "tool_calls": None})
        self.assertEqual(stream(ROLE, empty, STOP, DONE), [START, Finish("end"), End()])

    def test_azure(self) -> None:
        """A first chunk without choices, id and model does not begin the answer."""
        first = chunk(id="", model="", prompt_filter_results=[])
        self.assertEqual(stream(first, ROLE, STOP, DONE)[0], START)

    def test_finish_with_content(self) -> None:
        """What stands in the chunk of the reason to stop is not lost."""
        events = stream(ROLE, said({"content": "all"}, "stop"), DONE)
        self.assertEqual(texts(events), {0: "all"})
        self.assertIn(Finish("end"), events)

    def test_reasoning(self) -> None:
        """Reasoning under either name is a part of its own, closed with its origin before the text begins."""
        for name in ("reasoning_content", "reasoning"):
            events = stream(ROLE, said({name: "hm"}), said({"content": "so"}), STOP, DONE)
            self.assertEqual(
                events[1:7],
                [Open(0, "reasoning"), Delta(0, "hm"), Sign(0, UNSIGNED), Close(0), Open(1, "text"), Delta(1, "so")],
            )

    def test_reasoning_again(self) -> None:
        """Reasoning after text is a new part (reason, text, reason)."""
        events = stream(said({"reasoning": "a"}), said({"content": "b"}), said({"reasoning": "c"}), STOP, DONE)
        self.assertEqual(
            [event.kind for event in events if isinstance(event, Open)], ["reasoning", "text", "reasoning"]
        )
        self.assertEqual(texts(events), {0: "a", 1: "b", 2: "c"})

    def test_details(self) -> None:
        """Entries that an aggregator wants back are kept as one state, pieces of one entry put together."""
        one = {"type": "reasoning.text", "text": "h", "index": 0, "format": "f"}
        two = {"type": "reasoning.text", "text": "m", "index": 0, "signature": "sig"}
        events = stream(
            said({"reasoning": "h", "reasoning_details": [one]}),
            said({"reasoning": "m", "reasoning_details": [two]}),
            said({"content": "x"}), STOP, DONE,
        )  # fmt: skip
        self.assertEqual(texts(events)[0], "hm")
        (sign,) = [event for event in events if isinstance(event, Sign)]
        self.assertEqual(sign.opaque.kind, "encrypted")
        self.assertEqual(json.loads(sign.opaque.value), [{**one, "text": "hm", "signature": "sig"}])

    def test_details_alone(self) -> None:
        """A state without text, and one that comes after the text, are hidden reasoning."""
        detail = {"type": "reasoning.encrypted", "data": "xyz", "id": "rs_1"}
        events = stream(said({"content": "x"}), said({"reasoning_details": [detail]}), STOP, DONE)
        (hidden,) = [event for event in events if isinstance(event, Hidden)]
        self.assertEqual(json.loads(hidden.opaque.value), [detail])
        self.assertLess(events.index(Close(0)), events.index(hidden))

    def test_details_text(self) -> None:
        """The text of the entries is read where no other member has it."""
        events = stream(said({"reasoning_details": [{"type": "reasoning.summary", "summary": "s"}]}), STOP, DONE)
        self.assertEqual(texts(events), {0: "s"})

    def test_think_tags(self) -> None:
        """Between the tags is reasoning where the column says so, and text like any other where it does not."""
        pieces = [said({"content": piece}) for piece in ("<thi", "nk>\n", "a <b", "> c</", "think>", "\n\nso <x", " y")]
        events = stream(*pieces, STOP, DONE, think_tags=True)
        self.assertEqual(texts(events), {0: "a <b> c", 1: "so <x y"})
        self.assertEqual([event.kind for event in events if isinstance(event, Open)], ["reasoning", "text"])
        events = stream(*pieces, STOP, DONE)
        self.assertEqual(texts(events), {0: "<think>\na <b> c</think>\n\nso <x y"})

    def test_tag_unfinished(self) -> None:
        """What looked like the beginning of a tag at the end of the answer is text."""
        self.assertEqual(texts(stream(said({"content": "a <th"}), STOP, DONE, think_tags=True)), {0: "a <th"})

    def test_refusal(self) -> None:
        """The words of a refusal are a part of their own, and make the stop a refusal."""
        events = stream(ROLE, said({"refusal": "I "}), said({"refusal": "won't"}), STOP, DONE)
        self.assertEqual(events[1], Open(0, "refusal"))
        self.assertIn(Finish("refusal", explanation="I won't"), events)

    def test_content_list(self) -> None:
        """Content in parts, with thinking among them, is read."""
        content = [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "x"}]
        self.assertEqual(texts(stream(said({"content": content}), STOP, DONE)), {0: "t", 1: "x"})

    def test_surrogates(self) -> None:
        """An emoji cut in two halves over two events keeps both."""
        half = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
        events = stream(half % b"\\ud83d", half % b"\\ude00", STOP, DONE)
        self.assertEqual([event.text for event in events if isinstance(event, Delta)], ["\ud83d", "\ude00"])

    def test_bad_utf8(self) -> None:
        """A byte that is no UTF-8 costs one character, not the stream."""
        events = stream(b'data: {"choices":[{"index":0,"delta":{"content":"a\xffb"}}]}\n\n', STOP, DONE)
        self.assertEqual(texts(events), {0: "a\ufffdb"})

    def test_citations(self) -> None:
        """Annotations cite the text that is open, at their places in it."""
        cited = {"start_index": 0, "end_index": 2, "url": "https://x.test/", "title": "T"}
        note = {"type": "url_citation", "url_citation": cited}
        events = stream(said({"content": "Hey"}), said({"annotations": [note, {"type": "file"}, 3]}), STOP, DONE)
        (cite,) = [event for event in events if isinstance(event, Cite)]
        self.assertEqual((cite.key, cite.citation.url, cite.citation.cited), (0, "https://x.test/", "He"))
        self.assertEqual((cite.citation.start, cite.citation.end, cite.citation.raw), (0, 2, note))

    def test_citations_later(self) -> None:
        """Places in the whole content become places in the part, and impossible ones none."""
        for given, wanted in (
            ((3, 5), (0, 2)),
            ((0, 2), (None, None)),
            ((3, 99), (None, None)),
            ((5, 4), (None, None)),
        ):
            cited = {"start_index": given[0], "end_index": given[1], "url": "u"}
            note = {"type": "url_citation", "url_citation": cited}
            events = stream(
                said({"content": "abc"}),
                said({"reasoning": "r"}),
                said({"content": "de", "annotations": [note]}),
                STOP,
                DONE,
            )
            (cite,) = [event for event in events if isinstance(event, Cite)]
            self.assertEqual((cite.citation.start, cite.citation.end), wanted)

    def test_images(self) -> None:
        """A picture that the model made is a part that only this dialect knows."""
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        events = stream(said({"content": "a", "images": [image]}), STOP, DONE)
        self.assertIn(Other(1, Foreign("openai-chat", "image_url", image)), events)

    def test_folded(self) -> None:
        """Text in one choice and calls in another are one answer, where one was asked for."""
        events = stream(
            said({"content": "t"}), chunk(choice({"tool_calls": [fragment(0, "{}", "c", "f")]}, index=1)),
            chunk(choice({}, "tool_calls", 1)), DONE,
        )  # fmt: skip
        self.assertEqual([event.kind for event in events if isinstance(event, Open)], ["text", "tool"])
        self.assertIn(Finish("tool_use"), events)

    def test_message(self) -> None:
        """A whole message in a chunk is read where nothing was streamed, and else not."""
        last = b"data: %b\n\n" % encode(
            {"choices": [{"index": 0, "message": {"content": "all"}, "finish_reason": "stop"}]}
        )
        self.assertEqual(texts(stream(last, DONE)), {0: "all"})
        self.assertEqual(texts(stream(said({"content": "al"}), said({"content": "l"}), last, DONE)), {0: "all"})


class EndTests(SynchronousTestCase):
    """How a stream ends, and what is no end."""

    def test_reasons(self) -> None:
        """Reasons to stop of every vendor."""
        for reason, stop in (
            ("stop", "end"), ("eos", "end"), ("end_turn", "end"), ("whatever", "end"), ("length", "length"),
            ("model_length", "context_full"), ("tool_calls", "tool_use"), ("function_call", "tool_use"),
            ("content_filter", "content_filter"), ("sensitive", "content_filter"),
        ):  # fmt: skip
            self.assertIn(Finish(stop), stream(said({"content": "x"}), said({}, reason), DONE), reason)

    def test_sequences(self) -> None:
        """A stop sequence is told where the server names one that was asked for."""
        for more in ({"stop_reason": "END"}, {"matched_stop": "END"}):
            last = chunk(choice({}, "stop", **more))
            self.assertIn(Finish("stop_sequence", "END"), stream(said({"content": "x"}), last, DONE, stops=["END"]))
            self.assertIn(Finish("end"), stream(said({"content": "x"}), last, DONE))
        last = chunk(choice({}, "stop", stop_reason=128001))
        self.assertIn(Finish("end"), stream(said({"content": "x"}), last, DONE, stops=["END"]))

    def test_broken_reasons(self) -> None:
        """Reasons that are errors fail the answer with the server's words where there are some."""
        for reason, kind in (("error", Kind.UPSTREAM), ("abort", Kind.UPSTREAM)):
            self.assertIs(failure(stream(said({"content": "x"}), said({}, reason), DONE)).kind, kind)
        events = stream(said({"content": "x"}), said({}, "insufficient_system_resource"), DONE)
        self.assertIs(failure(events).kind, Kind.OVERLOADED)
        last = chunk(choice({}, "error", error={"code": 429, "message": "slow"}))
        verdict = failure(stream(said({"content": "x"}), last))
        self.assertEqual((verdict.kind, verdict.message), (Kind.RATE, "slow"))

    def test_unknown_without_content(self) -> None:
        """An unknown reason after nothing is no answer."""
        self.assertIs(failure(stream(ROLE, said({}, "whatever"), DONE)).kind, Kind.GARBAGE)

    def test_without_done(self) -> None:
        """The end of the body after a reason to stop is a good end; so is an event without its blank line."""
        self.assertEqual(stream(ROLE, said({"content": "x"}), STOP)[-1], End())
        self.assertEqual(stream(ROLE, said({"content": "x"}), STOP.rstrip())[-1], End())

    def test_cut(self) -> None:
        """A stream that breaks off is broken, with its parts left open."""
        for columns in ({}, {"lenient_done": True}):
            events = stream(ROLE, said({"content": "x"}), **columns)
            self.assertIs(failure(events).kind, Kind.CUT)
            self.assertNotIn(Close(0), events)
        self.assertIs(failure(stream(called(fragment(0, '{"a', "c", "f")))).kind, Kind.CUT)

    def test_empty(self) -> None:
        """No byte, and nothing but comments, are no answer."""
        self.assertIs(failure(ChatStream(target()).finish()).kind, Kind.GARBAGE)
        self.assertIs(failure(stream(b": keepalive\n\n")).kind, Kind.CUT)

    def test_done_without_reason(self) -> None:
        """``[DONE]`` without a reason is an end only for those known to do so, and only after content."""
        text = said({"content": "x"})
        self.assertIs(failure(stream(text, DONE)).kind, Kind.CUT)
        self.assertEqual(stream(text, DONE, lenient_done=True)[-3:], [Close(0), Finish("end"), End()])
        self.assertIs(failure(stream(ROLE, DONE, lenient_done=True)).kind, Kind.GARBAGE)

    def test_done_forms(self) -> None:
        """``[DONE]`` without its space, twice, with more after it."""
        for done in (b"data:[DONE]\n\n", DONE + DONE, DONE + said({"content": "late"}), b"data:  [DONE] \n\n"):
            events = stream(said({"content": "x"}), STOP, done)
            self.assertEqual((events[-1], texts(events)), (End(), {0: "x"}))

    def test_usage(self) -> None:
        """Usage is taken wherever it stands, and the last one counts once."""
        late = {**USAGE, "completion_tokens": 11}
        usage = Tally(Usage(input=20, output=10))
        text = said({"content": "x"})
        for pieces in (
            [text, said({}, "stop", usage=USAGE)],
            [said({"content": "x"}, usage={**USAGE, "completion_tokens": 1}), said({}, "stop", usage=USAGE)],
            [text, STOP, chunk(choice({}), usage=USAGE)],
            [text, chunk(usage=USAGE), STOP],
            [text, said({}, "stop", x_groq={"usage": USAGE})],
            [text, chunk(choice({}, "stop", usage=USAGE))],
            [text, chunk(usage=late), STOP, chunk(usage=USAGE)],
        ):
            events = stream(ROLE, *pieces, DONE)
            self.assertEqual([event for event in events if isinstance(event, Tally)], [usage])
        self.assertFalse([event for event in stream(ROLE, text, STOP, DONE) if isinstance(event, Tally)])

    def test_usage_of_broken(self) -> None:
        """What was used is told of a broken answer too."""
        events = stream(said({"content": "x"}, usage=USAGE))
        self.assertEqual(events[-2], Tally(Usage(input=20, output=10)))

    def test_errors(self) -> None:
        """Errors in place of chunks, in every shape, with the provider's words."""
        for error, kind in (
            ({"error": {"message": "no", "type": "server_error", "code": None}}, Kind.UPSTREAM),
            ({"error": {"message": "no", "code": 429}}, Kind.RATE),
            ({"error": {"message": "no", "code": "429"}}, Kind.RATE),
            ({"error": {"message": "no", "code": "context_length_exceeded"}}, Kind.CONTEXT),
            ({"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}}, Kind.MONEY),
            ({"error": {"message": "no", "code": "server_is_overloaded"}}, Kind.OVERLOADED),
            ({"error": {"message": "no", "type": "invalid_request_error"}}, Kind.BAD_REQUEST),
            ({"error": "no"}, Kind.UPSTREAM),
            ({"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, Kind.BAD_REQUEST),
            ({"message": "no", "type": "x", "code": "rate_limit_exceeded"}, Kind.RATE),
            ({"detail": "no"}, Kind.UPSTREAM),
            ({"choices": [], "x_groq": {"error": "no"}}, Kind.UPSTREAM),
            ({"base_resp": {"status_code": 1008, "status_msg": "no"}}, Kind.MONEY),
        ):  # fmt: skip
            for before in ((), (ROLE, said({"content": "x"}))):
                verdict = failure(stream(*before, b"data: %b\n\n" % encode(error), DONE))
                self.assertEqual((verdict.kind, verdict.message), (kind, "no"), error)
                self.assertIsNone(verdict.status)

    def test_not_an_error(self) -> None:
        """Members that are null or of good news are no errors."""
        text = said(
            {"content": "x"}, error=None, base_resp={"status_code": 0}, message=None, object="chat.completion.chunk"
        )
        self.assertIsInstance(stream(text, STOP, DONE)[-1], End)

    def test_unframed(self) -> None:
        """An error that the server forgot to frame is found at the end; a whole answer in place of a stream is read."""
        raw = encode({"error": {"message": "no", "code": 503}})
        for before in (b"", said({"content": "x"})):
            for after in (b"", b"\n", b"\n\n"):
                self.assertIs(failure(stream(before + raw + after)).kind, Kind.OVERLOADED)
        answer = encode({"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}], "usage": USAGE})
        events = stream(answer)
        self.assertEqual((texts(events), events[-1]), ({0: "all"}, End()))

    def test_malformed(self) -> None:
        """An event that is no JSON is passed over where the stream ends well and it cannot have mattered."""
        events = stream(said({"content": "x"}), b"data: {oops\n\n", STOP, DONE)
        self.assertIsInstance(events[-1], End)
        events = stream(said({"content": "x"}), b'data: {"choices":[{"delta":{"tool_calls":[{oops\n\n', STOP, DONE)
        self.assertIs(failure(events).kind, Kind.GARBAGE)
        self.assertIs(failure(stream(said({"content": "x"}), b"data: {oops\n\n")).kind, Kind.GARBAGE)

    def test_odd_members(self) -> None:
        """Members of odd types do not hide the others."""
        odd = {
            "id": 7, "model": None,
            "usage": {"prompt_tokens": "x", "completion_tokens": 3.0, "prompt_tokens_details": 1},
            "choices": [7, {"index": "0", "delta": {"content": "x", "tool_calls": "none", "reasoning": 3}}],
        }  # fmt: skip
        events = stream(b"data: %b\n\n" % encode(odd), STOP, DONE)
        self.assertEqual(events[0], Start())
        self.assertEqual(texts(events), {0: "x"})
        self.assertIn(Tally(Usage(output=3)), events)

    def test_framing(self) -> None:
        """Line ends, comments, names of events, a byte order mark and several lines of data change nothing."""
        good = [ROLE, said({"content": "x\u2028y"}), STOP, DONE]
        wanted = stream(*good)
        joined = b"".join(good)
        for raw in (
            joined.replace(b"\n", b"\r\n"),
            joined.replace(b"\n", b"\r"),
            b"\xef\xbb\xbf" + joined,
            joined.replace(b"\n\n", b"\n\n: PROCESSING\n\n"),
            joined.replace(b"data: ", b"event: x\nid: 3\ndata:"),
            joined.replace(b'"created"', b'\ndata: "created"'),
            b"\n\n" + joined,
            good[0] + good[1].replace(b"\n", b"\r\n") + good[2] + good[3],
        ):
            self.assertEqual(stream(raw), wanted)

    def test_large(self) -> None:
        """An event of several MiB is read; one past all limits breaks the answer."""
        text = "x" * (3 * 1024 * 1024)
        reader = ChatStream(target())
        raw = said({"content": text}) + STOP
        events: list[Event] = []
        for start in range(0, len(raw), 65536):
            events += reader.feed(raw[start : start + 65536])
        self.assertEqual(texts(events + reader.finish()), {0: text})
        reader = ChatStream(target())
        events = reader.feed(ROLE + b"data: " + b"x" * (17 * 1024 * 1024))
        self.assertIs(failure(events).kind, Kind.GARBAGE)
        self.assertEqual(reader.feed(DONE) + reader.finish(), [])

    def test_two_at_once(self) -> None:
        """Two streams in one process know nothing of each other."""
        one, two = ChatStream(target()), ChatStream(target())
        one.feed(said({"content": "a"}))
        self.assertEqual(texts(two.feed(said({"content": "b"}) + STOP + DONE)), {0: "b"})
        self.assertEqual(texts(one.feed(said({"content": "c"}))), {0: "c"})
