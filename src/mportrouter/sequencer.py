"""
Puts the events of an answer into the order that writers rely on (:mod:`mportrouter.events`).

Upstreams interleave the arguments of parallel calls, come back to a text after a call, say ``stop`` where they called a
tool, send usage after the end, and cut characters in two. A writer shall not have to know.
"""

from __future__ import annotations

import msgspec

from .errors import Kind, Verdict
from .events import (
    Cite,
    Close,
    Delta,
    End,
    Event,
    Failed,
    Finish,
    Hidden,
    Open,
    Sign,
    Start,
    Tally,
)

#: Characters that may wait behind an open tool call.
LIMIT = 32 * 1024 * 1024

#: Stops that say more than whether a tool was called.
_STRONG = frozenset({"length", "refusal", "content_filter", "pause", "context_full"})

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Run:
    """
    One part as the writer is to see it.

    A text that goes on after something else came between has several runs; every other part has one.
    """

    __slots__ = ("checked", "closed", "events", "forced", "fragments", "held", "key", "lined", "open", "opened")

    def __init__(self, key: int, open: Open | None) -> None:
        self.key = key
        #: ``None`` while only deltas came.
        self.open = open
        #: What waits to be given out.
        self.events: list[Event] = []
        #: It has its place among the others.
        self.lined = False
        self.opened = False
        self.closed = False
        #: It was closed because its arguments were whole, not because its reader said so.
        self.forced = False
        #: A high surrogate whose other half has not come.
        self.held = ""
        #: A tool's arguments, to see whether they are whole.
        self.fragments: list[str] = []
        #: How many of them, or of a text's events, were looked at.
        self.checked = 0


