#include "catalog/catalog_rows.hpp"

#include <algorithm>
#include <charconv>

namespace pgporter {
namespace {

Error unknown_value(std::string_view what, std::string_view value) {
    return fail(ErrorKind::internal,
                "the catalog has an unknown " + std::string(what) + " \"" + std::string(value) + "\"");
}

std::uint32_t count_from(const PgResult& result, int row, int column) {
    return static_cast<std::uint32_t>(result.unsigned_integer(row, column));  // the table's CHECK keeps it in range
}

Result<void> read_clusters(PgConnection& sql, SnapshotContent& content) {
    const auto rows =
        sql.exec("SELECT name, host, port, tls, tls_ca_file, server_connections_max FROM pgporter.clusters");
    if (!rows) return rows.error();
    for (int i = 0; i < rows->rows(); ++i) {
        const auto tls = server_tls_from(rows->text(i, 3));
        if (!tls) return unknown_value("tls mode", rows->text(i, 3));
        content.clusters.push_back({rows->string(i, 0), rows->string(i, 1),
                                    static_cast<std::uint16_t>(rows->integer(i, 2)), *tls, rows->string(i, 4),
                                    count_from(*rows, i, 5)});
    }
    return {};
}

Result<void> read_databases(PgConnection& sql, SnapshotContent& content) {
    const auto rows = sql.exec(
        "SELECT cluster, name, server_connections_max, isolation, tenant_setting, tenant_column, server_connections_min "
        "FROM pgporter.databases");
    if (!rows) return rows.error();
    content.databases.reserve(static_cast<std::size_t>(rows->rows()));
    for (int i = 0; i < rows->rows(); ++i) {
        const auto isolation = isolation_from(rows->text(i, 3));
        if (!isolation) return unknown_value("isolation", rows->text(i, 3));
        content.databases.push_back({rows->string(i, 0), rows->string(i, 1), count_from(*rows, i, 2), *isolation,
                                     rows->string(i, 4), rows->string(i, 5), count_from(*rows, i, 6)});
    }
    return {};
}

Result<void> read_users(PgConnection& sql, SnapshotContent& content) {
    const auto rows = sql.exec("SELECT name, scram_verifier, all_tenants, tenants FROM pgporter.users");
    if (!rows) return rows.error();
    content.users.reserve(static_cast<std::size_t>(rows->rows()));
    for (int i = 0; i < rows->rows(); ++i) {
        User user{rows->string(i, 0), rows->string(i, 1), rows->boolean(i, 2), from_array_literal(rows->text(i, 3))};
        std::sort(user.tenants.begin(), user.tenants.end());
        content.users.push_back(std::move(user));
    }
    return {};
}

Result<std::vector<Tenant>> tenants_from(const PgResult& rows) {
    std::vector<Tenant> tenants;
    tenants.reserve(static_cast<std::size_t>(rows.rows()));
    for (int i = 0; i < rows.rows(); ++i) {
        auto tenant = tenant_from_row(rows, i);
        if (!tenant) return tenant.error();
        tenants.push_back(*std::move(tenant));
    }
    return tenants;
}

// A JSON object as one flat array {name, value, ...} in the order of the names: no JSON has to be read here.
std::string flat(const std::string& column) {
    return "CASE WHEN " + column + " <> '{}'::jsonb THEN (SELECT array_agg(coalesce(x.part, '') ORDER BY s.key COLLATE \"C\", x.place) "
           "FROM jsonb_each_text(" + column + ") AS s, unnest(ARRAY[s.key, s.value]) WITH ORDINALITY AS x (part, place)) END";
}

Result<TenantLimits> limits_from(std::string_view flat_array) {
    TenantLimits limits;
    const auto parts = from_array_literal(flat_array);
    for (std::size_t i = 0; i + 1 < parts.size(); i += 2) {
        const auto field = std::find_if(tenant_limit_fields.begin(), tenant_limit_fields.end(),
                                        [&](const TenantLimitField& known) { return known.name == parts[i]; });
        if (field == tenant_limit_fields.end()) return unknown_value("limit of a tenant", parts[i]);
        std::uint32_t& value = limits.*field->value;
        const auto* const end = parts[i + 1].data() + parts[i + 1].size();
        const auto read = std::from_chars(parts[i + 1].data(), end, value);
        if (read.ec != std::errc() || read.ptr != end || value > field->max) return unknown_value("value of " + parts[i], parts[i + 1]);
    }
    return limits;
}

}  // namespace

const std::string& tenant_columns() {
    static const std::string columns =
        "t.id, t.name, t.kind, t.cluster, t.database, t.schema, t.state, t.pool_mode, t.role, t.shared_schemas, "
        "t.server_connections_max, t.sessions_max, " +
        flat("t.settings") + ", t.epoch, t.key, t.domains, t.allowed_addresses, " + flat("t.limits");
    return columns;
}

Result<Tenant> tenant_from_row(const PgResult& result, int row) {
    const auto kind = placement_kind_from(result.text(row, 2));
    if (!kind) return unknown_value("placement", result.text(row, 2));
    const auto state = tenant_state_from(result.text(row, 6));
    if (!state) return unknown_value("tenant state", result.text(row, 6));
    const auto pool_mode = pool_mode_from(result.text(row, 7));
    if (!pool_mode) return unknown_value("pool mode", result.text(row, 7));
    Tenant tenant;
    tenant.id = TenantId{result.unsigned_integer(row, 0)};
    tenant.name = result.string(row, 1);
    tenant.placement = {*kind, result.string(row, 3), result.string(row, 4), result.string(row, 5)};
    tenant.state = *state;
    tenant.pool_mode = *pool_mode;
    tenant.role = result.string(row, 8);
    tenant.shared_schemas = from_array_literal(result.text(row, 9));
    tenant.server_connections_max = count_from(result, row, 10);
    tenant.sessions_max = count_from(result, row, 11);
    auto settings = from_array_literal(result.text(row, 12));
    for (std::size_t i = 0; i + 1 < settings.size(); i += 2) {
        tenant.settings.emplace_back(std::move(settings[i]), std::move(settings[i + 1]));
    }
    tenant.epoch = Epoch{result.unsigned_integer(row, 13)};
    tenant.key = result.string(row, 14);
    tenant.domains = from_array_literal(result.text(row, 15));
    tenant.allowed_addresses = from_array_literal(result.text(row, 16));
    auto limits = limits_from(result.text(row, 17));
    if (!limits) return limits.error();
    tenant.limits = *limits;
    return tenant;
}

Result<CatalogMark> read_mark(PgConnection& sql) {
    const auto row = sql.exec("SELECT version, others_version, tenants_removed FROM pgporter.catalog_version");
    if (!row) return row.error();
    if (row->rows() != 1) return fail(ErrorKind::internal, "the catalog's version row is missing");
    return CatalogMark{CatalogVersion{row->unsigned_integer(0, 0)}, row->integer(0, 1), row->integer(0, 2)};
}

Result<CatalogRead> read_catalog(PgConnection& sql) {
    const auto mark = read_mark(sql);
    if (!mark) return mark.error();
    CatalogRead read;
    read.mark = *mark;
    read.content.version = mark->version;
    PP_TRY(read_clusters(sql, read.content));
    PP_TRY(read_databases(sql, read.content));
    PP_TRY(read_users(sql, read.content));
    const auto rows = sql.exec("SELECT " + tenant_columns() + " FROM pgporter.tenants AS t");
    if (!rows) return rows.error();
    auto tenants = tenants_from(*rows);
    if (!tenants) return tenants.error();
    read.content.tenants = *std::move(tenants);
    return read;
}

Result<std::vector<Tenant>> read_changed_tenants(PgConnection& sql, CatalogVersion after, std::size_t rows_max) {
    const auto rows =
        sql.exec_params("SELECT " + tenant_columns() +
                            " FROM pgporter.tenants AS t WHERE t.changed_version > $1::bigint LIMIT $2::bigint",
                        {std::to_string(after.value), std::to_string(rows_max + 1)});
    if (!rows) return rows.error();
    return tenants_from(*rows);
}

}  // namespace pgporter
