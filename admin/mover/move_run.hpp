// MoveRun: one move, from `planned` to its end. Walks the states: each has one function, and the state is in the
// journal before the act. Owned by Mover, runs on the move's own thread; record(), cancel and cutover requests come
// from any thread. It must not: flip otherwise than through the journal, or unfence before the journal says that the
// flip can't happen any more.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "admin/mover/copy_tables.hpp"
#include "admin/mover/copy_throttle.hpp"
#include "admin/mover/definitions.hpp"
#include "admin/mover/estimate.hpp"
#include "admin/mover/fence.hpp"
#include "admin/mover/follow.hpp"
#include "admin/mover/id_blocks.hpp"
#include "admin/mover/interrupt.hpp"
#include "admin/mover/move_guard.hpp"
#include "admin/mover/mover.hpp"
#include "admin/mover/publication_watch.hpp"
#include "admin/mover/row_fence.hpp"
#include "admin/mover/verify.hpp"

namespace pgporter {

// What runs of all moves share: counters, and whoever wants to hear of changes.
struct MoveObserver {
    metrics::Registry& registry;
    std::function<void(const char* type, const MoveRecord& record)> event;
};

class MoveRun {
  public:
    MoveRun(Mover::Ports ports, MoveRecord record, MoveObserver& observer);
    ~MoveRun();

    // Thread bodies. Each returns when the move has ended, or waits for an operator (opened), or was told to stop.
    void run();           // a new move
    void recover();       // one that a dead process left: aborted before the flip, finished after it
    void run_complete();  // drops the source's data of an opened move, when it is what the target has
    void run_complete_unchecked();
    void tidy_opened();   // one that lost its way back and what that was made of

    void cancel() { interrupt_.cancel(); }
    void stop() { interrupt_.stop(); }
    void request_cutover();
    void request_rollback();
    void leave_way_back();  // the thread ends; what comes next is run_complete()
    void disown() {  // on the thread that has run a body: whoever is asked next may own the move
        is_owner_.store(false);
        ownership_.reset();
    }
    void begin_to_complete() { completes_.store(true); }  // before run_complete()
    [[nodiscard]] bool completes() const { return completes_.load(); }
    [[nodiscard]] bool is_owner() const { return is_owner_.load(); }  // else another instance may be at work on it
    [[nodiscard]] MoveRecord record() const;
    // After recover(): undone because its instance had ended; nobody cancelled it, so that it may begin anew.
    [[nodiscard]] bool was_orphaned() const { return orphaned_; }

  private:
    // move_run.cpp: the walk
    [[nodiscard]] bool is_admitted();  // its turn has come, and it is ours
    [[nodiscard]] bool own(Deadline until = std::nullopt);
    [[nodiscard]] bool keep_owned();  // false: another instance has taken the move over, everything here stops
    [[nodiscard]] Result<void> find_servers();
    [[nodiscard]] Result<void> walk();            // from `preflight` to `flipped`
    [[nodiscard]] Result<void> walk_from_copy();  // of these, what comes after `slot`
    void end_walk(const Result<void>& walked);
    [[nodiscard]] Result<void> enter(MoveState to, std::string_view note,
                                     std::chrono::milliseconds patience = std::chrono::seconds(30));
    void set_state(MoveState to);
    void note(std::string text);
    void tick();
    void save_progress();
    void abort(const Error& why);
    [[nodiscard]] Result<void> drop_source_rows();  // shared_source.cpp
    [[nodiscard]] Result<void> delete_source_rows(ServerSession& source, const Gate& gate);
    [[nodiscard]] Result<void> publish_unless_harmful(ServerSession& source, const MoveServers& servers, const std::string& statement);
    [[nodiscard]] Result<void> wait_for_target_entry();
    [[nodiscard]] Result<void> adopt_shared_schemas();
    [[nodiscard]] Result<void> adopt_database_settings();
    void finish();
    void close_sessions();
    void count_outcome(const char* outcome);
    [[nodiscard]] Result<void> record_artefact(ArtefactKind kind, CleanupWhen when, const Placement& place,
                                               const std::string& name);

    // move_courtesy.cpp: what it owes to others
    void watch_neighbours();
    void learn_neighbours();
    void look_ahead();  // with mutex_ held
    void on_guard_report(const GuardReport& report);  // on the guard's thread
    void note_guard_report(const GuardReport& report);
    [[nodiscard]] Error judge_end(const Error& error);

