// An application on database/sql and lib/pq: one pool; a connection or a transaction of it is told whose it is.
package main

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
)

type app struct {
	*program
	pool   *sql.DB            // Parse, Describe, Sync; then Bind, Execute, Sync
	binary *sql.DB            // Parse to Execute at once
	own    map[string]*sql.DB // search_path in the DSN
}

func (a *app) open(more string) *sql.DB {
	f := a.facts
	db, err := sql.Open("postgres", fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable %s", f.Host, f.Port, f.User,
		f.Password, f.Database, more))
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return db
}

func (t *turn) readOwn(on queryer) error {
	if err := t.whereAmI(on); err != nil {
		return err
	}
	rows, err := on.QueryContext(t.ctx, "SELECT tenant FROM items WHERE n >= $1 ORDER BY id LIMIT 10", 0)
	return t.own(rows, err, 10)
}

func (t *turn) insert(on queryer, key string) error {
	_, err := on.ExecContext(t.ctx, "INSERT INTO ledger (id, amount) VALUES ($1, $2)", key, 7)
	return err
}

func (t *turn) nobody(on queryer) error {
	if err := t.whereAmI(on); err == nil || refused("42P01", err) != nil {
		return fmt.Errorf("not nobody: %w", orNothing(err))
	}
	return nil
}

type naming func(t *turn, on queryer) error

func local(t *turn, on queryer) error {
	_, err := on.ExecContext(t.ctx, "SET LOCAL search_path TO "+pq.QuoteIdentifier(t.tenant)+", public")
	return err
}

func setConfig(t *turn, on queryer) error {
	rows, err := on.QueryContext(t.ctx, "SELECT set_config('search_path', $1, true)", t.tenant+", public")
	if err != nil {
		return err
	}
	return rows.Close()
}

func unnamed(*turn, queryer) error { return nil }

// Begins, names and works; commits when work has no error, and rolls back otherwise.
func (t *turn) transaction(db *sql.DB, options *sql.TxOptions, name naming, work func(*sql.Tx) error) error {
	tx, err := db.BeginTx(t.ctx, options)
	if err != nil {
		return err
	}
	if err = name(t, tx); err == nil {
		err = work(tx)
	}
	if err != nil {
		if failed := tx.Rollback(); failed != nil {
			return fmt.Errorf("rollback: %v, after %w", failed, err)
		}
		return err
	}
	return tx.Commit()
}

func (t *turn) transactions(db *sql.DB, options *sql.TxOptions, name naming) error {
	key, gone, kept, undone := t.key(""), t.key("-gone"), t.key("-kept"), t.key("-undone")
	if err := t.transaction(db, options, name, func(tx *sql.Tx) error {
		if err := t.readOwn(tx); err != nil {
			return err
		}
		if err := t.insert(tx, key); err != nil {
			return err
		}
		_, err := tx.ExecContext(t.ctx, "UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items) + $1", t.worker)
		return err
	}); err != nil {
		return err
	}
	t.committed(key)
	t.added()

	changedMyMind := errors.New("changed my mind")
	err := t.transaction(db, options, name, func(tx *sql.Tx) error {
		if err := t.insert(tx, gone); err != nil {
			return err
		}
		return changedMyMind
	})
	if !errors.Is(err, changedMyMind) {
		return err
	}
	t.rolledBack(gone)

	if err := t.transaction(db, options, name, func(tx *sql.Tx) error { return t.savepoint(tx, kept, undone) }); err != nil {
		return err
	}
	t.committed(kept)
	t.rolledBack(undone)
	return nil
}

