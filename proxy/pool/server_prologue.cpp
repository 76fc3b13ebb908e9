// The prologue: a server connection's context becomes the wanted one before a client's bytes reach it. Awaited, or ahead of the client's first
// bytes in the same write (decision 0019).
#include "base/assert.hpp"
#include "base/log.hpp"
#include "proxy/pool/pool.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {
namespace {

Error not_established() {
    return fail(ErrorKind::internal, "the tenant's context could not be established", "the server's session state isn't what was set",
                "try again; see the server's log", "58000");
}

}  // namespace

Task<Result<void>> ServerConnection::establish(ContextPtr context, SessionId session) {
    context_session_ = SessionId{};
    establishing_ = true;
    Result<void> done = co_await run_prologue(context);
    establishing_ = false;
    if (!done) co_return done.error();
    context_ = std::move(context);
    context_session_ = session;
    co_return Result<void>{};
}

Task<Result<void>> ServerConnection::establish_again(ContextPtr context, SessionId session) {
    Result<QueryAnswer> answer = co_await query(set_sql(*context), options_.prologue_ms_max);
    if (!answer) co_return answer.error();
    if (answer->rows.size() != 1 || !is_proof(*context, answer->rows.front())) {
        co_return fail(ErrorKind::internal, "the tenant's context could not be established again", {}, {}, "58000");
    }
    context_ = std::move(context);
    context_session_ = session;
    co_return Result<void>{};
}

// Next to nothing of ours would be lost: the cheapest way.
bool ServerConnection::discards_all() const {
    return needs_discard_all_ || (!untouched_ && statements_.size() <= 1 && !statements_.has_described());
}

Task<Result<void>> ServerConnection::run_prologue(ContextPtr context) {
    if (untouched_) {
        Result<void> proven = co_await run_prologue(context, {}, 1);
        co_return proven;
    }
    if (discards_all()) {
        statements_.clear();
        has_reset_statements_ = needs_discard_all_ = false;
        // A Query of its own: it can't run with others in one.
        Result<void> proven = co_await run_prologue(context, message::query("DISCARD ALL"), 2);
        co_return proven;
    }
    const std::string* encoding = find_setting(*reported_, "client_encoding");
    if (encoding != nullptr && !same_name(*encoding, "UTF8")) {  // what follows is sent as UTF-8, and must be read as such
        Result<QueryAnswer> reset = co_await query("RESET ALL", options_.prologue_ms_max);
        if (!reset) co_return reset.error();
    }
    Result<void> proven = co_await run_prologue(context, {}, 1, true);
    co_return proven;
}

// `request`: what goes before, with `queries` Queries in all.
Task<Result<void>> ServerConnection::run_prologue(ContextPtr context, std::string request, int queries, bool resets_in_parts) {
    const Context to_set = without_defaults(*context);
    request += message::query((resets_in_parts ? reset_sql() + "; " : std::string()) + set_sql(to_set));
    untouched_ = false;
    unnamed_statement = 0;
    if (pool_ != nullptr) pool_->count_prologue();
    Result<QueryAnswer> answer = co_await run_own_query(std::move(request), options_.prologue_ms_max, queries);
    if (!answer) co_return answer.error();
    bool is_proven = answer->rows.size() == 1 && is_proof(to_set, answer->rows.front());
    if (is_proven) learn_defaults(to_set, answer->rows.front());
    if (is_proven && !reports_rest(*context, to_set)) {  // the server has got other defaults: all is set
        answer = co_await query(set_sql(*context), options_.prologue_ms_max);
        if (!answer) co_return answer.error();
        is_proven = answer->rows.size() == 1 && is_proof(*context, answer->rows.front());
    }
    if (!is_proven) co_return not_established();
    if (pool_ != nullptr) pool_->settle_fresh(reported_, *context);
    co_return Result<void>{};
}

ServerConnection::Wipe ServerConnection::go_ahead(ContextPtr context, SessionId session) {
    PP_ASSERT(may_go_ahead() && own_query_ == nullptr);
    Wipe wipe = has_reset_statements_ ? Wipe::prepared_parts : Wipe::parts;
    if (discards_all()) {
        wipe = Wipe::discard_all;
        statements_.clear();
        has_reset_statements_ = needs_discard_all_ = false;
    } else {
        has_reset_statements_ = true;
    }
    context_session_ = SessionId{};
    unnamed_statement = 0;
    ahead_.emplace(Ahead{std::move(context), session});
    if (pool_ != nullptr) pool_->count_prologue();
    return wipe;  // no deadline: the server says nothing of it before the holder's statement is through
}

