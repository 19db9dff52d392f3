"""Measures how well tags that training never saw are recommended on their first day.

Some tags are removed from everything that a model learns from or reads, as if the log had been
written before they existed. The vocabulary does not have them either: a tag that is a candidate of
the softmax and never a label learns to be avoided. Then they join the others by their views alone
(`TagTower.embed`), and all are ranked for users who later clicked some of the new ones.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.config import ModelConfig, TrainingConfig
from trainer.contract import features as f
from trainer.contract.config_loader import require
from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots
from trainer.evaluation import baselines
from trainer.evaluation.figures import TagScorer, users_at_once
from trainer.evaluation.linear_path import add_linear_path, fit_path
from trainer.evaluation.metrics import mean_defined
from trainer.fitting.loop import FitResult, fit
from trainer.model import InterestModel
from trainer.towers.tag_views import TagAttributes

CUTS = (10, 50, 100)
_HIDDEN = -2  # unlike -1, a label out of vocabulary


def choose_new_tags(tags: Sequence[str], fraction: float = 0.1, seed: int = 0) -> np.ndarray:
    """Chooses tags by a hash of their names, independent of the order of the vocabulary.

    Args:
      tags: Tags in order of their ids.
      fraction: Share of the tags, above 0 and below 1; the chosen number varies around it.
      seed: Seed of the hash.

    Returns:
      int64 [n], ids of the chosen tags in ascending order.

    Raises:
      ValueError: All tags or none are chosen.
    """
    require(0 < fraction < 1, "fraction", "be above 0 and below 1", fraction)
    draws = [
        int.from_bytes(hashlib.blake2b(f"{seed}:{tag}".encode(), digest_size=8).digest(), "big")
        for tag in tags
    ]
    chosen = np.array([i for i, draw in enumerate(draws) if draw < fraction * 2**64], np.int64)
    require(
        0 < len(chosen) < len(tags),
        "new_tags.fraction",
        "leave tags both to learn from and to hold out",
        f"{len(chosen)} of {len(tags)} tags",
    )
    return chosen


def hide_tags(
    snapshots: Snapshots, spec: f.FeatureSpec, ids: np.ndarray, num_tags: int
) -> Snapshots:
    """Returns snapshots as they would be if some tags had not existed.

    The tags are removed from the labels, the impressions, the clicked tags of the past and the
    lists of every domain with the vocabulary of tags, each with its weight. The other tags, and the
    buckets for unknown ones behind them, move up: the ids are those of a vocabulary without the
    hidden tags.

    Args:
      snapshots: Transformed examples.
      spec: Feature specification.
      ids: int [n], ids of the tags to hide.
      num_tags: Number of tags, including the hidden ones.

    Returns:
      The same users, in the same order. An impression that loses its last tag stays, without tags.
    """
    is_kept = np.ones(num_tags, bool)
    is_kept[ids] = False
    # New ids by old id.
    new_ids = np.where(is_kept, np.cumsum(is_kept) - 1, _HIDDEN)

    def renumbered(column: ListValues) -> np.ndarray:
        old = column.values
        is_tag = (old >= 0) & (old < num_tags)
        others = np.where(old < 0, old, old - np.count_nonzero(~is_kept))
        return np.where(is_tag, new_ids[np.where(is_tag, old, 0)], others).astype(old.dtype)

    weights_of = {f.LABEL_TAGS: f.LABEL_TAG_WEIGHTS, f.HISTORY_TAGS: f.HISTORY_TAG_COUNTS}
    for domain in spec.domains:
        if domain.vocabulary_name == f.TAG_VOCABULARY:
            weights_of[domain.name] = f.weights_name(domain.name)
    lists = dict(snapshots.lists)
    for name, weights in weights_of.items():
        tags = ListValues(renumbered(lists[name]), lists[name].offsets)
        keep = tags.values != _HIDDEN
        lists[name], lists[weights] = _filtered(tags, keep), _filtered(lists[weights], keep)
    if f.IMPRESSION_TAGS in lists:
        tags, counts = lists[f.IMPRESSION_TAGS], lists[f.IMPRESSION_NUM_TAGS]
        tags = ListValues(renumbered(tags), tags.offsets)
        keep = tags.values != _HIDDEN
        impressions = ListValues(keep, np.concatenate([[0], np.cumsum(counts.values)]))
        num_left = np.bincount(impressions.row_ids[keep], minlength=len(counts.values))
        lists[f.IMPRESSION_TAGS] = _filtered(tags, keep)
        lists[f.IMPRESSION_NUM_TAGS] = ListValues(
            num_left.astype(counts.values.dtype), counts.offsets
        )
    return Snapshots(snapshots.scalars, lists)


def _filtered(column: ListValues, keep: np.ndarray) -> ListValues:
    offsets = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)[column.offsets]
    return ListValues(column.values[keep], offsets)


def evaluate_new_tags(
    tag_scorer: TagScorer,
    snapshots: Snapshots,
    truth: ListValues,
    new_tags: np.ndarray,
    num_tags: int,
    seed: int = 0,
) -> dict[str, float | None]:
    """Evaluates how well the new tags that users clicked later are ranked.

    Equal scores are ordered randomly: ids are in order of the tags' frequency, which is unknown for
    a new tag, and a baseline gives one score to all new tags of a category.

    Args:
      tag_scorer: Function that scores every tag for a chunk of snapshots.
      snapshots: Examples without the new tags, one per user.
      truth: Tags that each of these users clicked later, including new ones, as ids among all tags.
      new_tags: int [n], ids of the new tags.
      num_tags: Number of tags, including the new ones.
      seed: Seed of the order of equal scores.

    Returns:
      Metrics by name: `recall_at_10`, `recall_at_50`, `recall_at_100` (share of a user's new tags
      in the truth that are among the first k of all tags), `mrr` (1 / rank of the first of them),
      and the same among the new tags alone as `among_new.recall_at_10` and so on; all are means
      over the users with a new tag in their truth. `num_users` is their number;
      `num_users_without_truth`, `num_tags` and `num_new_tags` are further counts. None: undefined.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {}
    size = users_at_once(num_tags)
    for first in range(0, snapshots.num_examples, size):
        rows = np.arange(first, min(first + size, snapshots.num_examples))
        scores = np.asarray(tag_scorer(snapshots.take(rows)))
        require(
            scores.shape == (len(rows), num_tags),
            "tag_scorer",
            f"return {(len(rows), num_tags)}",
            scores.shape,
        )
        ties = rng.random(scores.shape)
        relevant = np.zeros(scores.shape, bool)
        labels = truth.take(rows)
        relevant[labels.row_ids[labels.values >= 0], labels.values[labels.values >= 0]] = True
        columns = {
            "": _ranks(scores, ties)[:, new_tags],
            "among_new.": _ranks(scores[:, new_tags], ties[:, new_tags]),
        }
        for prefix, ranks in columns.items():
            for name, values in _rank_metrics(ranks, relevant[:, new_tags]).items():
                parts.setdefault(f"{prefix}{name}", []).append(values)
    by_user = {name: np.concatenate(values) for name, values in parts.items()}
    means = {name: mean_defined(values) for name, values in by_user.items()}
    num_users = float(np.count_nonzero(~np.isnan(by_user["mrr"])))
    return {name: None if np.isnan(mean) else mean for name, mean in means.items()} | {
        "num_users": num_users,
        "num_users_without_truth": snapshots.num_examples - num_users,
        "num_tags": float(num_tags),
        "num_new_tags": float(len(new_tags)),
    }


