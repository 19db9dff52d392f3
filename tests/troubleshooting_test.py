"""docs/troubleshooting.md has every one-line message that a user can meet, and no other.

A message without a row, and a row without a message, fail with the line to add or to take out. In
the page a name in braces stands for what is inserted; a row that begins with `{key}` is that of all
messages that differ in the first quoted name alone. What follows `Received:` is not compared.
"""

import ast
import collections
import functools
import re
from pathlib import Path

import pytest

from serving.model_server.errors import ServingError
from serving.model_server.rest.json_parser import parse_json
from tests.user_messages import (
    ANY,
    MAKERS,
    Message,
    all_texts,
    exception_names,
    messages_of,
    normalized,
    shell_messages,
)

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
PACKAGES = ("trainer", "serving", "tfx_pipeline", "client")

# Functions, and tables of a module, all of whose texts are messages.
WORDINGS = frozenset(
    {
        "tfx_pipeline/evaluation/gate.py::check_index",
        "serving/servable/event_history.py::_check_size",
        "serving/servable/event_inputs.py::_length_checks",
        "serving/servable/event_inputs.py::_shape_checks",
        "serving/servable/event_inputs.py::_value_checks",
        "client/tagtower_client/errors.py::with_advice",
        "client/tagtower_client/errors.py::_ADVICE",
        "client/tagtower_client/errors.py::_HANDSHAKES",
        "serving/model_server/models/known_version.py::place_taken",
        "tfx_pipeline/engines/beam_failure.py::_MEANINGS",
        "tfx_pipeline/engines/beam_failure.py::failure_reason",
        "tfx_pipeline/terminal/full_disk.py::_sentence",
        "tfx_pipeline/evaluation/distributions.py::__str__",
        "tfx_pipeline/evaluation/gate.py::check_model",
        "tfx_pipeline/evaluation/gate.py::_PERSONAL",
        "tfx_pipeline/runs/outcome.py::ensure_pushed",
    }
)

# Why a REST body is not JSON: RapidJSON's texts, each with a body that is refused for it.
PARSE_ERRORS = {
    "The document is empty.": b" ",
    "The document root must not be followed by other values.": b"{}{}",
    "Invalid value.": b"[nul]",
    "Missing a name for object member.": b"{1}",
    "Missing a colon after a name of object member.": b'{"a"}',
    "Missing a comma or } after an object member.": b'{"a": 1',
    "Missing a comma or ] after an array element.": b"[1",
    "Missing a closing quotation mark in string.": b'["a',
    "Invalid escape character in string.": rb'["\q"]',
    "The surrogate pair in string is invalid.": rb'["\ud83d"]',
    "Incorrect hex digit after \\u escape in string.": rb'["\u12"]',
    "Invalid encoding in string.": b'["\xff"]' + b" " * (1 << 21),
    "Miss fraction part in number.": b"[1.]",
    "Miss exponent in number.": b"[1e]",
    "Number too big to be stored in double.": b"[1e400]",
}

# Lines among progress and results that ask the user to do something.
PRINTED = (
    ("tfx_pipeline/commands/run.py", "NOT pushed, a gate held it:"),
    ("tfx_pipeline/commands/reindex.py", "NOT pushed, a gate held it:"),
    ("tfx_pipeline/commands/reindex.py", "rows … set aside, in …"),
    ("tfx_pipeline/commands/batch_predict.py", "… predicted, … errors, in …"),
    (
        "tfx_pipeline/commands/run.py",
        "… is done: run … pushed nothing, and nothing has changed (--again runs it again): …",
    ),
    (
        "tfx_pipeline/commands/study.py",
        "stopped; the same command goes on after the last finished trial",
    ),
    ("tfx_pipeline/study/grid/log_tables.py", "log … is left out: …"),
    (
        "tfx_pipeline/study/trials/trial_loop.py",
        "Finished trials of another version of the code, trained again: … (--accept_changed_code "
        "uses them as they are).",
    ),
    (
        "tfx_pipeline/terminal/row_summary.py",
        "untagged … items have no tags: they and … interactions with them are set aside",
    ),
    (
        "tfx_pipeline/terminal/row_summary.py",
        "profiles … of … users with events have no row in users",
    ),
    ("tfx_pipeline/terminal/row_summary.py", "missing of … users, …"),
    # Message of a check within the graph.
    ("trainer/contract/raw_features.py", "`…` must hold finite numbers, or NaN where unknown"),
    (
        "tfx_pipeline/terminal/row_summary.py",
        "item ids … interactions of unknown_item name an item in another form, …",
    ),
    (
        "tfx_pipeline/terminal/row_summary.py",
        "one time … users have several events, all in one second: none is history of another, "
        "and no cut in time separates them",
    ),
    ("tfx_pipeline/terminal/tables.py", "left out …: …"),
    ("tfx_pipeline/terminal/tables.py", "unsure …"),
    ("tfx_pipeline/components/drift_validator.py", "drift from …: …"),
    (
        "tfx_pipeline/terminal/tables.py",
        "validation users still improved when the budget ended: a higher `training.max_epochs` or "
        "`training.budget_steps` may bring more",
    ),
    (
        "trainer/task.py",
        "warm start: the optimizer is not the last model's, its state is initialised",
    ),
)

