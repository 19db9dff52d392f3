"""Readable names for invented categories and tags."""

from __future__ import annotations

_CATEGORIES = """
jazz chess cycling cooking travel photography gardening football astronomy poetry
sailing robots fashion history cinema hiking opera coffee cars birds
painting skiing wine yoga trains magic fishing puzzles comics theatre
boxing pottery surfing politics finance dance tennis archery baking climbing
""".split()

_ASPECTS = """
guitar festival tools history lessons club stories world masters classics
news reviews tips legends beginners travel design science museum archive
records charts interviews portraits secrets trends market summer winter night
family school letters maps colours legacy journal studio league workshop
heroes gear science-fiction economy health film book podcast award island
""".split()


def category_names(num_categories: int) -> list[str]:
    """Returns distinct lower-case names of one word, with a number once the words run out."""
    return [_numbered(_CATEGORIES, i, "{} {}") for i in range(num_categories)]


def tag_names(tag_category: list[int], categories: list[str]) -> list[str]:
    """Returns distinct lower-case names: the category's word and another one.

    Args:
      tag_category: Category of each tag.
      categories: Names of the categories.

    Returns:
      The names, e.g. `jazz guitar` and, once the words run out, `jazz guitar 002`.
    """
    num_used = [0] * len(categories)
    names = []
    for category in tag_category:
        aspect = _numbered(_ASPECTS, num_used[category], "{} {:03d}")
        names.append(f"{categories[category]} {aspect}")
        num_used[category] += 1
    return names


def _numbered(words: list[str], i: int, form: str) -> str:
    repetition, position = divmod(i, len(words))
    word = words[position]
    return word if not repetition else form.format(word, repetition + 1)
