#include "admin/mover/follow.hpp"

#include <thread>

#include "admin/mover/move_names.hpp"
#include "admin/mover/tenant_filter.hpp"

namespace pgporter {
namespace {

constexpr std::size_t changes_per_commit = 2'000;
constexpr std::chrono::milliseconds durable_every{1'000};
constexpr std::chrono::milliseconds tick_every{200};
constexpr std::size_t missing_rows_max = 100'000;
// In front of the key of a tracked change: what its answer means.
constexpr char key_of_update = 'u';   // no row: it has come in
constexpr char key_of_removal = 'r';  // a row: it has left

}  // namespace

Follower::Follower(const MoveServers& servers, const std::vector<SourceTable>& tables, std::string search_path,
                   FollowCounters& counters)
    : servers_(&servers), search_path_(std::move(search_path)), counters_(&counters) {
    for (const auto& table : tables) {
        if (!table.partitioned) tables_.emplace(table.oid, &table);
        shared_ = shared_ || table.tenant_column.has_value();
    }
}

void Follower::close() {
    if (shared_ && applier_) {
        // What the target would have answered, nobody knows any more: these rows count as changed, all of them.
        if (applier_->unanswered() > 0) {
            for (const auto& [oid, table] : tables_) {
                if (table->tenant_column) changed_.add_whole(*table);
            }
        }
        const auto noted = note_tracked();
        static_cast<void>(noted);  // too many rows: the next change says so again
    }
    stream_.reset();
    applier_.reset();
}

Result<void> Follower::connect() {
    close();
    auto applier = Applier::connect(*servers_, search_path_);
    if (!applier) return applier.error();
    auto stream = servers_->replication();
    if (!stream) return stream.error();
    PP_TRY(stream->start(servers_->artefact(), servers_->artefact()));
    applier_.emplace(std::move(*applier));
    stream_.emplace(std::move(*stream));
    in_transaction_ = skipping_ = false;
    held_.reset();
    barrier_.reset();
    marker_.clear();
    marker_seen_.clear();
    end_ = applier_->applied();
    durable_at_ = ticked_at_ = std::chrono::steady_clock::now();
    return {};
}

Result<void> Follower::follow_to_marker(const std::string& content, Deadline deadline) {
    return follow([&] { return marker_seen_ == content; }, deadline, -1);
}

Result<void> Follower::follow_to_barrier(Lsn barrier, Deadline deadline) {
    barrier_ = barrier;
    // What is held back may still be that of an earlier barrier.
    PP_TRY(follow([&] { return held_ && held_->final_lsn >= barrier; }, deadline, -1));
    return commit(Durability::later, deadline);
}

Result<void> Follower::come_to_rest() {
    PP_TRY(follow([&] { return !in_transaction_; }, std::nullopt, -1));
    return commit(Durability::later, std::nullopt);
}

Result<void> Follower::follow_during(const std::function<Result<void>()>& work) {
    WakeFlag finished;
    Result<void> outcome;
    std::jthread thread([&] {
        outcome = work();
        finished.raise();
    });
    auto followed = follow([&] { return finished.raised(); }, std::nullopt, finished.fd());
    thread.join();
    if (!followed) return followed;
    return outcome;
}

Result<void> Follower::commit(Durability durability, Deadline deadline) {
    PP_TRY(send_commit(durability));
    PP_TRY(applier_->settle(deadline));
    return note_tracked();
}

Result<void> Follower::send_commit(Durability durability) {
    if (!applier_->transaction_open() && durability != Durability::now && applier_->applied() >= end_) return {};
    return applier_->commit(end_, durability);
}

Result<void> Follower::settle(Deadline deadline) {
    PP_TRY(applier_->ask_for_answers());
    PP_TRY(applier_->settle(deadline));
    return note_tracked();
}

// Rows that weren't the tenant's before a change are found missing; rows that left it are found there.
Result<void> Follower::note_tracked() {
    for (auto& row : applier_->take_tracked()) {
        const bool is_missing = row.key.front() == key_of_update;
        row.key.erase(0, 1);
        if (is_missing == row.hit) continue;
        if (is_missing) missing_[row.table].insert(row.key);
        if (recording_) changed_.add_key(*row.table, std::move(row.key));
    }
    std::size_t rows = 0;
    for (const auto& [table, keys] : missing_) rows += keys.size();
    if (rows <= missing_rows_max) return {};
    return fail(ErrorKind::limit, "more than " + std::to_string(missing_rows_max) + " rows came to the tenant from other tenants during the move",
                {}, "start the move again when the rows have been reassigned");
}

Result<void> Follower::follow_for(std::chrono::milliseconds duration) {
    const auto end = after(duration);
    return follow([&] { return passed(end); }, std::nullopt, -1);
}

Result<void> Follower::follow(const std::function<bool()>& done, Deadline deadline, int wake_fd) {
    while (!done()) {
        if (passed(deadline)) return fail(ErrorKind::timeout, "the stream of the source didn't get there in time");
        auto more = take_messages(done);
        if (!more) return more.error();
        if (done()) break;
        if (!*more) {
            PP_TRY(rest());
            PP_TRY(wait(deadline, wake_fd));
        }
        PP_TRY(applier_->advance());
        if (shared_) PP_TRY(note_tracked());
        PP_TRY(keep_time());
        if (servers_->interrupt().heard()) return servers_->interrupt().error();
    }
    return {};
}

// True when there may be more at once: the loop above only comes up for air.
Result<bool> Follower::take_messages(const std::function<bool()>& done) {
    if (held_ && (!barrier_ || held_->final_lsn < *barrier_)) {
        const auto begin = *std::exchange(held_, std::nullopt);
        PP_TRY(take_begin(begin));
    }
    for (int taken = 0; taken < 500; ++taken) {
        if (held_) return false;
        auto message = stream_->poll_message();
        if (!message) return message.error();
        if (!*message) return false;
        PP_TRY(take_message(**message));
        if (done()) return true;
    }
    return true;
}

Result<void> Follower::take_message(std::string_view bytes) {
    const auto message = pgoutput::decode(bytes);
    if (!message) return fail(ErrorKind::internal, "the source sent a change that can't be read");
    if (const auto* begin = std::get_if<pgoutput::Begin>(&*message)) return take_begin(*begin);
    if (const auto* commit = std::get_if<pgoutput::Commit>(&*message)) return take_commit(*commit);
    if (const auto* relation = std::get_if<pgoutput::Relation>(&*message)) return take_relation(*relation);
    if (const auto* mark = std::get_if<pgoutput::LogicalMessage>(&*message)) {
        if (mark->transactional && mark->prefix == servers_->artefact() && mark->content != applied_mark)
            marker_ = std::string(mark->content);
        // What the other way has applied here came from where it would go.
        if (mark->transactional && mark->prefix == servers_->opposite_artefact() && mark->content == applied_mark)
            skipping_ = true;
        return {};
    }
    if (skipping_) return {};
    if (const auto* insert = std::get_if<pgoutput::Insert>(&*message)) return take_change(insert->relation, *message);
    if (const auto* update = std::get_if<pgoutput::Update>(&*message)) return take_change(update->relation, *message);
    if (const auto* deletion = std::get_if<pgoutput::Delete>(&*message))
        return take_change(deletion->relation, *message);
    if (const auto* truncate = std::get_if<pgoutput::Truncate>(&*message)) return take_truncate(*truncate);
    return {};  // origins and types: nothing to do
}

Result<void> Follower::take_begin(const pgoutput::Begin& begin) {
    if (barrier_ && begin.final_lsn >= *barrier_) {
        held_ = begin;
        return {};
    }
    in_transaction_ = true;
    marker_.clear();
    // Transactions come in the order of their commits: one whose commit lies before the progress row's is in the
    // target.
    skipping_ = begin.final_lsn < applier_->applied();
    transaction_ = begin.xid;
    return {};
}

Result<void> Follower::take_commit(const pgoutput::Commit& commit) {
    in_transaction_ = false;
    end_ = std::max(end_, commit.end_lsn);
    // Kept until the next marker: others' transactions may follow it before anybody asks.
    if (!marker_.empty()) marker_seen_ = std::exchange(marker_, {});
    if (std::exchange(skipping_, false)) return {};
    ++counters_->transactions;
    if (applier_->changes_open() >= changes_per_commit) return applier_->commit(end_, Durability::later);
    return {};
}

Result<void> Follower::take_relation(const pgoutput::Relation& relation) {
    auto table = known_table(relation.id);
    if (!table) return table.error();
    if (same_definition(**table, relation)) return {};
    return fail(ErrorKind::conflict,
                "the application changed the definition of table " + (*table)->plain_name() + " during the move", {},
                "start the move again when the change of the schema is complete");
}

Result<const SourceTable*> Follower::known_table(pgoutput::RelationId id) const {
    const auto found = tables_.find(id);
    if (found == tables_.end()) return fail(ErrorKind::conflict, "the stream has a table that the move doesn't know");
    return found->second;
}

Result<void> Follower::take_change(pgoutput::RelationId id, const pgoutput::Message& message) {
    auto table = known_table(id);
    if (!table) return table.error();
    if (pieces_ == nullptr) return apply_change(**table, message);
    const auto* update = std::get_if<pgoutput::Update>(&message);
    switch (pieces_->remainder(**table, message, transaction_)) {
        case Remainder::all: return apply_change(**table, message);
        case Remainder::nothing: return {};
        case Remainder::removal: return apply_change(**table, pgoutput::Delete{id, update->old_kind, update->old_row});
        case Remainder::arrival:
            if (is_whole_row(**table, update->row)) return apply_change(**table, pgoutput::Insert{id, update->row});
            return fail(ErrorKind::conflict, "a row of " + (*table)->plain_name() + " has got another key while it was copied, and the stream doesn't have all of it",
                        {}, "start the move again");
        case Remainder::unknown: break;
    }
    return fail(ErrorKind::conflict, "a change of " + (*table)->plain_name() + " doesn't fit the table's definition");
}

Result<void> Follower::apply_change(const SourceTable& table, const pgoutput::Message& message) {
    if (table.tenant_column) return take_shared_change(table, message);
    if (table.into_shared) return leave_behind(table);
    const bool lenient = lenient_.contains(&table);
    if (!lenient) {
        const auto collected = applier_->collect(table, message);
        if (!collected) return collected.error();
        if (*collected) {
            count_change(table, message);
            return {};
        }
    }
    std::optional<ApplyStatement> statement;
    if (const auto* insert = std::get_if<pgoutput::Insert>(&message)) {
        statement = insert_statement(table, *insert);
    } else if (const auto* update = std::get_if<pgoutput::Update>(&message)) {
        statement = update_statement(table, *update);
    } else if (const auto* deletion = std::get_if<pgoutput::Delete>(&message)) {
        statement = delete_statement(table, *deletion);
    }
    if (!statement) {
        return fail(ErrorKind::conflict,
                    "a change of " + table.plain_name() + " doesn't fit the table's definition");
    }
    count_change(table, message);
    return applier_->change(table, *statement, lenient ? Rows::one_or_none : Rows::one);
}

void Follower::count_change(const SourceTable& table, const pgoutput::Message& message) {
    if (recording_) changed_.add_change(table, message);
    ++counters_->changes;
    counters_->changes_total->inc();
}

Result<void> Follower::take_shared_change(const SourceTable& table, const pgoutput::Message& message) {
    const auto unfit = fail(ErrorKind::conflict, "a change of " + table.plain_name() + " doesn't fit the table's definition");
    auto filtered = filter_change(table, message);
    if (!filtered) return unfit;
    const auto* update = std::get_if<pgoutput::Update>(&message);
    if (table.into_shared) {
        // What isn't the tenant's has no business there: it doesn't go along, and the comparison finds it.
        if (recording_) changed_.add_change(table, message);
        const auto* insert = std::get_if<pgoutput::Insert>(&message);
        const auto objection = id_blocks_ == nullptr ? std::string()
                               : insert != nullptr   ? id_blocks_->objection(table, insert->row)
                               : update != nullptr   ? id_blocks_->objection(table, *update)
                                                     : std::string();
        if (filtered->fate != Fate::skip && !objection.empty()) return fail(ErrorKind::conflict, objection);
    }
    if (filtered->fate == Fate::skip) return {};
    ++counters_->changes;
    counters_->changes_total->inc();
    const auto rows = lenient_.contains(&table) ? Rows::one_or_none : Rows::one;
    const bool is_insert = filtered->fate == Fate::insert;
    const bool is_update = filtered->fate == Fate::update || filtered->fate == Fate::update_or_missing;
    if (filtered->fate == Fate::fetch) {
        missing_[&table].insert(encode_key(table, update->row));
        if (recording_) changed_.add_change(table, message);
        return {};
    }
    const auto statement = is_insert   ? insert_statement(table, filtered->insert)
                           : is_update ? update_statement(table, *update)
                                       : delete_statement(table, filtered->removal);
    if (!statement) return unfit;
    if (filtered->fate == Fate::remove_if_there) {
        if (table.key.empty()) return unfit;
        return applier_->change_tracked(table, *statement, key_of_removal + encode_key(table, filtered->removal.old_row));
    }
    if (recording_) changed_.add_change(table, message);
    if (filtered->fate == Fate::update_or_missing) {
        return applier_->change_tracked(table, *statement, key_of_update + encode_key(table, update->row));
    }
    return applier_->change(table, *statement, !is_insert && is_to_come(table, message) ? Rows::one_or_none : rows);
}

// A row that came in from another tenant, and waits to be copied again, may be changed or leave before that: it isn't on the target yet. Its
// key is kept, as the same changes come once more after a broken connection.
bool Follower::is_to_come(const SourceTable& table, const pgoutput::Message& message) {
    const auto found = missing_.find(&table);
    if (found == missing_.end() || table.key.empty()) return false;
    if (const auto* deletion = std::get_if<pgoutput::Delete>(&message)) return found->second.contains(encode_key(table, deletion->old_row));
    const auto* update = std::get_if<pgoutput::Update>(&message);
    if (update == nullptr) return false;
    const auto& before = update->old_kind == pgoutput::OldRow::none ? update->row : update->old_row;
    if (!found->second.contains(encode_key(table, before))) return false;
    found->second.insert(encode_key(table, update->row));
    return true;
}

// Everybody has a copy of a global table: what the tenant does to its own stays its own.
Result<void> Follower::leave_behind(const SourceTable& table) {
    // On the way there the copy on the target is everybody's, and the tenant's goes with its database.
    if (servers_->way() == Way::there) return {};
    ++left_behind_;
    return applier_->run("INSERT INTO " + quote_ident(servers_->artefact()) + ".left_behind AS l VALUES (" + quote_literal(table.plain_name()) +
                         ", 1) ON CONFLICT (name) DO UPDATE SET changes = l.changes + 1");
}

Result<void> Follower::take_truncate(const pgoutput::Truncate& truncate) {
    std::vector<const SourceTable*> tables;
    for (const auto id : truncate.relations) {
        auto table = known_table(id);
        if (!table) return table.error();
        if ((*table)->into_shared && !(*table)->tenant_column) {
            PP_TRY(leave_behind(**table));
            continue;
        }
        if (recording_) changed_.add_truncated(**table);
        lenient_.erase(*table);
        const auto ranges = pieces_ == nullptr ? std::vector<KeyRange>{KeyRange{}} : pieces_->to_empty(**table, transaction_);
        if (ranges.empty() || !ranges.front().is_all()) {
            for (const auto& range : ranges)
                PP_TRY(applier_->run("DELETE FROM ONLY " + (*table)->qualified_name() + " WHERE " + range_condition(**table, range)));
            continue;
        }
        if ((*table)->into_shared) {
            PP_TRY(applier_->run(empty_statement(**table)));
            continue;
        }
        tables.push_back(*table);
    }
    if (tables.empty()) return {};
    ++counters_->changes;
    counters_->changes_total->inc();
    return applier_->run(truncate_statement(tables, truncate));
}

Result<void> Follower::rest() {
    if (!in_transaction_ && applier_->transaction_open()) PP_TRY(applier_->commit(end_, Durability::later));
    return {};
}

Lsn Follower::confirmable() const {
    // With everything received also durable, the log up to the last keepalive holds nothing for us.
    if (!in_transaction_ && !held_ && applier_->durable() >= end_ && applier_->unanswered() == 0) {
        return std::max(applier_->durable(), stream_->idle_position());
    }
    return applier_->durable();
}

Result<void> Follower::keep_time() {
    const auto now = std::chrono::steady_clock::now();
    if (now - durable_at_ >= durable_every) {
        durable_at_ = now;
        if (!in_transaction_ && applier_->durable() < end_) PP_TRY(applier_->commit(end_, Durability::now));
        PP_TRY(stream_->confirm(confirmable(), true));
    } else if (stream_->reply_wanted()) {
        PP_TRY(stream_->confirm(confirmable()));
    }
    if (now - ticked_at_ >= tick_every) {
        ticked_at_ = now;
        const auto done = std::max(applier_->applied(), confirmable());
        counters_->lag_bytes = stream_->received() > done ? stream_->received().value - done.value : 0;
        if (tick_) tick_();
    }
    return {};
}

Result<void> Follower::wait(const Deadline& deadline, int wake_fd) {
    const auto ends = servers_->interrupt().fds();
    const short target_events = static_cast<short>(POLLIN | (applier_->wants_to_write() ? POLLOUT : 0));
    std::array<pollfd, 5> entries{
        pollfd{held_ ? -1 : stream_->socket(), POLLIN, 0},
        pollfd{applier_->unanswered() > 0 || applier_->wants_to_write() ? applier_->session().socket() : -1,
               target_events, 0},
        ends[0], ends[1], pollfd{wake_fd, POLLIN, 0}};
    int wait_ms = static_cast<int>(tick_every.count());
    if (deadline) wait_ms = std::min(wait_ms, poll_ms(deadline));
    ::poll(entries.data(), entries.size(), wait_ms);
    return {};
}

}  // namespace pgporter