LAYER = "arguments of a layer: the configuration checks them, with its own message"
ARRAYS = "shapes of arrays that one function of the project hands to another"
CALLERS = "the words are those of the callers, which have rows of their own"
# By file, `file::function` or text: why only a change of this code can cause the message.
LEFT_OUT = {
    "tfx_pipeline/config/yaml_document.py::_refused": CALLERS,
    "trainer/evaluation/calibration.py": LAYER,
    "trainer/towers/domain_attention.py": LAYER,
    "trainer/towers/dropout.py": LAYER,
    "trainer/evaluation/ease.py": ARRAYS,
    "trainer/towers/feature_cross.py": LAYER,
    "trainer/towers/field_interactions/attentional_fm.py": LAYER,
    "trainer/towers/field_interactions/cross_network.py": LAYER,
    "trainer/towers/field_interactions/registry.py": LAYER,
    "trainer/towers/field_interactions/self_attention.py": LAYER,
    "trainer/towers/item_attention.py": LAYER,
    "trainer/model.py": LAYER,
    "trainer/objectives/sampled_softmax.py": LAYER,
    "trainer/towers/tag_tower.py": LAYER,
    "trainer/towers/tag_views.py::__init__": LAYER,
    "trainer/towers/tag_views.py::embed": LAYER,
    "trainer/towers/user_fields.py": LAYER,
    "trainer/towers/user_tower.py": LAYER,
    "serving/servable/retrieval.py": LAYER,
    "serving/index/scann_index.py::__init__": LAYER,
    "serving/index/scann_index.py::__post_init__": LAYER,
    "serving/servable/tag_filter.py": LAYER,
    "serving/index/top_k.py": ARRAYS,
    "serving/index/evaluation.py": "files that the run itself has written",
    "client/tagtower_client/tensor_proto.py": "the server words an unreadable tensor itself",
    "serving/batch/input.py::_refuse_constant": "quoted in `The line is not JSON`",
    "serving/model_server/grpc/handlers.py::_with_errors": "gRPC's `abort` raises by itself",
    "The caller has gone.": "told to nobody",
    "serving/model_server/rest/json_tensor.py::format_error": CALLERS,
    "client/tagtower_client/feature_tensors.py::_wrong_kind": CALLERS,
    "client/tagtower_client/requirement.py::require": CALLERS,
    "client/tagtower_client/messages.py": "the table of messages in the same module",
    "client/tagtower_client/__init__.py": "Python's own words for a name that a module lacks",
    "trainer/evaluation/figures.py": ARRAYS,
    "trainer/data/input_data.py": "files that the run itself has written",
    "tfx_pipeline/study/trials/hidden_tags.py::evaluate_new_tags": ARRAYS,
    "tfx_pipeline/study/trials/hidden_tags.py::held_out_tags_experiment": ARRAYS,
    "trainer/data/snapshots.py": ARRAYS,
    "trainer/contract/tag_items.py": ARRAYS,
    "trainer/towers/tag_views.py::__post_init__": ARRAYS,
    "tfx_pipeline/__init__.py": "Python's own words for a name that a module lacks",
    "trainer/contract/signature_specs.py": "the code that makes a graph, and the table beside it",
    "tfx_pipeline/reference/signatures.py": "`make docs`, where the page has lost a comment",
    "tfx_pipeline/reference/commands.py": "`make docs`, where a flag has no description",
    "tfx_pipeline/reference/configuration.py": "`make docs`, where a key has no description",
    "tfx_pipeline/datasets/demo_config.py::_require": CALLERS,
    "tfx_pipeline/datasets/planted.py": ARRAYS,
    "tfx_pipeline/study/grid/budgets.py": ARRAYS,
    "tfx_pipeline/study/statistics.py": ARRAYS,
    "tfx_pipeline/tables/item_catalogue.py::attribute": ARRAYS,
    "tfx_pipeline/tables/tag_vectors.py::_refusal": CALLERS,
    "tfx_pipeline/tables/tag_vectors.py::_require_none": CALLERS,
    "`make_replica` must be given with a strategy.": ARRAYS,
    "CANCELLED: client cancelled|UNAVAILABLE": "Java's words, looked for and not shown",
    "Timeout has occurred|NoResourceAvailable": "Java's words, looked for and not shown",
}


