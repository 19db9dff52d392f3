"""The signatures of the towers and of the servable, as one table of data.

From it come the inputs of the graphs and the check of their outputs
(`trainer.contract.signature_specs`), the client's check of answers
(`tagtower_client.answer_checks`) and the tables of docs/serving-signatures.md
(`tfx_pipeline.reference.signatures`). How a signature is computed is not said here. Batch is the
first dimension; strings, not ids, at the edge.
"""

from __future__ import annotations

import dataclasses

from tagtower_client import signatures as s
from tagtower_client.event_rows import EVENT_LISTS, FLAT_EVENTS
from tagtower_client.signature_rows import (
    WITH_CLICK_LOSS,
    WITH_DOMAINS,
    WITH_MEMORY,
    WITH_TAG_VIEWS,
    WITH_VECTOR_VIEW,
    Export,
    Kind,
    SignatureRow,
    TensorRow,
)

_USERS = TensorRow(
    "users",
    "",
    (),
    'raw features of the users: a text string [batch], `""` where unknown; a number float32 '
    '[batch], NaN where unknown; a list string [batch, n], padded with `""`; '
    "`<domain>_weights` float32 [batch, n]",
    Kind.EACH_FEATURE,
)
_EXAMPLES = TensorRow(
    s.EXAMPLES,
    "string",
    ("batch",),
    "serialized `tf.Example`s of the raw features; what is absent is unknown or empty",
)
_QUERIES = TensorRow(s.QUERY_EMBEDDINGS, "float32", ("batch", "d"), "vectors of the users")
_CANDIDATE_TAGS = TensorRow(
    s.CANDIDATE_TAGS, "string", ("batch", "m"), 'tags to score, padded with `""`'
)
_ITEM_TAGS = TensorRow(
    s.ITEM_TAGS, "string", ("batch", "m", "n"), 'm items with up to n tags each, padded with `""`'
)
_EXPLAINED_TAG = TensorRow(s.EXPLAINED_TAG, "string", ("batch",), "one tag for each user")
_TAGS = TensorRow(
    s.TAGS, "string", ("batch", "k"), 'tags, best first; `""` in places that are not filled'
)
_SCORES = TensorRow(
    s.SCORES,
    "float32",
    ("batch", "k"),
    "scores of the second stage: logits, with memory logarithms of shares; -Infinity in places "
    "that are not filled",
)
_PROBABILITIES = TensorRow(
    s.PROBABILITIES,
    "float32",
    ("batch", "k"),
    "probabilities of a click on the tag in the label period",
    is_new=True,
)
_RETRIEVED = (_TAGS, _SCORES, _PROBABILITIES)
_TAG_SCORES = TensorRow(
    s.SCORES,
    "float32",
    ("batch", "m"),
    "scores of the second stage, as `retrieve` gives them; NaN for a tag without a vector",
)
_TOWER_SCORES = (
    _TAG_SCORES,
    TensorRow(
        s.MULTI_CLASS_LOGITS,
        "float32",
        ("batch", "m"),
        "multi-class logits of the tags; NaN for a tag without a vector",
    ),
)
_ITEM_SCORES = (
    TensorRow(s.CLICK_LOGITS, "float32", ("batch", "m"), "logits of a click on the items"),
    TensorRow(
        s.CLICK_PROBABILITIES,
        "float32",
        ("batch", "m"),
        "probabilities of a click on the items, calibrated",
    ),
)
_CANDIDATE_EMBEDDINGS = TensorRow(
    s.CANDIDATE_EMBEDDINGS,
    "float32",
    ("num_tags", "d"),
    "vectors of the tags: their inner product with a user's is the multi-class logit",
)
_CLICK_EMBEDDINGS = TensorRow(
    s.CLICK_EMBEDDINGS,
    "float32",
    ("num_tags", "d"),
    "vectors of the tags: their inner product with a user's is the click logit of an item with "
    "this tag alone",
    only=WITH_CLICK_LOSS,
)
_EMBEDDINGS = (
    _CANDIDATE_EMBEDDINGS,
    TensorRow(
        s.RANKING_EMBEDDINGS,
        "float32",
        ("num_tags", "d"),
        "vectors of the tags: their inner product with a user's is the score of the second stage",
    ),
    _CLICK_EMBEDDINGS,
)
_EXPLANATION = (
    TensorRow(
        s.SCORE,
        "float32",
        ("batch",),
        "score of the second stage, as `score_tags` gives it; NaN, like all contributions, for a "
        "tag without a vector",
    ),
    TensorRow(s.FEATURES, "string", ("batch", "F"), "names of profile features and domains"),
    TensorRow(
        s.ATTENTION_BY_FEATURE, "float32", ("batch", "F"), "attention to each feature, sums to 1"
    ),
    TensorRow(
        s.CONTRIBUTIONS_BY_FEATURE,
        "float32",
        ("batch", "F"),
        "the score less that without the feature",
    ),
    TensorRow(
        s.attention_of("<domain>"),
        "float32",
        ("batch", "n"),
        "attention to each value of the list, in its place, sums to 1; 0 where there is padding",
        Kind.EACH_LIST,
    ),
    TensorRow(
        s.contributions_of("<domain>"),
        "float32",
        ("batch", "n"),
        "the score less that without the value, in its place; 0 where there is padding",
        Kind.EACH_LIST,
    ),
    TensorRow(
        s.TOP_DOMAINS,
        "string",
        ("batch", "10"),
        'lists of the values that move the score most, up or down; `""` where there are no more',
    ),
    TensorRow(s.TOP_VALUES, "string", ("batch", "10"), "these values"),
    TensorRow(s.TOP_CONTRIBUTIONS, "float32", ("batch", "10"), "their contributions"),
)
_MEMORY_CONTRIBUTION = TensorRow(
    s.MEMORY_CONTRIBUTION,
    "float32",
    ("batch",),
    "the score less that without memory; all contributions are then to the score with memory",
    only=WITH_MEMORY,
)
_BOTH = (Export.TOWERS, Export.SERVABLE)
_SERVED = (Export.SERVABLE,)
_TOWERS = (Export.TOWERS,)

