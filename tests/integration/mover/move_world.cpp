#include "tests/integration/mover/move_world.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>
#include <thread>

#include "base/log.hpp"

namespace pgporter::test {

Result<HoldId> HoldingGate::hold(std::string_view, std::chrono::milliseconds hold_max) {
    const std::lock_guard lock(mutex_);
    if (held_now()) return fail(ErrorKind::conflict, "held already");
    held_ = true;
    until_ = std::chrono::steady_clock::now() + hold_max;
    return HoldId{++hold_};
}

bool HoldingGate::held_now() const {
    return held_ && std::chrono::steady_clock::now() < until_;
}

bool HoldingGate::held() const {
    const std::lock_guard lock(mutex_);
    return held_now();
}

std::uint64_t HoldingGate::holds() const {
    const std::lock_guard lock(mutex_);
    return hold_;
}

DrainStatus HoldingGate::wait_drained(HoldId, std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [this] { return running_ == 0; });
    return {running_ == 0, !held_now(), running_, 0, 0};
}

bool HoldingGate::release(HoldId hold) {
    const std::lock_guard lock(mutex_);
    const bool in_time = hold.value == hold_ && held_now();
    held_ = false;
    changed_.notify_all();
    return in_time;
}

std::uint32_t HoldingGate::warm(std::string_view, const Placement&, std::chrono::milliseconds) {
    return 0;
}

void HoldingGate::begin_transaction() {
    std::unique_lock lock(mutex_);
    while (held_now()) changed_.wait_until(lock, until_);
    ++running_;
}

void HoldingGate::end_transaction() {
    const std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
}

void FailingJournal::fail_advance(MoveState to, bool written, int times) {
    const std::lock_guard lock(mutex_);
    advances_[to] = {written, times};
}
void FailingJournal::fail_flip(bool written, int times) {
    const std::lock_guard lock(mutex_);
    flip_ = {written, times};
}
Result<void> FailingJournal::advance(MoveId move, MoveState from, MoveState to, std::string_view note) {
    Failure failure;
    {
        const std::lock_guard lock(mutex_);
        auto& planned = advances_[to];
        if (planned.times > 0) failure = {planned.written, planned.times--};
    }
    if (failure.times == 0) return real_.advance(move, from, to, note);
    if (failure.written) {
        const auto written = real_.advance(move, from, to, note);
        if (!written) return written;
    }
    return fail(ErrorKind::unavailable, "the catalog is away (on purpose)");
}
Result<Tenant> FailingJournal::flip(MoveId move, Epoch expected, CatalogVersion& version_out) {
    Failure failure;
    {
        const std::lock_guard lock(mutex_);
        if (flip_.times > 0) failure = {flip_.written, flip_.times--};
    }
    if (failure.times == 0) return real_.flip(move, expected, version_out);
    if (failure.written) {
        const auto written = real_.flip(move, expected, version_out);
        if (!written) return written;
    }
    return fail(ErrorKind::unavailable, "the catalog is away (on purpose)");
}
Result<MoveRecord> FailingJournal::create_move(const MoveRequest& request, const Placement& source,
                                               const Placement& target, Epoch epoch, std::uint32_t unfinished_max) {
    return real_.create_move(request, source, target, epoch, unfinished_max);
}
Result<std::vector<QueueEntry>> FailingJournal::queue() {
    return real_.queue();
}
Result<bool> FailingJournal::admit(MoveId move, const QueueLimits& limits) {
    return real_.admit(move, limits);
}
Result<void> FailingJournal::save_progress(MoveId move, const MoveProgress& progress) {
    return real_.save_progress(move, progress);
}
Result<MoveRecord> FailingJournal::find_move(MoveId move) {
    return real_.find_move(move);
}
Result<std::vector<MoveRecord>> FailingJournal::list_moves(bool unfinished_only) {
    return real_.list_moves(unfinished_only);
}
Result<std::int64_t> FailingJournal::add_cleanup(const CleanupRecord& record) {
    return real_.add_cleanup(record);
}
Result<void> FailingJournal::cleanup_done(std::int64_t id) {
    return real_.cleanup_done(id);
}
Result<std::vector<CleanupRecord>> FailingJournal::open_cleanups(MoveId move) {
    return real_.open_cleanups(move);
}
Result<void> FailingJournal::describe_target_database(MoveId move) {
    auto done = real_.describe_target_database(move);
    if (done && on_change) on_change();
    return done;
}
Result<void> FailingJournal::forget_target_database(MoveId move) {
    auto done = real_.forget_target_database(move);
    if (done && on_change) on_change();
    return done;
}
Result<std::unique_ptr<MoveOwnership>> FailingJournal::own_move(MoveId move) {
    return real_.own_move(move);
}

