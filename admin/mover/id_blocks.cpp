#include "admin/mover/id_blocks.hpp"

#include <algorithm>
#include <charconv>

#include "admin/mover/fence.hpp"

namespace pgporter {
namespace {

constexpr int reserve_attempts_max = 100;

// $1 the schemas, $2 the tenant column. `idx`: unique indexes that don't contain it, of tables that have it. `drawn`: columns whose value
// a sequence of these schemas gives, as long as nobody says another one. A partition's columns are drawn as its root's are.
constexpr const char* indexes_with = R"sql(
WITH shared AS (
  SELECT c.oid, c.relkind, n.nspname, c.relname, coalesce(pg_partition_root(c.oid)::oid, c.oid) AS root, a.attnum AS tenant
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
   WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p')
     AND coalesce(obj_description(coalesce(pg_partition_root(c.oid)::oid, c.oid), 'pg_class'), '') !~* 'pgporter: *global'
), idx AS (
  SELECT i.indexrelid, i.indrelid, s.root, x.relname, s.nspname, s.relname AS table_name, k.attnum
    FROM shared s JOIN pg_index i ON i.indrelid = s.oid JOIN pg_class x ON x.oid = i.indexrelid,
         unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
   WHERE (i.indisunique OR i.indisexclusion) AND NOT x.relispartition AND k.place <= i.indnkeyatts
     AND NOT s.tenant = ANY ((i.indkey::int2[])[0 : i.indnkeyatts - 1])
), defaults AS (
  SELECT d.refobjid AS root, d.refobjsubid AS attnum, d.objid AS sequence
    FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' AND d.refobjsubid > 0
  UNION ALL
  SELECT f.adrelid, f.adnum, q.oid
    FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class q ON q.oid = d.refobjid AND q.relkind = 'S'
   WHERE pg_get_expr(f.adbin, f.adrelid) ~ '^nextval\(''.*''::regclass\)$'
), drawn AS (
  SELECT s.oid, a.attnum, a.attname, q.oid AS sequence, qn.nspname AS sequence_schema, q.relname AS sequence_name, p.seqincrement, p.seqcache,
         p.seqmax, p.seqstart
    FROM shared s JOIN defaults f ON f.root = s.root
    JOIN pg_attribute r ON r.attrelid = f.root AND r.attnum = f.attnum
    JOIN pg_attribute a ON a.attrelid = s.oid AND a.attname = r.attname AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
    JOIN pg_class q ON q.oid = f.sequence JOIN pg_namespace qn ON qn.oid = q.relnamespace AND qn.nspname = ANY ($1::text[])
    JOIN pg_sequence p ON p.seqrelid = q.oid AND p.seqincrement > 0 AND NOT p.seqcycle
)
)sql";

constexpr const char* unsafe_query = R"sql(
SELECT DISTINCT format('%s on %I.%I', relname, nspname, table_name) FROM idx AS i
 WHERE NOT EXISTS (
   SELECT FROM idx k LEFT JOIN pg_attribute a ON a.attrelid = k.indrelid AND a.attnum = k.attnum
    WHERE k.indexrelid = i.indexrelid AND (
      a.atttypid = 'uuid'::regtype
      OR EXISTS (SELECT FROM drawn d WHERE d.oid = k.indrelid AND d.attnum = k.attnum
                    AND CASE WHEN has_sequence_privilege(d.sequence, 'SELECT')
                        THEN (d.seqmax - coalesce(pg_sequence_last_value(d.sequence), d.seqstart)) / d.seqincrement > 2 * $3::bigint ELSE false END)
      OR EXISTS (SELECT FROM pg_constraint f JOIN shared s ON s.oid = f.confrelid
                  WHERE f.conrelid = k.indrelid AND f.contype = 'f' AND f.convalidated AND f.conkey = ARRAY[k.attnum])))
 ORDER BY 1)sql";

constexpr const char* drawn_query = R"sql(
SELECT DISTINCT s.nspname, s.relname, d.attname, d.sequence_schema, d.sequence_name, d.seqincrement, d.seqcache
  FROM shared s JOIN drawn d ON d.oid = s.oid
 WHERE EXISTS (SELECT FROM idx i JOIN pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = i.attnum
                WHERE i.root = s.root AND k.attname = d.attname)
 ORDER BY 4, 5, 1, 2)sql";

// Sequences whose numbers must only differ within the tenant.
constexpr const char* own_query = R"sql(
SELECT DISTINCT d.sequence_schema, d.sequence_name, d.seqincrement, d.seqcache
  FROM shared s JOIN drawn d ON d.oid = s.oid AND s.oid = s.root
 WHERE EXISTS (SELECT FROM pg_index i WHERE i.indrelid = s.oid AND i.indisunique AND d.attnum = ANY (i.indkey::int2[]))
 ORDER BY 1, 2)sql";

