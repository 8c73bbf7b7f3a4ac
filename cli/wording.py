"""Sentences of the help that several verbs share, and an example for each verb."""

EPILOG = """\
exit codes: 0 ok, 2 usage, 3 bad input, 4 damaged, 5 locked, 6 no space or I/O,
            7 version or model mismatch, 130 interrupted
"""

WITH = "indexes to build, each [NAME=]KIND[:VARIANT]; `ragstone kinds` lists them"
USING = (
    "an index by its name, a+b for the fusion of some, hybrid for that of all, INDEX:adapter for "
)
USING += "what was learned for one"

EXAMPLES = {
    "index": "ragstone index letters/ --to letters.ragstone\n"
    "  ragstone index letters/ --to letters.ragstone --with bm25,near=dense:hnsw\n"
    "  ragstone index letters/ --to letters.ragstone --update",
    "extend": "ragstone extend letters.ragstone --with late --set late.codes=residual4\n"
    "  ragstone extend letters.ragstone --with splade --model path/to/model",
    "search": 'ragstone search letters.ragstone "notice period" -k 3 --using bm25+dense',
    "ask": 'ragstone ask letters.ragstone "How long is the notice period?"',
    "eval": "ragstone eval scifact/ --using bm25,dense,hybrid\n"
    "  ragstone eval scifact/ --with bm25,small=dense --set small.dimensions=128",
    "train": "ragstone train adapter scifact.ragstone scifact/\n"
    '  ragstone search scifact.ragstone "a claim" --using dense:adapter',
    "prune": "ragstone prune letters.ragstone --share 0.1",
}