func (t *turn) savepoint(tx *sql.Tx, kept, undone string) error {
	if err := t.insert(tx, kept); err != nil {
		return err
	}
	if _, err := tx.ExecContext(t.ctx, "SAVEPOINT before"); err != nil {
		return err
	}
	if err := t.insert(tx, undone); err != nil {
		return err
	}
	if err := refused("23505", t.insert(tx, kept)); err != nil {
		return err
	}
	if err := refused("25P02", t.insert(tx, kept)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(t.ctx, "ROLLBACK TO SAVEPOINT before"); err != nil {
		return err
	}
	return t.readOwn(tx)
}

// SET on one connection of the pool, which stays as it is when it goes back.
func (a *app) setOnConnection(t *turn) error {
	conn, err := a.pool.Conn(t.ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.ctx, "SET search_path TO "+pq.QuoteIdentifier(t.tenant)+", public"); err != nil {
		return err
	}
	if err := t.readOwn(conn); err != nil {
		return err
	}
	key := t.key("")
	if err := t.insert(conn, key); err != nil {
		return err
	}
	t.committed(key)
	_, err = conn.ExecContext(t.ctx, "SELECT no_such_column FROM items")
	if err := refused("42703", err); err != nil {
		return err
	}
	// One query of several statements.
	if _, err := conn.ExecContext(t.ctx, "BEGIN; SET LOCAL search_path TO "+t.tenant+"; UPDATE items SET n = n + 0; COMMIT"); err != nil {
		return err
	}
	if err := t.readOwn(conn); err != nil {
		return err
	}
	if _, err := conn.ExecContext(t.ctx, "RESET search_path"); err != nil {
		return err
	}
	return t.nobody(conn)
}

// A statement prepared in one tenant's transaction, and used again in others of the same connection, maybe for somebody else.
func (a *app) prepared(t *turn) error {
	conn, err := a.pool.Conn(t.ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.ctx, "SET search_path TO "+t.tenant); err != nil {
		return err
	}
	items, err := conn.PrepareContext(t.ctx, "SELECT tenant FROM items ORDER BY id LIMIT $1")
	if err != nil {
		return err
	}
	defer items.Close()
	for i, tenant := range append(a.facts.Tenants, t.tenant) {
		if _, err := conn.ExecContext(t.ctx, "SET search_path TO "+tenant); err != nil {
			return err
		}
		rows, err := items.QueryContext(t.ctx, i+1)
		other := &turn{t.program, tenant, t.worker, t.ctx}
		if err := other.own(rows, err, i+1); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) copyIn(t *turn) error {
	keys := make([]string, 20)
	err := t.transaction(a.pool, nil, local, func(tx *sql.Tx) error {
		rows, err := tx.PrepareContext(t.ctx, pq.CopyIn("ledger", "id", "amount"))
		if err != nil {
			return err
		}
		for i := range keys {
			keys[i] = t.key("-copied")
			if _, err := rows.ExecContext(t.ctx, keys[i], i); err != nil {
				return err
			}
		}
		if _, err := rows.ExecContext(t.ctx); err != nil {
			return err
		}
		if err := rows.Close(); err != nil {
			return err
		}
		owners, err := tx.QueryContext(t.ctx, "SELECT DISTINCT tenant FROM ledger")
		return t.own(owners, err, 1)
	})
	if err == nil {
		t.committed(keys...)
	}
	return err
}

func (a *app) readOnly(t *turn) error {
	options := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err := t.transaction(a.pool, options, local, func(tx *sql.Tx) error {
		if err := t.readOwn(tx); err != nil {
			return err
		}
		return t.insert(tx, "read only")
	})
	return refused("25006", err)
}

func (a *app) listens() error {
	f := a.facts
	listener := pq.NewListener(fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", f.Host, f.Port, f.User, f.Password,
		f.Database), time.Second, time.Minute, nil)
	defer listener.Close()
	if err := listener.Listen("go_channel"); err != nil {
		return err
	}
	if _, err := a.pool.Exec("NOTIFY go_channel, 'hello'"); err != nil {
		return err
	}
	select {
	case heard := <-listener.Notify:
		if heard == nil || heard.Extra != "hello" {
			return fmt.Errorf("heard %v", heard)
		}
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("no notification")
	}
}

func main() {
	a := &app{program: newProgram(), own: map[string]*sql.DB{}}
	a.pool, a.binary = a.open(""), a.open("binary_parameters=yes")
	for _, tenant := range a.facts.Tenants {
		a.own[tenant] = a.open("search_path=" + tenant)
	}
	if err := a.listens(); err != nil {
		panic(err)
	}
	readCommitted := &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	a.run([]way{
		{"SET search_path", a.setOnConnection},
		{"SET LOCAL in a Tx", func(t *turn) error { return t.transactions(a.pool, nil, local) }},
		{"SET LOCAL after SET TRANSACTION", func(t *turn) error { return t.transactions(a.pool, readCommitted, local) }},
		{"set_config with a parameter", func(t *turn) error { return t.transactions(a.pool, nil, setConfig) }},
		{"set_config, binary_parameters", func(t *turn) error { return t.transactions(a.binary, readCommitted, setConfig) }},
		{"prepared statement", a.prepared},
		{"CopyIn", a.copyIn},
		{"read only, repeatable read", a.readOnly},
		{"search_path in the DSN", func(t *turn) error { return t.transactions(a.own[t.tenant], nil, unnamed) }},
	})
}
