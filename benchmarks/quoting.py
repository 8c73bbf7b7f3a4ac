"""How often the extractive reader's quotes hold the answer, on files in SQuAD's format.

    python benchmarks/quoting.py path/to/dev-v1.1.json [--odd] [--among path/to/dev-v1.1.json]

The right paragraph is given, then BM25's first 5 of all paragraphs (of --among, if the questions
are a selection from it). --odd takes every second article only: the reader's weights were fitted
on the others. "found": an answer stands in a quote, but for case and punctuation. "exact": a quote
covers the very characters of an answer in the right paragraph. Also: the share of questions that
get no answer from the right paragraph, and from 5 paragraphs of other articles at random.
"""

import argparse
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ragstone.generation import ExtractiveReader
from ragstone.indexes.inverted import Inverted
from ragstone.models.analyzer import Analyzer
from ragstone.records import Answer, Passage, Query, Ranking
from ragstone.retrieval import IndexRetriever


@dataclass(frozen=True)
class Question:
    """`texts` and `spans`: the answers, and where they stand in the passage `paragraph`."""

    query: Query
    paragraph: str
    article: int
    texts: Sequence[str]
    spans: Sequence[tuple[int, int]]


class Paragraphs:
    """The paragraphs of a file, under their place and numbered in order."""

    def __init__(self, path: Path) -> None:
        self.all: list[Passage] = []
        self.articles: list[int] = []
        self.questions: list[Question] = []
        for number, article in enumerate(json.loads(path.read_text())["data"]):
            for paragraph in article["paragraphs"]:
                title = article["title"].replace("_", " ")
                self.all.append(Passage(str(len(self.all)), paragraph["context"], title))
                self.articles.append(number)
                self.questions += [_question(q, self.all[-1].id, number) for q in paragraph["qas"]]

    def fetch(self, ids: Sequence[str]) -> list[Passage]:
        return [self.all[int(id)] for id in ids]

    def ids(self, numbers: np.ndarray) -> list[str]:
        return [str(number) for number in numbers.tolist()]

    def select(self, filter: object) -> np.ndarray:
        raise NotImplementedError


def _question(record: dict, paragraph: str, article: int) -> Question:
    texts = [answer["text"] for answer in record["answers"]]
    starts = [answer["answer_start"] for answer in record["answers"]]
    spans = [(start, start + len(text)) for start, text in zip(starts, texts, strict=True)]
    return Question(Query(record["id"], record["question"]), paragraph, article, texts, spans)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--odd", action="store_true")
    parser.add_argument("--among", type=Path)
    arguments = parser.parse_args()
    own = Paragraphs(arguments.file)
    asked = [one for one in own.questions if one.article % 2 or not arguments.odd]
    print(f"{len(asked)} questions\n\n| sentences | given | found | exact | quoted |")
    print("|---|---|---|---|---|")
    right = [Ranking(one.query, (one.paragraph,), np.ones(1, np.float32)) for one in asked]
    among = Paragraphs(arguments.among) if arguments.among else own
    places = {passage.text.strip(): passage.id for passage in among.all}
    moved = {one.id: places[one.text.strip()] for one in own.all}
    first = retriever(among).retrieve([one.query for one in asked], 5)
    for sentences in (1, 2, 3):
        show(f"| {sentences} | right paragraph |", own, asked, right, sentences)
    elsewhere = [replace(one, paragraph=moved[one.paragraph]) for one in asked]
    for sentences in (1, 2, 3):
        show(f"| {sentences} | BM25's first 5 |", among, elsewhere, first, sentences)
    print(f"\nno answer from the right paragraph: {silent(own, right):.3f}")
    print(f"no answer from others at random: {silent(own, strangers(own, asked)):.3f}")


def retriever(paragraphs: Paragraphs) -> IndexRetriever:
    analyzer, index = Analyzer(), Inverted().open([])
    texts = [f"{one.title} {one.text}" for one in paragraphs.all]
    index.add(np.arange(len(texts)), analyzer.encode_passages(texts))
    return IndexRetriever(analyzer, index, paragraphs)


def show(
    label: str,
    paragraphs: Paragraphs,
    asked: Sequence[Question],
    rankings: Sequence[Ranking],
    sentences: int,
) -> None:
    answers = ExtractiveReader(paragraphs, sentences=sentences).read(rankings)
    pairs = list(zip(asked, answers, strict=True))
    found = np.mean([holds(one, answer) for one, answer in pairs])
    exact = np.mean([covers(one, answer) for one, answer in pairs])
    quoted = np.mean([len(answer.citations) for answer in answers])
    print(label, f"{found:.3f} | {exact:.3f} | {quoted:.1f} |")


def holds(question: Question, answer: Answer) -> bool:
    text = plain(re.sub(r" \[\d+\]", "", answer.text))
    return any(plain(one) in text for one in question.texts)


def covers(question: Question, answer: Answer) -> bool:
    quoted = [one for one in answer.citations if one.passage_id == question.paragraph]
    return any(q.start <= start and end <= q.end for q in quoted for start, end in question.spans)


def plain(text: str) -> str:
    return " " + re.sub(r"[^\w%]+", " ", text.lower()).strip() + " "


def silent(paragraphs: Paragraphs, rankings: Sequence[Ranking]) -> float:
    answers = ExtractiveReader(paragraphs).read(rankings)
    return sum(not answer.citations for answer in answers) / len(answers)


def strangers(paragraphs: Paragraphs, asked: Sequence[Question]) -> list[Ranking]:
    chance, rankings = random.Random(1), []
    others = {
        own: [i for i, article in enumerate(paragraphs.articles) if article != own]
        for own in {one.article for one in asked}
    }
    for one in asked:
        ids = tuple(str(i) for i in chance.sample(others[one.article], 5))
        rankings.append(Ranking(one.query, ids, np.ones(5, np.float32)))
    return rankings


if __name__ == "__main__":
    main()
