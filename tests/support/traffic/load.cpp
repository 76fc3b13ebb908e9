#include "tests/support/traffic/load.hpp"

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <iostream>

#include "tests/support/traffic/database.hpp"

namespace pgporter::traffic {

extern const char* const kSchemaSql;  // schema.sql, embedded at build time

namespace {

// Rows of each table for about `rows` together.
struct Sizes {
    std::uint64_t companies, users, leads, orders;
    explicit Sizes(std::uint64_t rows)
        : companies(std::max<std::uint64_t>(rows / 20, 3)),
          users(std::max<std::uint64_t>(rows / 8, 5)),
          leads(std::max<std::uint64_t>(rows / 5, 5)),
          orders(std::max<std::uint64_t>(rows / 5, 5)) {}
    [[nodiscard]] std::uint64_t all() const { return companies + users + leads + orders + 2 * orders; }
};

std::string series(std::uint64_t count) { return " FROM generate_series(1, " + std::to_string(count) + ") i"; }
std::string one_of(std::uint64_t count) { return "1 + i % " + std::to_string(count); }

std::string rows_sql(const std::string& tenant, const Sizes& sizes) {
    const std::string name = quote_literal(tenant);
    const std::string company = one_of(sizes.companies);
    return "INSERT INTO companies (tenant, name, profile) SELECT " + name +
           ", 'company ' || i, jsonb_build_object('city', 'city ' || i % 50, 'employees', i * 7 % 900, 'tags', ARRAY['a', 'b'])" +
           series(sizes.companies) +
           "; INSERT INTO users (tenant, company_id, email, active, settings) SELECT " + name + ", " + company +
           ", 'User' || i || '@' || " + name + " || '.example', i % 7 <> 0, jsonb_build_object('theme', 'dark', 'page', i)" +
           series(sizes.users) +
           "; INSERT INTO leads (tenant, company_id, owner_id, status, score, tags, notes) SELECT " + name + ", " + company + ", " +
           one_of(sizes.users) + ", (enum_range(NULL::lead_status))[1 + i % 5], i * 0.25, ARRAY['t' || i % 9, 'x'], CASE i % 10 " +
           "WHEN 0 THEN (SELECT string_agg(md5(i::text || g::text), '') FROM generate_series(1, 150) g) WHEN 1 THEN NULL " +
           "ELSE 'called, no answer: ' || i END" + series(sizes.leads) +
           "; INSERT INTO orders (tenant, company_id, user_id, status, total, placed_on) SELECT " + name + ", " + company + ", " +
           one_of(sizes.users) + ", (enum_range(NULL::order_status))[1 + i % 5], i * 100, date '2024-01-01' + i::int % 700" +
           series(sizes.orders) +
           "; INSERT INTO order_items (order_id, line, tenant, product, quantity, price) SELECT i, line, " + name +
           ", 'product ' || i % 500, 1 + i::int % 9, 100 + i * 13 % 90000" + series(sizes.orders) +
           ", generate_series(1, 2) line; ";
}

}  // namespace

Result<void> load_tenants(const LoadOptions& options) {
    boost::json::object loaded;
    for (const TenantShare& tenant : options.tenants) {
        auto database = Database::connect(dsn_for(options.dsn, tenant.name));
        if (!database) return database.error();
        const Sizes sizes(tenant.name == options.large ? options.large_rows : options.rows);
        const std::string schema = quote_identifier(tenant.name);
        // public stays out of the path: a name that isn't in the tenant's schema shall be an error.
        auto done = database->simple("BEGIN; CREATE SCHEMA " + schema + "; SET LOCAL search_path TO " + schema + "; " + kSchemaSql +
                                     rows_sql(tenant.name, sizes) + "COMMIT");
        if (!done) return done.error();
        auto analyzed = database->simple(
            "SET search_path TO " + schema + "; ANALYZE companies, users, leads, orders, order_items");
        if (!analyzed) return analyzed.error();
        loaded[tenant.name] = sizes.all();
    }
    std::cout << boost::json::serialize(loaded) << std::endl;
    return {};
}

}  // namespace pgporter::traffic
