// Repeated unnamed statements: PostgreSQL has one prepared under a name of ours, and the Parse is left out. Only for what is sent in one piece, outside
// of a transaction block: Parse, Bind, Describe, Execute, Sync, all unnamed. Nothing more is sent before that is answered, so that it can be
// sent again as it came: whatever goes wrong before the portal is bound has done nothing, and may be the reuse's fault.
#include "proxy/session/guarded_statements.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/error_response.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {
namespace {

struct WholeBatch {
    std::string_view definition;  // Parse's body after the name
    std::string_view bind_rest;   // Bind's body after the names
    std::string_view describe;    // the whole message; empty: none
    std::string_view execute;     // the whole message
    std::string_view all;
};

// Empty: there is no whole message of this type.
std::string_view take_message(std::string_view& input, char type) {
    if (!input.starts_with(type)) return {};
    const std::string_view whole = whole_message(input);
    input.remove_prefix(whole.size());
    return whole;
}

std::optional<WholeBatch> whole_batch(std::string_view input) {
    using namespace std::string_view_literals;
    const std::string_view from = input.substr(0, ReusedTexts::batch_bytes_max);
    std::string_view rest = from;
    WholeBatch batch;
    const std::string_view parse = take_message(rest, 'P');
    if (parse.size() < 8 || parse[5] != '\0') return std::nullopt;
    batch.definition = parse.substr(6);
    const std::size_t text_end = batch.definition.find('\0');
    if (text_end == std::string_view::npos || batch.definition.size() < text_end + 3) return std::nullopt;
    const std::string_view bind = take_message(rest, 'B');
    if (bind.size() < 7 || bind.substr(5, 2) != "\0\0"sv) return std::nullopt;
    batch.bind_rest = bind.substr(7);
    batch.describe = take_message(rest, 'D');
    if (!batch.describe.empty() && batch.describe.substr(5) != "P\0"sv) return std::nullopt;
    batch.execute = take_message(rest, 'E');
    if (batch.execute.size() != 10 || batch.execute[5] != '\0') return std::nullopt;
    if (take_message(rest, 'S').size() != 5) return std::nullopt;
    batch.all = from.substr(0, from.size() - rest.size());
    return batch;
}

// What only a statement that was prepared before can meet: it isn't there any more, or what it was made of has changed.
// An error that calls the statement by our name would have been said otherwise.
bool may_be_of_reuse(const ServerError& error) {
    const std::string& sqlstate = error.sqlstate;
    if (error.message.find(server_statement_prefix) != std::string::npos) return true;
    return sqlstate.starts_with("42") || sqlstate.starts_with("XX") || sqlstate == "0A000" || sqlstate == "26000" || sqlstate == "3F000";
}

}  // namespace

// In whose name, and in which state of the session, a text is parsed.
const std::string& Session::reuse_owner() {
    const std::uint64_t generation = worker_.reused_texts().generation();
    if (!reuse_.owner) reuse_.owner = std::make_unique<UnnamedReuse::Owner>();
    UnnamedReuse::Owner& owner = *reuse_.owner;
    if (owner.context == context_ && owner.tenant == tenant_name_ && owner.generation == generation) return owner.text;
    owner.context = context_;
    owner.tenant = tenant_name_;
    owner.generation = generation;
    owner.text = tenant_name_ + '\n' + identity_.user + '\n' + context_->search_path + "\nunnamed " + std::to_string(generation);
    owner.text.append("\n").append(context_->role);
    for (const auto& [name, value] : context_->settings) owner.text.append("\n").append(name).append("=").append(value);
    owner.hash = std::hash<std::string>()(owner.text);
    return owner.text;
}

