import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;

/**
 * An application on pgjdbc and HikariCP, which is what Hibernate with a schema a tenant sends: setSchema on a connection of one pool, with
 * autocommit off a BEGIN in front of it. And pgjdbc's other modes: statements prepared on the server, savepoints of its own, simple queries.
 */
final class TenantApp {
    private static final String[] TENANTS = System.getProperty("app.tenants").split(",");
    private static final String SETTING = System.getProperty("app.setting", "");
    private static final List<HikariDataSource> POOLS = new ArrayList<>();

    private static HikariDataSource pool(String options, boolean autocommit) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl("jdbc:postgresql://127.0.0.1:" + System.getProperty("app.port") + "/" + System.getProperty("app.database") + "?" + options);
        config.setUsername(System.getProperty("app.user"));
        config.setPassword(System.getenv("APP_PASSWORD"));
        config.setAutoCommit(autocommit);
        config.setMaximumPoolSize(3);
        config.setMinimumIdle(0);
        POOLS.add(new HikariDataSource(config));
        return POOLS.get(POOLS.size() - 1);
    }

    /** How a connection, or the transaction that has just begun on it, is told whose it is. */
    interface Naming {
        void name(Connection connection, String tenant) throws SQLException;
    }

    private static void execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    private static void setConfig(Connection connection, String setting, String value) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("select set_config(?, ?, true)")) {
            statement.setString(1, setting);
            statement.setString(2, value);
            try (ResultSet rows = statement.executeQuery()) {
                Program.check(rows.next() && rows.getString(1).equals(value), "set_config");
            }
        }
    }

    private static void readOwn(Program.Turn turn, Connection connection) throws SQLException {
        try (PreparedStatement here = connection.prepareStatement(Program.HERE); ResultSet rows = here.executeQuery()) {
            turn.here(rows);
        }
        try (PreparedStatement items = connection.prepareStatement("SELECT id, tenant FROM items WHERE n >= ? ORDER BY id LIMIT 10")) {
            for (int i = 0; i < 3; i++) {
                items.setInt(1, -i);
                try (ResultSet rows = items.executeQuery()) {
                    turn.own(rows, 10);
                }
            }
        }
    }

    private static void insert(Connection connection, String key) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO ledger (id) VALUES (?)")) {
            statement.setString(1, key);
            Program.check(statement.executeUpdate() == 1, "one row is inserted");
        }
    }

    private static void increment(Program.Turn turn, Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items) + ?")) {
            statement.setInt(1, turn.worker);
            Program.check(statement.executeUpdate() == 1, "one row is changed");
        }
    }

    private static void nobody(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(Program.HERE)) {
            Program.check(!rows.next(), "rows without a tenant");
        } catch (SQLException error) {
            if (!"42P01".equals(error.getSQLState())) {
                throw error;
            }
        }
    }

    /** Transactions of every kind on a connection with autocommit off. */
    private static void transactions(Program.Turn turn, Connection connection, Naming naming) throws SQLException {
        String key = turn.key("");
        naming.name(connection, turn.tenant);
        readOwn(turn, connection);
        insert(connection, key);
        increment(turn, connection);
        connection.commit();
        turn.committed(key);
        turn.added();

        String gone = turn.key("-gone");
        naming.name(connection, turn.tenant);
        insert(connection, gone);
        connection.rollback();
        turn.rolledBack(gone);

        String kept = turn.key("-kept");
        String undone = turn.key("-undone");
        naming.name(connection, turn.tenant);
        insert(connection, kept);
        Savepoint savepoint = connection.setSavepoint("before it");
        insert(connection, undone);
        Program.refused("23505", () -> insert(connection, kept));
        connection.rollback(savepoint);
        readOwn(turn, connection);
        connection.releaseSavepoint(savepoint);
        connection.commit();
        turn.committed(kept);
        turn.rolledBack(undone);
    }

    private static Program.Way transactionsOn(HikariDataSource pool, Naming naming) {
        return turn -> {
            try (Connection connection = pool.getConnection()) {
                transactions(turn, connection, naming);
            }
        };
    }

    private static void autocommitted(Program.Turn turn, Connection connection) throws SQLException {
        connection.setSchema(turn.tenant);
        Program.check(turn.tenant.equals(connection.getSchema()), "getSchema");
        readOwn(turn, connection);
        String key = turn.key("");
        insert(connection, key);
        turn.committed(key);
        Program.refused("42703", () -> execute(connection, "SELECT no_such_column FROM items"));
        increment(turn, connection);
        turn.added();
        execute(connection, "SET SCHEMA '" + turn.tenant + "'");
        readOwn(turn, connection);
        connection.setSchema(null);
        nobody(connection);
    }

    private static void readOnly(Program.Turn turn, Connection connection) throws SQLException {
        connection.setReadOnly(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        connection.setSchema(turn.tenant);
        readOwn(turn, connection);
        Program.refused("25006", () -> insert(connection, "read only"));
        connection.rollback();
        // The rollback undid setSchema too: that is PostgreSQL's way, and HikariCP's users know it.
        connection.setSchema(turn.tenant);
        readOwn(turn, connection);
        connection.commit();
    }

    private static void copy(Program.Turn turn, Connection connection) throws Exception {
        connection.setSchema(turn.tenant);
        CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
        List<String> keys = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            keys.add(turn.key("-copied"));
        }
        long rows = copies.copyIn("COPY ledger (id) FROM STDIN", new StringReader(String.join("\n", keys) + "\n"));
        Program.check(rows == keys.size(), "all rows are copied");
        StringWriter text = new StringWriter();
        copies.copyOut("COPY (SELECT DISTINCT tenant FROM ledger) TO STDOUT", text);
        Program.check(text.toString().equals(turn.tenant + "\n"), "copied out " + text);
        connection.commit();
        keys.forEach(turn::committed);
    }

    /** Pipelined inserts, and a portal that is read in pieces. */
    private static void batchesAndCursors(Program.Turn turn, Connection connection) throws SQLException {
        setConfig(connection, "search_path", "\"" + turn.tenant + "\", \"public\"");
        List<String> keys = new ArrayList<>();
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO ledger (id, amount) VALUES (?, ?)")) {
            for (int i = 0; i < 30; i++) {
                keys.add(turn.key("-batch"));
                statement.setString(1, keys.get(i));
                statement.setInt(2, i);
                statement.addBatch();
            }
            Program.check(statement.executeBatch().length == keys.size(), "all of the batch");
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT tenant FROM items ORDER BY id LIMIT 10")) {
            statement.setFetchSize(3);
            try (ResultSet rows = statement.executeQuery()) {
                turn.own(rows, 10);
            }
        }
        connection.commit();
        keys.forEach(turn::committed);
    }

    private static void listen(HikariDataSource pool) throws SQLException {
        try (Connection listener = pool.getConnection(); Connection speaker = pool.getConnection()) {
            execute(listener, "LISTEN java_channel");
            execute(speaker, "NOTIFY java_channel, 'hello'");
            PGNotification[] heard = listener.unwrap(PGConnection.class).getNotifications(5000);
            Program.check(heard != null && heard[0].getParameter().equals("hello"), "a notification");
            execute(listener, "UNLISTEN *");
            pool.evictConnection(listener);
        }
    }

    private static Map<String, Program.Way> bySearchPath() throws SQLException {
        HikariDataSource transactional = pool("prepareThreshold=5", false);
        HikariDataSource prepared = pool("prepareThreshold=1", true);
        HikariDataSource simple = pool("preferQueryMode=simple", false);
        HikariDataSource autosaving = pool("autosave=always&prepareThreshold=1", false);
        Map<String, HikariDataSource> own = new HashMap<>();
        for (String tenant : TENANTS) {
            own.put(tenant, pool("currentSchema=" + tenant + ",public", false));
        }
        listen(prepared);
        Map<String, Program.Way> ways = new LinkedHashMap<>();
        ways.put("setSchema, autocommit off", transactionsOn(transactional, Connection::setSchema));
        ways.put("setSchema, autocommit on, prepared", turn -> {
            try (Connection connection = prepared.getConnection()) {
                autocommitted(turn, connection);
            }
        });
        ways.put("setSchema, simple queries", transactionsOn(simple, Connection::setSchema));
        ways.put("setSchema, autosave", transactionsOn(autosaving, Connection::setSchema));
        ways.put("SET LOCAL", transactionsOn(transactional, (connection, tenant) ->
            execute(connection, "SET LOCAL search_path TO " + tenant + ", public")));
        ways.put("set_config with parameters", transactionsOn(transactional, (connection, tenant) ->
            setConfig(connection, "search_path", "\"" + tenant + "\", \"public\"")));
        ways.put("read only, repeatable read", turn -> {
            try (Connection connection = transactional.getConnection()) {
                readOnly(turn, connection);
            }
        });
        ways.put("COPY", turn -> {
            try (Connection connection = transactional.getConnection()) {
                copy(turn, connection);
            }
        });
        ways.put("batches and cursors", turn -> {
            try (Connection connection = transactional.getConnection()) {
                batchesAndCursors(turn, connection);
            }
        });
        ways.put("currentSchema in the URL", turn -> {
            try (Connection connection = own.get(turn.tenant).getConnection()) {
                transactions(turn, connection, (same, tenant) -> { });
            }
        });
        return ways;
    }

    private static Map<String, Program.Way> bySetting() throws SQLException {
        HikariDataSource transactional = pool("prepareThreshold=1", false);
        HikariDataSource prepared = pool("prepareThreshold=1", true);
        Map<String, Program.Way> ways = new LinkedHashMap<>();
        ways.put("set_config of the tenant setting", transactionsOn(transactional, (connection, tenant) -> setConfig(connection, SETTING, tenant)));
        ways.put("SET LOCAL of the tenant setting", transactionsOn(transactional, (connection, tenant) ->
            execute(connection, "SET LOCAL " + SETTING + " = '" + tenant + "'")));
        ways.put("SET and RESET of the tenant setting", turn -> {
            try (Connection connection = prepared.getConnection()) {
                execute(connection, "SET " + SETTING + " = '" + turn.tenant + "'");
                readOwn(turn, connection);
                String key = turn.key("");
                insert(connection, key);
                turn.committed(key);
                execute(connection, "RESET " + SETTING);
                nobody(connection);
            }
        });
        return ways;
    }

    public static void main(String[] arguments) throws Exception {
        Program program = new Program(SETTING.isEmpty() ? "java" : "java-rls", TENANTS);
        int result = program.run(SETTING.isEmpty() ? bySearchPath() : bySetting());
        POOLS.forEach(HikariDataSource::close);
        System.exit(result);
    }
}
