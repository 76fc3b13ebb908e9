#include "tests/integration/mover/rows_world.hpp"

#include <doctest/doctest.h>

namespace pgporter::test {
namespace {

// Keys with the tenant column and without it, a table without a key, partitions, TOAST that an update leaves alone, types of the
// application's own in arrays, a trigger that says whose a new row is, global tables, and other schemas than public.
const char* const crm_schema = R"sql(
CREATE EXTENSION citext;
GRANT USAGE ON SCHEMA public TO app;
ALTER DATABASE crm SET search_path = "$user", public, billing;
ALTER ROLE app IN DATABASE crm SET app.flavour = 'it''s "sweet"';
CREATE SCHEMA billing;
GRANT USAGE ON SCHEMA billing TO app;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE spot AS (x int, y numeric, label text);
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL, visits bigint NOT NULL DEFAULT 0);
COMMENT ON TABLE countries IS 'pgporter: global';
CREATE TABLE docs (id bigserial PRIMARY KEY, tenant_id int NOT NULL, title text, body text, moods mood[], spots spot[],
  country text REFERENCES countries, email citext, n int NOT NULL DEFAULT 0);
CREATE INDEX ON docs (tenant_id);
ALTER TABLE docs ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE parts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id int NOT NULL,
  doc bigint REFERENCES docs DEFERRABLE INITIALLY DEFERRED, label text);
