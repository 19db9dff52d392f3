"""A chunk of users of the synthetic log: profile features, planted interests and events.

Chunks are independent: each has its own generator, so a log of any length is made with the memory
of one chunk, and many workers can make it.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.demo_repeats import drop_repeated_clicks, repeat_clicks
from tfx_pipeline.datasets.demo_world import (
    AGE_BANDS,
    DemoWorld,
    draw_ranks,
    draw_tags_of_categories,
    draw_tags_of_tastes,
    is_repeated,
    zipf_cdf,
)

# Part of the data: another value gives other logs for the same seed.
USERS_PER_CHUNK = 2000
_MAX_TASTE_ATTEMPTS = 50
DEVICES = ("phone", "tablet", "desktop", "television")


@dataclasses.dataclass(frozen=True)
class DemoUsers:
    """Users of one chunk; n users, m events, user by user in the order of time.

    Attributes:
      segment, region, age_band, device: int [n], profile features.
      interests: int [n, interests_per_user], ordinary interests as tags.
      cross_interests: int [n, cross_interests_per_user], cross interests as tags.
      is_cold: bool [n], whether the user has hardly any events.
      num_events: int64 [n], number of events.
      event_user: int64 [m], position of the user in the chunk.
      event_item: int32 [m], shown item.
      event_time: int64 [m], seconds since 1970, strictly increasing within a user.
      event_clicked: bool [m], whether the item was clicked.
    """

    segment: np.ndarray
    region: np.ndarray
    age_band: np.ndarray
    device: np.ndarray
    interests: np.ndarray
    cross_interests: np.ndarray
    is_cold: np.ndarray
    num_events: np.ndarray
    event_user: np.ndarray
    event_item: np.ndarray
    event_time: np.ndarray
    event_clicked: np.ndarray


def _preferred_categories(
    config: DemoConfig, world: DemoWorld, age_band: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws distinct categories for each user, int [n, max_categories_per_user]."""
    chosen = np.full((len(age_band), config.max_categories_per_user), -1, np.int64)
    cdf = zipf_cdf(config.num_categories, config.category_skew)
    missing = np.ones(chosen.shape, bool)
    is_of_age = rng.random(chosen.shape) < config.profile_influence
    while missing.any():
        rows, columns = np.nonzero(missing)
        popular = draw_ranks(cdf, (len(rows),), rng)
        slots = rng.integers(0, world.age_categories.shape[1], len(rows))
        of_age = world.age_categories[age_band[rows], slots]
        chosen[rows, columns] = np.where(is_of_age[rows, columns], of_age, popular)
        missing = is_repeated(chosen)
        # The few categories of an age band can run out: a repeated one is drawn again by either
        # way.
        is_of_age[missing] = rng.random(int(missing.sum())) < 0.5
        if config.max_categories_per_user > world.age_categories.shape[1]:
            is_of_age[missing] = False
    return chosen


