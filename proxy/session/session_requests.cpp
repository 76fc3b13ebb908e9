// What each request means for pooling. In session pooling everything is passed on as it is; in transaction pooling statement names are
// translated, what a server connection lacks is prepared first, and what needs no server is answered here.
#include <algorithm>
#include <charconv>

#include "proxy/session/foreign_tenant.hpp"
#include "proxy/session/guarded_statements.hpp"
#include "proxy/session/session.hpp"
#include "router/sql_lexer.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"
#include "router/search_path.hpp"

namespace pgporter {
// A statement that fails with this error.
std::string Session::raise_sql(const Error& error) const {
    const std::string body = "BEGIN RAISE EXCEPTION USING ERRCODE = " + sql_literal(error.sqlstate) + ", MESSAGE = " + sql_literal(error.message) +
                             ", HINT = " + sql_literal(error.hint) + "; END";
    std::string text = "DO LANGUAGE plpgsql " + sql_literal(body);
    if (dialect().encoding == SqlEncoding::utf8) return text;
    // The client never reads it, and in its encoding a quote may be half a character.
    std::replace_if(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }, '?');
    return text;
}

std::uint32_t Session::remember(Operation operation) {
    last_tag_ = (last_tag_ + 1) % first_unnamed_tag;
    if (last_tag_ == 0) ++last_tag_;
    if (operation.number != 0) unsettled_statements_[operation.number] = batch_;
    operations_.insert_or_assign(last_tag_, std::move(operation));
    return last_tag_;
}

void Session::note_traits(const StatementTraits& traits) {
    if (traits.may_change_settings || traits.listen || traits.temporary_object || traits.hold_cursor || traits.session_advisory_lock ||
        traits.sql_prepare || (traits.may_unpin && is_pinned())) {
        state_is_suspect_ = true;
    }
    // Where the context is guarded, also a transaction is looked into before its next statement.
    goes_back_ |= traits.goes_back || ((access_.guards_role || access_.guards_setting || access_.is_read_only) && traits.changes_unknown_setting);
    dialect_in_doubt_ |= traits.may_change_dialect;
    reading_in_doubt_ |= traits.sets;
    if (traits.temporary_object && server_ && !pins_.contains("temporary_object")) server_->statements().renew(worker_.next_moment());
    creates_objects_ |= traits.creates;
    has_barrier_ |= traits.may_change_settings || traits.may_change_dialect || traits.deallocate_all || !traits.deallocate_name.empty();
    for (const auto& name : traits.custom_settings) {
        if (custom_settings_.size() < 1000) custom_settings_.insert(name);
    }
}

bool Session::needs_server(char type, std::uint32_t body_length) const {
    // Without a lease: Sync is answered here, Flush has nothing to flush, stray COPY messages are ignored as PostgreSQL does. A malformed
    // one is PostgreSQL's to complain about.
    if ((type == 'S' || type == 'H') && body_length != 0) return true;
    return std::string_view("SHdcf").find(type) == std::string_view::npos;
}

// True while it isn't known whether an earlier batch has made or closed the statement of this name: an error there would have skipped that.
bool Session::is_unsettled(std::string_view name) const {
    if (name.empty()) return unnamed_change_ && unnamed_change_->batch != batch_;
    if (unsettled_names_.empty() && unsettled_statements_.empty()) return false;
    const auto at = unsettled_names_.find(std::string(name));
    if (at != unsettled_names_.end() && at->second != batch_) return true;
    const auto known = names_.find(name);  // another name may share the statement
    if (known == names_.end()) return false;
    const auto statement = unsettled_statements_.find(known->second.statement->number);
    return statement != unsettled_statements_.end() && statement->second != batch_;
}

// Everything that PostgreSQL would still have answered is answered before the session ends.
Session::Step Session::terminate() {
    terminating_ = true;
    if (server_ && must_wait()) {
        begin_watching_client();  // who has hung up needs no answer
        return Step::wait_for_replies;
    }
    if (is_client_blocked()) return Step::client_blocked;
    end(EndReason::client_terminated, nullptr);
    return Step::ended;
}

