"""Clients, each a process of its own: short transactions at an even pace, every one timed and remembered."""

import multiprocessing
import random
import signal
import time

import psycopg2

SCHEMA = """
CREATE SCHEMA {0} AUTHORIZATION app;
SET ROLE app;
CREATE TABLE {0}.account (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 0, note text NOT NULL DEFAULT repeat('x', 80));
INSERT INTO {0}.account (id) SELECT generate_series(1, {1});
CREATE TABLE {0}.ledger (id text PRIMARY KEY, account int NOT NULL REFERENCES {0}.account, at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON {0}.ledger (account);
RESET ROLE;
ANALYZE {0}.account;
"""
ACCOUNTS = 5_000


def one_client(where, number, per_second, stopping, answers):
    """Half of its transactions read, half write two tables."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what the parent does then
    generator = random.Random(number)
    samples, errors, written, count = [], [], 0, 0
    connection = None
    due = time.monotonic()
    while not stopping.is_set():
        due = max(due + generator.uniform(0.5, 1.5) / per_second, time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))
        count += 1
        account = generator.randint(1, ACCOUNTS)
        try:
            if connection is None:
                connection = psycopg2.connect(**where)
                cursor = connection.cursor()
            began, clock = time.time(), time.monotonic()
            cursor.execute("SELECT balance FROM account WHERE id = %s", (account,))
            cursor.fetchone()
            answered = time.monotonic()
            if count % 2:
                cursor.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (account,))
                cursor.execute("INSERT INTO ledger (id, account) VALUES (%s, %s)", (f"{number}-{count}", account))
            written_at = time.monotonic()
            connection.commit()
            ended = time.monotonic()
            samples.append((began, ended - clock, answered - clock, written_at - answered, ended - written_at))
            written += count % 2
        except psycopg2.Error as error:
            errors.append(f"{error.pgcode}: {error}".strip())
            connection = None
            time.sleep(0.05)
    answers.put((number, samples, errors, written))


class Load:
    """`where`: what each client connects to, one entry a client."""

    def __init__(self, where, per_second):
        self.stopping = multiprocessing.Event()
        self.answers = multiprocessing.Queue()
        first = random.SystemRandom().randint(1, 10**9)
        self.clients = [multiprocessing.Process(target=one_client, args=(to, first + i, per_second, self.stopping, self.answers), daemon=True)
                        for i, to in enumerate(where)]
        for client in self.clients:
            client.start()

    def stop(self):
        """(began, seconds; of these until the first answer, for the writes, for the commit) of every transaction in order, errors, and how many wrote."""
        self.stopping.set()
        samples, errors, written = [], [], 0
        for _ in self.clients:
            _, more, wrong, wrote = self.answers.get(timeout=60)
            samples += more
            errors += wrong
            written += wrote
        for client in self.clients:
            client.join(10)
        return sorted(samples), errors, written


def met(samples, begin, end):
    """Those that were under way between two times."""
    return [sample for sample in samples if sample[0] < end and sample[0] + sample[1] > begin]


def within(samples, begin, end):
    """Durations in ms of those that were under way between two times."""
    return [sample[1] * 1000 for sample in met(samples, begin, end)]
