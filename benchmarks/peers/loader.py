"""The load generator (benchmarks/load) as a child process that is told what to do and answers in JSON."""

import json
import os
import subprocess

from servers import PASSWORD


class LoadFailed(Exception):
    """What the generator said was wrong."""


def binary_beside(pgporter):
    return os.path.join(os.path.dirname(pgporter), "benchmark_load")


class Loader:
    """Clients that are up from the start until `stop`; `run` lets them work."""

    def __init__(self, program, target, clients, tls=False, database=None, sql=None, opening=None):
        self.process = subprocess.Popen(argv_of(program, target, clients, tls, database, sql, opening), env=environment(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.unanswered = 0
        try:
            self.up = self.answer()
        except LoadFailed:
            self.stop()
            raise

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise LoadFailed(f"the load generator ended with {self.process.wait()}")
        answer = json.loads(line)
        if answer["error"]:
            raise LoadFailed(answer["error"])
        return answer

    def begin(self, seconds, interval_ms=0):
        if self.unanswered:
            raise LoadFailed(f"{self.unanswered} clients still wait for what they asked before: they couldn't take part")
        self.process.stdin.write(f"run {seconds} {interval_ms}\n")
        self.process.stdin.flush()

    def run(self, seconds, interval_ms=0):
        self.begin(seconds, interval_ms)
        answer = self.answer()
        self.unanswered = answer["unanswered"]
        return answer

    def stop(self):
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def environment():
    return {**os.environ, "PGPASSWORD": PASSWORD}


def argv_of(program, target, clients, tls, database=None, sql=None, opening=None):
    argv = [program, "--port", str(target.port), "--user", target.user, "--database", database or target.database, "--clients", str(clients)]
    return argv + (["--tls"] if tls else []) + (["--sql", sql] if sql else []) + (["--opening", str(opening)] if opening else [])


def logins(program, target, clients, seconds, tls):
    """{logins, seconds}: clients that connect, log in and leave, again and again."""
    done = subprocess.run(argv_of(program, target, clients, tls) + ["--logins", str(seconds)], env=environment(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, timeout=seconds + 30, start_new_session=True)
    answer = json.loads(done.stdout) if done.stdout else {"error": f"the load generator ended with {done.returncode}"}
    if answer["error"]:
        raise LoadFailed(answer["error"])
    return answer
