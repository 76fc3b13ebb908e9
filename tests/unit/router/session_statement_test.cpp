// What is understood of a text, and what must not be: PostgreSQL's grammar, form by form.
#include "router/session_statement.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

using namespace pgporter;

namespace {

std::string describe(const SettingOperand& operand) {
    switch (operand.kind) {
        case SettingOperand::Kind::text: return "'" + operand.text + "'";
        case SettingOperand::Kind::parameter: return "$" + std::to_string(operand.parameter);
        case SettingOperand::Kind::null: return "null";
        case SettingOperand::Kind::pairs: return "pairs($" + std::to_string(operand.parameter) + ")";
    }
    return "?";
}

std::string_view name_of(SessionVerb verb) {
    switch (verb) {
        case SessionVerb::other: return "other";
        case SessionVerb::begin: return "begin";
        case SessionVerb::set_transaction: return "set_transaction";
        case SessionVerb::commit: return "commit";
        case SessionVerb::rollback: return "rollback";
        case SessionVerb::savepoint: return "savepoint";
        case SessionVerb::release: return "release";
        case SessionVerb::rollback_to: return "rollback_to";
        case SessionVerb::set: return "set";
        case SessionVerb::set_config: return "set_config";
        case SessionVerb::reset_all: return "reset_all";
        case SessionVerb::discard_all: return "discard_all";
    }
    return "?";
}

// "set app.tenant='x' local" and the like; several statements are separated by " ; ".
std::string describe(std::string_view sql) {
    std::string out;
    for (const SessionStatement& statement : recognise(sql)) {
        if (!out.empty()) out += " ; ";
        out += name_of(statement.verb);
        if (!statement.savepoint.empty()) out += " " + statement.savepoint;
        if (statement.chain) out += " chain";
        for (const SettingChange& change : statement.changes) {
            out += " " + (change.name.kind == SettingOperand::Kind::text ? change.name.text : describe(change.name)) + "=" + describe(change.value);
            if (change.local.text == "true") out += " local";
            if (change.local.kind == SettingOperand::Kind::parameter) out += " local=" + describe(change.local);
            if (statement.verb == SessionVerb::set_config && change.column != "set_config") out += " as " + change.column;
        }
        for (const std::string& name : statement.computed) out += " computed(" + name + ")";
        if (statement.needs_server) out += " needs_server";
        CHECK(sql.substr(statement.begin, statement.text.size()) == statement.text);
    }
    return out;
}

struct Row {
    std::string_view sql;
    std::string_view means;
};

void check(const std::vector<Row>& rows) {
    for (const Row& row : rows) {
        INFO(row.sql);
        CHECK(describe(row.sql) == row.means);
    }
}

}  // namespace

TEST_CASE("what frameworks send") {
    check({
        {"SET search_path = 'acme','public'", "set search_path='acme, public'"},
        {"SET search_path = 'public'", "set search_path='public'"},
        {"SET search_path = acme,public", "set search_path='acme, public'"},
        {"SET search_path TO \"acme\", \"public\"", "set search_path='acme, public'"},
        {"SET client_min_messages TO warning", "set client_min_messages='warning'"},
        {"SET SESSION timezone TO 'UTC'", "set timezone='UTC'"},
        {"set search_path to \"acme\"", "set search_path='acme'"},
        {"SET my.current_tenant = '7f3c-42'", "set my.current_tenant='7f3c-42'"},
        {"RESET my.current_tenant", "set my.current_tenant=null"},
        {"SET SESSION search_path TO 'acme'", "set search_path='acme'"},
        {"SET SESSION search_path TO DEFAULT", "set search_path=null"},
        {"SET SCHEMA 'acme'", "set search_path='acme'"},
        {"SET SCHEMA acme", "other computed(search_path)"},  // which PostgreSQL refuses
        {"SELECT set_config('app.current_company_id', $1, TRUE)", "set_config app.current_company_id=$1 local"},
        {"SET search_path to acme; SELECT 1", "set search_path='acme' ; other"},
        {"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", "begin"},
        {"select set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true)",
         "set_config search_path=$1 local role=$2 local request.jwt.claims=$3 local"},
        {"select set_config(el->>0, el->>1, true) from json_array_elements($1) el",
         "set_config pairs($1)=pairs($1) local needs_server"},
        {"SELECT pg_catalog.set_config('search_path', '', false)", "set_config search_path=''"},
        {"SET app.current_tenant = '7f3c'", "set app.current_tenant='7f3c'"},
        {"SET LOCAL app.current_tenant = 'x'", "set app.current_tenant='x' local"},
        {"SET app.organisationId TO 'X y'", "set app.organisationid='X y'"},
        {"SET LOCAL ROLE acme", "other computed(role)"},
        {"RESET ROLE", "set role=null"},
        {"SET pgporter.tenant = acme", "set pgporter.tenant='acme'"},
        {"DISCARD ALL", "discard_all"},
        {"SHOW search_path", "other"},
    });
}

