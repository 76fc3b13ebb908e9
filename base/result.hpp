// Result<T>: a value or an Error. What can go wrong at run time travels as a value; exceptions mean a bug or a failed start.
// Values; any thread.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace pgporter {

// What kind of failure it is: the one thing callers branch on. HTTP statuses and exit codes follow from it.
enum class ErrorKind {
    invalid,          // the input is wrong; the same input will fail again
    not_found,        // the named thing doesn't exist
    conflict,         // the thing exists, but its state forbids the act (a tenant that already moves)
    unauthenticated,  // nobody, or the wrong secret
    forbidden,        // known, but not allowed
    limit,            // a named bound was hit
    timeout,          // a named time bound was hit
    unavailable,      // a server or the catalog can't be reached now; trying again may help
    cancelled,        // somebody asked to stop
    internal          // a bug or an unexpected answer
};

// `message` stands alone, is lower case, has no full stop, and never carries a secret. `detail` is what was known,
// `hint` what to do. `sqlstate` is the SQLSTATE that PostgreSQL gave, or that a client shall get (may be empty).
struct Error {
    ErrorKind kind = ErrorKind::internal;
    std::string message;
    std::string detail{};
    std::string hint{};
    std::string sqlstate{};
};

// For boost::system::result::value(): asking for the value of a failure is a bug.
[[noreturn]] inline void throw_exception_from_error(const Error& e, const boost::source_location&) {
    throw std::runtime_error(e.message);
}

template <class T>
using Result = boost::system::result<T, Error>;

[[nodiscard]] inline Error fail(ErrorKind kind, std::string message, std::string detail = {}, std::string hint = {},
                                std::string sqlstate = {}) {
    return Error{kind, std::move(message), std::move(detail), std::move(hint), std::move(sqlstate)};
}

}  // namespace pgporter

// Returns the error of `expr` to the caller, else goes on. Usage: PP_TRY(store.open());
#define PP_TRY(expr)                                      \
    do {                                                  \
        auto pp_try_result = (expr);                      \
        if (!pp_try_result) return pp_try_result.error(); \
    } while (false)
