"""What a client of a real-time pipeline does, with `requests` and `websockets`: it posts JSON,
sees it pushed at the moment it arrives, and finds it in the list of all that is persisted."""

import asyncio
import json
import sys
import uuid

import requests
import websockets

base = sys.argv[1].rstrip("/")
marks = [str(uuid.uuid4()) for _ in range(20)]


def post(mark):
    answer = requests.post(f"{base}/endpoint/", json={"id": mark, "any": ["JSON", 1, None]}, timeout=30)
    assert answer.status_code == 201, answer.text
    return answer.json()["seq"]


async def run():
    url = base.replace("http", "ws", 1) + "/messages/live"
    async with websockets.connect(url) as socket:
        seqs = [await asyncio.to_thread(post, mark) for mark in marks]
        seen = []
        while len(seen) < len(marks):
            message = json.loads(await asyncio.wait_for(socket.recv(), 10))
            value = json.loads(message["message"]) if message["content_type"] == "application/json" else None
            if isinstance(value, dict) and value.get("id") in marks:
                seen.append((message["seq"], value["id"]))
        assert seen == list(zip(seqs, marks)), seen
    # It goes on where it was.
    async with websockets.connect(f"{url}?after={seqs[9]}") as socket:
        message = json.loads(await asyncio.wait_for(socket.recv(), 10))
        assert message["seq"] > seqs[9]


asyncio.run(run())
stored = requests.get(f"{base}/endpoint/", timeout=60).json()
found = [item["message"]["id"] for item in stored if isinstance(item["message"], dict) and item["message"].get("id") in marks]
assert found == marks, found

with requests.get(f"{base}/messages/live?after=0", headers={"accept": "text/event-stream"}, stream=True, timeout=30) as events:
    assert events.headers["content-type"] == "text/event-stream"
    data = next(line for line in events.iter_lines(decode_unicode=True) if line.startswith("data:"))
    assert json.loads(data[5:])["seq"] >= 1
print("pipeline: ok")
