#!/bin/sh
# Starts TensorFlow Serving with the settings of Vertex AI's environment variables:
#
#   AIP_HTTP_PORT      port to listen on (8080)
#   AIP_STORAGE_URI    the base path, a folder with numbered versions, or the folder of one version
#   AIP_PREDICT_ROUTE  /v1/models/NAME:predict
#   AIP_HEALTH_ROUTE   /v1/models/NAME
#
# TensorFlow Serving's routes are fixed, while Vertex's are chosen when a model is uploaded: choose
# them there in this form. Arguments are passed to the server as further flags.
set -eu

fail() {
  echo "entrypoint.sh: $1" >&2
  exit 2
}

port=${AIP_HTTP_PORT:-8080}
predict_route=${AIP_PREDICT_ROUTE:-/v1/models/default:predict}
health_route=${AIP_HEALTH_ROUTE:-/v1/models/default}
storage=${AIP_STORAGE_URI:-/models/default}
config=${TAGTOWER_MODELS_CONFIG:-/tmp/models.config}

case $predict_route in
  /v1/models/*:predict) ;;
  *) fail "AIP_PREDICT_ROUTE must be /v1/models/NAME:predict. Received: $predict_route." ;;
esac
name=${predict_route#/v1/models/}
name=${name%:predict}
case $name in
  "" | *[!A-Za-z0-9_-]*) fail "AIP_PREDICT_ROUTE must name a model in letters, digits, - and _. Received: $predict_route." ;;
esac
[ "$health_route" = "/v1/models/$name" ] ||
  fail "AIP_HEALTH_ROUTE must be /v1/models/$name. Received: $health_route."

base_path=${storage%/}
last=${base_path##*/}
policy='latest { num_versions: 1 }'
case $last in
  "" | *[!0-9]*) ;;
  *)
    base_path=${base_path%/*}
    policy="specific { versions: $last }"
    ;;
esac

cat >"$config" <<END
model_config_list {
  config {
    name: "$name"
    base_path: "$base_path"
    model_platform: "tensorflow"
    model_version_policy { $policy }
  }
}
END

exec tensorflow_model_server \
  --port=8500 \
  --rest_api_port="$port" \
  --model_config_file="$config" \
  --monitoring_config_file=/etc/tagtower/monitoring.conf \
  --enable_model_warmup=true \
  "$@"
