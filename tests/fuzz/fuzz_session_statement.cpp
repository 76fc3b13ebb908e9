// Texts, separated by \x02 as the Queries of one session: what is understood lies within the text and is understood alone as well; a
// held transaction driven by it keeps its word, and what it holds back stays small.
#include <string>

#include "proxy/session/held_transaction.hpp"
#include "proxy/session/statement_scan.hpp"
#include "router/session_statement.hpp"
#include "tests/fuzz/catalog_of_fuzz.hpp"
#include "tests/fuzz/input.hpp"

namespace {

using namespace pgporter;

void check_statement(std::string_view sql, const SessionStatement& statement) {
    PP_ASSERT(statement.begin <= sql.size() && sql.substr(statement.begin, statement.text.size()) == statement.text);
    PP_ASSERT(!statement.text.empty() && statement.savepoint.size() <= 63);
    PP_ASSERT(statement.computed.empty() || statement.verb == SessionVerb::other);
    const bool changes = statement.verb == SessionVerb::set || statement.verb == SessionVerb::set_config;
    PP_ASSERT(changes != statement.changes.empty());
    const auto alone = recognise(statement.text);
    PP_ASSERT(alone.size() == 1 && alone.front().verb == statement.verb && alone.front().text == statement.text);
    PP_ASSERT(alone.front().computed == statement.computed && alone.front().changes.size() == statement.changes.size());
    // Whoever looks at the text quickly must want this closer look.
    if (statement.verb != SessionVerb::other || !statement.computed.empty()) PP_ASSERT(scan_statement(sql).of_session);
}

void check_held(const HeldTransaction& held, const ScopedSettings& named) {
    using State = HeldTransaction::State;
    const std::string sql = held.held_back();
    PP_ASSERT((held.state() == State::open) == !sql.empty());
    PP_ASSERT(held.state() == State::none || named.in_transaction());
    PP_ASSERT(named.in_transaction() || named.view().effective == named.view().persistent);
    PP_ASSERT(named.in_transaction() || named.savepoints() == 0);
    if (sql.empty()) return;
    const auto statements = recognise(sql);
    PP_ASSERT(!statements.empty() && statements.front().verb == SessionVerb::begin);
    std::size_t savepoints = 0;
    for (const SessionStatement& statement : statements) {
        PP_ASSERT(statement.verb != SessionVerb::other && statement.verb != SessionVerb::commit && statement.verb != SessionVerb::rollback);
        savepoints += statement.verb == SessionVerb::savepoint ? 1 : 0;
    }
    PP_ASSERT(savepoints >= named.savepoints());
}

void drive(std::string_view input, const HeldTransaction::World& world) {
    const BindValues values{"acme", "app.tenant", "true", R"([["search_path","acme"],["app.tenant",null]])", std::nullopt};
    HeldTransaction held;
    ScopedSettings named;
    while (!input.empty()) {
        const std::string_view sql = pgporter::fuzz::take_until(input, '\x02');
        bool failed = false;
        for (const SessionStatement& statement : recognise(sql)) {
            check_statement(sql, statement);
            const auto changes = resolve(statement, values);
            auto answer = changes ? held.perform(statement, *changes, world, named) : HeldTransaction::Answer{};
            if (answer.kind == HeldTransaction::Answer::Kind::refused) {
                PP_ASSERT(answer.error.sqlstate.size() == 5);
                held.fail(named);
                failed = true;
            } else if (answer.kind == HeldTransaction::Answer::Kind::needs_server) {
                held.hand_over();
                named.reset();
            } else {
                PP_ASSERT(!answer.tag.empty() && !statement.needs_server && statement.verb != SessionVerb::other);
            }
            check_held(held, named);
            if (failed) break;
        }
        held.end_implicit(named);
        check_held(held, named);
    }
}

}  // namespace

PP_FUZZ(input) {
    static const SnapshotPtr catalog = pgporter::fuzz::catalog();
    static const IdentifyConfig config;
    drive(input, {config, *catalog, Asker{catalog->find_user("narrow"), {}, {}, "main", "app"}});
    drive(input, {config, *catalog, Asker{nullptr, "acme", "acme", "main", "app"}});
}
