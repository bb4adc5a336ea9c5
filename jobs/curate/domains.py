"""A domain for each row: what a column says, or which cluster of questions it is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from jobs.collect.normal import spoken
from jobs.curate.config import Domains
from jobs.curate.row import CurateRow
from orchestrator.job.errors import StepError

DIMENSIONS = 64
"""Of the space in which questions are clustered."""
NAMED_BY = 3
"""Words that a cluster is called by."""


def with_domains(rows: Sequence[CurateRow], asked: Domains) -> list[CurateRow]:
    """The rows with their domains; empty where a column says nothing. Raises StepError where it is in no row."""
    if asked.column is not None:
        column = asked.column
        if not any(column in row.columns for row in rows):
            there = ", ".join(sorted({name for row in rows[:100] for name in row.columns}))
            raise StepError(f"domains: no row has a column {column!r}; there are {there}")
        return [replace(row, domain=str(row.columns.get(column) or "")) for row in rows]
    assert asked.clusters is not None
    return _clustered(rows, asked.clusters, asked.seed)


def _clustered(rows: Sequence[CurateRow], count: int, seed: int) -> list[CurateRow]:
    """By what words their questions share: weighted counts of words and pairs, reduced, and k-means. A cluster is
    called by the words that set it apart most."""
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    ordered = sorted(rows, key=lambda row: row.key)
    texts = [spoken(row.question) for row in ordered]
    if count > len(set(texts)):
        raise StepError(f"domains: {count} clusters of {len(set(texts)):,} different questions: ask for fewer")
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"[^\W_]+", max_features=50_000)
    weights = vectorizer.fit_transform(texts)
    space = weights
    if weights.shape[1] > DIMENSIONS:
        space = normalize(TruncatedSVD(DIMENSIONS, random_state=seed).fit_transform(weights))
    labels = KMeans(count, random_state=seed, n_init=1).fit_predict(space)
    words, everywhere = vectorizer.get_feature_names_out(), np.asarray(weights.mean(axis=0)).ravel()
    names = {}
    for label in range(count):
        excess = np.asarray(weights[labels == label].mean(axis=0)).ravel() - everywhere
        names[label] = f"{label}: {', '.join(words[place] for place in np.argsort(-excess, kind='stable')[:NAMED_BY])}"
    name_of = {row.key: names[int(label)] for row, label in zip(ordered, labels, strict=True)}
    return [replace(row, domain=name_of[row.key]) for row in rows]


def counted(rows: Sequence[CurateRow]) -> Counter[str]:
    """Rows by domain."""
    return Counter(row.domain for row in rows)
