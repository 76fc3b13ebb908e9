#include "admin/api/connection.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <string>
#include <utility>

#include "admin/api/event_stream.hpp"
#include "admin/api/problem.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

// "Application/YAML; charset=utf-8" to "application/yaml".
std::string media_type_of(std::string_view header) {
    header = header.substr(0, header.find(';'));
    while (!header.empty() && header.back() == ' ') header.remove_suffix(1);
    std::string out(header);
    for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    return out;
}

Problem bad_http(boost::system::error_code ec) {
    if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
        return {431, "header_too_large", "The header is too large", "the request's header is larger than 16 KiB"};
    }
    if (ec == http::error::body_limit) {
        return {413, "body_too_large", "The body is too large", "the request's body is larger than 4 MiB",
                "split the document: applying several files one after the other is the same"};
    }
    return {400, "bad_http", "This isn't a valid HTTP request", ec.message()};
}

bool takes_json(Endpoint endpoint) { return endpoint != Endpoint::apply_document; }

}  // namespace

void Connection::wait_for_request() {
    parser_.reset();
    if (buffer_.size() > 0) {  // the client sent the next request already
        read_header();
        return;
    }
    stream_.expires_after(ApiLimits::idle_max);
    stream_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](boost::system::error_code ec, std::size_t n) {
        if (ec) {
            self->close();
            return;
        }
        self->buffer_.commit(n);
        self->read_header();
    });
}

void Connection::read_header() {
    parser_.emplace();
    parser_->header_limit(ApiLimits::header_bytes_max);
    parser_->body_limit(ApiLimits::body_bytes_max);
    stream_.expires_after(ApiLimits::request_max);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](boost::system::error_code ec, std::size_t) { self->on_header(ec); });
}

void Connection::on_header(boost::system::error_code ec) {
    if (ec) {
        refuse_bad_http(ec);
        return;
    }
    const auto& header = parser_->get();
    admission_ = core_.dispatcher.admit({view(header.method_string()), view(header.target()), view(header[http::field::host]),
                                         view(header[http::field::authorization])});
    if (admission_.refusal) {
        // The body, if any, is never read: so this connection can't go on.
        const bool bodiless = parser_->is_done();
        write(std::move(*admission_.refusal), bodiless && header.keep_alive());
        return;
    }
    auto& request = admission_.request;
    request.content_type = media_type_of(view(header[http::field::content_type]));
    request.if_none_match = std::string(view(header[http::field::if_none_match]));
    request.idempotency_key = std::string(view(header["Idempotency-Key"]));
    if (!beast::iequals(header[http::field::expect], "100-continue")) {
        read_body();
        return;
    }
    static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    boost::asio::async_write(stream_, boost::asio::buffer(go_on),
                             [self = shared_from_this()](boost::system::error_code write_ec, std::size_t) {
                                 if (write_ec) {
                                     self->close();
                                 } else {
                                     self->read_body();
                                 }
                             });
}

void Connection::read_body() {
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](boost::system::error_code ec, std::size_t) { self->on_body(ec); });
}

void Connection::on_body(boost::system::error_code ec) {
    if (ec) {
        refuse_bad_http(ec);
        return;
    }
    stream_.expires_never();  // the work has its own bounds
    auto& request = admission_.request;
    request.body = std::move(parser_->get().body());
    if (!request.body.empty() && takes_json(admission_.route->endpoint) && request.content_type != "application/json") {
        on_answer(problem_response(Problem{415, "unsupported_media_type", "This media type isn't taken here", "the body must be JSON",
                                           "send Content-Type: application/json"},
                                   request.path));
        return;
    }
    if (!admission_.route->blocks) {
        on_answer(core_.dispatcher.answer(*admission_.route, request));
        return;
    }
    // `self` moves on with the answer, so that the last owner lets go on the I/O thread. While the work is done no operation is
    // pending here, so the request isn't touched by anybody else.
    boost::asio::post(*core_.work, [self = shared_from_this()]() mutable {
        auto response = self->core_.dispatcher.answer(*self->admission_.route, self->admission_.request);
        auto& io = self->core_.io;
        boost::asio::post(io, [self = std::move(self), response = std::move(response)]() mutable { self->on_answer(std::move(response)); });
    });
}

