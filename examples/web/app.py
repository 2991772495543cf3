"""A web app that can be replaced under load: told to end, it says so to probes, serves on until it is asked no more,
and ends what it has begun. `docker-stack.web.yml` runs it; the worked example is in docs/gateway.md."""

import http.server
import os
import signal
import socket
import threading
import time

# How long balancers may take to see that it is leaving: a failed probe, or DNS without it.
LEAVING_SECONDS = float(os.environ.get("LEAVING_SECONDS", "3"))
# And how long what was begun by then may take.
ENDING_SECONDS = 20.0

leaving = threading.Event()
lock = threading.Lock()
in_flight = 0


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one segment.
    wbufsize = -1
    disable_nagle_algorithm = True

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        if leaving.is_set():
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        global in_flight
        with lock:
            in_flight += 1
        try:
            if self.path == "/healthz":
                self.answer(503 if leaving.is_set() else 200, "leaving\n" if leaving.is_set() else "well\n")
                return
            length = int(self.headers.get("content-length", "0"))
            said = self.rfile.read(length).decode(errors="replace")
            self.answer(200, f"{socket.gethostname()} has {self.command} {self.path} {said}\n")
        finally:
            with lock:
                in_flight -= 1

    do_POST = do_GET

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


def leave(*_):
    leaving.set()


signal.signal(signal.SIGTERM, leave)
server = Server(("0.0.0.0", int(os.environ.get("PORT", "8080"))), App)
threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
leaving.wait()
time.sleep(LEAVING_SECONDS)
server.shutdown()
server.server_close()
end = time.monotonic() + ENDING_SECONDS
while in_flight and time.monotonic() < end:
    time.sleep(0.05)
