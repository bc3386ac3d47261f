# A few kills of runs that go on to the same end, the same ones each time; tests/slow/test_kill_points_all.sh has 200.
# shellcheck source=../support/kill_points.sh
. "$SOURCE/tests/support/kill_points.sh"
prepare_kills
kill_points 5 4 exec
kill_points 6 7 lora
print_points
