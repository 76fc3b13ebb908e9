#!/bin/bash
# Installs the Debian packages that pgporter is built and tested with, and nothing when they are all there.
# Sourced by ./check and ./demo (then call install_packages), or run by itself:
#   tests/support/install_packages.sh [--full]      --full adds what sanitizers and fuzzers need (clang)
# It starts no service, creates no PostgreSQL cluster, and removes no package. Needs root or sudo only if something is missing.

# One entry a line: package, and what proves that it isn't needed (a command, or a file under the library folders).
# The proof is what counts, not dpkg: a node or a cmake from elsewhere is as good.
pp_package_proofs() {
    cat <<'LIST'
g++                 command g++
cmake               command cmake
ninja-build         command ninja
ccache              command ccache
mold                command mold
git                 command git
libssl-dev          file include/openssl/ssl.h
libpq-dev           file include/postgresql/libpq-fe.h
libyaml-cpp-dev     file include/yaml-cpp/yaml.h
prometheus-cpp-dev  file include/prometheus/registry.h
libcli11-dev        file include/CLI/CLI.hpp
libspdlog-dev       file include/spdlog/spdlog.h
doctest-dev         file include/doctest/doctest.h
postgresql-15       file lib/postgresql/15/bin/postgres
postgresql-client-15 file lib/postgresql/15/bin/psql
pgbouncer           file sbin/pgbouncer
python3             file bin/python3
python3-psycopg2    python psycopg2
python3-psycopg     python psycopg
python3-asyncpg     python asyncpg
python3-sqlalchemy  python sqlalchemy
python3-django      python django
ruby-pg             ruby pg
ruby-activerecord   ruby active_record
php-cli             command php
php-pgsql           php pdo_pgsql
libdbd-pg-perl      perl DBD::Pg
curl                command curl
jq                  command jq
openssl             command openssl
nodejs              command node
npm                 command npm
default-jdk-headless command javac
libpostgresql-jdbc-java file share/java/postgresql.jar
libhikaricp-java    file share/java/HikariCP.jar
golang-go           command go
golang-github-lib-pq-dev file share/gocode/src/github.com/lib/pq/conn.go
LIST
    # Only the trust store: needed by npm and git, and missing on the smallest installations.
    echo "ca-certificates     file share/ca-certificates"
    if [ "${1:-}" = --full ]; then
        echo "clang               command clang++"
        echo "libclang-rt-14-dev  file lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.fuzzer-x86_64.a"
    fi
}

pp_is_there() {  # kind what
    case "$1" in
        command) command -v "$2" >/dev/null 2>&1 ;;
        file) [ -e "/usr/$2" ] || [ -e "/usr/local/$2" ] ;;
        python) /usr/bin/python3 -c "import $2" >/dev/null 2>&1 ;;
        ruby) ruby -e "require '$2'" >/dev/null 2>&1 ;;
        php) php -m 2>/dev/null | grep -qx "$2" ;;
        perl) perl -M"$2" -e 1 >/dev/null 2>&1 ;;
    esac
}

pp_has_boost() {  # Boost 1.81 or newer where the compiler looks, or unpacked by an earlier run
    local header
    for header in /usr/include/boost/version.hpp /usr/local/include/boost/version.hpp "$1/usr/include/boost/version.hpp"; do
        if [ -r "$header" ] && [ "$(sed -n 's/^#define BOOST_VERSION \([0-9]*\).*/\1/p' "$header")" -ge 108100 ]; then
            return 0
        fi
    done
    return 1
}

pp_as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

pp_install_quietly() {  # log step: runs a step and shows what it said only when it failed
    local log="$1"
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        echo "packages: failed: $*" >&2
        tail -n 25 "$log" >&2
        return 1
    fi
}

# Debian starts what it installs. These keep postgresql and pgbouncer from doing so while our packages are unpacked, and leave every
# other service, and every decision that the machine's owner has made, alone.
pp_keep_services_quiet() {
    PP_MADE_POLICY='' PP_MADE_DROP_IN=''
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '%s\n' '#!/bin/sh' 'case "$1" in postgresql*|pgbouncer*) exit 101 ;; esac' 'exit 0' |
            pp_as_root tee /usr/sbin/policy-rc.d >/dev/null && pp_as_root chmod 755 /usr/sbin/policy-rc.d && PP_MADE_POLICY=1
    fi
    if [ ! -e /etc/postgresql-common/createcluster.d/pgporter.conf ]; then
        pp_as_root mkdir -p /etc/postgresql-common/createcluster.d
        printf '%s\n' 'create_main_cluster = false' |
            pp_as_root tee /etc/postgresql-common/createcluster.d/pgporter.conf >/dev/null && PP_MADE_DROP_IN=1
    fi
}
pp_let_services_be() {
    [ -z "$PP_MADE_POLICY" ] || pp_as_root rm -f /usr/sbin/policy-rc.d
    [ -z "$PP_MADE_DROP_IN" ] || pp_as_root rm -f /etc/postgresql-common/createcluster.d/pgporter.conf
    PP_MADE_POLICY='' PP_MADE_DROP_IN=''
}

