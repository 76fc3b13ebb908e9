#include "catalog/migrations.hpp"

#include <array>

namespace pgporter {
namespace {

// Version 1. How changes are followed:
// - catalog_version is one row. A statement that changes clusters, databases, users or tenants first raises its
// version, which
//   locks the row until the transaction ends: versions are given in the order of the commits, and none is ever seen out
//   of order.
// - a tenant's row keeps the version that changed it last, so that a follower can read just those.
// - others_version and tenants_removed tell the follower when that isn't enough and everything must be read.
constexpr std::string_view version_1 = R"sql(
COMMENT ON SCHEMA pgporter IS 'pgporter: catalog of tenants, clusters, users and moves; change it through pgporter';

CREATE TABLE pgporter.catalog_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL,
    others_version bigint NOT NULL,
    tenants_removed bigint NOT NULL
);
INSERT INTO pgporter.catalog_version (version, others_version, tenants_removed) VALUES (1, 1, 0);

CREATE TABLE pgporter.clusters (
    name text PRIMARY KEY CHECK (name <> ''),
    host text NOT NULL,
    port integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    tls text NOT NULL CHECK (tls IN ('disable', 'require', 'verify_ca', 'verify_full')),
    tls_ca_file text NOT NULL DEFAULT '',
    server_connections_max bigint NOT NULL CHECK (server_connections_max BETWEEN 0 AND 4294967295)
);

CREATE TABLE pgporter.databases (
    cluster text NOT NULL REFERENCES pgporter.clusters (name),
    name text NOT NULL CHECK (name <> ''),
    server_connections_max bigint NOT NULL DEFAULT 0 CHECK (server_connections_max BETWEEN 0 AND 4294967295),
    PRIMARY KEY (cluster, name)
);

CREATE TABLE pgporter.users (
    name text PRIMARY KEY CHECK (name <> ''),
    scram_verifier text NOT NULL DEFAULT '',
    all_tenants boolean NOT NULL DEFAULT false,
    tenants text[] NOT NULL DEFAULT '{}'
);

CREATE TABLE pgporter.tenants (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    kind text NOT NULL CHECK (kind IN ('schema', 'database')),
    cluster text NOT NULL REFERENCES pgporter.clusters (name),
    database text NOT NULL CHECK (database <> ''),
    schema text NOT NULL DEFAULT '' CHECK (kind = 'database' OR schema <> ''),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    pool_mode text NOT NULL DEFAULT 'transaction' CHECK (pool_mode IN ('transaction', 'session')),
    role text NOT NULL DEFAULT '',
    shared_schemas text[] NOT NULL DEFAULT '{public}',
    server_connections_max bigint NOT NULL DEFAULT 0 CHECK (server_connections_max BETWEEN 0 AND 4294967295),
    sessions_max bigint NOT NULL DEFAULT 0 CHECK (sessions_max BETWEEN 0 AND 4294967295),
    settings jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(settings) = 'object'),
    epoch bigint NOT NULL DEFAULT 1 CHECK (epoch > 0),
    changed_version bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX tenants_place ON pgporter.tenants (cluster, database, schema);
CREATE INDEX tenants_changed_version ON pgporter.tenants (changed_version);

CREATE FUNCTION pgporter.raise_catalog_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    new_version bigint;
BEGIN
    UPDATE pgporter.catalog_version
       SET version = version + 1,
           others_version = CASE WHEN TG_TABLE_NAME = 'tenants' THEN others_version ELSE version + 1 END,
           tenants_removed = CASE WHEN TG_TABLE_NAME = 'tenants' AND TG_OP IN ('DELETE', 'TRUNCATE')
                                  THEN tenants_removed + 1 ELSE tenants_removed END
    RETURNING version INTO STRICT new_version;
    PERFORM pg_notify('pgporter_catalog', new_version::text);
    RETURN NULL;
END $$;

CREATE FUNCTION pgporter.stamp_tenant() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    SELECT version INTO STRICT NEW.changed_version FROM pgporter.catalog_version;
    RETURN NEW;
END $$;

CREATE TRIGGER raise_version BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgporter.clusters
    FOR EACH STATEMENT EXECUTE FUNCTION pgporter.raise_catalog_version();
CREATE TRIGGER raise_version BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgporter.databases
    FOR EACH STATEMENT EXECUTE FUNCTION pgporter.raise_catalog_version();
CREATE TRIGGER raise_version BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgporter.users
    FOR EACH STATEMENT EXECUTE FUNCTION pgporter.raise_catalog_version();
CREATE TRIGGER raise_version BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgporter.tenants
    FOR EACH STATEMENT EXECUTE FUNCTION pgporter.raise_catalog_version();
CREATE TRIGGER stamp_version BEFORE INSERT OR UPDATE ON pgporter.tenants
    FOR EACH ROW EXECUTE FUNCTION pgporter.stamp_tenant();

CREATE TABLE pgporter.moves (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL,  -- no reference: the record outlives the tenant
    tenant text NOT NULL,
    copy_jobs bigint NOT NULL,
    cutover boolean NOT NULL,
    source_kind text NOT NULL,
    source_cluster text NOT NULL,
    source_database text NOT NULL,
    source_schema text NOT NULL,
    target_kind text NOT NULL,
    target_cluster text NOT NULL,
    target_database text NOT NULL,
    target_schema text NOT NULL,
    epoch bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('planned', 'preflight', 'schema', 'gate', 'slot', 'copy', 'index', 'catchup',
        'verify', 'hold', 'fenced', 'drained', 'flipped', 'opened', 'completed', 'aborting', 'aborted')),
    rows_total_estimate numeric(20) NOT NULL DEFAULT 0,
    rows_copied numeric(20) NOT NULL DEFAULT 0,
    bytes_copied numeric(20) NOT NULL DEFAULT 0,
    changes_applied numeric(20) NOT NULL DEFAULT 0,
    transactions_applied numeric(20) NOT NULL DEFAULT 0,
    rows_verified numeric(20) NOT NULL DEFAULT 0,
    lag_bytes numeric(20) NOT NULL DEFAULT 0,
    cutover_attempts bigint NOT NULL DEFAULT 0,
    pause_ms double precision NOT NULL DEFAULT 0,
    note text NOT NULL DEFAULT '',
    error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    finished_at timestamptz
);
-- One move at a time for each tenant, whoever asks.
CREATE UNIQUE INDEX moves_unfinished ON pgporter.moves (tenant_id) WHERE state NOT IN ('completed', 'aborted');

