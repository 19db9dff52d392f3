import numpy as np

from benchmarks.gaussian_mixture import GaussianMixture, exact_top_k


def test_vectors_have_length_one_and_gather_around_few_centers():
    mixture = GaussianMixture(num_clusters=3, dimension=64, seed=0)
    vectors = mixture.draw(300)

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    # Of three clusters of equal weight: a third of all pairs lies in one cluster.
    similarities = vectors @ vectors.T
    assert 0.25 < np.mean(similarities > 0.45) < 0.45


def test_same_seed_draws_the_same_and_further_draws_differ():
    first, again = (GaussianMixture(5, 8, seed=1) for _ in range(2))
    drawn = first.draw(10)

    np.testing.assert_array_equal(drawn, again.draw(10))
    assert not np.array_equal(drawn, first.draw(10))


def test_exact_top_k_finds_the_greatest_inner_products():
    candidates = np.eye(4, dtype=np.float32)
    queries = np.array([[4, 3, 2, 1], [0, 1, 0, 2]], np.float32)

    found = exact_top_k(candidates, np.tile(queries, (50, 1)), 2)

    assert [set(row) for row in found.tolist()] == [{0, 1}, {1, 3}] * 50
