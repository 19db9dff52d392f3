"""The contract between training, serving and callers: names of signatures and of their tensors.

The Trainer saves *towers*; the index builder makes the *servable* from them. What each signature
takes and returns is in `tagtower_client.signature_table`.
"""

# Signatures of the servable, some of which the towers have as well.
SERVING_DEFAULT = "serving_default"
RETRIEVE = "retrieve"
RETRIEVE_FILTERED = "retrieve_filtered"
RETRIEVE_BY_EMBEDDING = "retrieve_by_embedding"
RETRIEVE_CANDIDATES = "retrieve_candidates"
EMBED_USERS = "embed_users"
SCORE_TAGS = "score_tags"
SIMILAR_TAGS = "similar_tags"
SCORE_ITEMS = "score_items"
EXPLAIN = "explain"
EMBED_EXAMPLES = "embed_examples"
CANDIDATES = "candidates"
RETRIEVE_EVENTS = "retrieve_events"
RETRIEVE_EVENTS_FLAT = "retrieve_events_flat"
EVENT_FEATURES = "event_features"
EVENT_FEATURES_FLAT = "event_features_flat"

# Signatures of the towers alone.
EMBED_TAGS = "embed_tags"
SCORE_TAGS_BY_EMBEDDING = "score_tags_by_embedding"
SCORE_ITEMS_BY_EMBEDDING = "score_items_by_embedding"
SCORE_ITEMS_BY_TABLE = "score_items_by_table"
EXPLAIN_BY_EMBEDDING = "explain_by_embedding"

# Tensors.
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
EVENT_TAGS = "event_tags"
EVENT_NUM_TAGS = "event_num_tags"
EVENT_CATEGORY = "event_category"
EVENT_ITEM_ID = "event_item_id"
EVENT_CLICKED = "event_clicked"
EVENT_TIME = "event_time"
EVENT_WEIGHT = "event_weight"
NUM_EVENTS = "num_events"
NOW = "now"


def attention_of(domain: str) -> str:
    """Returns the name of the output of `explain` with the attention to a domain's values."""
    return f"attention_of_{domain}"


def contributions_of(domain: str) -> str:
    """Returns the name of the output of `explain` with the contributions of a domain's values."""
    return f"contributions_of_{domain}"


def weights_name(domain: str) -> str:
    """Returns the name of the weights that belong to the values of `domain`."""
    return f"{domain}_weights"
