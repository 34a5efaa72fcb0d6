# Read by scripts/setup: looks for what set-up and the build need, and notes what is not there with
# what brings it. Nothing here changes anything.

readonly RUSTUP="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . ~/.cargo/env"

missing=()  # what is not there, in words
packages=() # of the system's package manager
commands=() # others
base=       # a Python that torch's wheels exist for, once check_python has found one

check_cargo() {
    local need found
    need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! found=$(cargo --version 2>/dev/null); then
        missing+=("cargo $need or newer")
        have curl || packages+=(curl)
        commands+=("$RUSTUP")
        return
    fi
    found=$(cut -d' ' -f2 <<<"$found")
    if [ "$(printf '%s\n' "$need" "$found" | sort -V | head -1)" != "$need" ]; then
        missing+=("cargo $need or newer: this one is $found")
        commands+=("rustup update stable  (or, without rustup: $RUSTUP)")
    fi
}

check_compiler() {
    local cxx=${CXX:-c++}
    $cxx -std=c++17 -fsyntax-only -x c++ - >/dev/null 2>&1 <<'END' && return
#include <optional>
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 9
#error "libtorch's headers need GCC 9"
#endif
std::optional<int> x;
END
    missing+=("g++ 9 or newer, or another compiler with C++17${CXX:+: CXX = $CXX is none}")
    if [ "$(uname)" = Darwin ]; then
        commands+=("xcode-select --install")
    else
        package g++ gcc-c++ g++
    fi
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
        missing+=("python3, version 3.10 to 3.14, with venv and pip")
        package "python3 python3-venv" python3.12 python3
    elif ! "$base" -c 'import venv, ensurepip' 2>/dev/null; then
        missing+=("venv and pip for $base")
        package "$base-venv" "$base-pip" "$base"
    fi
}

# check_disk MB
check_disk() {
    local free
    free=$(($(df -Pk . | awk 'END { print $4 }') / 1024))
    [ "$free" -ge "$1" ] || missing+=("$1 MB of disk: $free MB are free where $PWD lies")
}

# package APT DNF OTHER: notes a package by the name it has under each.
package() {
    if have apt-get; then
        packages+=("$1")
    elif have dnf; then
        packages+=("$2")
    else
        packages+=("$3")
    fi
}

# Ends set-up, naming all that is missing at once.
require_nothing_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    say "nothing has been downloaded, for this machine lacks"
    printf '  %s\n' "${missing[@]}" >&2
    local sudo='sudo ' manager="your system's package manager:"
    [ "$(id -u)" != 0 ] || sudo=
    if have apt-get; then
        manager="${sudo}apt-get update && ${sudo}apt-get install -y"
    elif have dnf; then
        manager="${sudo}dnf install -y"
    elif have brew; then
        manager='brew install'
    fi
    [ ${#packages[@]} -eq 0 ] || commands=("$manager ${packages[*]}" ${commands[@]+"${commands[@]}"})
    [ ${#commands[@]} -eq 0 ] || { say "install it with" && printf '  %s\n' "${commands[@]}" >&2; }
    exit 1
}
