"""A proxy before a registry that does to its connections what networks and busy registries do."""
import re
import socket
import threading
import time


class FaultProxy:
    """Passes requests on to 127.0.0.1:port, one a connection. fault(path, start) is asked for each request (start: of its
    Range): None, or what to do with the answer: ("cut", N) after N bytes, ("stall", N) likewise, ("trickle", N),
    ("status", 429, "Header: value")."""

    def __init__(self, port):
        self.upstream, self.fault, self.requests = port, lambda path, start: None, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.closed = False
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.closed = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            try:
                self.pass_on(client)
            except OSError:
                pass  # either side may hang up

    def pass_on(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(65536)
            if not more:
                return
            head += more
        path = head.split(b" ", 2)[1].decode()
        found = re.search(rb"(?i)\r\nrange: bytes=(\d+)-", head)
        start = int(found[1]) if found else 0
        self.requests.append((path, start))
        fault = self.fault(path, start)
        if fault and fault[0] == "status":
            extra = f"{fault[2]}\r\n" if len(fault) > 2 else ""
            client.sendall(f"HTTP/1.1 {fault[1]} No\r\n{extra}Content-Length: 2\r\nConnection: close\r\n\r\nno".encode())
            return
        with socket.create_connection(("127.0.0.1", self.upstream)) as server:
            server.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            self.copy(server, client, fault or ("cut", 1 << 60))

    @staticmethod
    def copy(server, client, fault):
        kind, left = fault
        while left > 0:
            data = server.recv(min(65536, left))
            if not data:
                return
            client.sendall(data)
            left -= len(data)
        if kind == "stall":
            client.recv(1)  # until the client gives up
        while kind == "trickle" and (data := server.recv(1)):
            client.sendall(data)
            time.sleep(0.1)
