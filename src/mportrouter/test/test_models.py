"""Tests of :mod:`mportrouter.web.models`."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from ..settings import ModeSettings, TableRow
from .memory_house import House, error, error_of_google

CLAUDE = {"anthropic_version": "2023-06-01"}


class ModelTests(SynchronousTestCase):
    """The list of models."""

    def setUp(self) -> None:
        self.house = House()

    def test_sole(self) -> None:
        """Where Anthropic alone answers, its own list passes."""
        self.assertEqual(self.house.ask(b"/v1/models?limit=5", port=8771, **CLAUDE).status, 200)
        self.assertEqual(self.house.runtime.upstreams["anthropic"].requests[0].query, b"limit=5")  # type: ignore[attr-defined]

    def test_union(self) -> None:
        """Elsewhere the list is the union of the upstreams', in the Anthropic shape."""
        found = json.loads(self.house.ask(b"/v1/models", **CLAUDE).answer)
        self.assertEqual([each["id"] for each in found["data"]], ["minimax-model", "anthropic-model"])
        self.assertEqual(
            (found["has_more"], found["first_id"], found["last_id"]), (False, "minimax-model", "anthropic-model")
        )

    def test_pages(self) -> None:
        """``limit`` and ``after_id`` are kept to."""
        first = json.loads(self.house.ask(b"/v1/models?limit=1", **CLAUDE).answer)
        self.assertEqual((len(first["data"]), first["has_more"]), (1, True))
        rest = json.loads(self.house.ask(b"/v1/models?limit=x&after_id=minimax-model", **CLAUDE).answer)
        self.assertEqual([each["id"] for each in rest["data"]], ["anthropic-model"])
        self.assertEqual(self.house.ask(b"/v1/models?limit=" + b"9" * 5000).status, 200)

    def test_one(self) -> None:
        """A single model is answered, an unknown one is a 404."""
        self.assertEqual(json.loads(self.house.ask(b"/v1/models/minimax-model", **CLAUDE).answer)["type"], "model")
        self.assertEqual(error(self.house.ask(b"/v1/models/nope", **CLAUDE))[:2], (404, "not_found_error"))

    def test_openai(self) -> None:
        """A client that says nothing of Anthropic or Google gets OpenAI's list."""
        found = json.loads(self.house.ask(b"/v1/models", authorization="Bearer x").answer)
        self.assertEqual(found["object"], "list")
        self.assertEqual([each["object"] for each in found["data"]], ["model", "model"])
        self.assertEqual(json.loads(self.house.ask(b"/models/minimax-model").answer)["owned_by"], "minimax")

    def test_gemini(self) -> None:
        """Google's client gets Google's list, on its own path and on the shared one."""
        for path in (b"/v1beta/models", b"/v1/models?pageSize=5"):
            found = json.loads(self.house.ask(path, x_goog_api_key="x").answer)
            names = [each["name"] for each in found["models"]]
            self.assertEqual(names, ["models/minimax-model", "models/anthropic-model"])
        self.assertEqual(error_of_google(self.house.ask(b"/v1beta/models/nope")), (404, "NOT_FOUND"))


class TableTests(SynchronousTestCase):
    """The list where a table decides."""

    def setUp(self) -> None:
        self.house = House()
        rows = (TableRow("opus", "anthropic", "strong"), TableRow("mini*", "minimax"))
        mode = ModeSettings("by-name", "table", ("anthropic", "minimax"), table=rows)
        self.house.runtime.settings.modes["by-name"] = mode  # type: ignore[index]
        self.house.ports[8773].mode = "by-name"

    def test_what_rows_take(self) -> None:
        """The words of the rows are listed, and of the upstreams' models those that a row takes."""
        found = json.loads(self.house.ask(b"/v1/models").answer)["data"]
        told = [(each["id"], each["owned_by"]) for each in found]
        self.assertEqual(told, [("opus", "anthropic"), ("minimax-model", "minimax")])

    def test_any_name(self) -> None:
        """A name that no upstream lists but a row takes is known; one that none takes is a 404."""
        self.assertEqual(json.loads(self.house.ask(b"/v1/models/claude-opus-9").answer)["owned_by"], "anthropic")
        self.assertEqual(self.house.ask(b"/v1/models/anthropic-model").status, 404)
