#!/usr/bin/env python3
"""A worker of a skep cluster, in Python's standard library: claim, do, end; and beats beside it.

SKEP_URL=http://127.0.0.1:8000 SKEP_QUEUES=mail SKEP_WORKER_TOKEN=... python3 worker.py
"""
import http.client, itertools, json, os, random, secrets, signal, threading, time, urllib.error, urllib.request

URLS = os.environ.get("SKEP_URL", "http://127.0.0.1:8080").split(",")
QUEUES = os.environ["SKEP_QUEUES"].split(",")
NAME = f"py-{secrets.token_hex(8)}"  # a process of its own has a name of its own
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {os.environ.get('SKEP_WORKER_TOKEN', '')}"}
held = set()  # the fences of what is here
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())


def do(task):
    """The work itself: an exception is a failed try."""
    return {"did": task["payload"]}


def post(path, body, timeout=15):
    """Asks any node; None where none has answered, or cannot now."""
    request = urllib.request.Request(random.choice(URLS) + path, json.dumps(body).encode(), HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return None if error.code in (401, 429) or error.code >= 500 else (error.code, None)
    except (OSError, ValueError, http.client.HTTPException):
        return None


def until_answered(path, body, timeout=15):
    while not (answer := post(path, body, timeout)):
        time.sleep(0.5)
    return answer


def beat():
    while True:
        time.sleep(3)
        post(f"/workers/{NAME}/beat", {"holds": list(held)}, 3)


threading.Thread(target=beat, daemon=True).start()
for number in itertools.count(1):
    if stopping.is_set():
        break
    claim = {"worker": NAME, "number": number, "queues": QUEUES, "wait": "5s", "holds": list(held)}
    _, given = until_answered("/claim", claim, 20)  # made again with the same number: the same tasks
    for task in (given or {"tasks": []})["tasks"]:
        held.add(task["fence"])
        try:
            how, body = ("release", {}) if stopping.is_set() else ("complete", {"result": do(task)})
        except Exception as error:
            how, body = "fail", {"error": repr(error)}
        until_answered(f"/tasks/{task['id']}/{how}", {"fence": task["fence"], **body})  # 409: another has it
        held.discard(task["fence"])
