# Fetches packages of the distribution and unpacks them into a folder of our own: nothing is installed, no boot loader or
# setting of this machine is touched, and no root is needed. Source it after lib.sh; Debian and what descends from it.
# The mirrors are those that apt is configured with; lists and archives are kept apart from apt's own.

# Packages that scripts of this folder fetched lie under here; git ignores it.
packages=.cache/packages

# Prepares apt to work in a folder of this run, without what the machine's own lists know.
packages_begin() {
  apt_home=$scratch/apt
  apt_suite=
  mkdir -p "$apt_home/sources" "$apt_home/lists/partial" "$apt_home/archives/partial"
  local sourcelist= sourceparts=
  eval "$(apt-config shell sourcelist Dir::Etc::sourcelist/f sourceparts Dir::Etc::sourceparts/d)"
  rm -f "$apt_home"/sources/*
  if [ -s "$sourcelist" ]; then
    cp "$sourcelist" "$apt_home/sources/main.list"
  fi

  find "$sourceparts" -maxdepth 1 \( -name '*.list' -o -name '*.sources' \) -exec cp -t "$apt_home/sources" {} + 2>/dev/null || true
}

# Runs a program of apt on our own lists, for the suite that packages_suite chose.
apt_here() {
  local program=$1
  shift
  LC_ALL=C "$program" -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt_home/sources" \
    -o Dir::State::lists="$apt_home/lists" -o Dir::Cache="$apt_home" -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
    -o APT::Default-Release="$apt_suite" "$@"
}

# Adds the distribution's backports, from the mirrors that serve the release itself, and prefers them.
packages_use_backports() {
  local release
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  [ -n "$release" ] || return 1
  packages_add_suite "$release" "$release-backports"
}

# Looks into the release after this one instead, from the same mirrors; fails where none is known.
packages_use_next_release() {
  local release next
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  case "$release" in
    bookworm) next=trixie ;;
    trixie) next=forky ;;
    *) return 1 ;;
  esac
  packages_add_suite "$release" "$next"
}

# Adds a suite wherever a source has the release, and prefers it. Usage: packages_add_suite RELEASE SUITE
packages_add_suite() {
  local release=$1 suite=$2 file
  rm -f "$apt_home"/sources/added.*
  for file in "$apt_home"/sources/*; do
    case "$file" in
      *.list)
        sed -nE "s/^(deb[[:space:]]+(\[[^]]*\][[:space:]]+)?[^[:space:]]+)[[:space:]]+$release[[:space:]].*/\1 $suite main/p" "$file"
        ;;
    esac
  done | sort -u >"$apt_home/added.list"
  for file in "$apt_home"/sources/*.sources; do
    [ -e "$file" ] || continue
    sed '/^#/d' "$file" | awk -v RS= -v ORS='\n\n' -v release="$release" -v suite="$suite" '
      /(^|\n)Enabled: *no/ { next }
      match($0, /(^|\n)Suites:[^\n]*/) && (" " substr($0, RSTART + 7, RLENGTH - 7) " ") ~ ("[ :]" release " ") {
        sub(/(^|\n)Suites:[^\n]*/, "\nSuites: " suite)
        sub(/^\n/, "")
        print
      }'
  done >"$apt_home/added.sources"
  mv "$apt_home/added.list" "$apt_home/added.sources" "$apt_home/sources/"
  apt_here apt-get update >/dev/null
  apt_suite=$suite
}

# The version that would be fetched, without its epoch; empty when there is none.
packages_candidate() { apt_here apt-cache policy "$1" | sed -nE 's/^ *Candidate: ([0-9]+:)?//p' | grep -v '^(none)$' || true; }

# The packages of a kernel behind a name that stands for the newest one.
packages_of_kernel() { apt_here apt-cache depends --recurse --important "$1" 2>/dev/null | grep -E '^linux-(image|modules)-[0-9]' | sort -u; }

# Says which packages must be fetched so that those given work on this machine, and so fetches them: NAME=VERSION, one a line.
packages_missing_for() {
  apt_here apt-get install --simulate --no-install-recommends "$@" | sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+) .*/\1=\3/p'
}

# Fetches packages and replaces a folder by what is in them. Usage: packages_unpack FOLDER NAME[=VERSION]...
packages_unpack() {
  local folder=$1 archive
  shift
  rm -rf "$apt_home/root" "$apt_home"/archives/*.deb
  mkdir -p "$apt_home/root" "$(dirname "$folder")"
  (cd "$apt_home/archives" && apt_here apt-get download "$@" >/dev/null) || return 1
  for archive in "$apt_home"/archives/*.deb; do
    dpkg-deb --extract "$archive" "$apt_home/root" || return 1
  done

  rm -rf "$folder"
  mv "$apt_home/root" "$folder"
}
