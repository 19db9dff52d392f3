"""The part of the synthetic log that all users share: tags, items, and the planted tables."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.tag_names import category_names, tag_names

AGE_BANDS = ("under 18", "18-24", "25-34", "35-44", "45-54", "55-64", "65+")
CATEGORIES_PER_AGE_BAND = 4


@dataclasses.dataclass(frozen=True)
class Groups:
    """Members by group, in CSR form: group g has `members[offsets[g]:offsets[g + 1]]`.

    Attributes:
      members: int32 [num_members], members of all groups, group by group.
      offsets: int64 [num_groups + 1], bounds of each group in `members`.
    """

    members: np.ndarray
    offsets: np.ndarray

    @classmethod
    def by(cls, group_of: np.ndarray, num_groups: int) -> Groups:
        """Groups the positions of `group_of` int [n] by their value."""
        offsets = np.zeros(num_groups + 1, np.int64)
        np.cumsum(np.bincount(group_of, minlength=num_groups), out=offsets[1:])
        return cls(np.argsort(group_of, kind="stable").astype(np.int32), offsets)

    def draw(self, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws one member of each of `groups` int [n] (none of them empty), int32 [n]."""
        sizes = self.offsets[groups + 1] - self.offsets[groups]
        picks = (rng.random(len(groups)) * sizes).astype(np.int64)
        return self.members[self.offsets[groups] + picks]


def zipf_cdf(size: int, exponent: float) -> np.ndarray:
    """Returns cumulative probabilities of ranks 0..size-1 with weights (rank + 1)^-exponent."""
    cdf = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -exponent)
    return cdf / cdf[-1]


