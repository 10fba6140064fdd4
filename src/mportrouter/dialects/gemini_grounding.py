"""
What an answer rests on: ``groundingMetadata`` as citations, and citations as such
(https://ai.google.dev/gemini-api/docs/google-search). Places are bytes of UTF-8 there and characters here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..conversation import Citation, SearchHit

DIALECT = "gemini"


class Cited(NamedTuple):
    """A citation with its place in the whole text of an answer, in bytes; ``end`` 0: none."""

    start: int
    end: int
    text: str
    citation: Citation


def citations(grounding: Mapping[str, Any], text: str, before: int) -> list[Citation]:
    """
    :param text: of the part that is cited in.
    :param before: bytes of the answer's text before that part.
    """
    chunks = _pages(grounding)
    supports = [each for each in _list(grounding.get("groundingSupports")) if isinstance(each, dict)]
    found: list[Citation] = []
    if not supports:
        return [Citation(url, title, raw=raw, dialect=DIALECT) for url, title, raw in chunks if url]
    encoded = text.encode("utf-8", "surrogatepass")
    for support in supports:
        segment = support.get("segment")
        segment = segment if isinstance(segment, dict) else {}
        start, end = _count(segment.get("startIndex")) - before, _count(segment.get("endIndex")) - before
        if end <= 0:
            continue  # it rests in an earlier part
        start = _characters(encoded, max(start, 0))
        end = _characters(encoded, end)
        if start >= end:
            continue
        for index in _list(support.get("groundingChunkIndices")):
            if isinstance(index, int) and 0 <= index < len(chunks):
                url, title, raw = chunks[index]
                if url:
                    found.append(Citation(url, title, "", start, end, raw, DIALECT))
    return found


def hits(grounding: Mapping[str, Any]) -> tuple[SearchHit, ...]:
    """The pages that were found."""
    return tuple(SearchHit(url, title) for url, title, _ in _pages(grounding) if url)


def queries(grounding: Mapping[str, Any]) -> list[str]:
    """What was searched for."""
    return [query for query in _list(grounding.get("webSearchQueries")) if isinstance(query, str) and query]


def metadata(cited: Sequence[Cited], asked: Sequence[str], found: Sequence[SearchHit]) -> dict[str, Any]:
    """``groundingMetadata`` for a client, ``{}`` where there is nothing to tell."""
    chunks: list[dict[str, Any]] = []
    places: dict[str, int] = {}

    def place(url: str, title: str) -> int:
        if url not in places:
            places[url] = len(chunks)
            chunks.append({"web": {"uri": url, **({"title": title} if title else {})}})
        return places[url]

    for hit in found:
        place(hit.url, hit.title)
    supports: dict[tuple[int, int], dict[str, Any]] = {}
    for start, end, text, citation in cited:
        if not citation.url:
            continue
        index = place(citation.url, citation.title)
        if not end:
            continue
        support = supports.get((start, end))
        if support is None:
            segment = {"startIndex": start, "endIndex": end, "text": text}
            support = supports[start, end] = {"segment": segment, "groundingChunkIndices": []}
        if index not in support["groundingChunkIndices"]:
            support["groundingChunkIndices"].append(index)
    out: dict[str, Any] = {}
    if asked:
        out["webSearchQueries"] = list(asked)
    if chunks:
        out["groundingChunks"] = chunks
    if supports:
        out["groundingSupports"] = list(supports.values())
    return out


def cited(citation: Citation, text: str, before: int) -> Cited:
    """
    :param text: of the part that is cited in, as far as it came.
    :param before: bytes of the answer's text before that part.
    """
    start, end = citation.start, citation.end
    if start is None or end is None:
        start, end = 0, len(text)
    words = text[start:end]
    first = before + len(text[:start].encode("utf-8", "surrogatepass"))
    return Cited(first, first + len(words.encode("utf-8", "surrogatepass")) if words else 0, words, citation)


def _pages(grounding: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """URL, title and the page as it came; those without a URL keep their place."""
    pages: list[tuple[str, str, Mapping[str, Any]]] = []
    for chunk in _list(grounding.get("groundingChunks")):
        chunk = chunk if isinstance(chunk, dict) else {}
        page = chunk.get("web") or chunk.get("retrievedContext") or chunk.get("maps")
        page = page if isinstance(page, dict) else {}
        url, title = page.get("uri"), page.get("title")
        pages.append((url if isinstance(url, str) else "", title if isinstance(title, str) else "", chunk))
    return pages


def _characters(encoded: bytes, count: int) -> int:
    """The characters in so many bytes; a place inside a character counts as the one before it."""
    return len(encoded[:count].decode("utf-8", "ignore"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