SIGNATURES = (
    SignatureRow(s.RETRIEVE, _SERVED, "the tags that interest users most", (_USERS,), _RETRIEVED),
    SignatureRow(
        s.RETRIEVE_FILTERED,
        _SERVED,
        "the same among the tags that the caller allows",
        (
            _USERS,
            TensorRow(
                s.EXCLUDE_TAGS, "string", ("batch", "m"), 'tags to leave out, padded with `""`'
            ),
            TensorRow(
                s.ALLOW_CATEGORIES,
                "string",
                ("batch", "c"),
                'categories whose tags are allowed, padded with `""`; none: all',
            ),
        ),
        (
            *_RETRIEVED,
            TensorRow(
                s.COUNT,
                "int32",
                ("batch",),
                "number of places that are filled: k, or the allowed tags where they are fewer",
            ),
        ),
    ),
    SignatureRow(
        s.SERVING_DEFAULT, _SERVED, "the same for serialized examples", (_EXAMPLES,), _RETRIEVED
    ),
    SignatureRow(
        s.RETRIEVE_EVENTS,
        _SERVED,
        "the same for users' events, as lists",
        EVENT_LISTS,
        _RETRIEVED,
        only=WITH_DOMAINS,
    ),
    SignatureRow(
        s.RETRIEVE_EVENTS_FLAT,
        _SERVED,
        "the same for users' events, as flat arrays",
        FLAT_EVENTS,
        _RETRIEVED,
        only=WITH_DOMAINS,
    ),
    SignatureRow(
        s.EVENT_FEATURES,
        _SERVED,
        "raw features of users, which other signatures take, from events as lists",
        EVENT_LISTS,
        (_USERS,),
        only=WITH_DOMAINS,
    ),
    SignatureRow(
        s.EVENT_FEATURES_FLAT,
        _SERVED,
        "the same from events as flat arrays",
        FLAT_EVENTS,
        (_USERS,),
        only=WITH_DOMAINS,
    ),
    SignatureRow(
        s.RETRIEVE_BY_EMBEDDING,
        _SERVED,
        "the same for vectors of users, without memory: there is no history, and scores are logits",
        (_QUERIES,),
        _RETRIEVED,
    ),
    SignatureRow(
        s.RETRIEVE_CANDIDATES,
        _SERVED,
        "the first stage alone",
        (_QUERIES,),
        (
            dataclasses.replace(_TAGS, shape=("batch", "N")),
            TensorRow(
                s.SCORES,
                "float32",
                ("batch", "N"),
                "multi-class logits; -Infinity in places that are not filled",
            ),
            dataclasses.replace(_PROBABILITIES, shape=("batch", "N")),
        ),
    ),
    SignatureRow(
        s.SCORE_TAGS,
        _SERVED,
        "scores of tags that the caller names",
        (_USERS, _CANDIDATE_TAGS),
        (
            _TAG_SCORES,
            TensorRow(
                s.PROBABILITIES,
                "float32",
                ("batch", "m"),
                "probabilities, as `retrieve` gives them; NaN for a tag without a vector",
            ),
        ),
    ),
    SignatureRow(
        s.SCORE_ITEMS,
        _BOTH,
        "clicks on items, which are described by their tags",
        (_USERS, _ITEM_TAGS),
        _ITEM_SCORES,
    ),
    SignatureRow(
        s.EXPLAIN,
        _BOTH,
        "why a tag has its score",
        (_USERS, _EXPLAINED_TAG),
        (*_EXPLANATION, _MEMORY_CONTRIBUTION),
    ),
    SignatureRow(
        s.SIMILAR_TAGS,
        _SERVED,
        "the nearest other tags that may be served, whoever the user",
        (TensorRow(s.SIMILAR_TO, "string", ("n",), "tags whose neighbours are asked for"),),
        (
            TensorRow(s.TAGS, "string", ("n", "k"), "neighbours, nearest first"),
            TensorRow(s.SCORES, "float32", ("n", "k"), "cosines of the neighbours"),
            TensorRow(s.COUNT, "int32", ("n",), "number of places that are filled"),
        ),
    ),
    SignatureRow(s.EMBED_USERS, _BOTH, "vectors of users", (_USERS,), (_QUERIES,)),
    SignatureRow(
        s.EMBED_EXAMPLES, _BOTH, "vectors of serialized examples", (_EXAMPLES,), (_QUERIES,)
    ),
    SignatureRow(
        s.CANDIDATES,
        _BOTH,
        "all tags and their vectors",
        (),
        (TensorRow(s.TAGS, "string", ("num_tags",), "the tags"), *_EMBEDDINGS),
    ),
    SignatureRow(
        s.EMBED_TAGS,
        _TOWERS,
        "vectors of any tags: known ones have their own, others that of their views",
        (
            TensorRow(s.TAGS, "string", ("n",), "tags, normalised like those of the log"),
            TensorRow(s.TAG_CATEGORIES, "string", ("n",), 'categories of the tags; `""`: unknown'),
            TensorRow(
                s.TAG_VECTORS,
                "float32",
                ("n", "v"),
                "given vectors of the tags; zeros where there is none",
                only=WITH_VECTOR_VIEW,
            ),
        ),
        (
            *(dataclasses.replace(row, shape=("n", "d")) for row in _EMBEDDINGS),
            TensorRow(s.IS_KNOWN, "bool", ("n",), "whether the tag is in the vocabulary"),
        ),
        only=WITH_TAG_VIEWS,
    ),
    SignatureRow(
        s.SCORE_TAGS,
        _TOWERS,
        "scores of tags without memory",
        (_USERS, _CANDIDATE_TAGS),
        _TOWER_SCORES,
    ),
    SignatureRow(
        s.SCORE_TAGS_BY_EMBEDDING,
        _TOWERS,
        "the same for vectors of users",
        (_QUERIES, _CANDIDATE_TAGS),
        _TOWER_SCORES,
    ),
    SignatureRow(
        s.SCORE_ITEMS_BY_EMBEDDING,
        _TOWERS,
        "clicks on items for vectors of users",
        (_QUERIES, _ITEM_TAGS),
        _ITEM_SCORES,
    ),
    SignatureRow(
        s.SCORE_ITEMS_BY_TABLE,
        _TOWERS,
        "the same by tables of tags that the caller holds: a servable with other tags than its "
        "towers (`serving.servable.retagged_towers`)",
        (
            _QUERIES,
            TensorRow(
                s.ITEM_TAG_ROWS,
                "int64",
                ("batch", "m", "n"),
                "rows of the tables for the items' tags; -1: none",
            ),
            _CANDIDATE_EMBEDDINGS,
            _CLICK_EMBEDDINGS,
        ),
        _ITEM_SCORES,
    ),
    SignatureRow(
        s.EXPLAIN_BY_EMBEDDING,
        _TOWERS,
        "why a tag has its score, for a vector in place of the tag",
        (
            _USERS,
            TensorRow(
                s.EXPLAINED_EMBEDDING,
                "float32",
                ("batch", "d"),
                "one row of `ranking_embeddings` for each user",
            ),
        ),
        _EXPLANATION,
    ),
)


def signatures_of(export: Export) -> dict[str, SignatureRow]:
    """Returns the signatures of an export by name, in the order of the table.

    Args:
      export: The SavedModel.
    """
    return {row.name: row for row in SIGNATURES if export in row.exports}
