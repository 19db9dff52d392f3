"""What a caller of the light client does, run by the interpreter of a fresh environment.

    python -I light_caller.py HOST:PORT

It prints JSON: the answers, the versions of what is installed, and what was imported. It must run
with Python 3.9, and import nothing but the client.
"""

import asyncio
import json
import sys
import time

USERS = [{"country": "at", "clicked_tags": ["jazz", "folk"]}, {"clicked_tags": ["metal"]}]
AT = 1_000_000
EVENTS = [
    {"item_id": 1, "timestamp": AT - 30, "clicked": 1, "tags": ["Jazz", "folk"]},
    {"item_id": "2", "timestamp": AT - 20, "clicked": 1, "tags": ["metal"]},
]


def blocking(client_class, target):
    """Returns the answers of the blocking client as plain values."""
    with client_class(target, timeout_s=60) as client:
        retrieved = client.retrieve(USERS, num_tags=3)
        instances = client.event_features([EVENTS], [{"country": "at"}], AT, version=1).instances
        return {
            "tags": [profile.tags for profile in retrieved.profiles],
            "scores": [profile.scores for profile in retrieved.profiles],
            "version": retrieved.model_version,
            "by_label": client.retrieve(USERS, num_tags=3, label="stable") == retrieved,
            "instances": instances,
            "explained": client.explain(instances, ["jazz"]).explanations[0].score,
            "state": client.model_status()[0].state,
        }


async def concurrent(client_class, target):
    """Returns the tags that three calls at once of the asyncio client find by events."""
    async with client_class(target, timeout_s=60) as client:
        calls = [client.retrieve_events([EVENTS], at=AT, num_tags=2) for _ in range(3)]
        return [answer.profiles[0].tags for answer in await asyncio.gather(*calls)]


def main(target):
    """Calls the server at `target` and prints what came of it."""
    began = time.perf_counter()
    from tagtower_client import AsyncTagClient, TagClient, TagClientError

    import_s = time.perf_counter() - began
    answers = blocking(TagClient, target)
    answers["concurrent"] = asyncio.run(concurrent(AsyncTagClient, target))
    try:
        with TagClient(target, model_name="other", timeout_s=60) as client:
            client.retrieve(USERS)
    except TagClientError as error:
        answers["refused"] = error.code.name
    tops = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
    heavy = {"tensorflow", "tfx", "apache_beam", "trainer", "serving", "pydantic"}
    answers["heavy"] = sorted(tops & heavy)
    import google.protobuf

    answers["protobuf"] = google.protobuf.__version__
    answers["import_s"] = import_s
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1])