// Nullopt: the message is handled as any other.
std::optional<Session::Step> Session::reuse_unnamed(std::string_view& input) {
    const LimitsConfig& limits = worker_.config().limits;
    if (pool_mode_ != PoolMode::transaction || skip_to_sync_ || terminating_ || !context_ || !has_route_ || is_pinned() || !portals_.empty()) return std::nullopt;
    if (binding_ || misplaced_ || refused_naming_ || resetting_ || held_.state() != HeldTransaction::State::none) return std::nullopt;
    if (server_ && (!replies_.is_idle() || has_barrier_ || server_->context() != context_)) return std::nullopt;
    const std::optional<WholeBatch> batch = whole_batch(input);
    if (!batch || batch->all.size() != input.size()) return std::nullopt;  // with more behind it, it would hold that up
    const std::string& owner = reuse_owner();
    const StatementPtr statement =
        worker_.reused_texts().find(owner, reuse_.owner->hash, batch->definition, spoken(), worker_.statements(), memory_account());
    if (!statement) return std::nullopt;
    const std::string_view sql = batch->definition.substr(0, batch->definition.find('\0'));
    const bool is_guarded = access_.guards_role || access_.guards_setting || access_.is_read_only;
    if (is_guarded && guard_statement(sql, access_, dialect())) return std::nullopt;
    if (!server_ && !try_begin_lease(true)) return Step::need_server;
    if (!replies_.is_idle() || has_barrier_ || server_->context() != context_) return std::nullopt;
    note_types('t', batch->definition.substr(sql.size() + 1));
    if (end_reason_ != EndReason::none) return Step::ended;

    const SteadyTime now = std::chrono::steady_clock::now();
    PreparedOnServer* prepared = server_->statements().touch(statement->number);
    if (prepared != nullptr && (prepared->uses >= limits.unnamed_reuses_max || now - prepared->since >= limits.unnamed_reuse_ms_max)) {
        worker_.to_server().put_copy(message::close('S', statement->server_name));
        replies_.sent({Request::close, Handling::swallow});
        server_->statements().remove(statement->number);
        prepared = nullptr;
    }
    if (prepared == nullptr) {
        prepare_on_server(statement, Handling::swallow, 0);
        prepared = server_->statements().touch(statement->number);
        if (prepared == nullptr) return std::nullopt;  // there is room for none; not that this can be
        prepared->since = now;
    } else {
        worker_.shared().session_metrics.unnamed_reuses.inc();
    }
    ++prepared->uses;
    reuse_.number = statement->number;
    server_->replay.assign(batch->all);

    Coalescer& out = worker_.to_server();
    const auto header = frame_header('B', static_cast<std::uint32_t>(batch->bind_rest.size() + statement->server_name.size() + 2));
    out.put_copy(std::string_view(header.data(), header.size()));
    out.put_copy(std::string_view("", 1));
    out.put_copy(std::string_view(statement->server_name.c_str(), statement->server_name.size() + 1));
    out.put(std::string_view(batch->bind_rest.data(), static_cast<std::size_t>(batch->all.data() + batch->all.size() - batch->bind_rest.data())));
    take_as_unnamed(statement, !batch->describe.empty());
    input.remove_prefix(batch->all.size());
    return Step::done;
}

// What the session knows of its unnamed statement is as if it had been parsed; the server has it under our name only.
void Session::take_as_unnamed(const StatementPtr& statement, bool is_described) {
    unnamed_traits_ = std::shared_ptr<const StatementTraits>(statement, &statement->traits);
    unnamed_session_ = nullptr;
    unnamed_definition_ = statement->definition;
    unnamed_share_.release();
    unnamed_spelling_.clear();
    unnamed_serial_ = ++last_serial_;
    ++unnamed_state_;
    unnamed_change_.reset();
    unnamed_told_.clear();
    unnamed_portal_is_of_unnamed_ = true;
    portal_of_unnamed_.clear();
    replies_.sent({Request::bind});
    if (is_described) {
        unnamed_told_.by = worker_.statements().next_parse();
        replies_.sent({Request::describe, Handling::forward, first_unnamed_tag | static_cast<std::uint32_t>(unnamed_serial_ % first_unnamed_tag)});
    }
    replies_.sent({Request::execute});
    ++batch_;
    replies_.sent({Request::sync});
    has_barrier_ = true;  // alone until it is answered
}

// An answer to a batch whose Parse was left out: true, if the client isn't to see it. `failed`: what the server answered with an error; `error`: null
// where that is too long to be looked at.
bool Session::settle_reuse(char type, Request failed, const ServerError* error) {
    if (reuse_.is_to_replay) {
        if (type != 'Z') return false;
        replay_unnamed();
        return true;
    }
    if (reuse_.number == 0 || (type != '2' && type != 'E')) return false;
    const StatementNumber number = std::exchange(reuse_.number, 0);
    if (type == 'E' && failed != Request::bind) server_->statements().remove(number);  // it was never made
    if (error != nullptr && may_be_of_reuse(*error)) {
        server_->statements().remove(number);
        worker_.shared().session_metrics.unnamed_replays.inc();
        reuse_.is_to_replay = true;
        replayed_ = number;
        return true;
    }
    if (type == 'E' && failed != Request::bind) {
        unnamed_serial_ = 0;  // a failed Parse leaves none
        return false;
    }
    worker_.to_client().put_copy(message::parse_complete());
    return false;
}

// The server is idle again, and nothing has happened.
void Session::replay_unnamed() {
    reuse_.is_to_replay = false;
    const std::string all = std::exchange(server_->replay, {});
    worker_.to_server().put_copy(message::close('S', std::string(server_statement_prefix) + std::to_string(replayed_)));
    replies_.sent({Request::close, Handling::swallow});
    std::string_view rest = all;
    while (!rest.empty() && end_reason_ == EndReason::none) {
        const std::string_view whole = whole_message(rest);
        if (on_request(whole.front(), whole.substr(5), whole) != Step::done) {
            const Error error = client_error::server_lost();  // it can't be finished as it was begun
            return end(EndReason::server_lost, &error);
        }
        rest.remove_prefix(whole.size());
    }
    has_barrier_ = true;
    if (!flush_to_server()) server_->close();  // so little always finds room
}

}  // namespace pgporter
