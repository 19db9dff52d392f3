"""Every one-line message in the source, as a template with `…` for what is inserted.

The source is read, not run. A message is text given to something that makes an error (`ValueError`,
`require`, `invalid_argument`, ...) or a warning, text in the project's form (`key` must ...) that a
function returns, and every text of what a test lists as wordings. Text that comes from elsewhere
(`str(error)`) is no message of its own.
"""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

ANY = "…"

# What makes a message of its arguments, beside every class whose name ends in `Error`; `{0}` is
# the first argument.
MAKERS = {
    "Bound": "`…` must {0}.",
    "NotPushed": "{0}",
    "OutputInUse": "{0}",
    "UnreadableInput": "{0}",
    "PydanticCustomError": "",  # `config_validator._message` words it
    "Rejected": "{2}",
    "RepeatedName": "{0}",
    "ServerNotUp": "{0}",
    "ServingError": "{1}",
    "TagClientError": "{1} {2}",
    "invalid_argument": "{0}",
    "not_found": "{0}",
    "unimplemented": "{0}",
    "error_text": "{0}",
    "require": "`{1}` must {2}.",
    "_fault": "… {1}",
    "_line": "… {1}",
    "_require": "`{0}` must be {1}.",
    "_require_none": "Every row of `data.tag_vectors` must {2}. Row … of … does not.",
    "_refused": "`config` {2}.",
    "_refusal": "Every row of `data.tag_vectors` must {2}. Row … of … does not.",
    "_wrong_kind": "`…` of `features[…]` must be {2}.",
    "format_error": "JSON Value: … {1}",
    "FileNotFoundError": "{2}: {1}.",  # as `cli` prints an OSError
    "exit": "{1}",
    "warning": "{0}",
    "error": "{0}",
    "exception": "{0}",
    "_report": "{0}",
    "_warn_once": "{0}",
}


@dataclasses.dataclass(frozen=True)
class Message:
    """One message of the source.

    Attributes:
      text: The template, without what follows `Received:`.
      place: File and line.
      scope: `file` and `file::function`, by which messages can be left out.
    """

    text: str
    place: str
    scope: tuple[str, str]


def normalized(text: str) -> str:
    """Returns a template in the form in which code and page are compared.

    `{anything}` and a logger's `%s` are `…`; what follows `Received:` repeats what was given, and
    is not compared.
    """
    text = re.sub(r"\{[^{}]*\}|%[sd]", ANY, text.partition(" Received:")[0])
    return re.sub(f"{ANY}+", ANY, " ".join(text.split()))


def templates(node: ast.expr | None, names: dict[str, list[ast.expr]]) -> list[str]:
    """Returns the texts that an expression can be, with `…` for what only a run knows.

    Args:
      node: Expression; None: nothing.
      names: Expressions that the names of the function are bound to.

    Returns:
      The possible texts: an expression with `if` or `or` has two.
    """
    if node is None:
        return [""]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return templates(node.body, names) + templates(node.orelse, names)
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in templates(value, names)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [
            left + right
            for left in templates(node.left, names)
            for right in templates(node.right, names)
        ]
    if isinstance(node, ast.JoinedStr):
        return ["".join(v.value if isinstance(v, ast.Constant) else ANY for v in node.values)]
    if isinstance(node, ast.Name) and node.id in names:
        others = {name: value for name, value in names.items() if name != node.id}
        return [text for value in names[node.id] for text in templates(value, others)]
    return [ANY]


def messages_of(source: str, file: str, wordings: frozenset[str]) -> list[Message]:
    """Returns the messages of one module.

    Args:
      source: Text of the module.
      file: Path of the module, for places and scopes.
      wordings: Scopes all of whose texts of more than one word are messages.

    Returns:
      The messages, in the order of the lines.
    """
    found = []
    for node, function in _nodes(ast.parse(source), None):
        name = getattr(function, "name", "")
        scope = (file, f"{file}::{name}")
        if scope[1] in wordings:
            texts = _texts(function, node)
        elif isinstance(node, ast.Call):
            texts = _made(node, _bound(function))
        elif isinstance(node, ast.Return):
            returned = templates(node.value, _bound(function))
            texts = [text for text in returned if re.match("`.* must ", text)]
        elif isinstance(node, ast.Assign) and function is None:
            (target, *_) = node.targets
            scope = (file, f"{file}::{ast.unparse(target)}")
            is_wording = scope[1] in wordings
            texts = (
                [t for n, _ in _nodes(node, None) for t in _texts(None, n)] if is_wording else []
            )
        else:
            texts = []
        for text in dict.fromkeys(map(normalized, texts)):
            # Only punctuation: the words are another message's.
            if re.search("[A-Za-z]", text):
                found.append(Message(text, f"{file}:{node.lineno}", scope))
    return sorted(found, key=lambda m: int(m.place.rpartition(":")[2]))


def all_texts(source: str) -> set[str]:
    """Returns every text in a module, in the form in which page and code are compared."""
    nodes = ast.walk(ast.parse(source))
    return {normalized(t) for n in nodes if isinstance(n, ast.expr) for t in templates(n, {})}


def exception_names(source: str) -> set[str]:
    """Returns the names of the exceptions that a module defines."""
    return {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    }


def shell_messages(script: Path) -> set[str]:
    """Returns the last words of a shell script: the second argument of `fail`."""
    text = script.read_text().replace("\\\n", "")
    failures = re.findall(r'fail \d "((?:\$\([^)]*\)|[^"])*)"', text)
    return {normalized(re.sub(r"\$\{[^}]*\}|\$\([^)]*\)|\$\w+", ANY, f)) for f in failures}


def _nodes(
    node: ast.AST, function: ast.FunctionDef | None
) -> Iterator[tuple[ast.AST, ast.FunctionDef | None]]:
    """Yields all nodes, each with the function that contains it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant):
            continue  # a piece of a text
        inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield child, inner
        yield from _nodes(child, inner)


def _bound(function: ast.FunctionDef | None) -> dict[str, list[ast.expr]]:
    """Returns the expressions that the names of a function may be bound to."""
    bound: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function) if function else ():
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            bound.setdefault(node.targets[0].id, []).append(node.value)
    return bound


def _made(call: ast.Call, names: dict[str, list[ast.expr]]) -> list[str]:
    """Returns the messages that a call makes, if it makes any."""
    maker = ast.unparse(call.func).rpartition(".")[2]
    if maker == "print" and any(ast.unparse(k.value) == "sys.stderr" for k in call.keywords):
        pattern: str | None = "{0}"
    else:
        pattern = MAKERS.get(maker, "{0}" if maker.endswith("Error") else None)
    if pattern is None:
        return []
    if call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == "%s":
        call = ast.Call(call.func, call.args[1:], [])
    made = [pattern]
    for place in ("{0}", "{1}", "{2}"):
        number = int(place[1])
        argument = call.args[number] if number < len(call.args) else None
        if place in pattern:
            made = [m.replace(place, t) for m in made for t in templates(argument, names)]
    return made


def _texts(function: ast.FunctionDef | None, node: ast.AST) -> list[str]:
    """Returns the texts of more than one word in a node, except its function's docstring."""
    if not isinstance(node, ast.Constant | ast.JoinedStr):
        return []
    if function and isinstance(function.body[0], ast.Expr) and function.body[0].value is node:
        return []
    return [text for text in templates(node, {}) if " " in text.strip()]
