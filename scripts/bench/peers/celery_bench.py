"""Celery on Redis: threads that put, a worker with threads that does nothing, late acknowledgements.

celery_bench.py PRODUCERS WORKERS SECONDS WARMUP; BENCH_REDIS is HOST:PORT. Prints one line of JSON.
"""

import json
import os
import subprocess
import sys
import threading
import time

from celery import Celery

url = f"redis://{os.environ['BENCH_REDIS']}/0"
app = Celery("celery_bench", broker=url)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_pool_limit=None,
)
ENDED = "bench-ended"


@app.task(name="nothing")
def nothing(_payload):
    pass


def main():
    import redis

    producers, workers = int(sys.argv[1]), int(sys.argv[2])
    seconds, warmup = float(sys.argv[3]), float(sys.argv[4])
    host, port = os.environ["BENCH_REDIS"].rsplit(":", 1)
    broker = redis.Redis(host=host, port=int(port))
    program = [sys.executable, "-m", "celery", "-A", "celery_bench", "worker", "-P", "threads"]
    program += ["-c", str(workers), "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = subprocess.Popen(program, cwd=os.path.dirname(os.path.abspath(__file__)), stdout=subprocess.DEVNULL)
    try:
        # Until it takes the first one.
        nothing.delay("x" * 256)
        deadline = time.monotonic() + 60
        while broker.llen("celery") or broker.hlen("unacked"):
            if time.monotonic() > deadline:
                raise SystemExit("celery's worker takes nothing")
            time.sleep(0.05)
        over = threading.Event()
        counts = [0] * producers
        times = [[] for _ in range(producers)]

        def produce(at):
            while not over.is_set():
                begun = time.monotonic()
                nothing.delay("x" * 256)
                times[at].append((begun, time.monotonic() - begun))
                counts[at] += 1

        threads = [threading.Thread(target=produce, args=(at,)) for at in range(producers)]
        for thread in threads:
            thread.start()

        def ended():
            left = broker.llen("celery") + broker.hlen("unacked")
            return sum(counts) - left

        time.sleep(warmup)
        put, done, begun = sum(counts), ended(), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - begun
        put, done = sum(counts) - put, ended() - done
        over.set()
        for thread in threads:
            thread.join()
        took = sorted(took for each in times for at, took in each if at >= begun)
        report = {
            "peer": "celery", "producers": producers, "workers": workers, "batch": 1, "puts": 1, "rate": None,
            "put_per_s": round(put / passed), "taken_per_s": round(done / passed), "ended_per_s": round(done / passed),
            "put_p50_ms": round(took[len(took) // 2] * 1000, 2), "put_p99_ms": round(took[len(took) * 99 // 100] * 1000, 2),
        }
        print(json.dumps(report))
    finally:
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()


if __name__ == "__main__":
    main()
