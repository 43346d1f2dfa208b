#!/usr/bin/env python3
"""Receives what a webhook sink sends, checks who it is from, and takes each delivery once. Needs nothing but Python.

    THALWEG_SECRET_HOOK=change-me python3 receiver.py [PORT]
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = os.environ.get("THALWEG_SECRET_HOOK", "change-me").encode()
# Longer ago, a delivery may be somebody's recording of one.
OLDEST_SECONDS = 300
# A real one would keep these where its other data is, in the same transaction.
taken = set()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        key, sent_at = self.headers.get("webhook-id", ""), self.headers.get("webhook-timestamp", "0")
        code = hmac.new(SECRET, f"{key}.{sent_at}.".encode() + body, hashlib.sha256).digest()
        expected = "v1," + base64.b64encode(code).decode()
        if not hmac.compare_digest(expected, self.headers.get("webhook-signature", "")):
            return self.answer(401, "the signature is wrong")
        if abs(time.time() - int(sent_at)) > OLDEST_SECONDS:
            return self.answer(401, "the delivery is too old")
        if key not in taken:
            print(json.dumps(json.loads(body)), flush=True)
            taken.add(key)
        self.answer(204, "")

    def answer(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    HTTPServer(("127.0.0.1", port), Receiver).serve_forever()
