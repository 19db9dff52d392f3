"""The tables of docs/serving-signatures.md, generated from the table of signatures.

    python -m tfx_pipeline.reference.signatures > docs/serving-signatures.md

The rest of the page, the examples and what is said of them, is kept as it is.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tagtower_client.signature_rows import (
    DIMENSIONS,
    WITH_MEMORY,
    Export,
    Kind,
    SignatureRow,
    TensorRow,
)
from tagtower_client.signature_table import SIGNATURES
from trainer.contract.config_loader import require
from trainer.contract.file_system import open_file

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving-signatures.md"
_BEGIN = (
    "<!-- Generated from the table of signatures by `make docs`; a test holds both equal: {}. -->"
)
_END = "<!-- The end of what is generated: {}. -->"
_LINKS = {WITH_MEMORY: "with [memory](model.md#memory-the-users-own-history-in-the-score)"}


def signatures_reference(page: str) -> str:
    """Returns the page with its generated parts made anew.

    Args:
      page: The page as it is, with the two comments around each generated part.

    Returns:
      Markdown, ending with a line break.

    Raises:
      ValueError: A comment is missing.
    """
    served = [row for row in SIGNATURES if Export.SERVABLE in row.exports]
    towers = [row for row in SIGNATURES if Export.SERVABLE not in row.exports]
    page = _replaced(page, "servable", servable_tables(served))
    return _replaced(
        page, "towers", [*_signature_table(towers), "", *_tensor_table(towers, served)]
    )


def _replaced(page: str, part: str, lines: Iterable[str]) -> str:
    begin, end = f"{_BEGIN.format(part)}\n", f"{_END.format(part)}\n"
    require(
        begin in page and end in page, "page", f"have the comments around the part `{part}`", ""
    )
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    body = "\n".join(lines)
    return f"{before}{begin}\n{body}\n\n{end}{after}"


def servable_tables(signatures: Sequence[SignatureRow]) -> Iterator[str]:
    """Yields the tables of signatures, of dimensions and of tensors.

    Args:
      signatures: Rows of the table.

    Yields:
      Lines of Markdown.
    """
    yield from _signature_table(signatures)
    yield "\nThe dimensions in the shapes:\n\n| dimension | is |\n| --- | --- |"
    used = {
        name for row in signatures for tensor in row.outputs + row.inputs for name in tensor.shape
    }
    for name, meaning in DIMENSIONS.items():
        if name in used:
            yield f"| {name} | {meaning} |"
    yield "\nWhat the tensors hold:\n"
    yield from _tensor_table(signatures)


def _signature_table(signatures: Iterable[SignatureRow]) -> Iterator[str]:
    yield "| signature | gives | inputs | outputs |"
    yield "| --- | --- | --- | --- |"
    for row in signatures:
        gives = f"{row.meaning}; only {row.only}" if row.only else row.meaning
        yield f"| `{row.name}` | {gives} | {_tensors(row.inputs)} | {_tensors(row.outputs)} |"


def _tensors(rows: Sequence[TensorRow]) -> str:
    """Returns the tensors of a cell; those of one type, shape and condition share it."""
    groups: list[tuple[str, list[str]]] = []
    for row in rows:
        kind = f"{row.dtype} [{', '.join(row.shape)}]"
        if row.kind in (Kind.EACH_FEATURE, Kind.EACH_PROFILE):
            groups.append(("", [row.name]))
            continue
        if row.kind is Kind.EACH_LIST:
            kind += " for each list"
        if row.only:
            kind += f", {_LINKS.get(row.only, row.only)}"
        if not groups or groups[-1][0] != kind:
            groups.append((kind, []))
        groups[-1][1].append(f"`{row.name}`")
    return "; ".join(f"{', '.join(names)} {kind}".strip() for kind, names in groups)


def _tensor_table(
    signatures: Iterable[SignatureRow], known: Iterable[SignatureRow] = ()
) -> Iterator[str]:
    """Yields a row for each tensor and meaning; those of `known` signatures are left out."""
    others = {(tensor.name, tensor.meaning) for row in known for tensor in row.inputs + row.outputs}
    found: dict[tuple[str, str], list[str]] = {}
    for row in signatures:
        for tensor in row.inputs + row.outputs:
            key = (tensor.name, tensor.meaning)
            if key not in others:
                found.setdefault(key, []).append(row.name)
    yield "| tensor | of | is |"
    yield "| --- | --- | --- |"
    for (name, meaning), names in found.items():
        label = name if name in ("users", "profile") else f"`{name}`"
        yield f"| {label} | {', '.join(f'`{one}`' for one in names)} | {meaning} |"


if __name__ == "__main__":
    with open_file(str(PAGE)) as page:
        sys.stdout.write(signatures_reference(page.read()))
