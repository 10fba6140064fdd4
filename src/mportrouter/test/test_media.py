"""Tests for :mod:`mportrouter.media`."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Media
from ..media import audio_format, audio_type, data_url, filename, read_data_url, settle, sniffed


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


PNG = coded(b"\x89PNG\r\n\x1a\n" + b"x" * 20)
JPEG = coded(b"\xff\xd8\xff\xe0" + b"x" * 20)
GIF = coded(b"GIF89a" + b"x" * 20)
WEBP = coded(b"RIFF\x24\x00\x00\x00WEBPVP8 " + b"x" * 20)
WAVE = coded(b"RIFF\x24\x00\x00\x00WAVEfmt " + b"x" * 20)
PDF = coded(b"%PDF-1.7\n" + b"x" * 20)


class SniffedTests(SynchronousTestCase):
    """The type that the bytes tell."""

    def test_types(self) -> None:
        """Pictures, PDF and wave sound are known by their first bytes."""
        for value, kind in (
            (PNG, "image/png"),
            (JPEG, "image/jpeg"),
            (GIF, "image/gif"),
            (WEBP, "image/webp"),
            (WAVE, "audio/wav"),
            (PDF, "application/pdf"),
            (coded(b"RIFF\x24\x00\x00\x00AVI LIST"), ""),
            (coded(b"GIF is a format"), ""),
            (coded(b"plain"), ""),
            ("", ""),
            ("é", ""),
            ("A", ""),
        ):
            self.assertEqual(sniffed(value), kind, value)


class DataUrlTests(SynchronousTestCase):
    """Data URLs in and out."""

    def test_types(self) -> None:
        """The bytes are believed before the declaration; a known misspelling is put right; parameters are ignored."""
        for url, kind in (
            (f"data:image/png;base64,{PNG}", "image/png"),
            (f"data:image/png;base64,{JPEG}", "image/jpeg"),
            (f"data:image/jpg;base64,{coded(b'abc')}", "image/jpeg"),
            (f"DATA:IMAGE/PNG;Charset=x;BASE64,{PNG}", "image/png"),
            (f"data:;base64,{GIF}", "image/gif"),
            (f"data:;base64,{coded(b'abc')}", ""),
            (f"data:application/pdf;name=a.pdf;base64,{PDF}", "application/pdf"),
            (f"data:image/png;base64,{PDF}", "application/pdf"),
        ):
            media = read_data_url(url)
            self.assertEqual((media.kind, media.media_type), ("base64", kind), url[:40])

    def test_white_space(self) -> None:
        """Line ends in the base64, percent signs for its characters, either alphabet and lost padding are put right."""
        content = b"\xff\xfe\xfb??>"
        value = coded(content)
        self.assertIn("/", value)
        for text in (
            f" {value[:3]}\r\n{value[3:]}\t",
            value.replace("/", "%2F").replace("+", "%2b"),
            value.replace("/", "_").replace("+", "-"),
            value.rstrip("="),
        ):
            self.assertEqual(read_data_url(f"data:image/x;base64,{text}").value, value, text)
        self.assertEqual(read_data_url("data:image/x;base64,YQ").value, "YQ==")

    def test_plain(self) -> None:
        """Without ``base64`` the text is percent-decoded; its type is text where none is said (RFC 2397 §2)."""
        self.assertEqual(read_data_url("data:,a%20b%2c"), Media("base64", coded(b"a b,"), "text/plain"))
        self.assertEqual(
            read_data_url("data:text/html,<b>\u00fc"), Media("base64", coded("<b>\u00fc".encode()), "text/html")
        )
        self.assertEqual(read_data_url("data:text/x,\ud83d").value, coded(b"\xed\xa0\xbd"))

    def test_malformed(self) -> None:
        """What is no data URL, or holds damaged base64 or nothing, is a ValueError."""
        for url in (
            "",
            "http://127.0.0.1/a.png",
            "data:image/png;base64",
            "data:image/png;base64,",
            "data:,",
            "data:image/png;base64,a*b=",
            "data:image/png;base64,abcde",
            "data:image/png;base64,ab=c",
            "data:image/png;base64,\u00e9\u00e9\u00e9\u00e9",
            "data:image/png;base64,%zz%zz",
        ):
            self.assertRaises(ValueError, read_data_url, url)

    @given(st.binary(min_size=1, max_size=60))
    def test_round_trip(self, content: bytes) -> None:
        """Written and read again the bytes are the same."""
        media = settle(Media("base64", coded(content), "image/x-odd"))
        self.assertEqual(read_data_url(data_url(media)), media)

    def test_written(self) -> None:
        """A text becomes base64; what has no bytes here cannot be written."""
        self.assertEqual(data_url(Media("base64", "YQ==", "image/png")), "data:image/png;base64,YQ==")
        self.assertEqual(data_url(Media("base64", "YQ==")), "data:application/octet-stream;base64,YQ==")
        self.assertEqual(data_url(Media("text", "a")), "data:text/plain;base64,YQ==")
        for kind in ("url", "file", "parts"):
            self.assertRaises(ValueError, data_url, Media(kind, "x"))


class SettleTests(SynchronousTestCase):
    """Base64 as a client gave it."""

    def test_same(self) -> None:
        """What needs nothing is the very object."""
        for media in (
            Media("base64", PNG, "image/png", "a.png"),
            Media("url", " u\n"),
            Media("text", " t\n"),
            Media("file", "f"),
        ):
            self.assertIs(settle(media), media)

    def test_settled(self) -> None:
        """White space goes, the alphabet is the standard one, the type is what the bytes say; the name stays."""
        split = f"{PNG[:8]}\n{PNG[8:]}"
        self.assertEqual(settle(Media("base64", split, "image/jpeg", "a")), Media("base64", PNG, "image/png", "a"))
        self.assertEqual(settle(Media("base64", "_-8=", "Image/JPG")), Media("base64", "/+8=", "image/jpeg"))
        self.assertEqual(settle(Media("base64", "YQ==", "text/plain; charset=utf-8")).media_type, "text/plain")

    def test_damaged(self) -> None:
        """What is damaged stays so: the provider judges it."""
        self.assertEqual(settle(Media("base64", "a*b", "image/png")).value, "a*b")
        self.assertEqual(settle(Media("base64", "", "image/png")).value, "")


class NameTests(SynchronousTestCase):
    """Names and formats."""

    def test_filename(self) -> None:
        """The given name, or one made of the type."""
        for media, name in (
            (Media("base64", "", "application/pdf", "a b.pdf"), "a b.pdf"),
            (Media("base64", "", "application/pdf"), "document.pdf"),
            (Media("base64", "", "image/jpeg"), "image.jpg"),
            (Media("base64", "", "image/png"), "image.png"),
            (Media("base64", "", "audio/mpeg"), "audio.mp3"),
            (Media("text", "x"), "document.txt"),
            (Media("base64", "x", "text/markdown"), "document.md"),
            (Media("base64", "x"), "document.bin"),
            (Media("base64", "x", "application/vnd.odd+x"), "document.bin"),
        ):
            self.assertEqual(filename(media), name)

    def test_sounds(self) -> None:
        """OpenAI names two formats; other types have none."""
        self.assertEqual(audio_format(Media("base64", "", "audio/x-wav")), "wav")
        self.assertEqual(audio_format(Media("base64", "", "audio/mp3")), "mp3")
        self.assertEqual(audio_format(Media("base64", "", "audio/mpeg")), "mp3")
        self.assertEqual(audio_format(Media("base64", "", "audio/ogg")), "")
        self.assertEqual(audio_type("mp3"), "audio/mpeg")
        self.assertEqual(audio_type(" WAV "), "audio/wav")
        self.assertEqual(audio_type("flac"), "audio/flac")
        self.assertEqual(audio_type(""), "")
