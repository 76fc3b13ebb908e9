// Every text that would be answered without a server is run by PostgreSQL: it takes it, and what it has set is what was understood. The texts
// are those of the fuzzer's corpus and of applications, cut, spliced and misspelt by a generator with fixed seeds.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "catalog/pg_connection.hpp"
#include "proxy/session/held_transaction.hpp"
#include "proxy/session/set_statement.hpp"
#include "router/session_statement.hpp"
#include "tests/support/postgres_server.hpp"

using namespace pgporter;

namespace {

// "" is nobody's value: what RESET brings back is told from what SET has made.
constexpr const char* session_begins = "SET search_path = began; SELECT set_config('app.tenant', 'began', false), set_config('app.tenant_id', 'began', false)";

std::vector<std::string> texts_to_begin_with() {
    std::vector<std::string> texts = {
        "SET search_path TO \"Acme\", public", "set session search_path = 'a b', $$c$$, \"d\"\"e\"", "SET LOCAL search_path = acme, '$user'",
        "SET SCHEMA 'acme'", "SET SESSION SCHEMA E'a''b'", "SET app.tenant = 'acme'", "SET app . tenant_id TO -007", "SET LOCAL App.Tenant = Acme",
        "SET app.tenant TO on", "RESET search_path", "SET search_path TO DEFAULT", "SET app.tenant = 1.50", "SET search_path = 1, -2, + 3, x",
        "SELECT set_config('search_path', 'acme, \"B\"', false)", "SELECT pg_catalog.set_config('app.tenant'::text, 'x'::varchar, 't'::bool) AS a",
        "select set_config('Search_Path', $x$\"y\"$x$, true) z, set_config('app.tenant_id', E'it''s', false)", "SET search_path = '', public",
        "SET search_path = 'quo\"te', \"back\\slash\"", "SET search_path = $a$b$$c$a$", "SET /* c /* d */ */ search_path -- e\n = \t acme ;",
        "SET search_path = 'user', \"order\", int, acme$1, _x, \xc3\xbc", "SET search_path = acme'b', c", "SET app.tenant = 12e3", "SET app.tenant = 0x1F",
        "SET search_path = 5a", "SET search_path = 'a'\n'b'", "SET app.tenant = 'a' -- b\n 'c'", "SET app.tenant = E'a\\'b'", "SET app.tenant = b'1'",
        "SET app.tenant = n'x'", "SET search_path = E'a', x'1f'"};
    const std::filesystem::path corpus(PGPORTER_FUZZ_CORPUS);
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(corpus)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
        std::ifstream in(file, std::ios::binary);
        const std::string all((std::istreambuf_iterator<char>(in)), {});
        for (std::size_t at = 0; at <= all.size();) {
            const std::size_t end = std::min(all.find('\x02', at), all.size());
            if (end > at && end - at < 200) texts.push_back(all.substr(at, end - at));
            at = end + 1;
        }
    }
    return texts;
}

class Generator {
  public:
    explicit Generator(unsigned seed) : random_(seed) {}

    std::string next() {
        std::string text = any(bases_);
        const std::size_t changes = below(4);
        for (std::size_t i = 0; i < changes; ++i) change(text);
        return text;
    }

  private:
    std::size_t below(std::size_t bound) { return random_() % bound; }
    const std::string& any(const std::vector<std::string>& from) { return from[below(from.size())]; }

    void change(std::string& text) {
        const std::size_t at = below(text.size() + 1);
        switch (below(8)) {
            case 0: text.insert(at, any(pieces_)); break;
            case 1: text.insert(at, 1, characters_[below(characters_.size())]); break;
            case 2: text.erase(at, 1 + below(3)); break;
            case 3: {
                const std::string& other = any(bases_);
                text = text.substr(0, at) + other.substr(below(std::min<std::size_t>(8, other.size() + 1)));
                break;
            }
            case 4:  // another value
                if (const auto behind = text.find('='); behind != std::string::npos) text = text.substr(0, behind + 1) + any(pieces_);
                break;
            case 5: text += any(pieces_); break;
            case 6:
                if (at < text.size()) text[at] = static_cast<char>(text[at] ^ 0x20);
                break;
            default:  // a word for a word
                for (const char* word : {"acme", "public", "search_path", "app.tenant", "SET", "LOCAL"}) {
                    const auto found = text.find(word);
                    if (found == std::string::npos || below(3) != 0) continue;
                    text.replace(found, std::string(word).size(), any(pieces_));
                    break;
                }
        }
    }

