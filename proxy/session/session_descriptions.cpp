// What the client was told of its prepared statements. It sends and reads binary values by that, on whatever server connection a statement
// is used later: there it may have been prepared at another time, for another tenant or in another database, with other types. PostgreSQL
// refuses a statement whose result is no longer what it was when it was prepared (0A000, "cached plan must not change result type"), and so is
// it here. A statement is described once on each server connection that has it; only who was told something elsewhere waits for that.
#include "proxy/session/session.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {
namespace {

// Longer ones are looked into at once.
constexpr std::size_t raw_description_bytes_max = 2048;

}  // namespace

// To be asked before a Bind of the statement, which the server has. not_known_yet: what is asked for is on its way.
Session::Fit Session::fit_of(std::string_view statement_name) {
    if (statement_name.empty()) return fit_of_unnamed();
    const std::string_view key = statement_key(statement_name);
    const auto known = names_.find(key);
    return known == names_.end() ? Fit::same : fit_of_named(known->second, key);
}

Session::Fit Session::fit_of_named(NamedStatement& named, std::string_view key) {
    const StatementPtr& statement = named.statement;
    Told& told = named.told;
    PreparedOnServer* prepared = server_->statements().touch(statement->number);
    if (prepared == nullptr || told.by == prepared->serial || !statement->has_own_shape) return Fit::same;
    if (!told.what && told.by != 0) {  // it is being told, by a Parse that has been replaced meanwhile
        worker_.to_server().put_copy(message::flush());
        return Fit::not_known_yet;
    }
    if (!told.what) {
        // From its first use on it is what it was then, as in PostgreSQL. Nobody waits for that.
        told.by = prepared->serial;
        told.what = prepared->description;
        if (told.what) return Fit::same;
        worker_.to_server().put_copy(message::describe('S', statement->server_name));
        const std::uint32_t tag = remember({Operation::Kind::describe, std::string(key), statement, 0, {}, {}, prepared->serial});
        replies_.sent({Request::describe, Handling::swallow, tag});
        return Fit::same;
    }
    if (!prepared->description) return ask_for_description(*prepared, statement);
    if (prepared->description->parameters != told.what->parameters && declare_as_told(named)) return Fit::is_another;
    if (prepared->description != told.what && !is_as_told(*told.what, *prepared->description, told.knows_parameters)) return Fit::differs;
    told.by = prepared->serial;
    return Fit::same;
}

// The parameters have other types by now. False: what stands for the name has all that can be declared.
bool Session::declare_as_told(NamedStatement& named) {
    const StatementPtr parsed = named.as_parsed();
    const std::string declared = with_parameters(parsed->definition, named.told.what->parameters);
    if (declared == named.statement->definition) return false;
    named.statement = worker_.statements().find_or_create(statement_owner(), declared, spoken(), memory_account(), reading_of(declared));
    named.parsed = parsed;
    return true;
}

Session::Fit Session::fit_of_unnamed() {
    if (unnamed_serial_ == 0 || unnamed_session_) return Fit::same;
    PreparedOnServer& prepared = server_->unnamed_parse;
    UnnamedTold& told = unnamed_told_;
    if (told.by == 0 || told.by == prepared.serial) return Fit::same;
    if (told.results.empty()) return Fit::same;  // its Describe failed
    if (!prepared.description) return ask_for_description(prepared, nullptr);
    if (!told.parameters.empty() && told.parameters != prepared.description->parameters) return Fit::differs;
    const bool is_final = told.is_short || told.results == no_results;
    const auto results = is_final ? std::optional<std::string>(told.results) : results_of(told.results);
    if (!results || *results != prepared.description->results) return Fit::differs;
    told.by = prepared.serial;
    return Fit::same;
}

// `statement`: null: the unnamed one.
Session::Fit Session::ask_for_description(PreparedOnServer& prepared, const StatementPtr& statement) {
    if (asked_ == prepared.serial) return Fit::not_known_yet;
    asked_ = prepared.serial;
    worker_.to_server().put_copy(message::describe('S', statement ? statement->server_name : std::string()) + message::flush());
    const std::uint32_t tag = remember({Operation::Kind::describe, {}, statement, 0, {}, {}, prepared.serial});
    replies_.sent({Request::describe, Handling::swallow, tag});
    return Fit::not_known_yet;
}

