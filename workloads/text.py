"""Plain prose from a Wikipedia dump, and windows of token ids cut from it.

Cleaning keeps what a reader would read: articles of namespace 0 that are no redirects; templates, tables, references,
files, categories and links to other namespaces removed; link text kept; only prose lines of at least 80 characters;
nothing from References or See also on; paragraphs joined by a newline. The text is by Wikipedia's contributors
(CC BY-SA): it is fetched, not vendored.
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
from workloads.fetch import WIKIPEDIA, fetch
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
#: Calibration windows begin here, past the first sentences that all articles share in style.
CALIBRATION_START = 100
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
