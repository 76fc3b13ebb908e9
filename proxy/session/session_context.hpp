// SessionContext: a context as sessions share it, with the messages that set it (prologue_ahead.hpp), once somebody has needed them. Made by a
// worker's SessionContexts; the messages are that thread's own.
#pragma once

#include <memory>
#include <string>

#include "proxy/pool/context.hpp"
#include "proxy/pool/shared_values.hpp"

namespace pgporter {

struct SessionContext : Context {
    explicit SessionContext(const Context& context) : Context(context) {}
    mutable std::string setting_messages;  // empty: not made yet
};
using SessionContextPtr = std::shared_ptr<const SessionContext>;
using SessionContexts = SharedValues<Context, SessionContext>;

}  // namespace pgporter
