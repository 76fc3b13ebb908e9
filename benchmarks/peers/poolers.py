"""Who is compared: PgBouncer, Odyssey and pgporter, each with the same number of server connections, one thread, and the same users."""

import os
import re
import signal
import subprocess

from private_pgporter import PrivatePgporter, to_yaml
from private_postgres import Daemon, free_port, is_root, wait_for_port
from servers import GUEST, PASSWORD, ROLE, SWITCHED, TENANT, hand_over
import wire_client

POOL_SIZE = 20
DEBIAN_PGBOUNCER = "/usr/sbin/pgbouncer"
RESETTING = "-resetting"
CLIENTS_MAX = 15000
CATALOG = "host=127.0.0.1 port={port} dbname=catalog user=postgres"


class Target:
    """One thing that clients connect to; `daemon` is the process whose CPU is its cost, if it has one."""

    def __init__(self, name, what, port, database, daemon=None, user=ROLE):
        self.name, self.what, self.port, self.database, self.daemon, self.user = name, what, port, database, daemon, user


def version_of(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.splitlines()[0].strip() if done.stdout else "unknown"


def name_of_pgbouncer(program):
    """Debian's is plain `pgbouncer`; another one carries its version."""
    if program == DEBIAN_PGBOUNCER:
        return "pgbouncer"
    number = re.search(r"\d+(\.\d+)*", version_of(program, "--version"))
    return "pgbouncer-" + (number.group() if number else "other")


def home_of(folder, name):
    home = os.path.join(folder, name)
    os.makedirs(home, mode=0o750)
    hand_over(home)
    return home


def write_for_server(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    hand_over(path)
    return path


def start_daemon(name, argv, home, port, running, env):
    daemon = Daemon(name, argv, os.path.join(home, name + ".log"), user="postgres" if is_root() else None, stop_signal=signal.SIGTERM, env=env)
    running.append(daemon)
    wait_for_port(daemon, port)
    return daemon


def start_pgbouncer(folder, server, running, program=DEBIAN_PGBOUNCER, tls=None, scram=False, name="pgbouncer", env=None, resets=False):
    """Returns the daemon and its port. `resets`: nothing that a transaction did to its server connection reaches the next client."""
    home, port = home_of(folder, name), free_port()
    users = write_for_server(os.path.join(home, "users.txt"), f'"{ROLE}" "{wire_client.scram_verifier(PASSWORD) if scram else ""}"\n')
    text = (f"[databases]\nshared = host=127.0.0.1 port={server.port} dbname=shared\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = {'scram-sha-256' if scram else 'trust'}\n"
            f"auth_file = {users}\npool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nmax_client_conn = {CLIENTS_MAX}\n"
            "listen_backlog = 4096\nlog_connections = 0\nlog_disconnections = 0\nlog_stats = 0\nserver_tls_sslmode = disable\n")
    if resets:
        text += "server_reset_query = DISCARD ALL\nserver_reset_query_always = 1\n"
    if tls:
        text += f"client_tls_sslmode = allow\nclient_tls_cert_file = {tls[0]}\nclient_tls_key_file = {tls[1]}\n"
    config = write_for_server(os.path.join(home, "pgbouncer.ini"), text)
    return start_daemon(name, [program, config], home, port, running, env), port


ODYSSEY = """daemonize no
locks_dir "{home}"
unix_socket_dir "{home}"
unix_socket_mode "0644"
log_to_stdout yes
log_format "%p %t %l %m\\n"
log_debug no
log_config no
log_session no
log_query no
log_stats no
workers 1
resolvers 1
cache_coroutine 1024
client_max {clients}
listen {{
  host "127.0.0.1"
  port {port}
  backlog 4096
{tls}}}
storage "postgres" {{
  type "remote"
  host "127.0.0.1"
  port {server_port}
}}
database "shared" {{
  user "{role}" {{
    authentication "{authentication}"
{password}    storage "postgres"
    storage_db "shared"
    storage_user "{role}"
    pool "transaction"
    pool_size {pool}
    pool_reserve_prepared_statement yes
    pool_discard no
    pool_smart_discard no
    log_debug no
  }}
}}
"""


def start_odyssey(folder, server, running, program, tls=None, scram=False, name="odyssey", env=None):
    home, port = home_of(folder, name), free_port()
    text = ODYSSEY.format(
        home=home, port=port, server_port=server.port, role=ROLE, pool=POOL_SIZE, clients=CLIENTS_MAX,
        tls=f'  tls "allow"\n  tls_cert_file "{tls[0]}"\n  tls_key_file "{tls[1]}"\n' if tls else "",
        authentication="scram-sha-256" if scram else "none",
        password=f'    password "{wire_client.scram_verifier(PASSWORD)}"\n' if scram else "")
    config = write_for_server(os.path.join(home, "odyssey.conf"), text)
    return start_daemon(name, [program, config], home, port, running, env), port


def schema_tenants(names):
    return [{"name": name.replace("_", "-"), "placement": {"kind": "schema", "cluster": "shared", "database": "shared", "schema": name}}
            for name in names]


def start_pgporter(folder, server, binary, running, tls=None, scram=False, name="pgporter", env=None, config=None, tenants=None, pool=POOL_SIZE):
    listen = {"tls": "allow", "tls_certificate_file": tls[0], "tls_key_file": tls[1]} if tls else {}
    whole = {"catalog": {"dsn": CATALOG.format(port=server.port)}, "mover": {"user": "postgres"}, "home": {"cluster": "shared", "database": "shared"},
             **(config or {})}
    whole["limits"] = {"sessions_max": CLIENTS_MAX, "logins_max": 2000, "logins_per_address_max": 0, **whole.get("limits", {})}
    porter = PrivatePgporter(os.path.join(folder, name), binary, whole, client_auth="scram" if scram else "trust", listen=listen, env=env)
    running.append(porter)
    porter.start()
    user = {"name": ROLE, "tenants": "*", "scram_verifier": wire_client.scram_verifier(PASSWORD)}
    if tenants is None:
        tenants = schema_tenants([TENANT] + [f"tenant_{number}" for number in range(1, SWITCHED + 1)])
    porter.api("POST", "/v1/apply", to_yaml({
        "clusters": [{"name": "shared", "host": "127.0.0.1", "port": server.port, "server_connections_max": pool}],
        "users": [user], **({"tenants": tenants} if tenants else {})}), content_type="application/yaml")
    return porter


def start_all(folder, server, arguments, running, tls=None, scram=False, env_of=lambda name: None, suffix=""):
    """Everybody that is asked for, as targets: PostgreSQL itself first, pgporter last. `env_of`: a pooler's environment by its name."""
    what = f"transaction pooling, pool of {POOL_SIZE}"
    targets = [Target("direct", "clients on PostgreSQL itself", server.port, "shared", user=GUEST if scram else ROLE)]
    programs = [DEBIAN_PGBOUNCER] * (not arguments.without_debian) + ([arguments.pgbouncer] if arguments.pgbouncer else [])
    for program, resets in [(program, True) for program in programs[-1:] if arguments.resetting] + [(program, False) for program in programs]:
        name = name_of_pgbouncer(program) + RESETTING * resets
        daemon, port = start_pgbouncer(folder, server, running, program, tls, scram, name + suffix, env_of(name), resets)
        targets.append(Target(name, what + ", DISCARD ALL after each" * resets, port, "shared", daemon))
    if arguments.odyssey:
        daemon, port = start_odyssey(folder, server, running, arguments.odyssey, tls, scram, "odyssey" + suffix, env_of("odyssey"))
        targets.append(Target("odyssey", what, port, "shared", daemon))
    porter = start_pgporter(folder, server, arguments.binary, running, tls, scram, "pgporter" + suffix, env_of("pgporter"))
    targets.append(Target("pgporter", f"one schema tenant, at most {POOL_SIZE} server connections", porter.port, TENANT, porter.daemon))
    return targets
