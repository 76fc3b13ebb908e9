// Dispatcher: from a parsed request to its answer: route, host and token checks, idempotency, the resource, the access log and the
// counters. Knows no socket. Owned by HttpServer; refuse() and route() run on the I/O thread, answer() on any thread.
#pragma once

#include <optional>
#include <string_view>

#include "admin/api/http_server.hpp"
#include "admin/api/idempotency.hpp"
#include "admin/api/routes.hpp"

namespace pgporter {

struct HeaderView {  // what is known before the body is read
    std::string_view method;
    std::string_view target;
    std::string_view host;
    std::string_view authorization;
};

class Dispatcher {
  public:
    explicit Dispatcher(const ApiPorts& ports) : ports_(ports) {}

    // Either a refusal that needs no body, or the route with the request's path, query and params filled in.
    struct Admission {
        std::optional<ApiResponse> refusal;
        const Route* route = nullptr;
        ApiRequest request;
    };
    [[nodiscard]] Admission admit(const HeaderView& header) const;
    // Does the work. Never throws: a bug becomes a 500 that says nothing of the inside.
    [[nodiscard]] ApiResponse answer(const Route& route, const ApiRequest& request);

  private:
    [[nodiscard]] ApiResponse answer_once(const Route& route, const ApiRequest& request);
    [[nodiscard]] ApiResponse call(const Route& route, const ApiRequest& request) const;
    void count(const Route& route, const ApiResponse& response) const;

    const ApiPorts& ports_;
    IdempotencyCache idempotency_;
};

}  // namespace pgporter
