"""Towers with other tags: every signature of the servable answers from the changed tables."""

import numpy as np
import pytest
import tensorflow as tf

from serving.index.top_k import BruteForceIndex
from serving.servable.export import export_servable
from serving.servable.retagged_towers import RetaggedTowers, TagChanges, changed_tables
from serving.servable.retrieval import TagRetrieval
from tests.tfx_pipeline.toy_rows import SPEC, TAGS
from tests.toy_towers import ToyTowers
from tests.trainer import embed_tags_test as trained
from trainer.contract import signatures as s
from trainer.saved.saved_towers import save_towers

NEW = "new jazz"
RETIRED = TAGS[0]
KEPT = [tag for tag in TAGS if tag != RETIRED]
WEIGHTS = {"jazz": 3.0, NEW: 0.5}
CHANGES = TagChanges(
    new=(NEW,),
    categories=("y",),
    vectors=np.array([[1, 2]], np.float32),
    retired=frozenset([RETIRED]),
    weights={**WEIGHTS, RETIRED: 7.0},
)


@pytest.fixture(scope="module")
def model_and_towers(toy_graph, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("towers"))
    model = trained.make(toy_graph.output, trained.ALL_VIEWS)
    save_towers(model, toy_graph.output, folder, trained.CLICK_WEIGHT)
    return model, tf.saved_model.load(folder)


@pytest.fixture(scope="module")
def towers(model_and_towers):
    return model_and_towers[1]


@pytest.fixture(scope="module")
def tables(towers):
    return changed_tables(towers, CHANGES)


@pytest.fixture(scope="module")
def served(towers, tables, tmp_path_factory):
    """Exports the towers, and loads them from their files."""
    folder = tmp_path_factory.mktemp("served") / "1"
    index = BruteForceIndex(tables[s.CANDIDATE_EMBEDDINGS])
    module = TagRetrieval(RetaggedTowers(towers, tables), index, k=len(TAGS))
    export_servable(module, str(folder), {})
    return tf.saved_model.load(str(folder)).signatures


def raw():
    """Returns raw features of a user with a history."""
    inputs = {profile.name: tf.constant(["F"]) for profile in SPEC.profile}
    for domain in SPEC.domains:
        inputs[domain.name] = tf.constant([["jazz", "pop"]])
        inputs[f"{domain.name}_weights"] = tf.constant([[2.0, 1.0]])
    return inputs


def test_tables_have_kept_tags_then_new_ones_and_logarithms_of_weights(model_and_towers, tables):
    model, towers = model_and_towers
    before = {name: value.numpy() for name, value in towers.signatures[s.CANDIDATES]().items()}
    expected = model.tag_tower.embed(
        tf.constant([-1]), tf.constant([NEW]), tf.constant(["y"]), CHANGES.vectors
    ).candidate_embeddings.numpy()

    assert [tag.decode() for tag in tables[s.TAGS]] == [*KEPT, NEW]
    rows = [TAGS.index(tag) for tag in KEPT]
    bonus = np.array([np.log(WEIGHTS.get(tag, 1.0)) for tag in [*KEPT, NEW]])
    for name in (s.CANDIDATE_EMBEDDINGS, s.RANKING_EMBEDDINGS, s.CLICK_EMBEDDINGS):
        found = tables[name].copy()
        if name != s.CLICK_EMBEDDINGS:
            found[:, -1] -= bonus
        np.testing.assert_allclose(found[:-1], before[name][rows], atol=1e-6, err_msg=name)
        if name == s.CANDIDATE_EMBEDDINGS:
            np.testing.assert_allclose(found[-1:], expected, atol=1e-5)