MoveWorld::MoveWorld(bool two_servers) : two_servers_(two_servers) {
    // For whoever looks into a failure.
    if (std::getenv("PGPORTER_TEST_LOG") != nullptr) {
        log::set_sink([](log::Level, const std::string& line) { std::cerr << line << std::endl; });
    }
    PostgresOptions options;
    options.wal_level = "logical";
    options.settings = {"max_prepared_transactions = 10", "max_connections = 60"};
    source_server_.start(options);
    if (two_servers_) target_server_.start(options);
    sql(source_server_, "postgres", "CREATE DATABASE catalog");
    sql(source_server_, "postgres", "CREATE DATABASE shared");
    for (auto* server : {&source_server_, &target_server_}) {
        if (!server->running()) continue;
        sql(*server, "postgres", "CREATE ROLE app LOGIN; CREATE ROLE pgporter_mover LOGIN SUPERUSER");
    }
    on_source(acme_schema);

    config_.catalog.dsn = source_server_.dsn("catalog");
    config_.mover.user = "pgporter_mover";
    config_.mover.restarts_max = 0;  // what a crash leaves is looked at
    config_.mover.pg_dump = "/usr/lib/postgresql/15/bin/pg_dump";
    config_.mover.pg_restore = "/usr/lib/postgresql/15/bin/pg_restore";
    store_ = std::make_unique<CatalogStore>(config_.catalog);
    auto opened = store_->open();
    REQUIRE_MESSAGE(opened.has_value(), (opened ? std::string() : opened.error().message));
    Cluster source;
    source.name = "shared-1";
    source.host = "127.0.0.1";
    source.port = source_server_.port();
    Cluster target = source;
    target.name = "own-1";
    if (two_servers_) target.port = target_server_.port();
    document_.clusters = {source, target};
    add_tenant("acme");
    journal_ = std::make_unique<FailingJournal>(*store_);
    restart_mover();
}

void MoveWorld::add_tenant(const std::string& name) {
    Tenant tenant;
    tenant.name = name;
    tenant.placement = {PlacementKind::schema, "shared-1", "shared", name};
    document_.tenants.push_back(tenant);
    auto applied = store_->apply(document_, false);
    REQUIRE_MESSAGE(applied.has_value(), (applied ? std::string() : applied.error().message));
    auto content = store_->load();
    REQUIRE(content.has_value());
    publisher_.publish(Snapshot::build(std::move(*content)));
}

MoveWorld::~MoveWorld() {
    mover_.reset();
}

void MoveWorld::restart_mover() {
    mover_.reset();
    mover_ = std::make_unique<Mover>(Mover::Ports{config_, *journal_, gate_, publisher_, registry_, latency_});
}

MoveRequest MoveWorld::request() const {
    MoveRequest request;
    request.tenant = "acme";
    request.cluster = "own-1";
    request.database = "acme_own";
    return request;
}

MoveRecord MoveWorld::wait_for(MoveId move, const std::vector<MoveState>& states, std::chrono::seconds within) {
    const auto deadline = std::chrono::steady_clock::now() + within;
    MoveRecord last;
    while (std::chrono::steady_clock::now() < deadline) {
        auto record = mover_->find(move);
        REQUIRE(record.has_value());
        last = *record;
        for (const auto state : states) {
            if (last.state == state) return last;
        }
        if (is_finished(last.state)) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    FAIL("the move is in state " << to_text(last.state) << ", note: " << last.progress.note
                                 << ", error: " << last.error);
    return last;
}

MoveRecord MoveWorld::run(const MoveRequest& wanted, MoveState end) {
    auto started = mover_->start(wanted);
    REQUIRE_MESSAGE(started.has_value(), (started ? std::string() : started.error().message));
    return wait_for(started->id, {end});
}

std::string MoveWorld::sql(PostgresServer& server, const std::string& database, const std::string& statement) {
    auto connection = PgConnection::connect_dsn(server.dsn(database), Secret{}, "test");
    REQUIRE_MESSAGE(connection.has_value(), (connection ? std::string() : connection.error().message));
    auto rows = connection->exec(statement);
    REQUIRE_MESSAGE(rows.has_value(),
                    statement << ": " << (rows ? std::string() : rows.error().message + " " + rows.error().detail));
    std::string text;
    for (int row = 0; row < rows->rows(); ++row) {
        for (int column = 0; column < rows->columns(); ++column)
            text += (column > 0 ? "|" : "") + rows->string(row, column);
        text += row + 1 < rows->rows() ? "\n" : "";
    }
    return text;
}

bool MoveWorld::target_exists() {
    return sql(target_server(), "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'acme_own'") == "1";
}

std::string MoveWorld::artefacts() {
    const std::string in_database =
        "SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'pgporter%' "
        "UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'pgporter%' "
        "UNION ALL SELECT 'publication ' || pubname FROM pg_publication "
        "UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname LIKE 'pgporter%' "
        "UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots";
    auto found = on_source(in_database);
    if (target_exists()) found += sql(target_server(), "acme_own", in_database);
    return found;
}

std::string MoveWorld::fingerprint(PostgresServer& server, const std::string& database) {
    const auto queries = sql(
        server, database,
        "SELECT format('SELECT %L, count(*), coalesce(sum(hashtextextended(t::text, 7)::numeric), 0) FROM ONLY acme.%I "
        "t', "
        "relname, relname) FROM pg_class WHERE relnamespace = 'acme'::regnamespace AND relkind = 'r' ORDER BY relname");
    std::string text;
    for (std::size_t at = 0; at < queries.size();) {
        const auto end = std::min(queries.find('\n', at), queries.size());
        text += sql(server, database, queries.substr(at, end - at)) + "\n";
        at = end + 1;
    }
    return text;
}

std::string MoveWorld::where_tenant_lives() const {
    const auto tenant = publisher_.current()->find_tenant("acme");
    return tenant->placement.cluster + "/" + tenant->placement.database;
}

const char* const acme_schema = R"sql(
CREATE EXTENSION citext;
CREATE SCHEMA acme AUTHORIZATION app;
SET search_path = acme, public;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN email AS citext CHECK (VALUE ~ '@');
CREATE TYPE point3 AS (x int, y numeric, label text);
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email email UNIQUE,
  name text NOT NULL, mood mood DEFAULT 'ok',
  tags text[], born timestamptz DEFAULT now(), balance numeric(20,4) DEFAULT 0, spot point3, "Odd Name" text,
  upper_name text GENERATED ALWAYS AS (upper(name)) STORED);
