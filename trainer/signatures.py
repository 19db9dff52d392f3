"""The contract between training, serving and callers: names of signatures and of their tensors.

The Trainer saves *towers*; the index builder makes the *servable* from them. Batch is
the first dimension everywhere; strings, not ids, at the edge.
"""

# Of the servable.
# `examples` string [batch] -> `tags`, `scores` [batch, k]
SERVING_DEFAULT = "serving_default"
# One tensor a raw feature -> the same
RETRIEVE = "retrieve"
# `query_embeddings` float [batch, dimension] -> the same
RETRIEVE_BY_EMBEDDING = "retrieve_by_embedding"
# The inputs of `retrieve` -> `query_embeddings` float [batch, dimension]
EMBED_USERS = "embed_users"
# The inputs of `retrieve`, `candidate_tags` string [batch, m] -> `scores` [batch, m]
SCORE_TAGS = "score_tags"
# The inputs of `retrieve`, `item_tags` string [batch, m, n] -> `click_logits`,
# `click_probabilities` [batch, m]
SCORE_ITEMS = "score_items"

# Of the towers, and of the servable too but for the last.
# `examples` string [batch] -> `query_embeddings`
EMBED_EXAMPLES = "embed_examples"
# Nothing -> `tags` string [n], `candidate_embeddings` float [n, dimension]
CANDIDATES = "candidates"
# `query_embeddings`, `item_tags` -> the outputs of `score_items`
SCORE_ITEMS_BY_EMBEDDING = "score_items_by_embedding"

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
