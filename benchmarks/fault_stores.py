"""The stores that faults.py damages, each with the same three methods over the same documents.

A store keeps what it is made for (texts, vectors or both) as its manual shows, with its defaults.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

DIMENSIONS, FOUND, MOST = 32, 10, 10_000


@dataclass(frozen=True)
class Documents:
    """ids and texts, and (documents, DIMENSIONS) float32 vectors of length 1."""

    ids: list[str]
    texts: list[str]
    vectors: NDArray[np.float32]

    def __getitem__(self, rows: slice) -> "Documents":
        return Documents(self.ids[rows], self.texts[rows], self.vectors[rows])


class Store(Protocol):
    """build() saves documents, add() saves the `new` documents from a number on beside them, read()
    yields all that was stored and what the searches find."""

    @property
    def packages(self) -> Sequence[str]:
        """To import; the version of the first one's distribution is reported."""
        ...

    @property
    def warm(self) -> bool:
        """Reading starts no threads, so that one read before forking saves time in all others."""
        ...

    def build(self, folder: Path, documents: Documents) -> None: ...
    def add(self, folder: Path, documents: Documents, new: int) -> None: ...
    def read(self, folder: Path, queries: Documents) -> Iterator[object]: ...


class Ragstone:
    packages = ("ragstone.indexes.collection", "ragstone.indexes.inverted")
    warm = True

    def build(self, folder: Path, documents: Documents) -> None:
        from ragstone.indexes.collection import Collection
        from ragstone.indexes.inverted import Inverted
        from ragstone.indexes.vector import Vector

        Collection.create(folder, {"bm25": Inverted(), "dense": Vector(DIMENSIONS)})
        self.add(folder, documents, 0)

    def add(self, folder: Path, documents: Documents, new: int) -> None:
        from ragstone.indexes.collection import Collection
        from ragstone.models.analyzer import Analyzer
        from ragstone.records import Passage

        added = documents[new:]
        passages = [Passage(*row) for row in zip(added.ids, added.texts, strict=True)]
        terms = Analyzer().encode_passages(added.texts)
        with Collection.open(folder).writer() as writer:
            writer.add(passages, {"bm25": terms, "dense": added.vectors})
            writer.commit()

    def read(self, folder: Path, queries: Documents) -> Iterator[object]:
        from ragstone.indexes.collection import Collection
        from ragstone.models.analyzer import Analyzer

        collection = Collection.open(folder)
        yield [(one.id, one.text, one.metadata) for one in collection.passages]
        terms = Analyzer().encode_queries(queries.texts)
        for name, keys in (("bm25", terms), ("dense", queries.vectors)):
            found = collection.indexes[name].search(keys, FOUND)
            yield found.numbers.tolist(), found.scores.tolist()


class Numpy:
    packages = ("numpy",)
    warm = True

    def build(self, folder: Path, documents: Documents) -> None:
        np.save(folder / "vectors.npy", documents.vectors)

    def add(self, folder: Path, documents: Documents, new: int) -> None:
        self.build(folder, documents)

    def read(self, folder: Path, queries: Documents) -> Iterator[object]:
        vectors = np.load(folder / "vectors.npy", allow_pickle=False)
        yield vectors.tobytes()
        yield np.argsort(-(queries.vectors @ vectors.T), axis=1)[:, :FOUND].tolist()


class Faiss:
    packages = ("faiss",)
    warm = True

    def build(self, folder: Path, documents: Documents) -> None:
        import faiss

        index = faiss.IndexFlatIP(DIMENSIONS)
        index.add(documents.vectors)
        faiss.write_index(index, str(folder / "flat.faiss"))

    def add(self, folder: Path, documents: Documents, new: int) -> None:
        import faiss

        index = faiss.read_index(str(folder / "flat.faiss"))
        index.add(documents.vectors[new:])
        faiss.write_index(index, str(folder / "flat.faiss"))

    def read(self, folder: Path, queries: Documents) -> Iterator[object]:
        import faiss

        index = faiss.read_index(str(folder / "flat.faiss"))
        yield index.reconstruct_n(0, index.ntotal).tobytes()
        scores, numbers = index.search(queries.vectors, FOUND)
        yield scores.tolist(), numbers.tolist()