std::string blocks_table(const MoveServers& servers) {
    return quote_ident(servers.artefact()) + ".id_blocks";
}

}  // namespace

Result<std::vector<std::string>> find_unsafe_indexes(ServerSession& shared, const MoveServers& servers) {
    auto rows = shared.exec(std::string(indexes_with) + unsafe_query, {servers.schemas().as_array(), servers.rows()->column,
                                                                       std::to_string(servers.config().mover.reserved_ids)});
    if (!rows) return rows.error();
    std::vector<std::string> names;
    for (int row = 0; row < rows->count(); ++row) names.push_back(rows->string(row, 0));
    return names;
}

Result<void> IdBlocks::create_table(ServerSession& shared, const MoveServers& servers) {
    PP_TRY(shared.exec("CREATE TABLE " + blocks_table(servers) +
                       " (id bigint GENERATED ALWAYS AS IDENTITY, schema text NOT NULL, name text NOT NULL, first bigint NOT NULL, last bigint NOT NULL)"));
    return {};
}

Result<void> IdBlocks::load(ServerSession& shared, ServerSession& own, const MoveServers& servers) {
    clear();
    auto rows = own.exec(std::string(indexes_with) + drawn_query, {servers.schemas().as_array(), servers.rows()->column});
    if (!rows) return rows.error();
    for (int row = 0; row < rows->count(); ++row) {
        const auto schema = rows->string(row, 3);
        const auto name = rows->string(row, 4);
        auto known = std::find_if(sequences_.begin(), sequences_.end(), [&](const Sequence& s) { return s.schema == schema && s.name == name; });
        if (known == sequences_.end()) {
            known = sequences_.insert(known, {schema, name, rows->number(row, 5), rows->number(row, 6), {}});
        }
        drawn_[qualified(rows->string(row, 0), rows->string(row, 1))].push_back(
            {static_cast<std::size_t>(known - sequences_.begin()), rows->string(row, 2)});
    }
    auto within = own.exec(std::string(indexes_with) + own_query, {servers.schemas().as_array(), servers.rows()->column});
    if (!within) return within.error();
    for (int row = 0; row < within->count(); ++row) {
        Sequence sequence{within->string(row, 0), within->string(row, 1), within->number(row, 2), within->number(row, 3), {}};
        const bool has_blocks = std::any_of(sequences_.begin(), sequences_.end(),
                                            [&](const Sequence& s) { return s.schema == sequence.schema && s.name == sequence.name; });
        if (!has_blocks) within_.push_back(std::move(sequence));
    }
    return read_blocks(shared, servers);
}

Result<void> IdBlocks::raise_shared(ServerSession& own, const MoveServers& servers) const {
    if (within_.empty()) return {};
    auto shared = servers.target();
    if (!shared) return shared.error();
    check_deadlocks_early(**shared);
    for (const auto& sequence : within_) {
        const auto name = qualified(sequence.schema, sequence.name);
        auto at = own.exec("SELECT last_value + " + std::to_string(sequence.increment) + " * " + std::to_string(servers.config().mover.reserved_ids) +
                           " FROM " + name);
        if (!at) return at.error();
        const auto enough = at->string(0, 0);
        auto there = (*shared)->exec("SELECT last_value < " + enough + " FROM " + name);
        if (!there) return there.error();
        if (!there->flag(0, 0)) continue;
        const auto statement = "ALTER SEQUENCE " + name + " CACHE " + std::to_string(sequence.cache) + "; SELECT setval(" + quote_literal(name) +
                               ", greatest(last_value, " + enough + ")) FROM " + name;
        PP_TRY(retry_locks(servers.interrupt(), reserve_attempts_max,
                           [&] { return locked_transaction(**shared, servers.config().mover.lock_timeout_ms, statement); }));
    }
    return {};
}

Result<void> IdBlocks::read_blocks(ServerSession& shared, const MoveServers& servers) {
    auto rows = shared.exec("SELECT schema, name, first, last FROM " + blocks_table(servers) + " ORDER BY id");
    if (!rows) return rows.error();
    for (auto& sequence : sequences_) {
        sequence.blocks.clear();
        for (int row = 0; row < rows->count(); ++row) {
            if (rows->text(row, 0) != sequence.schema || rows->text(row, 1) != sequence.name) continue;
            sequence.blocks.push_back({rows->number(row, 2), rows->number(row, 3)});
        }
    }
    return {};
}

