"""Sentences and lines of a prompt as spans of tokens."""

from meloedit.keys.segments import MAX_SEGMENTS, Segmenter


def test_sentences_and_lines_are_spans(tokenizer):
    split = Segmenter(tokenizer)

    def spans(text):
        ids = tokenizer(text)["input_ids"]
        return [tokenizer.decode(ids[start:stop]).strip() for start, stop in split(ids, 0, len(ids))]

    assert spans("Who wrote the book of sand?") == []
    assert spans("It rained all day. Who wrote it then?") == ["It rained all day.", "Who wrote it then?"]
    assert spans("Answer in one word\nWho wrote it then?") == ["Answer in one word", "Who wrote it then?"]
    assert spans('He said "no more boats." Who wrote it then?') == ['He said "no more boats."', "Who wrote it then?"]
    assert len(spans("Who wrote it then? " * (MAX_SEGMENTS + 3))) == MAX_SEGMENTS
    ids = tokenizer("It rained all day. Who wrote it then?")["input_ids"]
    assert all(start >= 2 for start, _ in split(ids, 2, len(ids)))
