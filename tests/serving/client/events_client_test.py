"""Users' events in, tags and instances out; versions and labels of calls."""

import asyncio
import datetime

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.client import EventFeatures
from tagtower_client import AsyncTagClient, TagClient, TagClientError
from tagtower_client.dialogues import Dialogues
from tagtower_client.event_tensors import read_users
from tagtower_client.feature_tensors import InputSlot
from tagtower_client.messages import GetModelMetadataResponse
from tests.serving.client.listening_towers import SPEC
from trainer.contract.tag_normalization import TagNormalization

AT = 1_000_000
EVENTS = [
    {"item_id": 1, "timestamp": AT - 30, "clicked": 1, "tags": ["Jazz", "folk"]},
    {"item_id": "2", "timestamp": (AT - 20) * 1000, "clicked": 0, "tags": ["metal"]},
    {"item_id": "3", "timestamp": "1970-01-12T13:46:30Z", "clicked": 1, "tags": [" jazz "]},
    {"item_id": "4", "timestamp": AT, "clicked": 1, "tags": ["techno"]},  # not before `AT`
    {"item_id": "5", "timestamp": AT - 5, "clicked": 1, "tags": []},
]
NO_EVENTS: list = []


@pytest.fixture
def client(target):
    with TagClient(target, timeout_s=60) as client:
        yield client


def test_instances_are_those_that_python_computes(client):
    features = EventFeatures(SPEC, TagNormalization())

    answer = client.event_features([EVENTS, NO_EVENTS], [{"country": "at"}, None], AT)

    assert answer.model_version == 1
    assert answer.instances == (
        {"country": "at", "clicked_tags": ["jazz", "folk"], "clicked_tags_weights": [2.0, 1.0]},
        {"country": "", "clicked_tags": [], "clicked_tags_weights": []},
    )
    assert answer.instances[0] == features.instance(EVENTS, {"country": "at"}, AT)
    assert answer.instances[1] == features.instance(NO_EVENTS, None, AT)


def test_tags_whose_accents_stand_apart_are_those_of_python(client):
    # The last one composes in lower case alone.
    tags = ["Cafe\u0301", "Caf\u00e9", "folk", "J\u030cazz"]
    events = [{**EVENTS[0], "tags": iter(tags)}]

    (found,) = client.event_features([events], at=AT).instances

    events = [{**EVENTS[0], "tags": tags}]
    assert found == EventFeatures(SPEC, TagNormalization()).instance(events, at=AT)
    assert found["clicked_tags"] == ["caf\u00e9", "folk", "\u01f0azz"]


def test_a_user_may_have_more_events_than_a_request_may_have_users(client):
    events = [{**EVENTS[0], "item_id": f"i{i}"} for i in range(5000)]

    (found,) = client.event_features([events], at=AT).instances

    assert found["clicked_tags_weights"] == [5000.0, 5000.0]


def test_tags_that_are_no_list_are_refused(client):
    with pytest.raises(ValueError, match="`tags` must be a list of strings. Received: tags=5"):
        client.event_features([[{**EVENTS[0], "tags": 5}]], at=AT)


def test_tags_by_events_are_those_of_the_instances(client):
    answer = client.retrieve_events([EVENTS, NO_EVENTS], [{"country": "at"}, {}], AT, num_tags=2)

    instances = client.event_features([EVENTS, NO_EVENTS], [{"country": "at"}, {}], AT).instances
    assert answer == client.retrieve(instances, num_tags=2)
    # [0, 2, 0] + 2 * [3, 1, 0] + [1, -1, 2] = [7, 3, 2]: jazz 24, blues 16, metal 12.
    assert answer.profiles[0].tags == ("jazz", "blues")
    assert answer.profiles[0].scores == (24.0, 16.0)
    # The instances go to the other calls as they are.
    assert client.score_tags(instances, [["folk"], ["folk"]]).users[0].scores == (8.0,)
    assert client.explain(instances[:1], ["jazz"]).explanations[0].score == 24.0


def test_a_time_is_a_number_or_a_datetime_and_now_without_one(client):
    moment = datetime.datetime(1970, 1, 12, 13, 46, 40)  # `AT`; without a zone it is UTC
    east = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2)))

    found = [
        client.event_features([EVENTS], at=at).instances[0]["clicked_tags"]
        for at in (AT, moment, AT - 25, east, None)
    ]

    assert found == [
        ["jazz", "folk"],
        ["jazz", "folk"],
        ["folk", "jazz"],  # one each, in order of the strings
        [],  # two hours before
        ["jazz", "folk", "techno"],
    ]


def test_asyncio_client_gives_the_same(target, client):
    async def ask():
        async with AsyncTagClient(target, timeout_s=60) as asked:
            return (
                await asked.retrieve_events([EVENTS], [{"country": "at"}], AT, num_tags=3),
                await asked.event_features([EVENTS], [{"country": "at"}], AT, label="stable"),
            )

    assert asyncio.run(ask()) == (
        client.retrieve_events([EVENTS], [{"country": "at"}], AT, num_tags=3),
        client.event_features([EVENTS], [{"country": "at"}], AT),
    )


