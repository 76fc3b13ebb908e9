// From the server to the client: each reply is matched with what was asked for, then passed on, swallowed, or ends the lease.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <charconv>

#include "base/assert.hpp"
#include "catalog/fence_words.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/error_response.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {
namespace {

// A reply in pieces that is no longer than this is put together first; a longer one is passed on as it comes.
constexpr std::uint32_t gathered_reply_bytes_max = 8192;
// What a move's fence raises in the database that the tenant leaves (admin/mover/fence.hpp).
constexpr std::string_view fence_sqlstate = "PP001";
// More columns and parameters than PostgreSQL allows.
constexpr std::uint32_t description_bytes_max = 1U << 20;

// Not where a tenant touches rows that are another's: then that is an error like any other, which no waiting cures.
bool is_fence_of(const Tenant& tenant, const ServerError& error) {
    if (tenant.placement.kind == PlacementKind::rows) return error.detail == row_fence_detail(tenant_key(tenant));
    return !error.detail.starts_with(row_fence_words);
}

// True for the CommandComplete of what may give a prepared statement's result another shape.
bool changes_tables(std::string_view tag) {
    return tag.starts_with("ALTER ") || tag.starts_with("DROP ") || tag.starts_with("CREATE VIEW");
}

}  // namespace

bool Session::on_server_bytes(ServerConnection& server, std::string_view& input) {
    const ServerPtr keep = server_;
    PP_ASSERT(worker_.to_client().bytes().empty());
    bool sound = true;
    while (sound && !input.empty() && server_.get() == &server) {
        std::string_view whole = server.frames().at_boundary() ? whole_message(input) : std::string_view();
        if (!whole.empty()) {
            // What holds for one row holds for those behind it.
            if (whole.front() == 'D' || whole.front() == 'd') whole = whole_messages(input, whole.front());
            input.remove_prefix(whole.size());
            sound = on_reply(whole.front(), whole.substr(5), whole);
        } else {
            sound = on_partial_reply(server, input);
        }
    }
    flush_to_client();
    if (sound && server_ && only_client_can_go_on()) bound_idle_transaction();
    if (uplink_waits_ && replies_.size() < worker_.config().limits.pending_replies_max / 2 + 1) wake_.notify();
    return sound;
}

bool Session::on_partial_reply(ServerConnection& server, std::string_view& input) {
    FrameReader& frames = server.frames();
    std::string_view piece;
    const FrameReader::Event event = frames.next(input, piece);
    if (event == FrameReader::Event::need_more) return true;
    if (event == FrameReader::Event::bad_length) return false;
    if (event == FrameReader::Event::header) {
        reply_.clear();
        const bool is_description = frames.type() == 'T' || frames.type() == 't';
        if (is_description && frames.body_length() > description_bytes_max) return false;
        reply_streams_ = frames.body_length() > gathered_reply_bytes_max && !is_description;
        if (reply_streams_) {
            const char type = frames.type();
            const bool is_asynchronous = type == 'N' || type == 'A' || type == 'S';
            ReplyQueue::Outcome outcome;
            if (!is_asynchronous) outcome = replies_.on_server(type);
            if (outcome.unexpected) return false;
            if (type == 'E') static_cast<void>(settle_reuse('E', outcome.expected.request));
            for (const Expected& expected : replies_.trimmed()) {
                if (type == 'E') undo(expected, &expected == &replies_.trimmed().back());
            }
            reply_forwarded_ = outcome.handling == Handling::forward;
            const auto header = frame_header(type, frames.body_length());
            if (reply_forwarded_) worker_.to_client().put_copy(std::string_view(header.data(), header.size()));
            if (outcome.completed) complete(outcome.expected, type);
        }
    } else if (reply_streams_) {
        if (reply_forwarded_) worker_.to_client().put(piece);
        if (frames.body_complete()) say_simulated();
        return true;
    } else {
        reply_.append(piece);
    }
    if (reply_streams_ || !frames.body_complete()) return true;
    const auto header = frame_header(frames.type(), frames.body_length());
    std::string whole;
    whole.reserve(header.size() + reply_.size());
    whole.append(header.data(), header.size()).append(reply_);
    const bool sound = on_reply(frames.type(), std::string_view(whole).substr(5), whole);
    worker_.to_client().keep();  // `whole` ends here
    if (reply_.capacity() > 2 * gathered_reply_bytes_max) reply_ = std::string();
    return sound;
}