TEST_CASE("transactions") {
    check({
        {"BEGIN", "begin"},
        {"begin work", "begin"},
        {"BEGIN TRANSACTION", "begin"},
        {"START TRANSACTION", "begin"},
        {"START", "other"},
        {"START WORK", "other"},
        {"BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE, NOT DEFERRABLE", "begin"},
        {"BEGIN ISOLATION LEVEL REPEATABLE READ DEFERRABLE", "begin"},
        {"BEGIN ISOLATION LEVEL READ UNCOMMITTED", "begin"},
        {"START TRANSACTION READ ONLY", "begin"},
        {"BEGIN ISOLATION LEVEL CHAOS", "other"},
        {"BEGIN READ", "other"},
        {"BEGIN READ ONLY,", "other"},
        {"BEGIN , READ ONLY", "other"},
        {"BEGIN NOT", "other"},
        {"BEGIN ATOMIC", "other"},
        {"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "set_transaction"},
        {"SET LOCAL TRANSACTION READ ONLY", "set_transaction"},
        {"SET TRANSACTION", "other"},
        {"SET TRANSACTION SNAPSHOT '1'", "other"},
        {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "other computed(characteristics)"},
        {"COMMIT", "commit"},
        {"COMMIT WORK AND NO CHAIN", "commit"},
        {"END TRANSACTION AND CHAIN", "commit chain"},
        {"COMMIT AND", "other"},
        {"COMMIT PREPARED 'x'", "other"},
        {"ROLLBACK", "rollback"},
        {"ABORT WORK", "rollback"},
        {"ROLLBACK AND CHAIN", "rollback chain"},
        {"ROLLBACK PREPARED 'x'", "other"},
        {"SAVEPOINT a", "savepoint a"},
        {"SAVEPOINT \"A b\"", "savepoint A b"},
        {"SAVEPOINT Mixed", "savepoint mixed"},
        {"SAVEPOINT savepoint", "savepoint savepoint"},
        {"RELEASE savepoint", "release savepoint"},
        {"RELEASE SAVEPOINT savepoint", "release savepoint"},
        {"RELEASE a", "release a"},
        {"ROLLBACK TO a", "rollback_to a"},
        {"ROLLBACK WORK TO SAVEPOINT a", "rollback_to a"},
        {"ABORT TO a", "other"},
        {"SAVEPOINT", "other"},
        {"SAVEPOINT user", "other"},
        {"SAVEPOINT left", "other"},
        {"SAVEPOINT \"user\"", "savepoint user"},
        {"SAVEPOINT int", "savepoint int"},
        {"SAVEPOINT \"\"", "other"},
        {"SAVEPOINT 'a'", "other"},
        {"SAVEPOINT a b", "other"},
        {"ROLLBACK TO", "other"},
        {"PREPARE TRANSACTION 'x'", "other"},
    });
    const std::string name(70, 'n');
    CHECK(describe("SAVEPOINT " + name) == "savepoint " + std::string(63, 'n') + " needs_server");
    CHECK(describe("SAVEPOINT " + std::string(62, 'n') + "\xC3\xA9") == "savepoint " + std::string(62, 'n') + " needs_server");
}

TEST_CASE("comments, white space, case and where a statement is") {
    check({
        {"", ""},
        {" ; ;; -- nothing\n", ""},
        {"/* a /* nested */ */ bEgIn -- why\n", "begin"},
        {"BEGIN/**/WORK;", "begin"},
        {"SET\tLOCAL\r\nsearch_path\f=\facme", "set search_path='acme' local"},
        {"SET/*;*/search_path--;\n=/* 'x' */acme", "set search_path='acme'"},
        {"SET app . tenant = 'x'", "set app.tenant='x'"},
        {"BEGIN; SET search_path = a; COMMIT", "begin ; set search_path='a' ; commit"},
        {"BEGIN\v", "begin needs_server"},
        {"SET\vsearch_path = acme", "set search_path='acme' needs_server"},
        {"BEGIN /* \xFF */ WORK", "begin needs_server"},
        {"SET app.tenant = '\xE9'; BEGIN", "set app.tenant='\xE9' needs_server ; begin needs_server"},
        {std::string_view("BEGIN /*\0*/", 11), "begin needs_server"},
        {std::string_view("SET app.tenant = \0", 18), "other computed(app.tenant) needs_server"},
        {"SET app.tenant = '\xC3\xA9'", "set app.tenant='\xC3\xA9'"},
    });
    const auto statements = recognise("/* c */ SET a.b = 1 /* d */ ; -- e\n COMMIT -- f");
    REQUIRE(statements.size() == 2);
    CHECK(statements[0].text == "SET a.b = 1");
    CHECK(statements[0].begin == 8);
    CHECK(statements[1].text == "COMMIT");
}

TEST_CASE("what the lexer can't end is one statement that isn't understood") {
    for (const std::string_view sql : {"BEGIN; SET search_path = 'a", "BEGIN; /* x", "BEGIN; SET \"a", "BEGIN; SELECT $x$ a", "SET a.b = E'\\'"}) {
        INFO(sql);
        const auto statements = recognise(sql);
        REQUIRE(statements.size() == 1);
        CHECK(statements[0].verb == SessionVerb::other);
        CHECK(statements[0].text == sql);
    }
}

TEST_CASE("values and their quoting") {
    check({
        {"SET app.tenant = 'it''s'", "set app.tenant='it's'"},
        {"SET app.tenant = E'it''s'", "set app.tenant='it's'"},
        {"SET app.tenant = $$it's$$", "set app.tenant='it's'"},
        {"SET app.tenant = $t$a$$b$t$", "set app.tenant='a$$b'"},
        {"SET app.tenant = \"Mixed\"", "set app.tenant='Mixed'"},
        {"SET app.tenant = Mixed", "set app.tenant='mixed'"},
        {"SET app.tenant = ''", "set app.tenant=''"},
        {"SET app.tenant = \"\"", "other computed(app.tenant)"},
        {"SET app.tenant = true", "set app.tenant='true'"},
        {"SET app.tenant = ON", "set app.tenant='on'"},
        {"SET app.tenant = left", "set app.tenant='left'"},
        {"SET app.tenant = user", "other computed(app.tenant)"},
        {"SET app.tenant = null", "other computed(app.tenant)"},
        {"SET app.tenant = 42", "set app.tenant='42'"},
        {"SET app.tenant = 007", "set app.tenant='7'"},
        {"SET app.tenant = -0", "set app.tenant='0'"},
        {"SET app.tenant = - 5", "set app.tenant='-5'"},
        {"SET app.tenant = +5", "set app.tenant='5'"},
        {"SET app.tenant = 1.50", "set app.tenant='1.50'"},
        {"SET app.tenant = -1.", "set app.tenant='-1.'"},
        {"SET app.tenant = 2147483647", "set app.tenant='2147483647'"},
        {"SET app.tenant = 002147483648", "set app.tenant='002147483648'"},
        {"SET app.tenant = 99999999999999999999999", "set app.tenant='99999999999999999999999'"},
        {"SET app.tenant = 1.2.3", "other computed(app.tenant)"},
        {"SET app.tenant = 1e5", "other computed(app.tenant)"},
        {"SET app.tenant = 1_000", "other computed(app.tenant)"},
        {"SET app.tenant = 5x", "other computed(app.tenant)"},
        {"SET app.tenant = 1..2", "other computed(app.tenant)"},
        {"SET app.tenant = -'5'", "other computed(app.tenant)"},
        {"SET app.tenant = E'\\x41'", "other computed(app.tenant)"},
        {"SET app.tenant = U&'acme'", "other computed(app.tenant)"},
        {"SET app.tenant = N'acme'", "other computed(app.tenant)"},
        {"SET app.tenant = 'a' 'b'", "other computed(app.tenant)"},
        {"SET app.tenant = 'a'\n'b'", "other computed(app.tenant)"},
        {"SET app.tenant = a, b", "other computed(app.tenant)"},
        {"SET app.tenant = (a)", "other computed(app.tenant)"},
        {"SET app.tenant = $1", "other computed(app.tenant)"},
        {"SET app.tenant == 'a'", "other computed(app.tenant)"},
        {"SET app.tenant := 'a'", "other computed(app.tenant)"},
        {"SET app.tenant 'a'", "other computed(app.tenant)"},
        {"SET app.tenant = 'a' x", "other computed(app.tenant)"},
        {"SET app.tenant FROM CURRENT", "other computed(app.tenant)"},
        {"SET app.tenant = 'a',", "other computed(app.tenant)"},
        {"SET app.tenant TO", "other computed(app.tenant)"},
        {"SET app.tenant TO DEFAULT", "set app.tenant=null"},
        {"SET LOCAL app.tenant = default", "set app.tenant=null local"},
        {"SET app.tenant = \"default\"", "set app.tenant='default'"},
    });
}

TEST_CASE("lists of schemas, as SHOW prints them") {
    check({
        {"SET search_path = a, \"B\", 'C d', \"e\"\"f\"", "set search_path='a, \"B\", \"C d\", \"e\"\"f\"'"},
        {"SET search_path = 'acme,public'", "set search_path='\"acme,public\"'"},
        {"SET search_path = \"$user\", public", "set search_path='\"$user\", public'"},
        {"SET search_path = ''", "set search_path='\"\"'"},
        {"SET search_path = \"\"", "other computed(search_path)"},
        {"SET search_path = \"user\", 'order', \"select\"", "set search_path='\"user\", \"order\", \"select\"'"},
        {"SET search_path = user", "other computed(search_path)"},
        {"SET search_path = true", "set search_path='\"true\"'"},
        {"SET search_path = 1, -2, 3.5", "set search_path='1, -2, 3.5'"},
        {"SET search_path = UPPER", "set search_path='upper'"},
        {"SET search_path = '1a'", "set search_path='\"1a\"'"},
        {"SET search_path = a,", "other computed(search_path)"},
        {"SET search_path = a b", "other computed(search_path)"},
        {"SET search_path = default", "set search_path=null"},
        {"SET search_path = default, a", "other computed(search_path)"},
        {"SET search_path = a, default", "other computed(search_path)"},
        {"SET SEARCH_PATH = acme", "set search_path='acme'"},
        {"SET \"search_path\" = acme", "set search_path='acme'"},
        {"SET \"Search_Path\" = acme", "set search_path='acme'"},
        {"SET SESSION SCHEMA 'A'", "set search_path='\"A\"'"},
        {"SET LOCAL SCHEMA 'a,b'", "set search_path='\"a,b\"' local"},
        {"SET SCHEMA 'a', 'b'", "other computed(search_path)"},
        {"SET SCHEMA $1", "other computed(search_path)"},
        {"RESET search_path", "set search_path=null"},
        {"RESET search_path x", "other computed(search_path)"},
        {"SET U&\"search_path\" = acme", "other computed(search_path)"},
        {"SET app.U&\"tenant\" = acme", "other computed(search_path)"},
        {"RESET U&\"search_path\"", "other computed(search_path)"},
    });
    const std::string name(70, 'n');
    CHECK(describe("SET search_path = " + name) == "set search_path='" + std::string(63, 'n') + "' needs_server");
    CHECK(describe("SET search_path = '" + name + "'") == "set search_path='" + name + "'");
    CHECK(describe("SET " + name + ".x = 1") == "set " + std::string(63, 'n') + ".x='1' needs_server");
}

TEST_CASE("settings that begin with a word of the grammar") {
    check({
        {"SET session.tenant = 'x'", "set session.tenant='x'"},
        {"SET local.tenant = 'x'", "set local.tenant='x'"},
        {"SET LOCAL local.tenant = 'x'", "set local.tenant='x' local"},
        {"SET SESSION session . tenant TO 'x'", "set session.tenant='x'"},
        {"SET transaction.tenant = 'x'", "set transaction.tenant='x'"},
        {"SET schema.tenant = 'x'", "set schema.tenant='x'"},
        {"SET constraints.tenant = 'x'", "set constraints.tenant='x'"},
        {"SET time.zone = 'x'", "set time.zone='x'"},
        {"RESET session.tenant", "set session.tenant=null"},
        {"RESET SESSION AUTHORIZATION", "other"},
        {"SET SESSION AUTHORIZATION app", "other"},
        {"SET app.user = 'x'", "other"},
        {"SET app..tenant = 'x'", "other"},
        {"SET app.tenant. = 'x'", "other"},
        {"SET left.tenant = 'x'", "other"},
        {"SET app.\"user\" = 'x'", "set app.user='x'"},
        {"RESET ALL", "reset_all"},
        {"RESET ALL x", "other"},
        {"DISCARD ALL;", "discard_all"},
        {"DISCARD PLANS", "other"},
        {"SET", "other"},
        {"RESET", "other"},
    });
}

TEST_CASE("set_config") {
    check({
        {"SELECT set_config('App.Tenant', 'x', false)", "set_config app.tenant='x'"},
        {"SELECT SET_CONFIG ( $1 , $2 , $3 )", "set_config $1=$2 local=$3"},
        {"SELECT set_config($1::text, $2 :: varchar, $3::bool)", "set_config $1=$2 local=$3"},
        {"SELECT set_config('a.b', 'x', 'true')", "set_config a.b='x' local"},
        {"SELECT set_config('a.b', 'x', 'F'::boolean)", "set_config a.b='x'"},
        {"SELECT set_config('a.b', NULL, false)", "set_config a.b=null"},
        {"SELECT set_config('a.b', $$x$$, false) AS t", "set_config a.b='x' as t"},
        {"SELECT set_config('a.b', 'x', false) t, set_config('c.d', 'y', true) \"T u\"", "set_config a.b='x' as t c.d='y' local as T u"},
        {"SELECT set_config('a.b', 'x', false) AS from", "set_config a.b='x' as from"},
        {"SELECT set_config('a.b', 'x', false) user", "set_config a.b='x' as user"},
        {"SELECT \"set_config\"('a.b', 'x', false)", "set_config a.b='x'"},
        {"SELECT \"SET_CONFIG\"('a.b', 'x', false)", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false) from", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false) over", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false) AS", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false) AS \"\"", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false) AS 't'", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false) FROM t", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false) WHERE false", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false), 1", "other computed(a.b)"},
        {"SELECT 1, set_config('a.b', 'x', false)", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', false),", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x' || 'y', false)", "other computed(a.b)"},
        {"SELECT set_config('a.b', (SELECT 'x'), true)", "other computed(a.b)"},
        {"SELECT set_config('a.b', current_user, true)", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x')", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', 1)", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x', null)", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x': :text, true)", "other computed(a.b)"},
        {"SELECT set_config('a.b', 'x'::int, true)", "other computed(a.b)"},
        {"SELECT set_config('a.b'::text, 'x', true), now()", "other computed(a.b)"},
        {"SELECT set_config($0, 'x', true)", "other"},
        {"SELECT set_config($70000, 'x', true)", "other"},
        {"SELECT set_config(NULL, 'x', true)", "other"},
        {"SELECT set_config('a.b', 'x', true) UNION SELECT 'y'", "other computed(a.b)"},
        {"SELECT count(set_config('a.b', 'x', true))", "other computed(a.b)"},
        {"SELECT set_config(set_config('a.b', 'x', true), 'y', true)", "other computed(a.b)"},
        {"SELECT * FROM set_config('A.B', 'x', true)", "other computed(a.b)"},
        {"WITH x AS (SELECT set_config('a.b','x',true)) SELECT set_config('c.d','y',true) FROM x", "other computed(a.b) computed(c.d)"},
        {"SELECT 'set_config(''a.b'')'", "other"},
        {"SELECT set_config", "other"},
        {"SELECT a.set_config('a.b', 'x', true)", "other computed(a.b)"},
        {"(SELECT set_config('a.b', 'x', true))", "other computed(a.b)"},
        {"SELECT pg_catalog set_config('a.b', 'x', true)", "other computed(a.b)"},
    });
}

