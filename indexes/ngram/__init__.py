"""The n-gram index: passages as tokens, and every n-gram of them counted, found and continued.

texts       what is stored (`TokenText`) and asked (`WeightedNgrams`), and the ids of separators
family      the settings, `Ngram`
index       the open `NgramIndex`
scoring     what weighted n-grams say of one passage, and the weights to give them
explain     the same, told
suffixes, compressed    the two layouts of a text, behind `part.Layout`

A passage is one or more fields with a separator between them; a field may begin with a mark that
says what it is. The text of a segment is SEP passage SEP passage ... SEP, so that every field
stands between two separators. An n-gram may begin with a separator, "what a field begins with", or
end with one, "what a field ends with"; it never goes on past one that it does not begin with.

What decoding asks for takes prefixes as a (n, length) int64 array, for all beams at once, and keeps
no state:

    counts(prefixes)                (n,) how often each occurs
    allowed(prefixes, candidates)   (n, m) bool, whether each candidate may follow its prefix
    continuations(prefixes)         all tokens that may follow, with counts

and the rest is for ranking and grounding: `search`, `explain`, `occurrences(ngram)`,
`tokens(passage)`. Counts are those of the text as it is stored: deleted passages count until the
collection is compacted, and are never found.
"""
