"""Information on models: GetModelStatus and GetModelMetadata, for gRPC and REST."""

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from serving.model_server.errors import invalid_argument, not_found
from serving.model_server.models.manager import ModelManager

_SIGNATURE_DEF = "signature_def"


def model_status(
    manager: ModelManager, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers GetModelStatus for one version or all, highest first; a label is ignored.

    Raises:
      ServingError: If `model_spec` is missing, or the model or version is unknown.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    model = manager.models.get(spec.name)
    statuses = model.statuses() if model else []
    if spec.HasField("version"):
        statuses = [status for status in statuses if status.version == spec.version.value]
        if not statuses:
            raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
    if not statuses:
        raise not_found(f"Could not find any versions of model {spec.name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in statuses:
        answer = response.model_version_status.add(version=status.version, state=int(status.state))
        answer.status.error_code = status.code.value[0]
        answer.status.error_message = status.message
    return response


def model_metadata(
    manager: ModelManager, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers GetModelMetadata, whose only field is the signatures.

    Raises:
      ServingError: If `model_spec` or the field is missing, another field is asked for, or the
        version is not available.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != _SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    with manager.acquire(request.model_spec) as lease:
        for name, definition in lease.servable.signature_defs.items():
            signatures.signature_def[name].CopyFrom(definition)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = lease.version
    response.metadata[_SIGNATURE_DEF].Pack(signatures)
    return response
