// Config: the static configuration of one instance (pgporter.yaml). Read once at start; every bound of the product has its name and
// default here. Loader: catalog/config_loader.hpp (errors with file, line and key). Plain values; any thread.
// The tenants, clusters and users are not here but in the catalog: `pgporter apply -f tenants.yaml`.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/secret.hpp"

namespace pgporter {

using Milliseconds = std::chrono::milliseconds;

enum class ClientTls { disable, allow, require };
enum class ClientAuth {
    cert,   // a client certificate whose common name is the user's name
    peer,   // the operating system's user of the same name; only on Unix-domain listeners
    scram,  // SCRAM-SHA-256 against a verifier
    trust   // nobody is asked; only on loopback and Unix-domain listeners
};
enum class ProxyProtocol {
    off,      // never interpreted
    required  // every connection begins with a header of version 2
};

enum class TlsProtocol { tls12, tls13 };
enum class ClientCertificateCheck {
    verify_ca,   // any certificate of the authority
    verify_full  // and its common name is the user's name
};
struct TlsCertificateConfig {
    std::string certificate_file;  // PEM chain
    std::string key_file;          // PEM
};

struct ListenConfig {                  // listen: a list
    std::string address = "127.0.0.1";  // a numeric address
    std::uint16_t port = 6432;
    ClientTls tls = ClientTls::disable;
    std::string tls_certificate_file;  // PEM chain; needed unless tls is disable
    std::string tls_key_file;          // PEM
    std::vector<TlsCertificateConfig> tls_certificates;  // more of them, chosen by the server name that the client asks for (SNI)
    TlsProtocol tls_protocols_min = TlsProtocol::tls12;
    std::string tls_client_ca_file;    // PEM; clients must show a certificate of this authority; empty: they aren't asked
    std::string tls_client_crl_file;   // PEM; what the authority has revoked
    ClientCertificateCheck tls_client_certificate = ClientCertificateCheck::verify_ca;
    ClientAuth auth = ClientAuth::scram;
    // A Unix-domain socket <socket_directory>/.s.PGSQL.<port> instead of an address; empty: TCP.
    std::string socket_directory;
    std::uint32_t socket_permissions = 0777;
    ProxyProtocol proxy_protocol = ProxyProtocol::off;
    std::vector<std::string> proxy_protocol_from;  // CIDR blocks of the load balancers; empty: all
    bool replication = false;                      // replication connections are let through (they see the whole cluster)