    std::mt19937 random_;
    const std::vector<std::string> bases_ = texts_to_begin_with();
    const std::vector<std::string> pieces_ = {
        " ", "\n", "\t", "/**/", "--x\n", ",", ", ", "'", "\"", "''", "\"\"", "$$", "$a$", ";", ".", "-", "+", "E'", "U&'", "U&\"", "N'", "B'", "1", "007", "1.5", "1e9",
        "99999999999", "\\", "acme", "\"Acme\"", "'acme'", "'a b'", "'a,b'", "public", "user", "left", "int", "true", "null", "default", "DEFAULT", "session", "local",
        "to", "=", "search_path", "app.tenant", "app.tenant_id", "schema", "time zone", "::text", "(", ")", "true)", "AS x", "\xc3\xa9", "\xc3", "\f", "\v", "\r",
        std::string(61, 'n') + "\xc3\xa9\xc3\xa9", "$user", "'$user'", "_", "a$b", "%", "@", "!=", ":=", "from current", "\"a\"\"b\"", "'it''s'", "current_user"};
    const std::string characters_ = "\"'$,;.=-+ \n\\/*aZ_09()&uUeE:\x7f";
};

struct World {
    World() { connection = std::move(*PgConnection::connect_dsn(server.dsn(), Secret(), "recognised settings")); }
    // Nullopt: PostgreSQL refuses it.
    std::optional<std::string> value(const std::string& sql) {
        Result<PgResult> result = connection.exec(sql);
        if (!result) return std::nullopt;
        return result->rows() > 0 ? result->string(0, 0) : std::string();
    }
    bool runs(const std::string& sql) { return connection.exec(sql).has_value(); }
    std::string setting(const std::string& name) { return value("SELECT pg_catalog.current_setting(" + sql_literal(name) + ", true)").value_or("(failed)"); }

    test::PostgresServer server{test::PostgresOptions{}};
    PgConnection connection;
    IdentifyConfig config;
};

// What a SET of ours makes is what set_config makes.
void check_our_set(World& world, const ResolvedChange& change) {
    const std::string ours = change.value ? set_statement_sql(change.name, *change.value) : std::string();
    if (ours.empty()) return;
    REQUIRE(world.runs("BEGIN"));
    INFO(ours);
    CHECK(world.runs(ours));
    CHECK(world.setting(change.name) == *change.value);
    REQUIRE(world.runs("ROLLBACK"));
}

// True: it would be answered without a server.
bool check_text(World& world, const std::string& sql) {
    const std::vector<SessionStatement> statements = recognise(sql);
    if (statements.size() != 1) return false;
    const SessionStatement& only = statements.front();
    const bool sets = only.verb == SessionVerb::set || only.verb == SessionVerb::set_config;
    const auto changes = resolve(only, {});
    HeldTransaction held;
    ScopedSettings named;
    const auto begin = recognise("BEGIN");
    const SnapshotPtr nobody = Snapshot::build({});
    REQUIRE(held.perform(begin.front(), {}, {world.config, *nobody, {}}, named).kind == HeldTransaction::Answer::Kind::answered);
    if (!sets || !changes || !held.performs(only, *changes, world.config, named)) return false;
    INFO(sql);
    REQUIRE(world.runs("BEGIN"));
    const bool taken = world.runs(sql);
    CHECK_MESSAGE(taken, "PostgreSQL refuses this");
    std::map<std::string, std::string> after;
    for (const ResolvedChange& change : *changes) after[change.name] = change.value.value_or("(default)");
    if (taken) {
        for (const auto& [name, value] : after) {
            INFO(name);
            if (value != "(default)") CHECK(world.setting(name) == value);
            if (value == "(default)") CHECK(world.setting(name) != "began");
        }
    }
    REQUIRE(world.runs("ROLLBACK"));
    for (const ResolvedChange& change : *changes) check_our_set(world, change);
    return true;
}

}  // namespace

TEST_CASE("what is answered without a server is what PostgreSQL makes of it") {
    World world;
    REQUIRE(world.runs(session_begins));
    std::size_t answered = 0;
    for (const std::string& sql : texts_to_begin_with()) answered += check_text(world, sql) ? 1U : 0U;
    CHECK(answered > 20);
    for (const unsigned seed : {1U, 2U, 3U, 4U}) {
        CAPTURE(seed);
        Generator generator(seed);
        for (int i = 0; i < 10'000; ++i) answered += check_text(world, generator.next()) ? 1U : 0U;
    }
    CHECK(answered > 2'000);
}