class Sequencer:
    """
    Orders the events of one answer.

    * ``Start`` comes first and once. A ``Tally`` before the first part passes at once; the last one comes (again) right
      before ``Finish``, which waits for ``End``.
    * One part is open at a time. Text, reasoning and refusals end where another part begins, and go on as a new part.
      What comes while a tool call is open waits until the call is closed, or its arguments are a whole JSON object.
      With ``interleave`` nothing waits: several calls may be open, beside one text.
    * A call opens when its name is known; ``Open`` may be given again to name it. The others open with their first
      content. Text that is nothing but white space is dropped, unless ``interleave``.
    * ``Finish`` says ``tool_use`` where a tool was called and ``end`` where none was, unless a limit, a refusal or a
      pause ended the answer.
    * Halves of a surrogate pair in two deltas are joined; a half without its other becomes U+FFFD.
    * After ``Failed`` or ``End`` nothing comes. A part that ``Failed`` cut is not closed.

    Keys that it makes for parts that go on are negative.

    :param interleave: what :attr:`mportrouter.interfaces.IEventWriter.interleaves` says.
    :param limit: characters that may wait; more of them break the answer.
    """

    __slots__ = (
        "_called", "_finish", "_fragments", "_interleave", "_kept", "_limit", "_line", "_made", "_over", "_runs",
        "_started", "_tally", "prose", "straight",
    )  # fmt: skip

    def __init__(self, interleave: bool, limit: int = LIMIT) -> None:
        self._interleave = interleave
        self._limit = limit
        self._kept = 0
        #: The run that each of the reader's keys is in now.
        self._runs: dict[int, _Run] = {}
        #: Runs that are not closed, in the order of their beginnings; the first one may be open.
        self._line: list[_Run] = []
        self._made = 0
        self._started = self._over = self._called = False
        self._tally: Tally | None = None
        self._finish: Finish | None = None
        #: The key whose deltas pass as they are now, ``None``: no such.
        self.straight: int | None = None
        #: That part is no tool call.
        self.prose = False
        self._fragments: list[str] | None = None

    def take(self, event: Event) -> list[Event]:
        """:returns: what may be written now, in order."""
        if type(event) is Delta and event.key == self.straight:
            text = event.text
            if text and (text.isascii() or _sound(text)):
                if self._fragments is not None:
                    self._fragments.append(text)
                return [event]
        if self._over:
            return []
        out: list[Event] = []
        self.straight = None
        if not self._started and type(event) is not Failed:
            self._started = True
            out.append(event if type(event) is Start else Start())
        kind = type(event)
        if kind is Delta:
            self._more(event, event.key, out)  # type: ignore[union-attr]
        elif isinstance(event, Open):
            self._opens(event, out)
        elif isinstance(event, Close):
            self._closes(event.key, out)
        elif isinstance(event, Cite | Sign):
            self._more(event, event.key, out)
        elif isinstance(event, Tally):
            self._tally = event
            if not self._runs:
                out.append(event)
        elif isinstance(event, Finish):
            if self._finish is None:
                self._finish = event
        elif isinstance(event, End):
            self._end(out)
        elif isinstance(event, Failed):
            self._over = True
            out.append(event)
        elif not isinstance(event, Start):
            run = _Run(event.key, None)
            run.closed = True
            run.events.append(event)
            self._runs[event.key] = run
            self._enter(run)
            self._advance(out)
        return out

    # ------------------------------------------------------------------------------------------- what comes

    def _opens(self, event: Open, out: list[Event]) -> None:
        run = self._runs.get(event.key)
        if run is None:
            run = self._runs[event.key] = _Run(event.key, event)
        elif run.opened or run.closed:
            return
        else:
            run.open = event
        if (event.kind == "tool" and event.name) or run.events:
            self._enter(run)
            self._advance(out)
            self._settle(event.key)

    def _more(self, event: Event, key: int, out: list[Event]) -> None:
        """A delta, citation or signature of a part."""
        if type(event) is Delta and not event.text:
            return
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = _Run(key, None)
        opening = run.open
        if run.closed:
            if opening is None or opening.kind == "tool":
                if run.forced and type(event) is Delta and not event.text.isspace():
                    self._break(out, "more arguments of a tool call that were whole already")
                return
            if type(event) is Cite:
                return
            if type(event) is Sign:
                # Too late for its own part; without it the next turn would lack it.
                self._made -= 1
                event = Hidden(self._made, event.opaque)
                run = _Run(self._made, None)
                run.closed = True
            else:
                self._made -= 1
                run = self._runs[key] = _Run(self._made, Open(self._made, opening.kind))
        run.events.append(event)
        if opening is not None and (opening.kind != "tool" or opening.name) and not run.lined:
            self._enter(run)
        if not run.opened and type(event) is Delta:
            self._kept += len(event.text)
            if self._kept > self._limit:
                self._break(out, f"more than {self._limit} characters that wait for a tool call's end")
                return
        self._advance(out)
        self._settle(key)

    def _closes(self, key: int, out: list[Event]) -> None:
        run = self._runs.get(key)
        if run is None or run.closed:
            return
        if run.lined:
            run.closed = True
            self._advance(out)
        elif run.open is not None and run.open.kind != "tool":
            run.closed = True

    def _end(self, out: list[Event]) -> None:
        for run in self._runs.values():
            if not run.lined and not run.closed and (run.open is None or run.open.kind == "tool"):
                self._break(out, "a tool call without a name")
                return
            run.closed = True
        self._advance(out)
        self._over = True
        if self._tally is not None:
            out.append(self._tally)
        finish = self._finish or Finish("end")
        if finish.stop not in _STRONG:
            if self._called:
                finish = Finish("tool_use")
            elif finish.stop == "tool_use":
                finish = Finish("end")
        out.append(finish)
        out.append(End())

    def _break(self, out: list[Event], message: str) -> None:
        self._over = True
        self.straight = None
        out.append(Failed(Verdict(Kind.GARBAGE, message, retry_same=True, status=200)))

    # ------------------------------------------------------------------------------------------- what goes

    def _enter(self, run: _Run) -> None:
        """Give a run its place; texts before it are over."""
        run.lined = True
        for other in self._line:
            if other.open is not None and other.open.kind != "tool":
                other.closed = True
        self._line.append(run)

    def _advance(self, out: list[Event]) -> None:
        """Give out what the order allows."""
        line, at = self._line, 0
        while at < len(line):
            run = line[at]
            if not run.opened and run.open is not None:
                if not self._interleave and run.open.kind == "text" and _blank(run):
                    if not run.closed:
                        return
                    del line[at]
                    continue
                run.opened = True
                out.append(run.open if run.key == run.open.key else msgspec.structs.replace(run.open, key=run.key))
                self._called = self._called or run.open.kind == "tool"
            if run.events:
                for event in run.events:
                    self._give(run, event, out)
                run.events = []
            if not run.closed and at + 1 < len(line) and not self._interleave and _whole(run):
                run.closed = run.forced = True
            if run.closed:
                if run.opened:
                    if run.held:
                        out.append(Delta(run.key, "\ufffd"))
                    out.append(Close(run.key))
                del line[at]
            elif self._interleave:
                at += 1
            else:
                return

    def _give(self, run: _Run, event: Event, out: list[Event]) -> None:
        if type(event) is not Delta:
            if type(event) is Cite:
                out.append(Cite(run.key, event.citation))
            elif type(event) is Sign:
                if run.held:
                    out.append(Delta(run.key, "\ufffd"))
                    run.held = ""
                out.append(Sign(run.key, event.opaque))
            else:
                out.append(event)
            return
        text = event.text
        if run.held:
            if "\udc00" <= text[0] <= "\udfff":
                text = chr(0x10000 + ((ord(run.held) & 0x3FF) << 10 | ord(text[0]) & 0x3FF)) + text[1:]
            else:
                text = "\ufffd" + text
            run.held = ""
        if "\ud800" <= text[-1] <= "\udbff":
            run.held = text[-1]
            text = text[:-1]
        if not _sound(text):
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if text:
            if not self._interleave and run.open is not None and run.open.kind == "tool":
                run.fragments.append(text)
            out.append(event if text is event.text and event.key == run.key else Delta(run.key, text))

    def _settle(self, key: int) -> None:
        """See whether more of a part may pass as it comes."""
        run = self._runs[key]
        if run.opened and not run.closed and not run.held and run.key == key and not self._over:
            assert run.open is not None
            self.straight = key
            self._fragments = run.fragments if run.open.kind == "tool" and not self._interleave else None
            self.prose = run.open.kind != "tool"


def _sound(text: str) -> bool:
    """Whether no surrogate is in a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _blank(run: _Run) -> bool:
    """Whether nothing but white space waits in a text; each event is looked at once."""
    events = run.events
    while run.checked < len(events):
        event = events[run.checked]
        if type(event) is not Delta or not event.text.isspace():
            return False
        run.checked += 1
    return True


def _whole(run: _Run) -> bool:
    """
    Whether a call's arguments are a JSON object already. An empty one does not count: some servers begin with ``{}``.
    """
    fragments = run.fragments
    if run.open is None or run.open.kind != "tool" or run.open.custom or len(fragments) == run.checked:
        return False
    run.checked = len(fragments)
    if not fragments[-1].rstrip().endswith("}"):
        return False
    text = "".join(fragments)
    run.fragments[:] = [text]
    run.checked = 1
    try:
        return bool(_decode(text.encode("utf-8", "surrogatepass")))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
