#!/bin/sh
# Adds ScaNN's ops to TensorFlow Serving's build: link_scann_ops.sh SERVING_DIR SCANN_DIR
#
# ScaNN's build is changed to use the TensorFlow that Serving builds instead of an installed one.
# Its Python bindings are removed, its ops become a library that is always linked, and Serving links
# that library.
set -eu

serving=$1
scann=$2

fail() {
  echo "link_scann_ops.sh: $1" >&2
  exit 1
}

ops=$scann/scann/scann_ops/cc
[ -f "$ops/BUILD.bazel" ] || fail "$ops/BUILD.bazel is missing"
servers=$serving/tensorflow_serving/model_servers/BUILD
workspace=$serving/tensorflow_serving/workspace.bzl

find "$scann" -name BUILD.bazel -exec sed -i \
  -e 's|"@local_config_tf//:libtensorflow_framework"|"@org_tensorflow//tensorflow/core:tensorflow_opensource"|' \
  -e '/"@local_config_tf\/\/:tf_header_lib"/d' {} +

rm -rf "$ops/python"
sed -i -e '/^load("@pybind11_bazel/d' -e '/^pybind_library(/,/^)/d' "$ops/BUILD.bazel"
cat >>"$ops/BUILD.bazel" <<'END'

cc_library(
    name = "scann_ops_static",
    visibility = ["//visibility:public"],
    deps = [
        ":scann_ops",
        ":scann_ops_kernels",
    ],
    alwayslink = 1,
)
END

sed -i 's|^\( *\)"@org_tensorflow_text//tensorflow_text:ops_lib",|&\n\1"@com_google_scann//scann/scann_ops/cc:scann_ops_static",|' "$servers"

# The text is appended to tf_serving_workspace(), the last function of the file. Abseil and protobuf
# are Serving's: ScaNN 1.3.2 and TensorFlow 2.16 need the same versions.
grep -q '^def tf_serving_workspace' "$workspace" || fail "$workspace has no tf_serving_workspace"
cat >>"$workspace" <<END

    native.local_repository(
        name = "com_google_scann",
        path = "$scann",
    )
    http_archive(
        name = "com_google_highway",
        strip_prefix = "highway-1.2.0",
        urls = ["https://github.com/google/highway/archive/refs/tags/1.2.0.tar.gz"],
    )
    http_archive(
        name = "cnpy",
        strip_prefix = "cnpy-57184ee0db37cac383fc29175950747a46a8b512",
        urls = ["https://github.com/sammymax/cnpy/archive/57184ee0db37cac383fc29175950747a46a8b512.tar.gz"],
    )
END

# Another version of either source may have other texts: fail here in that case.
grep -q 'com_google_scann//scann/scann_ops/cc:scann_ops_static' "$servers" ||
  fail "$servers does not list tensorflow_text's ops, beside which ScaNN's are put"
if grep -rn --include=BUILD.bazel -e '@local_config_tf' -e pybind "$scann/scann"; then
  fail "the lines above still ask for an installed TensorFlow or for pybind11"
fi
