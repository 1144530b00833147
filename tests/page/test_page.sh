# test_page.sh — a short way through the page in a real browser, for every day; all of it: node tests/page/run.mjs.
# Skipped (77) without Node, a browser, or the modules of web/ (npm install there): nothing needs them to build or run.
set -eu
for tool in node; do
    command -v $tool >/dev/null 2>&1 || { echo "skipped: no $tool"; exit 77; }
done
[ -z "${ZAMBA_SANITIZE:-}" ] || { echo "skipped: the page is tested with the release"; exit 77; }
"$ZAMBA_PROGRAM" serve --help | grep -q -- --no-history || { echo "skipped: a program without the server"; exit 77; }
[ -f web/dist/index.html ] || { echo "skipped: web/dist is not built"; exit 77; }
export ZAMBA_PAGE_PATIENCE="${ZAMBA_PAGE_PATIENCE:-3}"
exec node tests/page/run.mjs --server "$ZAMBA_PROGRAM" \
    --only "send from the first page" --only "fits: chat" --only "draft survives"
