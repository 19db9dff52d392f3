"""The contract between training, serving and callers: names of signatures and of their tensors.

The Trainer saves *towers*; the index builder makes the *servable* from them. Batch is
the first dimension everywhere; strings, not ids, at the edge.
"""

# Of the servable.
SERVING_DEFAULT = "serving_default"  # `examples` string [batch] -> `tags`, `scores` [batch, k]
RETRIEVE = "retrieve"  # one tensor a raw feature -> the same
EMBED_USERS = (
    "embed_users"  # the inputs of `retrieve` -> `query_embeddings` float [batch, dimension]
)
RETRIEVE_BY_EMBEDDING = "retrieve_by_embedding"  # `query_embeddings` -> `tags`, `scores` [batch, k]
SCORE_TAGS = (
    "score_tags"  # the inputs of `retrieve`, `candidate_tags` string [batch, m] -> `scores`
)
SCORE_ITEMS = (
    "score_items"  # inputs of `retrieve`, `item_tags` string [batch, m, n] -> click head [batch, m]
)

# Of the towers; `EMBED_USERS`, `SCORE_TAGS` and `SCORE_ITEMS` are there too.
EMBED_EXAMPLES = "embed_examples"  # `examples` string [batch] -> `query_embeddings`
CANDIDATES = (
    "candidates"  # nothing -> `tags` string [n], `candidate_embeddings` float [n, dimension]
)
SCORE_ITEMS_BY_EMBEDDING = "score_items_by_embedding"  # `query_embeddings`, `item_tags` -> as above

EXAMPLES = "examples"
TAGS = "tags"
SCORES = "scores"
QUERY_EMBEDDINGS = "query_embeddings"
CANDIDATE_EMBEDDINGS = "candidate_embeddings"
CANDIDATE_TAGS = "candidate_tags"
ITEM_TAGS = "item_tags"
CLICK_LOGITS = "click_logits"
CLICK_PROBABILITIES = "click_probabilities"

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
# The feature specification and the figures of the version, beside the SavedModel, for clients and
# people.
DESCRIPTION_FILE = "assets.extra/tagtower.json"
