// The turns of a Go program, their journal, and the words spoken with apps_world_programs.py. Several goroutines go through all tenants and
// all ways of naming them, at once. A turn does its work on the program's pools and notes in the journal what PostgreSQL acknowledged.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

const (
	here        = "SELECT tenant, current_database()::text AS database, inet_server_port() AS port FROM whoami"
	workers     = 4
	roundsEarly = 1
	roundsLate  = 2
	failuresMax = 5
	turnMax     = 25 * time.Second
	// Applications are not busy all the time, and the move needs the processor too.
	pause = 8 * time.Millisecond
)

type facts struct {
	Host     string
	Port     int
	User     string
	Password string
	Database string
	Tenants  []string
}

type place [2]interface{} // database, port

type journal struct {
	Committed  []string           `json:"committed"`
	RolledBack []string           `json:"rolled_back"`
	Added      int                `json:"added"`
	Places     map[string][]place `json:"places"`
}

type program struct {
	facts    facts
	mutex    sync.Mutex
	failures []string
	done     map[string]map[string]*[2]int
	journals map[string]*journal
	keys     int64
	moved    int32
}

// One worker's work for one tenant in one way.
type turn struct {
	*program
	tenant string
	worker int
	ctx    context.Context
}

type way struct {
	name string
	turn func(*turn) error
}

// What runs queries: a pool's connection, a transaction.
type queryer interface {
	QueryContext(context.Context, string, ...interface{}) (*sql.Rows, error)
	ExecContext(context.Context, string, ...interface{}) (sql.Result, error)
}

func newProgram() *program {
	p := &program{done: map[string]map[string]*[2]int{}, journals: map[string]*journal{}}
	if err := json.Unmarshal([]byte(os.Getenv("APP_TEST")), &p.facts); err != nil {
		panic(err)
	}
	for _, tenant := range p.facts.Tenants {
		p.journals[tenant] = &journal{Committed: []string{}, RolledBack: []string{}, Places: map[string][]place{}}
	}
	return p
}

// A new key for the ledger; the tenant is in it, so that a row in the wrong place is seen as such.
func (t *turn) key(what string) string {
	return fmt.Sprintf("go-%s-%d%s", t.tenant, atomic.AddInt64(&t.keys, 1), what)
}

func (t *turn) note(write func(*journal)) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	write(t.journals[t.tenant])
}

func (t *turn) committed(keys ...string) {
	t.note(func(j *journal) { j.Committed = append(j.Committed, keys...) })
}

func (t *turn) rolledBack(keys ...string) {
	t.note(func(j *journal) { j.RolledBack = append(j.RolledBack, keys...) })
}

func (t *turn) added() { t.note(func(j *journal) { j.Added++ }) }

// The first column of every row is whose it is: ours, and as many rows as expected.
func (t *turn) own(rows *sql.Rows, err error, count int) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var tenant string
		if err := rows.Scan(&tenant); err != nil {
			return err
		}
		if tenant != t.tenant {
			return fmt.Errorf("a row of %s", tenant)
		}
		seen++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if seen != count {
		return fmt.Errorf("%d rows instead of %d", seen, count)
	}
	return nil
}

// Whose session it is, and where.
func (t *turn) whereAmI(on queryer) error {
	rows, err := on.QueryContext(t.ctx, here)
	if err != nil {
		return err
	}
	defer rows.Close()
	var tenant, database string
	var port int
	for rows.Next() {
		if err := rows.Scan(&tenant, &database, &port); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if tenant != t.tenant {
		return fmt.Errorf("at %q", tenant)
	}
	t.note(func(j *journal) {
		key := fmt.Sprint(t.worker)
		places := j.Places[key]
		if len(places) == 0 || places[len(places)-1] != (place{database, port}) {
			j.Places[key] = append(places, place{database, port})
		}
	})
	return nil
}

// nil when the error has this SQLSTATE.
func refused(state string, err error) error {
	var found *pq.Error
	if errors.As(err, &found) && string(found.Code) == state {
		return nil
	}
	return fmt.Errorf("not refused with %s: %w", state, orNothing(err))
}

func orNothing(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

func (p *program) fail(where string, err error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.failures = append(p.failures, where+": "+err.Error())
	fmt.Printf("FAILED %s: %v\n", where, err)
}

func (p *program) failed() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.failures)
}

func (p *program) takeTurn(w way, tenant string, worker int) {
	ctx, cancel := context.WithTimeout(context.Background(), turnMax)
	defer cancel()
	if err := w.turn(&turn{p, tenant, worker, ctx}); err != nil {
		p.fail(w.name+" for "+tenant, err)
		return
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.done[w.name] == nil {
		p.done[w.name] = map[string]*[2]int{}
	}
	if p.done[w.name][tenant] == nil {
		p.done[w.name][tenant] = &[2]int{}
	}
	p.done[w.name][tenant][atomic.LoadInt32(&p.moved)]++
}

func (p *program) work(ways []way, worker int, ready *sync.WaitGroup) {
	late := 0
	for round := 0; late < roundsLate && p.failed() < failuresMax; round++ {
		late += int(atomic.LoadInt32(&p.moved))
		for _, w := range ways {
			for i := range p.facts.Tenants {
				p.takeTurn(w, p.facts.Tenants[(i+worker)%len(p.facts.Tenants)], worker)
				time.Sleep(pause)
			}
		}
		if round+1 == roundsEarly {
			ready.Done()
		}
	}
}

func (p *program) listen() {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		if input.Text() == "moved" {
			atomic.StoreInt32(&p.moved, 1)
		}
	}
}

// Works until a tenant was moved, and some rounds more.
func (p *program) run(ways []way) {
	go p.listen()
	var ready, all sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		ready.Add(1)
		all.Add(1)
		go func(worker int) {
			defer all.Done()
			p.work(ways, worker, &ready)
		}(worker)
	}
	finished := make(chan struct{})
	go func() {
		ready.Wait()
		if p.failed() == 0 {
			fmt.Println("ready")
		}
	}()
	go func() {
		all.Wait()
		close(finished)
	}()
	<-finished
	if p.failed() > 0 {
		os.Exit(1)
	}
	text, err := json.Marshal(map[string]interface{}{"failures": []string{}, "done": p.done, "tenants": p.journals})
	if err != nil {
		panic(err)
	}
	fmt.Printf("report %s\n", text)
}