bool Session::on_reply(char type, std::string_view body, std::string_view whole) {
    if (obtaining_ && type == 'E') return false;  // its last words: nothing of the client's was sent, which is tried elsewhere
    switch (type) {
        case 'N':
        case 'A': worker_.to_client().put(whole); return true;
        case 'S':
            if (const auto status = parse_parameter_status(body)) {
                server_->report(status->first, status->second);
                // Not the client's doing, as far as can be seen: the server's default may be another one now.
                const bool is_of_context = parameters_untold_ && find_setting(context_->settings, status->first) != nullptr;
                if (!state_is_suspect_ && !is_of_context) pool_->doubt_fresh(status->first, status->second);
            }
            if (parameters_untold_) {
                note_dialect();
                return true;
            }
            client_reported_ = server_->reported();
            worker_.to_client().put(whole);
            note_dialect();
            return true;
        default: break;
    }
    const ReplyQueue::Outcome outcome = replies_.on_server(type, type == 'Z' && !body.empty() ? body.front() : '\0');
    if (outcome.unexpected) return false;
    if ((type == '2' || type == 'Z') && settle_reuse(type)) return true;
    if ((type == 'T' || type == 't') && outcome.handling == Handling::forward) note_types(type, body);
    if (outcome.expected.request == Request::describe && outcome.expected.tag != 0 && type != 'E') {
        if (!on_described(type, body, outcome.expected)) return false;
    }
    if (type == 'E') {
        on_error_reply(outcome.expected, body, whole);
        say_simulated();
        return true;
    }
    if (type == 'Z' && std::exchange(parameters_untold_, false)) worker_.to_client().put_copy(parameter_changes());
    const auto renamed = type == 'C' && outcome.expected.tag != 0 ? operations_.find(outcome.expected.tag) : operations_.end();
    if (renamed != operations_.end() && renamed->second.kind == Operation::Kind::rename_tag) {
        worker_.to_client().put_copy(renamed->second.reply);
    } else if (outcome.handling == Handling::forward) {
        worker_.to_client().put(whole);
    }
    if (type == 'C' && body.size() > 6 && (body.front() == 'C' || body.front() == 'R')) {
        if (body.starts_with(std::string_view("COMMIT\0", 7))) ended_ = Ended::committed;
        if (body.starts_with(std::string_view("ROLLBACK\0", 9))) ended_ = Ended::rolled_back;  // or back to a savepoint: then more follows
    }
    if (type == 'C' && body.size() > 1 && body.front() == 'D') {
        const std::string_view tag = body.substr(0, body.size() - 1);
        if (tag == "DEALLOCATE" && deallocating_.second != 0) {
            names_.erase(deallocating_.first);
            server_->statements().remove(deallocating_.second);
            deallocating_ = {};
        }
        if (tag == "DISCARD ALL" || tag == "DEALLOCATE ALL") {
            names_.clear();
            server_->note_all_deallocated();
            unnamed_serial_ = 0;
            server_->unnamed_statement = 0;
            if (tag == "DISCARD ALL") context_was_reset_ = true;
        }
    }
    if (type == 'C' && changes_tables(body)) worker_.note_changed_tables(tenant_name_);
    if (outcome.completed) complete(outcome.expected, type);
    if (type == 'C' || type == 's' || type == 'I') on_statement_answered();
    say_simulated();
    if (type == 'Z') on_ready();
    return true;
}

void Session::on_error_reply(const Expected& expected, std::string_view body, std::string_view whole) {
    const ServerError error = parse_error(body);
    if (settle_reuse('E', expected.request, &error)) {
        for (const Expected& trimmed : replies_.trimmed()) undo(trimmed, &trimmed == &replies_.trimmed().back());
        return;
    }
    const auto refused = expected.tag == 0 ? operations_.end() : operations_.find(expected.tag);
    if (refused != operations_.end() && refused->second.kind == Operation::Kind::refusal && error.sqlstate == refused->second.name) {
        worker_.to_client().put_copy(refused->second.reply);  // what we made the server say, in our words alone
        if (naming_in_doubt_ && expected.tag == naming_in_doubt_->first) note_refused_naming(naming_in_doubt_->second);
    } else if (error.sqlstate == fence_sqlstate && desk_ != nullptr && tenant_ && is_fence_of(*tenant_, error)) {
        // The tenant moves, and we hadn't heard of it: from now on its transactions wait until the catalog has been asked.
        if (worker_.shared().on_fence_met) worker_.shared().on_fence_met(desk_->name());
        worker_.to_client().put_copy(client_error::to_message(client_error::moved_meanwhile(desk_->name()), error.severity));
    } else if (statement_timed_out_ && error.sqlstate == "57014" && tenant_) {
        worker_.to_client().put_copy(client_error::to_message(client_error::statement_timeout(tenant_->limits.statement_ms_max), error.severity));
    } else if (body.find(server_statement_prefix) != std::string_view::npos) {
        // Names first: undoing may forget the one that the text is about.
        worker_.to_client().put_copy(with_client_names(body, whole));
    } else {
        worker_.to_client().put(whole);
    }
    saw_error_ = true;
    on_statement_answered();
    if (error.severity == "FATAL" || error.severity == "PANIC") server_said_fatal_ = true;
    // "cached plan must not change result type": whoever changed the table did it where we couldn't see it.
    if (error.sqlstate == "0A000" && body.find("RevalidateCachedQuery") != std::string_view::npos) {
        worker_.statements().renew(tenant_name_);
    }
    bool query_was_skipped = false;
    for (const Expected& trimmed : replies_.trimmed()) {
        undo(trimmed, &trimmed == &replies_.trimmed().back());  // the oldest is the one that failed
        query_was_skipped |= trimmed.request == Request::query && trimmed.handling == Handling::forward;
    }
    if (query_was_skipped && set_in_passing_ && expected.handling == Handling::swallow && replies_.is_empty() && server_) {
        // What went out in front of the Query failed: the server waits for a Sync, the client for ReadyForQuery.
        replies_.sent({Request::sync});
        if (!server_->send(message::sync())) server_->close();
    }
}

