"""The schema and the folder of `interactions` that the readers of data sets write."""

from trainer.contract.arrow import pa

INTERACTIONS_FOLDER = "interactions"
INTERACTIONS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("timestamp", pa.int64()),
        pa.field("clicked", pa.int8()),
    ]
)
