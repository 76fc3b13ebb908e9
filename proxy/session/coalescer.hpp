// Coalescer: puts together what one event sends to one peer, so that it leaves with one system call. Pieces that lie side by side in the
// read buffer are sent from there without a copy. Owned by a Worker, empty between events; pure.
#pragma once

#include <string>
#include <string_view>

namespace pgporter {

class Coalescer {
  public:
    // `bytes` must stay where they are until take().
    void put(std::string_view bytes) {
        if (bytes.empty()) return;
        if (staged_.empty()) {
            if (run_.empty()) {
                run_ = bytes;
                return;
            }
            if (run_.data() + run_.size() == bytes.data()) {
                run_ = std::string_view(run_.data(), run_.size() + bytes.size());
                return;
            }
            staged_.append(run_);
            run_ = {};
        }
        staged_.append(bytes);
    }
    void put_copy(std::string_view bytes) {
        if (staged_.empty() && !run_.empty()) {
            staged_.append(run_);
            run_ = {};
        }
        staged_.append(bytes);
    }
    // What was put may go: it is copied.
    void keep() { static_cast<void>(stage()); }
    // The same for who builds it in place.
    [[nodiscard]] std::string& stage() {
        staged_.append(run_);
        run_ = {};
        return staged_;
    }
    // What is to be sent now. Valid until done().
    [[nodiscard]] std::string_view bytes() const { return staged_.empty() ? run_ : std::string_view(staged_); }
    void done() {
        run_ = {};
        staged_.clear();
        if (staged_.capacity() > 262'144) staged_.shrink_to_fit();
    }

  private:
    std::string_view run_;
    std::string staged_;
};

}  // namespace pgporter