CREATE TABLE pgporter.move_steps (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    move bigint NOT NULL REFERENCES pgporter.moves (id),
    state text NOT NULL,
    note text NOT NULL DEFAULT '',
    token text NOT NULL UNIQUE,  -- tells whoever lost the connection during COMMIT whether this step was made
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX move_steps_move ON pgporter.move_steps (move);

CREATE FUNCTION pgporter.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'the steps of moves are only ever added to';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON pgporter.move_steps
    FOR EACH STATEMENT EXECUTE FUNCTION pgporter.refuse_change();

CREATE TABLE pgporter.cleanup_records (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    move bigint NOT NULL REFERENCES pgporter.moves (id),
    kind text NOT NULL,
    at_end text NOT NULL CHECK (at_end IN ('always', 'after_abort')),
    cluster text NOT NULL,
    database text NOT NULL,
    name text NOT NULL,
    done boolean NOT NULL DEFAULT false
);
CREATE INDEX cleanup_records_move ON pgporter.cleanup_records (move);
)sql";

// Version 2: tenants that are rows of shared tables, what SQL calls a tenant, host names, and how a database keeps its
// tenants apart.
// - effective_key is what must be unique: the key, or the name where there is no key. Deferred, as are the domains, so
//   that two tenants may exchange theirs in one transaction.
// - tenant_domains follows tenants.domains; it is there for its primary key.
constexpr std::string_view version_2 = R"sql(
ALTER TABLE pgporter.databases
    ADD COLUMN isolation text NOT NULL DEFAULT 'app' CHECK (isolation IN ('app', 'role', 'login')),
    ADD COLUMN tenant_setting text NOT NULL DEFAULT '',
    ADD COLUMN tenant_column text NOT NULL DEFAULT '';

