#!/usr/bin/env bash
# Sets up .venv: the locked requirements, and this project with its light client in editable form,
# as the command `tagtower`. Does nothing, silently, when that is done; starts .venv afresh when an earlier set-up
# was interrupted, the locks changed or the checkout moved. It does not choose package sources:
# pip's and uv's own configuration does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv STAMP=.venv/.setup-complete LOG=build/logs/setup.log

# Line 1 stands for what is installed and where (scripts in .venv/bin name their folder), line 2
# for the metadata of the project and of its client.
wanted_stamp() {
  { pwd; cat requirements-setup.lock requirements.lock; } | sha256sum
  cat setup.py client/pyproject.toml | sha256sum
}

is_set_up() {
  [ -f "$STAMP" ] && [ -x "$VENV/bin/python" ] && [ "$(<"$STAMP")" = "$(wanted_stamp)" ]
}

has_requirements() {
  [ -f "$STAMP" ] && [ -x "$VENV/bin/python" ] &&
    [ "$(head -n 1 "$STAMP")" = "$(wanted_stamp | head -n 1)" ]
}

fail() {
  printf 'setup: %s\n' "$2" >&2
  exit "$1"
}

# Prints the path of the Python 3.10 behind a command, if it is one and can make environments. It is
# run, not looked at: a pyenv shim can be on PATH and fail.
resolve_python() {
  "$1" -c 'import ensurepip, sys, venv
sys.version_info[:2] == (3, 10) or sys.exit(1)
print(sys.executable)' 2>/dev/null
}

find_python() {
  resolve_python python3.10 && return
  local candidate
  for candidate in $(printf '%s\n' "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.10.*/bin/python3.10 |
    sort -rV); do
    resolve_python "$candidate" && return
  done
  command -v uv >/dev/null || return 1
  # --system: not the .venv that is about to be replaced.
  resolve_python "$(uv python find --system 3.10 2>/dev/null)" && return
  echo 'setup: installing Python 3.10 with uv' >&2
  uv python install 3.10 >>"$LOG" 2>&1 || return 1
  resolve_python "$(uv python find --system 3.10 2>/dev/null)"
}

# uv does not read pip's configuration. Where uv has none of its own, it gets the user's index,
# local wheels and certificate from there.
adopt_pip_settings() {
  local config=${XDG_CONFIG_HOME:-${HOME:-}/.config}/uv/uv.toml key value
  if [ -n "$(compgen -v UV_ | grep -E 'INDEX|FIND_LINKS|CONFIG_FILE')" ] || [ -f "$config" ] ||
    [ -f /etc/uv/uv.toml ]; then
    return 0
  fi
  # Lines like global.index-url='...'; the environment's come first, as it wins.
  while IFS='=' read -r key value; do
    value=${value#\'} value=${value%\'} value=${value//\\n/ }
    case ${key##*.} in
      index-url) export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$value}" ;;
      extra-index-url) export UV_INDEX="${UV_INDEX:-$value}" ;;
      find-links) export UV_FIND_LINKS="${UV_FIND_LINKS:-${value// /,}}" ;;
      no-index) export UV_NO_INDEX="${UV_NO_INDEX:-$value}" ;;
      cert) export SSL_CERT_FILE="${SSL_CERT_FILE:-$value}" ;;
    esac
  done < <("$VENV/bin/python" -m pip config list 2>>"$LOG")
}

install_bootstrap() {
  "$VENV/bin/python" -m pip install --require-hashes --requirement requirements-setup.lock
}

# No build isolation: the few requirements without a wheel are built with the locked setuptools, not
# with one downloaded beside the lock. Compiled once here, as pip does: TensorFlow is then imported
# in 4 s and not in 10, by every process where PYTHONDONTWRITEBYTECODE is set, as in many containers.
install_requirements() {
  if "$VENV/bin/uv" --version; then
    "$VENV/bin/uv" pip install --python "$VENV/bin/python" --no-build-isolation --require-hashes \
      --compile-bytecode --requirement requirements.lock && return
  fi
  echo 'uv could not install the requirements; using pip, which takes longer.'
  "$VENV/bin/python" -m pip install --no-deps --no-build-isolation --require-hashes \
    --requirement requirements.lock
}

install_project() {
  "$VENV/bin/python" -m pip install --no-deps --no-build-isolation --no-index \
    --editable ./client --editable .
}

# Runs a command as one line of progress with its seconds; what it prints goes to the log.
step() {
  local title=$1 start=$SECONDS status=0
  shift
  printf 'setup: %-44s' "$title"
  printf '\n== %s\n' "$title" >>"$LOG"
  # In a subshell of its own, not in a condition, so that `set -e` holds inside.
  set +e
  (set -e; "$@") >>"$LOG" 2>&1
  status=$?
  set -e
  if [ "$status" -ne 0 ]; then
    echo 'failed'
    local reason
    reason=$(grep -iE 'error|could not|failed' "$LOG" | tail -n 1) || true
    fail 1 "${reason:-$(tail -n 1 "$LOG")} (the whole log: $LOG)"
  fi
  printf '%4d s\n' $((SECONDS - start))
}

is_set_up && exit 0

mkdir -p "$(dirname "$LOG")"
if command -v flock >/dev/null; then
  exec 9>build/logs/setup.lock
  flock --nonblock 9 || { echo 'setup: waiting for another set-up of this checkout'; flock 9; }
  is_set_up && exit 0
fi
: >"$LOG"
unset PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1

if ! has_requirements; then
  platform=$(uname -sm 2>/dev/null || echo 'Linux x86_64')
  [ "$platform" = 'Linux x86_64' ] ||
    fail 2 "the locked TensorFlow, TFX and ScaNN run on Linux on x86-64 only. Received: $platform."
  python=$(find_python) || fail 2 "no working Python 3.10 with venv: install one (your system's\
 python3.10 and python3.10-venv, 'pyenv install 3.10' or 'uv python install 3.10') and try again."
  echo "setup: Python 3.10 is $python; everything goes into $VENV"
  # Without the stamp this environment counts as unfinished, whatever happens from here on.
  rm -f "$STAMP"
  step 'environment' "$python" -m venv --clear "$VENV"
  step 'installer (uv)' install_bootstrap
  adopt_pip_settings
  step "requirements ($(grep -c '==' requirements.lock) packages, about 3 GB)" install_requirements
fi
step 'tagtower' install_project
wanted_stamp >"$STAMP.new"
mv "$STAMP.new" "$STAMP"
echo "setup: done in $SECONDS s"
