// What is answered and held back while there is no server connection, and what isn't.
#include "proxy/session/held_transaction.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "tests/unit/router/catalog_of_test.hpp"

using namespace pgporter;

namespace {

// A session of `narrow`, who may speak for acme and moved, that has no tenant yet.
struct Conversation {
    SnapshotPtr catalog = test::router_catalog();
    IdentifyConfig config;
    HeldTransaction held;
    ScopedSettings named;
    BindValues values;
    std::string last_row;

    // A Query: the tags of what was answered, "server" or a SQLSTATE where that ends.
    std::string query(std::string_view sql) {
        std::string out;
        const HeldTransaction::World world{config, *catalog, Asker{catalog->find_user("narrow"), {}, {}, "main", "app"}};
        for (const SessionStatement& statement : recognise(sql)) {
            if (!out.empty()) out += ' ';
            const auto changes = resolve(statement, values);
            const auto answer = changes ? held.perform(statement, *changes, world, named) : HeldTransaction::Answer{};
            switch (answer.kind) {
                case HeldTransaction::Answer::Kind::needs_server: return out + "server";
                case HeldTransaction::Answer::Kind::refused: held.fail(named); return out + answer.error.sqlstate;
                case HeldTransaction::Answer::Kind::answered: break;
            }
            out += answer.tag;
            last_row.clear();
            for (const std::string& column : answer.row) last_row += "[" + column + "]";
        }
        held.end_implicit(named);
        return out;
    }

    std::string path() const {
        const std::string* value = find_value(named.view().effective, "search_path");
        return value == nullptr ? "-" : *value;
    }
};

}  // namespace

TEST_CASE("BEGIN and what names the tenant wait for the first statement that needs a server") {
    Conversation c;
    CHECK(c.held.status() == 'I');
    CHECK(c.held.held_back().empty());
    CHECK(c.query("begin isolation level serializable;") == "BEGIN");
    CHECK(c.held.status() == 'T');
    CHECK(c.query("SET LOCAL search_path = 'acme', public -- why") == "SET");
    CHECK(c.query("SELECT set_config('app.tenant', 'acme', true)") == "SELECT 1");
    CHECK(c.last_row == "[acme]");
    CHECK(c.held.held_back() == "begin isolation level serializable; SET LOCAL search_path = 'acme', public; "
                                "SELECT pg_catalog.set_config('app.tenant', 'acme', true)");
    CHECK(c.query("SELECT 1") == "server");
    c.held.hand_over();
    CHECK(c.held.status() == 'I');
    CHECK(c.held.held_back().empty());
}

TEST_CASE("the tags are PostgreSQL's") {
    for (const char* begin : {"START TRANSACTION", "BEGIN"}) {
        for (const auto& [end, tag] : {std::pair{"COMMIT", "COMMIT"}, {"END", "COMMIT"}, {"ROLLBACK", "ROLLBACK"}, {"ABORT", "ROLLBACK"}}) {
            Conversation c;
            CHECK(c.query(begin) == begin);
            CHECK(c.query("SAVEPOINT a") == "SAVEPOINT");
            CHECK(c.query("SET search_path = acme") == "SET");
            CHECK(c.query("RESET search_path") == "RESET");
            CHECK(c.query("ROLLBACK TO a") == "ROLLBACK");
            CHECK(c.query("RELEASE a") == "RELEASE");
            CHECK(c.query(end) == tag);
            CHECK(c.held.status() == 'I');
        }
    }
}

TEST_CASE("what was set outlives a commit and no rollback") {
    Conversation c;
    CHECK(c.query("BEGIN; SET search_path = acme; COMMIT") == "BEGIN SET COMMIT");
    CHECK(c.path() == "acme");
    CHECK(c.query("BEGIN; SET search_path = moved; ROLLBACK") == "BEGIN SET ROLLBACK");
    CHECK(c.path() == "acme");
    CHECK(c.query("BEGIN; SET LOCAL search_path = moved") == "BEGIN SET");
    CHECK(c.path() == "moved");
    CHECK(c.query("COMMIT") == "COMMIT");
    CHECK(c.path() == "acme");
    CHECK(c.query("SET LOCAL search_path = moved") == "server");  // there is no transaction: PostgreSQL warns
}