ALTER TABLE pgporter.tenants
    ADD COLUMN key text NOT NULL DEFAULT '',
    ADD COLUMN domains text[] NOT NULL DEFAULT '{}',
    ADD COLUMN allowed_addresses text[] NOT NULL DEFAULT '{}',
    DROP CONSTRAINT tenants_kind_check,
    DROP CONSTRAINT tenants_check,
    ADD CONSTRAINT tenants_kind_check CHECK (kind IN ('rows', 'schema', 'database')),
    ADD CONSTRAINT tenants_schema_check CHECK (CASE kind WHEN 'rows' THEN schema = '' WHEN 'schema' THEN schema <> '' ELSE true END);
ALTER TABLE pgporter.tenants
    ADD COLUMN effective_key text NOT NULL GENERATED ALWAYS AS (coalesce(nullif(key, ''), name)) STORED,
    ADD CONSTRAINT tenants_key UNIQUE (effective_key) DEFERRABLE INITIALLY DEFERRED;

DROP INDEX pgporter.tenants_place;
CREATE UNIQUE INDEX tenants_place ON pgporter.tenants (cluster, database, schema) WHERE kind <> 'rows';

CREATE TABLE pgporter.tenant_domains (
    domain text CONSTRAINT tenant_domains_domain PRIMARY KEY DEFERRABLE INITIALLY DEFERRED
        CHECK (domain <> '' AND domain = pg_catalog.lower(domain)),
    tenant_id bigint NOT NULL REFERENCES pgporter.tenants (id) ON DELETE CASCADE
);
CREATE INDEX tenant_domains_tenant ON pgporter.tenant_domains (tenant_id);

CREATE FUNCTION pgporter.keep_domains() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    DELETE FROM pgporter.tenant_domains WHERE tenant_id = NEW.id;
    INSERT INTO pgporter.tenant_domains (domain, tenant_id) SELECT d, NEW.id FROM unnest(NEW.domains) AS d;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_new_domains AFTER INSERT ON pgporter.tenants
    FOR EACH ROW WHEN (NEW.domains <> '{}') EXECUTE FUNCTION pgporter.keep_domains();
CREATE TRIGGER keep_domains AFTER UPDATE ON pgporter.tenants
    FOR EACH ROW WHEN (NEW.domains IS DISTINCT FROM OLD.domains) EXECUTE FUNCTION pgporter.keep_domains();
)sql";

// Version 3: moves have a way back.
constexpr std::string_view version_3 = R"sql(
ALTER TABLE pgporter.moves
    ADD COLUMN rollback_refused text NOT NULL DEFAULT '',
    DROP CONSTRAINT moves_state_check,
    ADD CONSTRAINT moves_state_check CHECK (state IN ('planned', 'preflight', 'schema', 'gate', 'slot', 'copy', 'index', 'catchup',
        'verify', 'reverse_slot', 'hold', 'fenced', 'drained', 'flipped', 'opened', 'reversing', 'rolling_back', 'flipped_back',
        'rolled_back', 'completed', 'aborting', 'aborted'));
UPDATE pgporter.moves SET rollback_refused = 'the move was made by a version without a way back' WHERE state IN ('flipped', 'opened');
DROP INDEX pgporter.moves_unfinished;
CREATE UNIQUE INDEX moves_unfinished ON pgporter.moves (tenant_id) WHERE state NOT IN ('completed', 'rolled_back', 'aborted');
)sql";

// Version 4: what a tenant may use (catalog/tenant_limits.hpp), and tenants that only read.
constexpr std::string_view version_4 = R"sql(
ALTER TABLE pgporter.tenants
    ADD COLUMN limits jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(limits) = 'object'),
    DROP CONSTRAINT tenants_state_check,
    ADD CONSTRAINT tenants_state_check CHECK (state IN ('active', 'read_only', 'suspended'));
)sql";

