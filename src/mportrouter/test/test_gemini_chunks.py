"""Tests for what single events of Gemini answers say: numbers, grounding, arguments in pieces."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Citation
from ..dialects.gemini_arguments import Arguments
from ..dialects.gemini_chunks import usage_of
from ..events import Cite, Close, Searched, Tally
from ..records import Usage
from .test_gemini_stream import COUNTS, chunk, read, sse


class UsageTests(SynchronousTestCase):
    """The numbers."""

    def test_disjoint(self) -> None:
        """Cached tokens are taken out of the prompt, tools' prompts and thoughts put where they belong."""
        counts = {
            "promptTokenCount": 100, "cachedContentTokenCount": 30, "candidatesTokenCount": 20, "thoughtsTokenCount": 5,
            "toolUsePromptTokenCount": 7, "totalTokenCount": 132,
        }  # fmt: skip
        usage = usage_of(counts)
        self.assertEqual(usage, Usage(input=77, cache_read=30, output=25, reasoning=5))
        self.assertEqual(usage.prompt + usage.output, 132)

    def test_gaps(self) -> None:
        """Absent numbers are 0; candidates that are not told follow from the total; odd ones count as absent."""
        self.assertEqual(
            usage_of({"promptTokenCount": 10, "totalTokenCount": 15, "thoughtsTokenCount": 2}),
            Usage(input=10, output=5, reasoning=2),
        )
        self.assertEqual(usage_of({"promptTokenCount": None, "candidatesTokenCount": "x"}), Usage())
        self.assertEqual(usage_of({"promptTokenCount": 3, "cachedContentTokenCount": 9}).input, 0)

    def test_last_counts(self) -> None:
        """Usage in every event is the last one's, not their sum; what only names a traffic type is none."""
        chunks = [chunk({"text": "a"}, usage={**COUNTS, "candidatesTokenCount": n}) for n in (1, 2, 3)]
        events = read(sse(*chunks, chunk(finish="STOP", usage={"trafficType": "ON_DEMAND"})))
        self.assertEqual([event.usage.output for event in events if isinstance(event, Tally)], [1, 3])


class GroundingTests(SynchronousTestCase):
    """What an answer rests on."""

    GROUNDING: ClassVar[dict[str, Any]] = {
        "webSearchQueries": ["q one", "q two"],
        "groundingChunks": [
            {"web": {"uri": "https://a", "title": "A"}},
            {"retrievedContext": {"uri": "https://b"}},
            {},
        ],
        "groundingSupports": [
            {"segment": {"startIndex": 3, "endIndex": 7, "text": "öx"}, "groundingChunkIndices": [0, 1, 2, 9]},
            {"segment": {"endIndex": 2}, "groundingChunkIndices": [0]},
        ],
    }

    def test_citations(self) -> None:
        """Byte places become characters; pages are told with the first query; queries are counted."""
        events = read(
            sse(chunk({"text": "äböxy"}), chunk(finish="STOP", usage=COUNTS, groundingMetadata=self.GROUNDING))
        )
        cites = [event.citation for event in events if isinstance(event, Cite)]
        self.assertEqual(
            [(cite.url, cite.title, cite.start, cite.end) for cite in cites],
            [("https://a", "A", 2, 5), ("https://b", "", 2, 5), ("https://a", "A", 0, 1)],
        )
        searches = [event.search for event in events if isinstance(event, Searched)]
        self.assertEqual(
            [(each.query, [hit.url for hit in each.hits]) for each in searches],
            [("q one", ["https://a", "https://b"]), ("q two", [])],
        )
        self.assertEqual(len({each.id for each in searches}), 2)
        self.assertEqual([event.usage.web_searches for event in events if isinstance(event, Tally)][-1], 2)
        order = [type(event) for event in events]
        self.assertLess(order.index(Cite), order.index(Close))
        self.assertLess(order.index(Close), order.index(Searched))

    def test_later_part(self) -> None:
        """Places count over all texts; those in a text that is over are left out."""
        grounding = {
            "groundingChunks": [{"web": {"uri": "https://a"}}],
            "groundingSupports": [
                {"segment": {"endIndex": 2}, "groundingChunkIndices": [0]},
                {"segment": {"startIndex": 2, "endIndex": 4}, "groundingChunkIndices": [0]},
            ],
        }
        parts = ({"text": "ä"}, {"functionCall": {"name": "f"}}, {"text": "xyz"})
        events = read(sse(chunk(*parts), chunk(finish="STOP", groundingMetadata=grounding)))
        self.assertEqual(
            [(event.citation.start, event.citation.end) for event in events if isinstance(event, Cite)], [(0, 2)]
        )

    def test_without_places(self) -> None:
        """Pages without places rest under the whole text."""
        grounding = {"groundingChunks": self.GROUNDING["groundingChunks"]}
        events = read(sse(chunk({"text": "a"}), chunk(finish="STOP", groundingMetadata=grounding)))
        cites = [event.citation for event in events if isinstance(event, Cite)]
        self.assertEqual([(cite.url, cite.start) for cite in cites], [("https://a", None), ("https://b", None)])
        self.assertIsInstance(cites[0], Citation)


class ArgumentsTests(SynchronousTestCase):
    """Arguments put together from places."""

    def test_places(self) -> None:
        """Names, places in lists and quoted names all find their spot."""
        made = Arguments()
        for path, name, value in (
            ("$.a", "stringValue", "x"), ("$.a", "stringValue", "y"), ("$.l[1].k", "boolValue", True),
            ("$['odd name'].v", "nullValue", "NULL_VALUE"), ('$["q\\"q"]', "numberValue", 0.5),
            ("$.m[0][1]", "numberValue", 3),
        ):  # fmt: skip
            self.assertTrue(made.take({"jsonPath": path, name: value}), path)
        self.assertEqual(
            made.value(), {"a": "xy", "l": [None, {"k": True}], "odd name": {"v": None}, 'q"q': 0.5, "m": [[None, 3]]}
        )

    def test_refused(self) -> None:
        """What is no place is told."""
        for piece in (
            None,
            {},
            {"jsonPath": 3},
            {"jsonPath": "$"},
            {"jsonPath": "x.y"},
            {"jsonPath": "$.a[b"},
            {"jsonPath": "$[1]", "stringValue": ""},
        ):
            self.assertFalse(Arguments().take(piece), piece)
        made = Arguments()
        made.take({"jsonPath": "$.a[0]", "stringValue": "x"})
        self.assertFalse(made.take({"jsonPath": "$.a.b", "stringValue": "x"}))
