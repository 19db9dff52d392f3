"""Options of the synthetic log: its size, its noise, and its planted interests."""

from __future__ import annotations

import dataclasses
import math

_SHARES = (
    "profile_influence",
    "tag_in_category_share",
    "taste_share",
    "cold_user_fraction",
    "exposure_share",
    "interest_exposure_share",
    "cross_exposure_share",
    "cross_start_share",
    "click_probability",
    "base_click_probability",
    "repeat_share",
)
_POSITIVE_INTEGERS = (
    "num_users",
    "num_tags",
    "num_items",
    "num_categories",
    "events_per_user",
    "interests_per_user",
    "max_categories_per_user",
    "tastes_per_category",
    "tags_per_taste",
    "cross_feature_values",
    "min_tags_per_item",
    "max_tags_per_item",
    "start_time",
)
_COUNTS = (
    "cross_interests_per_user",
    "passengers_per_category",
    "cold_user_max_events",
    "seed",
)
_SKEWS = ("category_skew", "popularity_skew", "item_skew", "noise_skew")


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Options of `tagtower prepare demo`.

    With the defaults, a user's own history, blurred by the other tags of the clicked items,
    recovers about half of their interests, and what users have in common (tastes, profile features)
    recovers clearly more.

    Attributes:
      num_users: users, cold ones included.
      num_tags: number of distinct tags.
      num_items: number of items; at least `num_tags`, so that every tag drives the clicks of some
        item.
      num_categories: number of categories; the tags are spread evenly over them.
      events_per_user: mean number of impressions of a user who is not cold (Poisson).
      interests_per_user: number of ordinary interests planted in each user; they show in the whole
        history.
      max_categories_per_user: largest number of categories in which a user's interests lie.
      profile_influence: probability that a preferred category is one of those that go with the
        user's `age_band`, rather than one by popularity: what profile features reveal about a cold
        user.
      cross_interests_per_user: number of further interests that the features `segment` and `region`
        determine together, and neither alone; they show only late in the user's timeline.
      cross_feature_values: number of values of `segment` and of `region`; the tables of cross
        interests have that many rows, columns and tags.
      cross_start_share: share of a user's events before which no cross interest shows. At 0.8 it is
        where the protocol cuts history from labels.
      cross_exposure_share: probability that a later event shows an item of a cross interest.
      min_tags_per_item: smallest number of tags of an item, the driving one included.
      max_tags_per_item: largest number of tags of an item.
      driving_tag: position of the tag that drives the click in an item's list: `hidden` (a random
        place, so that the data does not reveal it) or `first`.
      tag_in_category_share: probability that a further tag is of the item's category.
      passengers_per_category: number of tags of each category that only accompany others and never
        drive a click; all further tags of items are of these. 0: any tag can accompany others.
      category_skew: Zipf exponent of categories as a user's preferred ones.
      tastes_per_category: number of tastes in a category. A taste is a few tags of one category
        that are liked together; a user has one taste in each preferred category. Tastes are what
        users have in common.
      tags_per_taste: number of tags in a taste.
      taste_share: probability that an interest is of the user's taste, rather than any tag of the
        preferred category.
      popularity_skew: Zipf exponent of the tags of a taste as interests.
      item_skew: Zipf exponent of items in impressions that follow popularity.
      noise_skew: Zipf exponent of tags within a category as further tags of items.
      cold_user_fraction: share of users with hardly any events.
      cold_user_max_events: largest number of events of a cold user; the smallest is 0.
      exposure: knowledge of the recommender. `relevant`: it knows the user, so that the shown items
        reveal the interests; `blind`: items of a stranger of the same age band are shown as often
        in place of popular ones, so that only clicks distinguish the user's interests from the
        stranger's.
      exposure_share: share of impressions that a recommender chose for the user; the rest follow
        popularity.
      interest_exposure_share: share of these impressions whose driving tag is an interest; the rest
        are of the user's preferred categories.
      click_probability: probability of a click on an item whose driving tag is an interest of the
        user.
      base_click_probability: probability of a click on any other item.
      repeats: repeated clicks. `drawn`: clicks stay as they are drawn; `never`: no user clicks an
        item with a tag that they have clicked before.
      repeat_share: share of a user's clicks, after the first, that go to an item of an earlier
        click in place of the drawn one.
      start_time: first possible event, seconds since 1970, UTC.
      end_time: end of the log, seconds since 1970, UTC; no event is at or after it.
      seed: seed of everything random; the same options give the same files.
    """

    num_users: int = 4000
    num_tags: int = 2000
    num_items: int = 12_000
    num_categories: int = 40
    events_per_user: int = 60
    interests_per_user: int = 5
    max_categories_per_user: int = 2
    profile_influence: float = 0.5
    cross_interests_per_user: int = 1
    cross_feature_values: int = 6
    cross_start_share: float = 0.8
    cross_exposure_share: float = 0.2
    min_tags_per_item: int = 3
    max_tags_per_item: int = 6
    driving_tag: str = "hidden"
    tag_in_category_share: float = 0.85
    passengers_per_category: int = 0
    category_skew: float = 0.5
    tastes_per_category: int = 1
    tags_per_taste: int = 5
    taste_share: float = 0.98
    popularity_skew: float = 1.0
    item_skew: float = 0.4
    noise_skew: float = 0.3
    cold_user_fraction: float = 0.05
    cold_user_max_events: int = 3
    exposure: str = "relevant"
    exposure_share: float = 0.5
    interest_exposure_share: float = 0.2
    click_probability: float = 0.6
    base_click_probability: float = 0.2
    repeats: str = "drawn"
    repeat_share: float = 0.0
    start_time: int = 1_704_067_200
    end_time: int = 1_711_929_600
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks every option.

        Raises:
          ValueError: An option is out of range, or two are inconsistent.
        """
        for name in _POSITIVE_INTEGERS:
            self._require(name, "a positive integer", _is_integer(getattr(self, name), 1))
        for name in _COUNTS:
            self._require(name, "an integer of at least 0", _is_integer(getattr(self, name), 0))
        for name in _SHARES:
            value = getattr(self, name)
            self._require(name, "between 0 and 1", _is_number(value) and 0 <= value <= 1)
        for name in _SKEWS:
            value = getattr(self, name)
            self._require(name, "at least 0", _is_number(value) and value >= 0)
        self._require("driving_tag", "`hidden` or `first`", self.driving_tag in ("hidden", "first"))
        self._check_exposure_and_repeats()
        self._require("num_items", "at least `num_tags`", self.num_items >= self.num_tags)
        self._require(
            "max_tags_per_item",
            "at least `min_tags_per_item`",
            self.max_tags_per_item >= self.min_tags_per_item,
        )
        self._require(
            "max_categories_per_user",
            "at most `num_categories`",
            self.max_categories_per_user <= self.num_categories,
        )
        self._require(
            "passengers_per_category",
            f"0 or at least `max_tags_per_item` ({self.max_tags_per_item})",
            self.passengers_per_category == 0
            or self.passengers_per_category >= self.max_tags_per_item,
        )
        # Twice what one user or item can need of a category, so that drawing without repetition
        # ends; besides the tastes there must be room for the tags of cross interests and
        # passengers.
        in_tastes = self.tastes_per_category * self.tags_per_taste
        crossed = math.ceil(self.num_cross_tags / self.num_categories)
        needed = max(
            2 * (max(self.interests_per_user, self.max_tags_per_item) + crossed),
            in_tastes + crossed,
        )
        needed += self.passengers_per_category
        self._require(
            "num_tags",
            f"at least {needed * self.num_categories} ({needed} for each of num_categories="
            f"{self.num_categories}, for tastes, interests and tags per item)",
            self.num_tags >= needed * self.num_categories,
        )
        seconds = 2 * (10 * self.events_per_user + self.cold_user_max_events + 100)
        self._require(
            "end_time",
            f"an integer of at least `start_time` + {seconds} seconds",
            _is_integer(self.end_time, self.start_time + seconds),
        )

    def _check_exposure_and_repeats(self) -> None:
        is_blind = self.exposure == "blind"
        self._require("exposure", "`relevant` or `blind`", is_blind or self.exposure == "relevant")
        for name in ("exposure_share", "cross_exposure_share"):
            # The stranger gets an equally large share.
            is_half = not is_blind or getattr(self, name) <= 0.5
            self._require(name, "at most 0.5 where `exposure` is blind", is_half)
        self._require("repeats", "`drawn` or `never`", self.repeats in ("drawn", "never"))
        self._require(
            "repeat_share",
            "0 where `repeats` is never",
            self.repeats != "never" or self.repeat_share == 0,
        )

    def _require(self, name: str, what: str, is_fulfilled: bool) -> None:
        if not is_fulfilled:
            value = getattr(self, name)
            raise ValueError(f"`{name}` must be {what}. Received: {name}={value!r}.")

    @property
    def num_cross_tags(self) -> int:
        """Number of tags that are a cross interest of some user."""
        return self.cross_interests_per_user * self.cross_feature_values


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
