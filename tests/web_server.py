"""A local web server whose answers a test chooses."""

import http.server
import threading
from contextlib import contextmanager


@contextmanager
def web_server(do_get):
    """Serve on a free port of this machine, and yield the server with its `address`.

    do_get(server, handler) answers one GET request. `server.asked` lists the requested paths.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            do_get(server, self)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def page_server():
    """Serve `server.pages`: lists of (status, type, body, announced length) by path. The last answer repeats."""

    def answer(server, handler):
        answers = server.pages.get(handler.path, [(404, "text/plain", b"no", 2)])
        status, kind, body, length = answers.pop(0) if len(answers) > 1 else answers[0]
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(body)

    with web_server(answer) as server:
        server.pages = {}
        yield server


def complete(content: bytes) -> tuple[int, str, bytes, int]:
    """Return the answer that serves all of `content`."""
    return 200, "application/gzip", content, len(content)