void Connection::on_answer(ApiResponse response) {
    const bool is_head = parser_->get().method() == http::verb::head;
    if (admission_.route->endpoint == Endpoint::move_events && response.status == 200 && !is_head) {
        begin_events();
        return;
    }
    const bool keep_alive = parser_->get().keep_alive();
    write(std::move(response), keep_alive);
}

void Connection::begin_events() {
    if (core_.events.size() >= ApiLimits::event_streams_max) {
        const Problem problem{503, "too_many_event_streams", "Too many event streams",
                              "already " + std::to_string(ApiLimits::event_streams_max) + " clients watch moves",
                              "ask GET /v1/moves/{id} from time to time instead"};
        write(problem_response(problem, admission_.request.path), parser_->get().keep_alive());
        return;
    }
    const MoveId move(std::stoull(admission_.request.params.at("id")));  // it was found a moment ago, so it is a number
    std::make_shared<EventStream>(core_, std::move(stream_), std::move(place_))->start(move, std::move(admission_.request));
}

void Connection::refuse_bad_http(boost::system::error_code ec) {
    if (ec == http::error::end_of_stream || ec == beast::error::timeout || ec.category() == boost::asio::error::get_system_category()) {
        close();
        return;
    }
    if (ec == http::error::partial_message) {
        close();
        return;
    }
    log::debug("api_bad_http", {{"error", ec.message()}});
    write(problem_response(bad_http(ec), "/"), false);
}

void Connection::write(ApiResponse response, bool keep_alive) {
    const auto fill = [&](auto& message) {
        message.version(11);
        message.result(response.status);
        message.set(http::field::server, "pgporter");
        message.set(http::field::cache_control, "no-store");
        message.set("X-Content-Type-Options", "nosniff");
        for (const auto& [name, value] : response.headers) message.set(name, value);
        message.keep_alive(keep_alive);
        if (response.status == 304) return;
        message.set(http::field::content_type, response.content_type);
        message.content_length(response.body.size());
    };
    const bool is_head = parser_ && parser_->is_header_done() && parser_->get().method() == http::verb::head;
    if (is_head || response.status == 304) {
        auto message = std::make_shared<http::response<http::empty_body>>();
        fill(*message);
        write_message(std::move(message), keep_alive);
        return;
    }
    auto message = std::make_shared<http::response<http::string_body>>();
    fill(*message);
    message->body() = std::move(response.body);
    write_message(std::move(message), keep_alive);
}

template <class Body>
void Connection::write_message(std::shared_ptr<http::response<Body>> message, bool keep_alive) {
    stream_.expires_after(ApiLimits::request_max);
    auto& target = *message;
    http::async_write(stream_, target,
                      [self = shared_from_this(), message = std::move(message), keep_alive](boost::system::error_code ec, std::size_t) {
                          if (ec) {
                              self->close();
                          } else if (keep_alive) {
                              self->wait_for_request();
                          } else {
                              self->linger();
                          }
                      });
}

// Bytes that were never read would make the kernel reset the connection and the client lose the answer: read them away, briefly.
void Connection::linger() {
    boost::system::error_code ignored;
    stream_.socket().shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
    stream_.expires_after(ApiLimits::linger_max);
    linger_read(ApiLimits::linger_bytes_max);
}

void Connection::linger_read(std::size_t left) {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(16 * 1024), [self = shared_from_this(), left](boost::system::error_code ec, std::size_t n) {
        if (ec || n >= left) {
            self->close();
        } else {
            self->linger_read(left - n);
        }
    });
}

void Connection::close() { stream_.close(); }

}  // namespace pgporter
