#include "catalog/tenant.hpp"

#include <doctest/doctest.h>

#include "catalog/sql_identifier.hpp"

using namespace pgporter;

TEST_CASE("rows are found by the server's own path, or by the schemas that are named") {
    Tenant tenant;
    tenant.placement = {PlacementKind::rows, "main", "crm", ""};
    CHECK(search_path_of(tenant).empty());
    tenant.shared_schemas = {"crm", "Odd one"};
    CHECK(search_path_of(tenant) == "crm, \"Odd one\"");
    tenant.shared_schemas = {};
    CHECK(search_path_of(tenant).empty());
}

TEST_CASE("texts and values are each other's inverse") {
    for (const auto kind : {PlacementKind::rows, PlacementKind::schema, PlacementKind::database})
        CHECK(placement_kind_from(to_text(kind)) == kind);
    for (const auto state : {TenantState::active, TenantState::suspended})
        CHECK(tenant_state_from(to_text(state)) == state);
    for (const auto mode : {PoolMode::transaction, PoolMode::session}) CHECK(pool_mode_from(to_text(mode)) == mode);
    for (const auto tls : {ServerTls::disable, ServerTls::require, ServerTls::verify_ca, ServerTls::verify_full}) {
        CHECK(server_tls_from(to_text(tls)) == tls);
    }
    CHECK_FALSE(placement_kind_from("Schema").has_value());
    CHECK_FALSE(tenant_state_from("").has_value());
    CHECK_FALSE(pool_mode_from("statement").has_value());
    CHECK_FALSE(server_tls_from("verify-full").has_value());
}

TEST_CASE("names a tenant may have") {
    for (const std::string name : {"a", "0", "acme", "acme-2_x", "9lives"}) CHECK(is_tenant_name(name));
    CHECK(is_tenant_name(std::string(63, 'a')));
    CHECK_FALSE(is_tenant_name(std::string(64, 'a')));
    for (const std::string name : {"", "-a", "_a", "Acme", "a.b", "a@b", "a b", "\xc3\xa9t\xc3\xa9", "a\n"})
        CHECK_FALSE(is_tenant_name(name));
}

TEST_CASE("search_path quotes what needs it, and only that") {
    Tenant tenant;
    CHECK(search_path_of(tenant) == "");
    tenant.placement.schema = "acme";
    CHECK(search_path_of(tenant) == "acme, public");
    tenant.placement.schema = "public";
    CHECK(search_path_of(tenant) == "public");
    tenant.placement.schema = "acme";
    tenant.shared_schemas.clear();
    CHECK(search_path_of(tenant) == "acme");
    tenant.placement.schema = "Acme";
    tenant.shared_schemas = {"user", "a b", "say \"hi\"", "x, public", "_ok1", "1st", "$user", ""};
    CHECK(search_path_of(tenant) ==
          "\"Acme\", \"user\", \"a b\", \"say \"\"hi\"\"\", \"x, public\", _ok1, \"1st\", \"$user\", \"\"");
}

TEST_CASE("keywords") {
    for (const auto* word : {"all", "select", "xmltable", "system_user", "user"}) CHECK(is_sql_keyword(word));
    for (const auto* word : {"acme", "public", "name", "tenant"}) CHECK_FALSE(is_sql_keyword(word));
}
