#include "proxy/session/gate_impl.hpp"

#include <future>
#include <thread>

namespace pgporter {

Result<HoldId> DataPathGate::hold(std::string_view tenant, std::chrono::milliseconds hold_max) {
    std::shared_ptr<HoldState> state;
    {
        const std::lock_guard lock(mutex_);
        auto& slot = holds_[std::string(tenant)];
        if (slot && !slot->is_expired()) {
            return fail(ErrorKind::conflict, "tenant \"" + std::string(tenant) + "\" is held already");
        }
        slot = std::make_shared<HoldState>(HoldId{++last_hold_}, std::string(tenant), shared_.workers.size(), hold_max);
        state = slot;
    }
    for (const auto& worker : shared_.workers) {
        worker->thread().post([raw = worker.get(), state] {
            TenantDesk& desk = raw->desk(state->tenant);
            desk.open();  // what an expired hold may have left
            desk.hold(state);
            raw->pools().send_back(state->tenant);
        });
    }
    return state->id;
}

std::shared_ptr<HoldState> DataPathGate::find(HoldId hold) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [tenant, state] : holds_) {
        if (state->id == hold) return state;
    }
    return nullptr;
}

DrainStatus DataPathGate::wait_drained(HoldId hold, std::chrono::milliseconds wait) {
    const std::shared_ptr<HoldState> state = find(hold);
    if (!state) {
        DrainStatus gone;
        gone.expired = true;
        return gone;
    }
    return state->wait(wait);
}

bool DataPathGate::release(HoldId hold) {
    const std::shared_ptr<HoldState> state = find(hold);
    if (!state) return false;
    {
        const std::lock_guard lock(mutex_);
        holds_.erase(state->tenant);
    }
    for (const auto& worker : shared_.workers) {
        worker->thread().post([raw = worker.get(), state] {
            TenantDesk& desk = raw->desk(state->tenant);
            if (desk.hold_id() == state->id) desk.open();
        });
    }
    return !state->is_expired();
}

std::uint32_t DataPathGate::warm(std::string_view tenant, const Placement& target, std::chrono::milliseconds wait) {
    const auto deadline = std::chrono::steady_clock::now() + wait;
    // Runs on every worker and returns the sum; false when the workers don't answer in time.
    const auto ask = [&](auto&& question, std::uint32_t& sum) {
        sum = 0;
        for (const auto& worker : shared_.workers) {
            auto promise = std::make_shared<std::promise<std::uint32_t>>();
            auto answer = promise->get_future();
            worker->thread().post([raw = worker.get(), promise, question] { promise->set_value(question(*raw)); });
            if (answer.wait_until(deadline) != std::future_status::ready) return false;
            sum += answer.get();
        }
        return true;
    };
    std::uint32_t opening = 0;
    const bool asked = ask(
        [tenant = std::string(tenant), target](Worker& worker) {
            worker.warm(tenant, target);
            return std::uint32_t{0};
        },
        opening);
    while (asked && std::chrono::steady_clock::now() < deadline) {
        if (!ask([target](Worker& worker) { return worker.count_opening(target); }, opening)) break;
        if (opening == 0) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    std::uint32_t ready = 0;
    return ask([target](Worker& worker) { return worker.count_ready(target); }, ready) ? ready : 0;
}

}  // namespace pgporter
