"""
Pictures, documents and sounds as requests carry them: data URLs, base64, and types that may be wrong.

Some providers refuse a picture whose declared type is not what its bytes say, so the bytes are believed. Base64 comes
in both alphabets (Gemini's clients write the one for URLs) and leaves in the standard one (RFC 4648 §4).
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from .conversation import Media

_TYPES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "application/x-pdf": "application/pdf",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
}

#: What differs from ``type/subtype`` with the subtype as the name's ending.
_ENDINGS = {
    "image/jpeg": "jpg",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/x-python": "py",
    "text/javascript": "js",
    "audio/mpeg": "mp3",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
}

#: Formats of ``input_audio`` to media types (OpenAI's API reference names these two).
_SOUNDS = {"wav": "audio/wav", "mp3": "audio/mpeg"}

#: Characters of base64 that hold every mark that is looked for, whole groups of four.
_HEAD = 24

_STANDARD = str.maketrans("-_", "+/")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}").fullmatch
_PLAIN = re.compile(r"[a-z0-9]+").fullmatch


def read_data_url(url: str) -> Media:
    """
    The bytes that a data URL holds (RFC 2397), as base64.

    :raises ValueError: for what is no data URL, or whose base64 is damaged or empty.
    """
    if url[:5].lower() != "data:":
        raise ValueError("it does not begin with data:")
    comma = url.find(",", 5)
    if comma < 0:
        raise ValueError("the data URL has no comma")
    head, *parameters = url[5:comma].split(";")
    declared = _normalised(head)
    if parameters and parameters[-1].strip().lower() == "base64":
        text = url[comma + 1 :]
        if "%" in text:
            text = unquote_to_bytes(text).decode("latin-1")
        value = _standard(text)
        if _BASE64(value) is None or len(value.rstrip("=")) % 4 == 1:
            raise ValueError("the data URL's base64 is damaged")
        value = _padded(value)
    else:
        content = unquote_to_bytes(url[comma + 1 :].encode("utf-8", "surrogatepass"))
        value = base64.b64encode(content).decode("ascii")
        declared = declared or "text/plain"
    if not value:
        raise ValueError("the data URL is empty")
    return Media("base64", value, sniffed(value) or declared)


def data_url(media: Media) -> str:
    """
    :param media: of kind ``base64``, or ``text``.
    :raises ValueError: for any other, whose bytes are not here.
    """
    if media.kind == "base64":
        return f"data:{media.media_type or 'application/octet-stream'};base64,{media.value}"
    if media.kind == "text":
        value = base64.b64encode(media.value.encode("utf-8", "surrogatepass")).decode("ascii")
        return f"data:{media.media_type or 'text/plain'};base64,{value}"
    raise ValueError(f"media of kind {media.kind} have no bytes here")


def settle(media: Media) -> Media:
    """
    Base64 in its standard alphabet without white space, and of the type that its bytes say; others as they are, the
    very object where nothing changes.
    """
    if media.kind != "base64":
        return media
    value = _standard(media.value)
    kind = sniffed(value) or _normalised(media.media_type)
    if value == media.value and kind == media.media_type:
        return media
    return Media("base64", value, kind, media.filename)


def sniffed(value: str) -> str:
    """The media type that the first bytes of base64 tell, ``""`` where they tell none."""
    try:
        head = binascii.a2b_base64(value[:_HEAD])
    except ValueError:
        return ""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF"):
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12], "")
    if head.startswith(b"%PDF"):
        return "application/pdf"
    return ""


def filename(media: Media) -> str:
    """The name that was given, or one made of the type: ``document.pdf``, ``image.jpg``."""
    if media.filename:
        return media.filename
    kind = media.media_type or ("text/plain" if media.kind == "text" else "")
    family, _, subtype = kind.partition("/")
    ending = _ENDINGS.get(kind) or (subtype if _PLAIN(subtype) else "bin")
    return f"{family if family in ('image', 'audio', 'video') else 'document'}.{ending}"


def audio_format(media: Media) -> str:
    """The ``format`` of OpenAI's ``input_audio``, ``""`` where it has none for this sound."""
    kind = _normalised(media.media_type)
    return next((name for name, other in _SOUNDS.items() if other == kind), "")


def audio_type(name: str) -> str:
    """The media type of such a ``format``."""
    name = name.strip().lower()
    return _SOUNDS.get(name) or (f"audio/{name}" if name else "")


def _normalised(kind: str) -> str:
    kind = kind.partition(";")[0].strip().lower()
    return _TYPES.get(kind, kind)


def _standard(value: str) -> str:
    parts = value.split()
    if len(parts) != 1 or len(parts[0]) != len(value):
        value = "".join(parts)
    if "-" in value or "_" in value:
        value = value.translate(_STANDARD)
    return value


def _padded(value: str) -> str:
    bare = value.rstrip("=")
    return bare + "=" * (-len(bare) % 4)
