#include "admin/mover/row_deletion.hpp"

#include "admin/mover/shared_rows.hpp"

namespace pgporter {
namespace {

constexpr std::size_t rows_per_delete = 1'000;

// A batch takes as long as the pause after it, so that at most half of the time goes into deleting.
Result<void> delete_rows(ServerSession& shared, const SourceTable& table, const Interrupt& interrupt) {
    const auto name = table.qualified_name();
    const auto statement = "DELETE FROM ONLY " + name + " AS t WHERE t.ctid = ANY (ARRAY(SELECT t.ctid FROM ONLY " + name + " AS t WHERE " +
                           table.row_filter + " LIMIT " + std::to_string(rows_per_delete) + ")) AND " + table.row_filter;
    for (;;) {
        const auto began = std::chrono::steady_clock::now();
        auto deleted = shared.exec(statement);
        if (!deleted) return deleted.error();
        if (deleted->affected() == 0) return {};
        const auto took = std::chrono::ceil<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
        const auto ends = interrupt.fds();
        std::array<pollfd, 2> entries{ends[0], ends[1]};
        ::poll(entries.data(), entries.size(), static_cast<int>(std::min<std::int64_t>(took.count(), 1'000)));
        if (interrupt.heard()) return interrupt.error();
    }
}

}  // namespace

Result<void> delete_tenant_rows(ServerSession& shared, const std::vector<SourceTable>& tables, const std::string& applies,
                                const Interrupt& interrupt) {
    // No triggers and no foreign keys: they could reach beyond the tenant's rows, and whatever they did was done where it lives. The fence
    // lets through whom it takes for the other way.
    PP_TRY(shared.exec(std::string("SET session_replication_role = replica; SET row_security = off; SET ") + applies_setting + " = " +
                       quote_literal(applies)));
    for (const auto& table : tables) {
        if (!table.partitioned && table.tenant_column) PP_TRY(delete_rows(shared, table, interrupt));
    }
    return {};
}

std::string tenant_rows_name(const SharedRows& rows) {
    return rows.column + "\n" + rows.key;
}

Result<void> undo_tenant_rows(const std::string& name, const MoveServers& servers) {
    const auto at = name.find('\n');
    if (at == std::string::npos) return fail(ErrorKind::internal, "a cleanup record doesn't say whose rows are meant");
    auto target = servers.target();
    if (!target) return target.error();
    SharedRows rows = servers.rows() != nullptr ? *servers.rows() : SharedRows{};
    rows.column = name.substr(0, at);
    rows.key = name.substr(at + 1);
    auto schemas = read_shared_schemas(**target, rows);
    if (!schemas) return schemas.error();
    auto tables = read_tables(**target, *schemas);
    if (!tables) return tables.error();
    PP_TRY(mark_shared_tables(**target, rows, *tables));
    return delete_tenant_rows(**target, *tables, servers.artefact(), servers.interrupt());
}

}  // namespace pgporter
