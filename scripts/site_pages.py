"""The hooks of mkdocs.yml: what the site takes from outside docs/, and links that leave it.

README.md, CONTRIBUTING.md and CHANGELOG.md become pages without a second copy. Pages keep the links
that work in a checkout; here each is made to fit the site: a link to a page stays one, and a link
to a source file, which the site does not have, becomes its path as code. Nothing is written into
docs/.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# Files of the root by their page in the site.
ROOT_PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
_PAGES_OF_FILES = {name: page for page, name in ROOT_PAGES.items()}
_LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?\)")
_SCHEME = re.compile(r"[a-z]+:")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are files of the root."""
    for page, name in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes the links of one page fit the site."""
    return site_links(markdown, page.file.src_uri)


def site_links(markdown: str, page: str) -> str:
    """Rewrites links that hold in a checkout into links that hold in the site.

    Args:
      markdown: The text of a page.
      page: Its path in the site, for example `decisions/index.md` or `index.md`.

    Returns:
      The text with the links of the site. A link to nothing stays, for the strict build to refuse.
    """
    source = ROOT_PAGES.get(page, f"docs/{page}")

    def rewrite(match: re.Match[str]) -> str:
        text, target, anchor = match["text"], match["target"], match["anchor"] or ""
        if _SCHEME.match(target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        in_site = _PAGES_OF_FILES.get(path) or path.removeprefix("docs/")
        if path in _PAGES_OF_FILES or path.startswith("docs/"):
            return f"[{text}]({posixpath.relpath(in_site, posixpath.dirname(page))}{anchor})"
        if (ROOT / path).exists():
            return f"{text} (`{path}`)" if text.strip("`") != path else f"`{path}`"
        return match[0]

    return _LINK.sub(rewrite, markdown)
