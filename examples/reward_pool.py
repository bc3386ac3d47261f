#!/usr/bin/env python3
"""A reward program for rewards that take long: cohort grpo --reward "exec:python3 examples/reward_pool.py".

It reads a whole batch, up to the row with "last_of_batch": true, has every core score some of it, and writes all answers at once. Put your own
reward into score(row); row has prompt, completion, tokens, finish_reason, prompt_index, completion_index and all columns of the data. Standard
library only.
"""

import json
import multiprocessing
import sys


def score(row):
    """A number, or None where the row cannot be scored. This one: how many of the words in the column "words" the completion has."""
    words = row.get("words")
    if not words:
        return None
    return sum(word in row["completion"] for word in words) / len(words)


def score_line(line):
    return json.dumps(score(json.loads(line)))


def main():
    with multiprocessing.Pool() as pool:
        batch = []
        for line in sys.stdin:
            batch.append(line)
            # The cheap test first; a completion may hold these words too, the parsed row decides.
            if '"last_of_batch"' not in line or not json.loads(line).get("last_of_batch"):
                continue
            # In pieces, so that the workers are not asked for each row; answers come in the order of the rows.
            answers = pool.map(score_line, batch, chunksize=max(1, len(batch) // 64))
            print("\n".join(answers), flush=True)  # without flush they would wait in a buffer, and cohort for them
            batch = []


if __name__ == "__main__":
    main()