CREATE TABLE orders (id serial PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers ON DELETE CASCADE,
  total numeric NOT NULL,
  note text, payload jsonb, blob bytea, created timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON orders (customer_id) WHERE total > 10;
CREATE INDEX ON orders (left(lower(note), 20));
CREATE TABLE lines (order_id int NOT NULL REFERENCES orders ON DELETE CASCADE, line int NOT NULL,
  product varchar(40), qty int CHECK (qty > 0),
  PRIMARY KEY (order_id, line));
CREATE TABLE ledger (writer int, seq bigint, amount int NOT NULL, PRIMARY KEY (writer, seq));
CREATE TABLE audit (at timestamptz DEFAULT clock_timestamp(), what text, n numeric, doc json);
ALTER TABLE audit REPLICA IDENTITY FULL;
CREATE TABLE settings (key char(8) NOT NULL, value text, which regclass);
CREATE UNIQUE INDEX settings_by_key ON settings (key);
ALTER TABLE settings REPLICA IDENTITY USING INDEX settings_by_key;
CREATE TABLE scratch (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v float8);
CREATE TABLE events (id bigserial, day date NOT NULL, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_a PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_b (what text, id bigint NOT NULL DEFAULT nextval('events_id_seq'), day date NOT NULL);
ALTER TABLE events ATTACH PARTITION events_b FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE odd ("a ""quoted"" key" text PRIMARY KEY, "select" int);
CREATE VIEW rich AS SELECT * FROM customers WHERE balance > 100;
CREATE MATERIALIZED VIEW totals AS SELECT customer_id, sum(total) AS total FROM orders GROUP BY 1;
CREATE SEQUENCE free_running START 1000 INCREMENT 7;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := coalesce(NEW.note,
  '''') || ''!''; RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE POLICY own ON customers USING (true);
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON rich TO app;
COMMENT ON TABLE orders IS 'what they bought; it''s a "test" \ of quoting';
INSERT INTO customers (email, name, mood, tags, balance, spot, "Odd Name") SELECT 'C' || g || '@x.example',
  'name ' || g,
  (ARRAY['sad','ok','happy'])[1 + g % 3]::mood, ARRAY['a' || g, NULL, 'q"uo\te'], g * 1.5000, ROW(g, g / 3.0,
  'l')::point3, repeat('x', g % 7)
  FROM generate_series(1, 500) g;
INSERT INTO orders (customer_id, total, note, payload, blob) SELECT 1 + g % 500, g, 'note ' || g,
  jsonb_build_object('n', g, 'a', ARRAY[g, g + 1]),
  decode(repeat(md5(g::text), g % 5), 'hex') FROM generate_series(1, 3000) g;
INSERT INTO orders (customer_id, total, note, payload) SELECT g, 1,
  (SELECT string_agg(md5((g * 1000 + i)::text), '') FROM generate_series(1, 400) i), '{}' FROM generate_series(1,
  20) g;
INSERT INTO lines SELECT g, l, 'p' || l, l FROM generate_series(1, 1000) g, generate_series(1, 3) l;
INSERT INTO audit (what, n, doc) SELECT 'w' || g % 10, CASE g % 3 WHEN 0 THEN 1.0 WHEN 1 THEN 1.00 END,
  '{"a": 1}' FROM generate_series(1, 60) g;
INSERT INTO settings VALUES ('one', 'v', 'acme.orders'), ('two', NULL, 'pg_class');
INSERT INTO events (day, what) SELECT '2024-06-01'::date + g, 'e' FROM generate_series(1, 400) g;
INSERT INTO scratch (v) SELECT 1 / (g + 0.5) FROM generate_series(1, 100) g;
INSERT INTO odd VALUES ('k', 1), ('it''s "k2"', 2), ('back\slash', 3);
REFRESH MATERIALIZED VIEW totals;
)sql";

}  // namespace pgporter::test
