"""Random logs for property tests, and a user's features computed by slow, plain loops.

`naive_feature_values` is the oracle: plain loops over raw rows, nothing shared with
`trainer.contract.history` but the declaration of the features.
"""

import hypothesis
import hypothesis.strategies as st
import numpy as np

from trainer.contract.features import Domain, FeatureSpec, ProfileFeature

DAY = 86_400
START = 1_000_000_000
PROPERTY = hypothesis.settings(
    derandomize=True, database=None, deadline=None, max_examples=60, print_blob=False
)

# item id -> (tags, category); shared tags, no category, and strings beyond ASCII. Tags are in
# lower case already, so that the readers' normalisation changes none.
ITEMS = {
    "i0": (("a", "b"), "x"),
    "i1": (("b",), "y"),
    "i10": (("c", "é", "zz"), "x"),
    "i2": (("a", "zz", "ω"), ""),
    "é": (("d",), "y"),
    "𝄞": (("𝄞", "b"), "é"),
}

SPEC = FeatureSpec(
    history_window_days=6.0,
    profile=(ProfileFeature("gender"), ProfileFeature("age")),
    domains=(
        Domain("clicked_tags", max_values=4),
        Domain("skipped_tags", events="skipped", max_values=100),
        Domain("short_tags", window_days=1.5, max_values=100),
        Domain("last_tags", last_events=2, max_values=100),
        Domain("last_skipped_in_window", events="skipped", last_events=3, window_days=3.0),
        Domain("last_faded", last_events=4, weighting="recency", half_life_days=1.0),
        Domain("long_tags", window_days=30.0, max_values=100),
        Domain("recent_tags", weighting="recency", half_life_days=1.0, max_values=3),
        Domain("categories", attribute="category", max_values=100),
        Domain("skipped_items", attribute="item_id", events="skipped", max_values=2),
    ),
)


def records(max_size=25):
    """Strategy: the events of one user, as `UserEvents.from_records` takes them.

    Times lie on a grid of quarter days: many events share a second, and many lie exactly on the
    border of a window.
    """
    return st.lists(
        st.builds(
            record,
            st.sampled_from(sorted(ITEMS)),
            st.integers(0, 40),
            st.integers(0, 1),
            st.sampled_from([1.0, 1.0, 2.0, 0.5, 0.1, 0.0, None]),
        ),
        max_size=max_size,
    )


def record(item_id, quarter_days, clicked, weight=None):
    """Returns one event; without the key `weight` for None."""
    tags, category = ITEMS[item_id]
    row = {
        "item_id": item_id,
        "timestamp": START + quarter_days * DAY // 4,
        "clicked": clicked,
        "tags": list(tags),
        "category": category,
    }
    return row if weight is None else {**row, "weight": weight}


def moments():
    """Strategy: times on the grid of `records` and beside it."""
    return st.builds(
        lambda quarters, beside: START + quarters * DAY // 4 + beside,
        st.integers(-1, 41),
        st.sampled_from([0, 0, 1, -1]),
    )


def distinct_events(rows):
    """Canonical events: sorted tuples (timestamp, item id, clicked, weight), each once."""
    return sorted(
        {
            (
                row["timestamp"],
                row["item_id"],
                row["clicked"],
                float(np.float32(row["weight"] if row.get("weight") is not None else 1.0)),
            )
            for row in rows
        }
    )


def item_values(item_id, attribute, items=None):
    """Returns the values of an attribute of an item."""
    tags, category = (ITEMS if items is None else items)[item_id]
    if attribute == "tags":
        return sorted(set(tags))
    if attribute == "category":
        return [category] if category else []
    return [item_id]


def naive_feature_values(rows, profile, at, spec, items=None):
    """Returns the expected result of `feature_values`, by loops over raw rows."""
    values = {feature.name: (profile or {}).get(feature.name, "") for feature in spec.profile}
    for domain in spec.domains:
        chosen = [
            event
            for event in distinct_events(rows)
            if event[0] < at
            and bool(event[2]) == (domain.events == "clicked")
            and (domain.window_days is None or event[0] >= at - domain.window_days * DAY)
            and (
                spec.history_window_days is None or event[0] >= at - spec.history_window_days * DAY
            )
        ]
        if domain.last_events is not None:
            chosen = chosen[-domain.last_events :]
        weights = np.ones(len(chosen))
        if domain.weighting == "recency":
            weights = np.array([event[3] for event in chosen])
            ages = np.array([(at - event[0]) / DAY for event in chosen])
            weights = weights * np.exp2(-ages / domain.half_life_days)
        sums = {}
        for event, weight in zip(chosen, weights.tolist(), strict=True):
            for value in item_values(event[1], domain.attribute, items):
                sums[value] = sums.get(value, 0.0) + weight
        kept = sorted(sums.items(), key=lambda entry: (-entry[1], entry[0]))[: domain.max_values]
        values[domain.name] = [value for value, _ in kept]
        values[f"{domain.name}_weights"] = [
            float(np.float32(max(weight, 1e-6))) for _, weight in kept
        ]
    return values
