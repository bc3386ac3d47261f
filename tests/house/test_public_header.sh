#!/bin/bash
# cohort.h compiles alone as C99 and as C++, the shared library exports cohort_ names and nothing else, the library keeps no state.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
header=$SOURCE/include
warnings="-Wall -Wextra -Wpedantic -Werror"

printf '#include <cohort.h>\nint main(void) { return cohort_version()[0] == 0; }\n' > "$work/alone.c"
# shellcheck disable=SC2086 # flags are words
${CC:-cc} -std=c99 -pedantic $warnings -I"$header" -fsyntax-only "$work/alone.c"
if command -v g++ > /dev/null; then
    cp "$work/alone.c" "$work/alone.cpp"
    # shellcheck disable=SC2086
    g++ -std=c++11 -pedantic $warnings -I"$header" -fsyntax-only "$work/alone.cpp"
fi

library=$BUILD/libcohort.so
nm -D --defined-only "$library" | awk '{print $NF}' | sort > "$work/exported"
# A sanitizer adds names of its own to a library built with it.
others=$(grep -vE '^(cohort_|__(a|t|ub)san_|__odr_asan|__sanitizer_|_fini$|_init$|__bss_start$|_edata$|_end$)' "$work/exported" || true)
if [ -n "$others" ]; then
    echo "exported, but not named cohort_...: $others"
    exit 1
fi
grep -oE 'COHORT_API [^;]*' <(tr '\n' ' ' < "$header/cohort.h") | grep -oE 'cohort_[a-z_]+\(' | tr -d '(' | sort -u > "$work/declared"
test "$(wc -l < "$work/declared")" -ge 20
if ! diff "$work/declared" <(grep '^cohort_' "$work/exported"); then
    echo "cohort.h declares (<) what the library does not export, or the library exports (>) what cohort.h does not declare"
    exit 1
fi
# No mutable state between calls: the library has constants and nothing else (invariant I9). Under a sanitizer the sections hold its own data.
if [ -z "$(grep -E '__(a|t)san_' "$work/exported" || nm -u "$library" | grep -E '__(a|t)san_' || true)" ]; then
    state=$(objdump -t "$BUILD/libcohort.a" | grep -E ' O \.(data|bss|tdata|tbss)(\.local)?[[:space:]]|\*COM\*' || true)
    if [ -n "$state" ]; then
        echo "variables that outlive a call:"
        echo "$state"
        exit 1
    fi
fi
soname=$(readelf -d "$library" | sed -nE 's/.*\(SONAME\).*\[(.*)\]/\1/p')
wanted=libcohort.so.$(sed -n 's/^set(COHORT_ABI \([0-9]*\))$/\1/p' "$SOURCE/CMakeLists.txt")
test "$soname" = "$wanted" || { echo "SONAME is '$soname', expected $wanted"; exit 1; }
# The file behind it is named for the version, which is the project's and the program's.
version=$(sed -n 's/^project(cohort VERSION \([0-9.]*\) .*/\1/p' "$SOURCE/CMakeLists.txt")
test "$(basename "$(readlink -f "$library")")" = "libcohort.so.$version" || { echo "no libcohort.so.$version"; exit 1; }
test "$("$COHORT" --version)" = "cohort $version" || { echo "cohort --version says $("$COHORT" --version), not $version"; exit 1; }
grep -qE "^## \[($version|Unreleased)\]" "$SOURCE/CHANGELOG.md" || { echo "CHANGELOG.md has no section for $version"; exit 1; }