TEST_CASE("set_config for each pair of a JSON array") {
    check({
        {"select set_config(el->>0, el->>1, true) from json_array_elements($1::json) el", "set_config pairs($1)=pairs($1) local needs_server"},
        {"SELECT pg_catalog.set_config(x ->> 0, X->>1, false) FROM json_array_elements($2) AS x", "set_config pairs($2)=pairs($2) needs_server"},
        {"select set_config(el->>0, el->>1, true) from json_array_elements($1) e", "other"},
        {"select set_config(el->>1, el->>0, true) from json_array_elements($1) el", "other"},
        {"select set_config(el->> 0, el- >>1, true) from json_array_elements($1) el", "other"},
        {"select set_config(el->>0, el->>1, true) from json_array_elements($1) el where true", "other"},
        {"select set_config(el->>0, el->>1, true) from json_array_elements('[]') el", "other"},
        {"select set_config(el->>0, el->>1, true) from jsonb_array_elements($1) el", "other"},
        {"select set_config(el->>0, el->>1, true) from json_array_elements($1)", "other"},
    });
    const auto pairs = [](std::optional<std::string> json) {
        const auto statements = recognise("select set_config(el->>0, el->>1, true) from json_array_elements($1) el");
        const auto changes = resolve(statements.at(0), {std::move(json)});
        if (!changes) return std::string("nothing");
        std::string out;
        for (const ResolvedChange& change : *changes) {
            out += "[" + change.name + "=" + change.value.value_or("null") + (change.is_local ? " local]" : "]");
        }
        return out;
    };
    CHECK(pairs(R"([["Role","x"],["app.tenant","\u0061cme"]])") == "[role=x local][app.tenant=acme local]");
    CHECK(pairs(R"([["a.b",null],["c.d"],["e.f","1","2"]])") == "[a.b=null local][c.d=null local][e.f=1 local]");
    CHECK(pairs("[]").empty());
    CHECK(pairs(std::nullopt).empty());
    for (const char* refused : {"", "[", "{}", "[1]", "[{}]", "[[]]", "[[null,\"x\"]]", "[[1,\"x\"]]", "[[\"a.b\",1.50]]", "[[\"a.b\",[]]]",
                                "[[\"a.b\",\"\\u0000\"]]", "[[\"a.b\",\"x\"]] x"}) {
        INFO(refused);
        CHECK(pairs(refused) == "nothing");
    }
    CHECK(pairs(std::string(100'000, '[')) == "nothing");
}

TEST_CASE("bind parameters are put in") {
    const SessionStatement statement = recognise("SELECT set_config($1, $2, $3)").at(0);
    const auto changes = resolve(statement, {"App.Tenant", "x", "true"});
    REQUIRE(changes);
    REQUIRE(changes->size() == 1);
    CHECK(changes->front().name == "app.tenant");
    CHECK(changes->front().value == "x");
    CHECK(changes->front().is_local);
    CHECK_FALSE(resolve(statement, {"app.tenant", "x"}));
    CHECK_FALSE(resolve(statement, {std::nullopt, "x", "true"}));
    CHECK(resolve(statement, {"app.tenant", "x", std::nullopt}));
    CHECK(resolve(statement, {"app.tenant", std::nullopt, "false"})->front().value == std::nullopt);
    CHECK_FALSE(resolve(statement, {}));
    CHECK(resolve(recognise("BEGIN").at(0), {})->empty());
}

TEST_CASE("the words that a closer look begins with") {
    for (const char* word : {"abort", "BEGIN", "Commit", "end", "release", "rollback", "savepoint", "start"}) CHECK(is_transaction_word(word));
    for (const char* word : {"", "en", "ends", "select", "starts", "savepoints", "commi"}) CHECK_FALSE(is_transaction_word(word));
}

TEST_CASE("time is linear in the text") {
    const auto nanoseconds_each = [](std::string_view piece, std::size_t bytes) {
        std::string sql;
        while (sql.size() < bytes) sql += piece;
        const auto start = std::chrono::steady_clock::now();
        CHECK(recognise(sql).size() <= bytes);
        return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(sql.size());
    };
    for (const char* piece : {"set_config('a',", "SET a.b=1;", "$a", "/*", "x.", "SET session ", "SELECT set_config(", "'a' ", "\"a\".", "$1::"}) {
        INFO(piece);
        const double small = nanoseconds_each(piece, 20'000);
        const double large = nanoseconds_each(piece, 2'000'000);
        CHECK(large < small * 20 + 500);
    }
}

namespace {

// The verbs, and what is computed.
std::string read_in(const SqlDialect& dialect, std::string_view sql) {
    std::string text;
    for (const SessionStatement& statement : recognise(sql, dialect)) {
        text += text.empty() ? "" : " ";
        text += name_of(statement.verb);
        for (const SettingChange& change : statement.changes) text += "(" + change.value.text + ")";
        for (const std::string& name : statement.computed) text += "[" + name + "]";
        if (statement.needs_server) text += "!";
    }
    return text;
}

}  // namespace

TEST_CASE("strings end where PostgreSQL ends them, in each dialect") {
    const SqlDialect on;
    const SqlDialect off{false, SqlEncoding::utf8};
    CHECK(read_in(on, "SELECT '\\'; SET search_path TO b; --'") == "other set(b)");
    CHECK(read_in(off, "SELECT '\\'; SET search_path TO b; --'") == "other");
    CHECK(read_in(on, "SELECT '\\''; SET search_path TO b; --'") == "other");  // a doubled quote
    CHECK(read_in(off, "SELECT '\\''; SET search_path TO b; --'") == "other set(b)");
    CHECK(read_in(off, "SELECT B'\\'; SET search_path TO b; --'") == "other set(b)");
    CHECK(read_in(off, "SET app.tenant = 'a\\\\b'") == "other[app.tenant]");
    for (const SqlDialect& dialect : {on, off}) {
        CHECK(read_in(dialect, "SELECT E'a'\n'\\''; SET search_path TO b; --'") == "other set(b)");
        CHECK(read_in(dialect, "SELECT E'a' -- c'\r'\\'; SET search_path TO b; --'") == "other");
        CHECK(read_in(dialect, "SET app.tenant = 'a'\n'b'") == "other[app.tenant]");
        CHECK(read_in(dialect, "SELECT set_config('search_'\n'path', 'b', false)") == "other[search_path]");
        CHECK(read_in(dialect, "SELECT set_config(U&'search!005fpath' UESCAPE '!', 'b', false)") == "other[search_path]");
        CHECK(read_in(dialect, "SELECT set_config(E'search\\x5fpath', 'b', false)") == "other[search_path]");
        CHECK(read_in(dialect, "SET search_path TO $a$b$a$") == "set(b)");
    }
}

TEST_CASE("bytes of longer characters are no ASCII, and what isn't ASCII is understood in UTF-8 alone") {
    const auto in = [](SqlEncoding encoding) { return SqlDialect{true, encoding}; };
    const std::string shown = "SELECT E'\x83\x5c'; SET search_path TO b; --'";
    for (const SqlEncoding encoding : {SqlEncoding::sjis, SqlEncoding::sjis_to_utf8, SqlEncoding::two_bytes, SqlEncoding::gb18030, SqlEncoding::johab}) {
        CHECK(read_in(in(encoding), shown) == "other! set(b)!");
    }
    CHECK(read_in(in(SqlEncoding::ascii_safe), shown) == "other!");  // 0x83 is a character, and then an escape: it never ends
    CHECK(read_in(in(SqlEncoding::sjis), "SELECT E'\xb1\x5c'; SET search_path TO b; --'") == "other!");  // katakana has one byte
    CHECK(read_in(in(SqlEncoding::sjis_to_utf8), "SELECT E'\x81\x5f''; SET search_path TO b; --'") == "other! set(b)!");
    CHECK(read_in(in(SqlEncoding::sjis), "SELECT E'\x81\x5f''; SET search_path TO b; --'") == "other!");
    CHECK(read_in(in(SqlEncoding::gb18030), "SELECT $\x81\x30\x81\x30$;$\x81\x30\x81\x30$; SET search_path TO b") == "other! set(b)!");
    CHECK(read_in(in(SqlEncoding::utf8), "SET search_path TO 'gl\xc3\xb6'") == "set(\"gl\xc3\xb6\")");
    CHECK(read_in(in(SqlEncoding::ascii_safe), "SET search_path TO 'gl\xc3\xb6'") == "other[search_path]!");
    CHECK(read_in(in(SqlEncoding::ascii_safe), "SET \"gl\xc3\xb6\".x = 'a'") == "other[search_path]!");
    CHECK(sql_dialect("off", "SHIFT_JIS_2004", "EUC_JIS_2004") == SqlDialect{false, SqlEncoding::sjis});
    CHECK(sql_dialect("on", "UTF8", "LATIN1") == SqlDialect{true, SqlEncoding::ascii_safe});
    CHECK(sql_dialect("on", "UTF8", "UTF8") == SqlDialect{});
}
