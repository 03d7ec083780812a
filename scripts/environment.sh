# Sourced by the other scripts: what the tools expect of their surroundings.

# Mesa and others warn on every start where this is not set.
if [[ -z ${XDG_RUNTIME_DIR:-} ]]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
    chmod 700 "$XDG_RUNTIME_DIR"
fi
