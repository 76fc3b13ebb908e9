// PP_ASSERT: an invariant that stays checked in release builds. Failing is a bug: the process stops rather than serve a wrong tenant.
#pragma once

namespace pgporter {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}

#define PP_ASSERT(expression) \
    ((expression) ? static_cast<void>(0) : ::pgporter::assertion_failed(#expression, __FILE__, __LINE__))