CREATE TABLE billing.accounts (tenant_id int, id int, balance numeric NOT NULL, memo text, PRIMARY KEY (tenant_id, id));
ALTER TABLE billing.accounts ALTER COLUMN memo SET STORAGE EXTERNAL;
CREATE TABLE notes (tenant_id int, what text, blob text);
ALTER TABLE notes REPLICA IDENTITY FULL;
ALTER TABLE notes ALTER COLUMN blob SET STORAGE EXTERNAL;
CREATE TABLE slugs (slug varchar(40) NOT NULL, tenant_id int NOT NULL, hits int NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX slugs_by_slug ON slugs (slug);
ALTER TABLE slugs REPLICA IDENTITY USING INDEX slugs_by_slug;
CREATE TABLE ledger (tenant_id int, writer int, seq bigint, amount int NOT NULL, PRIMARY KEY (tenant_id, writer, seq));
CREATE TABLE events (id bigserial, tenant_id int NOT NULL, day date NOT NULL, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_a PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_b PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE SEQUENCE invoice_numbers START 1000;
CREATE VIEW big_docs WITH (security_invoker = true) AS SELECT * FROM docs WHERE length(body) > 1000;
CREATE FUNCTION whose() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN NEW.tenant_id := coalesce(NEW.tenant_id, nullif(current_setting(''app.tenant'', true), '''')::int); RETURN NEW; END';
CREATE TRIGGER whose BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION whose();
CREATE TRIGGER zz_whose BEFORE INSERT ON slugs FOR EACH ROW EXECUTE FUNCTION whose();
DO $$ DECLARE t regclass; BEGIN
  FOREACH t IN ARRAY ARRAY['docs', 'parts', 'billing.accounts', 'notes', 'slugs', 'ledger', 'events']::regclass[] LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant ON %s USING (tenant_id = nullif(current_setting(''app.tenant'', true), '''')::int)', t);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO app', t);
  END LOOP;
END $$;
GRANT SELECT ON countries, big_docs TO app;
GRANT UPDATE (visits) ON countries TO app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app;
INSERT INTO countries SELECT 'c' || g, 'country ' || g FROM generate_series(1, 50) g;
INSERT INTO docs (tenant_id, title, body, moods, spots, country, email)
  SELECT 1 + g % 3, 'title ' || g, CASE WHEN g % 5 = 0 THEN (SELECT string_agg(md5((g * 1000 + i)::text), '') FROM generate_series(1, 120) i) END,
         ARRAY['sad', 'happy', NULL]::mood[], ARRAY[ROW(g, g / 3.0, 'q"uo\te')::spot, NULL], 'c' || 1 + g % 50, 'D' || g || '@x.example'
    FROM generate_series(1, 3000) g;
INSERT INTO parts (tenant_id, doc, label) SELECT tenant_id, id, 'part' FROM docs WHERE id % 2 = 1 AND id > 1500;
INSERT INTO billing.accounts SELECT 1 + g % 3, g, g * 1.50,
  CASE WHEN g % 4 = 0 THEN (SELECT string_agg(md5((g * 999 + i)::text), '') FROM generate_series(1, 120) i) END FROM generate_series(1, 900) g;
INSERT INTO notes SELECT 1 + g % 3, 'note ' || g % 7, (SELECT string_agg(md5((g * 77 + i)::text), '') FROM generate_series(1, 90) i)
  FROM generate_series(1, 45) g;
INSERT INTO slugs SELECT 's' || g, 1 + g % 3 FROM generate_series(1, 300) g;
INSERT INTO events (tenant_id, day, what) SELECT 1 + g % 3, '2024-06-01'::date + g % 200, 'e' FROM generate_series(1, 600) g;
ANALYZE;
)sql";

std::int64_t microseconds_since(std::chrono::steady_clock::time_point began) {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count();
}

// One of everything that can be done to a row. A tenant keeps to documents and accounts below 1500: those above may change hands.
std::string transaction(int tenant, int client, std::int64_t sequence, bool spares_globals) {
    const auto s = std::to_string(sequence);
    const auto c = std::to_string(client);
    const auto k = std::to_string(tenant);
    const auto id = std::to_string(1 + (sequence * 7 + client) % 1500);
    std::string sql = "BEGIN; INSERT INTO ledger VALUES (" + k + ", " + c + ", " + s + ", " + s + "); ";
    switch (sequence % 10) {
        case 0:
            sql += "UPDATE docs SET n = n + 1 WHERE id = " + id;  // unchanged TOAST, a key that says nothing of the tenant
            break;
        case 1:
            sql += "INSERT INTO docs (title, body, moods) VALUES ('new', repeat(md5('" + s + "'), 90), '{ok,sad}'); "
                   "INSERT INTO slugs (slug) VALUES ('n" + k + "." + c + "." + s + "')";
            break;
        case 2:
            sql += "UPDATE billing.accounts SET id = id + 10000, balance = balance + 1 WHERE id = " + id + " AND id < 300";
            break;
        case 3:
            sql += "DELETE FROM docs WHERE id = " + id + " AND id % 3 = 0";
            break;
        case 4:
            sql += "INSERT INTO notes VALUES (" + k + ", 'w', 'b'); UPDATE notes SET what = what || 'x' WHERE ctid = "
                   "(SELECT ctid FROM notes LIMIT 1 FOR UPDATE SKIP LOCKED)";
            break;
        case 5:
            sql += "DELETE FROM notes WHERE ctid = (SELECT ctid FROM notes LIMIT 1 FOR UPDATE SKIP LOCKED)";
            break;
        case 6:
            sql += "UPDATE events SET day = day + 180 WHERE id = " + id + " AND day < '2025-01-01'; "
                   "INSERT INTO events (tenant_id, day, what) VALUES (" + k + ", '2025-03-03', 'n')";
            break;
        case 7:
            sql += "UPDATE slugs SET hits = hits + 1 WHERE slug = 's" + id + "'; SELECT nextval('invoice_numbers')";
            break;
        case 8:
            sql += spares_globals ? "UPDATE docs SET title = title || 'x' WHERE id = " + id
                                  : "UPDATE countries SET visits = visits + 1 WHERE code = 'c" + std::to_string(1 + sequence % 50) + "'";
            break;
        default:
            sql += "UPDATE slugs SET slug = slug || 'r' WHERE slug = 'n" + k + "." + c + "." + std::to_string(sequence - 8) + "'";
            break;
    }
    return sql + "; COMMIT";
}

}  // namespace

RowsWorld::RowsWorld(bool two_servers) : world_(two_servers) {
    world_.config().mover.late_writer_ms = std::chrono::milliseconds(300);  // there is no other instance
    MoveWorld::sql(world_.source_server(), "postgres", "CREATE DATABASE crm");
    on_crm(crm_schema);
    CatalogDocument document;
    Database database;
    database.cluster = "shared-1";
    database.name = "crm";
    database.tenant_setting = "app.tenant";
    database.tenant_column = "tenant_id";
    document.databases = {database};
    int key = 0;
    for (const auto* name : {"red", "green", "blue"}) {
        Tenant tenant;
        tenant.name = name;
        tenant.key = std::to_string(++key);
        tenant.placement = {PlacementKind::rows, "shared-1", "crm", ""};
        document.tenants.push_back(tenant);
    }
    auto applied = world_.store().apply(document, false);
    REQUIRE_MESSAGE(applied.has_value(), (applied ? std::string() : applied.error().message));
    reload();
    world_.journal().on_change = [this] { reload(); };
}

void RowsWorld::reload() {
    // Its own connection: the store belongs to the move's thread here.
    CatalogStore store(world_.config().catalog);
    auto opened = store.open();
    auto content = opened ? store.load() : Result<SnapshotContent>(opened.error());
    if (content) world_.publisher().publish(Snapshot::build(std::move(*content)));
}

void RowsWorld::make_keys_safe() {
    on_crm("CREATE UNIQUE INDEX slugs_by_tenant ON slugs (tenant_id, slug); ALTER TABLE slugs REPLICA IDENTITY USING INDEX slugs_by_tenant; "
           "DROP INDEX slugs_by_slug");
}

MoveRequest RowsWorld::request() const {
    MoveRequest request;
    request.tenant = "red";
    request.cluster = "own-1";
    request.database = "red_own";
    return request;
}

std::string RowsWorld::as_app(PostgresServer& server, const std::string& database, int key, const std::string& statement) {
    auto connection = PgConnection::connect_dsn(server.dsn(database, "app"), Secret{}, "app");
    REQUIRE(connection.has_value());
    REQUIRE(connection->exec("SET app.tenant = '" + std::to_string(key) + "'").has_value());
    auto rows = connection->exec(statement);
    if (!rows) return rows.error().sqlstate + " " + rows.error().message;
    return rows->rows() > 0 ? rows->string(0, 0) : std::string();
}

bool RowsWorld::target_exists() {
    return MoveWorld::sql(world_.target_server(), "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'red_own'") == "1";
}

std::string RowsWorld::artefacts() {
    const std::string in_database =
        "SELECT string_agg(x, E'\\n') FROM (SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'pgporter%' "
        "UNION ALL SELECT 'schema ' || nspname FROM pg_namespace n WHERE nspname LIKE 'pgporter%' "
        // The closed gate of a completed move stays, alone.
        "AND NOT (EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND obj_description(c.oid, 'pg_class') LIKE 'fenced %') "
        "AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid)) "
        "UNION ALL SELECT 'publication ' || pubname FROM pg_publication "
        "UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname LIKE 'pgporter%' "
        "UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots) AS f (x)";
    auto found = on_crm(in_database);
    if (target_exists()) found += "target " + on_own(in_database);
    const auto entries = MoveWorld::sql(world_.source_server(), "catalog", "SELECT count(*) FROM pgporter.databases WHERE name = 'red_own'");
    if (entries != "0") found += " catalog entry";
    return found;
}

std::string RowsWorld::rows_of(PostgresServer& server, const std::string& database, const std::string& condition) {
    std::string text;
    for (const auto* table : {"docs", "parts", "billing.accounts", "notes", "slugs", "ledger", "events"}) {
        text += std::string(table) + " " + MoveWorld::sql(server, database,
                                             std::string("SELECT count(*), coalesce(sum(hashtextextended(t::text, 7)::numeric), 0) FROM ") + table +
                                                 " t WHERE " + condition) + "\n";
    }
    return text;
}

std::string RowsWorld::where_red_lives() {
    const auto tenant = world_.publisher().current()->find_tenant("red");
    return tenant->placement.cluster + "/" + tenant->placement.database;
}

void RowsTraffic::start() {
    for (int tenant = 1; tenant <= 3; ++tenant) {
        for (int client = 0; client < clients_per_tenant; ++client) {
            last_[{tenant, client}] = 0;
            threads_.emplace_back([this, tenant, client] { write(tenant, client); });
        }
    }
    if (!only_the_proxys_.load()) {
        last_[{1, bypass}] = 0;
        threads_.emplace_back([this] { reassign(); });
        threads_.emplace_back([this] { go_around(); });
    }
    wait_for_more(30);
}

void RowsTraffic::stop() {
    stopping_.store(true);
    for (auto& thread : threads_) thread.join();
    threads_.clear();
}

void RowsTraffic::wait_for_more(std::uint64_t transactions) {
    const auto goal = acknowledged_.load() + transactions;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (acknowledged_.load() < goal && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE_MESSAGE(acknowledged_.load() >= goal, failures());
}

std::string RowsTraffic::failures() const {
    const std::lock_guard lock(mutex_);
    return failures_;
}

void RowsTraffic::note_failure(const std::string& who, const Error& error) {
    const std::lock_guard lock(mutex_);
    failures_ += who + ": " + error.sqlstate + " " + error.message + "\n";
}

void RowsTraffic::write(int tenant, int client) {
    auto& world = world_.moves();
    PgConnection connection;
    std::string connected_to;
    std::int64_t sequence = 0;
    const char* const names[] = {"red", "green", "blue"};
    while (!stopping_.load()) {
        // The gate of this world is red's alone.
        if (tenant == 1) world.gate().begin_transaction();
        const auto place = world.publisher().current()->find_tenant(names[tenant - 1])->placement;
        if (tenant == 1 && place.database != "crm" && stop_red_at_flip_.load()) {
            world.gate().end_transaction();
            return;
        }
        if (place.database != connected_to) {
            auto& server = place.cluster == "shared-1" ? world.source_server() : world.target_server();
            auto opened = PgConnection::connect_dsn(server.dsn(place.database, "app"), Secret{}, "writer");
            if (opened) {
                connection = std::move(*opened);
                connected_to = place.database;
                static_cast<void>(connection.exec("SET app.tenant = '" + std::to_string(tenant) + "'"));
            }
        }
        ++sequence;
        const auto began = std::chrono::steady_clock::now();
        auto done = connection.exec(transaction(tenant, client, sequence, tenant == 1 && spares_globals_.load()));
        const auto took = microseconds_since(began);
        if (!done && connection.is_open()) static_cast<void>(connection.exec("ROLLBACK"));
        if (tenant == 1) world.gate().end_transaction();
        if (tenant != 1 && took > slowest_us_.load()) slowest_us_.store(took);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        if (done) {
            const std::lock_guard lock(mutex_);
            last_[{tenant, client}] = sequence;
            acknowledged_.fetch_add(1);
            continue;
        }
        if (done.error().sqlstate == "40P01") {
            --sequence;
            continue;
        }
        return note_failure(names[tenant - 1], done.error());
    }
}

// Whoever administers the application gives rows to other tenants, with nothing but the tenant changed.
void RowsTraffic::reassign() {
    auto connection = PgConnection::connect_dsn(world_.moves().source_server().dsn("crm"), Secret{}, "reassign");
    if (!connection) return note_failure("reassign", connection.error());
    for (std::int64_t round = 1; !stopping_.load(); ++round) {
        const auto id = std::to_string(1501 + (round * 13) % 1499);
        const auto account = std::to_string(301 + (round * 7) % 599);
        std::string sql;
        switch (round % 4) {
            case 0:
                sql = "UPDATE docs SET tenant_id = 1 + tenant_id % 3 WHERE id = " + id + " AND NOT EXISTS (SELECT FROM parts WHERE doc = docs.id)";
                break;
            case 1:
                sql = "UPDATE billing.accounts SET tenant_id = 1 + tenant_id % 3 WHERE id = " + account;
                break;
            case 2:
                sql = "UPDATE notes SET tenant_id = 1 + tenant_id % 3 WHERE ctid = (SELECT ctid FROM notes LIMIT 1 FOR UPDATE SKIP LOCKED)";
                break;
            default:
                sql = "UPDATE docs SET tenant_id = 1 + tenant_id % 3, id = id + 100000 WHERE id = " + id +
                      " AND NOT EXISTS (SELECT FROM parts WHERE doc = docs.id)";
                break;
        }
        const auto done = connection->exec(sql);
        // From the fence on, nothing goes to red or leaves it.
        if (!done && done.error().sqlstate != "PP001" && done.error().sqlstate != "40P01") return note_failure("reassign", done.error());
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
}

void RowsTraffic::go_around() {
    auto connection = PgConnection::connect_dsn(world_.moves().source_server().dsn("crm"), Secret{}, "bypass");
    if (!connection) return note_failure("bypass", connection.error());
    for (std::int64_t sequence = 1; !stopping_.load(); ++sequence) {
        const auto done = connection->exec("INSERT INTO ledger VALUES (1, " + std::to_string(bypass) + ", " + std::to_string(sequence) + ", " +
                                           std::to_string(sequence) + ")");
        if (!done) {
            if (done.error().sqlstate != "PP001") return note_failure("bypass", done.error());
            // A cutover that gives way opens the gate again.
            refused_.store(true);
            --sequence;
        } else {
            refused_.store(false);
            const std::lock_guard lock(mutex_);
            last_[{1, bypass}] = sequence;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

std::string RowsTraffic::judge() {
    std::string verdict;
    const auto place = world_.moves().publisher().current()->find_tenant("red")->placement;
    auto& home = place.cluster == "shared-1" ? world_.moves().source_server() : world_.moves().target_server();
    for (const auto& [who, last] : last_) {
        const auto query = "SELECT count(*), coalesce(max(seq), 0), coalesce(sum(amount), 0) FROM ledger WHERE tenant_id = " +
                           std::to_string(who.first) + " AND writer = " + std::to_string(who.second);
        const auto found = who.first == 1 ? MoveWorld::sql(home, place.database, query) : world_.on_crm(query);
        const auto expected = std::to_string(last) + "|" + std::to_string(last) + "|" + std::to_string(last * (last + 1) / 2);
        if (found != expected) {
            verdict += "client " + std::to_string(who.first) + "." + std::to_string(who.second) + ": " + found + " instead of " + expected + "\n";
        }
    }
    return verdict;
}

}  // namespace pgporter::test