    [[nodiscard]] bool is_local_socket() const { return !socket_directory.empty(); }
};

struct PeerConfig {  // peers: a list: the other instances, that a cancel request may be for
    std::uint32_t id = 0;
    std::string address;  // a numeric address
    std::uint16_t port = 6432;
};

struct JsonSetting {  // a run-time parameter whose value is JSON that names the tenant somewhere
    std::string name = "request.jwt.claims";
    std::string path = "app_metadata.tenant_id";  // keys, separated by dots
    bool refuse_invalid = true;  // what is no JSON, or has no text there, is refused (22023); else it names nobody
};

struct IdentifyConfig {          // identify: where a tenant may be named; all that are present at startup must agree
    bool options = true;         // options='-c pgporter.tenant=acme', or the plain startup parameter pgporter.tenant
    bool user_suffix = true;     // user 'app.acme'
    bool database = true;        // database 'acme' or 'app@acme'
    bool search_path = true;     // startup parameter search_path=acme,public
    bool sql = true;             // SET, RESET, set_config of search_path, of the settings below and of pgporter.tenant
    // Run-time parameters whose value is a tenant's key, in SQL and at startup.
    std::vector<std::string> tenant_settings{"app.tenant",          "app.tenant_id",          "app.current_tenant",
                                             "app.current_tenant_id", "app.current_company_id", "app.organisationId",
                                             "app.organization_id", "app.workspace_id",       "my.current_tenant",
                                             "rls.tenant_id",       "nile.tenant_id"};
    std::vector<JsonSetting> json_settings{JsonSetting{}};
    // Schemas that belong to nobody: in a search_path they name no tenant. Tenants' own shared_schemas and pg_* count as well.
    std::vector<std::string> shared_schemas{"public", "extensions", "shared", "topology"};
    std::string sni_suffix;      // acme.<suffix> as the TLS server name names acme; empty: off (custom domains are the tenants' own)
};

struct HomeConfig {  // home: where a session without a tenant runs; absent: such sessions are refused
    std::string cluster;
    std::string database;
};

enum class AuthQueryTenants { none, all };

struct AuthQueryConfig {  // auth_query: verifiers from PostgreSQL for users that the catalog has no verifier for
    std::string cluster;
    std::string database;
    std::string user;  // logs in with server_logins; may read pg_catalog.pg_authid, or call a function that may
    std::string query = "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin "
                        "AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())";
    Milliseconds cache_ms{30'000};
    AuthQueryTenants tenants = AuthQueryTenants::none;  // for whom users speak that the catalog doesn't have
};

struct ServerLoginConfig {       // server_logins: a list; the first entry that fits a cluster and user is used
    std::string cluster = "*";
    std::string user;            // "*" fits all
    Secret password;             // from password, password_file (first line) or password_env
};

struct AdminConfig {  // admin
    std::string address = "127.0.0.1";
    std::uint16_t port = 6480;
    Secret token;  // from token_file or token_env; at least 16 characters
    bool insecure_remote = false;  // must be true to listen anywhere else than loopback
};

struct CatalogConfig {        // catalog
    std::string dsn;          // libpq connection string of the catalog database, without a password
    Secret password;          // from password_file or password_env
    std::string snapshot_file;  // the last snapshot is saved here; empty: not saved
    Milliseconds resync_ms{60'000};
    Milliseconds connect_timeout_ms{5'000};
};

struct MoverConfig {          // mover
    std::string user;         // logs in to clusters for moves with server_logins; REPLICATION and rights on the tenants' tables
    std::string maintenance_database = "postgres";  // where CREATE DATABASE runs
    std::string pg_dump = "pg_dump";                // found on PATH unless absolute
    std::string pg_restore = "pg_restore";
    std::uint32_t copy_jobs = 2;                    // parallel COPY streams of one move
    std::uint32_t copy_piece_mib = 1'024;           // larger tables are copied in pieces where their key allows it, each with a snapshot of its own
    std::uint32_t index_memory_mib = 128;           // of the target's maintenance_work_mem, for each index that is built
    std::uint32_t moves_max = 4;                    // moves at once, over all instances of the catalog; more wait in line
    std::uint32_t moves_per_source_max = 4;         // of these, from one source cluster
    std::uint32_t queue_max = 1'000;                // moves that wait in line
    std::uint32_t cutover_attempts_max = 10;        // gives way and tries again, then waits for the operator
    std::uint32_t pause_verify_rows_max = 2000;     // rows that may be left to verify inside the pause
    std::uint32_t source_wal_mib_max = 8'192;       // log that a source keeps for a move; beyond, the move ends
    std::uint32_t target_mib_max = 0;               // what a tenant may take on the target; 0: no bound
    Milliseconds snapshot_age_ms_max{14'400'000};   // the copy may hold a snapshot for so long
    Milliseconds catchup_window_ms{60'000};         // a lag that doesn't shrink over this is said
    double neighbour_latency_ratio_max = 1.5;       // of the clusters' p99 latency to that before the copy; 0: it isn't looked at
    std::uint32_t throttled_percent_min = 5;        // of its full speed, that a copy keeps in any case
    std::uint32_t standby_lag_mib_max = 256;        // of a standby, beyond which the copy slows down; 0: it isn't looked at
    std::uint32_t copy_mib_per_s_max = 0;           // of one move; 0: no bound
    std::uint32_t way_back_wal_mib_max = 8'192;     // log that a target keeps for its way back; beyond, there is none any more
    std::uint32_t reserved_ids = 100'000;           // of a shared sequence for a tenant that may come back; half used, so many more
    Milliseconds drain_ms_max{200};                 // of one cutover attempt
    Milliseconds hold_ms_max{5'000};                // the gate opens by itself after this
    Milliseconds lock_timeout_ms{100};              // of every lock the mover takes on a tenant's table
    Milliseconds slot_ms_max{60'000};               // for a slot, which waits for every transaction on the server that has an id
    Milliseconds connect_timeout_ms{5'000};
    Milliseconds late_writer_ms{10'000};            // so long after a flip an instance may not have heard of it (3 s without news, 1 s of an old answer)
    Milliseconds instance_silent_ms_max{5'000};     // an instance that the catalog hears nothing of for so long doesn't count any more
    std::uint32_t restarts_max = 3;                 // a move whose instance ended before the flip is undone, then begun anew so often
};

struct LimitsConfig {  // limits
    std::uint32_t startup_packet_bytes_max = 10'000;
    Milliseconds login_ms_max{15'000};               // from accept to ReadyForQuery, without the wait for a server connection
    std::uint32_t fair_reserve_percent = 25;         // of a cluster's server connections: for tenants below their fair share
    std::uint32_t sessions_max = 10'000;             // client connections of this instance, logged in
    std::uint32_t logins_max = 500;                  // client connections that haven't logged in yet
    std::uint32_t auth_message_bytes_max = 4'096;    // a message before the login is complete
    std::uint32_t statement_bytes_max = 16'777'216;  // a Parse that must be kept (named, or reused); longer ones can't be named
    std::uint32_t prepared_statements_max = 10'000;  // names of one session
    std::uint32_t own_types_tenants_max = 10'000;    // tenants whose own types' OIDs one session may have seen
    std::uint32_t server_statements_max = 500;       // statements kept prepared on one server connection (least recently used goes)
    std::uint32_t unnamed_reuses_max = 0;            // executions of a repeated unnamed statement that share one Parse; 0: each has its own
    Milliseconds unnamed_reuse_ms_max{1'000};        // and no longer than this
    std::uint32_t pending_replies_max = 200'000;     // requests of one session in flight
    std::uint32_t waiters_max = 10'000;              // transactions waiting for a server connection
    Milliseconds wait_ms_max{30'000};                // of one of them
    Milliseconds hold_wait_ms_max{10'000};           // of one transaction at a held tenant's gate
    std::uint32_t hold_waiters_max = 10'000;         // transactions waiting at one gate
    Milliseconds server_connect_ms_max{5'000};       // TCP, TLS and login
    Milliseconds server_idle_ms_max{600'000};        // an idle server connection is closed after this
    std::uint32_t server_tenants_max = 500;          // tenants served by one server connection, which is renewed then; 0: no bound
    Milliseconds server_lifetime_ms_max{3'600'000};  // and any, when it is free, after this
    Milliseconds prologue_ms_max{5'000};
    Milliseconds client_write_ms_max{60'000};        // a client that doesn't read its reply
    Milliseconds idle_in_transaction_ms_max{0};      // 0: no bound
    Milliseconds cancel_ms_max{5'000};
    std::uint32_t cancels_max = 100;                 // cancel requests in flight to servers
    std::uint32_t cancel_forwards_max = 100;         // cancel requests in flight to other instances
    std::uint32_t proxy_header_bytes_max = 2'048;    // a PROXY protocol header
    std::uint32_t logins_per_address_max = 400;      // client connections of one address that haven't logged in yet; 0: no bound
    std::uint32_t auth_failures_max = 20;            // failed logins for one user from one address within the window; 0: no bound
    Milliseconds auth_failure_window_ms{60'000};
    std::uint32_t auth_failure_addresses_max = 10'000;  // addresses with failures that are remembered
    Milliseconds shutdown_ms_max{10'000};            // SIGTERM: transactions may finish for this long
    // Overload and silent peers (docs/operations.md).
    Milliseconds client_read_ms_max{60'000};         // a client that stops in the middle of a message
    Milliseconds client_silent_ms_max{120'000};      // a client whose host doesn't even answer TCP; 0: as the operating system has it
    Milliseconds server_silent_ms_max{120'000};      // a server, likewise
    std::uint32_t server_connects_max = 16;          // logins at once at one cluster, of each thread
    Milliseconds server_retry_ms_max{1'000};         // the longest pause between tries at a cluster that takes no connections
    Milliseconds server_outage_wait_ms_max{3'000};   // so long transactions wait for such a cluster; then they are told at once
    std::uint32_t descriptors_reserved = 100;        // file descriptors that no client connection gets, besides those for server connections
    std::uint32_t buffered_mib_max = 0;              // messages and statements kept, of all sessions; 0: half of the memory that there is
};

struct Config {
    std::vector<ListenConfig> listen;
    std::uint32_t threads = 1;
    IdentifyConfig identify;
    std::optional<HomeConfig> home;
    std::optional<AuthQueryConfig> auth_query;
    std::vector<ServerLoginConfig> server_logins;
    AdminConfig admin;
    CatalogConfig catalog;
    MoverConfig mover;
    LimitsConfig limits;
    std::uint32_t instance_id = 0;  // 1 to 255, in every cancel key; 0: there is no other instance
    std::vector<PeerConfig> peers;
    std::uint32_t metrics_tenants_max = 100;  // tenants with a label of their own; the others are summed as "_other"
    std::string log_level = "info";
};

}  // namespace pgporter
