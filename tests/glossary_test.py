"""Pages link each term of docs/glossary.md where they first use it; the links are valid."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
# Terms that readers of this field may not know: by anchor, their spellings on a page.
TERMS = {
    "base-path": r"base paths?",
    "blend": r"blends?",
    "blessing": r"blessings?",
    "domain": r"domains?",
    "drift": r"drift",
    "gate": r"gates?|quality gate|index gate",
    "held-out": r"held-out",
    "linear-path": r"linear path",
    "novel": r"novel",
    "own-history": r"own history",
    "planted": r"planted",
    "second-stage": r"second stage",
    "servable": r"servables?",
    "skew": r"skew",
    "snapshot": r"snapshots?",
    "validation-users": r"validation users",
}
# Pages that people read from the beginning; generated pages take their words from the code.
PAGES = (
    "README.md",
    "docs/architecture.md",
    "docs/batch-prediction.md",
    "docs/client.md",
    "docs/daily.md",
    "docs/deployment.md",
    "docs/flink.md",
    "docs/gate.md",
    "docs/model.md",
    "docs/other-languages.md",
    "docs/refresh.md",
    "docs/scale.md",
    "docs/security.md",
    "docs/serving.md",
    "docs/serving-signatures.md",
    "docs/speed.md",
    "docs/study.md",
    "docs/training.md",
    "docs/vertex.md",
    "docs/your-own-log.md",
)
_LINK = re.compile(r"\[[^\[\]]*\]\([^()\s]*\)")
_GLOSSARY_LINK = re.compile(r"\((?:[\w./-]*/)?glossary\.md#([\w-]+)\)")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    return {
        re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))
        for title in re.findall(r"^## (.*)$", page, re.MULTILINE)
    }


def prose(page: str) -> str:
    """Returns the page without code, tables and headings, in which no term can be linked."""
    page = re.sub(r"^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m[0]), page, flags=re.M | re.S)
    lines = [
        " " * len(line) if re.match(r"#|\||    |<!--", line) else line for line in page.split("\n")
    ]
    return re.sub(r"`[^`]*`", lambda match: " " * len(match[0]), "\n".join(lines))


def first_uses(page: str) -> dict[str, tuple[int, bool]]:
    """Returns, by anchor of a used term, the line of its first use and whether it is linked.

    A term within a link that leads elsewhere is not counted: a link cannot hold another.
    """
    text = prose(page)
    links = [(match.span(), match[0]) for match in _LINK.finditer(text)]
    found = {}
    for anchor, words in TERMS.items():
        for match in re.finditer(rf"(?<![\w-])(?:{words})(?![\w-])", text, re.IGNORECASE):
            around = [link for (start, end), link in links if start <= match.start() < end]
            is_linked = any(f"glossary.md#{anchor})" in link for link in around)
            if around and not is_linked:
                continue
            found[anchor] = (text.count("\n", 0, match.start()) + 1, is_linked)
            break
    return found


def test_every_term_of_the_list_is_in_the_glossary():
    assert set(TERMS) - anchors(GLOSSARY.read_text(encoding="utf-8")) == set()


def test_terms_are_in_alphabetical_order_each_with_a_text():
    sections = GLOSSARY.read_text(encoding="utf-8").split("\n## ")[1:]
    titles = [section.partition("\n")[0] for section in sections]

    assert titles == sorted(titles, key=str.lower)
    assert [s for s in sections if not 5 < len(s.partition("\n")[2].split()) < 60] == []


@pytest.mark.parametrize("path", PAGES)
def test_page_links_a_term_at_its_first_use(path):
    faults = [
        f"{path}:{line}: link the first use to glossary.md#{anchor}"
        for anchor, (line, is_linked) in first_uses(read(path)).items()
        if not is_linked
    ]

    assert not faults, "\n".join(faults)


def test_links_to_the_glossary_name_its_terms():
    known = anchors(GLOSSARY.read_text(encoding="utf-8"))
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    unknown = [
        f"{page.name}: {anchor}"
        for page in pages
        for anchor in _GLOSSARY_LINK.findall(page.read_text(encoding="utf-8"))
        if anchor not in known
    ]

    assert unknown == []


def test_first_use_that_is_not_linked_is_found():
    page = (
        "# Skew\n\n`a servable` | and\n\n    drift\n\n"
        "The [base path](glossary.md#base-path) of [novel drift](gate.md).\nNovel servables.\n"
    )

    assert first_uses(page) == {"base-path": (7, True), "novel": (8, False), "servable": (8, False)}
