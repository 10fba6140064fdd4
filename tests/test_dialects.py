"""
Any client to any provider: the official SDKs of all four dialects, old and new majors, against stand-ins that refuse
what the real providers refuse.

Each SDK plays the same scenes (:mod:`tests.sdk_session`) at four ports, one for each dialect of an upstream.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

from .harness import RouterProcess, Stack, shared

UPSTREAMS = ("anthropic", "openai", "responses", "gemini")
TITLES = {"anthropic": "Anthropic", "openai": "OpenAI", "responses": "OpenAI", "gemini": "Gemini"}
#: What ends an answer that is whole, that calls tools.
STOPS = {
    "anthropic": ("end_turn", "tool_use"),
    "chat": ("stop", "tool_calls"),
    "responses": ("completed", "completed"),
    "gemini": ("STOP", "STOP"),
}
#: An interpreter that has the last releases of the SDKs' former majors.
OLD = os.environ.get("MPORTROUTER_OLD_SDKS", "")
SESSION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sdk_session.py")

CONFIG: dict[str, Any] = {
    "ports": {name: name for name in UPSTREAMS} | {"across": "across"},
    "modes": {
        **{name: {"strategy": "only", "upstreams": [name]} for name in UPSTREAMS},
        "across": {"strategy": "fallback", "upstreams": ["gemini", "responses", "openai", "anthropic"]},
    },
    "upstreams": {
        "anthropic": {"provider": "anthropic", "models": {"*": "claude-sonnet-4-5"}},
        "openai": {"provider": "openai", "dialect": "openai-chat", "models": {"*": "gpt-6"}, "api_key": "k"},
        "responses": {"provider": "openai", "dialect": "openai-responses", "models": {"*": "gpt-6"}, "api_key": "k"},
        "gemini": {"provider": "gemini", "models": {"*": "gemini-3-pro"}, "api_key": "k"},
    },
}


def make_stack() -> Stack:
    return Stack(RouterProcess(None, {**CONFIG, "demo": {"pace": "1ms"}}, ["--demo"]))


def play(python: str, sdk: str, router: RouterProcess) -> dict[str, dict[str, Any]]:
    """What every scene of one SDK gave at each upstream's port."""
    urls = {router.url(name): name for name in UPSTREAMS}
    done = subprocess.run(
        [python, SESSION, sdk, *urls], capture_output=True, text=True, timeout=300, env={**os.environ, "NO_PROXY": "*"}
    )
    if done.returncode:
        raise AssertionError(f"{sdk} broke: {done.stderr[-3000:]}")
    return {urls[url]: played for url, played in json.loads(done.stdout).items()}


class NewSDKTests(TestCase):
    """The present majors."""

    timeout = 600
    python = sys.executable

    def judge(self, sdk: str) -> None:
        stack = shared("dialects", make_stack)
        wrong = []
        for upstream, scenes in play(self.python, sdk, stack.router).items():
            for name, found in scenes.items():
                for trouble in judged(sdk, upstream, name, found):
                    wrong.append(f"{sdk} → {upstream}, {name}: {trouble}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_anthropic(self) -> None:
        """The Anthropic SDK's scenes are the same at an upstream of any dialect."""
        self.judge("anthropic")

    def test_chat(self) -> None:
        """So are the OpenAI SDK's on Chat Completions."""
        self.judge("chat")

    def test_responses(self) -> None:
        """So are the OpenAI SDK's on Responses."""
        self.judge("responses")

    def test_gemini(self) -> None:
        """So are the google-genai SDK's."""
        self.judge("gemini")


class OldSDKTests(NewSDKTests):
    """The former majors, where there is an interpreter with them."""

    python = OLD

    def setUp(self) -> None:
        if not OLD:
            raise SkipTest("MPORTROUTER_OLD_SDKS names no interpreter with the SDKs' former majors")


def judged(sdk: str, upstream: str, name: str, found: Any) -> list[str]:
    """What is wrong with a scene."""
    if isinstance(found, dict) and "error" in found:
        return [found["error"]]
    whole, called = STOPS[sdk]
    who = f"This is the stand-in for {TITLES[upstream]}"
    wrong = []

    def expect(what: str, got: Any, wanted: Any) -> None:
        if got != wanted:
            wrong.append(f"{what} is {got!r}, not {wanted!r}")

    if name == "wrong":
        if "BadRequest" not in found and "ClientError 400" not in found:
            wrong.append(f"a bad request gave {found!r}")
        return wrong
    if name in ("plain", "streamed", "long", "picture", "shape"):
        text = json.loads(found["text"])["city"] if name == "shape" else found["text"]
        if not text.startswith(who):
            wrong.append(f"the text is {found['text'][:100]!r}")
        expect("stop", found["stop"], whole)
        expect("calls", found["calls"], [])
        if name == "long" and not len(found["text"].split()) >= 300:
            wrong.append(f"only {len(found['text'].split())} words came")
        if not (found["input"] > 0 and found["output"] > 0):
            wrong.append(f"usage is {found['input']}, {found['output']}")
        return wrong
    asking, result, last = found
    names = ["get_weather", "get_time"] if name == "both" else ["get_weather"]
    place = "Oslo" if name == "both" else "Paris"
    expect("calls", asking["calls"], [[each, {"city": place}] for each in names])
    expect("stop of the call", asking["stop"], called)
    expect("stop", result["stop"], whole)
    if "The tool gave: “sunny, 21 degrees”" not in result["text"]:
        wrong.append(f"the text after the result is {result['text'][:200]!r}")
    if "And now thank you." not in last["text"]:
        wrong.append(f"the last text is {last['text'][:200]!r}")
    # Chat clients do not say whether they want to see thoughts: an upstream that asks for it does not show them.
    shown = upstream != "openai" and (sdk != "chat" or upstream == "anthropic")
    if name.startswith("thinking") and shown and "I am a stand-in" not in asking["thought"]:
        wrong.append(f"the thought is {asking['thought'][:100]!r}")
    return wrong