    // move_completion.cpp: `opened` to `completed`
    [[nodiscard]] bool own_to_complete();
    void complete(Completion completion);
    [[nodiscard]] Result<std::string> find_late_writes();  // what the source has that the target hasn't; empty: nothing, or nobody can tell
    [[nodiscard]] Result<void> drop_source();

    // move_steps.cpp: one function per state up to `catchup`
    [[nodiscard]] Result<void> step_preflight();
    [[nodiscard]] Result<void> step_schema();
    [[nodiscard]] Result<void> create_target_database();
    [[nodiscard]] Result<void> create_target_schema();
    [[nodiscard]] Error somebody_was_quicker(ArtefactKind kind);
    [[nodiscard]] Result<void> create_extensions();
    [[nodiscard]] Result<void> step_gate();
    [[nodiscard]] Result<void> step_slot();
    [[nodiscard]] Result<PreflightReport> look_ahead_at_servers();
    [[nodiscard]] Result<void> learn_tables();
    [[nodiscard]] Result<void> dump_definitions();
    [[nodiscard]] Result<void> make_progress_table();
    [[nodiscard]] Result<void> make_follower();
    [[nodiscard]] Result<bool> apply_until_now(Durability durability);
    [[nodiscard]] Result<void> step_index();
    [[nodiscard]] Result<void> step_catchup();
    [[nodiscard]] Result<void> refresh_views();
    [[nodiscard]] Result<void> emit_marker(const std::string& content);
    [[nodiscard]] Result<void> reconnect();

    // move_copy.cpp: `copy`, and the first half of `index`
    [[nodiscard]] Result<void> step_copy();
    // Tables that others have rows in have their constraints already: they are one piece, of one snapshot.
    [[nodiscard]] bool copies_by_pieces() const { return !servers_->shared_target(); }
    [[nodiscard]] std::uint32_t copy_jobs() const;
    [[nodiscard]] PieceSizes piece_sizes() const;
    [[nodiscard]] Result<void> note_slot_snapshot();
    [[nodiscard]] Result<void> copy_at_once();
    [[nodiscard]] Result<void> copy_by_pieces(bool goes_on);
    [[nodiscard]] Result<void> end_earlier_attempts();
    [[nodiscard]] Result<void> copy_missing_pieces();
    [[nodiscard]] Result<void> build_indexes();
    [[nodiscard]] Result<void> restore_rest_and_analyze();
    [[nodiscard]] Result<void> even_out_pieces();
    [[nodiscard]] Result<void> end_resumable_part();
    [[nodiscard]] Result<void> take_up_copy();  // of another instance, or of this one's life before
    [[nodiscard]] Result<void> find_copy();
    void tick_of_copy();

    // cutover.cpp: `verify` to `flipped`
    [[nodiscard]] Result<void> step_verify();
    [[nodiscard]] Result<void> verify_everything();
    [[nodiscard]] Result<void> cut_over();  // until it has flipped
    [[nodiscard]] Result<void> wait_for_request();
    [[nodiscard]] Result<void> give_way(const Error& why);
    [[nodiscard]] Result<void> prepare_cutover();
    [[nodiscard]] Result<void> prepare_connections();
    struct Pause;
    [[nodiscard]] Result<void> hold_and_flip();
    [[nodiscard]] Result<void> drain_and_fence(Pause& pause);
    [[nodiscard]] Result<void> drain_stream(Pause& pause);
    [[nodiscard]] Result<void> flip(Pause& pause);
    [[nodiscard]] Error back_out(Pause& pause, Error why);
    [[nodiscard]] Result<FenceState> fence_after_doubt(int backend_pid);
    // The way back walks through the same phases in the one state rolling_back.
    [[nodiscard]] bool going_back() const { return servers_->way() == Way::back; }
    [[nodiscard]] Result<void> enter_phase(MoveState to, std::string_view note, std::chrono::milliseconds patience);
    [[nodiscard]] MoveState calm_state() const { return going_back() ? MoveState::reversing : MoveState::verify; }
    [[nodiscard]] Result<void> begin_attempt();
    void open_the_source(Pause& pause);

