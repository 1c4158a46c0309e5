"""Cleaning of wikitext and cutting of windows; the tokenizer rebuilt from metadata."""

from __future__ import annotations

import bz2

import numpy as np
import pytest

from sim.errors import InputError
from workloads import text
from workloads.tokenizer import Tokenizer

PROSE = "is a sentence that is certainly long enough to be kept as prose, with eighty characters or more in it."


def test_plain_text():
    references = '&lt;ref name="x"&gt;gone&lt;/ref&gt;&lt;ref name="y" /&gt;'
    wikitext = f"""{{{{Infobox|a={{{{nested}}}}
|b=c}}}}
'''Thing''' ({{{{IPA|x}}}}) {PROSE}{references} It has a [[Long title|link]] too.
[[File:a.jpg|thumb|A [[caption]] {PROSE}]]
{{| class="wikitable"
| {PROSE}
|}}
* {PROSE}
too short
Second [[wikt:gone|gone]]paragraph &amp;amp; {PROSE} See [http://a.b the site].
== See also ==
Third {PROSE}
"""
    assert text.plain_text(wikitext) == (
        f"Thing () {PROSE} It has a link too.\nSecond paragraph & {PROSE} See the site."
    )


def page(title: str, body: str, namespace: int = 0, extra: str = "") -> str:
    return f"<page><title>{title}</title><ns>{namespace}</ns>{extra}<text xml:space='preserve'>{body}</text></page>"


def test_pages_skip_redirects_and_other_namespaces(tmp_path):
    dump = page("A &amp; B", f"One {PROSE}") + page("R", "x", extra="<redirect title='A'/>") + page("T", "x", 10)
    path = tmp_path / "dump.bz2"
    path.write_bytes(bz2.compress(dump.encode()))
    assert text.articles(path) == {"A & B": f"One {PROSE}"}
    path = tmp_path / "broken.bz2"
    path.write_bytes(b"no bz2")
    with pytest.raises(InputError, match="bz2"):
        text.articles(path)


def test_tokenizer_round_trip(tiny):
    tokenizer = Tokenizer(tiny)
    sentence = "In 1969: naïve – 汉字!\n"
    ids = tokenizer.encode(sentence)
    assert len(ids) == len(sentence.encode()) and tokenizer.decode(ids) == sentence


def test_windows(tiny):
    tokenizer = Tokenizer(tiny)
    cut = text.windows(tokenizer, ["abcdefgh", "xy", "ABCDEFGH"], 4, start=2)
    assert [tokenizer.decode(row) for row in cut] == ["cdef", "CDEF"]
    with pytest.raises(InputError, match="shorter windows"):
        text.windows(tokenizer, ["abc"], 4)


def test_calibration_windows_never_use_evaluation_articles(tiny, monkeypatch):
    titles = [*text.EVALUATION, *text.CALIBRATION, "Other", "Short"]
    texts = {title: f"{i:03d} " * 200 for i, title in enumerate(titles)} | {"Short": "x"}
    monkeypatch.setattr(text, "articles", lambda: texts)
    found = text.calibration_windows(Tokenizer(tiny), tokens=17 * 64, length=64)
    assert found.shape == (17, 64)
    assert len(np.unique(found, axis=0)) == 17
    with pytest.raises(InputError, match="at most 1088"):
        text.calibration_windows(Tokenizer(tiny), tokens=10_000, length=64)


def test_other_tokenizers_are_refused(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "metadata", lambda key, default=None: "llama")
    with pytest.raises(InputError, match="give token ids"):
        Tokenizer(tiny)


def test_plain_speech():
    transcript = f"[ As delivered ]\n\nThe President. Thank you.\n\nAudience members. More!\n\n{PROSE} [Applause]\n"
    assert text.plain_speech(transcript) == f"Thank you.\nMore!\n{PROSE}"


def test_speech_windows_begin_past_the_salutation(tiny, monkeypatch, tmp_path):
    def written(file):
        path = tmp_path / file.name
        path.write_text(f"The President. {'salutation' * 10}{file.name} " + "x" * 80, encoding="utf-8")
        return path

    monkeypatch.setattr(text, "fetch", written)
    tokenizer = Tokenizer(tiny)
    found = text.speech_windows(tokenizer, 16)
    assert found.shape == (8, 16) and tokenizer.decode(found[0]).startswith("1936-Roosevelt")
