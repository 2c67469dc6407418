"""Answer requests with an exported predictive: python serve.py FILE PORT."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

import jax
import numpy as np

from bbb.errors import BBBError
from bbb.serving import load_exported

MAX_BYTES = 1_000_000
SERVED, KEY, ONE_AT_A_TIME = load_exported(sys.argv[1]), jax.random.key(0), Lock()


class Handler(BaseHTTPRequestHandler):
    """POST {"x": [[0.1], [0.2]]} gets the mean and the 95 % interval of y for each row."""

    timeout = 10

    def do_POST(self):
        """Answer, or say what is wrong with the request."""
        try:
            size = int(self.headers["Content-Length"])
            if not 0 < size <= MAX_BYTES:
                raise ValueError(f"Expected at most {MAX_BYTES} bytes, got {size}.")
            x = np.asarray(json.loads(self.rfile.read(size))["x"], SERVED.dtype)
            with ONE_AT_A_TIME:  # a prediction uses all cores
                y = SERVED.predict(KEY, x).y
            lower, upper = y.interval(0.95)
            named = {"mean": y.mean, "lower": lower, "upper": upper}
            self.answer(200, {name: values.tolist() for name, values in named.items()})
        except (BBBError, KeyError, TypeError, ValueError) as error:
            self.answer(400, {"error": str(error)})

    def answer(self, status, content):
        """Send JSON."""
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    SERVED.predict(KEY, np.zeros((1, *SERVED.row), SERVED.dtype))  # compile it now
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
