"""The contract between training, serving and callers: names of signatures and of their tensors.

The Trainer saves *towers*; the index builder makes the *servable* from them. Batch is
the first dimension everywhere; strings, not ids, at the edge.
"""

# Signatures of the servable: inputs -> outputs.
# `examples` string [batch] -> `tags`, `scores`, `probabilities` [batch, k]: ordered by the score of
# the second stage. With memory the score is the logarithm of a share, and tags of the history are
# ordered as well. The probability is that of a click on the tag in the label period
SERVING_DEFAULT = "serving_default"
# One tensor for each raw feature -> the outputs of `serving_default`
RETRIEVE = "retrieve"
# The inputs of `retrieve`, `exclude_tags` string [batch, m], `allow_categories` string [batch, c],
# both padded with "" (no category: all) -> the outputs of `retrieve` for allowed tags alone, and
# `count` int32 [batch]: k, or the number of allowed tags if that is smaller
RETRIEVE_FILTERED = "retrieve_filtered"
# `query_embeddings` float [batch, dimension] -> the outputs of `retrieve`, without memory, as there
# is no history: scores are logits
RETRIEVE_BY_EMBEDDING = "retrieve_by_embedding"
# The input of `retrieve_by_embedding` -> its outputs, [batch, num_candidates], of the first stage
# alone: ordered by the multi-class logit, which is the score
RETRIEVE_CANDIDATES = "retrieve_candidates"
# The inputs of `retrieve` -> `query_embeddings` float [batch, dimension]
EMBED_USERS = "embed_users"
# The inputs of `retrieve`, `candidate_tags` string [batch, m] -> `scores`, `probabilities`
# [batch, m], as in `retrieve`; NaN for a tag without a vector
SCORE_TAGS = "score_tags"
# `similar_to` string [n] -> the nearest other tags that may be served, by the cosine of the vectors
# of `candidates` without their bias, the last component: `tags` string [n, k], `scores` float
# [n, k], the cosines, and `count` int32 [n], the number of places that are filled; 0 for an unknown
# or blocked tag
SIMILAR_TAGS = "similar_tags"
# The inputs of `retrieve`, `item_tags` string [batch, m, n] -> `click_logits`,
# `click_probabilities` [batch, m], calibrated
SCORE_ITEMS = "score_items"
# The inputs of `retrieve`, `explained_tag` string [batch], one tag for each user -> an explanation
# of its score (docs/model.md, Explanations). A contribution of a feature or value is the score
# minus the score without it:
#   `score` [batch], of the second stage, as in `score_tags`; NaN for a tag without a vector, and so
#     are all contributions;
#   `features` string [batch, F], profile features and domains, and beside them
#     `attention_by_feature` (sums to 1) and `contributions_by_feature`;
#   for every domain, beside the caller's own values and 0 where these are padding,
#     `attention_of_<domain>` (sums to 1) and `contributions_of_<domain>` [batch, n];
#   `top_domains`, `top_values`, `top_contributions` [batch, 10]: the values of all domains that
#     move the score most, up or down, "" and 0 where there are no more;
#   with memory `memory_contribution` [batch], the score minus the score without memory. All
#     contributions are then to the score with memory, with a fixed sum over the user's candidates.
# Towers saved before this signature existed lack it, and so does their servable
EXPLAIN = "explain"

# Signatures of the towers; the first two are signatures of the servable, too.
# `examples` string [batch] -> `query_embeddings`
EMBED_EXAMPLES = "embed_examples"
# No input -> `tags` string [n]; float [n, dimension]: `candidate_embeddings`, `ranking_embeddings`
# and, where a click loss was trained, `click_embeddings`. Their inner products with a query are the
# multi-class logit, the score of the second stage, and the click logit of an item with this tag
# alone
CANDIDATES = "candidates"
# `tags` string [n], normalised like the tags of the log, `tag_categories` string [n] ("": unknown)
# and, with the view `vectors`, `tag_vectors` float [n, d] -> the embeddings of `candidates`, and
# `is_known` bool [n]: a tag of the vocabulary has its own embedding, any other one that of its
# views. Only where tags have views
EMBED_TAGS = "embed_tags"
# `query_embeddings`, `candidate_tags` -> `scores` of the second stage, `multi_class_logits`
SCORE_TAGS_BY_EMBEDDING = "score_tags_by_embedding"
# `query_embeddings`, `item_tags` -> the outputs of `score_items`
SCORE_ITEMS_BY_EMBEDDING = "score_items_by_embedding"
# `query_embeddings`, `item_tag_rows` int64 [batch, m, n] (-1: none), rows of the tables
# `candidate_embeddings` and, where a click loss was trained, `click_embeddings`, float [any,
# dimension], as `candidates` gives them -> the outputs of `score_items`. A servable with other tags
# than its towers (`serving.servable.retagged_towers`) holds the tables and calls this signature
SCORE_ITEMS_BY_TABLE = "score_items_by_table"
# The inputs of `retrieve`, `explained_embedding` float [batch, dimension], one row of
# `ranking_embeddings` for each user -> the outputs of `explain`
EXPLAIN_BY_EMBEDDING = "explain_by_embedding"

EXAMPLES = "examples"
TAGS = "tags"
SCORES = "scores"
PROBABILITIES = "probabilities"
EXCLUDE_TAGS = "exclude_tags"
ALLOW_CATEGORIES = "allow_categories"
COUNT = "count"
SIMILAR_TO = "similar_to"
MULTI_CLASS_LOGITS = "multi_class_logits"
QUERY_EMBEDDINGS = "query_embeddings"
CANDIDATE_EMBEDDINGS = "candidate_embeddings"
CLICK_EMBEDDINGS = "click_embeddings"
RANKING_EMBEDDINGS = "ranking_embeddings"
TAG_CATEGORIES = "tag_categories"
TAG_VECTORS = "tag_vectors"
IS_KNOWN = "is_known"
CANDIDATE_TAGS = "candidate_tags"
ITEM_TAGS = "item_tags"
ITEM_TAG_ROWS = "item_tag_rows"
CLICK_LOGITS = "click_logits"
CLICK_PROBABILITIES = "click_probabilities"
EXPLAINED_TAG = "explained_tag"
EXPLAINED_EMBEDDING = "explained_embedding"
SCORE = "score"
FEATURES = "features"
ATTENTION_BY_FEATURE = "attention_by_feature"
CONTRIBUTIONS_BY_FEATURE = "contributions_by_feature"
MEMORY_CONTRIBUTION = "memory_contribution"
TOP_DOMAINS = "top_domains"
TOP_VALUES = "top_values"
TOP_CONTRIBUTIONS = "top_contributions"

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
# The feature specification and the figures of the version, beside the SavedModel, for clients and
# people.
DESCRIPTION_FILE = "assets.extra/tagtower.json"
# The time and the sources of a pushed version; the Pusher writes it.
PROVENANCE_FILE = "assets.extra/version.json"
DESCRIPTION_REMEDY = "push the version again, or roll back to another one"


def attention_of(domain: str) -> str:
    """Returns the name of the output of `explain` with the attention to a domain's values."""
    return f"attention_of_{domain}"


def contributions_of(domain: str) -> str:
    """Returns the name of the output of `explain` with the contributions of a domain's values."""
    return f"contributions_of_{domain}"
