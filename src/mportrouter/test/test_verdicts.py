"""Tests of reading providers' error answers."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mportrouter.errors import Kind, Verdict
from mportrouter.verdicts import (
    all_exhausted,
    classify,
    clean,
    nobody_answered,
    parse_reset,
    retry_after,
    verdict_for_code,
    verdict_for_error,
)

NOW = 1_700_000_000.0
DATE = "Tue, 14 Nov 2023 22:13:30 GMT"  # ten seconds later


def anthropic(type: str, message: str, **details: Any) -> bytes:
    error: dict[str, Any] = {"type": type, "message": message}
    if details:
        error["details"] = details
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


def openai(message: str, type: str | None = None, code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": type, "code": code, "param": None}}).encode()


def judge(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> Verdict:
    return classify(status, list(headers), body, NOW)


class ClassifyTests(SynchronousTestCase):
    """An HTTP error answer and what it means."""

    def check(self, verdict: Verdict, kind: Kind, *, same: bool, on: bool, account: bool = False) -> None:
        self.assertEqual(
            (verdict.kind, verdict.retry_same, verdict.move_on, verdict.account), (kind, same, on, account), verdict
        )

    def test_statuses(self) -> None:
        """A status alone decides where the body says nothing."""
        for status, kind, same, on, account in [
            (400, Kind.BAD_REQUEST, False, False, False),
            (401, Kind.AUTH, False, True, True),
            (402, Kind.MONEY, False, True, True),
            (403, Kind.AUTH, False, True, False),
            (404, Kind.NOT_FOUND, False, False, False),
            (405, Kind.METHOD, False, False, False),
            (408, Kind.TIMEOUT, True, True, False),
            (409, Kind.UPSTREAM, True, True, False),
            (413, Kind.TOO_LARGE, False, False, False),
            (415, Kind.MEDIA_TYPE, False, False, False),
            (418, Kind.BAD_REQUEST, False, False, False),
            (422, Kind.BAD_REQUEST, False, False, False),
            (429, Kind.RATE, True, True, False),
            (498, Kind.OVERLOADED, True, True, False),
            (500, Kind.UPSTREAM, True, True, False),
            (501, Kind.UPSTREAM, False, True, False),
            (502, Kind.UPSTREAM, True, True, False),
            (503, Kind.OVERLOADED, True, True, False),
            (504, Kind.TIMEOUT, True, True, False),
            (524, Kind.TIMEOUT, True, True, False),
            (529, Kind.OVERLOADED, True, True, False),
            (302, Kind.GARBAGE, False, True, False),
        ]:
            verdict = judge(status)
            self.check(verdict, kind, same=same, on=on, account=account)
            self.assertEqual(verdict.status, status)
            self.assertIn(str(status), verdict.message)

    def test_money_in_disguise(self) -> None:
        """A spent budget is money, whatever its status says, and is not asked again."""
        for status, body in [
            (429, anthropic("rate_limit_error", "No.", error_code="enforced_spend_limit_reached")),
            (429, anthropic("rate_limit_error", "No.", error_code="contract_spend_limit_reached")),
            (429, anthropic("billing_error", "cap")),
            (400, anthropic("invalid_request_error", "You have reached your specified API usage limits. Regain …")),
            (400, anthropic("invalid_request_error", "You have reached your specified workspace API usage limits.")),
            (400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API.")),
            (429, openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota")),
            (429, openai("x", None, "credit_balance_exhausted")),
            (429, openai("x", None, "project_spend_limit_exceeded")),
            (429, openai("x", None, "organization_usage_limit_exceeded")),
            (429, openai("x", "exceeded_current_quota_error")),
            (402, openai("Insufficient Balance")),
        ]:
            self.check(judge(status, body), Kind.MONEY, same=False, on=True, account=True)

    def test_ramp_limit_is_a_rate(self) -> None:
        """A limit on growth passes by itself, so it is a rate limit with the wait that was told."""
        verdict = judge(
            429, anthropic("rate_limit_error", "x", error_code="ramp_limit_exceeded"), (b"retry-after", b"7")
        )
        self.check(verdict, Kind.RATE, same=True, on=True)
        self.assertEqual(verdict.retry_after, 7.0)

    def test_context(self) -> None:
        """A prompt that is too long may go on to a larger model, and is never tried twice at the same one."""
        for status, body in [
            (400, anthropic("invalid_request_error", "prompt is too long: 215310 tokens > 200000 maximum")),
            (400, openai("This model's maximum context length is 128000 tokens", None, "context_length_exceeded")),
            (400, openai("Your request exceeded model token limit: 262144")),
            (500, openai("The prompt is longer than the maximum context length of 32768")),
            (400, anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 2")),
            (400, openai("The input token count (2500000) exceeds the maximum number of tokens allowed (1048576).")),
        ]:
            self.check(judge(status, body), Kind.CONTEXT, same=False, on=True)

    def test_policy(self) -> None:
        """A refusal on content is the answer: nobody else is asked."""
        for status, body in [
            (400, openai("blocked", "content_filter")),
            (400, openai("x", None, "content_policy_violation")),
            (400, anthropic("invalid_request_error", "Output blocked by content filtering policy")),
            (400, openai("x", None, "cyber_policy")),
        ]:
            self.check(judge(status, body), Kind.POLICY, same=False, on=False)

    def test_model_not_found(self) -> None:
        """An unknown model may exist at the next upstream; an unknown path does not."""
        for status, body in [
            (404, anthropic("not_found_error", "model: claude-nonesuch-9")),
            (404, openai("The model `gpt-x` does not exist", "invalid_request_error", "model_not_found")),
            (400, openai("Unknown model foo")),
        ]:
            self.check(judge(status, body), Kind.NOT_FOUND, same=False, on=True)
        self.check(judge(404, anthropic("not_found_error", "Not found")), Kind.NOT_FOUND, same=False, on=False)
        thinking = anthropic("invalid_request_error", "thinking.type.enabled is not supported on this model")
        self.check(judge(400, thinking), Kind.BAD_REQUEST, same=False, on=False)

    def test_auth(self) -> None:
        """A bad key takes the account out; a mere prohibition does not."""
        self.check(
            judge(401, anthropic("authentication_error", "invalid x-api-key")),
            Kind.AUTH,
            same=False,
            on=True,
            account=True,
        )
        self.check(
            judge(403, anthropic("permission_error", "This organization has been disabled.")),
            Kind.AUTH,
            same=False,
            on=True,
            account=True,
        )
        self.check(
            judge(
                400, b'{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid. Pass another"}}'
            ),
            Kind.AUTH,
            same=False,
            on=True,
            account=True,
        )
        self.check(
            judge(403, anthropic("permission_error", "no access to this resource")), Kind.AUTH, same=False, on=True
        )

    def test_overloaded_429(self) -> None:
        """An overloaded engine that answers 429 counts as overload."""
        for body in (
            openai("x", "engine_overloaded_error"),
            anthropic("rate_limit_error", "engine is currently overloaded"),
        ):
            self.check(judge(429, body), Kind.OVERLOADED, same=True, on=True)

    def test_too_many_tokens_a_minute(self) -> None:
        """A 413 about tokens a minute is a rate limit."""
        body = openai("Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 9000")
        self.assertIs(judge(413, body).kind, Kind.RATE)

    def test_minimax(self) -> None:
        """MiniMax's number decides, from base_resp or from the end of the message."""
        login = (
            '{"type":"error","error":{"type":"authorized_error","message":"login fail: … (1004)","http_code":"401"},'
            '"request_id":"x"}'
        ).encode()
        self.check(judge(401, login), Kind.AUTH, same=False, on=True, account=True)
        self.check(
            judge(400, b'{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}'),
            Kind.MONEY,
            same=False,
            on=True,
            account=True,
        )
        plan = b'{"type":"error","error":{"type":"rate_limit_error","message":"usage limit exceeded (2056)"}}'
        self.check(judge(429, plan), Kind.MONEY, same=False, on=True, account=True)
        tokens = b'{"type":"error","error":{"type":"rate_limit_error","message":"TPM limit (1039)"}}'
        self.check(judge(429, tokens), Kind.RATE, same=True, on=True)
        system = b'{"type":"error","error":{"type":"api_error","message":"system error (1033)","http_code":"400"}}'
        self.check(judge(400, system), Kind.UPSTREAM, same=True, on=True)

    def test_trailing_number_of_others(self) -> None:
        """A number in parentheses at the end of another provider's refusal does not make it a server's fault."""
        body = anthropic("invalid_request_error", "messages: at most so many are allowed (1000)")
        self.check(judge(400, body), Kind.BAD_REQUEST, same=False, on=False)
        self.check(judge(400, openai("unknown year (1984)")), Kind.BAD_REQUEST, same=False, on=False)

    def test_should_retry(self) -> None:
        """``x-should-retry`` is final about asking the same upstream again, and only about that."""
        verdict = judge(503, b"", (b"X-Should-Retry", b"false"))
        self.check(verdict, Kind.OVERLOADED, same=False, on=True)
        self.check(judge(400, b"", (b"x-should-retry", b"true")), Kind.BAD_REQUEST, same=True, on=False)
        self.check(judge(402, b"", (b"x-should-retry", b"true")), Kind.MONEY, same=False, on=True, account=True)

    def test_html(self) -> None:
        """Of an HTML page its title is kept, or its text without tags."""
        self.assertEqual(judge(502, b"<html><head><title>\n502 Bad\nGateway</title></head>").message, "502 Bad Gateway")
        self.assertEqual(judge(413, b"<h1>Too  large</h1><p>cloudflare</p>").message, "Too large cloudflare")
        self.assertIs(judge(413, b"<h1>Too  large</h1>").kind, Kind.TOO_LARGE)

    def test_shapes(self) -> None:
        """Every provider's shape gives its message."""
        for body, message in [
            (b'{"error":"model is loading"}', "model is loading"),
            (b'{"message":"top level","type":"x","code":"y"}', "top level"),
            (b'{"detail":"Unsupported parameter: x"}', "Unsupported parameter: x"),
            (b'{"detail":[{"loc":["body"],"msg":"field required"},{"msg":"too short"}]}', "field required; too short"),
            (b'[{"error":{"code":400,"message":"in a list","status":"INVALID_ARGUMENT"}}]', "in a list"),
            (b'"just text"', "just text"),
            (b"plain text", "plain text"),
            (b"{broken", "{broken"),
            (b"[]", "HTTP 400 without a message"),
            (b"null", "HTTP 400 without a message"),
            (b"123", "HTTP 400 without a message"),
            (b'{"error":null}', "HTTP 400 without a message"),
            (b'{"error":{"message":7,"type":[],"details":"x"}}', "HTTP 400 without a message"),
        ]:
            verdict = judge(400, body)
            self.assertEqual(verdict.message, message)
            self.assertIs(verdict.kind, Kind.BAD_REQUEST)

    def test_compressed(self) -> None:
        """A compressed body is read where zlib can, and else the status decides."""
        body = anthropic("invalid_request_error", "prompt is too long: 9 > 8")
        raw = zlib.compressobj(wbits=-15)
        for coding, data in [
            (b"gzip", gzip.compress(body)),
            (b"GZIP", gzip.compress(body)),
            (b"deflate", zlib.compress(body)),
            (b"deflate", raw.compress(body) + raw.flush()),
        ]:
            self.assertIs(judge(400, data, (b"Content-Encoding", coding)).kind, Kind.CONTEXT)
        self.assertIs(judge(400, b"\x8b\x00\xff", (b"content-encoding", b"br")).kind, Kind.BAD_REQUEST)
        self.assertIs(judge(529, b"not gzip", (b"content-encoding", b"gzip")).kind, Kind.OVERLOADED)

    def test_decompression_is_bounded(self) -> None:
        """A small body that unfolds to hundreds of megabytes costs no memory."""
        bomb = gzip.compress(b" " * 50_000_000, 9)
        self.assertIs(judge(500, bomb, (b"content-encoding", b"gzip")).kind, Kind.UPSTREAM)

    def test_deep_nesting(self) -> None:
        """Absurd nesting is a message like any other."""
        self.assertIs(judge(500, b'{"error":' * 100_000).kind, Kind.UPSTREAM)

    def test_wait_in_body(self) -> None:
        """A wait that only the body tells is used where no header does."""
        groq = openai("Rate limit reached. Please try again in 5.289s. Visit …", "tokens", "rate_limit_exceeded")
        self.assertEqual(judge(429, groq).retry_after, 5.289)
        self.assertEqual(judge(429, groq, (b"retry-after", b"9")).retry_after, 9.0)
        gemini = (
            b'{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED","details":'
            b'[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37s"}]}}'
        )
        self.assertEqual(judge(429, gemini).retry_after, 37.0)
        codex = b'{"error":{"type":"usage_limit_reached","message":"x","resets_at":1,"resets_in_seconds":90}}'
        self.assertEqual(judge(429, codex).retry_after, 90.0)

    @given(st.integers(300, 599), st.binary(max_size=300))
    @settings(max_examples=200, deadline=None)
    def test_anything(self, status: int, body: bytes) -> None:
        """No body makes it raise, and a client's fault never moves on but for an unknown model."""
        verdict = judge(status, body)
        self.assertLessEqual(len(verdict.message), 300)
        if verdict.kind.clients_fault and verdict.kind is not Kind.NOT_FOUND:
            self.assertFalse(verdict.move_on)


