# What every Ruby program here is built on: the turns, their journal, and the words spoken with apps_world_programs.py.
#   Program.run('pg', 'SET search_path' => ->(turn) { ... })
# Several workers go through all tenants and all ways of naming them, at once. A turn does its work on the program's pool and notes in the
# journal what PostgreSQL acknowledged.
require 'json'

WORLD = JSON.parse(ENV.fetch('APP_TEST'))
TENANTS = WORLD['tenants']
SETTING = WORLD['setting']
HERE = 'SELECT tenant, current_database()::text AS database, inet_server_port() AS port FROM whoami'.freeze
$stdout.sync = true

def path(tenant)
  %("#{tenant}", "public")
end

def assert(condition, what)
  raise what unless condition
end

# The block must fail with this class of error.
def refused(error_class)
  yield
rescue error_class
  nil
else
  raise "not refused with #{error_class}"
end

# One way of naming, for one tenant, by one worker.
class Turn
  attr_reader :tenant, :worker

  def initialize(program, tenant, worker)
    @program, @tenant, @worker = program, tenant, worker
    @journal = Program.journals[tenant]
  end

  # A new key for the ledger; the tenant is in it, so that a row in the wrong place is seen as such.
  def key(what = '')
    "#{@program}-#{tenant}-#{Program.next_key}#{what}"
  end

  def committed(*ids)
    Program.lock.synchronize { @journal['committed'].concat(ids) }
  end

  def rolled_back(*ids)
    Program.lock.synchronize { @journal['rolled_back'].concat(ids) }
  end

  def added
    Program.lock.synchronize { @journal['added'] += 1 }
  end

  # Tenants of rows that were read: own ones, and as many as expected.
  def own(tenants, count = nil)
    assert(!tenants.empty?, 'no rows')
    assert(count.nil? || tenants.size == count, "#{tenants.size} rows, not #{count}")
    tenants.each { |found| assert(found == tenant, "a row of #{found} instead of #{tenant}") }
  end

  # A row of HERE: whose it is, and where.
  def here(row)
    own([row['tenant']])
    place = [row['database'], row['port'].to_i]
    Program.lock.synchronize do
      places = (@journal['places'][worker.to_s] ||= [])
      places << place unless places.last == place
    end
  end
end

module Program
  WORKERS = 4
  ROUNDS_BEFORE = 1
  ROUNDS_AFTER = 2
  FAILURES_MAX = 5
  # Applications are not busy all the time, and the move needs the processor too.
  PAUSE_S = 0.008

  @journals = TENANTS.to_h { |name| [name, { 'committed' => [], 'rolled_back' => [], 'added' => 0, 'places' => {} }] }
  @lock = Mutex.new
  @done = {}
  @failures = []
  @moved = false
  @keys = 0
  @waiting = WORKERS

  class << self
    attr_reader :journals, :lock

    def next_key
      lock.synchronize { @keys += 1 }
    end

    def run(program, ways)
      Thread.new { $stdin.each_line { |line| @moved = true if line.strip == 'moved' } }
      Array.new(WORKERS) { |worker| Thread.new { work(program, ways, worker) } }.each(&:join)
      exit!(1) unless @failures.empty?
      puts "report #{JSON.generate('failures' => @failures, 'done' => @done, 'tenants' => journals)}"
      exit!(0)
    end

    private

    def work(program, ways, worker)
      after = rounds = 0
      while after < ROUNDS_AFTER && @failures.size < FAILURES_MAX
        after += 1 if @moved
        ways.each do |way, step|
          TENANTS.rotate(worker).each do |tenant|
            take(way, step, Turn.new(program, tenant, worker))
            sleep PAUSE_S
          end
        end
        rounds += 1
        worker_ready if rounds == ROUNDS_BEFORE
      end
    end

    def take(way, step, turn)
      step.call(turn)
      lock.synchronize { ((@done[way] ||= {})[turn.tenant] ||= [0, 0])[@moved ? 1 : 0] += 1 }
    rescue StandardError => e
      lock.synchronize { @failures << "#{way} for #{turn.tenant}: #{e.class} #{e.message}" }
      puts "FAILED #{way} for #{turn.tenant}: #{e.full_message(highlight: false)}"
    end

    def worker_ready
      lock.synchronize do
        @waiting -= 1
        puts 'ready' if @waiting.zero? && @failures.empty?
      end
    end
  end
end