def _interests(
    config: DemoConfig,
    world: DemoWorld,
    preferred: np.ndarray,
    num_preferred: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws distinct ordinary interests, spread over the preferred categories."""
    shape = (len(preferred), config.interests_per_user)
    slots = np.arange(config.interests_per_user)[None, :] % num_preferred[:, None]
    categories = np.take_along_axis(preferred, slots, axis=1)
    tastes = rng.integers(0, config.tastes_per_category, preferred.shape)
    tastes = np.take_along_axis(tastes, slots, axis=1)
    longest = int(np.diff(world.category_tags.offsets).max())
    any_rank = zipf_cdf(longest, 0.0)
    chosen = np.zeros(shape, np.int64)
    missing = np.ones(shape, bool)
    for attempt in itertools.count():
        own = categories[missing]
        of_taste = draw_tags_of_tastes(config, own, tastes[missing], world.category_tags, rng)
        of_category = draw_tags_of_categories(own, any_rank, world.category_tags, rng)
        is_of_taste = rng.random(len(own)) < config.taste_share
        # A small taste can run out: still missing interests are then any tags of the category.
        is_of_taste &= attempt < _MAX_TASTE_ATTEMPTS
        chosen[missing] = np.where(is_of_taste, of_taste, of_category)
        missing = is_repeated(chosen) | world.is_cross[chosen] | world.is_passenger[chosen]
        if not missing.any():
            break
    return chosen


def _event_times(
    config: DemoConfig, event_user: np.ndarray, position: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws times in the span of the log, strictly increasing within a user."""
    room = int(position.max()) + 1 if len(position) else 1
    times = rng.integers(config.start_time, config.end_time - room, len(event_user))
    order = np.lexsort((times, event_user))
    return times[order] + position


@dataclasses.dataclass(frozen=True)
class _Tastes:
    """What n users like.

    Attributes:
      preferred: int [n, max_categories_per_user], categories.
      num_preferred: int [n], how many of these count.
      interests: int [n, interests_per_user], tags.
    """

    preferred: np.ndarray
    num_preferred: np.ndarray
    interests: np.ndarray

    @classmethod
    def draw(
        cls, config: DemoConfig, world: DemoWorld, age_band: np.ndarray, rng: np.random.Generator
    ) -> _Tastes:
        preferred = _preferred_categories(config, world, age_band, rng)
        num_preferred = rng.integers(1, config.max_categories_per_user + 1, len(age_band))
        interests = _interests(config, world, preferred, num_preferred, rng)
        return cls(preferred, num_preferred, interests)

    def draw_items(
        self, world: DemoWorld, event_user: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """For every event an item of one of the user's interests, one of a category; int [m]."""
        m = len(event_user)
        slot = rng.integers(0, self.interests.shape[1], m)
        by_interest = world.items_by_driving.draw(self.interests[event_user, slot], rng)
        slot = (rng.random(m) * self.num_preferred[event_user]).astype(np.int64)
        by_category = world.items_by_category.draw(self.preferred[event_user, slot], rng)
        return by_interest, by_category


def _items_of_strangers(
    config: DemoConfig,
    world: DemoWorld,
    age_band: np.ndarray,
    event_user: np.ndarray,
    is_popular: np.ndarray,
    is_cross_free: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws the items that are shown because of a stranger, as often as because of the user.

    Each user has a stranger of the same age band, drawn like a user. Whatever the profile features,
    either of the two could be the user: only clicks distinguish them.

    Args:
      config: Options of the synthetic log.
      world: Part of the log that all users share.
      age_band: int [n], age band of each user.
      event_user: int [m], user of each event.
      is_popular: bool [m], impressions that follow popularity.
      is_cross_free: bool [m], late impressions that show no cross interest.
      rng: Generator for the strangers alone.

    Returns:
      int [m], items; -1 where the impression is not changed.
    """
    n, m = len(age_band), len(event_user)
    tastes = _Tastes.draw(config, world, age_band, rng)
    by_interest, by_category = tastes.draw_items(world, event_user, rng)
    item = np.where(rng.random(m) < config.interest_exposure_share, by_interest, by_category)

    def odds(share: float) -> float:
        return share / (1 - share)

    # As a share of the other impressions, chosen to equal the user's own share of all.
    item = np.where(is_popular & (rng.random(m) < odds(config.exposure_share)), item, -1)
    if config.cross_interests_per_user:
        segment, region = rng.integers(0, config.cross_feature_values, (2, n))
        cross = world.cross_tags[:, segment, region].T
        slot = rng.integers(0, cross.shape[1], m)
        by_cross = world.items_by_driving.draw(cross[event_user, slot], rng)
        is_shown = is_cross_free & (rng.random(m) < odds(config.cross_exposure_share))
        item = np.where(is_shown, by_cross, item)
    return item


def _shown_items(
    config: DemoConfig,
    world: DemoWorld,
    tastes: _Tastes,
    cross: np.ndarray,
    event_user: np.ndarray,
    is_late: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is shown because of the users themselves, or of popularity.

    Args:
      config: options.
      world: the shared part.
      tastes: of the users.
      cross: int [n, cross_interests_per_user], tags.
      event_user: int [m].
      is_late: bool [m], impressions that may show a cross interest.
      rng: of the chunk.

    Returns:
      Items int [m]; bool [m], impressions that follow popularity; and bool [m], late impressions
      that show no cross interest.
    """
    m = len(event_user)
    by_popularity = world.item_order[
        draw_ranks(zipf_cdf(config.num_items, config.item_skew), (m,), rng)
    ]
    by_interest, by_category = tastes.draw_items(world, event_user, rng)
    is_recommended = rng.random(m) < config.exposure_share
    is_interest = rng.random(m) < config.interest_exposure_share
    recommended = np.where(is_interest, by_interest, by_category)
    item = np.where(is_recommended, recommended, by_popularity)
    is_cross_free = np.zeros(m, bool)
    if cross.shape[1]:
        slot = rng.integers(0, cross.shape[1], m)
        by_cross = world.items_by_driving.draw(cross[event_user, slot], rng)
        is_cross_shown = is_late & (rng.random(m) < config.cross_exposure_share)
        is_cross_free = is_late & ~is_cross_shown
        item = np.where(is_cross_shown, by_cross, item)
    is_popular = ~is_recommended & (~is_late | is_cross_free)
    return item, is_popular, is_cross_free


def _draw_num_events(
    config: DemoConfig, num_users: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which users are cold, bool [n], and how many events each has, int64 [n]."""
    is_cold = rng.random(num_users) < config.cold_user_fraction
    # At least 5 events, or "not cold" would mean nothing for a small mean.
    num_events = np.maximum(rng.poisson(config.events_per_user, num_users), 5)
    cold_events = rng.integers(0, config.cold_user_max_events + 1, num_users)
    return is_cold, np.where(is_cold, cold_events, num_events)


def draw_users(config: DemoConfig, world: DemoWorld, chunk: int) -> DemoUsers:
    """Draws the users of one chunk with their events.

    Args:
      config: Options of the synthetic log.
      world: Result of `build_world` with the same options.
      chunk: Number of the chunk, from 0; its users begin with `chunk * USERS_PER_CHUNK`.

    Returns:
      The users and their events.
    """
    rng = np.random.default_rng([config.seed, 1 + chunk])
    n = min(USERS_PER_CHUNK, config.num_users - chunk * USERS_PER_CHUNK)
    segment = rng.integers(0, config.cross_feature_values, n)
    region = rng.integers(0, config.cross_feature_values, n)
    age_band = rng.integers(0, len(AGE_BANDS), n)
    device = rng.integers(0, len(DEVICES), n)
    tastes = _Tastes.draw(config, world, age_band, rng)
    cross = world.cross_tags[:, segment, region].T

    is_cold, num_events = _draw_num_events(config, n, rng)
    event_user = np.repeat(np.arange(n), num_events)
    starts = np.cumsum(num_events) - num_events
    position = np.arange(len(event_user)) - starts[event_user]
    cross_start = np.ceil(config.cross_start_share * num_events)
    is_late = (position >= cross_start[event_user]) & ~is_cold[event_user]
    item, is_popular, is_cross_free = _shown_items(
        config, world, tastes, cross, event_user, is_late, rng
    )
    if config.exposure == "blind":
        strange_rng = np.random.default_rng([config.seed, 1 + chunk, 1])
        strange = _items_of_strangers(
            config, world, age_band, event_user, is_popular, is_cross_free, strange_rng
        )
        item = np.where(strange >= 0, strange, item)

    driving = world.item_driving[item][:, None]
    is_match = (tastes.interests[event_user] == driving).any(axis=1)
    is_match |= (cross[event_user] == driving).any(axis=1) & is_late
    probability = np.where(is_match, config.click_probability, config.base_click_probability)
    event_time = _event_times(config, event_user, position, rng)
    clicked = rng.random(len(event_user)) < probability
    if config.repeat_share:
        item = repeat_clicks(event_user, item, clicked, config.repeat_share, rng)
    if config.repeats == "never":
        clicked = drop_repeated_clicks(event_user, world.item_tags[item], clicked, config.num_tags)
    return DemoUsers(
        segment=segment,
        region=region,
        age_band=age_band,
        device=device,
        interests=tastes.interests,
        cross_interests=cross,
        is_cold=is_cold,
        num_events=num_events,
        event_user=event_user,
        event_item=item,
        event_time=event_time,
        event_clicked=clicked,
    )