class InBandTests(SynchronousTestCase):
    """Errors inside a 200."""

    def test_error_events(self) -> None:
        """The type of an ``error`` event decides."""
        for name, kind in [
            ("overloaded_error", Kind.OVERLOADED),
            ("api_error", Kind.UPSTREAM),
            ("timeout_error", Kind.TIMEOUT),
            ("rate_limit_error", Kind.RATE),
            ("authentication_error", Kind.AUTH),
            ("billing_error", Kind.MONEY),
            ("permission_error", Kind.AUTH),
            ("invalid_request_error", Kind.BAD_REQUEST),
            ("not_found_error", Kind.NOT_FOUND),
            ("request_too_large", Kind.TOO_LARGE),
            ("something_new", Kind.UPSTREAM),
            ("", Kind.UPSTREAM),
        ]:
            verdict = verdict_for_error(name, "words")
            self.assertIs(verdict.kind, kind, name)
            self.assertIsNone(verdict.status)
        self.assertIs(verdict_for_error("invalid_request_error", "prompt is too long: 2 > 1").kind, Kind.CONTEXT)
        self.assertIs(verdict_for_error("api_error", "insufficient balance (1008)").kind, Kind.MONEY)
        self.assertEqual(verdict_for_error("overloaded_error", "").message, "overloaded_error")

    def test_codes(self) -> None:
        """MiniMax's table."""
        for code, kind in [
            (1000, Kind.UPSTREAM),
            (1001, Kind.TIMEOUT),
            (1002, Kind.RATE),
            (1004, Kind.AUTH),
            (1008, Kind.MONEY),
            (1013, Kind.UPSTREAM),
            (1024, Kind.UPSTREAM),
            (1026, Kind.POLICY),
            (1027, Kind.POLICY),
            (1033, Kind.UPSTREAM),
            (1039, Kind.RATE),
            (1041, Kind.RATE),
            (1042, Kind.BAD_REQUEST),
            (2013, Kind.BAD_REQUEST),
            (2045, Kind.RATE),
            (2049, Kind.AUTH),
            (2056, Kind.MONEY),
            (20132, Kind.BAD_REQUEST),
            (77777, Kind.UPSTREAM),
        ]:
            self.assertIs(verdict_for_code(code, "words").kind, kind, code)
        self.assertFalse(verdict_for_code(1026, "x").move_on)
        self.assertFalse(verdict_for_code(2056, "x").retry_same)
        self.assertEqual(verdict_for_code(1013, "").message, "error code 1013")


