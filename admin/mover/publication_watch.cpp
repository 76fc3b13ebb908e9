#include "admin/mover/publication_watch.hpp"

#include "admin/mover/fence.hpp"
#include "admin/mover/move_names.hpp"
#include "base/log.hpp"

namespace pgporter {
namespace {

constexpr std::chrono::milliseconds look_every{500};

}  // namespace

std::string harmful_publication_query(const std::string& publication) {
    return "SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid "
           "JOIN pg_class c ON c.oid = r.prrelid WHERE p.pubname = " + quote_literal(publication) +
           " AND c.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate "
           "AND ((c.relreplident = 'd' AND i.indisprimary) OR (c.relreplident = 'i' AND i.indisreplident)))";
}

Result<std::unique_ptr<PublicationWatch>> PublicationWatch::start(const MoveServers& servers, Interrupt& interrupt) {
    std::unique_ptr<PublicationWatch> watch(new PublicationWatch(servers, interrupt));
    auto session = ServerSession::connect(servers.source_params(), watch->own_, {.connect_timeout = servers.config().mover.connect_timeout_ms});
    if (!session) return session.error();
    watch->session_ = std::move(*session);
    watch->thread_ = std::thread([raw = watch.get()] { raw->run(); });
    return watch;
}

PublicationWatch::~PublicationWatch() {
    own_.stop();
    if (thread_.joinable()) thread_.join();
}

std::string PublicationWatch::finding() const {
    const std::lock_guard lock(mutex_);
    return finding_;
}

void PublicationWatch::run() {
    while (own_.sleep(look_every)) {
        if (session_ && !session_->alive()) session_.reset();
        if (!session_) {
            auto again =
                ServerSession::connect(servers_->source_params(), own_, {.connect_timeout = servers_->config().mover.connect_timeout_ms});
            if (!again) continue;
            session_ = std::move(*again);
        }
        const auto looked = look();
        if (!looked && !own_.stopped()) {
            log::warning("move_publication_not_watched", {{"move", std::to_string(servers_->move().value)}, {"reason", looked.error().message}});
            session_.reset();
        }
        if (!finding().empty()) return;
    }
}

Result<void> PublicationWatch::look() {
    auto rows = session_->exec(harmful_publication_query(servers_->artefact()));
    if (!rows) return rows.error();
    if (rows->is_null(0, 0)) return {};
    const auto tables = rows->string(0, 0);
    PP_TRY(retry_locks(own_, 600, [&] {
        return locked_transaction(*session_, servers_->config().mover.lock_timeout_ms,
                                  "DROP PUBLICATION IF EXISTS " + quote_ident(servers_->artefact()));
    }));
    {
        const std::lock_guard lock(mutex_);
        finding_ = tables + " lost its replica identity during the move: published without one, its updates and deletes would fail for everybody";
    }
    interrupt_->cancel();
    return {};
}

}  // namespace pgporter
