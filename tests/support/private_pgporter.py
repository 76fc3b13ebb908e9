"""A private pgporter: writes its configuration, starts it on free ports, speaks to its HTTP API. Used by demo.py and by the benchmarks."""

import json
import os
import secrets
import time
import urllib.error
import urllib.request

from private_postgres import POSTGRES_BIN, Daemon, StartError, free_port, wait_for_port


def to_yaml(value, depth=0):
    """Plain dicts, lists and scalars as YAML; every string is quoted, so that nothing is taken for a number or a flag."""
    pad = "  " * depth
    if isinstance(value, dict):
        return "".join(f"{pad}{key}:{_child(item, depth)}" for key, item in value.items())
    if isinstance(value, list):
        lines = []
        for item in value:
            body = to_yaml(item, depth + 1) if isinstance(item, (dict, list)) else f"{pad}  {_scalar(item)}\n"
            lines.append(f"{pad}- {body[len(pad) + 2:]}")
        return "".join(lines)
    return f"{pad}{_scalar(value)}\n"


def _child(item, depth):
    if isinstance(item, (dict, list)) and item:
        return "\n" + to_yaml(item, depth + 1)
    return f" {_scalar(item)}\n"


def _scalar(item):
    return json.dumps(item)


def write_private(path, text):
    """A file that only we can read, from its first byte on."""
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    return path


class ApiError(Exception):
    """An answer that isn't a success: the problem document as text."""


class PrivatePgporter:
    """One instance. `config` is merged over what is set here: listen, admin and the mover's programs; `listen` over the one listener. `env`: its environment."""

    def __init__(self, folder, binary, config, client_auth="scram", listen=None, env=None):
        self.folder = os.path.join(folder, "pgporter")
        os.makedirs(self.folder, mode=0o700)
        self.listen, self.env = listen or {}, env
        self.binary = binary
        self.config = config
        self.client_auth = client_auth
        self.port = self.admin_port = 0
        self.token = secrets.token_hex(24)
        self.token_file = write_private(os.path.join(self.folder, "admin-token"), self.token + "\n")
        self.config_file = os.path.join(self.folder, "pgporter.yaml")
        self.daemon = None

    def start(self):
        for attempt in range(3):
            self.port, self.admin_port = free_port(), free_port()
            config = {
                "listen": [{"address": "127.0.0.1", "port": self.port, "auth": self.client_auth, **self.listen}],
                "admin": {"address": "127.0.0.1", "port": self.admin_port, "token_file": self.token_file},
                **self.config,
            }
            mover = {"pg_dump": f"{POSTGRES_BIN}/pg_dump", "pg_restore": f"{POSTGRES_BIN}/pg_restore"}
            config["mover"] = {**mover, **self.config.get("mover", {})}
            write_private(self.config_file, to_yaml(config))
            self.daemon = Daemon("pgporter", [self.binary, "serve", "-c", self.config_file], os.path.join(self.folder, "pgporter.log"), env=self.env)
            try:
                wait_for_port(self.daemon, self.port)
                self._wait_until_ready()
                return self
            except StartError:
                self.daemon.stop()
                if attempt == 2 or "in use" not in self.daemon.log_tail(40):
                    raise
        return self

    def _wait_until_ready(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                self.api("GET", "/readyz", timeout_s=2)
                return
            except (ApiError, OSError) as error:
                if time.monotonic() > deadline or not self.daemon.is_running():
                    raise StartError(f"pgporter isn't ready: {error}\n{self.daemon.log_tail()}") from error
                time.sleep(0.05)

    @property
    def admin_url(self):
        return f"http://127.0.0.1:{self.admin_port}"

    def api(self, method, path, body=None, content_type="application/json", timeout_s=30):
        """The decoded JSON of a successful answer."""
        if body is not None and content_type == "application/json":
            body = json.dumps(body)
        request = urllib.request.Request(self.admin_url + path, method=method, data=None if body is None else body.encode())
        request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", content_type)
        # Never through somebody's HTTP proxy: this is our own loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise ApiError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error
        return json.loads(text) if text.lstrip().startswith(("{", "[")) else text

    def cli_environment(self):
        """Where the command line finds this instance and its token."""
        return {**os.environ, "PGPORTER_URL": self.admin_url, "PGPORTER_TOKEN_FILE": self.token_file}

    def stop(self):
        return None if self.daemon is None else self.daemon.stop()