class CleanTests(SynchronousTestCase):
    """A provider's words for logs and terminals."""

    def test_control_characters(self) -> None:
        """Control, invisible and direction-changing characters go; what is left is encodable."""
        self.assertEqual(clean("a\x1b[31mb\nc\u202ed\u2028e\ud800f\x00"), "a [31mb c d e f")

    def test_length(self) -> None:
        """At most 300 characters, the cut shown."""
        self.assertEqual(clean("x" * 300), "x" * 300)
        self.assertEqual(clean("x" * 301), "x" * 299 + "…")

    def test_keys(self) -> None:
        """What looks like a key is not repeated."""
        shown = clean("Incorrect API key provided: sk-ant-api03-abcdefghijk. Bearer abcdefgh12345678")
        self.assertNotIn("abcdefgh", shown)
        self.assertEqual(clean("ask-about task-1"), "ask-about task-1")


class AdviceTests(SynchronousTestCase):
    """When to come again."""

    def test_forms(self) -> None:
        """Every form of a reset is understood."""
        for text, seconds in [
            ("1h2m3.5s", 3723.5),
            ("6m0s", 360.0),
            ("2m59.56s", 179.56),
            ("250ms", 0.25),
            ("12.5", 12.5),
            (".5", 0.5),
            ("0", 0.0),
            ("1700000010", 10.0),
            ("1700000010500", 10.5),
            ("1600000000", 0.0),
            ("2023-11-14T22:13:30Z", 10.0),
            ("2023-11-14T22:13:30.25Z", 10.25),
            ("2023-11-14T23:13:30+01:00", 10.0),
            ("2023-11-14T22:13:00Z", 0.0),
            (DATE, 10.0),
            ("Tuesday, 14-Nov-23 22:13:30 GMT", 10.0),
        ]:
            found = parse_reset(text, NOW)
            self.assertIsNotNone(found, text)
            self.assertAlmostEqual(found, seconds, places=5, msg=text)

    def test_nonsense(self) -> None:
        """What is no time gives no advice."""
        for text in ("", "-1", "soon", "1x", "nan", "inf", "1e5", "2023-13-45T99:99:99Z", "1" * 65, "\u0661", "١٢"):
            self.assertIsNone(parse_reset(text, NOW), text)

    def test_bounded(self) -> None:
        """A wait of years is cut to a month."""
        self.assertEqual(parse_reset("999999999", NOW), 31 * 86400.0)

    def test_order(self) -> None:
        """Milliseconds before seconds before budgets."""
        every = [
            (b"Anthropic-RateLimit-Requests-Remaining", b"0"),
            (b"anthropic-ratelimit-requests-reset", b"2023-11-14T22:13:50Z"),
            (b"Retry-After", b"3"),
            (b"retry-after-ms", b"1500"),
        ]
        self.assertEqual(retry_after(every, NOW), 1.5)
        self.assertEqual(retry_after(every[:3], NOW), 3.0)
        self.assertEqual(retry_after(every[:2], NOW), 30.0)
        self.assertEqual(retry_after([(b"retry-after", DATE.encode())], NOW), 10.0)
        self.assertIsNone(retry_after([(b"content-type", b"text/html")], NOW))

    def test_only_used_up_budgets(self) -> None:
        """Only budgets with nothing left count, and of these the latest reset."""
        headers = [
            (b"anthropic-ratelimit-requests-remaining", b"49"),
            (b"anthropic-ratelimit-requests-reset", b"2023-11-14T23:13:20Z"),
            (b"anthropic-ratelimit-input-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-input-tokens-reset", b"2023-11-14T22:13:25Z"),
            (b"anthropic-ratelimit-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-tokens-reset", b"2023-11-14T22:13:32Z"),
        ]
        self.assertEqual(retry_after(headers, NOW), 12.0)
        self.assertIsNone(retry_after(headers[:2], NOW))

    def test_other_providers(self) -> None:
        """OpenAI's, Cerebras's, OpenRouter's and the subscription's fields."""
        for headers, seconds in [
            ([(b"x-ratelimit-remaining-tokens", b"0"), (b"x-ratelimit-reset-tokens", b"6m0s")], 360.0),
            ([(b"x-ratelimit-remaining-tokens-minute", b"0"), (b"x-ratelimit-reset-tokens-minute", b"12.25")], 12.25),
            ([(b"X-RateLimit-Remaining", b"0"), (b"X-RateLimit-Reset", b"1700000010000")], 10.0),
            (
                [
                    (b"anthropic-ratelimit-unified-status", b"rejected"),
                    (b"anthropic-ratelimit-unified-reset", b"1700000600"),
                ],
                600.0,
            ),
            (
                [
                    (b"anthropic-ratelimit-unified-status", b"allowed"),
                    (b"anthropic-ratelimit-unified-reset", b"1700000600"),
                ],
                None,
            ),
        ]:
            self.assertEqual(retry_after(headers, NOW), seconds)

    @given(st.text(max_size=70))
    @settings(max_examples=200, deadline=None)
    def test_any_text(self, text: str) -> None:
        """Any text gives seconds within bounds or nothing, and never raises."""
        found = parse_reset(text, NOW)
        if found is not None:
            self.assertTrue(0.0 <= found <= 31 * 86400.0)


