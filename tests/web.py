"""A web server of this machine for tests: files by their path, byte ranges, and any misbehaviour that is planned."""

import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, each request of a path as the next entry of its list in `server.plan` says."""

    def do_GET(self):
        asked, planned = self.headers.get("Range"), self.server.plan.get(self.path)
        plan = planned.pop(0) if planned else {}
        self.server.log.append((self.path, asked))
        body = self.server.files.get(self.path)
        if "status" in plan or body is None:
            return self.send_error(plan.get("status", 404))
        start = int(asked[6:-1]) if asked and not plan.get("no range") else 0
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: plan.get("after")])

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    """`files`: bytes by the path of their address. `log`: what was asked for. A `with` block closes it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.plan, self.log = {}, {}, []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, *_):
        pass

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