bool ServerConnection::on_ahead_bytes(std::string_view& input) {
    while (!input.empty() && ahead_ && own_query_ == nullptr) {
        const std::string_view whole = frames_.at_boundary() ? whole_message(input) : std::string_view();
        if (!whole.empty()) {
            input.remove_prefix(whole.size());
            if (!on_ahead_message(whole.front(), whole.substr(5))) return false;
            continue;
        }
        std::string_view piece;
        const FrameReader::Event event = frames_.next(input, piece);
        if (event == FrameReader::Event::need_more) return true;
        if (event == FrameReader::Event::bad_length || frames_.body_length() > own_message_bytes_max) return false;
        if (event == FrameReader::Event::header) ahead_->message.clear();
        if (event == FrameReader::Event::body) ahead_->message.append(piece);
        if (frames_.body_complete()) {
            const std::string message = std::move(ahead_->message);
            if (!on_ahead_message(frames_.type(), message)) return false;
        }
    }
    return true;
}

// It ends with its only CloseComplete; what comes behind that answers the holder.
bool ServerConnection::on_ahead_message(char type, std::string_view body) {
    switch (type) {
        case '1':
        case '2':
        case 'C':
        case 'D':
        case 'N':
        case 'A': return true;  // a notification would be the last holder's
        case 'S':
            if (const auto status = parse_parameter_status(body)) report(status->first, status->second);
            return true;
        case '3': proven_ahead(); return true;
        case 'E': on_ahead_error(parse_error(body)); return false;
        default: return false;
    }
}

void ServerConnection::proven_ahead() {
    context_ = std::move(ahead_->context);
    context_session_ = ahead_->session;
    ahead_.reset();
    if (const std::shared_ptr<LeaseHolder> holder = holder_) holder->on_proven(*this);
}

// PostgreSQL has done nothing of what stands behind, and does nothing before a Sync: the connection has no future.
void ServerConnection::on_ahead_error(const ServerError& error) {
    log::info("prologue_failed", {{"cluster", options_.address.cluster}, {"database", options_.database}, {"reason", error.message}});
    const std::shared_ptr<LeaseHolder> holder = holder_;
    if (holder) holder->on_not_proven(*this, fail(ErrorKind::unavailable, error.message, error.detail, error.hint, error.sqlstate));
}

bool ServerConnection::is_default(std::string_view name, std::string_view value) const {
    // Reported by every version, and set by nothing but their names.
    constexpr std::string_view known[] = {"application_name", "DateStyle", "IntervalStyle", "TimeZone"};
    if (std::none_of(std::begin(known), std::end(known), [&](std::string_view one) { return same_name(one, name); })) return false;
    const std::string* by_default = find_setting(defaults_, name);
    if (by_default == nullptr) return false;
    return *by_default == value || std::any_of(other_spellings_.begin(), other_spellings_.end(), [&](const auto& entry) {
        return same_name(entry.first, name) && entry.second == value;
    });
}

bool ServerConnection::is_reported_as(std::string_view name, std::string_view value) const {
    if (!is_default(name, value)) return false;
    const std::string* now = find_setting(*reported_, name);
    return now != nullptr && *now == *find_setting(defaults_, name);
}

// What a reset makes true needs no setting.
Context ServerConnection::without_defaults(const Context& context) const {
    Context rest = context;
    std::erase_if(rest.settings, [&](const auto& setting) { return is_default(setting.first, setting.second); });
    return rest;
}

// `row`: what the server has made of the values.
void ServerConnection::learn_defaults(const Context& set, const TextRow& row) {
    constexpr std::size_t spellings_max = 64;
    for (std::size_t i = 0; i < set.settings.size(); ++i) {
        const auto& [name, value] = set.settings[i];
        const std::string* by_default = find_setting(defaults_, name);
        const std::optional<std::string>& made = row[2 + i];
        if (by_default == nullptr || *made != *by_default || value == *made) continue;
        if (other_spellings_.size() < spellings_max) other_spellings_.emplace_back(name, value);
    }
}

// Were the defaults, behind the reset, what they were taken for? If not, they are known now.
bool ServerConnection::reports_rest(const Context& context, const Context& set) {
    bool as_expected = true;
    for (const auto& [name, value] : context.settings) {
        if (find_setting(set.settings, name) == nullptr) as_expected &= is_reported_as(name, value);
    }
    if (as_expected) return true;
    other_spellings_.clear();
    for (const auto& [name, value] : *reported_) {
        if (find_setting(set.settings, name) == nullptr) put_setting(defaults_, name, value);
    }
    return false;
}

}  // namespace pgporter