class NobodyTests(SynchronousTestCase):
    """One error for several failures."""

    def test_accounts(self) -> None:
        """Where only keys and balances are wrong, waiting is not advised: a person has to mend them."""
        key, money = Verdict(Kind.AUTH, "bad key", 900.0), Verdict(Kind.MONEY, "no money", 900.0)
        error = nobody_answered({"a": key, "b": money})
        self.assertEqual((error.status, error.retry_after, error.should_retry), (401, None, False))
        self.assertIn("a: bad key", error.message)

    def test_rates(self) -> None:
        """Rate limits everywhere are one rate limit, until the soonest is over."""
        error = nobody_answered({"a": Verdict(Kind.RATE, "slow", 9.0), "b": Verdict(Kind.RATE, "slow", 4.0)})
        self.assertEqual((error.status, error.retry_after), (429, 4.0))

    def test_no_place(self) -> None:
        """Where every place is taken nobody was asked, and the words do not say so."""
        error = nobody_answered({"a": Verdict(Kind.BUSY, "all of its 5 places are taken", 1.0)})
        self.assertEqual((error.kind, error.status, error.retry_after), (Kind.BUSY, 503, 1.0))
        self.assertIn("no place is free", error.message)

    def test_all_exhausted(self) -> None:
        """Accounts that wait for time or money are exhausted together; where one has another fault they are not."""
        money, rate = Verdict(Kind.MONEY, "no credit", 300.0), Verdict(Kind.RATE, "slow", 40.0)
        error = all_exhausted({"a": money, "b": rate, "c": Verdict(Kind.AUTH, "bad key", 1.0)}, "big\nmodel")
        assert error is not None
        self.assertEqual((error.status, error.retry_after), (429, 40.0))
        self.assertIn("all providers for model exhausted: 'big model' (a: no credit; b: slow", error.message)
        self.assertIsNone(all_exhausted({"a": money, "b": Verdict(Kind.NETWORK, "refused")}, "m"))
        self.assertIsNone(all_exhausted({"a": Verdict(Kind.AUTH, "bad key")}, "m"))
        self.assertIsNone(all_exhausted({}, "m"))

    def test_mixed(self) -> None:
        """Anything else is a 503 that names every upstream with its reason."""
        error = nobody_answered({"a": Verdict(Kind.AUTH, "bad key", 900.0), "b": Verdict(Kind.NETWORK, "refused")})
        self.assertEqual((error.status, error.retry_after), (503, 5.0))
        self.assertIn("b: refused", error.message)