TEST_CASE("the statements of a Query succeed or fail together") {
    Conversation c;
    CHECK(c.query("SET search_path = acme; SET search_path = nobody") == "SET 3F000");
    CHECK(c.path() == "-");
    CHECK(c.held.status() == 'I');
    CHECK(c.query("BEGIN; COMMIT; SET search_path = acme; SET search_path = nobody") == "BEGIN COMMIT SET 3F000");
    CHECK(c.path() == "-");
    // A BEGIN behind it makes what came before part of its transaction.
    CHECK(c.query("SET search_path = acme; BEGIN") == "SET BEGIN");
    CHECK(c.held.held_back() == "BEGIN; SET search_path = acme");
    CHECK(c.query("ROLLBACK") == "ROLLBACK");
    CHECK(c.path() == "-");
    // What a Query has set is no business of the next one's transaction.
    CHECK(c.query("SET search_path = acme") == "SET");
    CHECK(c.query("BEGIN") == "BEGIN");
    CHECK(c.held.held_back() == "BEGIN");
}

TEST_CASE("savepoints") {
    Conversation c;
    CHECK(c.query("SAVEPOINT a") == "server");
    CHECK(c.query("BEGIN; SAVEPOINT a; SET search_path = acme; SAVEPOINT a; SET search_path = moved") == "BEGIN SAVEPOINT SET SAVEPOINT SET");
    CHECK(c.query("ROLLBACK TO a") == "ROLLBACK");
    CHECK(c.path() == "acme");
    CHECK(c.held.held_back() == "BEGIN; SAVEPOINT a; SET search_path = acme; SAVEPOINT a");
    CHECK(c.query("ROLLBACK TO SAVEPOINT a") == "ROLLBACK");
    CHECK(c.query("RELEASE a") == "RELEASE");
    CHECK(c.query("ROLLBACK TO a") == "ROLLBACK");
    CHECK(c.path() == "-");
    CHECK(c.held.held_back() == "BEGIN; SAVEPOINT a");
    CHECK(c.query("ROLLBACK TO b") == "server");
    CHECK(c.query("RELEASE A; RELEASE \"A\"") == "RELEASE server");
}

TEST_CASE("a transaction that failed accepts its end only") {
    Conversation c;
    CHECK(c.query("BEGIN; SAVEPOINT a") == "BEGIN SAVEPOINT");
    CHECK(c.query("SET search_path = nobody") == "3F000");
    CHECK(c.held.status() == 'E');
    CHECK(c.held.held_back().empty());
    for (const char* sql : {"SELECT 1", "BEGIN", "SAVEPOINT b", "RELEASE a", "SET search_path = acme", "DISCARD ALL", "PREPARE TRANSACTION 'x'"}) {
        INFO(sql);
        CHECK(c.query(sql) == "25P02");
    }
    CHECK(c.query("ROLLBACK TO b") == "3B001");
    CHECK(c.held.status() == 'E');
    CHECK(c.query("ROLLBACK TO a") == "ROLLBACK");
    CHECK(c.held.status() == 'T');
    CHECK(c.held.held_back() == "BEGIN; SAVEPOINT a");
    CHECK(c.query("SET app.tenant = globex") == "3D000");
    CHECK(c.query("COMMIT") == "ROLLBACK");
    CHECK(c.held.status() == 'I');
}

