import numpy as np
import pytest

from benchmarks import index
from benchmarks.gaussian_mixture import GaussianMixture, exact_top_k
from benchmarks.index import (
    BRUTE_FORCE,
    FAISS,
    SCANN,
    IndexMeasurement,
    flatten,
    measure,
    table,
    write_vectors,
)
from benchmarks.index_peers import FaissIndex, HnswIndex, tune_peer
from tests.report_keys import undocumented_keys, unwritten_keys

EXACT = IndexMeasurement(0.1, None, 1.0, 4.0, 100.0, None, None, None, None, 600.0)
APPROXIMATE = IndexMeasurement(2.0, 5.0, 0.985, 0.5, 2000.0, 141, 20, 400, None, 650.0)
PEER = IndexMeasurement(1.0, 0.5, 0.99, 0.25, 4000.0, None, None, None, 16, 300.0)


def test_keys_name_size_and_index_and_compare_with_brute_force():
    figures = flatten(20_000, {BRUTE_FORCE: EXACT, SCANN: APPROXIMATE, FAISS: PEER})

    assert figures["index.20000.faiss.speedup_batch_64"] == 40
    assert figures["index.20000.faiss.setting"] == 16
    assert figures["index.20000.scann.recall_at_100"] == 0.985
    assert figures["index.20000.brute_force.queries_per_second_batch_64"] == 100
    assert figures["index.20000.scann.speedup_batch_1"] == 8
    assert figures["index.20000.scann.speedup_batch_64"] == 20
    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/index.py") == []


def test_table_has_a_row_for_each_size_and_index():
    figures = flatten(20_000, {BRUTE_FORCE: EXACT, SCANN: APPROXIMATE})
    figures |= flatten(100_000, {BRUTE_FORCE: EXACT, SCANN: APPROXIMATE})

    rows = [line.split() for line in table(figures).splitlines()[2:]]

    assert [row[:3] for row in rows] == [
        ["20,000", "brute", "force"],
        ["20,000", "scann", "0.985"],
        ["100,000", "brute", "force"],
        ["100,000", "scann", "0.985"],
    ]


def test_size_too_small_to_mean_anything_is_refused(monkeypatch):
    monkeypatch.setenv("SIZE", "999")
    with pytest.raises(ValueError, match="`SIZE` must be at least 1000 tags. Received: SIZE=999"):
        index.run(print)


@pytest.mark.parametrize("kind", ["faiss", "hnswlib"])
def test_peer_is_tuned_to_the_recall_that_is_measured(tmp_path, kind):
    write_vectors(tmp_path, 2_000)

    measured = measure(kind, str(tmp_path))

    assert measured.recall_at_100 >= 0.98
    assert measured.setting is not None


@pytest.mark.parametrize(
    "build", [lambda vectors: FaissIndex(vectors, 20), lambda vectors: HnswIndex(vectors, 0)]
)
def test_first_setting_above_the_target_with_its_margin_is_taken(build):
    mixture = GaussianMixture.for_tags(1_000, 64, 0)
    vectors, queries = mixture.draw(1_000), mixture.draw(50)
    peer = build(vectors)
    truth = exact_top_k(vectors, queries, 10)
    peer.set(peer.settings[-1])
    found = peer.search(queries, 10)
    # Mostly what exact search finds.
    assert np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]) > 0.95

    recalls = iter([0.5, 0.97, 0.985, 0.992])
    chosen = tune_peer(peer, queries, 10, 0.98, lambda found: next(recalls))

    assert chosen == peer.settings[3]
