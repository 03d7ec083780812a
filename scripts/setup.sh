#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu machine lacks: a linker, the Vulkan loader and a Vulkan driver.
# Where they are there it does nothing, so it can be run again and again. Other systems need nothing
# (macOS, Windows) or are told what to install.
set -euo pipefail

say() { echo "setup: $*" >&2; }

case "$(uname -s)" in
Linux) ;;
*)
    say "nothing to install on $(uname -s): the system brings its own graphics driver"
    exit 0
    ;;
esac

# The loader is looked for where ldconfig and the usual folders have it.
has_loader() {
    [[ $({ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null) == *libvulkan.so.1* ]] && return 0
    compgen -G '/usr/lib*/libvulkan.so.1' >/dev/null || compgen -G '/usr/lib/*/libvulkan.so.1' >/dev/null
}

# A driver says that it is there by a manifest; the variables name one directly.
has_driver() {
    [[ -n ${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-} ]] && return 0
    local folder
    for folder in /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d /etc/vulkan/icd.d \
        "${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/vulkan/icd.d"; do
        compgen -G "$folder/*.json" >/dev/null && return 0
    done
    return 1
}

packages=()
command -v cc >/dev/null || packages+=(gcc libc6-dev)
has_loader || packages+=(libvulkan1)
has_driver || packages+=(mesa-vulkan-drivers)

if [[ ${#packages[@]} -eq 0 ]]; then
    say "nothing to install: a linker, the Vulkan loader and a Vulkan driver are there"
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    say "missing: ${packages[*]} (names as in Debian). This is no Debian or Ubuntu;"
    say "install a C linker, the Vulkan loader and a Vulkan driver (Mesa's lavapipe needs no GPU), then try again"
    exit 1
fi

root=()
if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        say "missing: ${packages[*]}. Installing needs root, and there is no sudo here; as root, run"
        say "    apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
        exit 1
    fi
    root=(sudo)
fi

install() {
    ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

say "installing ${packages[*]}"
# Package lists may be absent or old: fetch them only where installing fails without.
if ! install 2>/dev/null; then
    say "fetching the package lists first"
    ${root[@]+"${root[@]}"} apt-get update -qq >&2
    install
fi
say "installed ${packages[*]}"