    // way_back.cpp: `reverse_slot`, and `opened` to `rolled_back`
    [[nodiscard]] Result<void> step_reverse_slot();
    [[nodiscard]] Result<void> make_way_back();
    [[nodiscard]] Result<void> undo_way_back();
    [[nodiscard]] Result<bool> has_way_back();
    void follow_way_back();  // from `opened` or later, until it is left, lost, or the tenant is back
    [[nodiscard]] Result<void> walk_back();
    [[nodiscard]] Result<void> turn_round();
    [[nodiscard]] bool agree_with_journal();
    [[nodiscard]] Result<void> look_at_definition();
    [[nodiscard]] std::string definition_refusal() const;
    [[nodiscard]] Result<void> check_rollback();
    // shared_target.cpp: the way into shared tables
    [[nodiscard]] Result<void> prepare_shared_target(const MoveServers& servers, ServerSession& shared, ServerSession& own);
    [[nodiscard]] Result<void> recall_shared_rows(ServerSession& shared);
    [[nodiscard]] Result<void> mark_tables_into_shared(ServerSession& own);
    [[nodiscard]] Result<void> check_return_to_shared();
    [[nodiscard]] Result<void> check_global_references(ServerSession& shared);
    [[nodiscard]] Result<void> make_room_for_rows();
    [[nodiscard]] std::vector<SourceTable> tables_to_share() const;
    [[nodiscard]] Result<void> check_arrived_rows();
    [[nodiscard]] Result<void> welcome_rows();
    [[nodiscard]] Result<void> follow_until_asked();
    [[nodiscard]] Result<std::string> way_back_lost();  // why; empty: it isn't
    [[nodiscard]] Result<void> give_up_way_back(const std::string& why);
    [[nodiscard]] Result<void> roll_back();
    [[nodiscard]] Result<void> finish_rollback();

    Mover::Ports ports_;
    MoveObserver* observer_;
    Interrupt interrupt_;
    mutable std::mutex mutex_;
    MoveRecord record_;
    std::atomic<bool> cutover_requested_{false};
    std::atomic<bool> rollback_requested_{false};
    std::atomic<bool> leaving_{false};
    std::atomic<bool> is_owner_{false};
    std::atomic<bool> completes_{false};
    bool in_pause_ = false;
    bool orphaned_ = false;
    std::chrono::steady_clock::time_point saved_at_;

    std::unique_ptr<MoveOwnership> ownership_;
    std::optional<MoveServers> servers_;
    std::unique_ptr<ServerSession> source_;
    std::vector<SourceTable> tables_;
    std::string signature_query_;
    std::string signature_;
    std::optional<Definitions> definitions_;
    std::optional<ReplicationStream> snapshot_keeper_;
    std::string snapshot_;
    std::map<std::uint32_t, std::uint32_t> file_nodes_;  // before the snapshot
    std::set<const SourceTable*> rewritten_;             // since then, until they were copied
    CopyCounters copied_;
    FollowCounters followed_;
    IdBlocks id_blocks_;  // of the way into shared tables
    std::optional<Follower> follower_;
    std::optional<Verifier> verifier_;
    std::unique_ptr<PublicationWatch> publication_watch_;  // of shared tables
    Estimate estimate_;  // with mutex_ held
    std::unique_ptr<CopyThrottle> throttle_;  // until the copy has ended
    HeldSnapshots held_snapshots_;
    std::string slot_snapshot_;  // what the stream doesn't tell of
    PieceMap pieces_;
    std::set<std::string> split_tables_;  // qualified names
    bool copy_got_on_ = false;  // the last attempt stored something
    std::unique_ptr<MoveGuard> guard_;  // from the slot to the flip
    bool ended_by_guard_ = false;
    std::atomic<std::uint64_t> standby_lag_bytes_{0};
    std::optional<FenceSession> fence_;
    std::vector<SequenceValue> sequences_;  // as set on the target before the pause
    std::uint64_t markers_ = 0;
    std::optional<FenceLifter> lifter_;  // of the source's fence, for the flip back
    std::string rollback_refused_;       // why this move has no way back, known from preflight
    std::string failed_request_;         // what came of the last rollback or completion that was asked for; stays in the note
    bool way_back_made_ = false;
    bool definition_changed_ = false;  // on the target, since the flip
    std::uint64_t left_behind_known_ = 0;  // of Follower::left_behind(): what was looked at before the pause
};

void count_finished_move(metrics::Registry& registry, const char* outcome);

// Who keeps a slot from being made on this server: transactions with an id.
[[nodiscard]] std::string transactions_in_the_way(ServerSession& server);

[[nodiscard]] std::string publication_statement(const std::string& name, const std::vector<SourceTable>& tables);

// The journal is a UTF-8 database; errors come in the encoding of the tenant's.
[[nodiscard]] std::string utf8_only(std::string_view text);

}  // namespace pgporter