@pytest.mark.parametrize(
    ("events", "profiles", "at", "message"),
    [
        ([], None, AT, "`events_of_users` must hold the events of at least one user."),
        (EVENTS, None, AT, "`events_of_users` must be one list of events for each user."),
        ([[{**EVENTS[0], "clicked": 2}]], None, AT, "`clicked` must be 0 or 1."),
        ([[{**EVENTS[0], "timestamp": "soon"}]], None, AT, "`timestamp` must be seconds"),
        ([[{**EVENTS[0], "tags": [1]}]], None, AT, "`tags` must be a list of strings."),
        ([[{**EVENTS[0], "tags": "jazz"}]], None, AT, "`tags` must be a list of strings."),
        (
            [[{**EVENTS[0], "tags": ["\ud83d"]}]],
            None,
            AT,
            "`tags` must be text that UTF-8",
        ),
        ([[{"item_id": 1}]], None, AT, "`events` must have the tags of their item."),
        ([EVENTS], [{}, {}], AT, "`profiles` must have one mapping for each of the 1 users."),
        ([EVENTS], [{"land": "at"}], AT, "`profiles[0]` must name features of the model (country)"),
        ([EVENTS], [{"country": 3}], AT, "`country` of `profiles[0]` must be a string."),
        ([EVENTS], None, AT * 1e9, "`at` must be a time in seconds since 1970, UTC"),
        ([EVENTS], None, float("nan"), "`at` must be a time in seconds since 1970, UTC"),
    ],
)
def test_wrong_argument_is_one_line_that_names_it(client, events, profiles, at, message):
    with pytest.raises(ValueError) as caught:
        client.retrieve_events(events, profiles, at)

    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert "Received: " in str(caught.value)


def test_category_and_weight_are_sent_where_the_model_takes_them():
    text, number = InputSlot(is_text=True, is_list=False), InputSlot(is_text=False, is_list=False)
    slots = {name: text for name in ("event_tags", "event_item_id", "event_category")}
    slots |= {name: number for name in ("num_events", "event_weight", "event_num_tags", "now")}
    events = [{**EVENTS[0], "category": "old\nnew", "weight": 0.1}, {**EVENTS[1], "category": None}]

    sent = read_users([events, []], None, AT).to_tensors(slots)

    assert sent.keys() == slots.keys()
    assert sent["event_category"].tolist() == [b"old new", b""]
    assert sent["event_weight"].tolist() == [np.float32(0.1), 1.0]
    assert sent["event_num_tags"].tolist() == [2, 1] and sent["num_events"].tolist() == [2, 0]
    assert sent["event_tags"].tolist() == [b"Jazz", b"folk", b"metal"]
    assert sent["event_item_id"].tolist() == [b"1", b"2"]
    assert sent["now"].tolist() == [AT, AT]
    with pytest.raises(ValueError, match=r"^`events` must have the category of their item\."):
        read_users([EVENTS], None, AT).to_tensors(slots)


# Versions and labels.


def test_every_call_takes_a_version_or_a_label(client):
    users = [{"country": "at", "clicked_tags": ["jazz"]}]
    calls = [
        (client.retrieve, (users,)),
        (client.retrieve_filtered, (users,)),
        (client.retrieve_events, ([EVENTS],)),
        (client.event_features, ([EVENTS],)),
        (client.score_tags, (users, [["jazz"]])),
        (client.score_items, (users, [[["jazz"]]])),
        (client.explain, (users, ["jazz"])),
        (client.similar_tags, (["jazz"],)),
        (client.predict, ({}, "candidates")),
    ]
    for call, arguments in calls:
        assert call(*arguments, version=1).model_version == 1
        assert call(*arguments, label="stable").model_version == 1
        with pytest.raises(TagClientError, match="NOT_FOUND"):
            call(*arguments, version=2)
        with pytest.raises(TagClientError, match="canary"):
            call(*arguments, label="canary")
    assert [status.version for status in client.model_status(version=1)] == [1]
    with pytest.raises(TagClientError, match="NOT_FOUND"):
        client.model_status(version=2)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"version": 1, "label": "stable"}, "`version` must be left out where a `label` names"),
        ({"version": -1}, "`version` must be the number of a version. Received: version=-1."),
        ({"version": "1"}, "`version` must be the number of a version. Received: version='1'."),
        ({"version": True}, "`version` must be the number of a version. Received: version=True."),
        ({"label": ""}, "`label` must be the name of a label. Received: label=''."),
        ({"label": 3}, "`label` must be the name of a label. Received: label=3."),
    ],
)
def test_wrong_choice_of_a_version_is_refused_before_anything_is_sent(chosen, message):
    with TagClient("127.0.0.1:1") as client, pytest.raises(ValueError) as caught:
        client.retrieve([{}], **chosen)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("call", ["retrieve_events", "event_features"])
def test_version_without_events_is_named_in_one_line(call):
    known = get_model_metadata_pb2.SignatureDefMap()
    known.signature_def["retrieve"].inputs["country"].dtype = types_pb2.DT_STRING
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.metadata["signature_def"].Pack(known)
    more = [3] if call == "retrieve_events" else []
    dialogue = getattr(Dialogues("toy").of(4, None), call)([EVENTS], None, AT, *more)
    asked = next(dialogue)
    assert (asked.request.model_spec.name, asked.request.model_spec.version.value) == ("toy", 4)

    with pytest.raises(TagClientError) as caught:
        dialogue.send(GetModelMetadataResponse.FromString(answer.SerializeToString()))

    assert str(caught.value) == (
        f"FAILED_PRECONDITION: Model `toy` has no signature `{call}_flat`. Its version is older "
        "than that, or its model has no domains. Its signatures: retrieve."
    )
