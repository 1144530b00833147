#!/bin/sh
# uninstall.sh — remove what `make install` noted in its manifest, and the folders of ours that are then empty.
#
#   sh scripts/uninstall.sh MANIFEST [DESTDIR]
set -eu
manifest=$1
destdir=${2:-}
if [ ! -f "$manifest" ]; then
    echo "uninstall: no $manifest: nothing was installed from this build folder" >&2
    exit 1
fi
# The last line of a manifest has no newline.
while IFS= read -r file || [ -n "$file" ]; do
    if [ -e "$destdir$file" ] || [ -L "$destdir$file" ]; then
        rm -f "$destdir$file"
        echo "removed $destdir$file"
    fi
    folder=$(dirname "$destdir$file")
    while case $folder in */zamba | */zamba/*) true ;; *) false ;; esac do
        rmdir "$folder" 2>/dev/null || break
        folder=$(dirname "$folder")
    done
done <"$manifest"