// A Describe of the client's goes out, for what the server has: what is answered is what the client knows from then on. 0: nothing to learn.
std::uint32_t Session::tag_of_description(std::string_view describe_body) {
    if (describe_body.size() < 2) return 0;
    const std::string_view name = describe_body.substr(1, describe_body.find('\0', 1) - 1);
    const bool is_statement = describe_body[0] == 'S';
    if (is_statement && !name.empty()) {
        const auto known = names_.find(statement_key(name));
        if (known == names_.end()) return 0;
        NamedStatement& named = known->second;
        const PreparedOnServer* prepared = server_->statements().touch(named.statement->number);
        if (prepared == nullptr) return 0;
        named.told.knows_parameters = true;
        if (named.told.what && named.told.by == prepared->serial) return 0;
        named.told.by = prepared->serial;
        return remember({Operation::Kind::describe, std::string(known->first), named.statement, 0, {}, {}, prepared->serial});
    }
    const bool is_of_unnamed = is_statement || (name.empty() ? unnamed_portal_is_of_unnamed_ : name == portal_of_unnamed_);
    if (!is_of_unnamed || unnamed_serial_ == 0 || server_->unnamed_statement != unnamed_serial_) return 0;
    unnamed_told_.by = server_->unnamed_parse.serial;
    return first_unnamed_tag | static_cast<std::uint32_t>(unnamed_serial_ % first_unnamed_tag);
}

// The portal of a named statement needs no notice: its Bind has asked for the description.
void Session::note_portal(std::string_view portal, std::string_view statement) {
    const bool is_of_unnamed = statement.empty();
    if (portal.empty()) {
        unnamed_portal_is_of_unnamed_ = is_of_unnamed;
    } else if (is_of_unnamed) {
        portal_of_unnamed_ = portal;
    } else if (portal == portal_of_unnamed_) {
        portal_of_unnamed_.clear();
    }
}

// False: the server broke the protocol.
bool Session::on_described(char type, std::string_view body, const Expected& expected) {
    if (expected.tag >= first_unnamed_tag) {
        if (expected.tag == (first_unnamed_tag | static_cast<std::uint32_t>(unnamed_serial_ % first_unnamed_tag))) tell_unnamed(type, body);
        return true;
    }
    const auto at = operations_.find(expected.tag);
    if (at == operations_.end() || at->second.kind != Operation::Kind::describe) return true;
    if (type == 't') {
        parameters_described_ = body;
        return described_parameters(body).has_value();
    }
    const auto results = type == 'n' ? std::optional<std::string>(no_results) : results_of(body);
    if (!results) return false;
    const std::string results_elsewhere = type == 'n' ? *results : results_of(body, false).value_or(std::string());
    learn(at->second, {std::move(parameters_described_), *results, results_elsewhere, pool_->key().address.cluster + '/' + pool_->key().database});
    parameters_described_.clear();
    return true;
}

void Session::learn(const Operation& operation, StatementDescription description) {
    if (asked_ == operation.serial) asked_ = 0;
    if (!operation.statement) {
        if (server_->unnamed_parse.serial != operation.serial) return;
        server_->unnamed_parse.description = std::make_shared<const StatementDescription>(std::move(description));
        return;
    }
    DescriptionPtr& shared = operation.statement->last_description;
    if (!shared || !(*shared == description)) shared = std::make_shared<const StatementDescription>(std::move(description));
    server_->statements().describe(operation.statement->number, operation.serial, shared);
    const auto named = names_.find(operation.name);
    if (!operation.name.empty() && named != names_.end() && named->second.told.by == operation.serial) named->second.told.what = shared;
}

void Session::tell_unnamed(char type, std::string_view body) {
    if (type == 't') {
        unnamed_told_.parameters = body;
        return;
    }
    unnamed_told_.is_short = body.size() > raw_description_bytes_max;
    if (unnamed_told_.results.capacity() < body.size()) unnamed_told_.results = worker_.spare_text();
    if (type == 'n') {
        unnamed_told_.results = no_results;
    } else if (unnamed_told_.is_short) {
        unnamed_told_.results = results_of(body).value_or("?");  // malformed: equal to nothing
    } else {
        unnamed_told_.results = body;
    }
}

}  // namespace pgporter
