"""An OTLP sink that keeps what it receives, byte for byte, and watches /proc meanwhile.

    otlp_sink.py FOLDER

Listens on two loopback ports (HTTP always, gRPC where grpcio is installed) and prints them as one line of JSON, with what
it can decompress. Every request is decoded with OpenTelemetry's generated classes before it is answered; one that cannot
be decoded is answered with an error and written down in FOLDER/refused.txt. Each decoded request becomes
FOLDER/NNNNNN.pb or .json (the decompressed body as it came) and NNNNNN.meta. FOLDER/proc.jsonl holds a reading of every
process several times a second, taken by proc_reader.py alone. Ends on SIGTERM or SIGINT after one last reading.
"""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service

import proc_reader

READING_EVERY = 0.25  # seconds
EXPORT = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


def zstd():
    """A function that decompresses zstd, or None where nothing here can."""
    try:
        import zstandard

        return lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body)
    except ImportError:
        pass
    if shutil.which("zstd") is None:
        return None
    return lambda body: subprocess.run(["zstd", "-dcq"], input=body, stdout=subprocess.PIPE, check=True).stdout


class Store:
    """The folder everything is written to."""

    def __init__(self, folder):
        self.folder = folder
        self.lock = threading.Lock()
        self.count = 0

    def keep(self, body, suffix, meta):
        with self.lock:
            self.count += 1
            name = os.path.join(self.folder, f"{self.count:06}")
            with open(name + ".meta", "w") as file:
                json.dump(meta, file)
            with open(name + ".part", "wb") as file:
                file.write(body)
            os.rename(name + ".part", f"{name}.{suffix}")

    def refuse(self, why):
        with self.lock, open(os.path.join(self.folder, "refused.txt"), "a") as file:
            file.write(f"{why}\n")


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store = None
    decoders = {}

    def do_POST(self):
        received = time.time_ns()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        encoding = self.headers.get("Content-Encoding", "none")
        kind = self.headers.get("Content-Type", "")
        try:
            if self.path != "/v1/metrics":
                raise ValueError(f"the path is {self.path}")
            plain = self.decoders[encoding](body)
            if kind == "application/json":
                json.loads(plain)  # the checker decodes it; here that would keep the sender waiting
                suffix, answer = "json", b"{}"
            elif kind == "application/x-protobuf":
                service.ExportMetricsServiceRequest.FromString(plain)
                suffix, answer = "pb", service.ExportMetricsServiceResponse().SerializeToString()
            else:
                raise ValueError(f"the content type is {kind!r}")
        except Exception as error:  # whatever is wrong with a request is the sender's, and the test wants to read it
            self.store.refuse(f"http {encoding} {kind}: {error!r}")
            return self.answer(400, "text/plain", repr(error).encode())
        headers = {name.lower(): value for name, value in self.headers.items()}
        meta = {"transport": "http", "encoding": encoding, "kind": kind, "received": received, "headers": headers}
        self.store.keep(plain, suffix, meta)
        self.answer(200, kind, answer)

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve_http(store, decoders):
    Http.store, Http.decoders = store, decoders
    server = ThreadingHTTPServer(("127.0.0.1", 0), Http)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def serve_grpc(store):
    """The port, or None where grpcio is missing. gRPC itself decompresses."""
    try:
        import grpc
    except ImportError:
        return None

    def export(body, context):
        received = time.time_ns()
        try:
            service.ExportMetricsServiceRequest.FromString(body)
        except Exception as error:
            store.refuse(f"grpc: {error!r}")
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, repr(error))
        headers = {name.lower(): str(value) for name, value in context.invocation_metadata()}
        meta = {"transport": "grpc", "encoding": headers.get("grpc-encoding", "none"), "kind": "", "received": received}
        store.keep(body, "pb", {**meta, "headers": headers})
        return service.ExportMetricsServiceResponse().SerializeToString()

    class Handler(grpc.GenericRpcHandler):
        def service(self, call):
            # Without a deserializer the handler is given the message's bytes.
            return grpc.unary_unary_rpc_method_handler(export) if call.method == EXPORT else None

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Handler()], options=[("grpc.max_receive_message_length", 64 << 20)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    serve_grpc.keep = server  # it stops when it is collected
    return port


def main():
    folder = sys.argv[1]
    store = Store(folder)
    decoders = {"none": lambda body: body, "identity": lambda body: body, "gzip": gzip.decompress}
    if zstd():
        decoders["zstd"] = zstd()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with open(os.path.join(folder, "proc.jsonl"), "w") as file:
        print(json.dumps({"http": serve_http(store, decoders), "grpc": serve_grpc(store), "zstd": "zstd" in decoders}), flush=True)
        while True:
            last = ended.is_set()
            file.write(json.dumps(proc_reader.reading()) + "\n")
            file.flush()
            if last:
                os._exit(0)  # not waiting for connections that are kept open
            ended.wait(READING_EVERY)


main()
