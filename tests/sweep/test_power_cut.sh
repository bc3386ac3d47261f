# A few folders that a power cut may leave; tests/slow/test_power_cut_all.sh has hundreds.
# shellcheck source=../support/power_cut.sh
. "$SOURCE/tests/support/power_cut.sh"
prepare_kills
power_cuts 3 8 exec
