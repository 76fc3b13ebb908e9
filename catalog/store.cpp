#include "catalog/store.hpp"

#include <openssl/rand.h>

#include "base/assert.hpp"
#include "catalog/catalog_rows.hpp"
#include "catalog/store_impl.hpp"

namespace pgporter {
namespace {

Error no_such_tenant(std::string_view tenant) {
    return fail(ErrorKind::not_found, "tenant \"" + std::string(tenant) + "\" doesn't exist");
}

}  // namespace

CatalogStore::CatalogStore(const CatalogConfig& config) : impl_(std::make_unique<Impl>(config)) {}

CatalogStore::~CatalogStore() = default;

std::uint32_t CatalogStore::Impl::random_instance() {
    std::uint32_t number = 0;
    PP_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&number), sizeof number) == 1);
    return (number & 0x7FFF'FFFFU) | 1U;  // it is an advisory lock's key, too
}

std::uint32_t CatalogStore::instance() const {
    return impl_->instance;
}

Result<void> CatalogStore::open() {
    return impl_->connection.open();
}

Result<SnapshotContent> CatalogStore::load() {
    auto transaction = StoreTransaction::begin(impl_->connection, StoreTransaction::Mode::read_only);
    if (!transaction) return transaction.error();
    auto read = read_catalog(transaction->sql());
    if (!read) return read.error();
    return std::move(read->content);
}

Result<Tenant> CatalogStore::set_tenant_state(std::string_view tenant, TenantState state) {
    auto transaction = StoreTransaction::begin(impl_->connection, StoreTransaction::Mode::read_write);
    if (!transaction) return transaction.error();
    auto rows = transaction->sql().exec_params(
        "UPDATE pgporter.tenants AS t SET state = $2 WHERE t.name = $1 RETURNING " + tenant_columns(),
        {std::string(tenant), std::string(to_text(state))});
    if (!rows) return rows.error();
    if (rows->empty()) return no_such_tenant(tenant);
    auto changed = tenant_from_row(*rows, 0);
    if (!changed) return changed.error();
    PP_TRY(transaction->commit());
    return changed;
}

Result<void> CatalogStore::remove_tenant(std::string_view tenant) {
    auto transaction = StoreTransaction::begin(impl_->connection, StoreTransaction::Mode::read_write);
    if (!transaction) return transaction.error();
    auto& sql = transaction->sql();
    const PgParams name{std::string(tenant)};
    // First the version's lock, as every change of the catalog does it; then the tenant's, which keeps a move from
    // beginning.
    PP_TRY(sql.exec("SELECT version FROM pgporter.catalog_version FOR UPDATE"));
    const auto row = sql.exec_params("SELECT id FROM pgporter.tenants WHERE name = $1 FOR UPDATE", name);
    if (!row) return row.error();
    if (row->empty()) return no_such_tenant(tenant);
    const auto move = sql.exec_params(
        "SELECT id, state FROM pgporter.moves WHERE tenant_id = $1::bigint AND state NOT IN ('completed', 'rolled_back', 'aborted')",
        {row->string(0, 0)});
    if (!move) return move.error();
    if (!move->empty()) {
        return fail(ErrorKind::conflict, "tenant \"" + std::string(tenant) + "\" is being moved",
                    "move " + move->string(0, 0) + " is " + move->string(0, 1), "cancel, roll back or complete the move first");
    }
    PP_TRY(sql.exec_params("DELETE FROM pgporter.tenants WHERE id = $1::bigint", {row->string(0, 0)}));
    PP_TRY(sql.exec_params("UPDATE pgporter.users SET tenants = array_remove(tenants, $1) WHERE $1 = ANY (tenants)",
                           name));
    return transaction->commit();
}

}  // namespace pgporter