def row_messages(page: str) -> list[str]:
    """Returns the messages of the page's tables `| message | cause | remedy |`, as written."""
    return [cells[0] for cells in _rows(page, "message")]


def forms(message: str) -> set[str]:
    """Returns the rows that fit a message: its own, and that of all keys with this demand."""
    quoted = message.split("`", 2)
    return {message, f"`{ANY}`{quoted[2]}"} if message.startswith("`") else {message}


def without_row(messages: list[Message], rows: list[str]) -> list[str]:
    """Returns, for each message without a row, what to do."""
    known = set(map(normalized, rows))
    return [
        f"{m.place}: docs/troubleshooting.md lacks the row | {m.text} | cause | remedy |"
        for m in messages
        if not forms(m.text) & known
    ]


def without_message(rows: list[str], messages: list[Message]) -> list[str]:
    """Returns, for each row that no code raises, what to do."""
    known = {form for m in messages for form in forms(m.text)}
    return [
        f"docs/troubleshooting.md: no code has this message, take the row out: {row}"
        for row in rows
        if normalized(row) not in known
    ]


def _modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@functools.cache
def _found() -> tuple[Message, ...]:
    return tuple(
        message
        for path in _modules()
        for message in messages_of(path.read_text(), str(path.relative_to(ROOT)), WORDINGS)
    )


def _met_by_users() -> list[Message]:
    found = [m for m in _found() if not LEFT_OUT.keys() & {m.text, *m.scope}]
    script = ROOT / "scripts" / "setup.sh"
    found += [Message(text, script.name, (script.name, "fail")) for text in shell_messages(script)]
    found += [Message(text, "RapidJSON", ("RapidJSON", "")) for text in PARSE_ERRORS]
    return found + [Message(text, file, (file, "")) for file, text in PRINTED]


def _rows(page: str, first_column: str) -> list[list[str]]:
    """Returns the rows of all tables whose first column has this title."""
    rows, title = [], ""
    for line in page.splitlines():
        if not line.startswith("|"):
            title = ""
            continue
        cells = [c.strip() for c in line.replace("\\|", "\0").strip("|").split("|")]
        cells = [cell.replace("\0", "|") for cell in cells]
        title = title or cells[0]
        if title == first_column and cells[0] != title and not set(cells[0]) <= set("- "):
            rows.append(cells)
    return rows


def _constants(file: str, names: str) -> list[str]:
    """Returns the values of the constants that a module's tuple `names` lists."""
    values: dict[str, ast.expr] = {}
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            values[ast.unparse(target)] = node.value
    return [ast.literal_eval(values[ast.unparse(item)]) for item in values[names].elts]


class TestPageAndCode:
    def test_every_message_has_a_row(self):
        assert without_row(_met_by_users(), row_messages(PAGE.read_text())) == []

    def test_every_row_is_a_message(self):
        assert without_message(row_messages(PAGE.read_text()), _met_by_users()) == []

    def test_a_row_has_a_message_a_cause_and_a_remedy(self):
        wrong = [r for r in _rows(PAGE.read_text(), "message") if len(r) != 3 or not all(r)]
        assert wrong == []

    def test_no_message_has_two_rows(self):
        rows = collections.Counter(map(normalized, row_messages(PAGE.read_text())))
        assert [row for row, number in rows.items() if number > 1] == []

    def test_every_printed_line_is_in_its_module(self):
        gone = [(f, t) for f, t in PRINTED if t not in all_texts((ROOT / f).read_text())]
        assert gone == []

    @pytest.mark.parametrize("reason", PARSE_ERRORS)
    def test_every_parse_error_is_said_of_its_body(self, reason):
        with pytest.raises(ServingError) as caught:
            parse_json(PARSE_ERRORS[reason])
        assert caught.value.message.startswith(f"JSON Parse error: {reason} at offset: ")

    def test_what_is_left_out_is_there(self):
        scopes = {name for message in _found() for name in (message.text, *message.scope)}
        assert sorted(LEFT_OUT.keys() - scopes) == []

    def test_every_exception_makes_messages(self):
        defined = set().union(*(exception_names(path.read_text()) for path in _modules()))
        unknown = {name for name in defined if not name.endswith("Error")} - MAKERS.keys()
        assert sorted(unknown) == ["_Described"]  # of `memory_estimate`: caught there, says nothing

    def test_every_wording_is_there(self):
        assert sorted(WORDINGS - {message.scope[1] for message in _found()}) == []

    def test_every_reason_of_a_rejected_row_is_explained_in_order(self):
        reasons = _constants("tfx_pipeline/tables/schema.py", "REJECT_REASONS")
        explained = [cells[0].strip("`") for cells in _rows(PAGE.read_text(), "reason")]
        assert explained == reasons

    def test_every_reason_of_a_tag_set_aside_is_explained_in_order(self):
        source = (ROOT / "tfx_pipeline/runs/tag_file.py").read_text()
        reasons = [
            ast.literal_eval(node.value)
            for node in ast.parse(source).body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and re.fullmatch("[a-z_]+", str(node.value.value))
        ]
        explained = [cells[0].strip("`") for cells in _rows(PAGE.read_text(), "reason of a tag")]
        assert explained == reasons