def test_retrieval_multiplies_the_share_of_a_tag_by_its_weight(towers, served):
    query = served[s.EMBED_USERS](**raw())[s.QUERY_EMBEDDINGS].numpy()
    answer = served[s.RETRIEVE_CANDIDATES](query_embeddings=tf.constant(query))
    logits = dict(zip(answer[s.TAGS].numpy()[0], answer[s.SCORES].numpy()[0], strict=True))

    before = towers.signatures[s.CANDIDATES]()
    plain = query[0] @ before[s.CANDIDATE_EMBEDDINGS].numpy().T
    shares = {tag: np.exp(plain[TAGS.index(tag)]) * WEIGHTS.get(tag, 1.0) for tag in KEPT}
    assert {tag.decode() for tag in logits} == {*KEPT, NEW}
    for tag in KEPT[1:]:
        ratio = np.exp(logits[tag.encode()] - logits[KEPT[0].encode()])
        assert ratio == pytest.approx(shares[tag] / shares[KEPT[0]], rel=1e-4)


def test_every_signature_answers_for_every_tag_that_retrieve_returns(served):
    answer = served[s.RETRIEVE](**raw())
    tags = answer[s.TAGS].numpy()[0]

    scored = served[s.SCORE_TAGS](**raw(), candidate_tags=tf.constant([tags]))

    assert set(tags) == {tag.encode() for tag in [*KEPT, NEW]}
    for name in (s.SCORES, s.PROBABILITIES):
        np.testing.assert_allclose(scored[name], answer[name], rtol=1e-4, atol=1e-6)
    for tag, score in zip(tags, answer[s.SCORES].numpy()[0], strict=True):
        explained = served[s.EXPLAIN](**raw(), explained_tag=tf.constant([tag]))
        np.testing.assert_allclose(explained[s.SCORE], [score], rtol=1e-4, atol=1e-5)


def test_contributions_to_a_new_tag_are_differences_of_its_scores(served):
    explained = served[s.EXPLAIN](**raw(), explained_tag=tf.constant([NEW]))

    def score(features):
        return served[s.SCORE_TAGS](**features, candidate_tags=tf.constant([[NEW]]))[s.SCORES]

    names = [name.decode() for name in explained[s.FEATURES].numpy()[0]]
    for name, contribution in zip(
        names, explained[s.CONTRIBUTIONS_BY_FEATURE].numpy()[0], strict=True
    ):
        without = {**raw(), name: tf.zeros_like(raw()[name])}
        difference = (score(raw()) - score(without)).numpy().item()
        assert contribution == pytest.approx(difference, rel=1e-3, abs=1e-4)


def test_neighbours_are_those_of_the_changed_tables_whatever_the_weights(served, tables):
    tags = [*KEPT, NEW]
    vectors = tables[s.CANDIDATE_EMBEDDINGS][:, :-1]
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -np.inf)

    found = served[s.SIMILAR_TAGS](similar_to=tf.constant([*tags, RETIRED]))

    assert found[s.COUNT].numpy().tolist() == [len(tags) - 1] * len(tags) + [0]
    for row, names, scores in zip(cosines, found[s.TAGS].numpy(), found[s.SCORES], strict=False):
        order = np.argsort(-row, kind="stable")
        num_found = len(tags) - 1
        assert [name.decode() for name in names[:num_found]] == [tags[j] for j in order[:-1]]
        np.testing.assert_allclose(scores[:num_found], row[order[:-1]], rtol=1e-4, atol=1e-5)
    assert set(found[s.TAGS].numpy()[-1]) == {b""}


def test_retired_tag_is_unknown_to_all(served):
    tag = tf.constant([[RETIRED]])

    scored = served[s.SCORE_TAGS](**raw(), candidate_tags=tag)
    explained = served[s.EXPLAIN](**raw(), explained_tag=tag[0])
    items = served[s.SCORE_ITEMS](**raw(), item_tags=tf.constant([[[RETIRED], [""]]]))

    assert np.isnan(scored[s.SCORES]).all() and np.isnan(explained[s.SCORE]).all()
    logits = items[s.CLICK_LOGITS].numpy()[0]
    assert logits[0] == logits[1]


