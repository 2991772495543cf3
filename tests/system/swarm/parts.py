"""The two services behind Kong's lines: `reader` answers what was written last, `writer` takes it and passes it on."""

import http.server
import sys
import urllib.request

part, port = sys.argv[1], int(sys.argv[2])
last = b"nothing yet"


class Part(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, last) if part == "reader" else self.answer(405, b"POST is for me\n")

    def do_POST(self):
        global last
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if part == "reader":
            last = body
        else:
            urllib.request.urlopen("http://reader:5000/", data=body, timeout=5).read()
        self.answer(200, b"")


http.server.ThreadingHTTPServer(("0.0.0.0", port), Part).serve_forever()