void Session::on_notification(std::string_view body) {
    const auto header = frame_header('A', static_cast<std::uint32_t>(body.size()));
    std::string whole(header.data(), header.size());
    whole += body;
    client_out_.write(client_, whole);
}

// PostgreSQL speaks of our statement name where the client must read its own.
std::string Session::with_client_names(std::string_view body, std::string_view whole) const {
    const auto start = body.find(server_statement_prefix);
    const auto digits_start = start + server_statement_prefix.size();
    auto digits_end = digits_start;
    while (digits_end < body.size() && body[digits_end] >= '0' && body[digits_end] <= '9') ++digits_end;
    StatementNumber number = 0;
    std::from_chars(body.data() + digits_start, body.data() + digits_end, number);
    const std::string ours(body.substr(start, digits_end - start));
    const auto& trimmed = replies_.trimmed();
    for (auto expected = trimmed.rbegin(); expected != trimmed.rend(); ++expected) {  // the oldest is the one that failed
        const auto operation = operations_.find(expected->tag);
        if (operation != operations_.end() && operation->second.number == number && !operation->second.name.empty()) {
            return rewrite_error_text(body, ours, operation->second.name);
        }
    }
    for (const auto& [name, named] : names_) {
        if (named.statement->number == number) return rewrite_error_text(body, ours, name);
    }
    return std::string(whole);
}

// The server never did what this request was to do: it skipped it, unless this is the one that has failed.
void Session::undo(const Expected& expected, bool has_failed) {
    if (expected.tag >= first_unnamed_tag && unnamed_told_.by != 0) unnamed_told_.by = UnnamedTold::by_none_that_is_left;
    const auto at = operations_.find(expected.tag);
    if (expected.tag == 0 || at == operations_.end()) return;
    Operation operation = at->second;  // a copy: what is forgotten next is found by its name
    forget_operation(expected.tag);
    switch (operation.kind) {
        case Operation::Kind::name_statement:
            names_.erase(operation.name);
            server_->statements().remove(operation.number);
            break;
        case Operation::Kind::prepare_on_server: server_->statements().remove(operation.number); break;
        case Operation::Kind::close_name:
            if (operation.statement) names_.try_emplace(operation.name, NamedStatement{operation.statement, operation.told, {}, worker_.next_moment()});
            break;
        case Operation::Kind::evict_from_server:
            server_->statements().restore(operation.number, worker_.statements().next_parse());  // it is still there
            break;
        case Operation::Kind::unnamed_parse:
        case Operation::Kind::drop_unnamed:
            if (unnamed_state_ != operation.serial || !operation.replaced) break;  // another one has come since
            unnamed_state_ = operation.replaced->state;
            if (has_failed) {  // a failed Parse has dropped the one before; the client's own has left none
                if (expected.handling == Handling::forward) unnamed_serial_ = 0;
                server_->unnamed_statement = 0;
            } else {
                UnnamedStatement& replaced = *operation.replaced;
                server_->unnamed_statement = replaced.serial_on_server;
                server_->unnamed_parse = {0, worker_.statements().next_parse(), nullptr, nullptr};
                if (expected.handling != Handling::forward) break;
                unnamed_traits_ = std::move(replaced.traits);
                unnamed_session_ = std::move(replaced.session);
                unnamed_definition_ = std::move(replaced.definition);
                unnamed_serial_ = replaced.serial;
                unnamed_spelling_ = std::move(replaced.spelling);
                unnamed_told_ = std::move(replaced.told);
            }
            break;
        case Operation::Kind::describe:
            if (asked_ == operation.serial) asked_ = 0;
            if (const auto named = names_.find(operation.name); named != names_.end() && named->second.told.by == operation.serial) {
                named->second.told.by = 0;
            }
            break;
        case Operation::Kind::parse_again:
        case Operation::Kind::local_query:
        case Operation::Kind::local_answer:
        case Operation::Kind::rename_tag:
        case Operation::Kind::refusal: break;
    }
}