def _ranks(scores: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Returns the rank of every column in its row, from 1, best first; equal scores by `ties`."""
    order = np.lexsort((ties, -scores))
    ranks = np.empty(scores.shape, np.int64)
    np.put_along_axis(ranks, order, np.arange(1, scores.shape[1] + 1)[np.newaxis], axis=1)
    return ranks


def _rank_metrics(ranks: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Computes metrics by user from ranks and relevance [users, n]; nan without truth."""
    num_relevant = relevant.sum(axis=1)
    undefined = num_relevant == 0
    result = {}
    for k in CUTS:
        hits = (relevant & (ranks <= k)).sum(axis=1)
        result[f"recall_at_{k}"] = np.where(undefined, np.nan, hits / np.maximum(num_relevant, 1))
    best = np.where(relevant, ranks, np.iinfo(np.int64).max).min(axis=1)
    result["mrr"] = np.where(undefined, np.nan, 1 / best)
    return result


def popularity_of_category(
    clicks: np.ndarray, known: TagAttributes, new: TagAttributes
) -> np.ndarray:
    """Estimates the popularity of new tags by the mean clicks of known tags in their category.

    Tags without a category form a category. If no known tag has the category, the mean of all known
    tags is used.

    Args:
      clicks: float [num_known], clicks of the known tags.
      known: Attributes of the known tags.
      new: Attributes of the new tags.

    Returns:
      float [num_new], estimated clicks.
    """
    by_category: dict[str, list[float]] = {}
    for category, count in zip(known.categories, clicks.tolist(), strict=True):
        by_category.setdefault(category, []).append(count)
    means = {category: float(np.mean(counts)) for category, counts in by_category.items()}
    overall = float(np.mean(clicks))
    return np.array([means.get(category, overall) for category in new.categories])


@dataclasses.dataclass(frozen=True)
class HeldOutTags:
    """The results of a training without some of the tags.

    Attributes:
      model: Trained model, which knows only the other tags.
      fit: Result of the training.
      figures: Figures of `evaluate_new_tags`, by split (`validation`, `test`) and ranking: `views`,
        the model, or `id_only` if it has no views, so that a new tag has an untrained row;
        `popularity_of_category`, known tags by their clicks and new ones by the function of that
        name; `random`.
    """

    model: InterestModel
    fit: FitResult
    figures: Mapping[str, Mapping[str, Mapping[str, float | None]]]


def held_out_tags_experiment(
    train: Snapshots,
    validation: Snapshots,
    test: Snapshots,
    spec: f.FeatureSpec,
    vocabulary_sizes: Mapping[str, int],
    attributes: TagAttributes,
    tag_clicks: np.ndarray,
    model_config: ModelConfig,
    training_config: TrainingConfig,
    seed: int = 0,
    fraction: float = 0.1,
    tag_frequencies: np.ndarray | None = None,
) -> HeldOutTags:
    """Trains a model without some of the tags, and scores those.

    Validation users choose the epoch, by the remaining tags: training reads nothing of the held-out
    ones. So the figures of validation users on the new tags choose between configurations without
    using test users.

    Args:
      train: Training snapshots, with all tags.
      validation: Snapshots of validation users.
      test: Snapshots of test users.
      spec: Feature specification.
      vocabulary_sizes: Sizes by name of the vocabulary, with all tags, as for `InterestModel`.
      attributes: Attributes of all tags, in order of their ids.
      tag_clicks: float [num_tags], clicks of the training part, from the log's summary: training
        examples have only the clicks after a random time, as labels.
      model_config: Configuration of the towers, with `tag_views` or without.
      training_config: Configuration of the objective.
      seed: Seed of the fit, of the choice of the tags and of the random baseline.
      fraction: Share of the tags that are held out.
      tag_frequencies: float [num_tags], for a sampled softmax, as for `InterestModel`.

    Returns:
      The trained model and its figures.
    """
    num_tags = len(attributes.tags)
    require(
        tag_clicks.shape == (num_tags,), "tag_clicks", f"be {num_tags} values", tag_clicks.shape
    )
    new_tags = choose_new_tags(attributes.tags, fraction, seed)
    known_tags = np.setdiff1d(np.arange(num_tags), new_tags)
    known, new = attributes.take(known_tags), attributes.take(new_tags)
    sizes = dict(vocabulary_sizes)
    if f.TAG_VOCABULARY in sizes:
        sizes[f.TAG_VOCABULARY] -= len(new_tags)
    truths = {"validation": validation, "test": test}
    hidden_train, *others = (
        hide_tags(part, spec, new_tags, num_tags) for part in (train, *truths.values())
    )
    hidden = dict(zip(truths, others, strict=True))

    tf_keras.utils.set_random_seed(seed)
    model = InterestModel(
        spec,
        sizes,
        len(known_tags),
        model_config,
        training_config,
        seed=seed,
        tag_frequencies=None if tag_frequencies is None else tag_frequencies[known_tags],
        tag_attributes=known if model_config.tag_views else None,
    )
    path, note = fit_path(model_config, spec, len(known_tags), hidden_train, hidden["validation"])
    fit_result = fit(model, hidden_train, hidden["validation"], seed, path=path)
    add_linear_path(model, path, note, hidden["validation"])

    def in_order(of_known: np.ndarray, of_new: np.ndarray) -> np.ndarray:
        """Returns rows of known and new tags in the order of all tags."""
        rows = np.empty((num_tags, *of_known.shape[1:]), of_known.dtype)
        rows[known_tags], rows[new_tags] = of_known, of_new
        return rows

    candidates = in_order(
        model.candidate_embeddings().numpy(), _candidate_embeddings_of_new(model, new, seed)
    ).T
    embed = tf.function(model.query_embeddings, reduce_retracing=True, autograph=False)
    clicks = tag_clicks[known_tags]
    scorers: dict[str, TagScorer] = {
        "views" if model_config.tag_views else "id_only": lambda chunk: (
            embed(chunk.features(spec.raw_names)).numpy() @ candidates
        ),
        "popularity_of_category": baselines.popularity(
            in_order(clicks, popularity_of_category(clicks, known, new))
        ),
        "random": baselines.random(num_tags, seed),
    }
    figures = {
        split: {
            who: evaluate_new_tags(
                scorer, hidden[split], part.lists[f.LABEL_TAGS], new_tags, num_tags, seed
            )
            for who, scorer in scorers.items()
        }
        for split, part in truths.items()
    }
    return HeldOutTags(model, fit_result, figures)


def _candidate_embeddings_of_new(model: InterestModel, new: TagAttributes, seed: int) -> np.ndarray:
    """Embeds new tags by views, or else by untrained rows, float [n, query_dim]."""
    if model.model_config.tag_views:
        by_views = model.tag_tower.embed(
            tf.fill([len(new.tags)], -1),
            tf.constant(new.tags),
            tf.constant(new.categories),
            None if new.vectors is None else tf.constant(new.vectors),
        )
        return by_views.candidate_embeddings.numpy()
    width = model.model_config.output_dim
    # An untrained row has neither a bias nor a part in the linear path.
    rows = np.zeros((len(new.tags), model.query_dim))
    rows[:, :width] = np.random.default_rng(seed).normal(
        scale=width**-0.5, size=(len(new.tags), width)
    )
    return rows
