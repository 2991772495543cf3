"""Medians of the reports in a file of JSON lines, as a Markdown table; RabbitMQ's with its best prefetch."""

import collections
import json
import statistics
import sys

rows = collections.OrderedDict()
for line in open(sys.argv[1]):
    report = json.loads(line)
    rows.setdefault((report["peer"], report["puts"], report["batch"], report["rate"]), []).append(report)


def median(reports, name):
    values = [report[name] for report in reports if name in report]
    return statistics.median(values) if values else None


def shown(value):
    return "-" if value is None else f"{value:g}"


def ratio(of, to):
    return "-" if not of or not to else f"{of / to:.2f}"


def kind(key):
    peer, puts, batch, rate = key
    return "paced" if rate else "one by one" if puts == 1 else f"{puts} at a time"


skep = {kind(key): median(reports, "ended_per_s") for key, reports in rows.items() if key[0] == "skep"}
best = {}
for key, reports in rows.items():
    at = (key[0], kind(key))
    ended = median(reports, "ended_per_s")
    if at not in best or ended > best[at][0]:
        best[at] = (ended, key)

print("| peer | what | taken at a time | put/s | ended/s | skep to it | put p50 ms | put p99 ms | to a worker p50 ms | p99 ms |")
print("|---|---|---|---|---|---|---|---|---|---|")
for what in dict.fromkeys(kind(key) for key in rows):
    for (peer, of), (ended, key) in best.items():
        if of != what:
            continue
        reports = rows[key]
        cells = [peer, what, key[2], shown(median(reports, "put_per_s")), shown(ended)]
        cells.append("-" if peer == "skep" or what == "paced" else ratio(skep.get(what), ended))
        for name in ("put_p50_ms", "put_p99_ms", "way_p50_ms", "way_p99_ms"):
            cells.append(shown(median(reports, name)))
        print("| " + " | ".join(str(cell) for cell in cells) + " |")