Session::Step Session::on_request(char type, std::string_view body, std::string_view whole) {
    if (idle_deadline_.is_armed()) idle_deadline_.disarm();
    if (type == 'X') {
        terminating_ = true;
        return Step::done;
    }
    if (!server_) {
        if (type == 'S' && body.empty()) {
            end_local_batch();
            return Step::done;
        }
        if (!needs_server(type, static_cast<std::uint32_t>(body.size()))) return Step::done;
    } else if (replies_.is_skipping() && type != 'S') {
        return Step::done;  // the server would skip it too
    }
    go_on_behind_end(type);
    const bool translates = pool_mode_ == PoolMode::transaction;
    bool is_of_session_portal = false;
    switch (type) {
        case 'Q': return on_query(body, whole);
        case 'P': {
            if (translates) return on_parse(body, whole);
            Reader reader(body);
            if (reader.cstring()) {
                const std::string_view sql = reader.rest().substr(0, reader.rest().find('\0'));
                const StatementTraits traits = scan_statement(sql, dialect());
                auto guarded = guard_statement(sql, access_, dialect());
                if (!guarded) guarded = doubt_about(sql, traits);
                if (!guarded && traits.discard_all) guarded = guard_discard_all(access_);
                if (guarded) return refuse_parse(*guarded);
                note_traits(traits);
            }
            break;
        }
        case 'B': {
            if (!translates) break;
            Reader reader(body);
            const auto portal = reader.cstring();
            const auto statement = reader.cstring();
            if (!portal || !statement) break;  // PostgreSQL says what is wrong with it
            if (const auto step = bind_session_statement(*portal, *statement, reader.rest())) return *step;
            return on_bind(*portal, *statement, reader.rest(), static_cast<std::uint32_t>(body.size()));
        }
        case 'E':
            if (const auto step = execute_session_statement(body)) return *step;
            is_of_session_portal = is_portal_of_session(body);
            break;
        case 'D':
            if (translates) return on_describe(body, whole);
            break;
        case 'C':
            if (translates) return on_close(body, whole);
            break;
        default: break;
    }
    if (misplaced_ && server_ && (type == 'E' || type == 'F') && !is_of_session_portal) {
        raise_in_batch(*misplaced_);
        return Step::done;
    }
    const Step begun = begin_stream(type, static_cast<std::uint32_t>(body.size()));
    if (begun == Step::done) to_server(body);
    if (begun == Step::done && type == 'E') send_to_follow();
    return begun;
}

// The header of a message that is passed on as it is, and what it will be owed.
Session::Step Session::begin_stream(char type, std::uint32_t body_length) {
    if (!server_ && !needs_server(type, body_length)) {
        partial_ = partial_ == Partial::none ? Partial::none : Partial::drop;
        return Step::done;
    }
    if (!server_ && std::string_view("QPBEDCSHFdcf").find(type) == std::string_view::npos) {
        const Error error = client_error::invalid_message_type(type);
        end(EndReason::protocol_violation, &error);
        return Step::ended;
    }
    if (!server_ && held_.state() == HeldTransaction::State::failed) {
        if (partial_ != Partial::none) partial_ = Partial::drop;
        if (type == 'Q' || type == 'F') {
            refuse_query(client_error::transaction_aborted());
        } else {
            refuse_locally(client_error::transaction_aborted());
        }
        return Step::done;
    }
    if (!server_ && !try_begin_lease()) return Step::need_server;
    if (partial_ == Partial::stream_start && server_->owes_proof()) return Step::wait_for_replies;
    if (partial_ == Partial::stream_start) go_on_behind_end(type);
    const bool is_unseen = type == 'F' || ((type == 'Q' || type == 'P') && partial_ == Partial::stream_start);
    if (const auto guarded = is_unseen ? guard_unseen(access_) : std::nullopt) {
        end(EndReason::protocol_violation, &*guarded);
        return Step::ended;
    }
    switch (type) {
        case 'Q':
            state_is_suspect_ = true;  // too long to be looked at
            portals_.erase(std::string());
            replies_.sent({Request::query, Handling::forward, drop_unnamed()});
            break;
        case 'P':
            if (pool_mode_ == PoolMode::transaction && partial_ != Partial::none) {
                const Error error = client_error::statement_too_long(worker_.config().limits.statement_bytes_max);
                end(EndReason::limit, &error);
                return Step::ended;
            }
            replies_.sent({Request::parse});
            break;
        case 'B': replies_.sent({Request::bind}); break;
        case 'D': replies_.sent({Request::describe}); break;
        case 'C': replies_.sent({Request::close}); break;
        case 'E': replies_.sent({Request::execute}); break;
        case 'F': replies_.sent({Request::function_call}); break;
        case 'S':
            ++batch_;
            skip_to_sync_ = false;
            replies_.sent({Request::sync});
            break;
        case 'c':
        case 'f': replies_.sent({Request::copy_end}); break;
        case 'H':
        case 'd': break;
        default: break;  // PostgreSQL answers what is under way, and then this, with the end of the connection
    }
    const auto header = frame_header(type, body_length);
    worker_.to_server().put_copy(std::string_view(header.data(), header.size()));
    return Step::done;
}