void Session::complete(const Expected& expected, char) {
    if (expected.tag != 0) forget_operation(expected.tag);
}

void Session::forget_operation(std::uint32_t tag) {
    const auto at = operations_.find(tag);
    if (at == operations_.end()) return;
    if (unnamed_change_ && unnamed_change_->tag == tag) unnamed_change_.reset();
    if (!unsettled_names_.empty() && at->second.kind != Operation::Kind::describe) unsettled_names_.erase(at->second.name);
    if (at->second.number != 0) unsettled_statements_.erase(at->second.number);
    if (at->second.replaced) {
        worker_.keep_text(std::move(at->second.replaced->definition));
        worker_.keep_text(std::move(at->second.replaced->told.results));
    }
    operations_.erase(at);
}

// Replies of our own whose turn it is.
void Session::say_simulated() {
    while (const auto expected = replies_.take_simulated()) {
        const auto at = operations_.find(expected->tag);
        switch (expected->request) {
            case Request::close: worker_.to_client().put_copy(message::close_complete()); break;
            case Request::query:
                if (at != operations_.end()) worker_.to_client().put_copy(at->second.reply);
                worker_.to_client().put_copy(message::ready_for_query(replies_.status()));
                break;
            case Request::describe:
            case Request::execute:
                if (at != operations_.end()) worker_.to_client().put_copy(at->second.reply);
                break;
            case Request::parse:
            case Request::bind:
            case Request::function_call:
            case Request::sync:
            case Request::copy_end: break;  // never simulated
        }
        forget_operation(expected->tag);
    }
}

void Session::flush_to_client() {
    Coalescer& out = worker_.to_client();
    const std::string_view bytes = out.bytes();
    if (!bytes.empty()) {
        if (server_ && server_->owes_proof()) ahead_.may_repeat = false;
        if (desk_ != nullptr) desk_->counters().sent_bytes.inc(bytes.size());
        charge_bytes(bytes.size());
        const bool sent = client_out_.write(client_, bytes);
        out.done();
        if (!sent) end(EndReason::client_lost, nullptr);
        return;
    }
    out.done();
}

// ReadyForQuery has just been passed on.
void Session::on_ready() {
    if (creates_objects_ && worker_.config().limits.unnamed_reuses_max != 0) worker_.note_new_objects();
    if (replies_.status() == 'I') creates_objects_ = false;
    if (!replies_.is_empty()) return;
    statement_deadline_.disarm();
    if (replies_.status() == 'I') transaction_deadline_.disarm();
    if (asked_at_ != SteadyTime{}) pool_->latency().observe(std::chrono::steady_clock::now() - std::exchange(asked_at_, SteadyTime{}));
    has_barrier_ = dialect_in_doubt_ = has_dependent_in_flight_ = false;
    if (replies_.status() == 'T' && goes_back_ && partial_ != Partial::stream) {
        flush_to_client();
        if (!server_ || end_reason_ != EndReason::none) return;
        inspecting_ = true;
        asio::co_spawn(worker_.thread().executor(), within_memory(shared_from_this(), inspect(shared_from_this())), asio::detached);
        return;
    }
    if (replies_.status() != 'I') {
        bound_idle_transaction();
        return;
    }
    if (!replies_.is_idle() || partial_ == Partial::stream) return;
    worker_.shared().session_metrics.transactions.inc();
    if (desk_ != nullptr) desk_->counters().transactions.inc();
    flush_to_client();
    if (!server_ || end_reason_ != EndReason::none) return;
    settle_named();
    if (state_is_suspect_ || context_was_reset_) {
        inspecting_ = true;
        asio::co_spawn(worker_.thread().executor(), within_memory(shared_from_this(), inspect(shared_from_this())), asio::detached);
        return;
    }
    finish_transaction();
}

void Session::finish_transaction() {
    if (is_pinned()) {
        if (draining_) drain();
        return;
    }
    if (is_client_blocked()) {
        lease_ends_after_flush_ = true;  // a slow reader keeps its server connection until it has its reply
        return;
    }
    end_lease();
}

void Session::on_client_flushed(ServerConnection& server) {
    if (server_.get() != &server) return;
    if (lease_ends_after_flush_) end_lease();
    if (uplink_waits_) wake_.notify();
}

}  // namespace pgporter