def draw_ranks(cdf: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draws ranks by their cumulative probabilities, int64 of the given shape."""
    ranks = np.searchsorted(cdf, rng.random(shape), side="right")
    return np.minimum(ranks, len(cdf) - 1)


def is_repeated(values: np.ndarray) -> np.ndarray:
    """Returns whether a value occurs earlier in its row; negative values never count.

    Args:
      values: int [n, k], rows of values.

    Returns:
      bool [n, k], whether the value is repeated.
    """
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    repeated = np.zeros(values.shape, bool)
    same = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    np.put_along_axis(repeated, order[:, 1:], same, axis=1)
    return repeated


@dataclasses.dataclass(frozen=True)
class DemoWorld:
    """Tags and items, and the tables of cross interests and of age bands.

    Attributes:
      categories: Names of the categories [num_categories].
      tags: Names of the tags [num_tags].
      tag_category: int32 [num_tags], category of each tag.
      category_tags: Tags of each category, those of its first taste first, and within a taste the
        most popular first; passengers last.
      item_category: int32 [num_items], category of each item.
      item_tags: int32 [num_items, max_tags_per_item], tags of each item, -1 for padding.
      item_driving: int32 [num_items], tag that drives the clicks of each item.
      items_by_driving: Items by their driving tag.
      items_by_category: Items by their category.
      item_order: int32 [num_items], items by decreasing popularity.
      cross_tags: int32 [cross_interests_per_user, cross_feature_values, cross_feature_values],
        cross interest of a segment (first) and a region (second); each is a Latin square.
      is_cross: bool [num_tags], whether a tag is in `cross_tags`; it is no ordinary interest.
      is_passenger: bool [num_tags], whether a tag only accompanies others and drives no click; it
        is no interest of any user.
      age_categories: int32 [num age bands, CATEGORIES_PER_AGE_BAND], categories that go with each
        age band.
    """

    categories: list[str]
    tags: list[str]
    tag_category: np.ndarray
    category_tags: Groups
    item_category: np.ndarray
    item_tags: np.ndarray
    item_driving: np.ndarray
    items_by_driving: Groups
    items_by_category: Groups
    item_order: np.ndarray
    cross_tags: np.ndarray
    is_cross: np.ndarray
    is_passenger: np.ndarray
    age_categories: np.ndarray


def draw_tags_of_categories(
    categories: np.ndarray, cdf: np.ndarray, category_tags: Groups, rng: np.random.Generator
) -> np.ndarray:
    """Draws one tag of each of `categories` int [n] by its rank in the category, int32 [n]."""
    starts = category_tags.offsets[categories]
    sizes = category_tags.offsets[categories + 1] - starts
    # A category may be one tag shorter than the longest: its last rank replaces the missing one.
    ranks = np.minimum(draw_ranks(cdf, categories.shape, rng), sizes - 1)
    return category_tags.members[starts + ranks]


def draw_tags_of_tastes(
    config: DemoConfig,
    categories: np.ndarray,
    tastes: np.ndarray,
    category_tags: Groups,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws a tag of each category's taste, both int [n], by popularity in it; int32 [n]."""
    cdf = zipf_cdf(config.tags_per_taste, config.popularity_skew)
    ranks = tastes * config.tags_per_taste + draw_ranks(cdf, categories.shape, rng)
    return category_tags.members[category_tags.offsets[categories] + ranks]


def _passengers(config: DemoConfig, category_tags: Groups) -> Groups:
    """Returns the last tags of each category, so that its tastes, the first, do not change."""
    count = config.passengers_per_category
    places = category_tags.offsets[1:, None] - np.arange(count, 0, -1)
    offsets = np.arange(config.num_categories + 1, dtype=np.int64) * count
    return Groups(category_tags.members[places].ravel(), offsets)


def _cross_tags(
    config: DemoConfig, category_tags: Groups, is_passenger: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws Latin squares: every row and column has each tag once, so neither determines it."""
    n = config.cross_feature_values
    squares = []
    in_tastes = config.tastes_per_category * config.tags_per_taste
    ranks = np.arange(config.num_tags) - np.repeat(
        category_tags.offsets[:-1], np.diff(category_tags.offsets)
    )
    members = category_tags.members
    pool = members[(ranks >= in_tastes) & ~is_passenger[members]]
    pool = rng.permutation(pool)[: config.num_cross_tags]
    for tags in pool.reshape(-1, n):
        row, column = rng.permutation(n), rng.permutation(n)
        squares.append(tags[(row[:, None] + column[None, :]) % n])
    return np.array(squares, np.int32).reshape(-1, n, n)


def _item_tags(
    config: DemoConfig,
    driving: np.ndarray,
    tag_category: np.ndarray,
    further_tags: Groups,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws the tags of each item, int32 [num_items, max_tags_per_item], -1 for padding.

    Besides the driving tag they come from `further_tags`, the tags of each category that can
    accompany others.
    """
    width = config.max_tags_per_item
    tags = np.full((len(driving), width), -1, np.int32)
    tags[:, 0] = driving
    num_tags = rng.integers(config.min_tags_per_item, width + 1, len(driving))
    missing = np.arange(width)[None, :] < num_tags[:, None]
    missing[:, 0] = False
    longest = int(np.diff(further_tags.offsets).max())
    cdf = zipf_cdf(longest, config.noise_skew)
    of_any_category = np.sort(further_tags.members)
    while missing.any():
        rows, columns = np.nonzero(missing)
        own = draw_tags_of_categories(tag_category[driving[rows]], cdf, further_tags, rng)
        other = of_any_category[rng.integers(0, len(of_any_category), len(rows))]
        is_own = rng.random(len(rows)) < config.tag_in_category_share
        tags[rows, columns] = np.where(is_own, own, other)
        missing = is_repeated(tags)
    if config.driving_tag == "hidden":
        # Shuffled among the existing tags; the padding stays at the end.
        keys = np.where(tags < 0, 2.0, rng.random(tags.shape))
        tags = np.take_along_axis(tags, np.argsort(keys, axis=1), axis=1)
    return tags


def _driving_tags(
    config: DemoConfig,
    cross_tags: np.ndarray,
    category_tags: Groups,
    is_passenger: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws the driving tags, int32 [num_items]: one item per tag that drives, more for interests.

    If an interest had one item, that item's further tags would always accompany the interest.
    """
    once = np.flatnonzero(~is_passenger)
    more = config.num_items - len(once)
    num_taste_tags = config.num_categories * config.tastes_per_category * config.tags_per_taste
    num_crossed = config.num_cross_tags * (more // (num_taste_tags + config.num_cross_tags))
    crossed = np.resize(cross_tags[:, 0], num_crossed) if num_crossed else np.zeros(0, np.int32)
    shape = (more - num_crossed,)
    categories = draw_ranks(zipf_cdf(config.num_categories, config.category_skew), shape, rng)
    tastes = rng.integers(0, config.tastes_per_category, shape)
    popular = draw_tags_of_tastes(config, categories, tastes, category_tags, rng)
    driving = np.concatenate([once, crossed, popular])
    return rng.permutation(driving).astype(np.int32)


def build_world(config: DemoConfig) -> DemoWorld:
    """Draws the shared part of the log; the same options give the same world."""
    rng = np.random.default_rng([config.seed, 0])
    categories = category_names(config.num_categories)
    tag_category = (np.arange(config.num_tags) % config.num_categories).astype(np.int32)
    category_tags = Groups.by(tag_category, config.num_categories)
    # Shuffled, so that a category's most popular tag is not the one with the first name.
    for start, end in zip(category_tags.offsets[:-1], category_tags.offsets[1:], strict=True):
        rng.shuffle(category_tags.members[start:end])

    passengers = _passengers(config, category_tags)
    is_passenger = np.zeros(config.num_tags, bool)
    is_passenger[passengers.members] = True
    cross_tags = _cross_tags(config, category_tags, is_passenger, rng)
    driving = _driving_tags(config, cross_tags, category_tags, is_passenger, rng)
    further_tags = passengers if config.passengers_per_category else category_tags
    is_cross = np.zeros(config.num_tags, bool)
    is_cross[cross_tags.ravel()] = True
    num_age_categories = min(CATEGORIES_PER_AGE_BAND, config.num_categories)
    age_categories = np.stack(
        [rng.choice(config.num_categories, num_age_categories, replace=False) for _ in AGE_BANDS]
    )
    return DemoWorld(
        categories=categories,
        tags=tag_names(tag_category.tolist(), categories),
        tag_category=tag_category,
        category_tags=category_tags,
        item_category=tag_category[driving],
        item_tags=_item_tags(config, driving, tag_category, further_tags, rng),
        item_driving=driving,
        items_by_driving=Groups.by(driving, config.num_tags),
        items_by_category=Groups.by(tag_category[driving], config.num_categories),
        item_order=rng.permutation(config.num_items).astype(np.int32),
        cross_tags=cross_tags,
        is_cross=is_cross,
        is_passenger=is_passenger,
        age_categories=age_categories.astype(np.int32),
    )
