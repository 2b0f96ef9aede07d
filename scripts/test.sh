#!/usr/bin/env bash
# test.sh [CTEST OPTION...]: sets up, builds the release with its tests, runs them; ctest's summary
# comes last.
#
# Examples: test.sh -L cpu     test.sh -R conv     TRIREME_PRESET=asan test.sh -LE slow
# Test data outside the repository is looked for in $TRIREME_TEST_DATA (default: ../shared/data);
# tests that lack theirs are skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${TRIREME_PRESET:-release}
scripts/build.sh "$preset" all

if ! "build/$preset/trireme" model fetch ch_PP-OCRv4; then
  echo "test: going on without ch_PP-OCRv4: the tests that need it are skipped" >&2
fi
exec ctest --test-dir "build/$preset" --output-on-failure --no-tests=error \
  --parallel "$(nproc)" "$@"
