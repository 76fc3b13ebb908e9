// CatalogStore::apply: plans with catalog/apply_plan.hpp, writes in batches, all in one transaction.
#include <algorithm>
#include <span>

#include "catalog/apply_plan.hpp"
#include "catalog/catalog_rows.hpp"
#include "catalog/store.hpp"
#include "catalog/store_impl.hpp"

namespace pgporter {
namespace {

constexpr std::size_t batch_rows = 2'000;  // keeps one statement far below the statement timeout

// Columns of one batch as array parameters: unnest() makes them rows again.
class Batch {
  public:
    explicit Batch(std::size_t columns) : columns_(columns) {}
    void add_row(std::vector<std::string> values) {
        for (std::size_t i = 0; i < columns_.size(); ++i) columns_[i].push_back(std::move(values[i]));
    }
    [[nodiscard]] PgParams params() const {
        PgParams params;
        for (const auto& column : columns_) params.emplace_back(to_array_literal(column));
        return params;
    }

  private:
    std::vector<std::vector<std::string>> columns_;
};

template <class T, class RowOf>
Result<void> write_batches(PgConnection& sql, const std::vector<T>& items, const std::string& statement,
                           std::size_t columns, const RowOf& row_of) {
    for (std::size_t begin = 0; begin < items.size(); begin += batch_rows) {
        Batch batch(columns);
        const std::size_t end = std::min(items.size(), begin + batch_rows);
        for (std::size_t i = begin; i < end; ++i) batch.add_row(row_of(items[i]));
        PP_TRY(sql.exec_params(statement, batch.params()));
    }
    return {};
}

Result<void> write_clusters(PgConnection& sql, const std::vector<Cluster>& clusters) {
    return write_batches(
        sql, clusters,
        "INSERT INTO pgporter.clusters (name, host, port, tls, tls_ca_file, server_connections_max) "
        "SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::bigint[]) "
        "ON CONFLICT (name) DO UPDATE SET host = excluded.host, port = excluded.port, tls = excluded.tls, "
        "tls_ca_file = excluded.tls_ca_file, server_connections_max = excluded.server_connections_max",
        6, [](const Cluster& c) {
            return std::vector<std::string>{c.name,
                                            c.host,
                                            std::to_string(c.port),
                                            std::string(to_text(c.tls)),
                                            c.tls_ca_file,
                                            std::to_string(c.server_connections_max)};
        });
}

Result<void> write_databases(PgConnection& sql, const std::vector<Database>& databases) {
    return write_batches(
        sql, databases,
        "INSERT INTO pgporter.databases (cluster, name, server_connections_max, isolation, tenant_setting, "
        "tenant_column, server_connections_min) "
        "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[]) "
        "ON CONFLICT (cluster, name) DO UPDATE SET server_connections_max = excluded.server_connections_max, "
        "isolation = excluded.isolation, tenant_setting = excluded.tenant_setting, "
        "tenant_column = excluded.tenant_column, server_connections_min = excluded.server_connections_min",
        7, [](const Database& d) {
            return std::vector<std::string>{d.cluster,
                                            d.name,
                                            std::to_string(d.server_connections_max),
                                            std::string(to_text(d.isolation)),
                                            d.tenant_setting,
                                            d.tenant_column,
                                            std::to_string(d.server_connections_min)};
        });
}

// The placement is only ever inserted here: a tenant that exists keeps its own.
Result<void> write_tenants(PgConnection& sql, const std::vector<Tenant>& tenants) {
    return write_batches(
        sql, tenants,
        "INSERT INTO pgporter.tenants (name, kind, cluster, database, schema, state, pool_mode, role, shared_schemas, "
        "server_connections_max, sessions_max, settings, key, domains, allowed_addresses, limits) "
        "SELECT x.name, x.kind, x.cluster, x.database, x.schema, x.state, x.pool_mode, x.role, "
        "x.shared_schemas::text[], "
        "x.server_connections_max, x.sessions_max, jsonb_object(x.setting_names::text[], x.setting_values::text[]), "
        "x.key, x.domains::text[], x.allowed_addresses::text[], coalesce((SELECT jsonb_object_agg(l.name, l.value) "
        "FROM unnest(x.limit_names::text[], x.limit_values::bigint[]) AS l (name, value)), '{}') "
        "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], "
        "$9::text[], "
        "$10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[]) "
        "AS x (name, kind, cluster, database, schema, state, pool_mode, role, shared_schemas, server_connections_max, "
        "sessions_max, setting_names, setting_values, key, domains, allowed_addresses, limit_names, limit_values) "
        "ON CONFLICT (name) DO UPDATE SET state = excluded.state, pool_mode = excluded.pool_mode, role = "
        "excluded.role, "
        "shared_schemas = excluded.shared_schemas, server_connections_max = excluded.server_connections_max, "
        "sessions_max = excluded.sessions_max, settings = excluded.settings, key = excluded.key, "
        "domains = excluded.domains, allowed_addresses = excluded.allowed_addresses, limits = excluded.limits",
        18, [](const Tenant& t) {
            std::vector<std::string> names;
            std::vector<std::string> values;
            for (const auto& [name, value] : t.settings) {
                names.push_back(name);
                values.push_back(value);
            }
            std::vector<std::string> limit_names;
            std::vector<std::string> limit_values;
            for (const auto& field : tenant_limit_fields) {
                if (t.limits.*field.value == 0) continue;
                limit_names.emplace_back(field.name);
                limit_values.push_back(std::to_string(t.limits.*field.value));
            }
            return std::vector<std::string>{t.name,
                                            std::string(to_text(t.placement.kind)),
                                            t.placement.cluster,
                                            t.placement.database,
                                            t.placement.schema,
                                            std::string(to_text(t.state)),
                                            std::string(to_text(t.pool_mode)),
                                            t.role,
                                            to_array_literal(t.shared_schemas),
                                            std::to_string(t.server_connections_max),
                                            std::to_string(t.sessions_max),
                                            to_array_literal(names),
                                            to_array_literal(values),
                                            t.key,
                                            to_array_literal(t.domains),
                                            to_array_literal(t.allowed_addresses),
                                            to_array_literal(limit_names),
                                            to_array_literal(limit_values)};
        });
}

Result<void> write_users(PgConnection& sql, const std::vector<User>& users) {
    return write_batches(sql, users,
                         "INSERT INTO pgporter.users (name, scram_verifier, all_tenants, tenants) "
                         "SELECT x.name, x.scram_verifier, x.all_tenants, x.tenants::text[] "
                         "FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[]) "
                         "AS x (name, scram_verifier, all_tenants, tenants) "
                         "ON CONFLICT (name) DO UPDATE SET scram_verifier = excluded.scram_verifier, "
                         "all_tenants = excluded.all_tenants, tenants = excluded.tenants",
                         4, [](const User& u) {
                             return std::vector<std::string>{u.name, u.scram_verifier, u.all_tenants ? "true" : "false",
                                                             to_array_literal(u.tenants)};
                         });
}

Result<void> write_plan(PgConnection& sql, const ApplyPlan& plan) {
    PP_TRY(write_clusters(sql, plan.clusters));
    PP_TRY(write_databases(sql, plan.databases));
    PP_TRY(write_tenants(sql, plan.tenants));
    return write_users(sql, plan.users);
}

}  // namespace

Result<ApplyReport> CatalogStore::apply(const CatalogDocument& document, bool dry_run) {
    auto transaction = StoreTransaction::begin(
        impl_->connection, dry_run ? StoreTransaction::Mode::read_only : StoreTransaction::Mode::read_write);
    if (!transaction) return transaction.error();
    auto& sql = transaction->sql();
    // Every change of the catalog takes this row's lock first, so that what is compared below is still so when it is
    // written.
    if (!dry_run) PP_TRY(sql.exec("SELECT version FROM pgporter.catalog_version FOR UPDATE"));
    const auto present = read_catalog(sql);
    if (!present) return present.error();
    auto plan = plan_apply(present->content, document);
    if (!plan) return plan.error();
    if (dry_run || plan->empty()) return std::move(plan->report);
    PP_TRY(write_plan(sql, *plan));
    PP_TRY(transaction->commit());
    return std::move(plan->report);
}

}  // namespace pgporter
