# An application on ActiveRecord, as Rails uses it: one connection pool, prepared statements. The tenant is named as Apartment does it, by
# schema_search_path= at the begin and the end of a request; or by a setting that row-level security reads.
require 'active_record'
require_relative 'program'

ActiveRecord::Base.establish_connection(adapter: 'postgresql', host: WORLD['host'], port: WORLD['port'], username: WORLD['user'],
                                        password: WORLD['password'], database: WORLD['database'], pool: 5, checkout_timeout: 25,
                                        connect_timeout: 20, variables: { 'application_name' => 'rails' })

class Item < ActiveRecord::Base
end

class Entry < ActiveRecord::Base
  self.table_name = 'ledger'
end

# What Rails loads at boot, in any tenant.
def load_columns(name)
  connection = ActiveRecord::Base.connection
  connection.transaction do
    name.call(connection)
    [Item, Entry].each { |model| [model.primary_key, model.columns] }
  end
  ActiveRecord::Base.clear_active_connections!
end

def read_own(turn)
  turn.here(ActiveRecord::Base.connection.select_one(HERE))
  turn.own(Item.order(:id).limit(10).map(&:tenant), 10)
  turn.own(Item.where('n >= ?', 0).where.not(id: -1).limit(5).pluck(:tenant), 5)
  turn.own(Item.group(:tenant).count.keys, 1)
  turn.own([Item.find_by!(payload: Item.first.payload).tenant])
  turn.own(Item.find_each(batch_size: 4).map(&:tenant))
end

def insert(turn, what = '')
  entry = Entry.create!(id: turn.key(what))
  turn.own([entry.reload.tenant])
  entry.id
end

def nobody
  rows = ActiveRecord::Base.connection.select_all(HERE).to_a
rescue ActiveRecord::StatementInvalid => e
  assert(e.cause.is_a?(PG::UndefinedTable), e.message)
else
  assert(SETTING != '' && rows.empty?, 'rows without a tenant')
end

def transactions(turn, name = -> {})
  key = ActiveRecord::Base.transaction do
    name.call
    read_own(turn)
    Item.order(:id).offset(turn.worker).first.with_lock { Item.order(:id).offset(turn.worker).first.increment!(:n) }
    insert(turn)
  end
  turn.committed(key)
  turn.added
  ActiveRecord::Base.transaction do
    name.call
    turn.rolled_back(insert(turn, '-gone'))
    raise ActiveRecord::Rollback
  end
  undone = turn.key('-undone')
  kept = ActiveRecord::Base.transaction do
    name.call
    id = insert(turn, '-kept')
    refused(ActiveRecord::RecordNotUnique) do
      ActiveRecord::Base.transaction(requires_new: true) do
        Entry.create!(id: undone)
        Entry.create!(id: id)
      end
    end
    read_own(turn)
    id
  end
  turn.committed(kept)
  turn.rolled_back(undone)
  many = Array.new(10) { turn.key('-many') }
  ActiveRecord::Base.transaction(isolation: :read_committed) do
    name.call
    Entry.insert_all!(many.map { |id| { id: id } })
  end
  turn.committed(*many)
end

# One request: a connection from the pool, which goes back to it whatever happened.
def request
  ActiveRecord::Base.connection_pool.with_connection { |connection| yield connection }
end

by_search_path = {
  'schema_search_path=' => lambda do |turn|
    request do |connection|
      connection.schema_search_path = path(turn.tenant)
      begin
        read_own(turn)
        turn.committed(insert(turn))
        refused(ActiveRecord::StatementInvalid) { Item.where('no_such_column = 1').to_a }
        transactions(turn)
        assert(connection.table_exists?('ledger') && connection.current_schema == turn.tenant, 'not its schema')
      ensure
        connection.schema_search_path = '"public"'
      end
      nobody
    end
  end,
  'switch within switch' => lambda do |turn|
    request do |connection|
      connection.schema_search_path = path(turn.tenant)
      read_own(turn)
      TENANTS.each do |tenant|
        connection.schema_search_path = path(tenant)
        assert(Item.distinct.pluck(:tenant) == [tenant], "rows of somebody else within #{tenant}")
      end
      connection.schema_search_path = path(turn.tenant)
      read_own(turn)
      connection.schema_search_path = 'public'
    end
  end,
  'in the transaction' => lambda do |turn|
    request do |connection|
      transactions(turn, -> { connection.execute("SET LOCAL search_path TO #{path(turn.tenant)}") })
      nobody
    end
  end
}

by_setting = {
  'the setting for a request' => lambda do |turn|
    request do |connection|
      connection.execute("SET #{SETTING} = #{connection.quote(turn.tenant)}")
      read_own(turn)
      transactions(turn)
      connection.execute("RESET #{SETTING}")
      nobody
    end
  end,
  'set_config in the transaction' => lambda do |turn|
    request do |connection|
      values = [SETTING, turn.tenant].map { |value| ActiveModel::Attribute.from_database('value', value, ActiveModel::Type::String.new) }
      transactions(turn, -> { connection.exec_query('SELECT set_config($1, $2, true)', 'tenant', values, prepare: true) })
      nobody
    end
  end
}

load_columns(lambda do |connection|
  connection.execute(SETTING == '' ? "SET LOCAL search_path TO #{path(TENANTS.last)}" : "SET LOCAL #{SETTING} = '#{TENANTS.last}'")
end)
Program.run('activerecord', SETTING == '' ? by_search_path : by_setting)