# Boost 1.81 can't be installed next to Debian's default libboost1.74-dev. Where that one is, ours is unpacked into a folder of the
# build instead, and CMake is told by BOOST_ROOT: nobody's packages are replaced.
pp_unpack_boost() {  # folder log
    echo "packages: libboost1.74-dev is installed and conflicts with 1.81: unpacking libboost1.81-dev into $1 instead"
    mkdir -p "$1/download"
    (cd "$1/download" && pp_install_quietly "$2" apt-get -q download libboost1.81-dev) || return 1
    pp_install_quietly "$2" dpkg-deb -x "$1"/download/libboost1.81-dev_*.deb "$1" || return 1
    rm -rf "$1/download"
}

install_packages() {  # [--full]; exports BOOST_ROOT where Boost had to be unpacked
    local root log status=0 package kind what
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
    local boost_dir="$root/build/packages/boost" packages=() unpack_boost=''
    while read -r package kind what; do
        pp_is_there "$kind" "$what" || packages+=("$package")
    done < <(pp_package_proofs "${1:-}")
    # Node from elsewhere brings its own npm; Debian's npm would pull in Debian's node over it.
    if command -v node >/dev/null 2>&1 && ! dpkg-query -W -f='${Status}' nodejs 2>/dev/null | grep -q ' installed'; then
        packages=("${packages[@]/#%npm/}")
    fi
    if ! pp_has_boost "$boost_dir"; then
        if dpkg-query -W -f='${Status}' libboost1.74-dev 2>/dev/null | grep -q ' installed'; then
            unpack_boost=1
        else
            packages+=(libboost1.81-dev)
        fi
    fi
    local wanted=()
    for package in "${packages[@]}"; do [ -z "$package" ] || wanted+=("$package"); done
    if [ ${#wanted[@]} -gt 0 ] || [ -n "$unpack_boost" ]; then
        if ! command -v apt-get >/dev/null 2>&1; then
            echo "packages: this needs Debian's packages: ${wanted[*]}" >&2
            return 1
        fi
        if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null 2>&1; then
            echo "packages: missing: ${wanted[*]}; run this as root once, or install sudo" >&2
            return 1
        fi
        log="$(mktemp)"
        pp_install_missing "$log" "$boost_dir" "$unpack_boost" "${wanted[@]}" || status=1
        rm -f "$log"
    fi
    if [ -e "$boost_dir/usr/include/boost/version.hpp" ]; then
        export BOOST_ROOT="$boost_dir/usr" CMAKE_PREFIX_PATH="$boost_dir/usr${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
    fi
    return $status
}

pp_install_missing() {  # log boost_dir unpack_boost packages...
    local log="$1" boost_dir="$2" unpack_boost="$3" status=0 had_pgbouncer=''
    shift 3
    if [ $# -gt 0 ]; then
        echo "packages: installing with apt-get: $*"
    fi
    pp_install_quietly "$log" pp_as_root apt-get -q -o DPkg::Lock::Timeout=300 update || return 1
    if [ -n "$unpack_boost" ]; then
        pp_unpack_boost "$boost_dir" "$log" || return 1
    fi
    if [ $# -eq 0 ]; then
        return 0
    fi
    [ ! -e /usr/sbin/pgbouncer ] || had_pgbouncer=1
    trap 'pp_let_services_be; exit 130' INT TERM HUP
    pp_keep_services_quiet
    # --no-remove: an installation that would take something away fails and says so.
    pp_install_quietly "$log" pp_as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confold --no-install-recommends --no-remove install "$@" || status=1
    pp_let_services_be
    trap - INT TERM HUP
    # The benchmark's peer shall not come up as a service at the next boot.
    if [ -z "$had_pgbouncer" ] && [ -e /usr/sbin/pgbouncer ] && command -v systemctl >/dev/null 2>&1; then
        pp_as_root systemctl disable pgbouncer >/dev/null 2>&1 || true
    fi
    return $status
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    install_packages "${1:-}"
fi
