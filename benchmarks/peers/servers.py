"""The PostgreSQL that everybody is measured on, its database, and the certificate of the run."""

import os
import pwd
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration", "proxy"))
from private_postgres import POSTGRES_BIN, PrivatePostgres, is_root, server_user  # noqa: E402

SCALE = 10
ROLE = "app"  # not the tenant's name: a database named like its user names no tenant
GUEST = "guest"  # logs in to PostgreSQL itself with a password
PASSWORD = "compare fairly"
TENANT = "bench"
SWITCHED = 20  # tenants that --modes switch goes round
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "jit": "off",
            "shared_buffers": "1GB", "max_connections": "600", "max_wal_size": "8GB"}


def hand_over(*paths):
    """To the user that the servers run as, if that is another one."""
    if is_root():
        entry = pwd.getpwnam(server_user())
        for path in paths:
            os.chown(path, entry.pw_uid, entry.pw_gid)


def make_certificate(folder):
    """A self-signed RSA-2048 certificate, the same for all. Returns the paths of the certificate and its key."""
    home = os.path.join(folder, "tls")
    os.makedirs(home, mode=0o755)
    certificate, key = os.path.join(home, "server.crt"), os.path.join(home, "server.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", key, "-out", certificate],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    os.chmod(key, 0o600)
    hand_over(certificate, key)
    return certificate, key


def start_postgres(folder, running, tls=None, settings=None):
    more = {"ssl": "on", "ssl_cert_file": tls[0], "ssl_key_file": tls[1]} if tls else {}
    server = PrivatePostgres("postgres", folder, {**SETTINGS, **more, **(settings or {})}, auth="trust")
    running.append(server)
    server.start()
    return server


def ask_guests_for_passwords(server):
    path = os.path.join(server.data, "pg_hba.conf")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"host all {GUEST} 127.0.0.1/32 scram-sha-256\n" + text)
    server.sql(f"SET password_encryption = 'scram-sha-256'; CREATE ROLE {GUEST} LOGIN PASSWORD '{PASSWORD}'; SELECT pg_reload_conf()")


def environment(tls=False):
    """What libpq shall know: nothing of the caller's."""
    return {**os.environ, "PGSSLMODE": "require" if tls else "disable", "PGGSSENCMODE": "disable", "PGCONNECT_TIMEOUT": "10", "PGOPTIONS": ""}


def prepare_database(server, scale=SCALE):
    """pgbench's tables in the tenant's own schema, found through the role's search_path on every target alike."""
    server.sql(f"CREATE ROLE {ROLE} LOGIN; CREATE DATABASE shared OWNER {ROLE}; CREATE DATABASE catalog;"
               f"ALTER ROLE {ROLE} IN DATABASE shared SET search_path TO {TENANT};")
    server.sql(f"CREATE SCHEMA {TENANT} AUTHORIZATION {ROLE}; CREATE TABLE {TENANT}.sink (line text); ALTER TABLE {TENANT}.sink OWNER TO {ROLE};",
               "shared")
    subprocess.run([f"{POSTGRES_BIN}/pgbench", "-i", "-q", "-s", str(scale), "-h", "127.0.0.1", "-p", str(server.port), "-U", ROLE,
                    "shared"], env=environment(), stdin=subprocess.DEVNULL, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE, start_new_session=True)
    server.sql("".join(
        f"CREATE SCHEMA tenant_{number} AUTHORIZATION {ROLE}; CREATE TABLE tenant_{number}.small AS "
        f"SELECT id, 0 AS balance FROM generate_series(1, 1000) id; CREATE UNIQUE INDEX ON tenant_{number}.small (id);"
        f"ALTER TABLE tenant_{number}.small OWNER TO {ROLE};" for number in range(1, SWITCHED + 1)), "shared")
    ask_guests_for_passwords(server)
    server.sql("CHECKPOINT")