// Version 5: moves wait in line, tell how long they will take, and what slows them down.
constexpr std::string_view version_5 = R"sql(
ALTER TABLE pgporter.moves
    ADD COLUMN bytes_total_estimate numeric(20) NOT NULL DEFAULT 0,
    ADD COLUMN bytes_per_second double precision NOT NULL DEFAULT 0,
    ADD COLUMN seconds_left double precision,
    ADD COLUMN throttled double precision NOT NULL DEFAULT 0,
    ADD COLUMN throttled_by text NOT NULL DEFAULT '',
    ADD COLUMN source_wal_bytes numeric(20) NOT NULL DEFAULT 0;
CREATE INDEX moves_planned ON pgporter.moves (id) WHERE state = 'planned';
)sql";

// Version 6: databases with places that are kept free for them.
constexpr std::string_view version_6 = R"sql(
ALTER TABLE pgporter.databases
    ADD COLUMN server_connections_min bigint NOT NULL DEFAULT 0 CHECK (server_connections_min BETWEEN 0 AND 4294967295);
)sql";

constexpr std::array all_migrations{Migration{1, version_1}, Migration{2, version_2}, Migration{3, version_3}, Migration{4, version_4},
                                    Migration{5, version_5}, Migration{6, version_6}};

// Any number that nobody else locks by chance: "pgporter" in ASCII.
constexpr std::string_view lock_sql = "SELECT pg_catalog.pg_advisory_xact_lock(8099566078813037938)";

Result<int> installed_version(PgConnection& connection) {
    auto table = connection.exec("SELECT pg_catalog.to_regclass('pgporter.schema_migrations') IS NOT NULL");
    if (!table) return table.error();
    if (!table->boolean(0, 0)) return 0;
    auto version = connection.exec("SELECT coalesce(max(version), 0) FROM pgporter.schema_migrations");
    if (!version) return version.error();
    return static_cast<int>(version->integer(0, 0));
}

Result<void> check_known(int installed) {
    const int known = all_migrations.back().version;
    if (installed <= known) return {};
    return fail(ErrorKind::invalid,
                "the catalog's schema has version " + std::to_string(installed) +
                    ", this pgporter knows up to version " + std::to_string(known),
                {}, "run the pgporter that upgraded the catalog, or a newer one");
}

// One migration, if there is one to do. Under the lock the version is read again: another instance may have been
// quicker.
Result<bool> migrate_once(PgConnection& connection) {
    PP_TRY(connection.exec(std::string(lock_sql)));
    PP_TRY(
        connection.exec("CREATE SCHEMA IF NOT EXISTS pgporter; "
                        "CREATE TABLE IF NOT EXISTS pgporter.schema_migrations (version integer PRIMARY KEY, "
                        "applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp())"));
    const auto installed = installed_version(connection);
    if (!installed) return installed.error();
    PP_TRY(check_known(*installed));
    for (const auto& migration : all_migrations) {
        if (migration.version <= *installed) continue;
        PP_TRY(connection.exec(std::string(migration.sql)));
        PP_TRY(connection.exec_params("INSERT INTO pgporter.schema_migrations (version) VALUES ($1)",
                                      {std::to_string(migration.version)}));
        return true;
    }
    return false;
}

}  // namespace

std::span<const Migration> migrations() {
    return all_migrations;
}

Result<void> migrate(PgConnection& connection) {
    const auto installed = installed_version(connection);
    if (!installed) return installed.error();
    PP_TRY(check_known(*installed));
    bool more =
        *installed < all_migrations.back().version;  // up to date: no lock and no right to create anything needed
    while (more) {
        PP_TRY(connection.exec("BEGIN ISOLATION LEVEL READ COMMITTED"));
        const auto migrated = migrate_once(connection);
        if (!migrated) {
            if (connection.is_open()) (void)connection.exec("ROLLBACK");
            return migrated.error();
        }
        PP_TRY(connection.exec("COMMIT"));
        more = *migrated;
    }
    return {};
}

}  // namespace pgporter
