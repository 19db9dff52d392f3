"""docs/known_holes.toml agrees with the lock; the facts behind its verdicts hold."""

import re
from pathlib import Path

import pytest
import tomli
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2

ROOT = Path(__file__).parent.parent
HOLES = tomli.loads((ROOT / "docs" / "known_holes.toml").read_text(encoding="utf-8"))["hole"]
KEYS = {
    "package",
    "version",
    "id",
    "what",
    "verdict",
    "how",
    "checked",
    "fixed_in",
    "not_taken",
}
VERDICTS = {"closed", "not reached", "accepted"}
ID = re.compile(
    r"CVE-\d{4}-\d{4,}|GHSA(-[23456789cfghjmpqrvwx]{4}){3}|PYSEC-\d{4}-\d+",
)


def locked_versions() -> dict[str, str]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^\s\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("hole", HOLES, ids=lambda hole: f"{hole['package']} {hole['id']}")
def test_hole_is_judged_for_the_locked_version(hole):
    assert set(hole) == KEYS
    assert locked_versions().get(hole["package"]) == hole["version"], (
        f"{hole['package']} has moved in the lock: judge {hole['id']} anew in docs/known_holes.toml"
    )
    assert ID.fullmatch(hole["id"]), hole["id"]
    assert hole["verdict"] in VERDICTS
    for key in KEYS - {"fixed_in"}:
        assert hole[key].strip() == hole[key] != "", key
    for path in re.findall(r"(?:tests|trainer|serving|scripts|docs)/[\w/]+\.\w+", str(hole)):
        assert (ROOT / path).exists(), path


def test_each_hole_is_there_once():
    found = [(hole["package"], hole["id"]) for hole in HOLES]

    assert len(set(found)) == len(found)


def test_security_page_names_every_hole():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")

    assert [hole["id"] for hole in HOLES if hole["id"] not in page] == []


# --- what verdicts rest on ---


def test_messages_are_parsed_by_protobufs_parser_in_c():
    assert api_implementation.Type() == "cpp"
    deep = tensor_pb2.TensorProto()
    for _ in range(200):
        outer = tensor_pb2.TensorProto()
        outer.variant_val.add().tensors.add().CopyFrom(deep)
        deep = outer
    with pytest.raises(DecodeError):
        tensor_pb2.TensorProto.FromString(deep.SerializeToString())


# A use of a vulnerable function, which this code must not have.
UNUSED = [
    r"json_format\.Parse|json_format import .*Parse",
    r"\bload_model\(|model_from_json|keras\.models",
    r"tcp_tx_zerocopy",
    r"^\s*(?:import|from) (?:urllib3|requests|jsonpickle|joblib|sklearn|nltk|IPython)\b",
    r"^\s*(?:import|from) (?:h5py|dill|pickle)\b",
]


@pytest.mark.parametrize("pattern", UNUSED)
def test_packages_do_not_use_it(pattern):
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("trainer", "serving", "tfx_pipeline", "client")
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line)
    ]

    assert found == []