// Statements about the session itself that need no server, or must not reach one in their client's words.
bool Session::answer_locally(const StatementTraits& traits) {
    std::string reply;
    if (!server_ && traits.deallocate_all) {
        names_.clear();
        reply = message::command_complete("DEALLOCATE ALL");
    } else if (!traits.deallocate_name.empty() && replies_.status() != 'E') {
        const auto known = names_.find(traits.deallocate_name);
        if (known == names_.end()) return false;
        names_.erase(known);
        reply = message::command_complete("DEALLOCATE");
    } else {
        return false;
    }
    if (server_) {
        const std::uint32_t tag = remember({Operation::Kind::local_query, {}, nullptr, 0, reply});
        if (replies_.sent({Request::query, Handling::simulate, tag})) say_simulated();
        flush_to_client();
        return true;
    }
    unnamed_serial_ = 0;
    held_.end_implicit(named_);  // a Query ends the batch that it stands in
    portals_.clear();
    say(reply + message::ready_for_query('I'));
    return true;
}

// Everything that was sent is answered before what comes next is decided. Without a Sync behind it, the server is asked for its answers.
Session::Step Session::settle() {
    if (!replies_.ends_with_ready()) {
        const auto flush = frame_header('H', 0);
        worker_.to_server().put_copy(std::string_view(flush.data(), flush.size()));
    }
    return Step::wait_for_replies;
}

// DISCARD ALL and RESET ALL between transactions: the session's state becomes what it was at its start, tenant and all, which is not
// what the server would make of them. A server connection is needed only if a value changes that the client is told.
Session::Step Session::reset_session(const StatementTraits& traits) {
    if (!resetting_) {
        const bool changes = !own_.settings.empty() || (traits.discard_all && own_.role) || !named_.is_empty();
        own_.settings.clear();
        unnamed_serial_ = 0;
        if (traits.discard_all) {  // RESET ALL leaves the role and prepared statements alone
            own_.role.reset();
            names_.clear();
            custom_settings_.clear();
        }
        reset_named();
        resetting_ = changes;
    }
    if (resetting_ && !server_ && !try_begin_lease()) return Step::need_server;
    resetting_ = false;
    const std::string done = message::command_complete(traits.discard_all ? "DISCARD ALL" : "RESET");
    if (!server_) {
        say(done + message::ready_for_query('I'));
        return Step::done;
    }
    flush_said();
    client_out_.write(client_, done);
    tell_parameter_changes();
    client_out_.write(client_, message::ready_for_query('I'));
    finish_transaction();
    return Step::done;
}

Session::Step Session::on_query(std::string_view body, std::string_view whole) {
    const std::string_view sql = body.substr(0, body.find('\0'));
    if (answer_known_set(sql)) return Step::done;
    const ScannedStatement scanned(sql, dialect());
    const StatementTraits& traits = scanned.traits();
    const bool is_held = !server_ && held_.state() != HeldTransaction::State::none;
    if (pool_mode_ == PoolMode::transaction && !is_held) {
        if (!is_pinned() && (traits.discard_all || traits.reset_all)) {
            if (server_ && !resetting_ && replies_.ends_with_ready()) return Step::wait_for_replies;
            if (!server_ || resetting_) return reset_session(traits);
        }
        const bool is_known = !traits.deallocate_name.empty() && names_.contains(traits.deallocate_name);
        if (server_ && is_known && !replies_.is_empty() && !replies_.is_copying_in()) return settle();
        if (answer_locally(traits)) return Step::done;
    }
    if (names_in_sql() && (traits.of_session || (is_held && held_.state() == HeldTransaction::State::failed))) return on_session_query(sql);
    if (!server_ && !try_begin_lease(traits.plain)) return Step::need_server;
    std::optional<Error> refused = doubt_about(sql, traits);
    note_traits(traits);
    if (!traits.empty) portals_.erase(std::string());
    const std::uint32_t tag = drop_unnamed();
    if (!refused) refused = misplaced_;
    if (!refused && refused_naming_ && !traits.gives_up) refused = refused_naming_;
    if (!refused) refused = guard_statement(sql, access_, dialect());
    if (!refused && !names_in_sql()) refused = turns_to_foreign_tenant(sql, traits, *worker_.snapshot(), standpoint(), dialect());
    if (refused) {
        // The server says it in our words, so that it comes in its turn and fails the transaction as any error does.
        raise_query(*refused);
        return Step::done;
    }
    if (!names_in_sql() && !traits.reset_name.empty() && reset_to_beginning(traits)) return Step::done;
    if (const auto step = execute_by_sql(sql)) return *step;
    replies_.sent({Request::query, Handling::forward, tag});
    to_server(whole);
    return Step::done;
}

