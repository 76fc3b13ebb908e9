import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The turns of a Java program, their journal, and the words spoken with apps_world_programs.py. Several threads go through all tenants and all
 * ways of naming them, at once. A turn does its work on the program's pools and notes in the journal what PostgreSQL acknowledged.
 */
final class Program {
    static final String HERE = "SELECT tenant, current_database()::text AS database, inet_server_port() AS port FROM whoami";
    private static final int WORKERS = 4;
    private static final int ROUNDS_BEFORE = 1;
    private static final int ROUNDS_AFTER = 2;
    private static final int FAILURES_MAX = 5;
    /** Applications are not busy all the time, and the move needs the processor too. */
    private static final int PAUSE_MS = 8;

    interface Way {
        void turn(Turn turn) throws Exception;
    }

    /** What is known of one tenant. Written by several threads. */
    private static final class Journal {
        final List<String> committed = new ArrayList<>();
        final List<String> rolledBack = new ArrayList<>();
        final Map<Integer, List<String>> places = new TreeMap<>();
        int added;

        synchronized String json() {
            List<String> workers = new ArrayList<>();
            places.forEach((worker, found) -> workers.add("\"" + worker + "\": [" + String.join(", ", found) + "]"));
            return "{\"committed\": " + strings(committed) + ", \"rolled_back\": " + strings(rolledBack) + ", \"added\": " + added
                + ", \"places\": {" + String.join(", ", workers) + "}}";
        }
    }

    /** One worker's work for one tenant in one way. */
    final class Turn {
        final String tenant;
        final int worker;
        private final Journal journal;

        Turn(String tenant, int worker) {
            this.tenant = tenant;
            this.worker = worker;
            this.journal = journals.get(tenant);
        }

        /** A new key for the ledger; the tenant is in it, so that a row in the wrong place is seen as such. */
        String key(String what) {
            return name + "-" + tenant + "-" + keys.incrementAndGet() + what;
        }

        void committed(String key) {
            synchronized (journal) {
                journal.committed.add(key);
            }
        }

        void rolledBack(String key) {
            synchronized (journal) {
                journal.rolledBack.add(key);
            }
        }

        void added() {
            synchronized (journal) {
                journal.added++;
            }
        }

        /** Rows with a column tenant: own ones, and as many as expected (-1: at least one). */
        void own(ResultSet rows, int count) throws SQLException {
            int seen = 0;
            while (rows.next()) {
                check(tenant.equals(rows.getString("tenant")), "a row of " + rows.getString("tenant"));
                seen++;
            }
            check(count < 0 ? seen > 0 : seen == count, seen + " rows");
        }

        /** The row of HERE: whose it is, and where. */
        void here(ResultSet rows) throws SQLException {
            check(rows.next(), "nobody is here");
            check(tenant.equals(rows.getString("tenant")), "at " + rows.getString("tenant"));
            String place = "[\"" + rows.getString("database") + "\", " + rows.getInt("port") + "]";
            check(!rows.next(), "several tenants are here");
            synchronized (journal) {
                List<String> places = journal.places.computeIfAbsent(worker, key -> new ArrayList<>());
                if (places.isEmpty() || !places.get(places.size() - 1).equals(place)) {
                    places.add(place);
                }
            }
        }
    }

    private final String name;
    private final String[] tenants;
    private final Map<String, Journal> journals = new LinkedHashMap<>();
    private final Map<String, Map<String, int[]>> done = new ConcurrentHashMap<>();
    private final List<String> failures = new ArrayList<>();
    private final AtomicInteger keys = new AtomicInteger();
    private volatile boolean moved;

    Program(String name, String[] tenants) {
        this.name = name;
        this.tenants = tenants;
        for (String tenant : tenants) {
            journals.put(tenant, new Journal());
        }
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }

    interface Statements {
        void run() throws SQLException;
    }

    /** Runs what must fail with this SQLSTATE. */
    static void refused(String state, Statements statements) throws SQLException {
        try {
            statements.run();
        } catch (SQLException error) {
            for (SQLException at = error; at != null; at = at.getNextException()) {
                if (state.equals(at.getSQLState())) {
                    return;
                }
            }
            throw error;
        }
        throw new IllegalStateException("not refused with " + state);
    }

    private void work(Map<String, Way> ways, int worker, CountDownLatch ready) {
        int after = 0;
        for (int round = 0; after < ROUNDS_AFTER && failed() < FAILURES_MAX; round++) {
            after += moved ? 1 : 0;
            for (Map.Entry<String, Way> way : ways.entrySet()) {
                for (int i = 0; i < tenants.length; i++) {
                    takeTurn(way.getKey(), way.getValue(), new Turn(tenants[(i + worker) % tenants.length], worker));
                    pause();
                }
            }
            if (round + 1 == ROUNDS_BEFORE) {
                ready.countDown();
            }
        }
        ready.countDown();
    }

    private void takeTurn(String way, Way work, Turn turn) {
        try {
            work.turn(turn);
            int[] counts = done.computeIfAbsent(way, key -> new ConcurrentHashMap<>()).computeIfAbsent(turn.tenant, key -> new int[2]);
            synchronized (counts) {
                counts[moved ? 1 : 0]++;
            }
        } catch (Throwable error) {
            fail(way + " for " + turn.tenant, error);
        }
    }

    private static void pause() {
        try {
            Thread.sleep(PAUSE_MS);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    private int failed() {
        synchronized (failures) {
            return failures.size();
        }
    }

    private void fail(String where, Throwable error) {
        String state = error instanceof SQLException ? ((SQLException) error).getSQLState() + " " : "";
        synchronized (failures) {
            failures.add(where + ": " + state + error.getMessage());
            System.out.println("FAILED " + where + ": " + state);
            error.printStackTrace(System.out);
        }
    }

    /** Works until a tenant was moved, and some rounds more. Returns the exit code. */
    int run(Map<String, Way> ways) throws Exception {
        Thread listener = new Thread(this::listen);
        listener.setDaemon(true);
        listener.start();
        CountDownLatch ready = new CountDownLatch(WORKERS);
        List<Thread> workers = new ArrayList<>();
        for (int worker = 0; worker < WORKERS; worker++) {
            int number = worker;
            workers.add(new Thread(() -> work(ways, number, ready), "worker " + worker));
            workers.get(worker).start();
        }
        ready.await();
        if (failed() == 0) {
            System.out.println("ready");
        }
        for (Thread worker : workers) {
            worker.join();
        }
        if (failed() > 0) {
            return 1;
        }
        System.out.println("report " + report());
        return 0;
    }

    private void listen() {
        try (BufferedReader input = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                moved = moved || line.equals("moved");
            }
        } catch (java.io.IOException error) {
            fail("standard input", error);
        }
    }

    private String report() {
        List<String> turns = new ArrayList<>();
        done.forEach((way, counts) -> {
            List<String> each = new ArrayList<>();
            counts.forEach((tenant, count) -> each.add("\"" + tenant + "\": [" + count[0] + ", " + count[1] + "]"));
            turns.add("\"" + way + "\": {" + String.join(", ", each) + "}");
        });
        List<String> all = new ArrayList<>();
        journals.forEach((tenant, journal) -> all.add("\"" + tenant + "\": " + journal.json()));
        return "{\"failures\": [], \"done\": {" + String.join(", ", turns) + "}, \"tenants\": {" + String.join(", ", all) + "}}";
    }

    private static String strings(List<String> values) {
        return values.isEmpty() ? "[]" : "[\"" + String.join("\", \"", values) + "\"]";
    }
}
