#!/usr/bin/env python3
"""A control: the accuracy reward, dealt out to the wrong completions. --reward "exec:python3 examples/shuffled_rewards.py"

The rewards of a batch are those of reward_accuracy.py, permuted among all its rows: as many ones and zeros as before, but which completion gets which says
nothing about it. A trainer that raises accuracy on this does not do it by the reward. (Not within the group alone: a group's rewards say how hard its
prompt is, and the control must not know that either.) The permutations follow from a fixed seed, so the control repeats. A mean over the batch stays what
it was, and so does the held-out accuracy that such a run reports.
"""

import json
import random
import sys

from reward_accuracy import batches, score


def main():
    shuffler = random.Random(20240607)
    for batch in batches(sys.stdin):
        rewards = [score(row) for row in batch]
        shuffler.shuffle(rewards)
        sys.stdout.write("".join(json.dumps(reward) + "\n" for reward in rewards))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