class LangChain:
    packages = ("langchain_community.vectorstores.faiss", "faiss")
    warm = False

    def embeddings(self) -> Any:
        from langchain_core.embeddings import DeterministicFakeEmbedding

        return DeterministicFakeEmbedding(size=DIMENSIONS)

    def build(self, folder: Path, documents: Documents) -> None:
        from langchain_community.vectorstores import FAISS

        pairs = list(zip(documents.texts, documents.vectors.tolist(), strict=True))
        store = FAISS.from_embeddings(pairs, self.embeddings(), ids=documents.ids)
        store.save_local(str(folder))

    def add(self, folder: Path, documents: Documents, new: int) -> None:
        store, added = self.load(folder), documents[new:]
        store.add_embeddings(
            list(zip(added.texts, added.vectors.tolist(), strict=True)), ids=added.ids
        )
        store.save_local(str(folder))

    def load(self, folder: Path) -> Any:
        from langchain_community.vectorstores import FAISS

        known = {"allow_dangerous_deserialization": True}
        return FAISS.load_local(str(folder), self.embeddings(), **known)

    def read(self, folder: Path, queries: Documents) -> Iterator[object]:
        store = self.load(folder)
        numbered = sorted(store.index_to_docstore_id.items())
        yield [(id, store.docstore.search(id).page_content) for _, id in numbered]
        yield store.index.reconstruct_n(0, store.index.ntotal).tobytes()
        for vector in queries.vectors.tolist():
            found = store.similarity_search_with_score_by_vector(vector, FOUND)
            yield [(one.id, one.page_content, float(score)) for one, score in found]


class Bm25s:
    packages = ("bm25s",)
    warm = True

    def build(self, folder: Path, documents: Documents) -> None:
        import bm25s

        index = bm25s.BM25()
        index.index(bm25s.tokenize(documents.texts, show_progress=False), show_progress=False)
        rows = zip(documents.ids, documents.texts, strict=True)
        index.save(str(folder), corpus=[{"id": id, "text": text} for id, text in rows])

    def add(self, folder: Path, documents: Documents, new: int) -> None:
        self.build(folder, documents)

    def read(self, folder: Path, queries: Documents) -> Iterator[object]:
        import bm25s

        index = bm25s.BM25.load(str(folder), load_corpus=True)
        yield [index.corpus[row] for row in range(len(index.corpus))]
        terms = bm25s.tokenize(queries.texts, show_progress=False)
        found, scores = index.retrieve(terms, k=FOUND, show_progress=False)
        yield found.tolist(), scores.tolist()


class LanceDB:
    packages = ("lancedb",)
    warm = False

    def rows(self, documents: Documents) -> list[dict[str, object]]:
        columns = zip(documents.ids, documents.texts, documents.vectors.tolist(), strict=True)
        return [{"id": id, "text": text, "vector": vector} for id, text, vector in columns]

    def build(self, folder: Path, documents: Documents) -> None:
        import lancedb

        lancedb.connect(str(folder)).create_table("documents", data=self.rows(documents))

    def add(self, folder: Path, documents: Documents, new: int) -> None:
        import lancedb

        lancedb.connect(str(folder)).open_table("documents").add(self.rows(documents[new:]))

    def read(self, folder: Path, queries: Documents) -> Iterator[object]:
        import lancedb

        table = lancedb.connect(str(folder)).open_table("documents")
        yield sorted(table.to_arrow().to_pylist(), key=repr)
        for vector in queries.vectors.tolist():
            yield table.search(vector).limit(FOUND).to_list()


class Tantivy:
    packages = ("tantivy",)
    warm = False

    def build(self, folder: Path, documents: Documents) -> None:
        import tantivy

        fields = tantivy.SchemaBuilder()
        fields.add_text_field("id", stored=True, tokenizer_name="raw")
        fields.add_text_field("text", stored=True)
        self.save(tantivy.Index(fields.build(), path=str(folder)), documents)

    def add(self, folder: Path, documents: Documents, new: int) -> None:
        import tantivy

        self.save(tantivy.Index.open(str(folder)), documents[new:])

    def save(self, index: Any, documents: Documents) -> None:
        import tantivy

        writer = index.writer(num_threads=1)
        for id, text in zip(documents.ids, documents.texts, strict=True):
            writer.add_document(tantivy.Document(id=id, text=text))
        writer.commit()

    def read(self, folder: Path, queries: Documents) -> Iterator[object]:
        import tantivy

        index = tantivy.Index.open(str(folder))
        searcher = index.searcher()
        everything = searcher.search(tantivy.Query.all_query(), MOST).hits
        yield sorted(repr(searcher.doc(at).to_dict()) for _, at in everything)
        for text in queries.texts:
            found = searcher.search(index.parse_query(text, ["text"]), FOUND).hits
            yield [(score, searcher.doc(at)["id"]) for score, at in found]


STORES: dict[str, Store] = {
    "ragstone": Ragstone(),
    "LanceDB": LanceDB(),
    "tantivy": Tantivy(),
    "bm25s": Bm25s(),
    "faiss file": Faiss(),
    "LangChain FAISS": LangChain(),
    "numpy file": Numpy(),
}


def make_documents(count: int) -> Documents:
    """Texts of 40 words of a Zipf distribution, and their hashed vectors."""
    from ragstone.models.hashing import HashingEncoder

    random = np.random.default_rng(5)
    ranks = np.minimum(random.zipf(1.3, (count, 40)), 5000)
    texts = [" ".join(f"w{rank:x}" for rank in row) for row in ranks]
    vectors = HashingEncoder(DIMENSIONS).encode_passages(texts)
    return Documents([f"d{row:04}" for row in range(count)], texts, vectors)
