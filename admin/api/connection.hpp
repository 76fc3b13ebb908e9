// Connection: one HTTP/1.1 connection: reads a request within its bounds, has it answered, writes the answer, and again. Keeps
// itself alive by its pending operation; I/O thread only. Plain callbacks: the walk is
//   wait for bytes > header > (refuse | body > answer on a work thread or here > write) > wait ... or linger > close
#pragma once

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>

#include "admin/api/server_core.hpp"

namespace pgporter {

class Connection final : public std::enable_shared_from_this<Connection> {
  public:
    Connection(ServerCore& core, boost::asio::ip::tcp::socket socket)
        : core_(core), place_(core), stream_(std::move(socket)), buffer_(ApiLimits::header_bytes_max + 64 * 1024) {}

    void start() { wait_for_request(); }

  private:
    using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

    void wait_for_request();
    void read_header();
    void on_header(boost::system::error_code ec);
    void read_body();
    void on_body(boost::system::error_code ec);
    void on_answer(ApiResponse response);
    void refuse_bad_http(boost::system::error_code ec);
    void begin_events();
    void write(ApiResponse response, bool keep_alive);
    template <class Body>
    void write_message(std::shared_ptr<boost::beast::http::response<Body>> message, bool keep_alive);
    void linger();
    void linger_read(std::size_t left);
    void close();

    ServerCore& core_;
    ConnectionPlace place_;
    boost::beast::tcp_stream stream_;
    boost::beast::flat_buffer buffer_;
    std::optional<Parser> parser_;
    Dispatcher::Admission admission_;
};

}  // namespace pgporter
