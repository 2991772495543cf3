"""What a client of a message-digest service does, with `requests`: unchanged but for the address."""

import hashlib
import sys

import requests

base = sys.argv[1].rstrip("/")
text = "foo" if len(sys.argv) < 3 else sys.argv[2]

answer = requests.post(f"{base}/messages", json={"message": text}, timeout=30)
assert answer.status_code in (200, 201), answer.text
digest = answer.json()["digest"]
assert digest == hashlib.sha256(text.encode()).hexdigest(), digest

answer = requests.get(f"{base}/messages/{digest}", timeout=30)
assert (answer.status_code, answer.json()) == (200, {"message": text}), answer.text

answer = requests.get(f"{base}/messages/{'0' * 64}", timeout=30)
assert answer.status_code == 404, answer.text
assert answer.json()["title"], answer.text

for body in ({}, {"message": 7}, {"message": ""}, ["foo"]):
    answer = requests.post(f"{base}/messages", json=body, timeout=30)
    assert answer.status_code == 400, answer.text

# The reader and the writer of one text.
assert requests.post(f"{base}/write", data=b"", timeout=30).status_code == 400
assert requests.post(f"{base}/write", data="a text".encode(), timeout=30).status_code == 201
assert requests.get(f"{base}/read", timeout=30).text == "a text"
print("digests: ok")