def test_items_with_a_new_tag_are_scored_by_it_and_not_by_its_weight(
    model_and_towers, served, tables
):
    query = served[s.EMBED_USERS](**raw())[s.QUERY_EMBEDDINGS].numpy()
    items = tf.constant([[[NEW, ""], [NEW, "jazz"], ["jazz", ""]]])

    found = served[s.SCORE_ITEMS](**raw(), item_tags=items)

    by_tag = query @ tables[s.CLICK_EMBEDDINGS].T
    new, jazz = by_tag[0, -1], by_tag[0, KEPT.index("jazz")]
    # s_t + offset each; an item's logit has the offset once.
    offset = model_and_towers[0].tag_tower.click_offset.numpy()
    expected = [new, new + jazz - offset, jazz]
    np.testing.assert_allclose(found[s.CLICK_LOGITS], [expected], rtol=1e-4, atol=1e-4)


def test_without_changes_every_signature_answers_as_before(towers):
    same = RetaggedTowers(towers, changed_tables(towers, TagChanges())).signatures
    tags = {s.CANDIDATE_TAGS: tf.constant([["pop", "no tag", "jazz"]])}
    items = {s.ITEM_TAGS: tf.constant([[["pop", "no tag"], ["jazz", ""]]])}
    queries = {s.QUERY_EMBEDDINGS: same[s.EMBED_USERS](**raw())[s.QUERY_EMBEDDINGS]}
    for name, inputs in (
        (s.CANDIDATES, {}),
        (s.SCORE_TAGS, {**raw(), **tags}),
        (s.SCORE_TAGS_BY_EMBEDDING, {**queries, **tags}),
        (s.SCORE_ITEMS, {**raw(), **items}),
        (s.SCORE_ITEMS_BY_EMBEDDING, {**queries, **items}),
        (s.EXPLAIN, {**raw(), s.EXPLAINED_TAG: tf.constant(["pop"])}),
    ):
        expected = towers.signatures[name](**inputs)
        found = same[name](**inputs)
        assert found.keys() == expected.keys()
        for output, values in expected.items():
            if values.dtype == tf.string:
                assert found[output].numpy().tolist() == values.numpy().tolist()
            else:
                np.testing.assert_allclose(found[output], values, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """Returns towers without views, which cannot embed given tags."""
    folder = tmp_path_factory.mktemp("older")
    rng = np.random.default_rng(0)
    users, tags, clicks = (rng.normal(size=(n, 4)) for n in (3, 5, 5))
    ToyTowers(users, tags, clicks, click_weight=0.5).save(folder)
    return tf.saved_model.load(str(folder))


def test_new_tags_without_views_are_refused_with_the_remedy(older):
    with pytest.raises(ValueError, match=r"`model.tag_views` must name at least one view"):
        changed_tables(older, TagChanges(new=("t9",), categories=("",)))


def test_no_tag_left_is_refused(older):
    retired = frozenset(f"t{i}" for i in range(5))
    with pytest.raises(ValueError, match="`tags` must leave at least one tag"):
        changed_tables(older, TagChanges(retired=retired))


def test_older_towers_have_no_explanations_and_pass_over_retired_tags_of_items(older):
    changes = TagChanges(retired=frozenset(["t1"]))
    changed = RetaggedTowers(older, changed_tables(older, changes)).signatures

    def logit(signatures, item):
        items = tf.constant([[item]])
        return signatures[s.SCORE_ITEMS](name=tf.constant(["u2"]), item_tags=items)[s.CLICK_LOGITS]

    assert s.EXPLAIN not in changed
    np.testing.assert_allclose(logit(changed, ["t0", "t1"]), logit(older.signatures, ["t0", ""]))


def test_vectors_of_another_length_are_refused(towers):
    changes = TagChanges(new=("a",), categories=("",), vectors=np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match="`vector` must have 2 numbers"):
        changed_tables(towers, changes)
