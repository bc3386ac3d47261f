# Folders that a power cut may leave, at every place of a run; tests/sweep/test_power_cut.sh has a few.
# shellcheck source=../support/power_cut.sh
. "$SOURCE/tests/support/power_cut.sh"
prepare_kills
power_cuts "${SEED:-1}" "${STATES:-150}" sft exec lora grpo-kl
