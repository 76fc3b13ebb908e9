// A setting's name, a line end, and its value: who it names may be spoken for, and who may not can't be told from who doesn't exist.
#include "router/tenant_in_sql.hpp"

#include <string>

#include "router/search_path.hpp"
#include "router/sql_lexer.hpp"
#include "tests/fuzz/catalog_of_fuzz.hpp"
#include "tests/fuzz/input.hpp"

namespace {

using namespace pgporter;

std::string said(const Result<std::string>& result) {
    return result ? "names " + *result : "refuses " + result.error().message + " " + result.error().sqlstate;
}

}  // namespace

PP_FUZZ(input) {
    static const SnapshotPtr all = pgporter::fuzz::catalog();
    static const SnapshotPtr known = pgporter::fuzz::catalog(false);
    static const IdentifyConfig config;
    const std::string setting = folded(pgporter::fuzz::take_until(input, '\n'));
    for (const std::string_view login : {"", "acme", "row1"}) {
        const Asker asker{all->find_user("narrow"), login, login, "main", login == "row1" ? "rows" : "app"};
        Asker same = asker;
        same.user = known->find_user("narrow");
        const auto named = tenant_named_by(config, *all, asker, setting, input);
        if (named) PP_ASSERT(named->empty() || *named == "acme" || *named == "row1" || *named == "twin1");
        if (!named) PP_ASSERT(named.error().sqlstate.size() == 5 && names_tenants(config, setting));
        // A list of schemas tells, but no more than PostgreSQL's own catalogs do. With a schema tenant of the login's, a value that is nobody's is
        // the application's own, while another tenant's is refused all the same: that tells that somebody has it, on purpose.
        const bool may_be_own = login == "acme" && setting != "pgporter.tenant";
        if (setting != "search_path" && !may_be_own) PP_ASSERT(said(named) == said(tenant_named_by(config, *known, same, setting, input)));
        const auto in_force = tenant_in_force(config, *all, asker, {{setting, std::string(input)}});
        PP_ASSERT(in_force.has_value() == named.has_value());
        if (named) PP_ASSERT(*in_force == (named->empty() ? std::string(login) : *named));
    }
    const auto schemas = split_search_path(input);
    for (const std::string& schema : schemas.value_or(std::vector<std::string>{})) PP_ASSERT(schema.size() <= 63);
}
