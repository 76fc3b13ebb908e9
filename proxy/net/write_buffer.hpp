// WriteBuffer: what a stream couldn't take yet. write() sends at once what the socket takes and keeps only the rest, so an idle or
// fast peer costs no memory. Owned beside its Stream; same thread. Bounded by its users: who finds is_empty() false awaits flush().
#pragma once

#include <string>
#include <string_view>

#include "proxy/net/stream.hpp"

namespace pgporter {

class WriteBuffer {
  public:
    // False: the stream failed.
    bool write(Stream& stream, std::string_view bytes) {
        if (is_empty()) {
            while (!bytes.empty()) {
                const IoResult result = stream.write_some(bytes);
                if (result.status == IoStatus::ok) {
                    bytes.remove_prefix(result.bytes);
                } else if (result.status == IoStatus::want_write || result.status == IoStatus::want_read) {
                    break;
                } else {
                    return false;
                }
            }
        }
        pending_.append(bytes);
        return true;
    }
    // Waits until all is sent. False: the stream failed or was closed.
    [[nodiscard]] Task<bool> flush(Stream& stream) {
        while (flushing_ && !is_empty()) {  // somebody else is at it: wait for the same
            const bool ready = co_await stream.writable();
            if (!ready) co_return false;
        }
        flushing_ = true;
        const bool flushed = co_await flush_all(stream);
        flushing_ = false;
        co_return flushed;
    }
    [[nodiscard]] bool is_empty() const { return pending_.empty(); }
    [[nodiscard]] std::size_t size() const { return pending_.size(); }
    [[nodiscard]] bool is_flushing() const { return flushing_; }

  private:
    [[nodiscard]] Task<bool> flush_all(Stream& stream) {
        while (!is_empty()) {
            const IoResult result = stream.write_some(std::string_view(pending_).substr(sent_));
            if (result.status == IoStatus::ok) {
                sent_ += result.bytes;
                if (sent_ == pending_.size()) {
                    pending_.clear();
                    if (pending_.capacity() > 65'536) pending_.shrink_to_fit();
                    sent_ = 0;
                }
                continue;
            }
            const bool ready = co_await stream.ready_for(result.status);
            if (!ready) co_return false;
        }
        co_return true;
    }
    std::string pending_;
    std::size_t sent_ = 0;
    bool flushing_ = false;
};

}  // namespace pgporter
