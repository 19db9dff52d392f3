"""The documentation builds as a strict site without a network, and leaves docs/ unchanged."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scripts.site_pages import ROOT_PAGES, site_links

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# Attributes whose address a browser fetches when a page is opened, by HTML tag.
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
# `link` names pages, too: only these of its relations are fetched.
FETCHED_RELATIONS = {"stylesheet", "icon", "preconnect", "preload", "dns-prefetch"}


class Fetches(HTMLParser):
    """Collects the addresses that a page loads, and its `id`s."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.add(values.get("id") or "")
        if tag == "link" and not FETCHED_RELATIONS & set((values.get("rel") or "").split()):
            return
        if values.get(FETCHED.get(tag, "")):
            self.addresses.append(values[FETCHED[tag]] or "")


def read_page(path: Path) -> Fetches:
    page = Fetches()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def states(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Builds the site as `make site` does, with every proxy a closed port."""
    target = tmp_path_factory.mktemp("site")
    before = states(DOCS)
    closed = "http://127.0.0.1:9"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", target],
        cwd=ROOT,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            "http_proxy": closed,
            "https_proxy": closed,
            "no_proxy": "",
        },
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    assert states(DOCS) == before, "the build wrote into docs/"
    return target


def test_every_page_of_docs_and_of_the_root_is_built(site):
    expected = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    expected |= {Path(page).with_suffix(".html") for page in ROOT_PAGES}

    assert {path.relative_to(site) for path in site.rglob("*.html")} == expected | {
        Path("404.html")
    }


def test_pages_load_nothing_from_elsewhere(site):
    elsewhere = [
        f"{path.relative_to(site)}: {address}"
        for path in site.rglob("*.html")
        for address in read_page(path).addresses
        if re.match(r"(\w+:)?//", address)
    ]
    styles = [
        f"{path.relative_to(site)}: {address}"
        for path in site.rglob("*.css")
        for address in re.findall(r"url\([\"']?((?:\w+:)?//[^)]*)", path.read_text())
    ]

    assert elsewhere + styles == []


def test_readme_is_the_start_page(site):
    start = (site / "index.html").read_text(encoding="utf-8")

    assert '<h1 id="tagtower">' in start
    assert 'href="your-own-log.html"' in start
    assert "docs/your-own-log.md" not in re.findall(r'href="([^"]*)"', start)


def test_links_are_made_to_fit_the_site():
    readme = "[a](docs/model.md#baselines), [b](CHANGELOG.md), [c](https://x.org/docs/d.md)"
    assert site_links(readme, "index.md") == (
        "[a](model.md#baselines), [b](changelog.md), [c](https://x.org/docs/d.md)"
    )
    assert site_links("[start](../README.md)", "gate.md") == "[start](index.md)"
    assert site_links("[here](#limits)", "gate.md") == "[here](#limits)"
    # A source file is not in the site; the strict build refuses links to nothing.
    assert site_links("[the goals](../Makefile)", "gate.md") == "the goals (`Makefile`)"
    assert site_links("[`Makefile`](../Makefile)", "gate.md") == "`Makefile`"
    assert site_links("[x](../no-such.file)", "gate.md") == "[x](../no-such.file)"


def test_links_from_a_folder_of_docs_are_made_to_fit_the_site():
    page = "decisions/index.md"

    assert site_links("[a](../model.md)", page) == "[a](../model.md)"
    assert site_links("[a](../../CHANGELOG.md)", page) == "[a](../changelog.md)"


# Lists and tables that the site's Markdown reads as text, but GitHub's does not.
_UNREAD_BLOCK = re.compile(r"^\s*(?:\d+\. |[-*] |```|\| ).*", re.MULTILINE)


def test_no_list_table_or_block_of_code_is_left_as_text(site):
    faults = []
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        article = text.partition("<article")[2].partition("</article>")[0]
        article = re.sub(r"<(pre|code)\b.*?</\1>", "", article, flags=re.DOTALL)
        found = _UNREAD_BLOCK.findall(article)
        faults += [f"{path.relative_to(site)}: {line.strip()}" for line in found]

    assert faults == []
