"""Private servers: PostgreSQL and other daemons on free loopback ports, in a temporary folder, for one run.

Used by demo.py and by the benchmarks; standard library only. Every process is a direct child in a session of its own, is ended by its own
pid, and dies with this one (PR_SET_PDEATHSIG) even if this one is killed. As root, PostgreSQL runs as the user postgres.
"""

import ctypes
import os
import pwd
import random
import secrets
import signal
import socket
import subprocess
import time

POSTGRES_BIN = "/usr/lib/postgresql/15/bin"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_handed_out = set()


class StartError(Exception):
    """A server didn't come up; the message holds the end of its log."""


def free_port():
    """A port that nobody listens on, below the range that outgoing connections are given theirs from."""
    for _ in range(1000):
        port = random.randint(20000, 32000)
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise StartError("no free port")


def is_root():
    return os.geteuid() == 0


def server_user():
    """Who PostgreSQL runs as: None for ourselves."""
    return "postgres" if is_root() else None


def _die_with_parent(stop_signal):
    def set_it():
        _LIBC.prctl(_PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)
    return set_it


class Daemon:
    """One child process with a log file."""

    def __init__(self, name, argv, log, *, stop_signal=signal.SIGTERM, user=None, stdin=subprocess.DEVNULL, stdout=None, env=None):
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self._log_file = open(log, "ab")
        identity = {}
        if user is not None:
            entry = pwd.getpwnam(user)
            identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}
        self.process = subprocess.Popen(
            argv, stdin=stdin, stdout=stdout if stdout is not None else self._log_file, stderr=self._log_file,
            start_new_session=True, preexec_fn=_die_with_parent(stop_signal), env=env, cwd=os.path.dirname(log), **identity)

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process.poll() is None

    def log_tail(self, lines=15):
        with open(self.log, "rb") as file:
            return b"".join(file.readlines()[-lines:]).decode(errors="replace")

    def stop(self, timeout_s=20):
        """Asks it to end, and insists when it doesn't. Returns the exit code."""
        if self.is_running():
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log_file.close()
        return self.process.returncode

    def cpu_seconds(self):
        """User and system time of the process itself."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_port(daemon, port, timeout_s=30):
    """Returns when the daemon accepts connections; StartError if it ends or takes too long."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not daemon.is_running():
            raise StartError(f"{daemon.name} ended at once (exit code {daemon.process.returncode}):\n{daemon.log_tail()}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise StartError(f"{daemon.name} doesn't accept connections after {timeout_s} s:\n{daemon.log_tail()}")


class PrivatePostgres:
    """A PostgreSQL server of our own. `auth` is the method of every TCP login: scram-sha-256, or trust for benchmarks."""

    def __init__(self, name, folder, settings, auth="scram-sha-256"):
        self.name = name
        self.folder = os.path.join(folder, name)
        self.data = os.path.join(self.folder, "data")
        self.settings = settings
        self.auth = auth
        self.password = secrets.token_hex(16)
        self.port = 0
        self.daemon = None

    def start(self):
        self._initdb()
        for attempt in range(3):
            self.port = free_port()
            arguments = [f"{POSTGRES_BIN}/postgres", "-D", self.data, "-p", str(self.port)]
            self.daemon = Daemon(f"PostgreSQL ({self.name})", arguments, os.path.join(self.folder, "postgres.log"),
                                 stop_signal=signal.SIGINT, user=server_user())
            try:
                wait_for_port(self.daemon, self.port)
                self._wait_until_ready()
                return self
            except StartError:
                # Somebody may have taken the port in between.
                self.daemon.stop()
                if attempt == 2:
                    raise
        return self

    def _initdb(self):
        os.makedirs(self.folder, mode=0o750)
        password_file = os.path.join(self.folder, "superuser-password")
        with open(password_file, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(self.password + "\n")
        user = server_user()
        if user is not None:
            entry = pwd.getpwnam(user)
            for path in (self.folder, password_file):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        log = os.path.join(self.folder, "initdb.log")
        initdb = Daemon("initdb", [f"{POSTGRES_BIN}/initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
                                   f"--auth={self.auth}", f"--pwfile={password_file}", "--no-sync"], log, user=user)
        try:
            if initdb.process.wait() != 0:
                raise StartError(f"initdb failed:\n{initdb.log_tail()}")
        finally:
            initdb.stop()
        os.unlink(password_file)
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "log_min_messages": "warning",
                    "cluster_name": f"pgporter-{self.name}", **self.settings}
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            for key, value in settings.items():
                file.write(f"{key} = '{value}'\n")

    def _wait_until_ready(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                self.sql("SELECT 1")
                return
            except subprocess.CalledProcessError as error:
                if time.monotonic() > deadline or not self.daemon.is_running():
                    raise StartError(f"{self.daemon.name} isn't ready: {error.stderr}\n{self.daemon.log_tail()}") from error
                time.sleep(0.05)

    def sql(self, text, database="postgres"):
        """Runs SQL as superuser; returns what psql prints, unaligned. The SQL goes by standard input: it may hold secrets."""
        done = subprocess.run(
            [f"{POSTGRES_BIN}/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port),
             "-U", "postgres", "-d", database],
            input=text, env={**os.environ, "PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "10", "PGOPTIONS": ""},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True, start_new_session=True)
        return done.stdout.strip()

    def stop(self):
        if self.daemon is not None:
            self.daemon.stop()
