#!/bin/sh
# try-bare.sh — the newcomer's path for real: a bare Debian 12 in a folder, this repository's last commit cloned into
# it, and README's first two commands: as root, then without network, then in the other order, then by a user with sudo.
#
#   sh scripts/try-bare.sh [FOLDER]          (as root; some 1.5 GB and ten minutes; FOLDER defaults to a temporary one)
#
# The packages come from where this machine's apt gets them: its sources, keys and settings are copied into the system.
# Needs debootstrap, git, unshare. If FOLDER/base is there already (from an earlier run), it is used again.
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
    echo "try-bare: needs root" >&2
    exit 2
fi
for tool in debootstrap git unshare; do
    command -v $tool >/dev/null 2>&1 || { echo "try-bare: needs $tool" >&2 && exit 2; }
done
work=${1:-$(mktemp -d)}
mkdir -p "$work"
work=$(cd "$work" && pwd)
base=$work/base
suite=bookworm

# The first two commands of README.md, as they stand there.
lines=$(awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on && !/^#/ && !/^$/' README.md |
    sed 's/ *#.*//' | head -n 2)
first=$(printf '%s\n' "$lines" | sed -n 1p)
second=$(printf '%s\n' "$lines" | sed -n 2p)
[ -n "$first" ] && [ -n "$second" ]

mirror() {
    apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        awk -v s=$suite '$2 == s { print $1; exit }'
}

if [ ! -x "$base/bin/sh" ]; then
    echo "== a bare $suite"
    debootstrap --variant=minbase $suite "$base" "$(mirror)" >"$work/debootstrap.log" 2>&1 || {
        tail -n 20 "$work/debootstrap.log" >&2
        exit 1
    }
    # apt as on this machine, whatever that is, but none of its hooks for desktops and databases.
    rm -f "$base/etc/apt/sources.list"
    for part in sources.list sources.list.d trusted.gpg.d keyrings auth.conf auth.conf.d; do
        [ ! -e /etc/apt/$part ] || cp -a /etc/apt/$part "$base/etc/apt/"
    done
    for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
        if [ -f "$file" ] && ! grep -q 'Invoke' "$file"; then
            cp -a "$file" "$base${file}"
        fi
    done
    mkdir -p "$base/usr/share/keyrings"
    cp -a /usr/share/keyrings/. "$base/usr/share/keyrings/"
fi
for tool in make cmake cc python3 git pkg-config sudo; do
    if [ -x "$base/usr/bin/$tool" ]; then
        echo "try-bare: $base is not bare, it has $tool" >&2
        exit 1
    fi
done

system=
mounted=
leave() {
    for place in $mounted; do umount -l "$place" 2>/dev/null || :; done
    mounted=
}
trap leave EXIT

# fresh NAME: a new copy of the bare system with a clone in it; it stays mounted until the next one.
fresh() {
    leave
    system=$work/$1
    rm -rf "$system"
    cp -a "$base" "$system"
    cp /etc/resolv.conf /etc/hosts "$system/etc/" 2>/dev/null || :
    mkdir -p "$system/srv"
    git -c safe.directory='*' clone -q . "$system/srv/zamba"
    mount -t proc proc "$system/proc"
    mount --rbind /dev "$system/dev"
    mount --make-rslave "$system/dev"
    mounted="$system/proc $system/dev"
}

# inside WHO NETWORK COMMAND: run a line in the clone; WHO is root or a user's name, NETWORK net or none.
inside() {
    who=$1 network=$2 line=$3
    set -- chroot "$system" /usr/bin/env -i HOME=/tmp TERM=dumb \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    [ "$who" = root ] || set -- "$@" setpriv --reuid="$who" --regid="$who" --init-groups
    [ "$network" = net ] || set -- unshare -n "$@"
    echo "== $(basename "$system"), $who, $network: $line"
    start=$(date +%s)
    if "$@" /bin/sh -c "cd /srv/zamba && $line" >"$work/last.log" 2>&1 </dev/null; then
        tail -n "${TAIL:-3}" "$work/last.log" | cut -c 1-160
        echo "-- $(($(date +%s) - start)) s"
    else
        code=$?
        tail -n 60 "$work/last.log"
        echo "try-bare: exit code $code after $(($(date +%s) - start)) s" >&2
        exit 1
    fi
}

fresh run-first
TAIL=12
inside root net "$first"
inside root net "$second"
inside root none "$first"
inside root none "$second"

fresh test-first
inside root net "$second"
inside root net "$first"
inside root none "$second"

# A clone that is somebody else's: root builds in it first, then its owner goes on.
fresh with-sudo
chroot "$system" useradd -m newcomer
chroot "$system" env DEBIAN_FRONTEND=noninteractive \
    sh -c 'apt-get -q update && apt-get -q -y --no-install-recommends install sudo' >"$work/sudo.log" 2>&1 || {
    tail "$work/sudo.log" >&2
    exit 1
}
echo 'newcomer ALL=(ALL) NOPASSWD: ALL' >"$system/etc/sudoers.d/newcomer"
chroot "$system" chown -R newcomer: /srv/zamba
inside newcomer net "$first"
inside newcomer net "sudo sh -c '$second'"
inside newcomer none "$first"
inside newcomer none "$second"

leave
echo "the newcomer's path works: $first; $second"
