"""CuratedSchema: the schema declared by the configuration, as an artifact."""

import os

from tfx import v1 as tfx

from trainer.contract.whole_files import write_text

SCHEMA_FILE = "schema.pbtxt"


@tfx.dsl.components.component
def CuratedSchema(  # noqa: N802 (a component is a class to its callers)
    schema: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Schema],
    text: tfx.dsl.components.Parameter[str],
) -> None:
    """Writes the declared schema as an artifact.

    TFX's SchemaGen infers a schema from the data, which then has no anomalies; this one is
    declared, and data that departs from it fails the run.

    Args:
      schema: Schema artifact to write.
      text: Schema as protobuf text.
    """
    write_text(os.path.join(schema.uri, SCHEMA_FILE), text)
