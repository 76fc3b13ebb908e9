# An application on the gem pg: a pool of connections, the tenant named by whoever takes one from it.
require 'io/wait'
require 'pg'
require_relative 'program'

POOL = Queue.new
5.times do
  POOL << PG.connect(host: WORLD['host'], port: WORLD['port'], user: WORLD['user'], password: WORLD['password'], dbname: WORLD['database'],
                     connect_timeout: 20)
end
PREPARED = {}.compare_by_identity

def with_connection
  connection = POOL.pop
  begin
    yield connection
  ensure
    POOL << connection
  end
end

def read_own(turn, connection)
  turn.here(connection.exec(HERE).first)
  turn.own(connection.exec('SELECT tenant FROM items ORDER BY id LIMIT 10').column_values(0), 10)
  turn.own(connection.exec_params('SELECT tenant FROM items WHERE n < $1 OR n >= $1 LIMIT $2', [5, 6]).column_values(0), 6)
  # Prepared once, and used for every tenant of this connection.
  PREPARED[connection] ||= connection.prepare('own_items', 'SELECT tenant FROM items ORDER BY id LIMIT $1')
  turn.own(connection.exec_prepared('own_items', [4]).column_values(0), 4)
end

def insert(turn, connection, what = '')
  key = turn.key(what)
  turn.own(connection.exec_params('INSERT INTO ledger (id) VALUES ($1) RETURNING tenant', [key]).column_values(0), 1)
  key
end

def nobody(connection)
  rows = connection.exec(HERE).to_a
rescue PG::UndefinedTable
  nil
else
  assert(SETTING != '' && rows.empty?, 'rows without a tenant')
end

def transactions(turn, connection, name = -> {})
  key = connection.transaction do
    name.call
    read_own(turn, connection)
    connection.exec_params('UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items) + $1::int', [turn.worker])
    insert(turn, connection)
  end
  turn.committed(key)
  turn.added
  gone = nil
  refused(ZeroDivisionError) do
    connection.transaction do
      name.call
      gone = insert(turn, connection, '-gone')
      raise ZeroDivisionError
    end
  end
  turn.rolled_back(gone)
  undone = turn.key('-undone')
  kept = connection.transaction do
    name.call
    id = insert(turn, connection, '-kept')
    connection.exec('SAVEPOINT one')
    connection.exec_params('INSERT INTO ledger (id) VALUES ($1)', [undone])
    refused(PG::UniqueViolation) { connection.exec_params('INSERT INTO ledger (id) VALUES ($1)', [id]) }
    refused(PG::InFailedSqlTransaction) { connection.exec(HERE) }
    connection.exec('ROLLBACK TO SAVEPOINT one')
    read_own(turn, connection)
    connection.exec('RELEASE SAVEPOINT one')
    id
  end
  turn.committed(kept)
  turn.rolled_back(undone)
end

by_search_path = {
  'SET search_path' => lambda do |turn|
    with_connection do |connection|
      connection.exec("SET search_path TO #{path(turn.tenant)}")
      read_own(turn, connection)
      turn.committed(insert(turn, connection))
      refused(PG::UndefinedColumn) { connection.exec_params('SELECT no_such_column FROM items WHERE n = $1', [1]) }
      transactions(turn, connection)
      connection.exec('RESET search_path')
      nobody(connection)
    end
  end,
  'in the transaction' => lambda do |turn|
    with_connection do |connection|
      connection.exec('SET search_path = DEFAULT')
      transactions(turn, connection, -> { connection.exec("SET LOCAL search_path TO #{path(turn.tenant)}") })
      transactions(turn, connection, -> { connection.exec_params("SELECT set_config('search_path', $1, $2)", [path(turn.tenant), true]) })
      nobody(connection)
    end
  end,
  'SET SCHEMA' => lambda do |turn|
    with_connection do |connection|
      connection.exec("SET SCHEMA '#{turn.tenant}'")
      read_own(turn, connection)
      connection.exec('DISCARD ALL')
      PREPARED.delete(connection)
      nobody(connection)
    end
  end,
  'pipeline' => lambda do |turn|
    with_connection do |connection|
      key = turn.key
      connection.enter_pipeline_mode
      connection.send_query_params('BEGIN', [])
      connection.send_query_params("SELECT set_config('search_path', $1, true)", [path(turn.tenant)])
      connection.send_query_params('INSERT INTO ledger (id) VALUES ($1)', [key])
      connection.send_query_params(HERE, [])
      connection.send_query_params('COMMIT', [])
      connection.pipeline_sync
      results = []
      until results.last&.result_status == PG::PGRES_PIPELINE_SYNC
        result = connection.get_result
        results << result.check if result
      end
      connection.exit_pipeline_mode
      turn.here(results[3].first)
      turn.committed(key)
    end
  end,
  'COPY' => lambda do |turn|
    with_connection do |connection|
      connection.exec("SET search_path = '#{turn.tenant}', public")
      keys = Array.new(30) { turn.key('-copied') }
      connection.copy_data('COPY ledger (id) FROM STDIN') { keys.each { |key| connection.put_copy_data("#{key}\n") } }
      turn.committed(*keys)
      gone = turn.key('-gone')
      refused(ZeroDivisionError) do
        connection.copy_data('COPY ledger (id) FROM STDIN') do
          connection.put_copy_data("#{gone}\n")
          raise ZeroDivisionError
        end
      end
      turn.rolled_back(gone)
      found = []
      connection.copy_data('COPY (SELECT DISTINCT tenant FROM ledger) TO STDOUT') do
        while (row = connection.get_copy_data)
          found << row.chomp
        end
      end
      turn.own(found, 1)
      connection.send_query('SELECT tenant FROM items, generate_series(1, 50)')
      connection.set_single_row_mode
      connection.get_result.stream_each { |row| turn.own([row['tenant']]) }
      assert(connection.get_result.nil?, 'a result too many')
    end
  end,
  'cancel' => lambda do |turn|
    with_connection do |connection|
      connection.exec("SET search_path TO #{path(turn.tenant)}")
      connection.send_query('SELECT pg_sleep(20)')
      sleep 0.05
      # Too early a cancel finds nothing to cancel, on PostgreSQL as well.
      6.times do
        connection.cancel
        break if connection.socket_io.wait_readable(1)
      end
      refused(PG::QueryCanceled) { connection.get_last_result }
      read_own(turn, connection)
    end
  end
}

by_setting = {
  'SET and RESET of the tenant setting' => lambda do |turn|
    with_connection do |connection|
      connection.exec("SET #{SETTING} = '#{turn.tenant}'")
      read_own(turn, connection)
      turn.committed(insert(turn, connection))
      transactions(turn, connection)
      connection.exec("RESET #{SETTING}")
      nobody(connection)
    end
  end,
  'the tenant setting in the transaction' => lambda do |turn|
    with_connection do |connection|
      transactions(turn, connection, -> { connection.exec("SET LOCAL #{SETTING} = '#{turn.tenant}'") })
      nobody(connection)
      transactions(turn, connection, -> { connection.exec_params('SELECT set_config($1, $2, true)', [SETTING, turn.tenant]) })
      nobody(connection)
    end
  end
}

Program.run('ruby-pg', SETTING == '' ? by_search_path : by_setting)
