// SessionContext: what a session's next transaction must find, as one object: the server connection that points to it has been made so since. An equal
// one that is made later is another one, and makes the server connection anew. With the messages that do that (prologue_ahead.hpp), which equal
// contexts share.
#pragma once

#include <memory>
#include <string>

#include "proxy/pool/context.hpp"
#include "proxy/pool/shared_values.hpp"

namespace pgporter {

// Of a thread; the text is made when it is needed first.
struct SettingMessages : Context {
    explicit SettingMessages(const Context& context) : Context(context) {}
    mutable std::string text;
};
using AllSettingMessages = SharedValues<Context, SettingMessages>;

struct SessionContext : Context {
    explicit SessionContext(const Context& context) : Context(context) {}
    mutable std::shared_ptr<const SettingMessages> messages;  // null: not needed yet
};
using SessionContextPtr = std::shared_ptr<const SessionContext>;

}  // namespace pgporter