TEST_CASE("a chain begins its next transaction as the one before") {
    Conversation c;
    CHECK(c.query("BEGIN READ ONLY; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SET search_path = acme") == "BEGIN SET SET");
    CHECK(c.query("COMMIT AND CHAIN") == "COMMIT");
    CHECK(c.held.held_back() == "BEGIN READ ONLY; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
    CHECK(c.path() == "acme");
    CHECK(c.query("SET search_path = moved") == "SET");
    CHECK(c.query("ROLLBACK AND CHAIN") == "ROLLBACK");
    CHECK(c.path() == "acme");
    CHECK(c.query("SET search_path = nobody") == "3F000");
    CHECK(c.query("COMMIT AND CHAIN") == "ROLLBACK");
    CHECK(c.held.status() == 'T');
    CHECK(c.query("COMMIT AND NO CHAIN") == "COMMIT");
    CHECK(c.query("COMMIT AND CHAIN") == "server");
}

TEST_CASE("what PostgreSQL might refuse is for it to say") {
    Conversation c;
    CHECK(c.query("COMMIT") == "server");
    CHECK(c.query("ROLLBACK") == "server");
    CHECK(c.query("BEGIN\v") == "server");
    CHECK(c.query("BEGIN /*\xFF*/ WORK") == "server");
    CHECK(c.query("SET TRANSACTION READ ONLY") == "server");
    CHECK(c.query("BEGIN") == "BEGIN");
    CHECK(c.query("BEGIN") == "BEGIN");  // warns
    CHECK(c.query("SET TRANSACTION READ ONLY") == "SET");
    CHECK(c.query("SAVEPOINT a") == "SAVEPOINT");
    CHECK(c.query("SET TRANSACTION READ WRITE") == "server");  // not in a subtransaction
    CHECK(c.query("RELEASE a") == "RELEASE");
    CHECK(c.query("SET TRANSACTION READ WRITE") == "SET");
    CHECK(c.query("SELECT set_config('search_path', 'acme', true)") == "SELECT 1");
    CHECK(c.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE") == "server");  // not behind a query
    CHECK(c.query("SELECT set_config('search_path', 'a b', true)") == "server");
    CHECK(c.query("SELECT set_config('search_path', NULL, true)") == "server");  // the result is the server's default
    CHECK(c.query("SELECT set_config('app.tenant', 'acme', true), set_config('role', 'x', true)") == "server");
    CHECK(c.query("SET work_mem = '1MB'") == "server");
    CHECK(c.query("RESET ALL") == "server");
    c.values = {"acme\xFF"};
    CHECK(c.query("SELECT set_config('app.tenant', $1, true)") == "server");
    c.values = {R"([["app.tenant", "acme"]])"};
    CHECK(c.query("select set_config(el->>0, el->>1, true) from json_array_elements($1) el") == "server");
}

TEST_CASE("what is held back stays small") {
    Conversation c;
    const std::string comment = "/*" + std::string(1000, 'x') + "*/";
    CHECK(c.query("BEGIN") == "BEGIN");
    std::size_t answered = 0;
    while (answered < 1000 && c.query("SAVEPOINT " + comment + " a") == "SAVEPOINT") ++answered;
    CHECK(answered > 50);
    CHECK(answered < 100);
    CHECK(c.held.held_back().size() <= HeldTransaction::held_back_bytes_max + 100);
    CHECK(c.query("SELECT set_config('search_path', 'acme', false)") == "SELECT 1");
    CHECK(c.query("COMMIT") == "COMMIT");
    // Going back and forth holds nothing back.
    CHECK(c.query("BEGIN; SAVEPOINT a") == "BEGIN SAVEPOINT");
    for (int i = 0; i < 100; ++i) {
        CHECK(c.query("SET search_path = acme, public") == "SET");
        CHECK(c.query("SET search_path = nobody") == "3F000");
        CHECK(c.query("ROLLBACK TO a") == "ROLLBACK");
    }
    CHECK(c.held.held_back() == "BEGIN; SAVEPOINT a");
    c.values = {std::string(70'000, ' ') + "acme"};
    CHECK(c.query("SELECT set_config('search_path', $1, true)") == "server");
}

TEST_CASE("values are literals in what is held back") {
    Conversation c;
    c.values = {"acme, \"it's\\\""};
    c.config.shared_schemas.emplace_back("it's\\");
    CHECK(c.query("BEGIN; SELECT set_config('search_path', $1, true) AS path") == "BEGIN SELECT 1");
    CHECK(c.last_row == "[acme, \"it's\\\"]");
    const auto again = recognise(c.held.held_back());
    REQUIRE(again.size() == 2);
    CHECK(c.held.held_back().find("E'") != std::string::npos);
}
