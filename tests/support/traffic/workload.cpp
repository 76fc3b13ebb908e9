#include "tests/support/traffic/workload.hpp"

#include <algorithm>
#include <array>

namespace pgporter::traffic {

namespace {

// One entry in the ledger and its amount on the company's balance, which must always agree.
constexpr const char* kLedgerSql =
    "WITH entry AS (INSERT INTO ledger (client_id, seq, tenant, company_id, amount) VALUES ($1, $2, $3, $4, $5)"
    " RETURNING company_id, amount)"
    " UPDATE companies c SET balance = c.balance + e.amount FROM entry e WHERE c.id = e.company_id RETURNING c.tenant";

constexpr const char* kDeleteSql =
    "WITH gone AS (DELETE FROM order_items WHERE order_id = $4 AND line = $5 RETURNING order_id, line, tenant),"
    " noted AS (INSERT INTO deleted_items (order_id, line, tenant) SELECT order_id, line, tenant FROM gone RETURNING 1)"
    " INSERT INTO ledger (client_id, seq, tenant, company_id, amount) VALUES ($1, $2, $3, 1, 0) RETURNING tenant";

struct Share {
    Kind kind;
    int percent;
};
constexpr std::array kMix = {
    Share{Kind::read_simple, 20}, Share{Kind::read_extended, 12}, Share{Kind::read_prepared, 15}, Share{Kind::read_view, 3},
    Share{Kind::read_own, 8},     Share{Kind::write_single, 16},  Share{Kind::write_order, 8},    Share{Kind::write_batch, 6},
    Share{Kind::write_lead, 7},   Share{Kind::write_delete, 3},   Share{Kind::roll_back, 2}};

std::string text_of(std::int64_t number) { return std::to_string(number); }

// A statement that fails leaves the transaction open; its end is the client's duty. The connection may be gone by then.
void leave_transaction(Database& database) {
    if (database.is_alive() && database.is_in_transaction()) static_cast<void>(database.simple("ROLLBACK"));
}

}  // namespace

std::int64_t Workload::pick(std::int64_t from, std::int64_t to) {
    return std::uniform_int_distribution<std::int64_t>(from, std::max(from, to))(random_);
}

Kind Workload::choose() {
    auto at = static_cast<int>(pick(0, 99));
    for (const Share& share : kMix) {
        if (at < share.percent) return share.kind;
        at -= share.percent;
    }
    return kMix.back().kind;
}

void Workload::check_tenant(const Rows& rows, const TenantView& tenant, Attempt& attempt) {
    for (int row = 0; row < rows.count(); ++row) {
        if (rows.text(row, 0) != tenant.name) {
            attempt.violations.push_back(Violation::wrong_tenant);
            return;
        }
    }
}

Result<void> Workload::look_around(Database& database, TenantView& tenant) {
    auto rows = database.simple(
        "SELECT (SELECT max(id) FROM companies), (SELECT max(id) FROM users), (SELECT max(id) FROM leads),"
        " (SELECT max(id) FROM orders)");
    if (!rows) return rows.error();
    tenant.companies = rows->number(0, 0);
    tenant.users = rows->number(0, 1);
    tenant.leads = rows->number(0, 2);
    tenant.orders = rows->number(0, 3);
    if (tenant.companies == 0) return fail(ErrorKind::invalid, "the tenant has no companies", tenant.name, {}, "PT001");
    return {};
}

Attempt Workload::run(Database& database, TenantView& tenant, Kind kind) {
    switch (kind) {
        case Kind::read_simple:
        case Kind::read_extended:
        case Kind::read_prepared:
        case Kind::read_view: return read(database, tenant, kind);
        case Kind::read_own: return read_own(database, tenant);
        case Kind::write_single:
        case Kind::write_delete: return write_one_statement(database, tenant, kind);
        case Kind::write_batch: return write_batch(database, tenant);
        case Kind::write_order:
        case Kind::write_lead:
        case Kind::roll_back: return write_transaction(database, tenant, kind);
    }
    return {};
}

Attempt Workload::read(Database& database, TenantView& tenant, Kind kind) {
    Attempt attempt;
    Result<Rows> rows = [&]() -> Result<Rows> {
        if (kind == Kind::read_simple) {
            return database.simple("SELECT tenant, id, name, balance FROM companies WHERE id = " +
                                   text_of(pick(1, tenant.companies)));
        }
        if (kind == Kind::read_extended) {
            // As text: a connection that was told the OID of the tenant's own type is ended when the tenant moves (docs/moves.md).
            return database.extended(
                "SELECT o.tenant, o.id, o.status::text, i.product, i.quantity, i.price FROM orders o"
                " LEFT JOIN order_items i ON i.order_id = o.id AND i.tenant = o.tenant WHERE o.company_id = $1"
                " ORDER BY o.placed_on DESC, o.id LIMIT 20",
                {text_of(pick(1, tenant.companies))});
        }
        if (kind == Kind::read_prepared) {
            return database.prepared("user_by_email", "SELECT tenant, id, company_id, settings FROM users WHERE lower(email) = $1",
                                     {"user" + text_of(pick(1, tenant.users)) + "@" + tenant.name + ".example"});
        }
        return database.simple("SELECT tenant, id, name, total FROM unpaid_orders LIMIT 50");
    }();
    if (!rows) {
        attempt.outcome = Outcome::failed;
        attempt.error = rows.error();
        return attempt;
    }
    check_tenant(*rows, tenant, attempt);
    const bool is_one_row = kind == Kind::read_simple || kind == Kind::read_prepared;
    if (is_one_row && rows->count() != 1) attempt.violations.push_back(Violation::wrong_answer);
    return attempt;
}

Attempt Workload::read_own(Database& database, const TenantView& tenant) {
    Attempt attempt;
    auto rows = database.prepared("own_last", "SELECT coalesce(max(seq), 0) FROM ledger WHERE client_id = $1", {text_of(client_)});
    if (!rows) {
        attempt.outcome = Outcome::failed;
        attempt.error = rows.error();
        return attempt;
    }
    const std::int64_t seen = rows->number(0, 0);
    if (seen < tenant.seq_acknowledged) attempt.violations.push_back(Violation::stale_read);
    if (seen > tenant.seq_used) attempt.violations.push_back(Violation::wrong_answer);
    return attempt;
}

Attempt Workload::write_one_statement(Database& database, TenantView& tenant, Kind kind) {
    Attempt attempt;
    attempt.seq = ++tenant.seq_used;
    Result<Rows> rows = [&] {
        if (kind == Kind::write_delete) {
            return database.prepared("delete_item", kDeleteSql,
                                     {text_of(client_), text_of(attempt.seq), tenant.name, text_of(pick(1, tenant.orders)),
                                      text_of(pick(1, 2))});
        }
        return database.prepared("write_ledger", kLedgerSql,
                                 {text_of(client_), text_of(attempt.seq), tenant.name, text_of(pick(1, tenant.companies)),
                                  text_of(pick(-500, 500))});
    }();
    if (!rows) {
        // One statement commits by itself: when the connection is lost, nobody knows whether it did.
        attempt.outcome = rows.error().kind == ErrorKind::unavailable ? Outcome::unknown : Outcome::failed;
        attempt.error = rows.error();
        return attempt;
    }
    check_tenant(*rows, tenant, attempt);
    if (rows->count() != 1) attempt.violations.push_back(Violation::wrong_answer);
    tenant.seq_acknowledged = attempt.seq;
    return attempt;
}

std::string Workload::ledger_sql(const TenantView& tenant, std::int64_t seq) {
    const std::string company = text_of(pick(1, tenant.companies));
    const std::string amount = text_of(pick(-500, 500));
    return "INSERT INTO ledger (client_id, seq, tenant, company_id, amount) VALUES (" + text_of(client_) + ", " + text_of(seq) +
           ", " + quote_literal(tenant.name) + ", " + company + ", " + amount +
           "); UPDATE companies SET balance = balance + (" + amount + ") WHERE id = " + company;
}

Attempt Workload::write_batch(Database& database, TenantView& tenant) {
    Attempt attempt;
    attempt.seq = ++tenant.seq_used;
    auto rows = database.simple("BEGIN; " + ledger_sql(tenant, attempt.seq) + "; COMMIT");
    if (!rows || rows->tag() != "COMMIT") {
        const bool is_lost = !rows && rows.error().kind == ErrorKind::unavailable;
        attempt.outcome = is_lost ? Outcome::unknown : Outcome::failed;
        attempt.error = rows ? fail(ErrorKind::invalid, "COMMIT was answered by " + std::string(rows->tag()), {}, {}, "PT002")
                             : rows.error();
        leave_transaction(database);
        return attempt;
    }
    tenant.seq_acknowledged = attempt.seq;
    return attempt;
}

Result<void> Workload::write_ledger(Database& database, TenantView& tenant, Attempt& attempt) {
    auto rows = database.extended(kLedgerSql, {text_of(client_), text_of(attempt.seq), tenant.name,
                                               text_of(pick(1, tenant.companies)), text_of(pick(-500, 500))});
    if (!rows) return rows.error();
    check_tenant(*rows, tenant, attempt);
    if (rows->count() != 1) attempt.violations.push_back(Violation::wrong_answer);
    return {};
}

Result<void> Workload::write_order(Database& database, TenantView& tenant, Attempt& attempt) {
    auto order = database.extended(
        "INSERT INTO orders (tenant, company_id, user_id, status) VALUES ($1, $2, $3, 'placed') RETURNING tenant, id",
        {tenant.name, text_of(pick(1, tenant.companies)), text_of(pick(1, tenant.users))});
    if (!order) return order.error();
    const std::string id(order->text(0, 1));
    for (int line = 1; line <= 2; ++line) {
        auto item = database.prepared("insert_item",
                                      "INSERT INTO order_items (order_id, line, tenant, product, quantity, price)"
                                      " VALUES ($1, $2, $3, $4, $5, $6)",
                                      {id, text_of(line), tenant.name, "product " + text_of(pick(1, 500)), text_of(pick(1, 9)),
                                       text_of(pick(100, 99'999))});
        if (!item) return item.error();
    }
    auto total = database.extended(
        "UPDATE orders SET total = (SELECT sum(quantity * price) FROM order_items WHERE order_id = $1), status = 'paid'"
        " WHERE id = $1 RETURNING tenant",
        {id});
    if (!total) return total.error();
    check_tenant(*total, tenant, attempt);
    if (total->count() != 1) attempt.violations.push_back(Violation::wrong_answer);
    return {};
}

Result<void> Workload::write_lead(Database& database, TenantView& tenant, Attempt& attempt) {
    const std::string id = text_of(pick(1, tenant.leads));
    // Most updates leave the long column alone: the change stream then carries the row without it.
    const bool is_long = pick(1, 5) == 1;
    const std::string notes =
        is_long ? ", notes = (SELECT string_agg(md5(g::text || " + quote_literal(id) + "), '') FROM generate_series(1, 160) g)" : "";
    auto lead = database.simple("UPDATE leads SET status = 'contacted', score = score + 0.25" + notes + " WHERE id = " + id +
                                " RETURNING tenant");
    if (!lead) return lead.error();
    check_tenant(*lead, tenant, attempt);
    if (lead->count() != 1) attempt.violations.push_back(Violation::wrong_answer);
    return {};
}

Attempt Workload::write_transaction(Database& database, TenantView& tenant, Kind kind) {
    Attempt attempt;
    attempt.seq = ++tenant.seq_used;
    const Result<void> done = [&]() -> Result<void> {
        if (auto begun = database.simple("BEGIN"); !begun) return begun.error();
        if (kind == Kind::write_order) PP_TRY(write_order(database, tenant, attempt));
        if (kind == Kind::write_lead) PP_TRY(write_lead(database, tenant, attempt));
        return write_ledger(database, tenant, attempt);
    }();
    if (!done) {
        attempt.outcome = Outcome::failed;
        attempt.error = done.error();
        leave_transaction(database);
        return attempt;
    }
    if (kind == Kind::roll_back) {
        auto rolled_back = database.simple("ROLLBACK");
        attempt.outcome = Outcome::rolled_back;
        if (!rolled_back) attempt.error = rolled_back.error();
        return attempt;
    }
    auto committed = database.simple("COMMIT");
    if (committed && committed->tag() == "COMMIT") {
        tenant.seq_acknowledged = attempt.seq;
        return attempt;
    }
    const bool is_lost = !committed && committed.error().kind == ErrorKind::unavailable;
    attempt.outcome = is_lost ? Outcome::unknown : Outcome::failed;
    attempt.error = committed ? fail(ErrorKind::invalid, "COMMIT was answered by " + std::string(committed->tag()), {}, {}, "PT002")
                              : committed.error();
    return attempt;
}

}  // namespace pgporter::traffic