// ALTER SEQUENCE, though it changes nothing, keeps everybody from drawing until the transaction ends: between the look at the sequence
// and its setval nobody gets a number of the block.
Result<void> IdBlocks::reserve(ServerSession& shared, const MoveServers& servers, Sequence& sequence, std::int64_t first_min) const {
    const auto name = qualified(sequence.schema, sequence.name);
    const auto increment = std::to_string(sequence.increment);
    const auto statement =
        "ALTER SEQUENCE " + name + " CACHE " + std::to_string(sequence.cache) + "; WITH place AS (SELECT greatest(CASE WHEN is_called THEN last_value + " +
        increment + " ELSE last_value END, " + std::to_string(first_min) + ") AS first FROM " + name + "), block AS (INSERT INTO " +
        blocks_table(servers) + " (schema, name, first, last) SELECT " + quote_literal(sequence.schema) + ", " + quote_literal(sequence.name) +
        ", first, first + " + increment + " * " + std::to_string(servers.config().mover.reserved_ids - 1) +
        " FROM place RETURNING last) SELECT setval(" + quote_literal(name) + ", last) FROM block";
    check_deadlocks_early(shared);
    auto reserved = retry_locks(servers.interrupt(), reserve_attempts_max,
                                [&] { return locked_transaction(shared, servers.config().mover.lock_timeout_ms, statement); });
    if (reserved) return {};
    auto error = reserved.error();
    error.message = "no ids of " + sequence.schema + "." + sequence.name + " could be reserved: " + error.message;
    return error;
}

Result<void> IdBlocks::keep_filled(ServerSession& own, const MoveServers& servers) {
    std::unique_ptr<ServerSession> shared;
    for (auto& sequence : sequences_) {
        const auto name = qualified(sequence.schema, sequence.name);
        auto at = own.exec("SELECT CASE WHEN is_called THEN last_value + " + std::to_string(sequence.increment) + " ELSE last_value END FROM " + name);
        if (!at) return at.error();
        const auto next = at->number(0, 0);
        const auto half_used = [&] {
            const auto& block = sequence.blocks.back();
            return next - block.first > (block.last - block.first) / 2;
        };
        if (sequence.blocks.empty() || half_used()) {
            if (!shared) {
                auto opened = servers.target();
                if (!opened) return opened.error();
                shared = std::move(*opened);
            }
            // Before the first block the tenant may have drawn from a sequence of its own for long.
            PP_TRY(reserve(*shared, servers, sequence, sequence.blocks.empty() ? next : 0));
            PP_TRY(read_blocks(*shared, servers));
        }
        // What it draws jumps forward, and never back: it is in an older block, or in none.
        const auto& block = sequence.blocks.back();
        if (next < block.first) PP_TRY(own.exec("SELECT setval(" + quote_literal(name) + ", " + std::to_string(block.first) + ", false)"));
    }
    return {};
}

std::string IdBlocks::objection(const SourceTable& table, const pgoutput::Tuple& row) const {
    const auto found = drawn_.find(table.qualified_name());
    if (found == drawn_.end()) return {};
    for (const auto& drawn : found->second) {
        const auto column = std::find_if(table.columns.begin(), table.columns.end(), [&](const auto& c) { return c.name == drawn.column; });
        const auto index = static_cast<std::size_t>(column - table.columns.begin());
        if (column == table.columns.end() || index >= row.size() || row[index].kind != pgoutput::ValueKind::text) continue;
        std::int64_t value = 0;
        const auto text = row[index].bytes;
        std::from_chars(text.data(), text.data() + text.size(), value);
        const auto& blocks = sequences_[drawn.sequence].blocks;
        const bool ours = blocks.empty() || value < blocks.front().first ||
                          std::any_of(blocks.begin(), blocks.end(), [&](const Block& b) { return value >= b.first && value <= b.last; });
        if (!ours) {
            return table.plain_name() + " has a row whose " + drawn.column + " is " + std::string(text) +
                   ", which isn't of the ids that were reserved for the tenant (mover.reserved_ids): it may be another tenant's in the shared tables";
        }
    }
    return {};
}

std::string IdBlocks::objection(const SourceTable& table, const pgoutput::Update& update) const {
    if (update.old_kind == pgoutput::OldRow::none) return {};
    const auto found = drawn_.find(table.qualified_name());
    if (found == drawn_.end() || update.old_row.size() != update.row.size()) return {};
    const bool changed = std::any_of(found->second.begin(), found->second.end(), [&](const Drawn& drawn) {
        for (std::size_t i = 0; i < table.columns.size() && i < update.row.size(); ++i) {
            if (table.columns[i].name == drawn.column) return update.old_row[i].bytes != update.row[i].bytes;
        }
        return false;
    });
    return changed ? objection(table, update.row) : std::string();
}

void IdBlocks::leave_out(std::vector<SequenceValue>& sequences) const {
    std::erase_if(sequences, [&](const SequenceValue& value) {
        return std::any_of(sequences_.begin(), sequences_.end(), [&](const Sequence& s) {
            return !s.blocks.empty() && s.schema == value.schema && s.name == value.name;
        });
    });
}

}  // namespace pgporter
