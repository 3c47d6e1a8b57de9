# Shared by ci/fuzz-afl and ci/fuzz-libfuzzer: source it after lib.sh.

# Builds the fuzz targets with SharpFuzz and lets its tool put probes into a copy.
# $1: folder with the packages, or empty for the usual sources; $2: where the copy goes.
instrumented_targets() {
  local source=() tool
  [ -z "$1" ] || source=("-p:RestoreAdditionalProjectSources=$1")
  dotnet build -c Release tests/PvDiffFuzz.FuzzTargets -p:UseSharpFuzz=true "${source[@]}" --verbosity quiet -p:UseSharedCompilation=false
  cp -r tests/PvDiffFuzz.FuzzTargets/bin/Release/net10.0 "$2"
  tool=$(dotnet msbuild tests/PvDiffFuzz.FuzzTargets -p:UseSharpFuzz=true -getProperty:NuGetPackageRoot)
  tool=$(find "${tool:-$HOME/.nuget/packages/}sharpfuzz.commandline" -name SharpFuzz.CommandLine.dll | sort | tail -n 1)
  for assembly in Core Isa Harness Models.X86 Models.Pvm Models.Xen; do
    dotnet "$tool" "$2/PvDiffFuzz.$assembly.dll"
  done
}

# Small inputs to begin with. $1: target; $2: folder.
inputs() {
  mkdir -p "$2"
  if [ "$1" = predecoder ]; then
    printf '\0\x48\x01\xd8\x0f\x0b' >"$2/add"
    printf '\1\x66\xf3\xa5\xcd\x80' >"$2/movs"
  else
    find corpus/regressions -name '*.case' -size -3k | sort | head -n 24 | while IFS= read -r file; do cp "$file" "$2/"; done
  fi
}
