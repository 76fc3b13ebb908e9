#!/bin/bash
# Runs named steps one after another, keeps what they said, and sums up. Sourced by ./check and ./demo.
# Every step is a process group of its own, so that an interruption ends all of it and nothing else; tests and servers get a
# temporary folder (TMPDIR) that goes away with the run.

steps_begin() {  # name of the command
    steps_name="$1" steps_failed=0 steps_group='' steps_summary=()
    steps_dir="$(mktemp -d "${TMPDIR:-/tmp}/pgporter-$1.XXXXXX")" || exit 1
    # PostgreSQL refuses to run as root: servers that tests start run as another user and need a way in.
    mkdir "$steps_dir/tmp" && chmod 755 "$steps_dir" && chmod 1777 "$steps_dir/tmp"
    export TMPDIR="$steps_dir/tmp"
    trap steps_end EXIT
    trap 'steps_interrupted 130' INT
    trap 'steps_interrupted 143' TERM
    trap 'steps_interrupted 129' HUP
    set -m
}

steps_interrupted() {  # exit code
    trap '' INT TERM HUP
    echo "$steps_name: interrupted" >&2
    exit "$1"
}

steps_group_is_there() { kill -0 -- "-$steps_group" 2>/dev/null; }

# Processes that a step left, known by the run's own temporary folder in their command line or working directory.
steps_left_behind() {
    local process pid
    for process in /proc/[0-9]*; do
        pid="${process#/proc/}"
        [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] || continue
        if { tr '\0' ' ' <"$process/cmdline"; readlink "$process/cwd"; } 2>/dev/null | grep -qF -- "$TMPDIR"; then
            echo "$pid"
        fi
    done
}

steps_stop_group() {
    local tries
    if [ -n "$steps_group" ] && steps_group_is_there; then
        kill -TERM -- "-$steps_group" 2>/dev/null
        kill -CONT -- "-$steps_group" 2>/dev/null
        for ((tries = 0; tries < 150; tries++)); do
            steps_group_is_there || break
            sleep 0.1
        done
        kill -KILL -- "-$steps_group" 2>/dev/null
    fi
    steps_group=''
}

steps_end() {
    local pid
    trap '' INT TERM HUP
    steps_stop_group
    for pid in $(steps_left_behind); do kill -QUIT "$pid" 2>/dev/null; done
    for pid in $(steps_left_behind); do
        sleep 0.5
        kill -KILL "$pid" 2>/dev/null
    done
    rm -rf "$steps_dir"
}

# step quiet|shown NAME COMMAND...: quiet steps are heard only when they fail.
step() {
    local how="$1" name="$2" started=$SECONDS status=0 log left pid
    shift 2
    log="$steps_dir/step.log"
    echo "== $name"
    if [ "$how" = quiet ]; then
        "$@" >"$log" 2>&1 </dev/null &
    else
        "$@" </dev/null &
    fi
    steps_group=$!
    # wait comes back early when a trapped signal arrives; the trap then exits.
    wait "$steps_group" || status=$?
    steps_stop_group
    left="$(steps_left_behind)"
    if [ -n "$left" ]; then
        echo "left running by this step:" >&2
        for pid in $left; do
            echo "  $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" >&2
            kill -QUIT "$pid" 2>/dev/null
        done
        status=1
    fi
    if [ $status != 0 ]; then
        steps_failed=1
        if [ "$how" = quiet ]; then
            steps_show_failure "$log"
        fi
        steps_summary+=("FAILED $(printf '%5d s' $((SECONDS - started)))  $name")
        return 1
    fi
    steps_summary+=("ok     $(printf '%5d s' $((SECONDS - started)))  $name")
}

# The first errors of a build are the ones to read; without any, the end of what it said.
steps_show_failure() {
    if grep -q -E 'error:|FAILED:|CMake Error' "$1"; then
        grep -n -E -A 6 'error:|FAILED:|CMake Error' "$1" | head -n 120 >&2
    else
        tail -n 60 "$1" >&2
    fi
}

build_preset() {  # preset, targets...
    local preset="$1"
    shift
    cmake --preset "$preset" && cmake --build "build/$preset" -j "$(nproc)" ${1:+--target "$@"}
}

finish() {  # sums up and ends the command
    local line
    echo "== $steps_name: summary"
    for line in "${steps_summary[@]}"; do echo "   $line"; done
    if [ $steps_failed != 0 ]; then
        echo "$steps_name: FAILED"
        exit 1
    fi
    echo "$steps_name: all passed in $SECONDS s"
    exit 0
}
