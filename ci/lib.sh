# Shared by the scripts of this folder: source it first. It moves to the repository's root, keeps the counts and prints
# the plain last line. Nothing is taken from the environment except PATH and HOME; nothing is read from stdin.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

# Quiet tools that leave no process behind: a build node that survives would keep the caller's pipe open.
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1 MSBUILDDISABLENODEREUSE=1

passed=0
failed=0
skipped=0

pass() { passed=$((passed + 1)); echo "ok       $*"; }
fail() { failed=$((failed + 1)); echo "FAILED   $*"; }
skip() { skipped=$((skipped + 1)); echo "SKIPPED  $*"; }

# The last line of every script, alone on it; the exit code says the same.
finish() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
}

# The command line as built by ci/build.
pvdf() { dotnet run -c Release --no-build --project harness/PvDiffFuzz.Cli -- "$@"; }

# The first number under a key of a JSON text on stdin; 0 when the key is not there.
json_number() {
  local number
  number=$(tr -d '\n' | grep -oE "\"$1\"[[:space:]]*:[[:space:]]*[0-9]+" | head -n 1 | grep -oE '[0-9]+$' || true)
  echo "${number:-0}"
}

# A folder that is removed when the script ends.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pvdf-ci.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
