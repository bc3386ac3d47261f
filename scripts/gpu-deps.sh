# The libraries that cohort is linked with, for a machine that has neither them nor a network; sourced by gpu-check.
DEPS_MODULES="libpcre2-8 jansson yaml-0.1 libutf8proc nettle zlib libzstd snappy sqlite3 cmocka"
DEPS_PACKAGES="libpcre2-dev libjansson-dev libyaml-dev libutf8proc-dev nettle-dev zlib1g-dev libzstd-dev libsnappy-dev libsqlite3-dev libcmocka-dev pkgconf"

# fetch_deps DIR: the development packages, and of what they depend on the packages of these libraries and of pkgconf.
fetch_deps() {
    local names
    command -v apt-get >/dev/null || { echo "gpu-check: --fetch-deps needs apt-get (Debian, Ubuntu)" >&2; return 1; }
    mkdir -p "$1" || return 1
    # shellcheck disable=SC2086 # a list of names
    names=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $DEPS_PACKAGES |
        grep -E '^(libpcre2-(8|dev)|libjansson|libyaml|libutf8proc|nettle-dev|libnettle|zlib1g|libzstd|libsnappy|libsqlite3|libcmocka|pkgconf|libpkgconf)' | grep -v : | sort -u)
    # shellcheck disable=SC2086
    [ -n "$names" ] && (cd "$1" && rm -f -- *.deb && apt-get download $names) || return 1
    echo "gpu-check: $(ls "$1"/*.deb | wc -l) packages, $(du -ck "$1"/*.deb | tail -1 | cut -f1) KB in $1"
}

unpack_deb() { # unpack_deb FILE DIR
    if command -v dpkg >/dev/null; then
        dpkg -x "$1" "$2"
        return
    fi
    local file work
    file=$(realpath "$1")
    work=$(mktemp -d) || return 1
    (cd "$work" && ar x "$file") && tar -xf "$work"/data.tar.* -C "$2"
    local code=$?
    rm -rf "$work"
    return $code
}

# use_deps DEBS PREFIX: the machine's libraries if pkg-config finds them all; else the packages of DEBS unpacked below PREFIX, and the
# environment of this shell pointed there (and not at the machine's, so that the two do not mix).
use_deps() {
    local deb arch
    # shellcheck disable=SC2086
    if command -v pkg-config >/dev/null && pkg-config --exists $DEPS_MODULES; then
        echo "libraries: the machine's"
        return 0
    fi
    if ! ls "$1"/*.deb >/dev/null 2>&1; then
        echo "gpu-check: pkg-config does not find all of $DEPS_MODULES, and $1 holds no packages." >&2
        echo "Install them (scripts/install-deps test), or run 'scripts/gpu-check --fetch-deps' where there is a network and bring $1 along." >&2
        return 1
    fi
    rm -rf "$2" && mkdir -p "$2" || return 1
    for deb in "$1"/*.deb; do unpack_deb "$deb" "$2" || { echo "gpu-check: $deb: cannot be unpacked" >&2; return 1; }; done
    # The files say where their packages would be installed.
    find "$2" -name "*.pc" -exec sed -i -E "s#(=|-L|-I)/usr#\1$2/usr#g" {} +
    arch=$(dirname "$(find "$2/usr/lib" -name 'libjansson.so*' | head -1)")
    export LD_LIBRARY_PATH="$arch${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export PKG_CONFIG_LIBDIR="$arch/pkgconfig:$2/usr/share/pkgconfig" PKG_CONFIG_PATH=
    if ! command -v pkg-config >/dev/null; then
        ln -sf pkgconf "$2/usr/bin/pkg-config"
        export PATH="$2/usr/bin:$PATH"
    fi
    # shellcheck disable=SC2086
    if ! pkg-config --print-errors --exists $DEPS_MODULES; then
        echo "gpu-check: the packages in $1 are not complete; make them anew with --fetch-deps" >&2
        return 1
    fi
    echo "libraries: $1, unpacked to $2"
}
