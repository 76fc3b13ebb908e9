// A catalog database for one test, and the values the tests put into it. One server for the whole process; one database
// a test.
#pragma once

#include <string>

#include "catalog/pg_connection.hpp"
#include "catalog/store.hpp"
#include "tests/support/becomes_true.hpp"
#include "tests/support/postgres_server.hpp"

namespace pgporter::test {

template <class T>
T must(Result<T> result) {
    if (!result)
        throw std::runtime_error(result.error().message + " [" + result.error().sqlstate + "] " +
                                 result.error().detail);
    return *std::move(result);
}
inline void must(const Result<void>& result) {
    if (!result)
        throw std::runtime_error(result.error().message + " [" + result.error().sqlstate + "] " +
                                 result.error().detail);
}

class CatalogFixture {
  public:
    CatalogFixture() {
        static int count = 0;
        database_ = "catalog_" + std::to_string(++count);
        must(sql("postgres").exec("CREATE DATABASE " + database_));
        config.dsn = server().dsn(database_);
        config.connect_timeout_ms = Milliseconds{3'000};
    }

    static PostgresServer& server() {
        static PostgresServer instance{PostgresOptions{}};
        return instance;
    }
    static PgConnection sql(const std::string& database) {
        return must(PgConnection::connect_dsn(server().dsn(database), Secret(), "catalog test"));
    }
    [[nodiscard]] PgConnection sql() const { return sql(database_); }

    CatalogConfig config;

  private:
    std::string database_;
};

inline Tenant shared_tenant(const std::string& name) {
    Tenant tenant;
    tenant.name = name;
    tenant.placement = {PlacementKind::schema, "main", "app", name};
    return tenant;
}

inline CatalogDocument small_document() {
    CatalogDocument document;
    document.clusters = {{"main", "127.0.0.1", 5432, ServerTls::disable, "", 50}};
    document.databases = {{"main", "reports", 5}};
    document.users = {{"app", "", false, {"acme", "globex"}}};
    document.tenants = {shared_tenant("acme"), shared_tenant("globex")};
    document.tenants[0].role = "acme_role";
    document.tenants[0].shared_schemas = {"public", "Odd \"name\", {x}"};
    document.tenants[0].server_connections_max = 4'000'000'000;
    document.tenants[0].settings = {{"Work_mem", "8MB"}, {"my.quote", "a\"b\\c,{d} '"}, {"statement_timeout", ""}};
    return document;
}

inline Placement moved_to(const Tenant& tenant, const std::string& database) {
    return {PlacementKind::database, "main", database, tenant.placement.schema};
}

}  // namespace pgporter::test
