"""What openapi-python-client made of the API's document, against a running cluster: a message and a
text, there and back, and the two answers that are no JSON object."""

import json
import sys
from io import BytesIO

from generated_python import AuthenticatedClient, Client
from generated_python.api.messages import get_message, list_messages, store_message
from generated_python.api.operators import export
from generated_python.api.pipeline import list_everything
from generated_python.api.text import read_text, write_text
from generated_python.models import Problem, TextMessage
from generated_python.types import File

base = sys.argv[1].rstrip("/")
client = Client(base_url=base)

stored = store_message.sync(client=client, body=TextMessage(message="foo"))
assert get_message.sync(stored.digest, client=client).message == "foo"
assert list_messages.sync(client=client, limit=1).messages
assert get_message.sync("0" * 64, client=client).type_ == "urn:skep:problem:message-not-found"

written = write_text.sync(client=client, body=File(payload=BytesIO("a text".encode())))
assert written.version >= 1, written
assert read_text.sync(client=client) == "a text"

assert any(item.digest == stored.digest for item in list_everything.sync(client=client))
lines = client.get_httpx_client().get("/messages", headers={"accept": "application/x-ndjson"})
assert all(json.loads(line)["seq"] for line in lines.text.splitlines())

# Nobody is an operator here.
refused = export.sync(client=AuthenticatedClient(base_url=base, token="a-token-that-nobody-has"))
assert isinstance(refused, Problem) and refused.status in (401, 403), refused
print("a client made of the document: ok")
