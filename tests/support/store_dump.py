"""Prints every table of a run.db that two equal runs share, ordered by key, ids replaced by what they stand for: without events, what is
said of the run and its starts, and what is measured (times, speeds, memory, when environments answered)."""
import sqlite3
import sys

MEASURED = " OR ".join(f"name LIKE '{name}'" for name in ("time/%", "throughput/%", "memory%", "%step_time", "%environments/latency%",
                                                          "rollout/%", "eval_rollout/%"))
QUERIES = {
    "step": "SELECT step, epoch FROM step ORDER BY step",
    "metric": f"SELECT step, name, value FROM metrics WHERE NOT ({MEASURED}) ORDER BY step, name",
    "completion": 'SELECT * FROM completions ORDER BY step, "set", "group", "index"',
    "score": 'SELECT * FROM scores ORDER BY step, "set", "group", "index", name',
    "turn": "SELECT c.step, c.set_id, c.grp, c.idx, t.idx, role, t.name, t.text, t.tokens FROM turn t JOIN completion c ON c.id = completion_id "
            "ORDER BY 1, 2, 3, 4, 5",
    "prompt": "SELECT DISTINCT prompt FROM completions ORDER BY 1",
    "evaluation": "SELECT step FROM evaluation ORDER BY step",
    "input": "SELECT kind, ord, sha256 FROM input ORDER BY kind, ord",
    "orphan": "SELECT 'score', completion_id FROM score WHERE completion_id NOT IN (SELECT id FROM completion) UNION ALL "
              "SELECT 'turn', completion_id FROM turn WHERE completion_id NOT IN (SELECT id FROM completion)",
    "check": "PRAGMA integrity_check",
}
database = sqlite3.connect(f"file:{sys.argv[1]}/run.db?mode=ro", uri=True)
database.text_factory = bytes
for table, query in QUERIES.items():
    for row in database.execute(query):
        print(table, *row, sep="\t")
