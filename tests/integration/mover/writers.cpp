#include "tests/integration/mover/writers.hpp"

#include <doctest/doctest.h>

namespace pgporter::test {

Writers::Writers(MoveWorld& world, int count, std::chrono::milliseconds pause)
    : world_(world), count_(count), pause_(pause), last_(static_cast<std::size_t>(count), 0) {}

void Writers::start() {
    for (int writer = 0; writer < count_; ++writer) threads_.emplace_back([this, writer] { write(writer); });
    wait_for_more(20);
}

void Writers::stop() {
    stopping_.store(true);
    for (auto& thread : threads_) thread.join();
    threads_.clear();
}

void Writers::wait_for_more(std::uint64_t transactions) {
    const auto goal = acknowledged_.load() + transactions;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (acknowledged_.load() < goal && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    REQUIRE(acknowledged_.load() >= goal);
}

std::string Writers::failures() const {
    const std::lock_guard lock(mutex_);
    return failures_;
}

// One of everything that can be done to a row; the ledger's entry proves that the transaction is there, once.
std::string Writers::transaction(int writer, std::int64_t sequence) {
    const auto w = std::to_string(writer);
    const auto s = std::to_string(sequence);
    const auto id = std::to_string(1 + (sequence * 7 + writer) % 400);
    std::string sql = "BEGIN; INSERT INTO acme.ledger VALUES (" + w + ", " + s + ", " + s + "); ";
    switch (sequence % 10) {
        case 0:
            sql += "UPDATE acme.orders SET total = total + 1 WHERE id = 3000 + " + std::to_string(1 + sequence % 20);
            break;  // unchanged TOAST
        case 1:
            sql += "INSERT INTO acme.customers (email, name, spot) VALUES ('w" + w + "s" + s +
                   "@x.example', 'new', ROW(1, 2.50, NULL)::acme.point3)";
            break;
        case 2:
            sql += "UPDATE acme.lines SET line = line + 1000 WHERE order_id = " + id +
                   " AND line < 1000 AND line % 3 = " + w;
            break;  // key change
        case 3:
            sql += "DELETE FROM acme.lines WHERE order_id = " + id + " AND line > 1000";
            break;
        case 4:
            sql +=
                "INSERT INTO acme.audit (what, n, doc) VALUES ('w', 1.000, '{\"b\": [1,  2]}'); UPDATE acme.audit SET "
                "what = 'x' || what WHERE ctid = "
                "(SELECT ctid FROM acme.audit ORDER BY at LIMIT 1 FOR UPDATE SKIP LOCKED)";
            break;
        case 5:
            sql += writer == 0 ? "TRUNCATE acme.scratch; INSERT INTO acme.scratch (v) VALUES (0.1), (1e-300)"
                               : "DELETE FROM acme.audit WHERE ctid = "
                                 "(SELECT ctid FROM acme.audit ORDER BY at LIMIT 1 FOR UPDATE SKIP LOCKED)";
            break;
        case 6:
            sql += "UPDATE acme.events SET day = day + 180 WHERE id = " + id +
                   " AND day < '2025-01-01'; INSERT INTO acme.events (day, what) VALUES ('2025-03-03', 'n')";
            break;
        case 7:
            sql += "UPDATE acme.settings SET value = repeat(md5('" + s +
                   "'), 200) WHERE key = 'one'; SELECT nextval('acme.free_running')";
            break;
        case 8:
            sql += "UPDATE acme.customers SET mood = 'happy', tags = tags || 'z'::text WHERE id = " + id;
            break;
        default:
            sql += "UPDATE acme.customers SET id = DEFAULT WHERE email = 'w" + w + "s" + std::to_string(sequence - 8) +
                   "@x.example'; "
                   "UPDATE acme.odd SET \"select\" = \"select\" + 1";
            break;
    }
    return sql + "; COMMIT";
}

void Writers::write(int writer) {
    PgConnection connection;
    std::string connected_to;
    std::int64_t sequence = 0;
    while (!stopping_.load()) {
        world_.gate().begin_transaction();
        const auto tenant = world_.publisher().current()->find_tenant("acme");
        const auto& place = tenant->placement;
        if (place.database != "shared" && stop_at_flip_.load()) {
            world_.gate().end_transaction();
            return;
        }
        if (place.database != connected_to) {
            auto& server = place.cluster == "shared-1" ? world_.source_server() : world_.target_server();
            auto opened = PgConnection::connect_dsn(server.dsn(place.database), Secret{}, "writer");
            if (opened) {
                connection = std::move(*opened);
                connected_to = place.database;
            }
        }
        ++sequence;
        auto done = connection.exec(transaction(writer, sequence));
        if (!done && connection.is_open()) static_cast<void>(connection.exec("ROLLBACK"));
        world_.gate().end_transaction();
        std::this_thread::sleep_for(pause_);
        if (done) {
            last_[static_cast<std::size_t>(writer)] = sequence;
            acknowledged_.fetch_add(1);
            continue;
        }
        // Two writers may meet in a deadlock or on a key of their own making; anything else is the move's fault.
        if (done.error().sqlstate == "40P01" || done.error().sqlstate == "23505") {
            --sequence;
            continue;
        }
        const std::lock_guard lock(mutex_);
        failures_ += done.error().sqlstate + " " + done.error().message + "\n";
        return;
    }
}

std::string Writers::judge() {
    const auto tenant = world_.publisher().current()->find_tenant("acme");
    auto& server = tenant->placement.cluster == "shared-1" ? world_.source_server() : world_.target_server();
    std::string verdict;
    for (int writer = 0; writer < count_; ++writer) {
        const auto last = last_[static_cast<std::size_t>(writer)];
        const auto found = MoveWorld::sql(
            server, tenant->placement.database,
            "SELECT count(*), coalesce(max(seq), 0), coalesce(sum(amount), 0) FROM acme.ledger WHERE writer = " +
                std::to_string(writer));
        const auto expected =
            std::to_string(last) + "|" + std::to_string(last) + "|" + std::to_string(last * (last + 1) / 2);
        if (found != expected)
            verdict += "writer " + std::to_string(writer) + ": " + found + " instead of " + expected + "\n";
    }
    return verdict;
}

}  // namespace pgporter::test
