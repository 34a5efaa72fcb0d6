# Read by scripts/setup: looks for what set-up and the build need, and notes in `missing` what is not
# there, each with the command that installs it. Nothing here changes anything.

missing=()
base= # a Python that torch's wheels exist for, once check_python has found one

note() { missing+=("$(printf '%-36s %s' "$1" "$2")"); }

# lack WHAT APT DNF BREW: WHAT is missing; the packages (for brew, the command) that bring it.
lack() {
    local sudo='sudo ' how="install it with your system's package manager"
    [ "$(id -u)" != 0 ] || sudo=
    if have apt-get; then
        how="${sudo}apt-get install -y $2"
    elif have dnf; then
        how="${sudo}dnf install -y $3"
    elif have brew || [ "$(uname)" = Darwin ]; then
        how=$4
    fi
    note "$1" "$how"
}

check_cargo() {
    local need found
    need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! found=$(cargo --version 2>/dev/null); then
        note "cargo $need or newer" "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . ~/.cargo/env"
        return
    fi
    found=$(cut -d' ' -f2 <<<"$found")
    [ "$(printf '%s\n' "$need" "$found" | sort -V | head -1)" = "$need" ] ||
        note "cargo $need or newer (found $found)" "rustup update stable"
}

check_compiler() {
    local cxx=${CXX:-c++}
    $cxx -std=c++17 -fsyntax-only -x c++ - >/dev/null 2>&1 <<'END' ||
#include <optional>
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 9
#error "libtorch's headers need GCC 9"
#endif
std::optional<int> x;
END
        lack "a C++17 compiler (g++ 9 or newer)" g++ gcc-c++ "xcode-select --install"
}

check_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do
        if "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            base=$name
            break
        fi
    done
    if [ -z "$base" ]; then
        lack "python3 (3.10 to 3.14) with venv" "python3 python3-venv" python3.12 "brew install python@3.12"
    elif ! "$base" -c 'import venv, ensurepip' 2>/dev/null; then
        lack "venv and pip for $base" "$base-venv" "$base-pip" "brew install python@3.12"
    fi
}

# check_disk MB
check_disk() {
    local free
    free=$(($(df -Pk . | awk 'END { print $4 }') / 1024))
    [ "$free" -ge "$1" ] || note "$1 MB of free disk" "$free MB are free where $PWD lies"
}

# Ends set-up, naming all that is missing at once.
require_nothing_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    say "nothing has been downloaded: this machine lacks"
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
}