class TestMessagesOf:
    """Tests what counts as a message, on modules of a line or two."""

    @pytest.mark.parametrize(
        ("source", "texts"),
        [
            ('raise ValueError(f"`{a}` must go. Received: {a!r}.")', ["`…` must go."]),
            ('require(ok, "a.b", f"be at most {n}", n)', ["`a.b` must be at most …."]),
            ('require(ok, name, "be " "even", n)', ["`…` must be even."]),
            ('raise invalid_argument("bad" + " body")', ["bad body"]),
            ('raise ServingError(code, f"no {x}")', ["no …"]),
            ('_logger.warning("%s is there %d times", a, n)', ["… is there … times"]),
            ('print(f"{n} cut off", file=sys.stderr)', ["… cut off"]),
            ('raise ValueError("list" if many else "one")', ["list", "one"]),
            (
                'def f():\n  text = f"no {x}"\n  raise ValueError(text)',
                ["no …"],
            ),
            ('raise ValueError(why(x) or f"no {x}")', ["no …"]),
            ('raise NotFoundError("{} is " "gone")', ["… is gone"]),
            ('def f(x):\n  return f"`x` must be even, {x} is not"', ["`x` must be even, … is not"]),
            ('line = f"no {x}"\n_logger.warning("%s", "no file")', ["no file"]),
            # These are not messages: an answer, progress, quoted words, and look-alikes.
            ('print("4 tags")', []),
            ('_logger.info("loading")', []),
            ("raise ValueError(str(error))", []),
            ('raise ValueError(f"{path}: {error}")', []),
            ('"""`x` must be even."""', []),
        ],
    )
    def test_a_module_has_these(self, source, texts):
        assert [m.text for m in messages_of(source, "a.py", frozenset())] == texts

    def test_all_texts_of_a_wording_are_messages_and_its_docstring_is_not(self):
        source = 'def why(n):\n  """Says why."""\n  return f"only {n} users" if n else "no user"\n'
        found = messages_of(source, "a.py", frozenset({"a.py::why"}))
        assert [(m.text, m.place) for m in found] == [
            ("only … users", "a.py:3"),
            ("no user", "a.py:3"),
        ]

    def test_all_texts_of_a_table_of_words_are_messages(self):
        source = 'WORDS = {1: "is it up?"}\nOTHERS = {1: "is it down?"}\n'
        found = messages_of(source, "a.py", frozenset({"a.py::WORDS"}))
        assert [m.text for m in found] == ["is it up?"]


class TestComparison:
    """Tests a message against a page of one row."""

    @pytest.mark.parametrize(
        ("row", "has_row"),
        [
            ("`k` must be even, {why}.", True),
            ("`{key}` must be even, {why}.", True),
            ("`k` must be even, {why}. Received: {k}.", True),
            ("`k` must be even.", False),
            ("`n` must be even, {why}.", False),
            ("{anything}", False),
        ],
    )
    def test_a_row_is_a_message_or_the_same_demand_of_any_key(self, row, has_row):
        message = Message("`k` must be even, ….", "a.py:7", ("a.py", "a.py::f"))
        assert (without_row([message], [row]) == []) == has_row
        assert (without_message([row], [message]) == []) == has_row

    def test_a_new_message_is_told_with_the_row_to_add(self):
        (message,) = messages_of('raise ValueError(f"no {x}")', "a.py", frozenset())
        assert without_row([message], []) == [
            "a.py:1: docs/troubleshooting.md lacks the row | no … | cause | remedy |"
        ]

    def test_rows_are_those_of_tables_of_messages(self):
        page = "| message | cause | remedy |\n| --- | --- | --- |\n| a \\| b | c | d |\n\n"
        assert row_messages(page + "| reason | cause |\n| --- | --- |\n| e | f |\n") == ["a | b"]


def test_a_shell_script_ends_with_these(tmp_path):
    script = tmp_path / "setup.sh"
    script.write_text('fail 2 "no $platform:\\\n get one"\nfail 1 "${a:-$(tail x)} (see $LOG)"\n')
    assert shell_messages(script) == {"no …: get one", "… (see …)"}