// EXECUTE of a statement that was prepared by a message: the server knows it under our name. Nullopt: it is no such EXECUTE.
std::optional<Session::Step> Session::execute_by_sql(std::string_view sql) {
    if (names_.empty() || pool_mode_ != PoolMode::transaction) return std::nullopt;
    SqlLexer lexer(sql, dialect());
    lexer.next();
    if (lexer.token().kind != SqlToken::Kind::word || !equals_folded(lexer.token().text, "execute")) return std::nullopt;
    lexer.next();
    if (!lexer.token().is_name() || lexer.token().unicode) return std::nullopt;
    const bool is_quoted = lexer.token().kind == SqlToken::Kind::quoted;
    const std::string_view spelled = lexer.token().text;
    const auto known = names_.find(statement_key(is_quoted ? std::string(spelled) : folded(spelled)));
    if (known == names_.end()) return std::nullopt;
    if (const auto trouble = trouble_with_spelling(known->first)) {
        raise_query(*trouble);
        return Step::done;
    }
    const StatementPtr statement = statement_here(known->second);
    if (server_->statements().touch(statement->number, known->second.since) == nullptr) {
        if (server_->owes_proof()) return Step::wait_for_replies;  // behind a Sync PostgreSQL would run it in whatever context there is
        if (server_->statements().contains(statement->number)) close_on_server(statement);
        // With a Sync of its own: should the Parse fail, the Query behind it must not be skipped.
        const std::uint32_t tag = remember({Operation::Kind::prepare_on_server, {}, statement, statement->number, {}});
        prepare_on_server(statement, Handling::swallow, tag);
        worker_.to_server().put_copy(message::sync());
        replies_.sent({Request::sync, Handling::swallow});
    }
    note_traits(statement->traits);
    if (const auto guarded = guard_statement(text_of_statement(known->first), access_, dialect())) {
        raise_query(*guarded);
        return Step::done;
    }
    const std::string text =
        std::string(sql.substr(0, lexer.token().begin)) + sql_identifier(statement->server_name) + std::string(sql.substr(lexer.position()));
    worker_.to_server().put_copy(message::query(text));
    replies_.sent({Request::query});
    return Step::done;
}

// RESET brings back what the session began with, which the server doesn't know as its default: said to it as SET, and told to the client as
// RESET. False: the session began with the server's own default.
bool Session::reset_to_beginning(const StatementTraits& traits) {
    std::string value;
    if (traits.reset_name == "search_path") {
        const auto schemas = split_search_path(startup_state_->search_path);
        if (!schemas || schemas->empty()) return false;
        for (const auto& schema : *schemas) value += (value.empty() ? "" : ", ") + sql_literal(schema);
    } else {
        const std::string* setting = find_setting(startup_state_->settings, traits.reset_name);
        if (setting == nullptr) return false;
        value = sql_literal(*setting);
    }
    if (!can_spell(value)) return false;
    std::string name;
    for (std::string_view rest = traits.reset_name; !rest.empty();) {
        const auto dot = rest.find('.');
        name += (name.empty() ? "" : ".") + sql_identifier(rest.substr(0, dot));
        rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
    }
    const std::uint32_t tag = remember({Operation::Kind::rename_tag, {}, nullptr, 0, message::command_complete("RESET")});
    worker_.to_server().put_copy(message::query("SET SESSION " + name + " TO " + value));
    replies_.sent({Request::query, Handling::forward, tag});
    return true;
}

}  // namespace pgporter
